# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests that are moved from one process to the next, of libvirtcore and of QEMU: both are steered in the manner of QMP."""
import json
import os
import signal
import socket
import subprocess
import sys
import time

TOOLS = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "tools")
sys.path.insert(0, TOOLS)
from console import Console, Failed  # noqa: E402, F401

START_S = 180
MOVE_S = 120
CMDLINE = "console=ttyS0 quiet panic=-1"


class Missing(Exception):
    """This host lacks what the guests are made of."""


class Monitor:
    def __init__(self, path, hello):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise Failed(f"no monitor at {path}") from None
                time.sleep(0.005)
        self.lines = self.socket.makefile("r")
        self.events = []
        self.lines.readline()
        self.ask(hello)

    def ask(self, command, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(self.lines.readline() or '{"error": {"desc": "the connection has ended"}}')
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise Failed(f"{command}: {answer['error']['desc']}")
            else:
                return answer["return"]

    def event(self, name):
        """When that event came, host microseconds."""
        while True:
            for one in self.events:
                if one["event"] == name:
                    return one["timestamp"]["seconds"] * 10**6 + one["timestamp"]["microseconds"]
            self.events.append(json.loads(self.lines.readline()))


class Setting:
    """Kernel and initial RAM disk, made in the build directory when first needed."""

    def __init__(self, args, work):
        self.args, self.work, self.count = args, work, 0
        self.microvm = os.path.join(args.build, "examples", "microvm")
        got = subprocess.run(["sh", os.path.join(TOOLS, "get-kernel.sh"), os.path.join(args.build, "tests", "linux", "kernel")], stdout=subprocess.PIPE, text=True)
        if got.returncode:
            raise Missing("no Debian cloud kernel to be had")
        self.kernel = got.stdout.strip()
        self.initrd = os.path.join(work, "initrd.gz")
        made = subprocess.run(["sh", os.path.join(TOOLS, "mkinitramfs.sh"), self.initrd, os.path.join(args.build, "tests", "bench", "migration", "guest")], stderr=subprocess.PIPE, text=True)
        if made.returncode:
            raise Missing(f"no initial RAM disk: {made.stderr.strip()} (Debian: busybox-static cpio gzip)")

    def path(self, name):
        self.count += 1
        return os.path.join(self.work, f"{name}{self.count}")

    def cmdline(self, rate):
        return f"{CMDLINE} fill={self.args.memory // 2} dirty={rate}"


class Party:
    """One guest, wherever it is now, asleep but while it is measured."""
    hello, options = "capabilities", {}

    def __init__(self, setting, rate):
        self.setting, self.rate = setting, rate
        self.console, path = self.start(None)
        try:
            self.console.expect("migration: ready", START_S)
            self.monitor = self.attach(path)
        except Failed:
            self.close()
            raise
        self.sleep()

    def attach(self, path):
        return Monitor(path, self.hello)

    def sleep(self):
        os.kill(self.console.process.pid, signal.SIGSTOP)

    def wake(self):
        os.kill(self.console.process.pid, signal.SIGCONT)

    def wrote(self):
        """MB a second that the guest says it writes, by the first second that lies in this waking."""
        if not self.rate:
            time.sleep(0.5)
            return 0.0
        self.console.at = len(self.console.log)
        self.console.expect(r"wrote \S+ MB/s", 60)
        return float(self.console.expect(r"wrote ([0-9.]+) MB/s", 60).group(1))

    def move(self):
        """To another process: what that was like."""
        address = self.setting.path("to")
        console, path = self.start(f"unix:{address}")
        try:
            there = self.listening(address, path)
            self.monitor.ask("migrate", uri=f"unix:{address}", **self.options)
            result = self.follow(there)
            there = there or self.attach(path)
        except Failed:
            console.close()
            raise
        self.console.close()
        self.console, self.monitor = console, there
        return result

    def close(self):
        self.console.close()


class Ours(Party):
    def start(self, incoming):
        path = self.setting.path("ours")
        command = [self.setting.microvm, "--backend", "emu", "--monitor", path]
        command += ["--incoming", incoming] if incoming else ["--memory", f"{self.setting.args.memory}M", "--kernel", self.setting.kernel, "--initrd", self.setting.initrd,
                                                              "--cmdline", self.setting.cmdline(self.rate)]
        return Console(command), path

    def listening(self, address, path):
        """There is no monitor before there is a vm."""
        deadline = time.monotonic() + 30
        while not os.path.exists(address):
            if time.monotonic() > deadline:
                raise Failed("nobody waits for the vm")
            time.sleep(0.005)

    def follow(self, there):
        """It ends with a line that says how it went."""
        said = self.console.expect(r"stopped for (\S+) ms, (\S+) ms in all, (\d+) bytes sent in (\d+) rounds", MOVE_S)
        return {"downtime_ms": float(said.group(1)), "total_ms": float(said.group(2)), "rounds": int(said.group(4)), "sent_mib": int(said.group(3)) / 2**20}


class Postcopy(Ours):
    options = {"postcopy": 0}


class Qemu(Party):
    hello = "qmp_capabilities"

    def start(self, incoming):
        path = self.setting.path("qmp")
        command = ["qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-cpu", "max", "-m", str(self.setting.args.memory), "-nodefaults", "-no-reboot", "-display", "none",
                   "-serial", "stdio", "-kernel", self.setting.kernel, "-initrd", self.setting.initrd, "-append", self.setting.cmdline(self.rate),
                   "-qmp", f"unix:{path},server=on,wait=off"]
        return Console(command + (["-incoming", incoming] if incoming else [])), path

    def attach(self, path):
        monitor = super().attach(path)
        # as ours: all that the connection gives, and 50 ms
        monitor.ask("migrate-set-parameters", **{"max-bandwidth": 10**11, "downtime-limit": 50})
        return monitor

    def listening(self, address, path):
        return self.attach(path)

    def follow(self, there):
        deadline = time.monotonic() + MOVE_S
        while (info := self.monitor.ask("query-migrate"))["status"] not in ("completed", "failed"):
            if time.monotonic() > deadline:
                raise Failed(f"not moved in {MOVE_S} s: {info}")
            time.sleep(0.02)
        if info["status"] != "completed":
            raise Failed(f"not moved: {info}")
        # what it says itself ends before the other side goes on, and is in whole milliseconds
        downtime = (there.event("RESUME") - self.monitor.event("STOP")) / 1e3
        return {"downtime_ms": downtime, "total_ms": float(info["total-time"]), "rounds": info["ram"]["dirty-sync-count"], "sent_mib": info["ram"]["transferred"] / 2**20}
