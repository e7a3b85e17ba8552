#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest does, told as it does it: its basic blocks, its writes to a range of memory; and NumPy's view of the outcome."""
import virtcore

CODE = bytes.fromhex("b903000000"       # mov ecx, 3
                     "890c8d00200000"   # l: mov [0x2000 + ecx * 4], ecx
                     "4975f6"           # dec ecx; jnz l
                     "f4")              # hlt

with virtcore.VM(machine="none", backend="emu", memory="2M") as vm:
    vm.memory[0x1000] = CODE
    vm.vcpu.set_mode("protected32")
    vm.vcpu.regs.rip = 0x1000
    vm.hook_block(lambda address, length: print(f"block {address:#x}, {length} bytes, ecx {vm.vcpu.regs.rcx}"), 0x1000, 0x1000)
    vm.hook_memory(lambda event: print(f"write {event.address:#x}: {event.value}"), 0x2000, 0x1000, virtcore.WRITES)
    vm.vcpu.run()
    try:
        import numpy
        print(numpy.frombuffer(vm.memory.view(0x2000, 16), dtype="u4"))
    except ImportError:
        print(vm.memory[0x2000:0x2010].hex())
