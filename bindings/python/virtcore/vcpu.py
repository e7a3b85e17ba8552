# SPDX-License-Identifier: LGPL-2.1-or-later
"""The vcpu: state, running it on the calling thread, debugging, translation."""
from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Iterator, Optional, Sequence, Tuple, Union

from ._core import check, choice, nanoseconds
from ._virtcore import ffi, lib
from .enums import Access, DebugFlag, Mode
from .exits import Exit, Halt, TimedOut, new, typed
from .registers import Registers, SpecialRegisters

if TYPE_CHECKING:
    from .vm import VM

SLICE = 0.1  # the main thread looks for signals so often: Ctrl-C ends a run


class Vcpu:
    """One virtual CPU of a vm."""

    def __init__(self, vm: "VM", handle: Any, index: int) -> None:
        self.vm = vm
        self.index = index
        self._handle = handle
        self._exit = new()
        self._registers = Registers(self)
        self._special = SpecialRegisters(self)

    def _checked(self) -> Any:
        self.vm._core.handle
        return self._handle

    @property
    def regs(self) -> Registers:
        """General registers, RIP, RFLAGS: `vcpu.regs.rax`, `vcpu.regs.update(rip=..., rsp=...)`."""
        return self._registers

    @regs.setter
    def regs(self, values: Any) -> None:
        self._registers.update(**dict(values))

    @property
    def sregs(self) -> SpecialRegisters:
        """Segment, table, control and debug registers."""
        return self._special

    def set_mode(self, mode: Union[Mode, str], page_tables: int = 0) -> None:
        """A flat mode: "real", "protected32", or "long64" with 24 KiB of page tables, which are written, at `page_tables`."""
        check(lib.vcore_vcpu_set_mode(self._checked(), choice(Mode, mode), page_tables))

    def run(self, timeout: Optional[float] = None) -> Exit:
        """Runs the guest on this thread, without the interpreter's lock, until something happens that the program must see.

        `timeout` in seconds. What a callback raises, KeyboardInterrupt too, is raised here.
        """
        with self.vm._core:
            if threading.current_thread() is threading.main_thread():
                self._run_sliced(timeout)
            else:
                check(lib.vcpy_run(self._handle, nanoseconds(timeout), self._exit))
        self.vm._raise_failure()
        return typed(self._exit)

    def _run_sliced(self, timeout: Optional[float]) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        left = timeout
        while True:
            check(lib.vcpy_run(self._handle, nanoseconds(SLICE if left is None else min(left, SLICE)), self._exit))
            left = None if end is None else end - time.monotonic()
            if self._exit.reason != lib.VCORE_EXIT_TIMEOUT or (left is not None and left <= 0):
                return

    def exits(self, timeout: Optional[float] = None) -> Iterator[Exit]:
        """Runs again and again; ends behind an exit after which the guest does not go on, or Halt or TimedOut."""
        while True:
            exit = self.run(timeout)
            yield exit
            if exit.final or isinstance(exit, (Halt, TimedOut)):
                return

    def kick(self) -> None:
        """Ends the run, or the next one, with Kicked. From any thread, also from callbacks."""
        self.vm._core.kick(self._handle)

    def interrupt(self, vector: int) -> None:
        """Injects an external interrupt, in a vm without interrupt controllers."""
        check(lib.vcore_vcpu_interrupt(self._checked(), vector))

    def nmi(self) -> None:
        """Injects an NMI."""
        check(lib.vcore_vcpu_nmi(self._checked()))

    def debug(self, flags: DebugFlag = DebugFlag(0), breakpoints: Sequence[int] = (), dr7: Optional[int] = None) -> None:
        """Single steps, software breakpoints, and up to four addresses of hardware breakpoints on execution; without anything: off."""
        raw = ffi.new("struct vcore_debug *", {"size": ffi.sizeof("struct vcore_debug")})
        if breakpoints:
            flags |= DebugFlag.HW_BREAK
        for index, address in enumerate(breakpoints):
            raw.dr[index] = address
        raw.flags = flags
        raw.dr7 = sum(3 << 2 * i for i in range(len(breakpoints))) if dr7 is None else dr7
        check(lib.vcore_vcpu_set_debug(self._checked(), raw))

    def step(self) -> Exit:
        """Executes one instruction."""
        self.debug(DebugFlag.SINGLE_STEP)
        try:
            return self.run()
        finally:
            self.debug()

    def get_msr(self, index: int) -> int:
        """One MSR."""
        value = ffi.new("uint64_t *")
        check(lib.vcore_vcpu_get_msr(self._checked(), index, value))
        return int(value[0])

    def set_msr(self, index: int, value: int) -> None:
        """One MSR."""
        check(lib.vcore_vcpu_set_msr(self._checked(), index, value))

    def cpuid(self, leaf: int, subleaf: int = 0) -> Tuple[int, int, int, int]:
        """EAX, EBX, ECX, EDX of CPUID in this vcpu."""
        out = ffi.new("uint32_t[4]")
        check(lib.vcore_vcpu_cpuid(self._checked(), leaf, subleaf, out))
        return out[0], out[1], out[2], out[3]

    @property
    def xsave(self) -> bytes:
        """x87, SSE and AVX state in the standard XSAVE format."""
        first = ffi.new("uint8_t[576]")
        length = check(lib.vcore_vcpu_get_xsave(self._checked(), first, 576))
        area = ffi.new("uint8_t[]", max(length, 576))
        check(lib.vcore_vcpu_get_xsave(self._checked(), area, len(area)))
        return bytes(ffi.buffer(area))

    @xsave.setter
    def xsave(self, area: bytes) -> None:
        check(lib.vcore_vcpu_set_xsave(self._checked(), ffi.from_buffer(area), len(area)))

    def translate(self, address: int, access: Union[Access, str] = Access.READ) -> int:
        """The guest-physical address of a guest-virtual one."""
        gpa = ffi.new("uint64_t *")
        check(lib.vcore_vcpu_translate(self._checked(), address, choice(Access, access), gpa))
        return int(gpa[0])

    def read(self, address: int, length: int) -> bytes:
        """Guest-virtual memory."""
        buffer = ffi.new("uint8_t[]", length)
        check(lib.vcore_vcpu_read(self._checked(), address, buffer, length))
        return bytes(ffi.buffer(buffer))

    def write(self, address: int, data: Any) -> None:
        """Guest-virtual memory."""
        source = ffi.from_buffer(data)
        check(lib.vcore_vcpu_write(self._checked(), address, source, ffi.sizeof(source)))

    def __repr__(self) -> str:
        try:
            return f"<virtcore.Vcpu {self.index} at {self.regs.rip:#x}>"
        except (OSError, ValueError) as why:
            return f"<virtcore.Vcpu {self.index}: {why}>"
