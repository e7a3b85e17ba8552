#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A loop like a fuzzer's: goes back to a snapshot, puts another input in place, runs, looks how it ended."""
import time

import virtcore

CODE = bytes.fromhex("a100200000"   # mov eax, [0x2000]
                     "3d39050000"   # cmp eax, 1337
                     "7502"         # jne l
                     "0f0b"         # ud2
                     "f4")          # l: hlt

with virtcore.VM(machine="none", memory="2M") as vm:
    vm.memory[0x1000] = CODE
    vm.vcpu.set_mode("protected32")
    vm.vcpu.regs.rip = 0x1000
    with vm.snapshot() as snapshot:
        start = time.perf_counter()
        for value in range(2000):
            vm.memory[0x2000] = value.to_bytes(4, "little")
            if isinstance(vm.vcpu.run(), virtcore.Crash):
                print(f"input {value} crashes it")
            vm.reset_to(snapshot)
        print(f"{2000 / (time.perf_counter() - start):.0f} runs a second")
