# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices and hooks in Python, and what becomes of exceptions."""
import errno
import threading

import pytest
import virtcore

CODE = 0x1000


class Recorder(virtcore.Device):
    def __init__(self):
        self.seen = []
        self.resets = 0

    def read(self, offset, width):
        self.seen.append(("read", offset, width))
        return 0xaabbccdd + offset

    def write(self, offset, width, value):
        self.seen.append(("write", offset, width, value))

    def call(self, number, args):
        self.seen.append(("call", number, args))
        return -1

    def reset(self):
        self.resets += 1


def test_classes(bare):
    vm = bare("a104000010 a300000010 e510 66e712 b864000000 31db 0f01d9 f4")
    device = Recorder()
    handles = [vm.add_mmio(0x10000000, 0x1000, device), vm.add_ports(0x10, 4, device), vm.add_hypercalls(100, device=device)]
    vm.vcpu.regs.update(rcx=2, rdx=3, rsi=4)
    assert vm.vcpu.run() == virtcore.Halt()
    assert device.seen == [("read", 4, 4), ("write", 0, 4, 0xaabbcce1), ("read", 0, 4), ("write", 2, 2, 0xccdd), ("call", 100, (0, 2, 3, 4))]
    assert vm.vcpu.regs.rax & 0xffffffff == 0xffffffff
    assert [handle.type for handle in handles] == ["custom"] * 3 and "Recorder at mmio 0x10000000" in repr(handles[0])
    vm.reset()
    assert device.resets == 3
    handles[1].remove()
    with pytest.raises(virtcore.ClosedError):
        handles[1].type
    assert vm.devices == (handles[0], handles[2])
    with pytest.raises(virtcore.Error, match="custom") as error:
        vm.add_mmio(0x10000800, 0x1000, device)
    assert error.value.errno == errno.EEXIST
    assert len(vm._core.handles) == 2


def test_functions_and_current_vcpu(bare):
    vm = bare("e510 e611 f4")
    seen = []
    vm.add_ports(0x10, 2, read=lambda offset, width: 7, write=lambda offset, width, value: seen.append((value, vm.current_vcpu(), vm.vcpu.regs.rip)))
    vm.vcpu.run()
    assert seen == [(7, vm.vcpu, CODE + 2)] and vm.current_vcpu() is None
    with pytest.raises(TypeError):
        vm.add_ports(0x20, 1, read=1, nonsense=2)


@pytest.mark.parametrize("what", ["read", "write", "hook"])
def test_exceptions_end_the_run(bare, what):
    vm = bare("e510 e611 90 f4")

    def bad(*_):
        raise LookupError("bad device")
    if what == "hook":
        vm.hook_code(bad, CODE + 4, 1)
    vm.add_ports(0x10, 2, read=bad if what == "read" else lambda *_: 0, write=bad if what == "write" else lambda *_: None)
    with pytest.raises(LookupError, match="bad device") as error:
        vm.vcpu.run()
    assert error.traceback[-1].name == "bad"
    assert vm.vcpu.regs.rip < CODE + 6


def test_exceptions_end_a_started_vm(bare):
    vm = bare("e611 ebfc")
    vm.add_ports(0x11, 1, write=lambda *_: 1 / 0)
    vm.start()
    with pytest.raises(ZeroDivisionError):
        vm.wait(30)
    assert vm.wait(30) == virtcore.Stopped()


def test_wrong_types_end_the_run(bare):
    vm = bare("e510 f4")
    vm.add_ports(0x10, 2, read=lambda *_: "seven")
    with pytest.raises(TypeError):
        vm.vcpu.run()


def test_calls_not_allowed_in_callbacks(bare):
    vm = bare("e610 f4")
    seen = []

    def write(*_):
        for function in (vm.close, vm.vcpu.run, handle.remove, lambda: setattr(vm.vcpu.regs, "rax", 1)):
            with pytest.raises(virtcore.Error) as error:
                function()
            seen.append(error.value.errno)
    handle = vm.add_ports(0x10, 1, write=write)
    assert vm.vcpu.run() == virtcore.Halt()
    assert seen == [errno.EDEADLK, errno.EBUSY, errno.EDEADLK, errno.EBUSY]


def test_builtin_devices(bare):
    vm = bare("b02a e6f4 f4")
    handle = vm.add_device("debug-exit")
    assert handle.type == "debug-exit"
    assert vm.vcpu.run() == virtcore.DebugExit(42)
    with pytest.raises(virtcore.Error, match="teapot") as error:
        vm.add_device("teapot")
    assert error.value.errno == errno.ENOENT
    with pytest.raises(virtcore.Error, match="colour"):
        vm.add_device("debugcon", colour="green")
    with pytest.raises(virtcore.Error):
        handle.set_link(True)


def test_code_and_block_hooks(bare):
    vm = bare("b903000000 49 75fd f4")
    code, blocks = [], []
    with vm.hook_code(lambda address, length: code.append((address, length)), CODE, 0x10):
        with vm.hook_block(lambda address, length: blocks.append(address)) as hook:
            assert vm.vcpu.run() == virtcore.Halt()
        assert "removed" in repr(hook)
    assert code == [(CODE, 5)] + [(CODE + 5, 1), (CODE + 6, 2)] * 3 + [(CODE + 8, 1)]
    assert blocks[0] == CODE and CODE + 5 in blocks
    vm.vcpu.regs.rip = CODE
    before = len(code)
    assert vm.vcpu.run() == virtcore.Halt() and len(code) == before
    assert not vm._core.handles


def test_memory_and_port_hooks(bare):
    vm = bare("c7050040000078563412 a100400000 e610 e410 f4", unhandled="ignore")
    events, writes = [], []
    vm.hook_memory(events.append, 0x4000, 0x1000)
    vm.hook_memory(writes.append, 0x4000, 0x1000, virtcore.WRITES)
    vm.hook_ports(events.append, 0x10, 1)
    vm.vcpu.run()
    written = virtcore.MemoryEvent(0x4000, 0x4000, 4, True, 0x12345678, b"\x78\x56\x34\x12")
    assert events == [written, written._replace(is_write=False), virtcore.PortEvent(0x10, 1, True, 0x78), virtcore.PortEvent(0x10, 1, False, 0xff)]
    assert writes == [written]


def test_hook_removes_itself(bare):
    vm = bare("9090 f4")
    seen = []

    def once(address, length):
        seen.append(address)
        hook.remove()
    hook = vm.hook_code(once)
    vm.vcpu.run()
    assert seen == [CODE]


def test_kick_in_a_hook(bare):
    vm = bare("9090 f4")
    vm.hook_code(lambda address, length: vm.current_vcpu().kick(), CODE + 1, 1)
    assert vm.vcpu.run() == virtcore.Kicked() and vm.vcpu.regs.rip == CODE + 1
    assert vm.vcpu.run() == virtcore.Halt()


def test_log():
    lines = []
    with virtcore.VM(machine="none", log=lambda level, line: lines.append((level, line))):
        pass
    assert any(level is virtcore.LogLevel.INFO and "backend" in line for level, line in lines)


def test_vcpus_in_threads(bare):
    """Four vcpus call the same device and hook at once, on threads of the program, then of the library."""
    vm = bare("b9d0070000 89c8 e710 49 75f9 f4", cpus=4)
    sums, blocks = {}, {}

    def write(offset, width, value):
        vcpu = vm.current_vcpu().index
        sums[vcpu] = sums.get(vcpu, 0) + value

    def block(address, length):
        vcpu = vm.current_vcpu().index
        blocks[vcpu] = blocks.get(vcpu, 0) + 1
    vm.add_ports(0x10, 4, write=write)
    vm.hook_block(block)
    runners = [threading.Thread(target=vcpu.run) for vcpu in vm.vcpus[1:]]
    for runner in runners:
        runner.start()
    assert vm.vcpu.run() == virtcore.Halt()
    for runner in runners:
        runner.join()
    assert sums == {index: 2001000 for index in range(4)} and all(count >= 2000 for count in blocks.values())
    sums.clear()
    for vcpu in vm.vcpus:
        vcpu.regs.rip = CODE
    vm.start()
    vm.wait(60)
    assert sums and set(sums) <= set(range(4))


def test_many_vms_in_threads(bare):
    """Devices in Python called from many vms at once, each with its own."""
    sums, threads = [0] * 8, []

    def work(index):
        vm = bare("b9e8030000 89c8 e710 49 75f9 f4")

        def write(offset, width, value):
            sums[index] += value
        vm.add_ports(0x10, 4, write=write)
        assert vm.vcpu.run() == virtcore.Halt()
        vm.close()
    for index in range(len(sums)):
        threads.append(threading.Thread(target=work, args=(index,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert sums == [500500] * len(sums)


def test_switch():
    switch = virtcore.Switch()
    with virtcore.VM(backend="emu", memory="16M") as one, virtcore.VM(backend="emu", memory="16M") as two:
        for number, vm in enumerate((one, two)):
            vm.add_switch("lan", switch)
            card = vm.add_device("virtio-net", net="switch", switch="lan", mac=f"52:54:00:00:00:0{number}")
            assert card.net_stats().rx_frames == 0
        assert [port.mac for port in switch.ports] == ["52:54:00:00:00:00", "52:54:00:00:00:01"]
        card.set_link(False)
        with pytest.raises(virtcore.Error):
            one.add_switch("lan", virtcore.Switch())
    assert not switch.ports


def test_screen_without_a_driver():
    with virtcore.VM(backend="emu", memory="16M") as vm:
        with pytest.raises(virtcore.Error) as error:
            vm.display()
        assert error.value.errno == errno.ENOENT
        vm.add_device("virtio-gpu")
        vm.add_device("virtio-keyboard")
        display, keyboard = vm.display(), vm.input("keyboard")
        display.request_size(640, 480)
        assert display.info.wanted_width == 640 and display.info.width == 0 and "nothing" in repr(display) and display._repr_png_() is None
        for function, number in ((display.copy, errno.ENODATA), (display.png, errno.ENODATA), (lambda: keyboard.press("ret"), errno.ENOTCONN),
                                 (lambda: keyboard.key("nonsense", True), errno.ENOENT)):
            with pytest.raises(virtcore.Error) as error:
                function()
            assert error.value.errno == number
        assert "<img" not in vm._repr_html_()
    assert display.info.width == 0
