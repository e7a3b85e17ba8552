# SPDX-License-Identifier: LGPL-2.1-or-later
"""Snapshots: a machine as a value.

    snapshot = vm.snapshot()
    twin = snapshot.clone()
    vm.reset_to(snapshot)
"""
from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Callable, List, NamedTuple, Optional, Set

from ._core import ClosedError, check
from ._virtcore import ffi, lib
from .console import Console
from .enums import Backend, Machine

if TYPE_CHECKING:
    from .vm import VM

Properties = Callable[[int, str, str], Optional[str]]


class SnapshotInfo(NamedTuple):
    """Facts of a snapshot."""
    machine: Machine
    backend: Backend
    vcpus: int
    devices: int
    slots: int
    memory: int
    memory_copied: int
    time_ns: int


class Snapshot:
    """What a vm was at one moment; independent of that vm. `with`, close() or garbage collection frees it; clones stay."""

    def __init__(self, handle: Any, consoles: List[int]) -> None:
        self._handle: Any = ffi.gc(handle, lib.vcore_snapshot_unref)
        self.consoles = consoles  # descriptors that the original's serial ports had

    @property
    def handle(self) -> Any:
        """The library's vcore_snapshot."""
        if self._handle is None:
            raise ClosedError("the snapshot is closed")
        return self._handle

    @property
    def info(self) -> SnapshotInfo:
        """Facts."""
        raw = ffi.new("struct vcore_snapshot_info *", {"size": ffi.sizeof("struct vcore_snapshot_info")})
        check(lib.vcore_snapshot_get_info(self.handle, raw))
        return SnapshotInfo(Machine(raw.machine), Backend(raw.backend), *(getattr(raw, name) for name in SnapshotInfo._fields[2:]))

    def clone(self, **options: Any) -> "VM":
        """A new vm that is what the snapshot says; options as of VM.from_snapshot()."""
        from .vm import VM
        return VM.from_snapshot(self, **options)

    def close(self) -> None:
        """Frees it. Again: nothing."""
        if self._handle is not None:
            ffi.release(self._handle)
            self._handle = None

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._handle is None:
            return "<virtcore.Snapshot closed>"
        info = self.info
        return f"<virtcore.Snapshot of {info.machine.name.lower()}, {info.vcpus} vcpus, {info.memory >> 20} MiB, at {info.time_ns / 1e9:.3f} s>"


class Clone:
    """A clone on its way: what the library asks for meanwhile."""

    def __init__(self, vm: "VM", snapshot: Snapshot, handles: Set[Any], prepare: Any, properties: Optional[Properties]) -> None:
        self._vm = vm
        self._snapshot = snapshot
        self._handles = handles
        self._prepare = prepare
        self._properties = properties
        self._kept: List[Any] = []  # strings that the library reads
        self.failed = vm._noted

    def properties(self, index: int, kind: str, given: str) -> Any:
        """Those of one device; a console's are those of a new console."""
        wanted = self._properties(index, kind, given) if self._properties else None
        if wanted is None and kind == "uart":
            wanted = self._console(given)
        if wanted is None:
            return ffi.NULL
        self._kept.append(ffi.new("char[]", wanted.encode()))
        return self._kept[-1]

    def _console(self, given: str) -> Optional[str]:
        found = re.search(r"\binput=fd:(\d+)", given)
        if not found or int(found[1]) not in self._snapshot.consoles:
            return None
        console: Console = self._vm._console_type(self._vm)
        self._vm._consoles.append(console)
        return re.sub(r"\b(input|output)=fd:\d+", lambda match: f"{match[1]}=fd:{console._fd}", given)

    def prepare(self, handle: Any) -> int:
        """The vm is there, with the library's devices."""
        self._vm._adopt(handle, self._handles)
        if self._prepare is not None:
            self._prepare(self._vm)
        return -1 if self._vm._failure is not None else 0

    def abandon(self) -> None:
        """There will be no vm."""
        if self._vm._core is not None:
            self._vm._core.abandon()
        for console in self._vm._consoles:
            console._close()
