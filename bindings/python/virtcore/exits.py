# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why a vcpu, or a whole vm, came back: one class a reason, for `isinstance` and `match`.

    match vcpu.run():
        case virtcore.PortAccess(address=0x3f8, is_write=True, data=byte): ...
        case virtcore.Halt(): ...
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, ClassVar, Dict, Tuple

from ._core import text
from ._virtcore import ffi, lib
from .enums import CrashKind


@dataclass(frozen=True)
class Exit:
    """Base of all: `vcpu` is the index of the vcpu that ended the run."""
    vcpu: int = field(default=0, kw_only=True)
    final: ClassVar[bool] = False  # after it the guest does not simply go on


@dataclass(frozen=True)
class Halt(Exit):
    """HLT with no interrupt controller that could end it."""


@dataclass(frozen=True)
class _Unanswered(Exit):
    address: int
    width: int
    is_write: bool
    data: int
    _answer: Callable[[int], None] = field(repr=False, compare=False)

    def reply(self, value: int) -> None:
        """What the guest reads, with the next run of the vcpu."""
        if self.is_write:
            raise ValueError("the guest wrote; only a read takes a reply")
        self._answer(value)


@dataclass(frozen=True)
class PortAccess(_Unanswered):
    """IN or OUT on a port that no device answers. Reads are answered with reply() before the next run."""

    def __repr__(self) -> str:
        return f"PortAccess(address={self.address:#x}, width={self.width}, is_write={self.is_write}, data={self.data:#x}, vcpu={self.vcpu})"


@dataclass(frozen=True)
class MmioAccess(_Unanswered):
    """Access to an address that neither slot nor device covers. Reads are answered with reply() before the next run."""

    def __repr__(self) -> str:
        return f"MmioAccess(address={self.address:#x}, width={self.width}, is_write={self.is_write}, data={self.data:#x}, vcpu={self.vcpu})"


@dataclass(frozen=True)
class Hypercall(Exit):
    """VMCALL or VMMCALL that nobody handles: RAX, and RBX, RCX, RDX, RSI."""
    number: int
    args: Tuple[int, int, int, int]


@dataclass(frozen=True)
class Kicked(Exit):
    """Vcpu.kick() was called."""


@dataclass(frozen=True)
class TimedOut(Exit):
    """The time given to run is over."""


@dataclass(frozen=True)
class DebugStop(Exit):
    """Single step or breakpoint at the address (RIP); exception 1 is #DB, 3 is #BP."""
    address: int
    exception: int
    dr6: int


@dataclass(frozen=True)
class Crash(Exit):
    """The guest cannot go on; `message` is a sentence."""
    kind: CrashKind
    message: str
    final: ClassVar[bool] = True


@dataclass(frozen=True)
class Poweroff(Exit):
    """The guest switched the machine off."""
    final: ClassVar[bool] = True


@dataclass(frozen=True)
class Reset(Exit):
    """The guest asked for a reset."""
    final: ClassVar[bool] = True


@dataclass(frozen=True)
class Stopped(Exit):
    """VM.stop() was called."""
    final: ClassVar[bool] = True


@dataclass(frozen=True)
class DebugExit(Exit):
    """The guest wrote `code` to the debug-exit device."""
    code: int
    final: ClassVar[bool] = True


@dataclass(frozen=True)
class Migrated(Exit):
    """The guest went on elsewhere; this vm holds what it was."""
    final: ClassVar[bool] = True


def new() -> Any:
    """A struct vcore_exit for the library to fill."""
    return ffi.new("struct vcore_exit *", {"size": ffi.sizeof("struct vcore_exit")})


def _unanswered(kind: Callable[..., Exit]) -> Callable[[Any], Exit]:
    def make(raw: Any) -> Exit:
        def answer(value: int) -> None:
            raw.data = value
        return kind(raw.address, raw.width, bool(raw.is_write), raw.data, answer, vcpu=raw.vcpu)
    return make


KINDS: Dict[int, Callable[[Any], Exit]] = {
    lib.VCORE_EXIT_HALT: lambda raw: Halt(vcpu=raw.vcpu),
    lib.VCORE_EXIT_PIO: _unanswered(PortAccess),
    lib.VCORE_EXIT_MMIO: _unanswered(MmioAccess),
    lib.VCORE_EXIT_HYPERCALL: lambda raw: Hypercall(raw.address, (raw.args[0], raw.args[1], raw.args[2], raw.args[3]), vcpu=raw.vcpu),
    lib.VCORE_EXIT_KICKED: lambda raw: Kicked(vcpu=raw.vcpu),
    lib.VCORE_EXIT_TIMEOUT: lambda raw: TimedOut(vcpu=raw.vcpu),
    lib.VCORE_EXIT_DEBUG: lambda raw: DebugStop(raw.address, raw.exception, raw.dr6, vcpu=raw.vcpu),
    lib.VCORE_EXIT_CRASH: lambda raw: Crash(CrashKind(raw.crash), text(raw.message), vcpu=raw.vcpu),
    lib.VCORE_EXIT_POWEROFF: lambda raw: Poweroff(vcpu=raw.vcpu),
    lib.VCORE_EXIT_RESET: lambda raw: Reset(vcpu=raw.vcpu),
    lib.VCORE_EXIT_STOPPED: lambda raw: Stopped(vcpu=raw.vcpu),
    lib.VCORE_EXIT_DEBUG_EXIT: lambda raw: DebugExit(raw.code, vcpu=raw.vcpu),
    lib.VCORE_EXIT_MIGRATED: lambda raw: Migrated(vcpu=raw.vcpu),
}


def typed(raw: Any) -> Exit:
    """The object for a struct vcore_exit."""
    return KINDS.get(raw.reason, lambda raw: Exit(vcpu=raw.vcpu))(raw)
