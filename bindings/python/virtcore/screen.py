# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest shows, and keyboards and mice: vm.add_device("virtio-gpu"), vm.display().save("screen.png"), vm.input("keyboard").press("ret")."""
from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

from ._core import check, choice
from ._virtcore import ffi, lib
from .enums import InputKind, Picture

if TYPE_CHECKING:
    from .vm import VM


class DisplayInfo(NamedTuple):
    """Size in pixels, 0 when the guest shows nothing; what it was asked for; a number that grows with each change."""
    width: int
    height: int
    wanted_width: int
    wanted_height: int
    generation: int


class Display:
    """The picture of a display device. It may outlive the vm, and shows nothing then. A notebook shows it."""

    def __init__(self, vm: "VM", index: int) -> None:
        out = ffi.new("vcore_display **")
        check(lib.vcore_vm_find_display(vm._core.handle, index, out))
        self.handle: Any = ffi.gc(out[0], lib.vcore_display_unref)

    def _raw(self) -> Any:
        return ffi.new("struct vcore_display_info *", {"size": ffi.sizeof("struct vcore_display_info")})

    @property
    def info(self) -> DisplayInfo:
        """Size and change."""
        raw = self._raw()
        check(lib.vcore_display_get_info(self.handle, raw))
        return DisplayInfo(*(getattr(raw, name) for name in DisplayInfo._fields))

    def copy(self) -> memoryview:
        """The picture now: rows by columns by blue, green, red, 255, as numpy.asarray() takes it. Error ENODATA when there is none."""
        while True:
            info = self.info
            pixels = bytearray(max(info.width * info.height, 1) * 4)
            raw = self._raw()
            check(lib.vcore_display_copy(self.handle, ffi.NULL, ffi.from_buffer(pixels), len(pixels), 0, raw))
            if (raw.width, raw.height) == (info.width, info.height):
                return memoryview(pixels).cast("B", (info.height, info.width, 4))

    def save(self, path: Union[str, "os.PathLike[str]"], picture: Union[Picture, str, None] = None) -> None:
        """Writes a file, PNG or PPM; None: as its name ends."""
        kind = os.path.splitext(path)[1][1:] if picture is None else picture
        check(lib.vcore_display_save(self.handle, os.fsencode(path), choice(Picture, kind)))

    def png(self) -> bytes:
        """The picture as the content of a PNG file."""
        file = os.memfd_create("virtcore-picture")
        try:
            self.save(f"/proc/self/fd/{file}", Picture.PNG)
            with open(file, "rb", closefd=False) as saved:
                saved.seek(0)
                return saved.read()
        finally:
            os.close(file)

    def _repr_png_(self) -> Optional[bytes]:
        return self.png() if self.info.width else None

    def request_size(self, width: int, height: int) -> None:
        """Asks the guest for another size; it follows at its own pace, if at all."""
        check(lib.vcore_display_request_size(self.handle, width, height))

    def __repr__(self) -> str:
        info = self.info
        return f"<virtcore.Display {info.width}x{info.height}>" if info.width else "<virtcore.Display that shows nothing>"


class Input:
    """A keyboard, mouse or tablet of the guest. Error ENOTCONN while no driver of the guest's listens."""

    def __init__(self, vm: "VM", kind: Union[InputKind, str], index: int) -> None:
        out = ffi.new("vcore_input **")
        check(lib.vcore_vm_find_input(vm._core.handle, choice(InputKind, kind), index, out))
        self.handle: Any = ffi.gc(out[0], lib.vcore_input_unref)

    def key(self, name: str, down: bool) -> None:
        """A key ("a", "ret", "ctrl") or button ("btn-left") goes down or up."""
        check(lib.vcore_input_key(self.handle, check(lib.vcore_input_code(name.encode())), down))

    def press(self, *names: str) -> None:
        """Keys go down, in this order, and up again: press("ctrl", "alt", "delete")."""
        for name in names:
            self.key(name, True)
        for name in reversed(names):
            self.key(name, False)

    def move(self, dx: int, dy: int) -> None:
        """A mouse moves."""
        check(lib.vcore_input_move(self.handle, dx, dy))

    def move_to(self, x: int, y: int) -> None:
        """A tablet's pen is there, 0 to 32767."""
        check(lib.vcore_input_move_to(self.handle, x, y))
