# SPDX-License-Identifier: LGPL-2.1-or-later
"""A microvm that waits for gdb, and a stock gdb on it in batch mode."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

failures = []


def need_gdb():
    if not shutil.which("gdb"):
        print("SKIP: gdb is not installed (Debian: gdb)")
        sys.exit(77)


def check(name, good, detail=""):
    print(("ok    " if good else "FAIL  ") + name + ("" if good else f": {detail}"), flush=True)
    if not good:
        failures.append(name)


def finish():
    print(f"{len(failures)} failed: {failures}" if failures else "all is well")
    sys.exit(bool(failures))


class Output:
    """What a process prints, as it comes."""

    def __init__(self, stream):
        self.text, self.changed = "", threading.Condition()
        self.reader = threading.Thread(target=self.read, args=(stream,), daemon=True)
        self.reader.start()

    def read(self, stream):
        while data := os.read(stream.fileno(), 65536):
            with self.changed:
                self.text += data.decode(errors="replace").replace("\r", "")
                self.changed.notify_all()

    def wait_for(self, pattern, seconds):
        with self.changed:
            return self.changed.wait_for(lambda: re.search(pattern, self.text), seconds)

    def rest(self):
        """What comes until the stream is closed, for a process that has ended."""
        self.reader.join(30)


class Machine:
    def __init__(self, microvm, *arguments, address=None):
        self.directory = tempfile.TemporaryDirectory()
        self.p = subprocess.Popen([microvm, *arguments, "--gdb=" + (address or f"unix:{self.directory.name}/gdb")],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.out, self.err = Output(self.p.stdout), Output(self.p.stderr)
        found = self.err.wait_for(r"target remote (\S+)\n", 30)
        self.address = found[1] if found else None

    def end(self, seconds=30):
        """The exit status, or None when it had to be killed."""
        try:
            status = self.p.wait(seconds)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
            status = None
        self.out.rest()
        self.err.rest()
        return status


class Gdb:
    def __init__(self, address, commands, symbols=None):
        # what gdb asks is answered with no, so that nothing waits for a person
        arguments = ["gdb", "-q", "-nx", "-nh", "-batch"] + ([symbols] if symbols else [])
        for command in ["set confirm off", "set pagination off", "set width 0", "set style enabled off", "set debuginfod enabled off",
                        f"target remote {address}", *commands]:
            arguments += ["-ex", f"echo gdb> {command}\\n", "-ex", command]
        self.p = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  start_new_session=True)
        self.out = Output(self.p.stdout)

    def interrupt(self):
        self.p.send_signal(signal.SIGINT)

    def end(self, seconds=60):
        try:
            self.p.wait(seconds)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
            return self.out.text + "\n(gdb does not end)"
        self.out.rest()
        return self.out.text


def expect(name, text, *patterns):
    """The patterns, one behind the other."""
    at = 0
    for pattern in patterns:
        found = re.compile(pattern, re.M).search(text, at)
        if not found:
            check(name, False, f"no {pattern!r} behind the first {at} characters of:\n{text}")
            return
        at = found.end()
    check(name, True)
