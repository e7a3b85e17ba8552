# SPDX-License-Identifier: LGPL-2.1-or-later
"""A client of the monitor, in this process or another: Monitor("/tmp/vm").execute("query-status")."""
from __future__ import annotations

import json
import os
import socket
from collections import deque
from typing import Any, Deque, Dict, Optional, Union


class MonitorError(Exception):
    """The monitor refused a command; the message is its sentence."""


class Monitor:
    """A connection to a monitor's socket. `with` closes it."""

    def __init__(self, path: Union[str, "os.PathLike[str]"], timeout: Optional[float] = 10) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._file: Any = None
        self.events: Deque[Dict[str, Any]] = deque()  # those that came with answers
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(os.fspath(path))
            self._file = self._socket.makefile("r", encoding="utf-8")
            self.greeting: Dict[str, Any] = self._receive()
            self.execute("capabilities")
        except BaseException:
            self.close()
            raise

    def _receive(self) -> Dict[str, Any]:
        line = self._file.readline()
        if not line:
            raise EOFError("the monitor has closed the connection")
        message: Dict[str, Any] = json.loads(line)
        return message

    def execute(self, command: str, **arguments: Any) -> Any:
        """What a command returns; a `_` in an argument's name stands for `-`. MonitorError when it is refused."""
        message: Dict[str, Any] = {"execute": command}
        if arguments:
            message["arguments"] = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._socket.sendall(json.dumps(message).encode() + b"\n")
        while True:
            answer = self._receive()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise MonitorError(answer["error"]["desc"])
            else:
                return answer["return"]

    def event(self) -> Dict[str, Any]:
        """The next event: one that has come already, or else one to wait for."""
        while not self.events:
            message = self._receive()
            if "event" in message:
                self.events.append(message)
        return self.events.popleft()

    def close(self) -> None:
        """Ends the connection."""
        if self._file is not None:
            self._file.close()
        self._socket.close()

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
