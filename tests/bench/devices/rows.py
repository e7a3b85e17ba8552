# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is measured: the rows of the table. measure(machine, seconds) gives the value; higher is better but for round trips."""
import collections
import re
import statistics

from . import machines

Row = collections.namedtuple("Row", "name kind title unit higher measure")

SERVER = "10.6.0.1"


def must(machine, command, timeout=60):
    status, out = machine.run(command, timeout)
    if status:
        raise machines.Failed(f"{command}: status {status}: {out.strip()[-400:]}")
    return out


def fio(rw, size, field):
    """field: of fio's terse output, version 3."""
    def measure(machine, seconds):
        out = must(machine, f"fio --name=row --filename=/dev/vda --direct=1 --ioengine=libaio --iodepth=32 --thread --rw={rw} --bs={size} --time_based "
                   f"--runtime={seconds} --ramp_time=1 --randrepeat=0 --group_reporting --output-format=terse --terse-version=3", seconds + 60)
        line = re.search(r"^3;fio.*", out, re.M)
        if not line:
            raise machines.Failed(f"fio says: {out}")
        return float(line.group(0).split(";")[field])
    return measure


def mbytes(kib):
    return lambda machine, seconds: kib(machine, seconds) * 1024 / 1e6


def iperf(options):
    def measure(machine, seconds):
        # the other guest may not have got that far
        must(machine, f"until iperf3 -c {SERVER} -n 1K >/dev/null 2>&1; do usleep 200000; done", 60)
        out = must(machine, f"iperf3 -c {SERVER} -t {seconds} -f m {options}", seconds + 60)
        rate = re.search(r"([\d.]+) Mbits/sec\s.*receiver", out)
        if not rate:
            raise machines.Failed(f"iperf3 says: {out}")
        return float(rate.group(1))
    return measure


def round_trip(size):
    def measure(machine, seconds):
        out = must(machine, f"rtt {SERVER} {seconds * 1000} {size}", seconds * 10 + 60)
        return float(re.search(r"median ([\d.]+)", out).group(1))
    return measure


def packets(command):
    """By the daemon's own counters, once a second; command: what the guest does meanwhile."""
    def measure(machine, seconds):
        machine.wake()
        try:
            if command:
                must(machine, command.format(milliseconds=(seconds * 3 + 10) * 1000), seconds * 10 + 60)
            rates = machine.rates(seconds)
            if command:
                must(machine, "killall rtt", 60)
        finally:
            machine.sleep()
        return statistics.median(rates) / 1e3
    return measure


READ_BW, READ_IOPS, WRITE_BW, WRITE_IOPS = 6, 7, 47, 48
ROWS = [
    Row("randread-4k", "disk", "fio, 4k random read", "IOPS", True, fio("randread", "4k", READ_IOPS)),
    Row("randwrite-4k", "disk", "fio, 4k random write", "IOPS", True, fio("randwrite", "4k", WRITE_IOPS)),
    Row("read-128k", "disk", "fio, 128k sequential read", "MB/s", True, mbytes(fio("read", "128k", READ_BW))),
    Row("write-128k", "disk", "fio, 128k sequential write", "MB/s", True, mbytes(fio("write", "128k", WRITE_BW))),
    Row("tcp", "net", "iperf3, TCP", "Mbit/s", True, iperf("")),
    Row("tcp-reverse", "net", "iperf3, TCP, the other way", "Mbit/s", True, iperf("-R")),
    Row("vhost-randread-4k", "vhost-blk", "vhost-user-blk, fio, 4k random read", "IOPS", True, fio("randread", "4k", READ_IOPS)),
    Row("vhost-randwrite-4k", "vhost-blk", "vhost-user-blk, fio, 4k random write", "IOPS", True, fio("randwrite", "4k", WRITE_IOPS)),
    Row("vhost-read-128k", "vhost-blk", "vhost-user-blk, fio, 128k sequential read", "MB/s", True, mbytes(fio("read", "128k", READ_BW))),
    Row("vhost-rx", "vhost-rx", "vhost-user-net, frames of testpmd that reach the guest", "kpps", True, packets(None)),
    Row("vhost-tx", "vhost-tx", "vhost-user-net, frames of the guest that reach testpmd", "kpps", True, packets("(rtt flood 10.6.0.255 {milliseconds} 18 &)")),
    Row("round-trip", "net", "UDP round trip, 64 bytes", "us", False, round_trip(64)),
]
