# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who runs the rows: guests with a shell on their console, of libvirtcore and of QEMU."""
import os
import subprocess
import sys

TOOLS = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "tools")
sys.path.insert(0, TOOLS)
from console import Console, Failed  # noqa: E402, F401

PROGRAMS = ("fio", "iperf3")
MEMORY = 768  # MiB: the programs are twice in memory until they are unpacked
NETWORK = "10.6.0"
# One word for the shell of tools-init.sh, whose words are separated by commas.
SERVE = "sh,/usr/bin/serve.sh"
START_S = 180


class Missing(Exception):
    """This host lacks what the guests are made of."""


class Pair:
    """The guest that the commands go to, and what else must end with it."""

    def __init__(self, console, others=()):
        self.console, self.others = console, others
        self.run = console.run
        try:
            console.expect("tools: ready", START_S)
        except Failed:
            self.close()
            raise

    def waited(self):
        """Seconds that the threads of all of it had something to do and no CPU of the host to do it on."""
        total = 0
        for one in (self, *self.others):
            tasks = f"/proc/{one.console.process.pid}/task"
            for task in os.listdir(tasks):
                try:
                    with open(os.path.join(tasks, task, "schedstat")) as f:
                        total += int(f.read().split()[1]) / 1e9
                except (FileNotFoundError, ProcessLookupError):
                    pass  # it has ended
        return total

    def close(self):
        for one in (self.console, *self.others):
            one.close()


class Setting:
    """Kernel, initial RAM disk and image, made in the build directory when first needed."""

    def __init__(self, args, work):
        self.args, self.work = args, work
        programs = os.path.join(args.build, "tests", "bench", "devices")
        kernels = os.path.join(args.build, "tests", "linux", "kernel")
        self.pair = os.path.join(args.build, "tests", "linux", "pair")
        self.microvm = os.path.join(args.build, "examples", "microvm")
        self.kernel = self.tool("sh", "get-kernel.sh", kernels)
        self.initrd = self.tool("bash", "make-tools.sh", os.path.join(args.build, "devices"), self.kernel, kernels, *PROGRAMS, os.path.join(programs, "rtt"),
                                os.path.join(os.path.dirname(os.path.abspath(__file__)), "serve.sh"))
        self.image = os.path.join(work, "image")
        self.make_image(os.path.join(args.build, "devices"))

    def tool(self, shell, name, *arguments):
        done = subprocess.run([shell, os.path.join(TOOLS, name), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise Missing(f"{name}: {(done.stderr.strip().splitlines() or [f'status {done.returncode}'])[-1]}")
        return done.stdout.strip()

    def make_image(self, directory):
        """No holes: they would be read faster than data."""
        raw = self.image if self.args.format == "raw" else self.image + ".raw"
        with open(raw, "wb") as f:
            for _ in range(16 if self.args.smoke else 512):
                f.write(os.urandom(1 << 20))
        if self.args.format == "qcow2":
            try:
                subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, self.image], check=True)
            except FileNotFoundError:
                raise Missing("qemu-img is not installed (Debian: qemu-utils)") from None
            os.unlink(raw)

    def more(self):
        return f",{self.args.properties}" if self.args.properties else ""

    def our_disk(self):
        return Pair(Console([self.microvm, "--backend", "emu", "--engine", self.args.engine, "--memory", f"{MEMORY}M", "--kernel", self.kernel, "--initrd",
                             self.initrd, "--cmdline", "console=ttyS0 quiet panic=-1", "--device", f"virtio-blk,image={self.image},format={self.args.format}{self.more()}"]))

    def our_pair(self):
        # its first guest talks on standard error
        return Pair(Console([self.pair, self.kernel, self.initrd, str(MEMORY), NETWORK, SERVE, *([self.args.properties] if self.args.properties else [])],
                            stderr=subprocess.DEVNULL))

    def qemu_guest(self, cmdline, devices):
        return Console(["qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-cpu", "max", "-m", str(MEMORY), "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
                        "-kernel", self.kernel, "-initrd", self.initrd, "-append", f"console=ttyS0 quiet panic=-1 {cmdline}", *devices])

    def qemu_disk(self):
        return Pair(self.qemu_guest("", ["-drive", f"if=none,id=d,file={self.image},format={self.args.format},cache=writeback,file.locking=off", "-device", "virtio-blk-pci,drive=d"]))

    def qemu_pair(self, kind):
        ends = [os.path.join(self.work, f"{kind}{n}") for n in range(2)]
        if kind == "stream":
            nets = [f"server={'off' if n else 'on'},addr.type=unix,addr.path={ends[0]}" for n in range(2)]
        else:
            nets = [f"local.type=unix,local.path={ends[n]},remote.type=unix,remote.path={ends[1 - n]}" for n in range(2)]

        def guest(n, run):
            return self.qemu_guest(f"address={NETWORK}.{n + 1}/24{run}", ["-netdev", f"{kind},id=n,{nets[n]}", "-device", f"virtio-net-pci,netdev=n,mac=52:54:00:00:00:0{n + 1}"])
        first = Pair(guest(0, f" run={SERVE}"))
        # only then: one that boots without its peer may not hear it later
        return Pair(guest(1, ""), [first])
