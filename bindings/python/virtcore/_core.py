# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every other module stands on: errors, sizes, and the one place that frees a vm."""
from __future__ import annotations

import atexit
import enum
import os
import re
import threading
import weakref
from typing import Any, List, Optional, Set, Type, TypeVar, Union

from ._virtcore import ffi, lib

Size = Union[int, str]
E = TypeVar("E", bound=enum.IntEnum)
UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


class Error(OSError):
    """A call of the library failed: `errno` says which kind, `strerror` is the library's sentence (what, which value, what was expected)."""

    def __str__(self) -> str:
        return str(self.strerror)


class ClosedError(ValueError):
    """The vm was closed, or the part of it removed."""


def text(pointer: Any) -> str:
    """The string that the library points to."""
    return str(ffi.string(pointer).decode("utf-8", "replace"))


def check(result: int) -> int:
    """The result of a call; raises Error when it is negative."""
    if result < 0:
        raise Error(-result, text(lib.vcore_error_message()) or os.strerror(-result))
    return result


def optional(value: Union[None, str, bytes, "os.PathLike[str]"]) -> Any:
    """A string or path for the library: NULL for None."""
    return ffi.NULL if value is None else os.fsencode(value)


def size(value: Size) -> int:
    """Bytes of 4096, "512M", "2G", "64KiB"."""
    if isinstance(value, int):
        return value
    match = re.fullmatch(r"\s*(0[xX][0-9a-fA-F]+|\d+)\s*([KMGT]?)(?:i?B)?\s*", value, re.IGNORECASE)
    if not match:
        raise ValueError(f"{value!r} is no size: a number with K, M, G or T behind it was expected, like \"512M\"")
    return int(match[1], 0) << UNITS[match[2].upper()]


def choice(kind: Type[E], value: Union[E, str]) -> E:
    """A member of an enum, also by its name in any case, "full" or "private-file"."""
    if not isinstance(value, str):
        return kind(value)
    try:
        return kind[value.upper().replace("-", "_")]
    except KeyError:
        known = ", ".join(member.name.lower().replace("_", "-") for member in kind)
        raise ValueError(f"{value!r} is no {kind.__name__.lower()}; known are {known}") from None


def nanoseconds(timeout: Optional[float]) -> int:
    """Of seconds; None: for ever."""
    return -1 if timeout is None else max(0, int(timeout * 1e9))


class Core:
    """One reference to a vm of the library, shared by the VM object and by the views of its memory, and what C holds pointers to.

    The vm is freed when it was closed and the last view is gone. Calls that last (`with core:`) keep close() waiting.
    """

    def __init__(self, handle: Any, handles: Set[Any]) -> None:
        self._handle = handle
        # Protects all below. One thread may take it again: the garbage collector drops views at any moment.
        self._lock = threading.Condition(threading.RLock())
        self._holders = 1
        self._users = 0
        self.closed = False
        self.handles = handles  # what callbacks have as their ctx; from within destroy callbacks too, so without the lock
        OPEN.add(self)

    @property
    def handle(self) -> Any:
        """The vcore_vm; raises ClosedError once it was closed."""
        if self.closed:
            raise ClosedError("the vm is closed")
        return self._handle

    def __enter__(self) -> Any:
        with self._lock:
            handle = self.handle
            self._users += 1
        return handle

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            self._lock.notify_all()

    def hold(self) -> None:
        """One more holder; to be given back with drop()."""
        with self._lock:
            self.handle
            self._holders += 1

    def drop(self) -> None:
        """The last holder's frees the vm."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self._free()

    def _free(self) -> None:
        # The last reference must not be given back inside a callback of the same vm, and the garbage collector may have been started by one.
        if isinstance(threading.current_thread(), threading._DummyThread):
            threading.Thread(target=self._unref, name="virtcore-free").start()
        else:
            self._unref()

    def _unref(self) -> None:
        lib.vcore_vm_unref(self._handle)
        self.handles.clear()

    def abandon(self) -> None:
        """The library has freed the vm by itself."""
        with self._lock:
            self.closed = True
        self.handles.clear()

    def kick(self, vcpu: Any) -> None:
        """Ends the run of a vcpu; nothing happens to a closed vm."""
        with self._lock:
            if not self.closed:
                lib.vcore_vcpu_kick(vcpu)

    def close(self) -> None:
        """Ends whatever lasts, and gives up the VM object's hold. Again: nothing."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
        lib.vcore_vm_stop(self._handle)
        while True:
            with self._lock:
                if not self._users:
                    break
                # A run that an earlier kick has ended may have begun anew before `closed` was seen.
                for vcpu in iter_vcpus(self._handle):
                    lib.vcore_vcpu_kick(vcpu)
                self._lock.wait(0.05)
        self.drop()


def iter_vcpus(handle: Any) -> List[Any]:
    """The vcpus of a vm of the library."""
    info = ffi.new("struct vcore_vm_info *", {"size": ffi.sizeof("struct vcore_vm_info")})
    check(lib.vcore_vm_get_info(handle, info))
    return [lib.vcore_vm_vcpu(handle, i) for i in range(info.vcpus)]


OPEN: "weakref.WeakSet[Core]" = weakref.WeakSet()


@atexit.register
def close_all() -> None:
    """No thread of the library may call into an interpreter that is gone."""
    for core in list(OPEN):
        core.close()
