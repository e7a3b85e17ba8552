# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine as a process whose console is its standard input and output: waits for what it says, and types."""
import os
import re
import select
import subprocess
import time


class Failed(Exception):
    """It did not say what was expected, in time."""


class Console:
    def __init__(self, command, timeout=120, stderr=subprocess.STDOUT):
        self.timeout = timeout
        self.log = b""
        self.at = 0  # of the log: what was waited for lies before
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, bufsize=0)

    def more(self, deadline, what):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
            raise Failed(f"no {what} in time; the last lines:\n{self.tail()}")
        data = os.read(self.process.stdout.fileno(), 65536)
        if not data:
            raise Failed(f"ended before {what}; the last lines:\n{self.tail()}")
        self.log += data

    def expect(self, pattern, timeout=None):
        """The match of a regular expression in what has come since the last one."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            match = re.compile(pattern.encode()).search(self.log, self.at)
            if match:
                self.at = match.end()
                return match
            self.more(deadline, repr(pattern))

    def type(self, line):
        self.process.stdin.write(line.encode() + b"\r")

    def shell(self):
        """At a prompt: a plain shell that says nothing but what its commands say."""
        self.type("exec env PS1='=$((40 + 2))=' sh")
        self.expect("=42=")  # what is typed before is lost to the terminal's change of hands
        self.type("stty -echo; PS1=; echo =$((40 + 3))=")
        self.expect("=43=\r?\n")

    def run(self, command, timeout=None):
        """The status of a command in that shell, and its output."""
        begin = self.at
        self.type(f"{command}; echo =$((40 + 2)):$?=")
        match = self.expect(r"=42:(\d+)=\r?\n", timeout)
        return int(match.group(1)), self.log[begin:match.start()].replace(b"\r", b"").decode(errors="replace")

    def wait(self, timeout=None):
        """Its exit status, once it has ended."""
        deadline = time.monotonic() + (timeout or self.timeout)
        try:
            while True:
                self.more(deadline, "end")
        except Failed:
            pass
        try:
            return self.process.wait(max(1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Failed(f"does not end; the last lines:\n{self.tail()}") from None

    def text(self):
        return self.log.replace(b"\r", b"").decode(errors="replace")

    def tail(self):
        return "\n".join(self.text().splitlines()[-25:])

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
