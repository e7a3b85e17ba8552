# SPDX-License-Identifier: LGPL-2.1-or-later
"""The interpreter's lock and the guest: who calls Python again and again keeps it in between, and yet holds up nobody."""
import gc
import os
import threading
import time

import pytest
import virtcore

CODE = 0x1000
# mov ecx, 0xffffffff; l: out 0x10, al; dec ecx; jnz l; hlt
BURST = "b9ffffffff e610 49 75fb f4"


def turns(function, seconds=30):
    """Until the function says that it is enough."""
    end = time.monotonic() + seconds
    while not function():
        assert time.monotonic() < end
        time.sleep(0)


def in_thread(vcpu):
    thread = threading.Thread(target=vcpu.run)
    thread.start()
    return thread


def test_other_threads_go_on_while_the_guest_calls(bare):
    vm = bare(BURST)
    calls = []
    vm.add_ports(0x10, 1, write=lambda *_: calls.append(1) if len(calls) < 100000 else None)
    runner = in_thread(vm.vcpu)
    turns(lambda: len(calls) >= 20000)
    for _ in range(100):
        time.sleep(0)  # each gives the lock away and needs it again
    vm.vcpu.kick()
    runner.join()


def test_other_threads_go_on_when_the_guest_has_stopped_calling(bare):
    """10,000 calls, then a loop that never ends and calls nobody."""
    vm = bare("b910270000 e610 49 75fb ebfe")
    calls = []
    vm.add_ports(0x10, 1, write=lambda *_: calls.append(1))
    runner = in_thread(vm.vcpu)
    turns(lambda: len(calls) == 10000)
    for _ in range(100):
        time.sleep(0)
    vm.vcpu.kick()
    runner.join()
    assert len(calls) == 10000


def test_callbacks_that_give_the_lock_away(bare):
    """In the middle of bursts, on four vcpus of the program, then of the library."""
    vm = bare("b9d0070000 e610 49 75fb f4", cpus=4)
    counts, lock = [0] * 4, threading.Lock()

    def write(offset, width, value):
        counts[vm.current_vcpu().index] += 1
        if sum(counts) % 50 == 0:
            time.sleep(0)
        with lock:
            pass
    vm.add_ports(0x10, 1, write=write)
    runners = [in_thread(vcpu) for vcpu in vm.vcpus[1:]]
    assert vm.vcpu.run() == virtcore.Halt()
    for runner in runners:
        runner.join()
    assert counts == [2000] * 4
    for vcpu in vm.vcpus:
        vcpu.regs.rip = CODE
    vm.start()
    vm.wait(60)
    assert sum(counts) > 8000


def test_a_vm_run_in_a_callback_of_another(bare):
    outer, inner = bare("b9e8030000 e610 49 75fb f4"), bare("b90a000000 e610 49 75fb f4")
    counts = [0, 0]

    def within(*_):
        counts[1] += 1
    inner.add_ports(0x10, 1, write=within)

    def write(*_):
        counts[0] += 1
        if counts[0] % 100 == 0:
            inner.vcpu.regs.rip = CODE
            assert inner.vcpu.run() == virtcore.Halt()
    outer.add_ports(0x10, 1, write=write)
    assert outer.vcpu.run() == virtcore.Halt()
    assert counts == [1000, 100]


def test_devices_come_and_go_under_bursts(bare):
    """Their destruction, and a reset, reach Python between two calls of another."""
    vm = bare(BURST)
    calls = []

    class Fleeting(virtcore.Device):
        def call(self, number, args):
            return number
    vm.add_ports(0x10, 1, write=lambda *_: calls.append(1) if len(calls) < 100000 else None)
    runner = in_thread(vm.vcpu)
    for turn in range(100):
        handle = vm.add_hypercalls(100, device=Fleeting())
        with vm.hook_ports(lambda event: None, 0x10, 1):
            turns(lambda before=len(calls): len(calls) > before or before == 100000)
        handle.remove()
    vm.vcpu.kick()
    runner.join()


def test_fork_in_a_burst(bare):
    vm = bare("b9d0070000 e610 49 75fb f4")
    calls, children = [], []

    def write(*_):
        calls.append(1)
        if len(calls) == 1000:
            child = os.fork()
            if not child:
                os._exit(42)
            children.append(child)
    vm.add_ports(0x10, 1, write=write)
    assert vm.vcpu.run() == virtcore.Halt()
    assert len(calls) == 2000 and os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 42


def test_events_that_are_kept_stay(bare):
    """What nobody keeps may be filled anew; what somebody keeps may not."""
    vm = bare("b903000000 890d00400000 49 75f7 f4")
    kept, seen = [], []

    def odd(event):
        seen.append(event.value)
        if event.value & 1:
            kept.append(event)
    with vm.hook_memory(odd, 0x4000, 4, virtcore.WRITES):
        vm.vcpu.run()
    gc.collect()
    assert seen == [3, 2, 1] and [(event.value, event.data) for event in kept] == [(3, b"\3\0\0\0"), (1, b"\1\0\0\0")]
    assert repr(kept[0]).startswith("MemoryEvent(address=16384, linear=16384, length=4, is_write=True, value=3")


@pytest.mark.parametrize("value, rax", [(None, 0), (7, 7), (-1, 0xffffffff), (False, 0)])
def test_what_a_hypercall_returns(bare, value, rax):
    vm = bare("b864000000 0f01d9 f4")
    vm.add_hypercalls(100, call=lambda number, args: value)
    vm.vcpu.run()
    assert vm.vcpu.regs.rax & 0xffffffff == rax


def test_a_hypercall_that_raises(bare):
    vm = bare("b864000000 0f01d9 f4")
    vm.add_hypercalls(100, call=lambda number, args: "seven")
    with pytest.raises(TypeError):
        vm.vcpu.run()
