# SPDX-License-Identifier: LGPL-2.1-or-later
"""A full x86-64 virtual machine inside a Python program.

    with virtcore.VM(memory="512M", cpus=2) as vm:
        vm.boot_linux("vmlinuz", "initrd.gz", "console=ttyS0")
        vm.console.expect("login:")

VM is where everything begins; virtcore.aio.VM is the same for asyncio.
"""
from . import aio
from ._core import ClosedError, Error
from .command import RunError, run
from .console import Console, ConsoleEnded, ExpectError, ExpectTimeout
from .device import Device, DeviceHandle, NetStats
from .enums import (Access, Backend, Bus, CrashKind, DebugFlag, Engine, Feature, HookKind, Image, InputKind, Irqchip, LogLevel, Loop, Machine, MemoryFlag, MemoryKind, Mode,
                    Picture, State, Unhandled)
from .exits import (Crash, DebugExit, DebugStop, Exit, Halt, Hypercall, Kicked, Migrated, MmioAccess, PortAccess, Poweroff, Reset, Stopped, TimedOut)
from .hook import ALL, READS, WRITES, Hook, MemoryEvent, PortEvent
from .host import BackendInfo, Described, backends, cpu_missing, cpu_models, device_types, probe, version
from .memory import Memory, Slot
from .monitor import Monitor, MonitorError
from .pci import Bar, PciDevice, PciHandle, PciInfo
from .registers import Registers, Segment, SpecialRegisters, Table
from .screen import Display, DisplayInfo, Input
from .snapshot import Snapshot, SnapshotInfo
from .switch import Switch, SwitchPort
from .vcpu import Vcpu
from .vm import VM, Info

__all__ = [
    "Access", "aio", "ALL", "Backend", "BackendInfo", "backends", "Bar", "Bus", "ClosedError", "Console", "ConsoleEnded", "cpu_missing", "cpu_models",
    "Crash", "CrashKind", "DebugExit", "DebugFlag", "DebugStop", "Described", "Device", "device_types", "DeviceHandle", "Display", "DisplayInfo", "Engine", "Error", "Exit",
    "ExpectError", "ExpectTimeout", "Feature", "Halt", "Hook", "HookKind", "Hypercall", "Image", "Input", "InputKind", "Info", "Irqchip", "Kicked", "LogLevel", "Loop",
    "Machine", "Memory", "MemoryEvent", "MemoryFlag", "MemoryKind", "Migrated", "MmioAccess", "Mode", "Monitor", "MonitorError", "NetStats", "PciDevice", "PciHandle",
    "PciInfo", "Picture", "PortAccess", "PortEvent", "Poweroff", "probe", "READS", "Registers", "Reset", "run", "RunError", "Segment", "Slot", "Snapshot", "SnapshotInfo", "SpecialRegisters", "State", "Stopped",
    "Switch", "SwitchPort", "Table", "TimedOut", "Unhandled", "Vcpu", "version", "VM", "WRITES"
]
__version__ = version()
