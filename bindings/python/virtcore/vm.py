# SPDX-License-Identifier: LGPL-2.1-or-later
"""The vm."""
from __future__ import annotations

import base64
import errno
import html
import json
import os
import select
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Type, TypeVar, Union

from . import exits
from ._callbacks import Binding
from ._core import ClosedError, Core, Error, Size, check, choice, iter_vcpus, nanoseconds, optional, size, text
from ._virtcore import ffi, lib
from .console import Console
from .device import Call, Device, DeviceHandle, Read, Write, add_builtin, add_custom
from .enums import Backend, Bus, Engine, HookKind, Image, InputKind, Irqchip, LogLevel, Loop, Machine, MemoryFlag, MemoryKind, State, Unhandled
from .hook import ALL, CodeFunction, Hook, MemoryFunction, PortFunction
from .memory import Memory
from .pci import PciDevice, PciHandle, add_pci
from .screen import Display, Input
from .snapshot import Clone, Properties, Snapshot
from .switch import Switch
from .vcpu import Vcpu

Path = Union[str, bytes, "os.PathLike[str]"]
Log = Callable[[LogLevel, str], object]
V = TypeVar("V", bound="VM")


class Info(NamedTuple):
    """Facts and counters of a vm."""
    backend: Backend
    engine: Engine
    irqchip: Irqchip
    machine: Machine
    vcpus: int
    state: State
    slots: int
    memory: int
    tsc_khz: int
    time_ns: int
    exits: int
    pio: int
    mmio: int
    hypercalls: int
    interrupts: int
    instructions: int
    emulated: int


class VM:
    """A whole virtual machine.

        with virtcore.VM(memory="512M", cpus=2) as vm:
            vm.boot_linux("vmlinuz", "initrd.gz", "console=ttyS0")
            vm.console.expect("login:")

    machine   "microvm" (boots kernels), or "none": vcpus and what is added, run with vm.vcpu.run()
    memory    bytes or "512M"; 0: the machine's default, which is none for machine "none"
    cpu       a model, cpu_models() lists them: "x86-64-v3,-avx2"
    console   whether there is a serial console; None: for machine "microvm"
    log       called with a LogLevel and a line
    loop      "thread": the library drives the devices; "program": loop_fd and loop_run() do

    The end of a `with` block, close(), or garbage collection ends its threads and frees all of it, whatever refers to it. Views of
    its memory stay valid. Methods are callable from any thread; close() may meet run(), wait() and kick() of others, but nothing else.
    """

    _console_type: Type[Console] = Console
    _core: Core = None  # type: ignore[assignment]  # until the library has made the vm

    def __init__(self, memory: Size = 0, cpus: int = 1, machine: Union[Machine, str] = Machine.MICROVM, backend: Union[Backend, str] = Backend.AUTO,
                 engine: Union[Engine, str] = Engine.AUTO, irqchip: Union[Irqchip, str] = Irqchip.AUTO, cpu: Optional[str] = None,
                 memory_kind: Union[MemoryKind, str] = MemoryKind.MEMFD, memory_flags: MemoryFlag = MemoryFlag(0),
                 unhandled: Union[Unhandled, str] = Unhandled.DEFAULT, loop: Union[Loop, str] = Loop.THREAD, tsc_khz: int = 0, legacy: bool = True,
                 console: Optional[bool] = None, log: Optional[Log] = None, log_level: Union[LogLevel, str] = LogLevel.DEFAULT) -> None:
        self._reset_members()
        machine = choice(Machine, machine)
        options = ffi.new("struct vcore_options *", {"size": ffi.sizeof("struct vcore_options")})
        model = ffi.NULL if cpu is None else ffi.new("char[]", cpu.encode())
        for name, value in {"machine": machine, "backend": choice(Backend, backend), "engine": choice(Engine, engine), "irqchip": choice(Irqchip, irqchip),
                            "vcpus": cpus, "memory": size(memory), "memory_kind": choice(MemoryKind, memory_kind), "memory_flags": memory_flags, "cpu": model,
                            "unhandled": choice(Unhandled, unhandled), "loop": choice(Loop, loop), "tsc_khz": tsc_khz, "no_legacy": int(not legacy),
                            "log_level": choice(LogLevel, log_level)}.items():
            setattr(options, name, value)
        handles: Set[Any] = set()
        if log is not None:
            lib.vcpy_set_log(options, self._log_ctx(log, handles))
        self._make(lambda out: int(lib.vcore_vm_new(options, out)), handles)
        if machine is Machine.MICROVM if console is None else console:
            self.add_console()

    @classmethod
    def from_json(cls: Type[V], description: Union[str, Dict[str, Any]]) -> V:
        """A vm from a JSON description, up to a loaded kernel; start() runs it. It has the devices of the description, and no other console."""
        data = description if isinstance(description, str) else json.dumps(description)
        vm = cls.__new__(cls)
        vm._reset_members()
        vm._make(lambda out: int(lib.vcore_vm_new_from_json(data.encode(), out)), set())
        return vm

    def _reset_members(self) -> None:
        self._consoles: List[Console] = []
        self._devices: List[DeviceHandle] = []
        self._hooks: List[Hook] = []
        self._failure: Optional[BaseException] = None
        self._monitors: List[Any] = []
        self._gdb: Any = None

    def _log_ctx(self, log: Log, handles: Set[Any]) -> Any:
        return Binding(handles, self._failed, function=lambda level, line: log(LogLevel(level), line)).ctx

    def _make(self, make: Callable[[Any], int], handles: Set[Any]) -> None:
        out = ffi.new("vcore_vm **")
        check(make(out))
        self._adopt(out[0], handles)
        self._made()

    def _adopt(self, vm: Any, handles: Set[Any]) -> None:
        self._core = Core(vm, handles)
        self.vcpus: List[Vcpu] = [Vcpu(self, handle, index) for index, handle in enumerate(iter_vcpus(vm))]
        self.memory = Memory(self)

    def _made(self) -> None:
        """The library's vm is there; for subclasses."""

    # ---- life ----

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._core is None or self._core.closed

    def close(self) -> None:
        """Ends the guest and the vm's threads, and frees everything. Not from a callback of the vm itself. Again: nothing."""
        if self.closed:
            return
        if lib.vcpy_current() != ffi.NULL and lib.vcore_vcpu_vm(lib.vcpy_current()) == self._core.handle:
            raise Error(errno.EDEADLK, "a vm cannot be closed in one of its own callbacks; stop() or kick() ends the run")
        if self._gdb is not None:
            lib.vcore_gdb_free(self._gdb)
            self._gdb = None
        while self._monitors:
            lib.vcore_monitor_free(self._monitors.pop())
        self._core.close()
        for console in self._consoles:
            console._close()

    def __enter__(self: V) -> V:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _failed(self, error: BaseException) -> None:
        """A callback has raised: the guest does not go on, and run() or wait() raise it again."""
        self._noted(error)
        vcpu = lib.vcpy_current()
        if self._core is not None and not self._core.closed and lib.vcore_vm_stop(self._core.handle) < 0 and vcpu != ffi.NULL:
            lib.vcore_vcpu_kick(vcpu)

    def _noted(self, error: BaseException) -> None:
        """A device cannot be reset, saved or loaded: the call that wanted it raises this."""
        if self._failure is None:
            self._failure = error

    def _checked(self, result: int) -> None:
        self._raise_failure()
        check(result)

    def _raise_failure(self) -> None:
        error, self._failure = self._failure, None
        if error is not None:
            raise error

    # ---- booting and running ----

    def boot_linux(self, kernel: Path, initrd: Optional[Path] = None, cmdline: str = "console=ttyS0", start: bool = True) -> None:
        """Loads an unmodified kernel and, unless told otherwise, starts the vm."""
        check(lib.vcore_boot_linux(self._core.handle, optional(kernel), optional(initrd), cmdline.encode()))
        if start:
            self.start()

    def boot(self, kernel: Union[Path, memoryview, bytearray], initrd: Union[Path, memoryview, bytearray, None] = None, cmdline: str = "",
             image: Union[Image, str] = Image.AUTO, modules: Sequence[str] = (), address: int = 0, start: bool = False) -> None:
        """Loads an image of any kind that the library knows: a path, or with a bytearray or memoryview the bytes themselves."""
        keep: List[Any] = [ffi.new("char[]", module.encode()) for module in modules]
        options = ffi.new("struct vcore_boot_options *", {"size": ffi.sizeof("struct vcore_boot_options"), "image": choice(Image, image), "address": address})

        def string(value: Any) -> Any:
            keep.append(ffi.new("char[]", os.fsencode(value)))
            return keep[-1]
        for name, image_of in (("kernel", kernel), ("initrd", initrd)):
            if isinstance(image_of, (memoryview, bytearray)):
                keep.append(ffi.from_buffer(image_of))
                setattr(options, name + "_data", keep[-1])
                setattr(options, name + "_length", len(keep[-1]))
            elif image_of is not None:
                setattr(options, name, string(image_of))
        options.cmdline = string(cmdline)
        if modules:
            keep.append(ffi.new("char *[]", [*keep[:len(modules)], ffi.NULL]))
            options.modules = keep[-1]
        check(lib.vcore_boot(self._core.handle, options))
        if start:
            self.start()

    def start(self) -> None:
        """Lets the library run the vcpus, a thread each; returns at once."""
        handle = self._core.handle
        check(lib.vcore_vm_start(handle))
        for console in self._consoles:
            console._begin(lib.vcore_vm_fd(handle))

    def wait(self, timeout: Optional[float] = None) -> exits.Exit:
        """Waits for the end of a started vm, and says why it ended. TimeoutError after `timeout` seconds; what a callback raised is raised here."""
        raw = exits.new()
        end = None if timeout is None else time.monotonic() + timeout
        with self._core as handle:
            poll = select.poll()
            poll.register(lib.vcore_vm_fd(handle), select.POLLIN)
            while True:
                result = lib.vcore_vm_wait(handle, 0, raw)
                if result != -errno.ETIMEDOUT:
                    break
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"the vm has not ended in {timeout} s")
                poll.poll(None if left is None else left * 1000)
        self._raise_failure()
        check(result)
        return exits.typed(raw)

    def pause(self) -> None:
        """Holds all vcpus; guest time stands still."""
        check(lib.vcore_vm_pause(self._core.handle))

    def resume(self) -> None:
        """Lets a paused vm go on."""
        check(lib.vcore_vm_resume(self._core.handle))

    def stop(self) -> None:
        """Ends a started vm with Stopped; does not wait."""
        check(lib.vcore_vm_stop(self._core.handle))

    def reset(self) -> None:
        """Power-on state; a kernel booted from files is put in place again."""
        self._checked(lib.vcore_vm_reset(self._core.handle))

    def snapshot(self) -> Snapshot:
        """What the vm is now, to clone it and to go back; one that runs goes on. Not while a vcpu is inside run()."""
        out = ffi.new("vcore_snapshot **")
        self._checked(lib.vcore_snapshot_take(self._core.handle, out))
        return Snapshot(out[0], [console._fd for console in self._consoles])

    def reset_to(self, snapshot: Snapshot) -> None:
        """Makes the vm what the snapshot says, in place. One that runs goes on from there; one that has exited waits for start() or run()."""
        self._checked(lib.vcore_vm_reset_to(self._core.handle, snapshot.handle))

    @classmethod
    def from_snapshot(cls: Type[V], snapshot: Snapshot, backend: Union[Backend, str] = Backend.AUTO, engine: Union[Engine, str] = Engine.AUTO,
                      loop: Union[Loop, str] = Loop.THREAD, same_identity: bool = False, new_macs: bool = False, prepare: Optional[Callable[[V], object]] = None,
                      properties: Optional[Properties] = None, log: Optional[Log] = None, log_level: Union[LogLevel, str] = LogLevel.DEFAULT) -> V:
        """A new vm that is what the snapshot says, sharing its memory until it is written; start() or run() lets it go on.

        prepare     called with the vm: adds what the program itself had added, devices in Python in the same order
        new_macs    its virtio-nets have new addresses
        properties  properties(index, type, properties) gives other ones for a device of the library's, None: the same
        Consoles are new ones.
        """
        options = ffi.new("struct vcore_clone_options *", {"size": ffi.sizeof("struct vcore_clone_options"), "backend": choice(Backend, backend),
                                                           "engine": choice(Engine, engine), "loop": choice(Loop, loop),
                                                           "flags": (lib.VCORE_CLONE_SAME_IDENTITY if same_identity else 0) |
                                                           (lib.VCORE_CLONE_NEW_MACS if new_macs else 0),
                                                           "log_level": choice(LogLevel, log_level)})
        vm = cls.__new__(cls)
        vm._reset_members()
        handles: Set[Any] = set()
        clone = Clone(vm, snapshot, handles, prepare, properties)
        log_ctx = ffi.NULL
        if log is not None:
            log_ctx = vm._log_ctx(log, handles)
        handle = ffi.new_handle(clone)
        out = ffi.new("vcore_vm **")
        result = lib.vcpy_clone(snapshot.handle, options, handle, log_ctx, out)
        if result < 0:
            clone.abandon()
        vm._checked(result)
        vm._made()
        return vm

    def fileno(self) -> int:
        """A descriptor that polls readable once the started vm has ended; the vm's own."""
        return int(check(lib.vcore_vm_fd(self._core.handle)))

    def loop_fd(self) -> int:
        """With loop="program": a descriptor that polls readable when loop_run() has work; the vm's own."""
        return int(check(lib.vcore_vm_loop_fd(self._core.handle)))

    def loop_run(self, timeout: Optional[float] = 0) -> int:
        """With loop="program": serves the vm's devices; how many events there were."""
        with self._core as handle:
            return check(lib.vcore_vm_loop_run(handle, nanoseconds(timeout)))

    # ---- what it has ----

    @property
    def vcpu(self) -> Vcpu:
        """The first vcpu."""
        return self.vcpus[0]

    def current_vcpu(self) -> Optional[Vcpu]:
        """Inside a callback: the vcpu whose thread runs it. None: no vcpu's."""
        handle = lib.vcpy_current()
        return None if handle == ffi.NULL else self.vcpus[lib.vcore_vcpu_index(handle)]

    @property
    def info(self) -> Info:
        """Facts and counters."""
        raw = ffi.new("struct vcore_vm_info *", {"size": ffi.sizeof("struct vcore_vm_info")})
        check(lib.vcore_vm_get_info(self._core.handle, raw))
        values = [getattr(raw, name) for name in Info._fields]
        for index, kind in enumerate((Backend, Engine, Irqchip, Machine)):
            values[index] = kind(values[index])
        values[Info._fields.index("state")] = State(raw.state)
        return Info(*values)

    @property
    def state(self) -> State:
        """What it is doing."""
        return self.info.state

    @property
    def console(self) -> Console:
        """The first serial console."""
        if not self._consoles:
            raise ClosedError("this vm has no console; VM(console=True) makes one")
        return self._consoles[0]

    def display(self, index: int = 0) -> Display:
        """What the guest shows on a display device such as "virtio-gpu"."""
        return Display(self, index)

    def input(self, kind: Union[InputKind, str], index: int = 0) -> Input:
        """A "keyboard", "mouse" or "tablet", such as device "virtio-keyboard"."""
        return Input(self, kind, index)

    @property
    def devices(self) -> Tuple[DeviceHandle, ...]:
        """Those that were added."""
        return tuple(self._devices)

    # ---- devices ----

    def add_console(self, **properties: Any) -> Console:
        """A serial port whose other end is a Console; properties as of device "uart", such as addr=0x2f8."""
        console = self._console_type(self)
        try:
            self.add_device("uart", **properties, **console.properties)
        except BaseException:
            console._close()
            raise
        self._consoles.append(console)
        return console

    def add_device(self, type: str, **properties: Any) -> DeviceHandle:
        """One of the library's devices; device_types() lists them with their properties: add_device("virtio-blk", image="disk.qcow2")."""
        return self._added(add_builtin(self, type, properties))

    def _added(self, device: DeviceHandle) -> DeviceHandle:
        self._devices.append(device)
        return device

    def add_mmio(self, start: int, length: int, device: Optional[Device] = None, read: Optional[Read] = None, write: Optional[Write] = None) -> DeviceHandle:
        """A device written in Python, or functions in its place, at guest-physical addresses that no memory covers."""
        return self._added(add_custom(self, Bus.MMIO, start, length, device, read, write, None))

    def add_ports(self, start: int, length: int, device: Optional[Device] = None, read: Optional[Read] = None, write: Optional[Write] = None) -> DeviceHandle:
        """A device written in Python, or functions in its place, at I/O ports."""
        return self._added(add_custom(self, Bus.PIO, start, length, device, read, write, None))

    def add_hypercalls(self, start: int, length: int = 1, device: Optional[Device] = None, call: Optional[Call] = None) -> DeviceHandle:
        """A device written in Python, or a function in its place, for hypercall numbers."""
        return self._added(add_custom(self, Bus.HYPERCALL, start, length, device, None, None, call))

    def add_pci(self, device: PciDevice, address: Optional[str] = None) -> PciHandle:
        """A PCI function written in Python, on a machine with PCI (microvm); address "device.function", or "port/function" behind a pci-root-port."""
        handle = add_pci(self, device, address)
        self._devices.append(handle)
        return handle

    def irq(self, gsi: int, level: bool) -> None:
        """Drives an interrupt line; an edge-triggered one fires when it becomes true."""
        check(lib.vcore_irq_set(self._core.handle, gsi, level))

    def msi(self, address: int, data: int) -> None:
        """Sends a message-signalled interrupt."""
        check(lib.vcore_msi_send(self._core.handle, address, data))

    def add_switch(self, name: str, switch: Switch) -> None:
        """Lets network cards of this vm plug into a switch: add_device("virtio-net", net="switch", switch=name)."""
        check(lib.vcore_vm_add_switch(self._core.handle, name.encode(), switch.handle))

    # ---- hooks ----

    def hook_code(self, function: CodeFunction, start: int = 0, length: int = 0) -> Hook:
        """Calls function(address, length) before each instruction in a range of linear addresses; length 0: to the end."""
        return Hook(self, HookKind.CODE, function, start, length)

    def hook_block(self, function: CodeFunction, start: int = 0, length: int = 0) -> Hook:
        """Calls function(address, length) before each basic block that begins in a range of linear addresses."""
        return Hook(self, HookKind.BLOCK, function, start, length)

    def hook_memory(self, function: MemoryFunction, start: int = 0, length: int = 0, access: int = ALL) -> Hook:
        """Calls function(MemoryEvent) after each access to a range of guest-physical addresses; access: READS, WRITES."""
        return Hook(self, HookKind.MEMORY, function, start, length, access)

    def hook_ports(self, function: PortFunction, start: int = 0, length: int = 0, access: int = ALL) -> Hook:
        """Calls function(PortEvent) with each access to a range of ports."""
        return Hook(self, HookKind.PORT, function, start, length, access)

    # ---- steering from elsewhere ----

    def add_monitor(self, path: Path, replace: bool = False) -> None:
        """Listens on a unix socket for clients such as virtcore.Monitor, until the vm is closed."""
        out = ffi.new("vcore_monitor **")
        check(lib.vcore_monitor_new(self._core.handle, os.fsencode(path), lib.VCORE_MONITOR_REPLACE if replace else 0, out))
        self._monitors.append(out[0])

    def add_gdb(self, address: str = "127.0.0.1:0", wait: bool = False) -> str:
        """Listens for a stock gdb, until the vm is closed; gives what its `target remote` takes."""
        name = ffi.new("char[]", address.encode())
        options = ffi.new("struct vcore_gdb_options *", {"size": ffi.sizeof("struct vcore_gdb_options"), "wait": wait, "address": name})
        out = ffi.new("vcore_gdb **")
        check(lib.vcore_gdb_new(self._core.handle, options, out))
        self._gdb = out[0]
        where = ffi.new("char[]", 256)
        check(lib.vcore_gdb_address(self._gdb, where, len(where)))
        return text(where)

    # ---- looking at it ----

    def _summary(self) -> str:
        if self.closed:
            return "closed"
        info = self.info
        engine = f"/{info.engine.name.lower()}" if info.backend is Backend.EMU else ""
        cpus = "1 cpu" if info.vcpus == 1 else f"{info.vcpus} cpus"
        return f"{info.machine.name.lower()} on {info.backend.name.lower()}{engine}, {cpus}, {info.memory >> 20} MiB, {info.state.name.lower()}"

    def __repr__(self) -> str:
        return f"<virtcore.VM {self._summary()}>"

    def _pictures(self) -> List[str]:
        """The first display, if it shows anything."""
        try:
            picture = self.display().png()
        except Error:  # there is none, or nothing on it
            return []
        return [f"<img src=\"data:image/png;base64,{base64.b64encode(picture).decode()}\">"]

    def _repr_html_(self) -> str:
        """For notebooks: what it is, what it does, the console's last lines."""
        rows = [f"<b>virtcore.VM</b> {html.escape(self._summary())}"]
        if not self.closed:
            info = self.info
            rows.append(f"guest time {info.time_ns / 1e9:.3f} s, {info.exits} exits, {info.pio} port and {info.mmio} MMIO accesses")
            rows += self._pictures()
        shown = "".join(f"<div>{row}</div>" for row in rows)
        if self._consoles:
            shown += f"<pre style=\"background:#111;color:#ddd;padding:0.5em\">{html.escape(self._consoles[0].tail(20))}</pre>"
        return f"<div>{shown}</div>"
