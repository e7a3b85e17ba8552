#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measures the devices as a booted Linux sees them, libvirtcore's emu backend beside `qemu-system-x86_64 -accel tcg`, turn by turn.

The same kernel, initial RAM disk, disk image and guest programs on both sides, one vcpu a guest, virtio over PCI. Disk: fio, past the guest's page cache, on a raw
image that lies in the host's. Network: iperf3 and UDP round trips between two guests, on a `switch` of one process against two QEMUs joined by
-netdev stream or dgram.

Kinds vhost-blk, vhost-rx and vhost-tx, only when asked for: the same guest and the same daemon (qemu-storage-daemon, testpmd), with libvirtcore or QEMU as the
vhost-user front-end. Here the target is not to be slower.

Writes BUILD/devices.json (devices-smoke.json with --smoke). Timings decide nothing: the exit status is 0 when every row ran here, 1 when not, 77 when what the
guests are made of is not installed, 2 for wrong usage."""
import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time

from devices import machines, report, rows


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="rows: " + ", ".join(r.name for r in rows.ROWS))
    parser.add_argument("build", help="meson build directory")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds of each row; medians are shown (default 3)")
    parser.add_argument("--seconds", type=int, default=4, metavar="S", help="that a row runs (default 4)")
    parser.add_argument("--rows", metavar="ROW,ROW...", help="only these, or all of a kind: disk, net, vhost-blk, vhost-rx, vhost-tx (default: disk,net)")
    parser.add_argument("--engine", default="auto", help="engine of backend emu (default auto)")
    parser.add_argument("--properties", default="", metavar="K=V,...", help="further ones of libvirtcore's devices")
    parser.add_argument("--format", choices=("raw", "qcow2"), default="raw", help="of the disk image (default raw)")
    parser.add_argument("--no-peer", action="store_true", help="leave out QEMU")
    parser.add_argument("--smoke", action="store_true", help="small sizes and one round, without QEMU: only see that everything runs")
    args = parser.parse_args()
    if args.smoke:
        args.rounds = args.seconds = 1
    args.no_peer |= args.smoke
    names = args.rows.split(",") if args.rows else ["disk", "net"]
    unknown = [n for n in names if not any(n in (r.name, r.kind) for r in rows.ROWS)]
    if unknown:
        parser.error(f"--rows: no row or kind {unknown[0]!r}; --help lists them")
    args.rows = [r for r in rows.ROWS if {r.name, r.kind} & set(names)]
    args.build = os.path.abspath(args.build)
    if args.rounds < 1 or args.seconds < 1:
        parser.error("--rounds, --seconds: expected 1 or more")
    return args


class Bench:
    def __init__(self, args, setting):
        self.args, self.setting = args, setting
        self.samples = {r.name: {} for r in args.rows}
        self.failures, self.notes, self.waits = [], [], []
        self.qemu = not args.no_peer and bool(shutil.which("qemu-system-x86_64"))
        if not args.no_peer and not self.qemu:
            say("SKIP: qemu-system-x86_64 is not installed (Debian: qemu-system-x86)")

    def start(self, starters):
        """{party: machine} of what comes up."""
        up = {}
        for party, starter in starters.items():
            try:
                up[party] = starter()
            except machines.Failed as e:
                self.trouble(party, f"{party} does not come up: {e}")
        return up

    def trouble(self, party, what):
        (self.failures if party == report.OURS else self.notes).append(what)
        say("  " + what)

    def kind(self, name, starters):
        chosen = [r for r in self.args.rows if r.kind == name]
        up = self.start(starters) if chosen else {}
        try:
            for number in range(self.args.rounds):
                for row in chosen:
                    for party in list(up):
                        try:
                            start, waited = time.monotonic(), up[party].waited()
                            value = row.measure(up[party], self.args.seconds)
                            # as part of the time: how busy the host was with other things
                            waited = (up[party].waited() - waited) / (time.monotonic() - start)
                        except machines.Failed as e:
                            self.trouble(party, f"{row.name}: {party}: {e}")
                            up.pop(party).close()
                            continue
                        self.samples[row.name].setdefault(party, []).append(value)
                        self.waits.append(waited)
                        say(f"  {row.name:16} round {number} {party:14} {value:10.1f} {row.unit:6}  waited {waited * 100:.0f}%")
        finally:
            for machine in up.values():
                machine.close()

    def run(self):
        disk, net = {report.OURS: self.setting.our_disk}, {report.OURS: self.setting.our_pair}
        if self.qemu:
            disk = {"qemu": self.setting.qemu_disk, **disk}
            net = {"qemu-stream": lambda: self.setting.qemu_pair("stream"), "qemu-dgram": lambda: self.setting.qemu_pair("dgram"), **net}
        self.kind("disk", disk)
        self.kind("net", net)
        parties = (["qemu"] if self.qemu else []) + [report.OURS]
        self.kind("vhost-blk", {p: lambda p=p: self.setting.served_blk(p) for p in parties})
        for name, mode, counter in (("vhost-rx", "txonly", "Tx"), ("vhost-tx", "rxonly", "Rx")):
            self.kind(name, {p: lambda p=p: self.setting.served_net(p, mode, counter) for p in parties})
        return [report.summary(row, self.samples[row.name]) for row in self.args.rows]


def main():
    args = arguments()
    with tempfile.TemporaryDirectory(dir=args.build) as work:
        try:
            setting = machines.Setting(args, work)
        except machines.Missing as e:
            say(f"SKIP: {e}")
            sys.exit(77)
        load = os.getloadavg()[0]
        bench = Bench(args, setting)
        entries = bench.run()
    print(report.table(entries))
    if bench.waits:
        print(f"\nthe guests' threads waited for a CPU of the host {statistics.median(bench.waits) * 100:.0f}% of the time (median; at most {max(bench.waits) * 100:.0f}%)")
    if bench.qemu:
        print("\n" + report.verdicts(entries))
    for word, lines in (("NOTE", bench.notes), ("FAIL", bench.failures)):
        for line in lines:
            print(f"{word}: {line}")
    with open(os.path.join(args.build, "devices-smoke.json" if args.smoke else "devices.json"), "w") as f:
        json.dump({"date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "load_before": load, "load_after": os.getloadavg()[0], "host_cpus": os.cpu_count(),
                   "rounds": args.rounds, "seconds": args.seconds, "format": args.format, "properties": args.properties, "waited": bench.waits, "rows": entries,
                   "failures": bench.failures, "notes": bench.notes}, f, indent=1)
    sys.exit(1 if bench.failures else 0)


main()
