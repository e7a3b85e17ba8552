# SPDX-License-Identifier: LGPL-2.1-or-later
"""Snapshots, clones, going back."""
import asyncio
import errno
import gc

import pytest
import virtcore
from test_life import resources

CODE = 0x1000
COUNT = "ff0500400000 e710 ebf6"  # l: inc dword [0x4000]; out 0x10, eax; jmp l


class Accumulator(virtcore.Device):
    def __init__(self):
        self.total = 0

    def write(self, offset, width, value):
        self.total += 1

    def save(self):
        return self.total.to_bytes(8, "little")

    def load(self, state):
        self.total = int.from_bytes(state, "little")


def turn(vm):
    """One turn of COUNT."""
    with vm.hook_ports(lambda event: vm.vcpu.kick(), 0x10, 1):
        assert vm.vcpu.run(30) == virtcore.Kicked()


def test_going_back(bare):
    vm = bare(COUNT)
    device = Accumulator()
    vm.add_ports(0x10, 4, device)
    view = vm.memory.view(0x4000, 4)
    turn(vm)
    with vm.snapshot() as snapshot:
        assert snapshot.info.vcpus == 1 and snapshot.info.memory == 2 << 20 and "2 MiB" in repr(snapshot)
        for _ in range(3):
            turn(vm)
            turn(vm)
            assert device.total == 3 and bytes(view) == b"\3\0\0\0"
            vm.reset_to(snapshot)
            assert device.total == 1 and bytes(view) == b"\1\0\0\0"
    assert repr(snapshot) == "<virtcore.Snapshot closed>"
    with pytest.raises(virtcore.ClosedError):
        vm.reset_to(snapshot)


def test_clones(bare):
    before = resources()
    vm = bare(COUNT)
    device = Accumulator()
    vm.add_ports(0x10, 4, device)
    turn(vm)
    snapshot = vm.snapshot()
    twins = []
    for engine in ("auto", "interp"):
        own = Accumulator()
        twins.append((snapshot.clone(engine=engine, prepare=lambda vm: vm.add_ports(0x10, 4, own)), own))
    turn(vm)
    vm.close()
    snapshot.close()
    for twin, own in twins:
        assert own.total == 1 and twin.memory[0x4000:0x4004] == b"\1\0\0\0"
        turn(twin)
        assert own.total == 2 and twin.memory[0x4000:0x4004] == b"\2\0\0\0"
        twin.close()
    assert device.total == 2
    gc.collect()
    assert resources() <= before


def test_failures(bare):
    before = resources()
    vm = bare(COUNT, console=True)
    handle = vm.add_ports(0x10, 4, Accumulator())
    snapshot = vm.snapshot()
    with pytest.raises(virtcore.Error) as error:
        snapshot.clone()  # the device is missing
    assert error.value.errno == errno.EINVAL
    with pytest.raises(ZeroDivisionError):
        snapshot.clone(prepare=lambda vm: (vm.add_ports(0x10, 4, Accumulator()), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        snapshot.clone(properties=lambda *_: 1 / 0)
    handle.remove()
    broken = Accumulator()
    broken.save = lambda: 1 / 0
    vm.add_ports(0x10, 4, broken)
    with pytest.raises(ZeroDivisionError):
        vm.snapshot()
    turn(vm)
    snapshot.close()
    vm.close()
    gc.collect()
    assert resources() <= before


def test_consoles_and_asyncio(bare):
    """Each clone has a console of its own; the text of the original stays with it."""
    # prints what it reads, for ever
    vm = bare("66bafd03 ec a801 74f7 66baf803 ec ee ebef", console=True)
    vm.start()
    vm.console.send("a")
    vm.console.expect("a")
    with vm.snapshot() as snapshot:
        with snapshot.clone() as twin:
            twin.start()
            twin.console.send("b")
            twin.console.expect("b")
            assert twin.console.text == "b" and vm.console.text == "a"

        async def clones():
            async with virtcore.aio.VM.from_snapshot(snapshot) as one, virtcore.aio.VM.from_snapshot(snapshot) as two:
                for letter, twin in (("c", one), ("d", two)):
                    twin.start()
                    twin.console.send(letter)
                    await twin.console.expect(letter)
                    twin.stop()
                    assert await twin.wait(30) == virtcore.Stopped()
        asyncio.run(clones())
    vm.console.send("e")
    vm.console.expect("e")
    assert vm.console.text == "ae"
