#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""examples.py BUILD: the example programs and microvm as a user meets them: exit statuses, help, descriptions, serial ports, the terminal."""
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time

BUILD = os.path.abspath(sys.argv[1])
MICROVM = os.path.join(BUILD, "examples", "microvm")
# Real-mode guests at 0x8000.
POWEROFF = bytes.fromhex("ba 04 06 b8 00 34 ef f4 eb fd")        # outw 0x3400 to PM1a_CNT (0x604): S5
RESET = bytes.fromhex("b0 fe e6 64 f4 eb fd")                    # i8042 command 0xfe
CRASH = bytes.fromhex("0f 01 1e 00 90 cc f4")                    # lidt [0x9000] (limit 0), int3
DEBUG_EXIT = bytes.fromhex("b0 05 e6 f4 f4 eb fd")               # 5 to port 0xf4
LOOP = bytes.fromhex("eb fe")
HELLO = bytes.fromhex("ba f8 03 b0 48 ee b0 69 ee b0 0a ee b0 00 e6 f4 f4 eb fd")  # "Hi\n" to COM1, then debug-exit
ECHO = bytes.fromhex("ba fd 03 ec a8 01 74 f8 ba f8 03 ec ee eb f2")               # echoes what COM1 gets
failures = 0


def check(name, good, detail=""):
    global failures
    print(("ok    " if good else "FAIL  ") + name, detail if not good else "")
    failures += not good


def microvm(*args, text=None, timeout=60):
    return subprocess.run([MICROVM, *args], input=text, capture_output=True, text=True, timeout=timeout)


def image(directory, name, code):
    path = os.path.join(directory, name)
    with open(path, "wb") as f:
        f.write(code)
    return path


def flat(path):
    return ["--backend", "emu", "--memory", "16M", "--image", "flat", "--address", "0x8000", "--kernel", path]


def statuses(d):
    for name, code, want, extra in (("poweroff", POWEROFF, 0, []), ("reset", RESET, 102, []), ("crash", CRASH, 100, []),
                                    ("debug-exit", DEBUG_EXIT, 11, ["--debug-exit"]), ("time-out", LOOP, 124, ["--timeout", "0.3"])):
        out = microvm(*flat(image(d, name, code)), "--serial", "none", *extra)
        check(f"exit status of {name}", out.returncode == want, f"{out.returncode} {out.stderr}")
    check("usage", microvm("--nonsense").returncode == 64)
    check("no kernel", microvm().returncode == 64)
    out = microvm("--kernel", "/nonexistent", "--serial", "none")
    check("missing kernel file", out.returncode == 70 and "/nonexistent" in out.stderr, out.stderr)
    out = microvm("--cpu", "x86-64-v9", "--kernel", "/nonexistent", "--serial", "none")
    check("unknown CPU model", out.returncode == 70 and "x86-64-v9" in out.stderr, out.stderr)


def texts():
    out = microvm("--help")
    for word in ("--kernel", "--cmdline", "--cpus", "--config", "--device", "--serial", "--debug-exit", "--timeout", "--stats", "--trace", "Ctrl-A x"):
        check(f"--help names {word}", word in out.stdout)
    check("--version", microvm("--version").stdout.startswith("microvm"))
    check("--cpu help", "x86-64-v3" in microvm("--cpu", "help", "--backend", "emu").stdout)
    check("--device help", "uart" in microvm("--device", "help").stdout)
    raw = subprocess.run([os.path.join(BUILD, "examples", "raw-code")], capture_output=True, text=True, timeout=60)
    check("raw-code", raw.returncode == 0 and "wrote 42" in raw.stdout, raw.stderr)


def serial(d):
    hello = image(d, "hello", HELLO)
    out = microvm(*flat(hello), "--debug-exit")
    check("serial on standard output", out.stdout == "Hi\n", repr(out.stdout))
    path = os.path.join(d, "serial.log")
    microvm(*flat(hello), "--debug-exit", "--serial", "file:" + path)
    check("serial to a file", open(path).read() == "Hi\n")
    check("unknown serial", microvm(*flat(hello), "--serial", "carrier-pigeon").returncode == 64)
    out = microvm(*flat(hello), "--debug-exit", "--serial", "none", "--stats", "--device", "debugcon,output=null")
    check("--stats", "instructions" in out.stderr and out.stdout == "", out.stderr)
    out = microvm(*flat(hello), "--debug-exit", "--serial", "none", "--device", "uart,colour=red")
    check("unknown property", out.returncode == 70 and "colour" in out.stderr, out.stderr)
    p = subprocess.Popen([MICROVM, *flat(image(d, "echo", ECHO)), "--serial", "pty"], stderr=subprocess.PIPE, text=True)
    line = p.stderr.readline()
    fd = os.open(line.split()[-1], os.O_RDWR | os.O_NOCTTY)
    os.write(fd, b"x")
    ready = select.select([fd], [], [], 20)[0]
    check("serial on a pty", bool(ready) and os.read(fd, 1) == b"x", line)
    os.close(fd)
    p.send_signal(signal.SIGTERM)
    check("SIGTERM stops it", p.wait(20) == 104)


def description(d):
    hello = image(d, "hello", HELLO)
    config = {"backend": "emu", "memory": "16M", "devices": [{"type": "uart", "output": "stdout"}, {"type": "debug-exit"}],
              "boot": {"kernel": hello, "image": "flat", "address": 0x8000}}
    out = microvm("--config", "-", text=json.dumps(config))
    if "switched off" in out.stderr:
        print("SKIP  descriptions: this build has no json-c")
        return
    check("--config", out.stdout == "Hi\n" and out.returncode == 1, out.stderr)
    out = microvm("--config", "-", text=json.dumps({**config, "colour": "red"}))
    check("unknown key by name", out.returncode == 70 and "colour" in out.stderr, out.stderr)
    out = microvm("--config", "-", text=json.dumps({**config, "cpus": 5000}))
    check("wrong value by name", out.returncode == 70 and "cpus" in out.stderr, out.stderr)


def terminal(d):
    echo = image(d, "echo", ECHO)
    for name, end in (("Ctrl-A x", b"\x01x"), ("SIGTERM", None)):
        master, slave = pty.openpty()
        before = termios.tcgetattr(slave)
        p = subprocess.Popen([MICROVM, *flat(echo)], stdin=slave, stdout=slave, stderr=slave)
        deadline = time.monotonic() + 20
        while termios.tcgetattr(slave)[3] & termios.ICANON and time.monotonic() < deadline:
            time.sleep(0.02)
        os.write(master, b"q")
        check(f"terminal echo before {name}", bool(select.select([master], [], [], 20)[0]) and os.read(master, 1) == b"q")
        if end:
            os.write(master, end)
        else:
            p.send_signal(signal.SIGTERM)
        check(f"{name} ends it", p.wait(20) == 104)
        check(f"terminal restored after {name}", termios.tcgetattr(slave) == before)
        os.close(master)
        os.close(slave)


with tempfile.TemporaryDirectory() as directory:
    statuses(directory)
    texts()
    serial(directory)
    description(directory)
    terminal(directory)
sys.exit(1 if failures else 0)
