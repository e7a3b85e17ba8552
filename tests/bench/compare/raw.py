# SPDX-License-Identifier: LGPL-2.1-or-later
"""Raw code: the flat image of raw_code.c under libvirtcore, under Unicorn and on the host, by the program raw.c."""
import os
import subprocess

from . import machines

WHICH = {"raw-sha256": 0, "raw-quicksort": 1, "raw-nbody": 2, "raw-matrix": 3, "raw-loop": 4}  # raw_run()'s switch


def program(build):
    return os.path.join(build, "tests", "bench", "compare", "raw")


def has(build, runner):
    return subprocess.run([program(build), program(build) + "_code.bin", runner, "auto", "4", "1"], capture_output=True).returncode != 77


def run(build, runner, engine, row, smoke, timeout):
    """A dict with s and sum."""
    command = [program(build), program(build) + "_code.bin", runner, engine, str(WHICH[row.name]), str(row.smoke if smoke else row.full)]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise machines.Failed(f"{runner}: no answer in {timeout} s") from None
    if out.returncode:
        raise machines.Failed(f"{runner}: {out.stderr.strip() or f'ended with {out.returncode}'}")
    nanoseconds, result = out.stdout.split()
    return {"s": int(nanoseconds) / 1e9, "sum": result}
