# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hooks: see what a guest does, as it does it.

    with vm.hook_code(lambda address, length: print(hex(address)), 0x1000, 0x1000):
        vm.vcpu.run()
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, NamedTuple, Optional, TypeVar

from ._callbacks import Binding
from ._core import check
from ._virtcore import ffi, lib
from .enums import HookKind

if TYPE_CHECKING:
    from .vm import VM

ALL = 0
READS = 1 << 0
WRITES = 1 << 1


class MemoryEvent(NamedTuple):
    """An access to memory that was made."""
    address: int  # guest-physical
    linear: int  # guest-virtual
    length: int
    is_write: bool
    value: int  # of more than 8 bytes the first 8
    data: bytes  # all of it


class PortEvent(NamedTuple):
    """An access to a port."""
    port: int
    width: int
    is_write: bool
    value: int


CodeFunction = Callable[[int, int], object]
MemoryFunction = Callable[[MemoryEvent], object]
PortFunction = Callable[[PortEvent], object]
H = TypeVar("H", bound="Hook")


class Hook:
    """A hook of a vm. Ends with remove(), with a `with` block, or with the vm."""

    def __init__(self, vm: "VM", kind: HookKind, function: Callable[..., object], start: int, length: int, access: int = 0) -> None:
        core = vm._core.handle
        out = ffi.new("vcore_hook **")
        binding = Binding(vm._core.handles, vm._failed, function=function, event=EVENTS[kind])
        check(lib.vcpy_hook_add(core, kind, start, length, access, binding.ctx, out))
        self._vm = vm
        self._handle: Any = out[0]
        self.kind = kind
        vm._hooks.append(self)

    def remove(self) -> None:
        """No call of it begins after this has returned; allowed in the hook itself. Again, or with a closed vm: nothing."""
        if self._handle is None or self._vm.closed:
            return
        check(lib.vcore_hook_remove(self._handle))
        self._handle = None
        self._vm._hooks.remove(self)

    def __enter__(self: H) -> H:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<virtcore hook {self.kind.name.lower()}{' (removed)' if self._handle is None else ''}>"


# what a function of such a hook is called with; None: address and length
EVENTS: Dict[HookKind, Optional[type]] = {HookKind.CODE: None, HookKind.BLOCK: None, HookKind.MEMORY: MemoryEvent, HookKind.PORT: PortEvent}
