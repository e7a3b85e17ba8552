# SPDX-License-Identifier: LGPL-2.1-or-later
"""PCI functions written in Python.

    class Card(virtcore.PciDevice):
        vendor, device, class_code = 0x1234, 0x11e9, 0xff0000
        bars = {0: virtcore.Bar(4096)}
        def read(self, bar, offset, width):
            return 42

    vm.add_pci(Card())
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Dict, NamedTuple, Optional, Sequence, Tuple

from ._callbacks import Binding
from ._core import check
from ._virtcore import ffi, lib
from .device import DeviceHandle

if TYPE_CHECKING:
    from .vm import VM


class Bar(NamedTuple):
    """What a base address register decodes: a power of 2, memory from 16 bytes or ports from 4."""
    size: int
    io: bool = False
    wide: bool = False  # a 64-bit address; takes the next register too
    prefetch: bool = False

    @property
    def flags(self) -> int:
        """As the library has them."""
        return int(self.io and lib.VCORE_PCI_BAR_IO) | int(self.wide and lib.VCORE_PCI_BAR_64) | int(self.prefetch and lib.VCORE_PCI_BAR_PREFETCH)


class PciInfo(NamedTuple):
    """Where a function is, and what the guest made of it; bars: None where it does not answer."""
    bus: int
    device: int
    function: int
    command: int
    msi: int  # how interrupts are signalled: 0 INTx, 1 MSI, 2 MSI-X
    gsi: int
    slot_off: int
    bars: Tuple[Optional[int], ...]


class PciDevice:
    """Base of PCI functions written in Python: set what it is, override what it does. Methods run as those of Device."""
    vendor: int = 0x1234
    device: int = 0
    class_code: int = 0xff0000  # 0xCCSSPP
    subsystem_vendor: int = 0
    subsystem: int = 0
    revision: int = 0
    interrupt_pin: int = 0  # 1 to 4: INTA# to INTD#
    msix_vectors: int = 0
    msi_vectors: int = 0
    bars: Dict[int, Bar] = {}
    capabilities: Sequence[Tuple[int, bytes]] = ()  # ID, and what follows ID and link

    def read(self, bar: int, offset: int, width: int) -> int:
        """The guest reads from a BAR. Without it: all ones."""
        return (1 << 8 * width) - 1

    def write(self, bar: int, offset: int, width: int, value: int) -> None:
        """The guest writes to a BAR. Without it: the value vanishes."""

    def reset(self) -> None:
        """The vm is reset; configuration space has been."""

    def save(self) -> bytes:
        """The state beyond configuration space, for load()."""
        return b""

    def load(self, state: bytes) -> None:
        """Takes back what save() returned."""


class PciHandle(DeviceHandle):
    """A PCI function in a vm."""

    def irq(self, level: bool) -> None:
        """Asserts or releases INTx."""
        check(lib.vcore_pci_irq_set(self.handle, level))

    def send(self, vector: int = 0) -> None:
        """Sends the message of a vector, MSI-X or MSI."""
        check(lib.vcore_pci_msix_send(self.handle, vector))

    def dma_read(self, address: int, length: int) -> bytes:
        """Memory as the function reaches it, through an IOMMU where there is one; from its callbacks too."""
        data = ffi.new("uint8_t[]", length)
        check(lib.vcore_pci_dma_read(self.handle, address, data, length))
        return bytes(ffi.buffer(data, length))

    def dma_write(self, address: int, data: bytes) -> None:
        """The same to write."""
        check(lib.vcore_pci_dma_write(self.handle, address, ffi.from_buffer(data), len(data)))

    def unplug(self) -> None:
        """Asks the guest to let go of a function behind a root port; info.slot_off tells when it has."""
        check(lib.vcore_pci_unplug(self.handle))

    @property
    def info(self) -> PciInfo:
        """Address and state."""
        raw = ffi.new("struct vcore_pci_info *", {"size": ffi.sizeof("struct vcore_pci_info")})
        check(lib.vcore_pci_get_info(self.handle, raw))
        bars = tuple(None if bar == 0xffffffffffffffff else bar for bar in raw.bars)
        return PciInfo(raw.bus, raw.device, raw.function, raw.command, raw.msi, raw.gsi, raw.slot_off, bars)


def add_pci(vm: "VM", device: PciDevice, address: Optional[str]) -> PciHandle:
    """Adds one to a vm."""
    core = vm._core.handle
    keep = [ffi.new("char[]", type(device).__name__.encode())]  # what the library copies
    description = ffi.new("struct vcore_pci_description *", {"size": ffi.sizeof("struct vcore_pci_description"), "type": keep[0]})
    for name in ("vendor", "device", "class_code", "subsystem_vendor", "subsystem", "revision", "interrupt_pin", "msix_vectors", "msi_vectors"):
        setattr(description, name, getattr(device, name))
    for index, bar in device.bars.items():
        description.bars[index].size = bar.size
        description.bars[index].flags = bar.flags
    if device.capabilities:
        keep += [ffi.new("uint8_t[]", data) for _, data in device.capabilities]
        keep.append(ffi.new("struct vcore_pci_capability[]", [
            {"id": number, "length": len(data), "data": kept} for (number, data), kept in zip(device.capabilities, keep[1:])]))
        description.capabilities, description.capability_count = keep[-1], len(device.capabilities)
    if address is not None:
        keep.append(ffi.new("char[]", address.encode()))
        description.address = keep[-1]
    binding = Binding(vm._core.handles, vm._failed, noted=vm._noted, read=device.read, write=device.write, device=device)
    out = ffi.new("vcore_device **")
    check(lib.vcpy_pci_add(core, description, binding.ctx, out))
    return PciHandle(vm, out[0], f"{type(device).__name__} on PCI")
