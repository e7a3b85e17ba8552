# SPDX-License-Identifier: LGPL-2.1-or-later
"""Registers by name: vcpu.regs.rax = 1; vcpu.regs.update(rip=0x1000, rsp=0x8000); vcpu.sregs.cr3."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterator, NamedTuple, Tuple

from ._core import check
from ._virtcore import ffi, lib

if TYPE_CHECKING:
    from .vcpu import Vcpu


class Segment(NamedTuple):
    """A segment register with its hidden part (SDM 24.4.1)."""
    selector: int
    base: int
    limit: int
    attributes: int
    unusable: int


class Table(NamedTuple):
    """GDTR or IDTR."""
    base: int
    limit: int


class _File:
    """All registers of one struct of the library: each attribute is read from, and written to, the vcpu."""
    _names: Tuple[str, ...]
    _struct: str
    _get: Any
    _set: Any

    def __init__(self, vcpu: "Vcpu") -> None:
        object.__setattr__(self, "_vcpu", vcpu)

    def _fetch(self) -> Any:
        raw = ffi.new(self._struct + " *")
        raw.size = ffi.sizeof(raw[0])
        check(type(self)._get(self._vcpu._checked(), raw))
        return raw

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise AttributeError(f"there is no register {name!r} among {', '.join(self._names)}")
        raw = self._fetch()  # a field does not keep its struct
        return _plain(getattr(raw, name))

    def __setattr__(self, name: str, value: Any) -> None:
        self.update(**{name: value})

    def update(self, **values: Any) -> None:
        """Sets several at once, as a mode needs that fits only all of them together."""
        raw = self._fetch()
        for name, value in values.items():
            if name not in self._names:
                raise AttributeError(f"there is no register {name!r} among {', '.join(self._names)}")
            if isinstance(value, (Segment, Table)):
                value = value._asdict()
            setattr(raw, name, value)
        check(type(self)._set(self._vcpu._checked(), raw))

    def asdict(self) -> Dict[str, Any]:
        """All of them, read at once."""
        raw = self._fetch()
        return {name: _plain(getattr(raw, name)) for name in self._names}

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __dir__(self) -> Iterator[str]:
        return iter([*self._names, "update", "asdict"])

    def __repr__(self) -> str:
        return f"<{', '.join(f'{name}={value:#x}' if isinstance(value, int) else f'{name}={value}' for name, value in self.asdict().items())}>"


def _plain(value: Any) -> Any:
    """A register's value as Python has it."""
    if isinstance(value, int):
        return value
    fields = dir(value) if ffi.typeof(value).kind == "struct" else ()
    if "selector" in fields:
        return Segment(value.selector, value.base, value.limit, value.attributes, value.unusable)
    if "limit" in fields:
        return Table(value.base, value.limit)
    return tuple(value)


def _names(struct: str) -> Tuple[str, ...]:
    return tuple(name for name, _ in ffi.typeof(struct).fields if name not in ("size", "pad"))


class Registers(_File):
    """General registers, RIP and RFLAGS."""
    _struct = "struct vcore_regs"
    _names = _names(_struct)
    _get = lib.vcore_vcpu_get_regs
    _set = lib.vcore_vcpu_set_regs
    rax: int
    rcx: int
    rdx: int
    rbx: int
    rsp: int
    rbp: int
    rsi: int
    rdi: int
    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    r13: int
    r14: int
    r15: int
    rip: int
    rflags: int


class SpecialRegisters(_File):
    """Segment, table, control and debug registers."""
    _struct = "struct vcore_sregs"
    _names = _names(_struct)
    _get = lib.vcore_vcpu_get_sregs
    _set = lib.vcore_vcpu_set_sregs
    es: Segment
    cs: Segment
    ss: Segment
    ds: Segment
    fs: Segment
    gs: Segment
    ldtr: Segment
    tr: Segment
    gdtr: Table
    idtr: Table
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    cr8: int
    efer: int
    apic_base: int
    xcr0: int
    dr: Tuple[int, int, int, int]
    dr6: int
    dr7: int
