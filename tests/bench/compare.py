#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measures libvirtcore's emu backend beside its peers, in turn, with the host itself as the floor.

In a booted Debian guest (same kernel, same initial RAM disk): libvirtcore against `qemu-system-x86_64 -accel tcg -M microvm -cpu max`; native is
the same binaries over the same bytes on the host. The guests stay up, so rounds after the first find warm code caches on both sides; every round is
in the JSON. Raw code through the public API: libvirtcore against Unicorn 2, the same bytes called on the host. What the rows write is compared.

Writes BUILD/compare.json and BUILD/compare.svg (compare-smoke.* with --smoke). A peer that is not installed is named and left out. Timings decide nothing: the exit status is 0
when every row ran here and on the host and gave the same output everywhere, 1 when not, 77 when what the guest is made of is not installed, 2 for wrong usage."""
import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time

from compare import machines, raw, report, rows


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def arguments():
    names = "\n".join(f"  {r.name:14} {r.title}" for r in rows.ROWS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog=f"rows (or all of a kind: boot, compute, system, smp, raw, or vm for all in the one-vcpu guest):\n{names}")
    parser.add_argument("build", help="meson build directory")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of each row; medians are shown (default 5)")
    parser.add_argument("--engine", choices=("auto", "interp", "jit", "promote"), default="auto", help="engine of backend emu (default auto: the library's own choice)")
    parser.add_argument("--rows", metavar="ROW,ROW...", help="only these rows (default: all)")
    parser.add_argument("--no-peer", action="store_true", help="leave out QEMU and Unicorn")
    parser.add_argument("--no-native", action="store_true", help="leave out the host")
    parser.add_argument("--smoke", action="store_true", help="small sizes and one round: only see that everything runs")
    parser.add_argument("--kernel", metavar="FILE", help="guest kernel (default: Debian's cloud kernel, fetched into BUILD/tests/linux/kernel with apt-get download)")
    parser.add_argument("--timeout", type=float, default=900, metavar="S", help="give up on a row after S seconds (default 900)")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds: expected 1 or more")
    if args.smoke:
        args.rounds = 1
    try:
        args.rows = rows.chosen(args.rows)
    except KeyError as e:
        parser.error(f"--rows: no row or kind {e.args[0]!r}; --help lists them")
    args.build = os.path.abspath(args.build)
    if not os.path.exists(os.path.join(args.build, "tests", "bench", "compare", "runner")):
        parser.error(f"{args.build} has no tests/bench/compare/runner: a meson build directory with tests and backend emu, built by ninja?")
    return args


class Bench:
    def __init__(self, args):
        self.args = args
        self.samples = {row.name: {} for row in args.rows}
        self.failures, self.notes, self.skipped = [], [], False
        self.have_qemu = not args.no_peer and bool(shutil.which("qemu-system-x86_64"))
        if not args.no_peer and not self.have_qemu and any(r.group != "raw" for r in args.rows):
            say("SKIP: qemu-system-x86_64 is not installed (Debian: qemu-system-x86)")

    def group(self, name):
        return [r for r in self.args.rows if r.group == name]

    def sample(self, row, party, number, measure):
        try:
            one = {"round": number, **measure()}
        except machines.Failed as e:
            # a peer's trouble is told, and is not ours
            (self.failures if party in (report.OURS, report.NATIVE) else self.notes).append(f"{row.name}: {e}")
            say(f"  {row.name:14} round {number} {party:12} failed: {e}")
            return
        self.samples[row.name].setdefault(party, []).append(one)
        say(f"  {row.name:14} round {number} {party:12} {report.seconds(one['s'])}")

    def boot(self, guest):
        starters = [("qemu", lambda: machines.qemu(guest, 1, self.args.timeout, base=True))] if self.have_qemu else []
        starters.append((report.OURS, lambda: machines.ours(guest, self.args.engine, 1, self.args.timeout, base=True)))

        def measure(start):
            machine = start()
            machine.close()
            return {"s": machine.ready_s}
        for row in self.group("boot"):
            for number in range(self.args.rounds):
                for party, start in starters:
                    self.sample(row, party, number, lambda: measure(start))

    def in_guest(self, guest, group, cpus):
        chosen, args, up = self.group(group), self.args, {}
        if not chosen:
            return
        starters = {} if args.no_native else {report.NATIVE: lambda: machines.native(guest, args.timeout)}
        if self.have_qemu:
            starters["qemu"] = lambda: machines.qemu(guest, cpus, args.timeout)
        starters[report.OURS] = lambda: machines.ours(guest, args.engine, cpus, args.timeout)

        def measure(row, party):
            if party not in up:
                try:
                    up[party] = starters[party]()
                except machines.Failed:
                    del starters[party]  # what does not come up once is not waited for again
                    raise
            try:
                return up[party].run(row, args.smoke)
            except machines.Failed:
                up.pop(party).close()  # the next row gets a new one
                raise
        try:
            for number in range(args.rounds):
                for row in chosen:
                    for party in list(starters):
                        self.sample(row, party, number, lambda: measure(row, party))
        finally:
            for machine in up.values():
                machine.close()

    def raw(self):
        chosen, args = self.group("raw"), self.args
        runners = ([] if args.no_native else [report.NATIVE]) + ([] if args.no_peer else ["unicorn"]) + [report.OURS]

        def measure(row, runner):
            return raw.run(args.build, runner, args.engine, row, args.smoke, args.timeout)
        if chosen and "unicorn" in runners and not raw.has_unicorn(args.build):
            runners.remove("unicorn")
            say("SKIP: this build has no Unicorn 2 (Debian: libunicorn-dev, then meson setup --reconfigure)")
        for number in range(args.rounds):
            for row in chosen:
                for runner in runners:
                    self.sample(row, runner, number, lambda: measure(row, runner))

    def run(self):
        if any(r.group != "raw" for r in self.args.rows):
            guest = machines.Guest(self.args.build, self.args.kernel, 1 if self.args.smoke else 32)
            try:
                guest.make()
                self.boot(guest)
                self.in_guest(guest, "vm", 1)
                self.in_guest(guest, "smp", 2)
            except machines.Missing as e:
                say(f"SKIP: rows of the guest: {e}")
                self.skipped = True
        self.raw()
        return [report.summary(row, self.samples[row.name]) for row in self.args.rows]


def clocks(samples):
    """How well the guests' clocks agree with the host's, as a sentence."""
    every = [(one, name, party) for name, by_party in samples.items() for party, list_of in by_party.items() for one in list_of if "guest_s" in one]
    if not every:
        return None
    gap = max((abs(one["host_s"] - one["guest_s"]) for one, _, _ in every if one["clock"] == "guest"), default=0)
    text = f"times are by the guests' own clocks, which were at most {gap * 1e3:.1f} ms off the host's"
    false = [f"{party} {name} round {one['round']}: {one['guest_s']:.3f} s for {one['host_s']:.3f}" for one, name, party in every if one["clock"] == "host"]
    return text + (f"; by the host's where they ran false: {', '.join(false)}" if false else "")


def facts(args):
    with open("/proc/cpuinfo") as f:
        cpu = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "?")
    peer = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True).stdout.splitlines()[:1] if shutil.which("qemu-system-x86_64") else []
    return {"host_cpu": cpu, "host_cpus": os.cpu_count(), "host_kernel": platform.release(), "qemu": peer[0] if peer else None, "engine": args.engine,
            "rounds": args.rounds, "smoke": args.smoke, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "load": os.getloadavg()[0]}


def main():
    args = arguments()
    try:
        in_use = raw.engine_in_use(args.build, args.engine)
    except machines.Failed as e:
        sys.exit(f"compare.py: --engine {args.engine}: {e}")
    about = {**facts(args), "engine_in_use": in_use}
    bench = Bench(args)
    entries = bench.run()
    print(report.table(entries))
    clock = clocks(bench.samples)
    if clock:
        print("\n" + clock)
    if not args.smoke:
        print("\n" + report.verdicts(entries))
    bad = bench.failures + [f"{e['name']}: the outputs differ" for e in entries if not e["same_output"]]
    for word, lines in (("NOTE", bench.notes), ("FAIL", bad)):
        for line in lines:
            print(f"{word}: {line}")
    caption = f"{about['host_cpu']}, {about['host_cpus']} CPUs; engine {args.engine if args.engine == in_use else f'{args.engine} ({in_use})'}; {'smoke sizes' if args.smoke else f'medians of {args.rounds} rounds'}; {about['date'][:10]}"
    path = os.path.join(args.build, "compare-smoke" if args.smoke else "compare")
    with open(path + ".json", "w") as f:
        json.dump({**about, "clocks": clock, "rows": entries, "failures": bad, "notes": bench.notes,
                   "figures": [dict(zip(("what", "bound", "measured", "reached"), one)) for one in report.figures(entries)]}, f, indent=1)
    with open(path + ".svg", "w") as f:
        f.write(report.chart(entries, caption))
    sys.exit(1 if bad else 77 if bench.skipped else 0)


main()
