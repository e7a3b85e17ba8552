#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Linux guest to try things with: python3 -i prompt.py VMLINUZ INITRD boots it to its shell, and leaves it in `vm`."""
import sys
import time

import virtcore


def sh(line: str) -> str:
    """What a command prints in the guest."""
    vm.console.send(line + "\n")
    return vm.console.expect(r"\n((?s:.*?))\S* # ", timeout=60)[1]


start = time.monotonic()
vm = virtcore.VM(memory="512M", cpus=2)
vm.boot_linux(sys.argv[1], sys.argv[2], "console=ttyS0 quiet panic=-1")
vm.console.expect(r"# ", timeout=120)
print(f"""{sh("uname -sr").strip()}, booted in {time.monotonic() - start:.1f} s: {vm}
Try: print(sh("cat /proc/cpuinfo"))
     saved = vm.snapshot(); sh("rm -rf /bin"); vm.reset_to(saved); print(sh("ls /bin | wc -l"))
     copy = saved.clone(); copy.start()
     vm.info, vm.memory[0x1000:0x1010], help(virtcore.VM)
     vm.close()""")
