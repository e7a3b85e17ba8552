#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boots Linux and waits for a line of its console: boot_linux.py VMLINUZ INITRD [PATTERN [TYPED]]"""
import sys

import virtcore

kernel, initrd = sys.argv[1:3]
pattern = sys.argv[3] if len(sys.argv) > 3 else "login:"
typed = sys.argv[4] if len(sys.argv) > 4 else None
with virtcore.VM(memory="512M", cpus=2) as vm:
    vm.console.mirror(sys.stdout)
    vm.boot_linux(kernel, initrd, "console=ttyS0 quiet panic=-1")
    vm.console.expect(pattern, timeout=120)
    if typed:
        vm.console.send(typed + "\n")
        print(vm.wait(60))
