# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who runs the rows: guests with a shell on their console, of libvirtcore and of QEMU."""
import os
import re
import signal
import subprocess
import sys
import time

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


class Served(Pair):
    """A guest with a device that a daemon of its own serves."""

    def __init__(self, daemon, start):
        self.daemon = daemon
        try:
            super().__init__(start())
        except Failed:
            self.end_daemon()
            raise

    def end_daemon(self):
        self.daemon.send_signal(signal.SIGCONT)
        self.daemon.kill()
        self.daemon.wait()

    def close(self):
        super().close()
        self.end_daemon()


class Polled(Served):
    """testpmd takes a whole CPU: it sleeps but for its own turn. Its counters come once a second."""

    def __init__(self, daemon, log, counter, start):
        self.log, self.counter = log, counter
        super().__init__(daemon, start)
        self.sleep()

    def sleep(self):
        self.daemon.send_signal(signal.SIGSTOP)

    def wake(self):
        self.daemon.send_signal(signal.SIGCONT)

    def read(self):
        with open(self.log, errors="replace") as f:
            return [int(n) for n in re.findall(self.counter + r"-pps:\s+(\d+)", f.read())]

    def rates(self, seconds):
        # the first one tells of the time asleep as well, the second of the way into the load
        before, end = len(self.read()) + 2, time.monotonic() + seconds * 3 + 10
        while len(self.read()) < before + seconds:
            if time.monotonic() > end or self.daemon.poll() is not None or self.console.process.poll() is not None:
                raise Failed("testpmd tells nothing, or the guest has ended")
            time.sleep(0.1)
        return self.read()[before:before + seconds]


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

    # ---- daemons, and who has its device served by one ----

    def daemon(self, name, command):
        """It serves NAME in the working directory; what it says goes to NAME.log."""
        path = os.path.join(self.work, name)
        try:
            with open(path + ".log", "w") as log:
                process = subprocess.Popen([word.replace("SOCKET", path) for word in command], stdin=subprocess.PIPE, stdout=log, stderr=log)
        except FileNotFoundError:
            raise Failed(f"{command[0]} is not installed (Debian: qemu-system-common, dpdk-dev)") from None
        for _ in range(300):
            if os.path.exists(path) or process.poll() is not None:
                break
            time.sleep(0.1)
        if not os.path.exists(path):
            process.kill()
            with open(path + ".log") as log:
                raise Failed(f"{command[0]} does not serve: {log.read()[-300:]}")
        return process, path

    def our_served(self, device, path, cmdline=""):
        return Console([self.microvm, "--backend", "emu", "--engine", self.args.engine, "--memory", f"{MEMORY}M", "--kernel", self.kernel, "--initrd", self.initrd,
                        "--cmdline", f"console=ttyS0 quiet panic=-1 {cmdline}", "--device", f"vhost-user-{device},socket={path}{self.more()}"])

    def qemu_served(self, device, path, cmdline=""):
        devices = ["-object", f"memory-backend-memfd,id=ram,size={MEMORY}M,share=on", "-numa", "node,memdev=ram", "-chardev", f"socket,id=c,path={path}"]
        if device == "blk":
            devices += ["-device", "vhost-user-blk-pci,chardev=c,num-queues=1"]
        else:
            # without messages: QEMU 7.2 takes them to be KVM's when somebody else serves the card, and under TCG crashes (kvm_virtio_pci_vector_unmask)
            devices += ["-netdev", "vhost-user,id=n,chardev=c", "-device", "virtio-net-pci,netdev=n,vectors=0"]
        return self.qemu_guest(cmdline, devices)

    def served_blk(self, party):
        daemon, path = self.daemon(f"blk-{party}", [
            "qemu-storage-daemon", "--blockdev", f"driver=file,node-name=f,filename={self.image},locking=off", "--blockdev", f"driver={self.args.format},node-name=d,file=f",
            "--export", "type=vhost-user-blk,id=e,node-name=d,addr.type=unix,addr.path=SOCKET,writable=on,num-queues=1"])
        return Served(daemon, lambda: (self.our_served if party == "libvirtcore" else self.qemu_served)("blk", path))

    def served_net(self, party, mode, counter):
        daemon, path = self.daemon(f"{mode}-{party}", [
            # its counters as they come, not by pages
            "stdbuf", "-oL", "dpdk-testpmd", "-l", "0,1", "--no-huge", "-m", "256", "--no-pci", f"--file-prefix=vcb{os.getpid()}{party}", "--no-telemetry", "--vdev=net_vhost0,iface=SOCKET,queues=1",
            "--", f"--forward-mode={mode}", "--auto-start", "--nb-cores=1", "--total-num-mbufs=4096", "--no-mlockall", "--stats-period=1"])
        # an address for what the guest sends
        return Polled(daemon, path + ".log", counter, lambda: (self.our_served if party == "libvirtcore" else self.qemu_served)("net", path, f"address={NETWORK}.2/24"))

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
