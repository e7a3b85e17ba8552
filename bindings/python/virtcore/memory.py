# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guest memory: vm.memory[0x1000:0x1010], vm.memory[0x1000] = code, numpy.frombuffer(vm.memory.view(0, 4096), "u4")."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, Optional, Tuple, Union

from ._core import ClosedError, Core, Size, check, choice, size
from ._virtcore import ffi, lib
from .enums import MemoryFlag, MemoryKind

if TYPE_CHECKING:
    from .vm import VM


class _Views:
    """How many views of a slot there are: one that is seen must not be unmapped."""

    def __init__(self) -> None:
        self.count = 0


def make_view(core: Core, pointer: Any, length: int, views: _Views) -> memoryview:
    """A memoryview on guest memory. It keeps the memory, not the running vm, alive."""
    core.hold()
    views.count += 1

    def gone(_: Any) -> None:
        views.count -= 1
        core.drop()
    return memoryview(ffi.buffer(ffi.gc(ffi.cast("char *", pointer), gone), length))


class Slot:
    """A range of guest-physical addresses backed by memory of the host."""

    def __init__(self, memory: "Memory", handle: Any, keep: Any) -> None:
        self._memory = memory
        self._handle = handle
        self._keep = keep  # the program's own memory
        info = self._info()
        self.gpa: int = info.gpa
        self.length: int = info.length
        self.flags = MemoryFlag(info.flags)
        self.kind = MemoryKind(info.kind)

    def _checked(self) -> Any:
        self._memory._vm._core.handle
        if self._handle is None:
            raise ClosedError(f"the slot at {self.gpa:#x} was removed")
        return self._handle

    def _info(self) -> Any:
        info = ffi.new("struct vcore_slot_info *", {"size": ffi.sizeof("struct vcore_slot_info")})
        check(lib.vcore_memory_get_info(self._checked(), info))
        return info

    @property
    def fd(self) -> int:
        """The memfd or file; -1: none. It belongs to the slot."""
        return int(self._info().fd)

    def view(self) -> memoryview:
        """All of it, without copying."""
        return self._memory.view(self.gpa, self.length)

    def log_dirty(self, enable: bool = True) -> None:
        """Begins or ends the log of pages that were written."""
        check(lib.vcore_memory_log_dirty(self._checked(), enable))

    def dirty(self) -> List[int]:
        """Addresses of the 4 KiB pages that were written since the last call."""
        count = (self.length // 4096 + 63) // 64 * 8
        bitmap = ffi.new("uint8_t[]", count)
        check(lib.vcore_memory_get_dirty(self._checked(), bitmap, count))
        return [self.gpa + (byte * 8 + bit) * 4096 for byte, bits in enumerate(ffi.buffer(bitmap)[:]) if bits for bit in range(8) if bits >> bit & 1]

    def remove(self) -> None:
        """Takes the memory away from the guest. BufferError while there are views of it."""
        self._checked()
        if self._memory._views.count:
            raise BufferError("there are views of the vm's memory: release them before a slot is removed")
        check(lib.vcore_memory_remove(self._handle))
        self._handle = None
        self._memory.slots.remove(self)

    def __repr__(self) -> str:
        return f"<virtcore.Slot {self.gpa:#x}-{self.gpa + self.length - 1:#x} {self.kind.name.lower()} {self.flags!r}>"


class Memory:
    """The guest-physical memory of a vm.

    Indexing copies: `memory[gpa:end]` gives bytes, `memory[gpa:end] = data` or `memory[gpa] = data` writes, and the engine sees
    code that is written so. view() does not copy; code written through it is not noticed.
    """

    def __init__(self, vm: "VM") -> None:
        self._vm = vm
        self._views = _Views()
        self.slots: List[Slot] = []  # those that were added with add()

    def add(self, gpa: int, length: Optional[Size] = None, flags: MemoryFlag = MemoryFlag.RWX, kind: Union[MemoryKind, str] = MemoryKind.MEMFD,
            fd: int = -1, offset: int = 0, buffer: Any = None) -> Slot:
        """Adds a slot.

        `buffer`: the program's own page-aligned memory, such as an mmap or an array, instead of the library's; it is kept until the vm is gone.
        `kind` "file" or "private-file": of `fd`, from `offset` on.
        """
        core = self._vm._core
        options = ffi.new("struct vcore_memory_options *", {"size": ffi.sizeof("struct vcore_memory_options"), "fd": fd, "offset": offset})
        options.kind = choice(MemoryKind, kind)
        keep = None
        if buffer is not None:
            keep = ffi.from_buffer(buffer, require_writable=bool(flags & MemoryFlag.W))
            options.kind = MemoryKind.POINTER
            options.pointer = keep
            length = ffi.sizeof(keep) if length is None else length
        if length is None:
            raise ValueError("a slot needs a length or a buffer")
        out = ffi.new("vcore_slot **")
        if keep is not None:
            core.handles.add(keep)
        check(lib.vcore_memory_add(core.handle, gpa, size(length), flags, options, out))
        slot = Slot(self, out[0], keep)
        self.slots.append(slot)
        return slot

    def read(self, gpa: int, length: int) -> bytes:
        """A copy."""
        buffer = ffi.new("uint8_t[]", length)
        check(lib.vcore_memory_read(self._vm._core.handle, gpa, buffer, length))
        return bytes(ffi.buffer(buffer))

    def write(self, gpa: int, data: Any) -> None:
        """Copies bytes, or anything with a buffer, into guest memory."""
        source = ffi.from_buffer(data)
        check(lib.vcore_memory_write(self._vm._core.handle, gpa, source, ffi.sizeof(source)))

    def view(self, gpa: int, length: Size) -> memoryview:
        """Guest memory itself, within one slot. It stays valid, also behind the vm's end, until it is released."""
        length = size(length)
        out = ffi.new("void **")
        check(lib.vcore_memory_hva(self._vm._core.handle, gpa, length, out))
        return make_view(self._vm._core, out[0], length, self._views)

    def _range(self, key: Union[int, slice]) -> Tuple[int, Optional[int]]:
        if isinstance(key, int):
            return key, None
        if key.start is None or key.step not in (None, 1):
            raise ValueError("a range of guest memory needs a start, and no step")
        return key.start, None if key.stop is None else key.stop - key.start

    def __getitem__(self, key: slice) -> bytes:
        gpa, length = self._range(key)
        if length is None:
            raise ValueError("a range of guest memory needs an end")
        return self.read(gpa, length)

    def __setitem__(self, key: Union[int, slice], data: Any) -> None:
        gpa, length = self._range(key)
        if length is not None and length != memoryview(data).nbytes:
            raise ValueError(f"{memoryview(data).nbytes} bytes do not fill a range of {length}")
        self.write(gpa, data)
