# SPDX-License-Identifier: LGPL-2.1-or-later
"""The library's constants. Where one is expected its name will do as well: backend="emu"."""
from __future__ import annotations

import enum

from ._virtcore import lib


class Machine(enum.IntEnum):
    """The chipset and firmware a vm is born with."""
    NONE = lib.VCORE_MACHINE_NONE
    MICROVM = lib.VCORE_MACHINE_MICROVM
    PC = lib.VCORE_MACHINE_PC


class Backend(enum.IntEnum):
    """What executes vcpus."""
    AUTO = lib.VCORE_BACKEND_AUTO
    KVM = lib.VCORE_BACKEND_KVM
    EMU = lib.VCORE_BACKEND_EMU


class Engine(enum.IntEnum):
    """How backend emu executes them."""
    AUTO = lib.VCORE_ENGINE_AUTO
    INTERP = lib.VCORE_ENGINE_INTERP
    JIT = lib.VCORE_ENGINE_JIT
    LOCKSTEP = lib.VCORE_ENGINE_LOCKSTEP
    PROMOTE = lib.VCORE_ENGINE_PROMOTE


class Irqchip(enum.IntEnum):
    """Where interrupt controllers live."""
    AUTO = lib.VCORE_IRQCHIP_AUTO
    NONE = lib.VCORE_IRQCHIP_NONE
    USER = lib.VCORE_IRQCHIP_USER
    SPLIT = lib.VCORE_IRQCHIP_SPLIT
    FULL = lib.VCORE_IRQCHIP_FULL


class Image(enum.IntEnum):
    """What VM.boot() loads."""
    AUTO = lib.VCORE_IMAGE_AUTO
    BZIMAGE = lib.VCORE_IMAGE_BZIMAGE
    PVH = lib.VCORE_IMAGE_PVH
    ELF = lib.VCORE_IMAGE_ELF
    MULTIBOOT = lib.VCORE_IMAGE_MULTIBOOT
    FLAT = lib.VCORE_IMAGE_FLAT


class Unhandled(enum.IntEnum):
    """What happens to an access that nobody answers."""
    DEFAULT = lib.VCORE_UNHANDLED_DEFAULT
    EXIT = lib.VCORE_UNHANDLED_EXIT
    IGNORE = lib.VCORE_UNHANDLED_IGNORE


class Loop(enum.IntEnum):
    """Who drives the devices: a thread of the library, or VM.loop_run()."""
    THREAD = lib.VCORE_LOOP_THREAD
    PROGRAM = lib.VCORE_LOOP_PROGRAM


class Feature(enum.IntFlag):
    """What a backend has on this host."""
    IRQCHIP_FULL = lib.VCORE_FEATURE_IRQCHIP_FULL
    IRQCHIP_SPLIT = lib.VCORE_FEATURE_IRQCHIP_SPLIT
    PIT = lib.VCORE_FEATURE_PIT
    IOEVENTFD = lib.VCORE_FEATURE_IOEVENTFD
    IRQFD = lib.VCORE_FEATURE_IRQFD
    MSI = lib.VCORE_FEATURE_MSI
    DIRTY_LOG = lib.VCORE_FEATURE_DIRTY_LOG
    DIRTY_RING = lib.VCORE_FEATURE_DIRTY_RING
    COALESCED_MMIO = lib.VCORE_FEATURE_COALESCED_MMIO
    IMMEDIATE_EXIT = lib.VCORE_FEATURE_IMMEDIATE_EXIT
    READONLY_MEM = lib.VCORE_FEATURE_READONLY_MEM
    SYNC_REGS = lib.VCORE_FEATURE_SYNC_REGS
    XSAVE = lib.VCORE_FEATURE_XSAVE
    DEBUG = lib.VCORE_FEATURE_DEBUG
    TSC_DEADLINE = lib.VCORE_FEATURE_TSC_DEADLINE
    X2APIC = lib.VCORE_FEATURE_X2APIC
    JIT = lib.VCORE_FEATURE_JIT


class State(enum.IntEnum):
    """What a vm is doing."""
    CREATED = lib.VCORE_VM_CREATED
    RUNNING = lib.VCORE_VM_RUNNING
    PAUSED = lib.VCORE_VM_PAUSED
    EXITED = lib.VCORE_VM_EXITED


class Mode(enum.IntEnum):
    """Flat modes for Vcpu.set_mode()."""
    REAL = lib.VCORE_MODE_REAL
    PROTECTED32 = lib.VCORE_MODE_PROTECTED32
    LONG64 = lib.VCORE_MODE_LONG64


class MemoryKind(enum.IntEnum):
    """What backs a memory slot."""
    ANON = lib.VCORE_MEMORY_ANON
    MEMFD = lib.VCORE_MEMORY_MEMFD
    FILE = lib.VCORE_MEMORY_FILE
    PRIVATE_FILE = lib.VCORE_MEMORY_PRIVATE_FILE
    POINTER = lib.VCORE_MEMORY_POINTER


class MemoryFlag(enum.IntFlag):
    """Access rights of the guest, and attributes of the backing."""
    R = lib.VCORE_MEM_R
    W = lib.VCORE_MEM_W
    X = lib.VCORE_MEM_X
    RX = lib.VCORE_MEM_RX
    RWX = lib.VCORE_MEM_RWX
    HUGE_2M = lib.VCORE_MEM_HUGE_2M
    HUGE_1G = lib.VCORE_MEM_HUGE_1G
    THP = lib.VCORE_MEM_THP
    PREALLOC = lib.VCORE_MEM_PREALLOC
    MERGEABLE = lib.VCORE_MEM_MERGEABLE
    LOCKED = lib.VCORE_MEM_LOCKED
    LOG_DIRTY = lib.VCORE_MEM_LOG_DIRTY


class Bus(enum.IntEnum):
    """Address spaces a device can answer in."""
    PIO = lib.VCORE_BUS_PIO
    MMIO = lib.VCORE_BUS_MMIO
    HYPERCALL = lib.VCORE_BUS_HYPERCALL


class HookKind(enum.IntEnum):
    """What a hook sees."""
    CODE = lib.VCORE_HOOK_CODE
    BLOCK = lib.VCORE_HOOK_BLOCK
    MEMORY = lib.VCORE_HOOK_MEMORY
    PORT = lib.VCORE_HOOK_PORT


class Access(enum.IntEnum):
    """What an address is translated for."""
    READ = lib.VCORE_ACCESS_READ
    WRITE = lib.VCORE_ACCESS_WRITE
    FETCH = lib.VCORE_ACCESS_FETCH


class DebugFlag(enum.IntFlag):
    """What ends a run with a DebugStop."""
    SINGLE_STEP = lib.VCORE_DEBUG_SINGLE_STEP
    SW_BREAK = lib.VCORE_DEBUG_SW_BREAK
    HW_BREAK = lib.VCORE_DEBUG_HW_BREAK


class CrashKind(enum.IntEnum):
    """Why a guest cannot go on."""
    NONE = lib.VCORE_CRASH_NONE
    TRIPLE_FAULT = lib.VCORE_CRASH_TRIPLE_FAULT
    INTERNAL = lib.VCORE_CRASH_INTERNAL
    PANIC = lib.VCORE_CRASH_PANIC
    MEMORY_LOST = lib.VCORE_CRASH_MEMORY_LOST


class Picture(enum.IntEnum):
    """Format of a saved picture."""
    PPM = lib.VCORE_PICTURE_PPM
    PNG = lib.VCORE_PICTURE_PNG


class InputKind(enum.IntEnum):
    """What a guest's input device is."""
    KEYBOARD = lib.VCORE_INPUT_KEYBOARD
    MOUSE = lib.VCORE_INPUT_MOUSE
    TABLET = lib.VCORE_INPUT_TABLET


class LogLevel(enum.IntEnum):
    """How serious a log line is."""
    DEFAULT = lib.VCORE_LOG_DEFAULT
    ERROR = lib.VCORE_LOG_ERROR
    WARN = lib.VCORE_LOG_WARN
    INFO = lib.VCORE_LOG_INFO
    DEBUG = lib.VCORE_LOG_DEBUG
    TRACE = lib.VCORE_LOG_TRACE
