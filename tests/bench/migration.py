#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measures live migration from one process to the next on this host, libvirtcore's emu backend beside `qemu-system-x86_64 -accel tcg`, turn by turn.

The same kernel and initial RAM disk, the same memory, over a unix socket, at most 50 ms of downtime by estimate, no other limit. Two guests: one sleeps (idle), one
dirties 100 MB/s (busy); half of their memory is in use. A guest that was moved is moved on from there; one that did not survive is booted again. Guests that are not measured are stopped.

downtime: libvirtcore's own figure, from the stop to the other side's word that it has the guest; QEMU's from the event STOP here to RESUME there. total: what
each says itself. Writes BUILD/migration.json (migration-smoke.json with --smoke). Timings decide nothing: the exit status is 0 when every guest was moved, 1 when
not, 77 when what the guests are made of is not installed, 2 for wrong usage."""
import argparse
import functools
import json
import os
import shutil
import sys
import tempfile
import time

from migration import machines, report


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="meson build directory")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="moves of each guest (default 20)")
    parser.add_argument("--memory", type=int, default=512, metavar="MIB", help="of the guests (default 512)")
    parser.add_argument("--rate", type=int, default=100, metavar="MB", help="that the busy guest writes a second (default 100)")
    parser.add_argument("--postcopy", action="store_true", help="also libvirtcore by post-copy at once")
    parser.add_argument("--no-peer", action="store_true", help="leave out QEMU")
    parser.add_argument("--smoke", action="store_true", help="one round of small busy guests, without QEMU: only see that everything runs")
    args = parser.parse_args()
    if args.smoke:
        args.rounds, args.memory, args.no_peer = 1, 128, True
    args.build = os.path.abspath(args.build)
    if args.rounds < 1 or not 128 <= args.memory <= 2048 or args.rate < 1:
        parser.error("--rounds and --rate: expected 1 or more; --memory: 128 to 2048")
    return args


def move(up, name, start):
    """What moving that party's guest was like; it is booted first where it is not there."""
    party = up[name] = up.get(name) or start()
    party.wake()
    wrote = party.wrote()
    result = {"wrote_mb_s": wrote, **party.move()}
    party.sleep()
    return result


def measure(guest, up, starters, args, trouble):
    """{party: [move, ...]}, in turn."""
    samples = {name: [] for name in starters}
    for number in range(args.rounds):
        for name, start in starters.items():
            try:
                one = move(up, name, start)
            except (machines.Failed, OSError) as e:
                trouble(name, f"{guest}, round {number}: {name}: {e}")
                if name in up:
                    up.pop(name).close()
                continue
            samples[name].append(one)
            say(f"  {guest} round {number} {name:20} downtime {one['downtime_ms']:8.2f} ms, total {one['total_ms']:8.1f} ms, {one['rounds']} rounds, {one['sent_mib']:.0f} MiB sent, wrote {one['wrote_mb_s']:.0f} MB/s")
    return samples


def run(args, setting, starters, trouble):
    samples = {}
    for guest, rate in (("busy", args.rate),) if args.smoke else (("idle", 0), ("busy", args.rate)):
        up = {}
        starts = {name: functools.partial(party, setting, rate) for name, party in starters.items()}
        try:
            samples[guest] = measure(guest, up, starts, args, trouble)
        finally:
            for party in up.values():
                party.close()
    return samples


def main():
    args = arguments()
    starters = {} if args.no_peer else {report.PEER: machines.Qemu}
    if starters and not shutil.which("qemu-system-x86_64"):
        say("SKIP: qemu-system-x86_64 is not installed (Debian: qemu-system-x86)")
        starters = {}
    starters[report.OURS] = machines.Ours
    if args.postcopy or args.smoke:
        starters[report.POSTCOPY] = machines.Postcopy
    failures, notes, load = [], [], os.getloadavg()[0]

    def trouble(name, what):
        """A peer's is told, and is not ours."""
        (notes if name == report.PEER else failures).append(what)
        say(f"  {what.splitlines()[0]}")
    with tempfile.TemporaryDirectory() as work:
        try:
            samples = run(args, machines.Setting(args, work), starters, trouble)
        except machines.Missing as e:
            say(f"SKIP: {e}")
            sys.exit(77)
    rows = report.entries(samples)
    print(report.table(rows))
    print("\n" + report.verdicts(rows))
    for word, lines in (("NOTE", notes), ("FAIL", failures)):
        for line in lines:
            print(f"{word}: {line.splitlines()[0]}")
    with open(os.path.join(args.build, "migration-smoke.json" if args.smoke else "migration.json"), "w") as f:
        json.dump({"date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "load_before": load, "load_after": os.getloadavg()[0], "host_cpus": os.cpu_count(), "rounds": args.rounds,
                   "memory_mib": args.memory, "rate_mb_s": args.rate, "rows": rows, "moves": samples, "failures": failures, "notes": notes}, f, indent=1)
    sys.exit(1 if failures else 0)


main()
