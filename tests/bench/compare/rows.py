# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is measured: the rows of the table."""
import collections

# group: vm (in a guest with one vcpu), smp (with two), boot, raw
# kind: compute and system rows have figures of their own to reach; info has none
# stdin: the file of data, or nothing. argv: {work} is the program of work.c, {data} the file, {counts} from full or smoke
Row = collections.namedtuple("Row", "name group kind title stdin argv full smoke", defaults=(False, (), 0, 0))

SHELL = "i=0; while [ $i -lt {n} ]; do i=$((i+1)); done; echo $i"
AWK = 'BEGIN {{ x = 0; for (i = 1; i <= {n}; i++) x = x * 0.999999 + sqrt(i) / (i + 0.5); printf "%.9f\\n", x }}'

ROWS = [
    Row("boot", "boot", "boot", "boot to init"),
    Row("sha256sum", "vm", "compute", "sha256sum, 32 MiB", True, ("/usr/bin/sha256sum",)),
    Row("md5sum", "vm", "compute", "md5sum, 32 MiB", True, ("/usr/bin/md5sum",)),
    Row("gzip", "vm", "compute", "gzip, 32 MiB", True, ("/bin/gzip", "-nc")),
    Row("bzip2", "vm", "compute", "bzip2, 32 MiB", True, ("/bin/bzip2", "-c")),
    Row("awk", "vm", "compute", "mawk, 2,000,000 turns of floating point", False, ("/usr/bin/mawk", AWK), 2000000, 20000),
    Row("shell", "vm", "compute", "dash, loop of 200,000 turns", False, ("/bin/dash", "-c", SHELL), 200000, 2000),
    Row("fork-exec", "vm", "system", "300 x fork + exec of busybox true", False, ("{work}", "spawn", "{n}", "/bin/busybox", "true"), 300, 5),
    Row("pipe", "vm", "system", "pipe ping-pong, 20,000 round trips", False, ("{work}", "pipe", "{n}"), 20000, 200),
    Row("syscall", "vm", "system", "1,000,000 x getppid", False, ("{work}", "syscall", "{n}"), 1000000, 10000),
    Row("page-fault", "vm", "system", "first touch of 256 MiB", False, ("{work}", "touch", "{n}"), 256, 8),
    Row("smp-1", "smp", "info", "compute, 1 process on 2 vcpus", False, ("{work}", "compute", "1", "{n}"), 100000000, 100000),
    Row("smp-2", "smp", "info", "the same, 2 processes on 2 vcpus", False, ("{work}", "compute", "2", "{n}"), 100000000, 100000),
    Row("raw-sha256", "raw", "raw", "raw code: SHA-256 of 16 MiB", full=16384, smoke=64),
    Row("raw-quicksort", "raw", "raw", "raw code: quicksort of 1,000,000 ints", full=1000000, smoke=2000),
    Row("raw-nbody", "raw", "raw", "raw code: n-body, 1,000,000 steps", full=1000000, smoke=200),
    Row("raw-matrix", "raw", "raw", "raw code: matrix product, 384 x 384 doubles", full=384, smoke=16),
    Row("raw-loop", "raw", "raw", "raw code: loop of 1e9 turns", full=1000000000, smoke=10000),
]

PROGRAMS = ("/usr/bin/sha256sum", "/usr/bin/md5sum", "/bin/gzip", "/bin/bzip2", "/usr/bin/mawk", "/bin/dash")


def chosen(names):
    """The rows of a comma-separated list of names or groups; all of them when it is empty. Raises KeyError."""
    if not names:
        return list(ROWS)
    words = [w for w in names.split(",") if w]
    for word in words:
        if not any(word in (r.name, r.group, r.kind) for r in ROWS):
            raise KeyError(word)
    return [r for r in ROWS if {r.name, r.group, r.kind} & set(words)]


def line(row, smoke, work, data):
    """The row as the runner's command."""
    argv = [a.format(work=work, n=row.smoke if smoke else row.full) for a in row.argv]
    return "\t".join([row.name, data if row.stdin else "-", *argv]) + "\n"
