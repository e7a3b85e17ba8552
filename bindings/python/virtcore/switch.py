# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network switch between vms of the process.

    switch = virtcore.Switch()
    for vm in vms:
        vm.add_switch("lan", switch)
        vm.add_device("virtio-net", net="switch", switch="lan")
"""
from __future__ import annotations

from typing import Any, List, NamedTuple

from ._core import check
from ._virtcore import ffi, lib


class SwitchPort(NamedTuple):
    """One port, seen from the switch: in from the card, out to it."""
    number: int
    vlan: int
    running: bool
    mac: str
    learned: int
    in_frames: int
    in_bytes: int
    in_dropped: int
    out_frames: int
    out_bytes: int
    out_dropped: int


class Switch:
    """A switch without ports; cards plug themselves in. It lives as long as anybody knows it."""

    def __init__(self) -> None:
        out = ffi.new("vcore_switch **")
        check(lib.vcore_switch_new(out))
        self.handle: Any = ffi.gc(out[0], lib.vcore_switch_unref)

    @property
    def ports(self) -> List[SwitchPort]:
        """Those that are plugged in now."""
        found: List[SwitchPort] = []
        raw = ffi.new("struct vcore_switch_port *", {"size": ffi.sizeof("struct vcore_switch_port")})
        while lib.vcore_switch_get_port(self.handle, found[-1].number + 1 if found else 0, raw) >= 0:
            mac = ":".join(f"{byte:02x}" for byte in raw.mac)
            counters = (getattr(raw, name) for name in SwitchPort._fields[4:])
            found.append(SwitchPort(raw.index, raw.vlan, bool(raw.running), mac, *counters))
        return found
