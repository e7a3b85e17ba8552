# SPDX-License-Identifier: LGPL-2.1-or-later
"""Raw code: the flat image of raw_code.c under libvirtcore, under Unicorn and on the host, by the program raw.c."""
import os
import subprocess

from . import machines

WHICH = {"raw-sha256": 0, "raw-quicksort": 1, "raw-nbody": 2, "raw-matrix": 3, "raw-loop": 4}  # raw_run()'s switch


def program(build):
    return os.path.join(build, "tests", "bench", "compare", "raw")


def call(build, runner, engine, which, n, timeout):
    command = [program(build), program(build) + "_code.bin", runner, engine, str(which), str(n)]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise machines.Failed(f"{runner}: no answer in {timeout} s") from None


def has_unicorn(build):
    return call(build, "unicorn", "auto", WHICH["raw-loop"], 1, 60).returncode != 77


def engine_in_use(build, engine):
    """What the library takes when asked for that engine. Failed when it has none such."""
    out = call(build, "libvirtcore", engine, WHICH["raw-loop"], 1, 60)
    if out.returncode:
        raise machines.Failed(out.stderr.strip())
    return out.stdout.split()[2]


def run(build, runner, engine, row, smoke, timeout):
    """A dict with s and sum."""
    out = call(build, runner, engine, WHICH[row.name], row.smoke if smoke else row.full, timeout)
    if out.returncode:
        raise machines.Failed(f"{runner}: {out.stderr.strip() or f'ended with {out.returncode}'}")
    nanoseconds, result = out.stdout.split()[:2]
    return {"s": int(nanoseconds) / 1e9, "sum": result}
