#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the benchmarks beside their peers, pairs in turn, and prints a table; JSON goes to BUILD/bench.json.

run.py [--smoke] [--rounds N] BUILD
Peers: the bare KVM ioctls (in the same programs), bochs (Debian packages bochs, bochs-term, bochsbios, vgabios).
A peer that is not installed is named and left out. compare.py has QEMU, Unicorn and booted guests.
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
INNER = 8192        # inner turns of loop.S an outer turn
INSTRUCTIONS = 13   # of an inner turn, when the value is not zero
BOCHSRC = """megs: 64
cpu: model=corei7_haswell_4770, count=1, ips=100000000
romimage: file=$BXSHARE/BIOS-bochs-latest
vgaromimage: file=$BXSHARE/VGABIOS-lgpl-latest
floppya: 1_44={dir}/floppy.img, status=inserted
boot: floppy
port_e9_hack: enabled=1
display_library: term
sound: driver=dummy
speaker: enabled=0
clock: sync=none
log: {dir}/bochs.log
"""


def program(build, name):
    return os.path.join(build, "tests", "bench", name)


def json_lines(command):
    out = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if out.returncode:
        print(f"  {os.path.basename(command[0])}: {out.stderr.strip()}", file=sys.stderr)
        return []
    return [json.loads(line) for line in out.stdout.splitlines() if line.startswith("{")]


def assemble(directory, turns):
    obj, image = os.path.join(directory, "loop.o"), os.path.join(directory, f"loop{turns}.bin")
    subprocess.run(["as", "--64", "--defsym", f"TURNS={turns}", "-o", obj, os.path.join(HERE, "loop.S")], check=True)
    subprocess.run(["ld", "-Ttext=0x7c00", "--oformat", "binary", "-e", "start", "-o", image, obj], check=True)
    return image


def run_ours(build, image):
    start = time.monotonic()
    out = subprocess.run([os.path.join(build, "examples", "microvm"), "--backend", "emu", "--image", "flat", "--address", "0x7c00", "--memory", "64M",
                          "--kernel", image, "--serial", "none", "--device", "debugcon,output=stdout", "--debug-exit"],
                         capture_output=True, text=True, timeout=300)
    return time.monotonic() - start, out.stdout.strip()[-16:]


def run_bochs(directory, image):
    with open(image, "rb") as f, open(os.path.join(directory, "floppy.img"), "wb") as disk:
        disk.write(f.read().ljust(1474560, b"\0"))
    with open(os.path.join(directory, "bochsrc"), "w") as f:
        f.write(BOCHSRC.format(dir=directory))
    with open(os.path.join(directory, "debugger"), "w") as f:
        f.write("c\n")  # Debian's build stops in its debugger first
    start = time.monotonic()
    # its text display wants a terminal
    out = subprocess.run(["script", "-qec", f"bochs -q -f {directory}/bochsrc -rc {directory}/debugger", "/dev/null"], capture_output=True,
                         stdin=subprocess.DEVNULL, timeout=300, env={**os.environ, "TERM": "xterm"})
    took = time.monotonic() - start
    sums = re.findall(rb"(?m)^.*?([0-9a-f]{16})\r?$", out.stdout)
    return took, sums[-1].decode() if sums else ""


def interpreter(build, rounds, short, long):
    """Two lengths of the same loop, so that start-up cancels out."""
    rows = {"ours": [], "bochs": []}
    have_bochs = shutil.which("bochs") and shutil.which("script")
    with tempfile.TemporaryDirectory() as directory:
        images = [assemble(directory, short), assemble(directory, long)]
        work = (long - short) * INNER * INSTRUCTIONS
        for _ in range(rounds):
            a, b = run_ours(build, images[0])[0], run_ours(build, images[1])[0]
            rows["ours"].append(work / (b - a) / 1e6)
            if have_bochs:
                a, b = run_bochs(directory, images[0])[0], run_bochs(directory, images[1])[0]
                rows["bochs"].append(work / (b - a) / 1e6)
    result = {"name": "interpreter-loop", "ours_mips": statistics.median(rows["ours"])}
    if rows["bochs"]:
        result["bochs_mips"] = statistics.median(rows["bochs"])
        result["ratio"] = statistics.median(o / p for o, p in zip(rows["ours"], rows["bochs"]))
    else:
        print("  bochs is not installed: apt-get install bochs bochs-term bochsbios vgabios", file=sys.stderr)
    return [result]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="only see that everything runs")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of each comparison (default 7)")
    parser.add_argument("build", help="meson build directory; a release build for real figures")
    args = parser.parse_args()
    build = os.path.abspath(args.build)
    results = []
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("kvm exits, life cycle", file=sys.stderr)
        results += json_lines([program(build, "kvm-exit"), "3" if args.smoke else "31", "50" if args.smoke else "2000"])
        results += json_lines([program(build, "lifecycle"), "3" if args.smoke else "51"])
        results += json_lines([program(build, "resident"), "kvm"])
    else:
        print("  /dev/kvm may not be used: its rows are left out", file=sys.stderr)
    results += json_lines([program(build, "resident"), "emu"])
    print("interpreter", file=sys.stderr)
    if args.smoke:
        with tempfile.TemporaryDirectory() as directory:
            took, total = run_ours(build, assemble(directory, 10))
            if not re.fullmatch("[0-9a-f]{16}", total):
                sys.exit(f"the loop printed {total!r}: expected 16 digits")
            results.append({"name": "interpreter-loop", "ours_s": took})
    else:
        results += interpreter(build, args.rounds, 100, 2100)
    for row in results:
        print(f"{row['name']:18} " + "  ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items() if k != "name"))
    with open(os.path.join(build, "bench.json"), "w") as f:
        json.dump(results, f, indent=1)


main()
