# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who runs the rows of the guest: libvirtcore, QEMU, and the host itself. Each is one process that speaks runner.c's protocol on its standard
input and output; a machine stays up, idle, between its rows, so that the rows of a pair follow each other at once."""
import os
import random
import re
import select
import shutil
import subprocess
import time

from . import rows

TOOLS = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "tools")
GUEST_WORK, GUEST_DATA = "/bench/work", "/bench/data"
CMDLINE = "console=ttyS0 quiet panic=-1"
START_S = 180  # no boot takes longer, however busy the host


class Failed(Exception):
    """A row did not run to its end."""


class Missing(Exception):
    """This host lacks what the guest is made of."""


class Machine:
    """A process with runner.c inside. ready_s: host seconds from its start to runner's first line."""

    def __init__(self, name, command, work, data, timeout):
        self.name, self.work, self.data, self.timeout = name, work, data, timeout
        self.seen = b""  # console output since the last line that was waited for
        self.tail = []
        started = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
        try:
            self.ready_s = self.expect(rb"bench: init (\d+) cpus", min(timeout, START_S))[1] - started
        except Failed:
            self.close()
            raise

    def expect(self, pattern, timeout=None):
        """The match of the next line that has pattern, and when it came."""
        timeout = timeout or self.timeout
        deadline = time.monotonic() + timeout
        while True:
            while b"\n" in self.seen:
                line, self.seen = self.seen.split(b"\n", 1)
                self.tail = self.tail[-20:] + [line.decode(errors="replace").rstrip()]
                match = re.search(pattern, line)
                if match:
                    return match, self.arrived
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise Failed(self.trouble(f"no answer in {timeout:.0f} s"))
            more = os.read(self.process.stdout.fileno(), 65536)
            self.arrived = time.monotonic()
            if not more:
                raise Failed(self.trouble("ended"))
            self.seen += more

    def trouble(self, what):
        return f"{self.name}: {what}; its last lines:\n    " + "\n    ".join(self.tail[-8:])

    def run(self, row, smoke):
        """A dict: s, and by which clock; bytes and sum of the output."""
        try:
            self.process.stdin.write(rows.line(row, smoke, self.work, self.data).encode())
        except BrokenPipeError:
            raise Failed(self.trouble("ended")) from None
        begin = self.expect(rb"bench: start ")[1]
        end = self.expect(rb"bench: done ")[1]
        got = self.expect(rb"bench: row \S+ (\d+) (\d+) (\d+) ([0-9a-f]{16})")[0]
        if got.group(2) != b"0":
            raise Failed(self.trouble(f"{row.name} ended with wait status {int(got.group(2)):#x}"))
        guest_s, host_s = int(got.group(1)) / 1e9, end - begin
        # A guest whose clock runs false is measured by ours. Ours is the poorer one for short rows: on a busy host a line is read late.
        clock = "guest" if abs(guest_s - host_s) < 0.2 + 0.05 * host_s else "host"
        return {"s": max(guest_s if clock == "guest" else host_s, 1e-9), "clock": clock, "guest_s": guest_s, "host_s": host_s, "bytes": int(got.group(3)), "sum": got.group(4).decode()}

    def close(self):
        """Asks it to end, then makes it."""
        try:
            self.process.stdin.write(b"end\n")
            self.process.stdin.close()
        except OSError:
            pass
        for last_word in (self.process.terminate, self.process.kill):
            try:
                self.process.wait(3)
                break
            except subprocess.TimeoutExpired:
                last_word()
        self.process.wait()
        self.process.stdout.close()


class Guest:
    """What the machines boot, made in the build directory when first needed."""

    def __init__(self, build, kernel, mib):
        self.build, self.mib = build, mib
        self.directory = os.path.join(build, "compare")
        os.makedirs(self.directory, exist_ok=True)
        programs = os.path.join(build, "tests", "bench", "compare")
        self.runner, self.work = os.path.join(programs, "runner"), os.path.join(programs, "work")
        self.data = os.path.join(self.directory, f"data-{mib}")
        self.base = os.path.join(self.directory, "base.gz")
        self.initrd = os.path.join(self.directory, f"initrd-{mib}")
        self.kernel = kernel

    def get_kernel(self):
        # where the tests of tests/linux keep theirs
        got = subprocess.run(["sh", os.path.join(TOOLS, "get-kernel.sh"), os.path.join(self.build, "tests", "linux", "kernel")], stdout=subprocess.PIPE, text=True)
        if got.returncode:
            raise Missing("no Debian cloud kernel to be had; --kernel names one")
        return got.stdout.strip()

    def make(self):
        missing = [p for p in rows.PROGRAMS + ("busybox", "cpio", "gzip") if not shutil.which(p)]
        if missing:
            raise Missing(f"not installed: {', '.join(missing)} (Debian: bzip2 mawk dash busybox-static cpio gzip)")
        self.kernel = self.kernel or self.get_kernel()
        make_data(self.data, self.mib)
        sources = [self.runner, self.work, os.path.join(TOOLS, "mkinitramfs.sh"), rows.__file__, *rows.PROGRAMS]
        if not newer(self.base, sources):
            files = {self.work: GUEST_WORK, **{p: p for p in rows.PROGRAMS}}
            for program in rows.PROGRAMS:
                files.update({p: p for p in libraries(program)})
            subprocess.run(["sh", os.path.join(TOOLS, "mkinitramfs.sh"), self.base, self.runner, *(f"{a}:{b}" for a, b in files.items())], check=True)
        if not newer(self.initrd, [self.base, self.data]):
            self.append_data()

    def append_data(self):
        """The data as a second, uncompressed archive after the first: a copy for the kernel, not a benchmark of its gunzip."""
        root = os.path.join(self.directory, "root")
        os.makedirs(os.path.join(root, "bench"), exist_ok=True)
        link = os.path.join(root, "bench", "data")
        if os.path.lexists(link):
            os.unlink(link)
        os.link(self.data, link)
        with open(self.initrd + ".new", "wb") as out:
            with open(self.base, "rb") as f:
                base = f.read()
            out.write(base + bytes(-len(base) % 512))
            out.flush()
            subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], cwd=root, input="bench\nbench/data\n", text=True, stdout=out, check=True)
        os.rename(self.initrd + ".new", self.initrd)


def newer(path, sources):
    return os.path.exists(path) and all(os.path.getmtime(s) <= os.path.getmtime(path) for s in sources)


def libraries(program):
    out = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"(/\S+) \(0x", out)


def make_data(path, mib):
    """Seven parts of text to one of noise, always the same: words of unequal frequency in lines, as gzip and bzip2 meet them."""
    if os.path.exists(path):
        return
    rng = random.Random(20241121)
    words = ["".join(rng.choices("etaoinshrdlucmfwypvbgkjqxz", weights=range(26, 0, -1), k=rng.randint(1, 11))) for _ in range(6000)]
    weights = [1 / (i + 3) for i in range(len(words))]
    ends = [" "] * 9 + ["\n"]
    with open(path + ".new", "wb") as out:
        for _ in range(mib * 16):  # pieces of 64 KiB
            text = "".join(w + rng.choice(ends) for w in rng.choices(words, weights, k=16000))
            out.write(text.encode()[:57344].ljust(57344, b"."))
            out.write(rng.randbytes(8192))
    os.rename(path + ".new", path)


def native(guest, timeout):
    return Machine("native", [guest.runner], guest.work, guest.data, timeout)


def qemu_cmdline(guest):
    """The same kernel command line and what QEMU's machine needs more. QEMU's TSC is the host's, but nothing tells the guest how fast it runs, and
    microvm has no clock to find out with but the PIT: on a busy host that fails, and the boot stops there without a word. tsc=reliable: else
    the kernel drops the TSC for the tick (always with two vcpus, by chance with one), and its clock runs false."""
    khz = subprocess.run([guest.runner, "tsc"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{CMDLINE} tsc_early_khz={khz} tsc=reliable"


def qemu(guest, cpus, timeout, base=False):
    command = ["qemu-system-x86_64", "-accel", "tcg", "-M", "microvm", "-cpu", "max", "-m", "1G", "-smp", str(cpus), "-no-reboot", "-display", "none",
               "-monitor", "none", "-serial", "stdio", "-kernel", guest.kernel, "-initrd", guest.base if base else guest.initrd, "-append", qemu_cmdline(guest)]
    return Machine("qemu", command, GUEST_WORK, GUEST_DATA, timeout)


def ours(guest, engine, cpus, timeout, base=False):
    command = [os.path.join(guest.build, "examples", "microvm"), "--backend", "emu", "--engine", engine, "--memory", "1G", "--cpus", str(cpus),
               "--kernel", guest.kernel, "--initrd", guest.base if base else guest.initrd, "--cmdline", CMDLINE]
    return Machine("libvirtcore", command, GUEST_WORK, GUEST_DATA, timeout)
