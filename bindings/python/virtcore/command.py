# SPDX-License-Identifier: LGPL-2.1-or-later
"""A command in a vm of its own: virtcore.run(["ls", "-l"], rootfs="/path/to/dir", kernel="vmlinuz")."""
from __future__ import annotations

import glob
import os
import shlex
import shutil
import stat
import subprocess
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple, Union

from ._core import Size
from .vm import VM

INSIDE = "/.virtcore"  # what we add to the guest's root
DIRECTORY, PROGRAM, DATA = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755, stat.S_IFREG | 0o600
INIT = """#!{inside}/busybox sh
b={inside}/busybox
$b mkdir -p /proc /sys /dev /tmp {install}
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
$b stty -F /dev/ttyS1 raw -echo
{{ cd {cwd} && $b env -i {command}; }} <{inside}/in >{inside}/out 2>{inside}/err
status=$?
{{
	$b echo $status $($b stat -c %s {inside}/out {inside}/err)
	$b cat {inside}/out {inside}/err
}} >/dev/ttyS1
$b poweroff -f
"""


class Archive:
    """An initial RAM disk (cpio, "newc") in memory."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._count = 0

    def _pad(self) -> None:
        self.data += bytes(-len(self.data) % 4)

    def add(self, name: str, mode: int, content: bytes = b"", uid: int = 0, gid: int = 0, device: int = 0) -> None:
        """One file; its name has no slash in front."""
        self._count += 1
        raw = os.fsencode(name) + b"\0"
        fields = (self._count, mode, uid, gid, 1, 0, len(content), 0, 0, os.major(device), os.minor(device), len(raw), 0)
        self.data += b"070701" + "".join(f"{field:08x}" for field in fields).encode() + raw
        self._pad()
        self.data += content
        self._pad()

    def add_tree(self, root: str) -> None:
        """All that is in a directory, except sockets."""
        for path in _walk(root):
            info = os.lstat(path)
            name = os.path.relpath(path, root)
            content = b""
            if stat.S_ISLNK(info.st_mode):
                content = os.fsencode(os.readlink(path))
            elif stat.S_ISREG(info.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            elif stat.S_ISSOCK(info.st_mode):
                continue
            self.add(name, info.st_mode, content, info.st_uid, info.st_gid, info.st_rdev)

    def end(self) -> bytearray:
        """The whole archive."""
        self.add("TRAILER!!!", 0)
        return self.data


def _walk(root: str) -> Iterator[str]:
    for where, directories, files in os.walk(root, onerror=_raise):
        for name in directories + files:
            yield os.path.join(where, name)


def _raise(error: OSError) -> None:
    raise error


def _initrd(argv: Sequence[str], rootfs: Optional[str], stdin: bytes, env: Mapping[str, str], cwd: str) -> bytearray:
    busybox = shutil.which("busybox")
    if busybox is None:
        raise FileNotFoundError("busybox is not installed; run() needs a static one (Debian: busybox-static) as the guest's init")
    words = [f"{name}={value}" for name, value in env.items()] + list(argv)
    archive = Archive()
    if rootfs is not None:
        archive.add_tree(rootfs)
    with open(busybox, "rb") as file:
        program = file.read()
    archive.add(INSIDE[1:], DIRECTORY)
    archive.add(INSIDE[1:] + "/busybox", PROGRAM, program)
    archive.add(INSIDE[1:] + "/in", DATA, stdin)
    install = "/bin; $b --install -s /bin" if rootfs is None else ""
    archive.add("init", PROGRAM, INIT.format(inside=INSIDE, install=install, cwd=shlex.quote(cwd), command=shlex.join(words)).encode())
    return archive.end()


def _answer(data: bytes) -> Tuple[int, bytes, bytes]:
    """Exit status, standard output and error, as init sends them."""
    head, _, rest = data.partition(b"\n")
    status, out, err = (int(word) for word in head.split())
    if len(rest) != out + err:
        raise ValueError(f"{len(rest)} bytes came in place of {out + err}")
    return status, rest[:out], rest[out:]


def newest_kernel() -> str:
    """The host's own, or what VIRTCORE_KERNEL names."""
    kernels = sorted(glob.glob("/boot/vmlinuz-*"))
    found = os.environ.get("VIRTCORE_KERNEL") or (kernels[-1] if kernels else None)
    if found is None:
        raise FileNotFoundError("there is no kernel in /boot: name one with kernel= or VIRTCORE_KERNEL")
    return found


def run(argv: Sequence[str], rootfs: Union[str, "os.PathLike[str]", None] = None, kernel: Optional[str] = None, input: bytes = b"",
        env: Optional[Mapping[str, str]] = None, cwd: str = "/", timeout: Optional[float] = None, memory: Size = "512M",
        **options: Any) -> "subprocess.CompletedProcess[bytes]":
    """Runs a command in a new vm and gives what it wrote and its exit status, as subprocess.run(capture_output=True) does; -N when signal N ended it.

    rootfs   a directory of the host, whose copy is the guest's root: nothing that the guest does to it reaches the host. It must fit
             the guest's memory three times over. None: busybox alone
    kernel   with serial ports and devtmpfs built in; None: newest_kernel()
    timeout  seconds; subprocess.TimeoutExpired, and the vm is gone
    options  of VM. There is no network unless a device makes one
    """
    environment: Dict[str, str] = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **(env or {})}
    initrd = _initrd(argv, None if rootfs is None else os.fspath(rootfs), input, environment, cwd)
    answer = os.memfd_create("virtcore-answer")
    try:
        with VM(memory=memory, **options) as vm:
            vm.add_device("uart", addr=0x2f8, output=f"fd:{answer}")
            vm.boot(kernel or newest_kernel(), initrd=initrd, cmdline="console=ttyS0 quiet panic=-1", start=True)
            try:
                end = vm.wait(timeout)
            except TimeoutError:
                raise subprocess.TimeoutExpired(list(argv), timeout or 0) from None
            said = vm.console.tail(20)
        with open(answer, "rb", closefd=False) as file:
            file.seek(0)
            data = file.read()
        try:
            status, out, err = _answer(data)
        except ValueError as error:
            raise RuntimeError(f"the guest has not run the command ({error}): it ended with {end!r}, its console:\n{said}") from None
    finally:
        os.close(answer)
    return subprocess.CompletedProcess(list(argv), 128 - status if status > 128 else status, out, err)
