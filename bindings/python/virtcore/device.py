# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices: written in Python, and the library's own.

    class Counter(virtcore.Device):
        def read(self, offset, width):
            return self.count
        def write(self, offset, width, value):
            self.count = value

    vm.add_mmio(0xd0000000, 0x1000, Counter())
"""
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Callable, Dict, NamedTuple, Optional, Tuple

from ._callbacks import Binding
from ._core import ClosedError, check, text
from ._virtcore import ffi, lib
from .enums import Bus

if TYPE_CHECKING:
    from .vm import VM

Read = Callable[[int, int], int]
Write = Callable[[int, int, int], None]
Call = Callable[[int, Tuple[int, int, int, int]], Optional[int]]


class Device:
    """Base of devices written in Python: override what the device does.

    Methods run on the thread of the vcpu that made the access, possibly on several at once; VM.current_vcpu() tells which it is. What they raise ends the run.
    """

    def read(self, offset: int, width: int) -> int:
        """The guest reads `width` bytes at `offset` from the region's start. Without it: all ones."""
        return (1 << 8 * width) - 1

    def write(self, offset: int, width: int, value: int) -> None:
        """The guest writes. Without it: the value vanishes."""

    def call(self, number: int, args: Tuple[int, int, int, int]) -> Optional[int]:
        """A hypercall: RAX, and RBX, RCX, RDX, RSI. What it returns becomes RAX."""
        return 0

    def reset(self) -> None:
        """The vm is reset."""

    def save(self) -> bytes:
        """The state, for load()."""
        return b""

    def load(self, state: bytes) -> None:
        """Takes back what save() returned."""


class NetStats(NamedTuple):
    """Counted where a network card meets its network: tx from the guest, rx to it."""
    link: bool
    tx_frames: int
    tx_bytes: int
    tx_dropped: int
    rx_frames: int
    rx_bytes: int
    rx_dropped: int


class DeviceHandle:
    """A device in a vm, for as long as it is there."""

    def __init__(self, vm: "VM", handle: Any, name: str) -> None:
        self._vm = vm
        self._handle: Any = handle
        self.name = name

    @property
    def handle(self) -> Any:
        """The library's vcore_device."""
        self._vm._core.handle
        if self._handle is None:
            raise ClosedError(f"the device {self.name} was removed")
        return self._handle

    @property
    def type(self) -> str:
        """The type's name; "custom" for one written in Python."""
        return text(lib.vcore_device_type(self.handle))

    def remove(self) -> None:
        """Takes the device out of the vm; returns once none of its methods runs. Not from one of them."""
        check(lib.vcore_device_remove(self.handle))
        self._handle = None
        self._vm._devices.remove(self)

    def set_link(self, up: bool) -> None:
        """Pulls the cable out of a network card, or puts it in."""
        check(lib.vcore_net_set_link(self.handle, up))

    def net_stats(self) -> NetStats:
        """Counters of a network card."""
        raw = ffi.new("struct vcore_net_stats *", {"size": ffi.sizeof("struct vcore_net_stats")})
        check(lib.vcore_net_get_stats(self.handle, raw))
        return NetStats(bool(raw.link), *(getattr(raw, name) for name in NetStats._fields[1:]))

    def resize(self, size: int) -> None:
        """Gives a disk another size in bytes, also while the guest runs."""
        check(lib.vcore_block_resize(self.handle, size))

    def set_balloon(self, size: int) -> None:
        """Asks the guest of a virtio-balloon to give up so many bytes."""
        check(lib.vcore_balloon_set_target(self.handle, size))

    def balloon_stats(self) -> Dict[str, Optional[int]]:
        """What a virtio-balloon knows, in bytes mostly; None: the guest did not tell."""
        raw = ffi.new("struct vcore_balloon_stats *", {"size": ffi.sizeof("struct vcore_balloon_stats")})
        check(lib.vcore_balloon_get_stats(self.handle, raw))
        values = {name: getattr(raw, name) for name in dir(raw) if name not in ("size", "pad")}
        return {name: None if value == 0xffffffffffffffff else value for name, value in values.items()}

    def __repr__(self) -> str:
        return f"<virtcore device {self.name}{' (removed)' if self._handle is None else ''}>"


def properties(values: Dict[str, Any]) -> Any:
    """Keyword arguments as the library takes them. A name's `_` stands for itself and is tried as it is."""
    if not values:
        return ffi.NULL
    words = {name: "on" if value is True else "off" if value is False else value for name, value in values.items() if value is not None}
    if all("," not in str(value) for value in words.values()):
        return ",".join(f"{name}={value}" for name, value in words.items()).encode()
    return json.dumps(values).encode()


def add_builtin(vm: "VM", kind: str, values: Dict[str, Any]) -> DeviceHandle:
    """One of the library's own."""
    out = ffi.new("vcore_device **")
    check(lib.vcore_device_add(vm._core.handle, kind.encode(), properties(values), out))
    return DeviceHandle(vm, out[0], kind)


def add_custom(vm: "VM", bus: Bus, start: int, length: int, device: Optional[Device], read: Optional[Read], write: Optional[Write],
               call: Optional[Call]) -> DeviceHandle:
    """One written in Python."""
    base = device if device is not None else Device()
    core = vm._core.handle
    binding = Binding(vm._core.handles, vm._failed, read=read or base.read, write=write or base.write, call=call or base.call, device=device, noted=vm._noted)
    out = ffi.new("vcore_device **")
    check(lib.vcpy_io_add(core, bus, start, length, binding.ctx, out))
    name = type(device).__name__ if device is not None else "custom"
    return DeviceHandle(vm, out[0], f"{name} at {bus.name.lower()} {start:#x}")
