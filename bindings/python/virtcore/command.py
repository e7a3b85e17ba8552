# SPDX-License-Identifier: LGPL-2.1-or-later
"""A command in a vm of its own: virtcore.run(["ls", "-l"], rootfs="/path/to/dir"). The program `microvm run` does it."""
from __future__ import annotations

import os
import shutil
import subprocess
from typing import List, Mapping, Optional, Sequence, Tuple, Union

from ._core import Size, choice, size
from .enums import Backend, Engine

Path = Union[str, "os.PathLike[str]"]
NOT_EXECUTED = (126, 127)


class RunError(RuntimeError):
    """The command could not be run at all; the message says why."""


def _microvm() -> str:
    """The program: what VIRTCORE_MICROVM names, that of the build directory that this file is in, the installed one."""
    built = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../examples/microvm")
    found = os.environ.get("VIRTCORE_MICROVM") or (built if os.access(built, os.X_OK) else shutil.which("microvm"))
    if not found:
        raise FileNotFoundError("the program microvm, which comes with the library, is not installed; VIRTCORE_MICROVM can say where it is")
    return found


def _variable(name: str, value: str) -> str:
    if not name or "=" in name:
        raise ValueError(f"{name!r} is no name of an environment variable")
    return f"--env={name}={value}"


def _outcome(line: str) -> Tuple[str, int, str]:
    """What microvm tells: how it ended, a number, a sentence."""
    kind, _, rest = line.rstrip("\n").partition(" ")
    number, _, sentence = rest.partition(" ")
    return kind, int(number or 125), sentence


def _call(command: Sequence[str], input: Optional[bytes], timeout: Optional[float]) -> Tuple["subprocess.CompletedProcess[bytes]", str]:
    """Runs microvm; with the line by which it tells how that ended."""
    ours, its = os.pipe()
    try:
        with open(ours, "rb") as status:
            try:
                words = [command[0], "run", f"--status-fd={its}", *command[1:]]
                stdin = subprocess.DEVNULL if input is None else None
                done = subprocess.run(words, input=input, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, pass_fds=[its])
            finally:
                os.close(its)
            return done, status.read().decode(errors="replace")
    except subprocess.TimeoutExpired as error:
        raise subprocess.TimeoutExpired(list(command[command.index("--") + 1:]), error.timeout, error.output, error.stderr) from None


def run(argv: Sequence[str], rootfs: Path, *, input: Optional[bytes] = None, timeout: Optional[float] = None, check: bool = False,
        env: Optional[Mapping[str, str]] = None, cwd: str = "/", user: Union[str, int] = 0, network: bool = False, writable: bool = False,
        memory: Size = "512M", cpus: int = 1, cpu: Optional[str] = None, backend: Union[Backend, str] = Backend.AUTO, engine: Union[Engine, str] = Engine.AUTO,
        kernel: Optional[Path] = None, modules: Optional[Path] = None, hostname: Optional[str] = None) -> "subprocess.CompletedProcess[bytes]":
    """Runs a command in a new vm and gives what it wrote and its exit status, as subprocess.run(capture_output=True) does; -N when signal N ended it.

        done = virtcore.run(["sh", "-c", "cat >&2; id -u"], rootfs="/srv/root", input=b"hello", user="nobody", timeout=30)
        done.returncode, done.stdout, done.stderr

    From any number of threads. 127 and 126: the command was not found, is not executable; stderr says so then. RunError: the vm or its
    kernel cannot be had. subprocess.TimeoutExpired: the vm is gone. CalledProcessError with check, when the status is not 0.

    rootfs    a directory of this host, which is the guest's root
    writable  what the command writes stays there; else it is gone with the vm
    input     its standard input; None: nothing
    env       of the command, beside PATH and HOME
    user      a number, or a name of the root's /etc/passwd; "user:group" as well
    network   whether it reaches what this host can connect to
    kernel    None: what VIRTCORE_KERNEL names, or the newest of this host that has 9P; its modules are looked for beside it
    modules   directory of the kernel's modules; "none": all it needs is built in
    """
    words: List[str] = [_microvm()]
    words += [f"--workdir={cwd}", f"--user={user}", f"--memory={size(memory)}", f"--cpus={cpus}"]
    words += [f"--backend={choice(Backend, backend).name.lower()}", f"--engine={choice(Engine, engine).name.lower()}"]
    for name, value in (("cpu", cpu), ("kernel", kernel), ("modules", modules), ("hostname", hostname)):
        if value is not None:
            words.append(f"--{name}={os.fspath(value)}")
    words += [_variable(name, value) for name, value in (env or {}).items()]
    words += ["--net=user"] * network + ["--writable"] * writable
    done, line = _call([*words, os.path.abspath(rootfs), "--", *argv], input, timeout)
    kind, number, sentence = _outcome(line)
    if kind == "failed" and number in NOT_EXECUTED:
        done.stderr += f"microvm: {sentence}\n".encode()
    elif kind not in ("exited", "killed"):
        raise RunError(sentence or done.stderr.decode(errors="replace").strip() or "microvm was ended")
    result = subprocess.CompletedProcess(list(argv), -number if kind == "killed" else number, done.stdout, done.stderr)
    if check:
        result.check_returncode()
    return result
