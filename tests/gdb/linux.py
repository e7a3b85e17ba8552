#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""linux.py DIR MICROVM BACKEND: stock gdb on a booted Linux with two vcpus: Ctrl-C, registers, kernel memory, breakpoints at
the kernel's system call entry, whose address is in a register. DIR keeps the kernel."""
import os
import re
import shutil
import subprocess
import sys
import zlib

from session import Gdb, Machine, check, expect, finish, need_gdb

DIR, MICROVM, BACKEND = sys.argv[1:4]
HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = os.path.join(HERE, "..", "tools")
INIT = os.path.join(HERE, "init.sh")


def skip(why):
    print("SKIP: " + why)
    sys.exit(77)


def prepare():
    for tool in ("busybox", "cpio", "gzip"):
        if not shutil.which(tool):
            skip(f"{tool} is not installed (Debian: busybox-static, cpio, gzip)")
    r = subprocess.run([os.path.join(TOOLS, "get-kernel.sh"), DIR], capture_output=True, text=True)
    if r.returncode:
        skip(f"no Debian cloud kernel: neither in {DIR} nor from apt")
    with open(INIT, "rb") as f:
        initrd = os.path.join(DIR, f"gdb-{zlib.crc32(f.read()):08x}.gz")
    if not os.path.exists(initrd):
        subprocess.run(["sh", os.path.join(TOOLS, "mkinitramfs.sh"), initrd, INIT], check=True)
    return r.stdout.strip(), initrd


def boot(kernel, initrd):
    return Machine(MICROVM, "--kernel", kernel, "--initrd", initrd, "--cmdline", "console=ttyS0 panic=-1 nopti nokaslr", "--memory", "384M",
                   "--cpus", "2", "--backend", BACKEND, "--timeout", "200")


def lstar_of(machine):
    """Interrupts the booted guest, and finds the system call entry."""
    gdb = Gdb(machine.address, ["continue", "info registers rip cr3 gs_base", "info threads", "x/4i $pc", "x/8xb $pc", "monitor info registers",
                                "detach"])
    check("boots under gdb", machine.out.wait_for("gdb: init, 2 cpus", 150), machine.out.text + machine.err.text)
    gdb.interrupt()
    text = gdb.end()
    expect("Ctrl-C", text, "received signal SIGINT", r"rip\s+0x\w+", r"cr3\s+0x\w+", r"2 +Thread 2 \(vcpu 1", r"=> 0x\w+:\t\w+",
           r"0x\w+:\s+0x\w\w\s+0x\w\w", "lstar ffffffff", "Detaching|detached")
    found = re.search(r" lstar (\w+)", text)
    return found[1] if found else None


need_gdb()
machine = boot(*prepare())
lstar = lstar_of(machine)
if lstar:
    # entry_SYSCALL_64 begins with SWAPGS, which exchanges the two bases
    expect("hbreak in the kernel", Gdb(machine.address, [
        f"hbreak *0x{lstar}", "continue", "set $base = $gs_base", "set $kernel = $k_gs_base", "x/i $pc", "info registers rip cs", "stepi", "stepi",
        "p $gs_base == $kernel && $k_gs_base == $base", "delete", "detach"]).end(),
        r"Breakpoint 1, 0x" + lstar, "swapgs", r"rip\s+0x" + lstar, r"cs\s+0x10\b", r"= 1$")
    expect("break in the kernel", Gdb(machine.address, [
        f"break *0x{lstar}", "continue", "continue", "continue", "x/i $pc", "delete", "detach"]).end(),
        r"Breakpoint 1, 0x" + lstar, r"Breakpoint 1, 0x" + lstar, r"Breakpoint 1, 0x" + lstar, "swapgs")
    expect("watch the kernel's stack", Gdb(machine.address, [
        # the entry pushes what it saves
        f"hbreak *0x{lstar}", "continue", "stepi 12", "watch -location *(long *)($rsp - 8)", "delete 1", "continue", "delete", "detach"]).end(),
        "Hardware watchpoint 2", "Hardware watchpoint 2", "Old value", "New value")
machine.p.stdin.write(b"end\n")
machine.p.stdin.flush()
status = machine.end(60)
check("the guest goes on and ends", status == 0 and "gdb: end" in machine.out.text, f"{status}: {machine.out.text[-2000:]} {machine.err.text}")
trouble = re.search(r".*(BUG|WARNING|Oops|Call Trace|soft lockup|self-detected stall).*", machine.out.text)
check("no trouble on the console", not trouble, trouble and trouble[0])
finish()
