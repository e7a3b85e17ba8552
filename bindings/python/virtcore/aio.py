# SPDX-License-Identifier: LGPL-2.1-or-later
"""The same vm for asyncio: nothing blocks the event loop, which drives the vm's devices.

    async with virtcore.aio.VM(memory="512M") as vm:
        vm.boot_linux("vmlinuz", "initrd.gz")
        await vm.console.expect("login:")
        exit = await vm.wait()
"""
from __future__ import annotations

import asyncio
import os
import re
from typing import Any, Optional, Type, TypeVar

from . import console, exits, vm
from ._core import Error, Size
from .snapshot import Snapshot

A = TypeVar("A", bound="VM")


class Console(console.Console):
    """A console whose expect() is awaited."""

    async def expect(self, pattern: console.Text, timeout: Optional[float] = 30) -> "re.Match[str]":  # type: ignore[override]
        """As of virtcore.Console."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def listener() -> None:
            loop.call_soon_threadsafe(changed.set)
        self._reader.listeners.append(listener)
        try:
            return await asyncio.wait_for(self._expect(pattern, changed), timeout)
        except asyncio.TimeoutError:
            raise console.ExpectTimeout(self._failure(pattern, f"it did not come in {timeout} s")) from None
        finally:
            self._reader.listeners.remove(listener)

    async def _expect(self, pattern: console.Text, changed: asyncio.Event) -> "re.Match[str]":
        while True:
            changed.clear()
            match = self.look(pattern)
            if match:
                return match
            await changed.wait()


class VM(vm.VM):
    """A vm of the event loop in which it is made; wait(), run() and console.expect() are awaited."""
    _console_type = Console

    def __init__(self, memory: Size = 0, cpus: int = 1, **options: Any) -> None:
        super().__init__(memory, cpus, loop="program", **options)

    @classmethod
    def from_snapshot(cls: Type[A], snapshot: Snapshot, **options: Any) -> A:  # type: ignore[override]
        """As of virtcore.VM."""
        return super().from_snapshot(snapshot, loop="program", **options)

    def _made(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            self._driven: Optional[int] = self.loop_fd()
        except Error:  # made from a description: the library's thread drives it
            self._driven = None
        else:
            self._loop.add_reader(self._driven, self.loop_run)

    @property
    def console(self) -> Console:
        """The first serial console."""
        found = super().console
        assert isinstance(found, Console)
        return found

    async def wait(self, timeout: Optional[float] = None) -> exits.Exit:  # type: ignore[override]
        """As of virtcore.VM."""
        try:
            return super().wait(0)
        except TimeoutError:
            pass
        ended = asyncio.Event()
        fd = os.dup(self.fileno())  # several may wait
        self._loop.add_reader(fd, ended.set)
        try:
            await asyncio.wait_for(ended.wait(), timeout)
        except asyncio.TimeoutError:
            raise TimeoutError(f"the vm has not ended in {timeout} s") from None
        finally:
            self._loop.remove_reader(fd)
            os.close(fd)
        return super().wait(0)

    async def run(self, timeout: Optional[float] = None, vcpu: int = 0) -> exits.Exit:
        """Vcpu.run() on another thread; cancelling it ends the run."""
        running = self._loop.run_in_executor(None, self.vcpus[vcpu].run, timeout)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self.vcpus[vcpu].kick()
            await asyncio.wait([running])
            raise

    def close(self) -> None:
        """As of virtcore.VM. Call it in the event loop's thread."""
        if not self.closed and self._driven is not None:
            self._loop.remove_reader(self._driven)
        super().close()

    async def __aenter__(self: A) -> A:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
