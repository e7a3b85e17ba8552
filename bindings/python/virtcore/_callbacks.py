# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the library calls into Python (glue.c). What a callback raises ends the run, and is raised again by run() or wait()."""
from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Callable, Set, Union

from ._core import text
from ._virtcore import ffi, lib

if TYPE_CHECKING:
    from .device import Device
    from .pci import PciDevice

from_handle = ffi.from_handle
Failed = Callable[[BaseException], None]


class Binding:
    """What a callback of the library finds behind its ctx. Alive until vcpy_destroy()."""
    __slots__ = ("handles", "handle", "ctx", "failed", "noted", "read", "write", "call", "device", "function", "event")

    def __init__(self, handles: Set[Any], failed: Failed, **callbacks: Any) -> None:
        self.failed = failed
        self.noted: Failed = failed
        self.read = self.write = self.call = self.function = self.event = None
        self.device: Union[Device, PciDevice, None] = None
        for name, value in callbacks.items():
            setattr(self, name, value)
        self.handles = handles
        self.handle = ffi.new_handle(self)
        # C calls these by their addresses, which stay as long as this object has them
        self.ctx = ffi.new("struct vcpy_ctx *")
        lib.vcpy_fill(self.ctx, self.handle, id(self.read), id(self.write), id(self.call), id(self.function), id(self.event) if self.event else 0, id(failed))
        handles.add(self.handle)


@ffi.def_extern()
def vcpy_meet_thread() -> None:
    """To have been called is all it is for."""


@ffi.def_extern()
def vcpy_device_reset(ctx: Any) -> None:
    binding = from_handle(ctx)
    try:
        if binding.device is not None:
            binding.device.reset()
    except BaseException as error:
        binding.noted(error)


@ffi.def_extern()
def vcpy_device_save(ctx: Any, buffer: Any, length: int) -> int:
    binding: Binding = from_handle(ctx)
    try:
        state = binding.device.save() if binding.device is not None else b""
        if buffer != ffi.NULL:
            if length < len(state):
                return -errno.ENOSPC
            ffi.memmove(buffer, state, len(state))
        return len(state)
    except BaseException as error:
        binding.noted(error)
        return -errno.EIO


@ffi.def_extern()
def vcpy_device_load(ctx: Any, buffer: Any, length: int) -> int:
    binding = from_handle(ctx)
    try:
        if binding.device is not None:
            binding.device.load(ffi.buffer(buffer, length)[:])
        return 0
    except BaseException as error:
        binding.noted(error)
        return -errno.EINVAL


@ffi.def_extern()
def vcpy_log(ctx: Any, level: int, message: Any) -> None:
    binding = from_handle(ctx)
    try:
        binding.function(level, text(message))
    except BaseException as error:
        binding.failed(error)


@ffi.def_extern()
def vcpy_clone_properties(ctx: Any, index: int, kind: Any, properties: Any) -> Any:
    clone = from_handle(ctx)
    try:
        return clone.properties(index, text(kind), text(properties))
    except BaseException as error:
        clone.failed(error)
        return ffi.NULL


@ffi.def_extern()
def vcpy_clone_prepare(ctx: Any, vm: Any) -> int:
    clone = from_handle(ctx)
    try:
        return int(clone.prepare(vm))
    except BaseException as error:
        clone.failed(error)
        return -errno.EINVAL


@ffi.def_extern()
def vcpy_destroy(ctx: Any) -> None:
    binding = from_handle(ctx)
    binding.handles.discard(binding.handle)
