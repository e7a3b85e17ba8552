# SPDX-License-Identifier: LGPL-2.1-or-later
"""How programs use the package, for mypy alone: it is not executed."""
from typing import Optional, Tuple

import virtcore


class Counter(virtcore.Device):
    count: int = 0

    def read(self, offset: int, width: int) -> int:
        return self.count

    def write(self, offset: int, width: int, value: int) -> None:
        self.count = value

    def call(self, number: int, args: Tuple[int, int, int, int]) -> Optional[int]:
        return args[0]


def raw() -> int:
    with virtcore.VM(machine="none", backend=virtcore.Backend.EMU, memory="2M") as vm:
        vm.add_mmio(0xd0000000, 0x1000, Counter())
        vm.vcpu.regs.update(rip=0x1000)
        exit = vm.vcpu.run(timeout=1.5)
        if isinstance(exit, virtcore.MmioAccess):
            exit.reply(exit.address)
        view: memoryview = vm.memory.view(0, "4K")
        with vm.hook_memory(lambda event: event.data.hex(), 0, 4096, virtcore.WRITES):
            vm.vcpu.run()
        return vm.vcpu.regs.rax + vm.vcpu.sregs.cs.base + view[0]


def twins(vm: virtcore.VM) -> str:
    with vm.snapshot() as snapshot, snapshot.clone(engine="interp") as twin:
        vm.reset_to(snapshot)
        return twin.vcpu.run().__class__.__name__


async def linux() -> str:
    async with virtcore.aio.VM(memory=1 << 29) as vm:
        vm.boot_linux("vmlinuz")
        match = await vm.console.expect("login: (.*)")
        end: virtcore.Exit = await vm.wait()
        return match[1] + repr(end)


def command(path: str) -> bytes:
    done = virtcore.run(["ls", "-l"], rootfs=path, input=b"", env={"A": "b"}, timeout=30, network=True, user=1000)
    return done.stdout + done.stderr if done.returncode == 0 else b""
