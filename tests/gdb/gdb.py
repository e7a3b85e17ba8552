#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""gdb.py MICROVM BACKEND GUEST: stock gdb on a tiny guest (guest.S) of `microvm --gdb`."""
import subprocess
import sys

from session import Gdb, Machine, check, expect, finish, need_gdb

MICROVM, BACKEND, GUEST = sys.argv[1:4]
OPTIONS = ["--kernel", GUEST, "--memory", "16M", "--cpus", "2", "--debug-exit", "--timeout", "60"]
ENDED, STOPPED = 21 << 1 | 1, 104
EXITED = r"exited with code 053"  # octal


def session(name, commands, patterns, status=ENDED, act=None, **options):
    machine = Machine(MICROVM, *OPTIONS, "--backend", BACKEND, **options)
    gdb = Gdb(machine.address, commands, GUEST)
    if act:
        act(machine, gdb)
    expect(name, gdb.end(), *patterns)
    ended = machine.end()
    check(name + ": exit status", ended == status, f"{ended}, expected {status}; {machine.err.text}")


def registers_and_memory():
    session("registers and memory", [
        "info registers rip cr3 efer", "break tick", "continue", "info registers rip r15 eflags cs", "p $xmm0.v4_int32", "p $xmm15.v4_float",
        "p $st0", "p $st1", "p/x $ftag", "p/x $mxcsr", "x/2i $pc", "x/2xb $pc", "x/wx &secret", "p $_siginfo", "bt 1",
        "set var *(int *)&secret = 0x777", "x/wx &secret", "set var $rbp = 1", "set var $xmm3.uint128 = 0x1234", "p/x $xmm3.uint128",
        "p/x $ymm3.v2_int128", "x/wx 0x7000000000", "monitor info registers", "monitor translate 0x200000", "delete", "continue"], [
        r"rip\s+0x200000", r"efer\s+0x500", r"Breakpoint 1 at", r"Thread 1 hit Breakpoint 1", r"rip\s+0x\w+\s+0x\w+ <tick>",
        r"r15\s+0x1122334455667788", r"cs\s+0x8\b", r"= \{16909060, 84281096, 151653132, 219025168\}", r"= \{1.5, 2.5, 3.5, 4.5\}",
        r"= 3.14159265", r"= 1$", r"= 0xfff$", r"= 0x1f80", r"=> 0x\w+ <tick>:\s+incl", r"<tick>:\s+0xff\s+0x05", r"0x\w+:\s+0x005ec4e7",
        r"#0  tick", r"0x\w+:\s+0x00000777", r"= 0x1234$", r"= \{0x1234, 0x0\}|not a structure", r"Cannot access memory", r"gdtr base \w+ limit 0017",
        r"guest-physical 0x200000", EXITED])


def breakpoints():
    session("software breakpoints", [
        "break tick", "break looked", "tbreak finish", "continue", "continue 2", "p *(int *)&counter", "stepi", "p *(int *)&counter", "x/2xb tick",
        "continue", "info registers rip", "continue", "p *(int *)&trapped", "continue"], [
        # the guest's own INT3 is taken by its own handler meanwhile
        r"hit Breakpoint 1", r"hit Breakpoint 1", r"= 2$", r"= 3$", r"<tick>:\s+0xff\s+0x05", r"hit Breakpoint 2", r"<looked>",
        r"hit Temporary breakpoint 3", r"= 1$", EXITED])
    session("hardware breakpoints", [
        "hbreak tick", "hbreak looked", "thbreak finish", "hbreak _start", "continue", "stepi", "stepi", "stepi", "x/i $pc", "delete 1", "continue",
        "continue", "continue"], [
        r"hit Breakpoint 1", r"=> 0x\w+ <_start", r"hit Breakpoint 2", r"hit Temporary breakpoint 3", EXITED])
    session("too many", ["hbreak tick", "hbreak looked", "hbreak finish", "hbreak spin", "hbreak on_int3", "continue", "delete 5", "continue"],
            [r"Could not insert hardware breakpoint|Cannot insert hardware breakpoint", r"hit Breakpoint 1"])


def steps():
    session("software watchpoint", [
        "hbreak tick", "continue", "delete", "set can-use-hw-watchpoints 0", "watch *(int *)&counter", "continue", "delete", "continue"], [
        r"Watchpoint 2", r"Watchpoint 2", r"Old value = 0", r"New value = 1", EXITED])
    session("steps", ["break tick", "continue", "finish", "stepi 3", "info registers rip", "nexti", "delete", "continue"], [
        r"hit Breakpoint 1", r"decl %ebp", r"hit Breakpoint 1", r"rip\s+0x\w+ +0x\w+ <tick>", r"movq", EXITED])


def watchpoints():
    session("watchpoints", [
        "hbreak tick", "continue", "delete", "watch *(int *)&counter", "rwatch *(int *)&secret", "awatch *(long *)((char *)&wide + 8)",
        "continue", "continue", "delete 2", "continue", "delete 4", "continue", "info registers rip", "delete", "continue"], [
        r"Hardware watchpoint 2", r"Hardware read watchpoint 3", r"Hardware access \(read/write\) watchpoint 4",
        r"hit Hardware watchpoint 2", r"Old value = 0", r"New value = 1", r"hit Hardware access \(read/write\) watchpoint 4",
        r"hit Hardware access \(read/write\) watchpoint 4", r"hit Hardware read watchpoint 3", r"Value = 6210791", r"<looked>", EXITED])


def threads():
    session("threads", ["info threads", "hbreak finish", "continue", "info threads", "thread 2", "p $cs", "x/2xb 0x10000",
                        "thread apply all p $rsp", "thread 1", "continue"], [
        r"\* 1 +Thread 1 \(vcpu 0 running\)", r"2 +Thread 2 \(vcpu 1 (waits for SIPI|off)\)", r"hit Breakpoint 1", r"Thread 2 \(vcpu 1 halted\)",
        r"= 4096", r"0x10000:\s+0x31\s+0xc0", r"Thread 2", r"Thread 1", EXITED])
    # the second vcpu in real mode, where RIP and the linear address differ
    session("real mode", ["hbreak *0x10000", "continue", "p $cs", "p $rip", "p/x $cr0 & 1", "thread", "x/2xb 0x10000", "delete", "stepi", "p $rip",
                          "continue"], [
        r"Thread 2 received signal SIGTRAP", r"= 4096", r"0x0", r"= 0x0", r"Current thread is 2", r"0x31\s+0xc0", r"0x2", EXITED])


def ends():
    def ctrl_c(machine, gdb):
        if machine.out.wait_for("s", 30):
            gdb.interrupt()

    session("Ctrl-C", ["set var $rip = spin", "continue", "info registers rip", "x/i $pc", "set var $rip = finish", "continue"], [
        r"Thread 1 received signal SIGINT", r"rip\s+0x\w+\s+0x\w+ <spin", r"=> 0x\w+ <spin", EXITED], act=ctrl_c)
    session("kill", ["break tick", "continue", "kill"], [r"hit Breakpoint 1", r"killed"], status=STOPPED)
    session("detach", ["break tick", "continue", "detach"], [r"hit Breakpoint 1", r"[Dd]etached|Detaching"])
    session("quit", ["break tick", "watch *(int *)&counter", "continue"], [r"hit Breakpoint 1"])
    session("TCP", ["continue"], [EXITED], address=":0")


def has_breakpoints():
    """Whether this host's KVM executes guest code itself, and so has debug registers."""
    r = subprocess.run([MICROVM, *OPTIONS, "--verbose"], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    return BACKEND != "kvm" or "kvm is passed over" not in r.stderr


need_gdb()
probe = subprocess.run([MICROVM, *OPTIONS, "--backend", BACKEND], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
if BACKEND == "kvm" and probe.returncode == 70 and "/dev/kvm" in probe.stderr:
    print("SKIP: " + probe.stderr.strip())
    sys.exit(77)
check("the guest without gdb", probe.returncode == ENDED, probe)
registers_and_memory()
breakpoints()
steps()
threads()
ends()
if has_breakpoints():
    watchpoints()
else:
    print("SKIP: watchpoints: /dev/kvm emulates guest code and watches no data")
finish()
