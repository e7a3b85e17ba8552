#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fifty guests in one event loop: each prints a letter on its console and stops."""
import asyncio

import virtcore

CODE = bytes.fromhex("66baf803 88d8 ee f4")  # mov dx, 0x3f8; mov al, bl; out dx, al; hlt


async def guest(letter):
    async with virtcore.aio.VM(machine="none", memory="64K", console=True) as vm:
        vm.memory[0x1000] = CODE
        vm.vcpu.set_mode("protected32")
        vm.vcpu.regs.update(rip=0x1000, rbx=letter)
        vm.start()
        await vm.wait()
        return (await vm.console.expect(".")).group()


async def main():
    print("".join(await asyncio.gather(*(guest(65 + n) for n in range(50)))))

asyncio.run(main())
