#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A CPU and some memory, by hand: adds two numbers and stores the sum to a device of ours."""
import virtcore

CODE = bytes.fromhex("01d8"         # add eax, ebx
                     "a300000010"   # mov [0x10000000], eax
                     "f4")          # hlt


class Printer(virtcore.Device):
    def write(self, offset, width, value):
        print(f"the guest wrote {value}")


with virtcore.VM(machine="none", memory="2M") as vm:
    vm.add_mmio(0x10000000, 0x1000, Printer())
    vm.memory[0x1000] = CODE
    vm.vcpu.set_mode("protected32")
    vm.vcpu.regs.update(rip=0x1000, rax=40, rbx=2)
    print(vm.vcpu.run())
