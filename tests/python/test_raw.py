# SPDX-License-Identifier: LGPL-2.1-or-later
"""Raw code: registers, memory, exits, debugging."""
import errno
import gc
import inspect
import mmap
import os
import re
import signal
import threading

import pytest
import virtcore
from virtcore._virtcore import lib

CODE = 0x1000


def test_registers(bare):
    vm = bare("01d8 f4")
    vm.vcpu.regs.update(rax=40, rbx=2)
    assert vm.vcpu.run() == virtcore.Halt()
    assert vm.vcpu.regs.rax == 42 and vm.vcpu.regs.asdict()["rip"] == CODE + 3
    vm.vcpu.regs = {"rcx": 7, "r15": 1 << 63}
    assert vm.vcpu.regs.rcx == 7 and vm.vcpu.regs.r15 == 1 << 63
    assert "rcx=0x7" in repr(vm.vcpu.regs) and set(dir(vm.vcpu.regs)) > {"rax", "rflags"}
    with pytest.raises(AttributeError, match="eax"):
        vm.vcpu.regs.eax
    with pytest.raises(AttributeError, match="eax"):
        vm.vcpu.regs.eax = 1
    with pytest.raises(OverflowError):
        vm.vcpu.regs.rax = 1 << 64


def test_special_registers(bare):
    sregs = bare("f4").vcpu.sregs
    assert sregs.cr0 & 1 and sregs.cs.limit == 0xffffffff and sregs.dr == (0, 0, 0, 0)
    sregs.ds = sregs.ds._replace(base=0x100)
    sregs.gdtr = virtcore.Table(0x500, 0x7f)
    assert sregs.ds.base == 0x100 and sregs.gdtr == virtcore.Table(0x500, 0x7f)
    with pytest.raises(virtcore.Error):
        sregs.cr0 = 1 << 31  # paging without protection


def test_state(bare):
    vm = bare("0f01d0f4")
    vm.vcpu.set_msr(0x277, 0x0007040600070406)
    assert vm.vcpu.get_msr(0x277) == 0x0007040600070406
    with pytest.raises(virtcore.Error) as error:
        vm.vcpu.get_msr(0xdead)
    assert error.value.errno == errno.ENOENT
    assert vm.vcpu.cpuid(0)[0] >= 1
    area = bytearray(vm.vcpu.xsave)
    area[0] = 0x7f
    area[512] |= 1
    vm.vcpu.xsave = bytes(area)
    assert vm.vcpu.xsave[0] == 0x7f


def test_exits_and_replies(bare):
    vm = bare("e510 a100000010 e611 a300000020 f4")
    seen = []
    for exit in vm.vcpu.exits():
        seen.append(exit)
        match exit:
            case virtcore.PortAccess(address=0x10, is_write=False, width=4):
                exit.reply(0x1234)
            case virtcore.MmioAccess(address=0x10000000, is_write=False):
                exit.reply(0x5678)
            case virtcore.PortAccess(address=0x11, is_write=True, data=data):
                assert data == 0x78
            case virtcore.MmioAccess(is_write=True, data=data):
                assert data == 0x5678
                with pytest.raises(ValueError):
                    exit.reply(1)
    assert [type(exit) for exit in seen] == [virtcore.PortAccess, virtcore.MmioAccess, virtcore.PortAccess, virtcore.MmioAccess, virtcore.Halt]
    assert "address=0x11" in repr(seen[2]) and seen[1] != seen[3]


def test_hypercall_crash_and_modes(bare):
    vm = bare("b807000000 bb01000000 0f01d9 0f0b")
    vm.vcpu.regs.update(rcx=2, rdx=3, rsi=4)
    assert vm.vcpu.run() == virtcore.Hypercall(7, (1, 2, 3, 4))
    crash = vm.vcpu.run()
    assert isinstance(crash, virtcore.Crash) and crash.kind is virtcore.CrashKind.TRIPLE_FAULT and crash.message and crash.final
    vm = bare("48b8000000000100000048ffc0f4")
    vm.vcpu.set_mode("long64", 0x10000)
    vm.vcpu.regs.rip = CODE
    assert isinstance(vm.vcpu.run(), virtcore.Halt) and vm.vcpu.regs.rax == (1 << 32) + 1
    assert vm.vcpu.translate(0x1234) == 0x1234 and vm.vcpu.read(CODE, 2) == b"\x48\xb8"
    vm.vcpu.write(0x3000, b"abc")
    assert vm.memory[0x3000:0x3003] == b"abc"
    with pytest.raises(virtcore.Error) as error:
        vm.vcpu.translate(1 << 40, "write")
    assert error.value.errno == errno.EFAULT


def test_kick_and_timeout(bare):
    vm = bare("ebfe")
    assert vm.vcpu.run(0.01) == virtcore.TimedOut()
    vm.vcpu.kick()
    assert vm.vcpu.run() == virtcore.Kicked()
    # the other thread only comes to it while the interpreter's lock is free
    other = threading.Thread(target=vm.vcpu.kick)
    other.start()
    assert vm.vcpu.run() == virtcore.Kicked()
    other.join()


def test_debug(bare):
    vm = bare("90 40 90 f4")
    stop = vm.vcpu.step()
    assert isinstance(stop, virtcore.DebugStop) and stop.address == CODE + 1
    vm.vcpu.debug(breakpoints=[CODE + 2])
    stop = vm.vcpu.run()
    assert isinstance(stop, virtcore.DebugStop) and stop.exception == 1 and stop.dr6 & 1 and vm.vcpu.regs.rax == 1
    vm.vcpu.debug()
    assert vm.vcpu.run() == virtcore.Halt()


def test_memory(bare):
    vm = bare("c605 00400000 2a f4")
    view = vm.memory.view(0x4000, 0x1000)
    assert len(view) == 4096 and not view.readonly
    vm.vcpu.run()
    assert view[0] == 42
    view[1:4] = b"xyz"
    assert vm.memory[0x4001:0x4004] == b"xyz" and vm.memory.read(0x4000, 2) == b"*x"
    vm.memory[0x4000:0x4002] = bytearray(b"ab")
    assert bytes(view[:4]) == b"abyz"
    with pytest.raises(ValueError, match="do not fill"):
        vm.memory[0:4] = b"x"
    with pytest.raises(virtcore.Error, match="0x10000000") as error:
        vm.memory[0x10000000:0x10000001]
    assert error.value.errno == errno.EFAULT and isinstance(error.value, OSError)
    with pytest.raises(virtcore.Error):
        vm.memory.view(0x1ff000, 0x2000)
    vm.close()
    view[0] = 1  # still there
    assert bytes(view[:2]) == b"\x01b"
    del view
    with pytest.raises(virtcore.ClosedError):
        vm.memory[0:1]


def test_numpy(bare):
    numpy = pytest.importorskip("numpy")
    vm = bare("8305 00400000 05 f4")
    array = numpy.frombuffer(vm.memory.view(0x4000, 0x1000), dtype=numpy.uint32)
    array[:] = numpy.arange(1024)
    vm.vcpu.run()
    assert array[0] == 5 and vm.memory[0x4004:0x4008] == b"\x01\0\0\0"


def test_slots(bare):
    vm = bare("c605 00004000 01 c605 00006000 02 f4")
    slot = vm.memory.add(0x400000, "64K", flags=virtcore.MemoryFlag.RWX | virtcore.MemoryFlag.LOG_DIRTY)
    assert slot.kind is virtcore.MemoryKind.MEMFD and slot.fd >= 0 and slot.length == 65536
    own = mmap.mmap(-1, 8192)
    mine = vm.memory.add(0x600000, buffer=own)
    assert vm.vcpu.run() == virtcore.Halt()
    assert own[0] == 2 and slot.dirty() == [0x400000] and slot.dirty() == []
    with pytest.raises(virtcore.Error) as error:
        vm.memory.add(0x400000, 4096)
    assert error.value.errno == errno.EEXIST
    view = slot.view()
    with pytest.raises(BufferError):
        slot.remove()
    view.release()
    gc.collect()
    slot.remove()
    mine.remove()
    with pytest.raises(virtcore.ClosedError):
        slot.dirty()
    assert vm.memory.slots == []


def test_values():
    assert virtcore._core.size("512M") == 512 << 20 and virtcore._core.size("4 KiB") == 4096 and virtcore._core.size("0x10") == 16
    with pytest.raises(ValueError, match="no size"):
        virtcore.VM(memory="lots")
    with pytest.raises(ValueError, match="known are none, microvm"):
        virtcore.VM(machine="mainframe")
    with pytest.raises(virtcore.Error, match="pentium") as error:
        virtcore.VM(machine="none", backend="emu", cpu="pentium")
    assert error.value.errno == errno.EINVAL
    with pytest.raises(TypeError):
        virtcore.VM(nonsense=1)


def test_shown(bare):
    vm = bare("f4")
    assert "none on emu" in repr(vm) and "2 MiB" in repr(vm) and "0x1000" in repr(vm.vcpu)
    assert "<b>virtcore.VM</b>" in vm._repr_html_()
    vm.close()
    assert repr(vm) == "<virtcore.VM closed>" and "closed" in repr(vm.vcpu) and "closed" in vm._repr_html_()


def test_host():
    assert virtcore.probe("emu").available and {info.backend for info in virtcore.backends()} == {virtcore.Backend.KVM, virtcore.Backend.EMU}
    assert "x86-64-v3" in [model.name for model in virtcore.cpu_models()]
    uart = next(device for device in virtcore.device_types() if device.name == "uart")
    assert "input" in uart.properties
    assert isinstance(virtcore.cpu_missing("x86-64-v2", "emu"), list)


def test_enums_are_complete():
    """Each constant of a family that enums.py and exits.py know has its place there."""
    known = set(re.findall("VCORE_[A-Z0-9_]+", inspect.getsource(virtcore.enums) + inspect.getsource(virtcore.exits)))
    families = tuple({re.match("VCORE_[A-Z0-9]+_", name)[0] for name in known})
    elsewhere = {"VCORE_EXIT_NONE", "VCORE_HOOK_READS", "VCORE_HOOK_WRITES"}
    missing = {name for name in dir(lib) if name.startswith(families)} - known - elsewhere
    assert not missing, "virtcore/enums.py lacks constants of the headers"
    assert (virtcore.READS, virtcore.WRITES) == (lib.VCORE_HOOK_READS, lib.VCORE_HOOK_WRITES)


def test_interrupt_from_keyboard(bare):
    vm = bare("ebfe")
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        vm.vcpu.run(60)
    timer.join()
    assert vm.vcpu.run(0.01) == virtcore.TimedOut()


def test_docstrings():
    """Everything public says what it is."""
    missing = []
    for name in virtcore.__all__:
        value = getattr(virtcore, name)
        members = [(name, value)] if callable(value) else []
        if inspect.isclass(value) and value.__module__.startswith("virtcore"):
            members += [(f"{name}.{key}", member) for key, member in vars(value).items()
                        if not key.startswith("_") and (inspect.isfunction(member) or isinstance(member, (property, classmethod)))]
        missing += [key for key, member in members if not inspect.getdoc(member)]
    assert not missing


def test_kvm(bare):
    """The same through /dev/kvm, where there is one."""
    if not virtcore.probe("kvm").available:
        pytest.skip("there is no /dev/kvm here")
    vm = bare("e510 a300000010 ebfe", backend="kvm")
    seen = []
    vm.add_ports(0x10, 4, read=lambda offset, width: 42)
    vm.add_mmio(0x10000000, 4, write=lambda offset, width, value: (seen.append(value), vm.current_vcpu().kick()))
    assert vm.vcpu.run(30) == virtcore.Kicked() and seen == [42]
    with pytest.raises(virtcore.Error) as error:
        vm.hook_code(print)
    assert error.value.errno == errno.ENOTSUP and not [hook for hook in vm._hooks]
