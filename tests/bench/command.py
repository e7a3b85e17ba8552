#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""command.py BUILD ROOT [ROUNDS] [OPTION...]: the time from the call of `microvm run` to the first byte of a command's output, and to its end; medians. ROOT needs an echo;
OPTION goes to microvm run."""
import os
import statistics
import subprocess
import sys
import time

build, root, rounds, options = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 5, sys.argv[4:]
first, whole = [], []
for _ in range(rounds):
    start = time.monotonic()
    with subprocess.Popen([os.path.join(build, "examples/microvm"), "run", *options, root, "--", "echo", "here"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        if process.stdout.read(1) != b"h":
            sys.exit("no output")
        first.append(time.monotonic() - start)
        process.stdout.read()
        if process.wait():
            sys.exit(f"exit status {process.returncode}")
    whole.append(time.monotonic() - start)
print(f"first output {statistics.median(first):.3f} s (best {min(first):.3f}), end {statistics.median(whole):.3f} s; load {os.getloadavg()[0]:.1f}")
