# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's serial console: vm.console.expect("login:"), vm.console.send("root\\n")."""
from __future__ import annotations

import codecs
import os
import re
import select
import socket
import threading
import time
from typing import IO, Callable, Dict, List, Optional, Pattern, Union

KEEP = 1 << 20  # characters of the past that are kept
Text = Union[str, Pattern[str]]


class ExpectError(Exception):
    """What was expected did not come; the message shows the console's last lines."""


class ExpectTimeout(ExpectError, TimeoutError):
    """... in the time given."""


class ConsoleEnded(ExpectError, EOFError):
    """... and never will: the vm has ended or was closed."""


class _Reader:
    """Takes what the guest prints, on a thread of its own, so that the guest never waits. Knows nothing of the vm but its descriptor."""

    def __init__(self) -> None:
        self.ours, self.guests = socket.socketpair()
        self.wake_read, self.wake_write = os.pipe()
        self.changed = threading.Condition()  # protects all below
        self.text = ""
        self.start = 0  # position of text[0] in all that ever came
        self.ended = False  # what comes next needs another start()
        self.mirror: Optional[IO[str]] = None
        self.listeners: List[Callable[[], None]] = []  # called on the thread, without the lock
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.thread: Optional[threading.Thread] = None

    def begin(self, vm_fd: int) -> None:
        """A vm has been started; vm_fd polls readable when it ends."""
        if self.thread is not None:
            self.thread.join()
        self.ended = False
        self.thread = threading.Thread(target=self._run, args=(vm_fd,), name="virtcore-console", daemon=True)
        self.thread.start()

    def _run(self, vm_fd: int) -> None:
        poll = select.poll()
        for fd in (self.ours.fileno(), self.wake_read, vm_fd):
            poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            self.drain()
            if vm_fd in ready or self.wake_read in ready:
                break
        with self.changed:
            self.ended = True
            self.changed.notify_all()
        self._tell()

    def drain(self) -> None:
        """Takes what is there."""
        while True:
            try:
                data = self.ours.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if not data:
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        text = self._decoder.decode(data).replace("\r", "")
        with self.changed:
            self.text += text
            if len(self.text) > KEEP * 2:
                self.start += len(self.text) - KEEP
                self.text = self.text[-KEEP:]
            mirror = self.mirror
            self.changed.notify_all()
        if mirror is not None:
            mirror.write(text)
            mirror.flush()
        self._tell()

    def _tell(self) -> None:
        for listener in list(self.listeners):
            listener()

    def end(self) -> None:
        """The thread ends, what was printed remains."""
        os.write(self.wake_write, b"x")
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join()
        self.drain()
        with self.changed:
            self.ended = True
            self.changed.notify_all()
        self.ours.close()
        self.guests.close()
        os.close(self.wake_read)
        os.close(self.wake_write)


class Console:
    """A console of a guest: a UART whose characters this object keeps."""

    def __init__(self, vm: object) -> None:
        self._vm = vm  # lives as long as its console is in use
        self._reader = _Reader()
        self._closed = False
        self._position = 0  # where the next expect() begins to look

    @property
    def properties(self) -> Dict[str, str]:
        """What a device of the library's needs as input and output."""
        return {"input": f"fd:{self._fd}", "output": f"fd:{self._fd}"}

    @property
    def _fd(self) -> int:
        return self._reader.guests.fileno()

    def _begin(self, vm_fd: int) -> None:
        self._reader.begin(vm_fd)

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._reader.end()

    @property
    def text(self) -> str:
        """What the guest has printed, of late if it was more than a million characters."""
        with self._reader.changed:
            return self._reader.text

    def tail(self, lines: int = 10) -> str:
        """The last lines."""
        return "\n".join(self.text.rstrip("\n").split("\n")[-lines:])

    def mirror(self, file: Optional[IO[str]]) -> None:
        """Writes what comes from now on to a file as well, sys.stdout for example; None: no longer."""
        with self._reader.changed:
            self._reader.mirror = file

    def send(self, text: Union[str, bytes]) -> None:
        """Types; a newline is the Return key."""
        if self._closed:
            raise ConsoleEnded("the console is closed")
        self._reader.ours.sendall(text.encode() if isinstance(text, str) else text)

    def look(self, pattern: Text) -> Optional[re.Match[str]]:
        """As expect(), of what is there now: None when there is no match. ConsoleEnded when there never will be."""
        reader = self._reader
        with reader.changed:
            match = re.compile(pattern).search(reader.text, max(0, self._position - reader.start))
            if match:
                self._position = reader.start + match.end()
            elif reader.ended:
                raise ConsoleEnded(self._failure(pattern, "the vm has ended"))
            return match

    def expect(self, pattern: Text, timeout: Optional[float] = 30) -> re.Match[str]:
        """Waits until the guest prints what the regular expression matches, behind the last match; seconds.

        ExpectTimeout, or ConsoleEnded, with the console's last lines when it does not.
        """
        end = None if timeout is None else time.monotonic() + timeout
        reader = self._reader
        while True:
            with reader.changed:
                seen = reader.start + len(reader.text)
            match = self.look(pattern)
            if match:
                return match
            with reader.changed:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise ExpectTimeout(self._failure(pattern, f"it did not come in {timeout} s"))
                # in pieces, so that Ctrl-C is noticed
                reader.changed.wait_for(lambda: reader.ended or reader.start + len(reader.text) != seen, 1 if left is None else min(left, 1))

    def _failure(self, pattern: Text, why: str) -> str:
        expected = pattern if isinstance(pattern, str) else pattern.pattern
        shown = self._reader.text.rstrip("\n").split("\n")[-10:]
        return "\n    ".join([f"{expected!r} was expected on the console, and {why}; its last lines:", *shown])

    def __repr__(self) -> str:
        return f"<virtcore.Console {len(self.text)} characters, last {self.tail(1)!r}>"
