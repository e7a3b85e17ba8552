# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lives and deaths: nothing is left, whoever holds what; asyncio; the monitor."""
import asyncio
import gc
import os
import re
import subprocess
import sys
import threading
import weakref

import pytest
import virtcore

CODE = 0x1000
SPIN = "ebfe"


def resources():
    """But for the package's one thread, which looks after the interpreter's lock from the first burst of callbacks on."""
    gc.collect()
    names = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/stat", encoding="ascii") as file:
                name, rest = re.fullmatch(r"\d+ \((.*)\) (.*)\n", file.read()).groups()
        except OSError:  # it has just ended
            continue
        # who joined a thread may see it here for a moment yet: one that the kernel calls PF_EXITING is none
        if not int(rest.split()[6]) & 4:
            names.append(name)
    return len(os.listdir("/proc/self/fd")), len([name for name in names if name != "virtcore-lock"])


def test_thousand_vms():
    """Descriptors, threads and handles are back where they began; devices and hooks hold their vm."""
    before, alive = None, weakref.WeakSet()
    for turn in range(1000):
        with virtcore.VM(machine="none", backend="emu", memory="64K", console=True) as vm:
            alive.add(vm)
            vm.memory[CODE] = b"\xe6\x10\xf4"
            vm.vcpu.set_mode("protected32")
            vm.vcpu.regs.rip = CODE
            vm.add_ports(0x10, 1, write=lambda offset, width, value, vm=vm: vm.info)
            vm.hook_code(lambda address, length, vm=vm: vm.info)
            if turn % 10:
                assert vm.vcpu.run() == virtcore.Halt()
            else:
                vm.start()
                assert vm.wait(30) == virtcore.Halt()
        if turn == 20:
            before = resources()
    del vm
    assert resources() == before and not alive and not [core for core in virtcore._core.OPEN if not core.closed]


@pytest.mark.parametrize("started", [False, True])
def test_forgotten_vm_is_freed(bare, started):
    """Without close(): a vm that only its own callbacks refer to goes with the garbage."""
    before = resources()
    vm = virtcore.VM(machine="none", backend="emu", memory="64K", console=True)
    vm.memory[CODE] = b"\xe6\x10\xeb\xfc"
    vm.vcpu.set_mode("protected32")
    vm.vcpu.regs.rip = CODE
    called = threading.Event()
    vm.add_ports(0x10, 1, write=lambda *_, vm=vm: called.set())
    if started:
        vm.start()
        assert called.wait(30)
    gone = weakref.ref(vm)
    del vm
    gc.collect()
    assert gone() is None and resources() == before


def test_close_ends_what_lasts(bare):
    """close() in one thread ends run() and wait() in others."""
    vm = bare(SPIN)
    results = []
    running = threading.Event()
    hook = vm.hook_code(lambda *_: (running.set(), hook.remove()))
    runner = threading.Thread(target=lambda: results.append(vm.vcpu.run()))
    runner.start()
    assert running.wait(30)
    vm.close()
    runner.join()
    assert results == [virtcore.Kicked()]
    vm = bare(SPIN)
    vm.start()
    waiter = threading.Thread(target=lambda: results.append(vm.wait()))
    waiter.start()
    while not vm._core._users:
        pass
    vm.close()
    waiter.join()
    assert results[1] == virtcore.Stopped()
    vm.close()
    for use in (vm.start, vm.vcpu.run, lambda: vm.vcpu.regs.rax, lambda: vm.memory.view(0, 1), lambda: vm.info, lambda: vm.hook_code(print)):
        with pytest.raises(virtcore.ClosedError):
            use()


def test_views_outlive_the_vm(bare):
    before = resources()
    vm = bare("f4")
    views = [vm.memory.view(0, "1M"), vm.memory.view(4096, 4096)]
    vm.close()
    views[0][4096:4099] = b"abc"
    assert bytes(views[1][:3]) == b"abc"
    part = views[1][:1]
    del views, vm
    assert bytes(part) == b"a"
    del part
    assert resources() <= before


def test_failed_adds_leave_nothing(bare):
    vm = bare("f4")
    for add in (lambda: vm.add_mmio(0x10000000, 0), lambda: vm.add_ports(0xffff, 2), lambda: vm.hook_memory(print, 1, 2**64 - 1, 99)):
        with pytest.raises(virtcore.Error):
            add()
    assert not vm._core.handles and not vm.devices


def test_pause_resume_reset(bare):
    vm = bare(SPIN)
    assert vm.state is virtcore.State.CREATED
    with pytest.raises(virtcore.Error):
        vm.wait(0)
    vm.start()
    vm.pause()
    assert vm.state is virtcore.State.PAUSED and vm.vcpu.regs.rip == CODE
    vm.resume()
    with pytest.raises(virtcore.Error):
        vm.vcpu.run()
    with pytest.raises(TimeoutError):
        vm.wait(0.01)
    vm.stop()
    assert vm.wait() == virtcore.Stopped() and vm.state is virtcore.State.EXITED
    vm.reset()
    assert vm.vcpu.regs.rip == 0xfff0


def test_end_of_the_interpreter():
    """A vm that still runs, with a device in Python, when the program ends."""
    program = ("import virtcore\nvm = virtcore.VM(machine='none', backend='emu', memory='64K')\nvm.memory[4096] = b'\\xe6\\x10\\xeb\\xfc'\n"
               "vm.vcpu.set_mode('protected32')\nvm.vcpu.regs.rip = 4096\nvm.add_ports(16, 1, write=lambda *_: None)\nvm.start()\n")
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_asyncio(bare):
    async def one(index):
        async with virtcore.aio.VM(machine="none", backend="emu", memory="64K", console=True) as vm:
            # prints two characters, reads one and prints it
            vm.memory[CODE] = bytes.fromhex("66baf803 b06f ee b06b ee 66bafd03 ec a801 74fb 66baf803 ec ee f4")
            vm.vcpu.set_mode("protected32")
            vm.vcpu.regs.rip = CODE
            vm.start()
            await vm.console.expect("ok")
            with pytest.raises(virtcore.ExpectTimeout):
                await vm.console.expect("never", timeout=0.01)
            with pytest.raises(TimeoutError):
                await vm.wait(0.01)
            vm.console.send(chr(65 + index))
            await vm.console.expect(chr(65 + index))
            first, second = await asyncio.gather(vm.wait(30), vm.wait(30))
            assert first == second == virtcore.Halt()
            with pytest.raises(virtcore.ConsoleEnded):
                await vm.console.expect("never")

    async def cancelled():
        async with virtcore.aio.VM(machine="none", backend="emu", memory="64K") as vm:
            vm.memory[CODE] = b"\xeb\xfe"
            vm.vcpu.set_mode("protected32")
            vm.vcpu.regs.rip = CODE
            assert await vm.run(0.01) == virtcore.TimedOut()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(vm.run(), 0.05)

    async def main():
        await asyncio.gather(*(one(index) for index in range(4)), cancelled())
    before = resources()
    asyncio.run(main())
    assert resources() == before


def test_console(bare):
    vm = bare("66baf803 b06f ee b00d ee b00a ee b06b ee 66bafd03 ec a801 74fb 66baf803 ec ee f4", console=True)
    vm.start()
    assert vm.console.expect(r"o\n(k)")[1] == "k"
    with pytest.raises(virtcore.ExpectTimeout, match="'zz' was expected.*\n    o\n    k"):
        vm.console.expect("zz", timeout=0.01)
    vm.console.send("!")
    assert vm.console.expect("!").group() == "!" and vm.wait() == virtcore.Halt()
    with pytest.raises(virtcore.ConsoleEnded, match="has ended"):
        vm.console.expect("more")
    assert vm.console.text == "o\nk!" and vm.console.tail(1) == "k!" and "k!" in vm._repr_html_()
    vm.close()
    assert vm.console.text == "o\nk!"
    with pytest.raises(virtcore.ConsoleEnded):
        vm.console.send("x")


def test_monitor(bare, tmp_path):
    vm = bare(SPIN)
    try:
        vm.add_monitor(tmp_path / "socket")
    except virtcore.Error as error:
        pytest.skip(str(error))
    vm.start()
    with virtcore.Monitor(tmp_path / "socket") as monitor:
        assert "QMP" in monitor.greeting and monitor.execute("query-status")
        monitor.execute("pause")
        assert vm.state is virtcore.State.PAUSED and monitor.event()["event"] == "STOP"
        with pytest.raises(virtcore.MonitorError, match="nonsense"):
            monitor.execute("nonsense")
    vm.close()
    assert not (tmp_path / "socket").exists()


def test_gdb_address(bare):
    vm = bare(SPIN)
    host, port = vm.add_gdb().rsplit(":", 1)
    assert host == "127.0.0.1" and int(port) > 0


def test_description():
    try:
        vm = virtcore.VM.from_json({"machine": "none", "memory": "2M", "backend": "emu", "devices": [{"type": "debug-exit"}]})
    except virtcore.Error as error:
        pytest.skip(str(error))
    with vm:
        assert vm.info.memory == 2 << 20
    with pytest.raises(virtcore.Error, match="colour"):
        virtcore.VM.from_json({"colour": 1})
