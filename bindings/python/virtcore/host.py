# SPDX-License-Identifier: LGPL-2.1-or-later
"""What this build and host can do."""
from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Union

from ._core import check, choice, text
from ._virtcore import ffi, lib
from .enums import Backend, Feature


class BackendInfo(NamedTuple):
    """What a backend can do here, and how well: picoseconds an instruction, nanoseconds an exit."""
    backend: Backend
    available: bool
    features: Feature
    max_vcpus: int
    max_slots: int
    ring0_ps: int
    ring3_ps: int
    exit_ns: int
    ring0_is_native: bool
    reason: str


class Described(NamedTuple):
    """A name of the library's with a line about it, and a device's properties."""
    name: str
    summary: str
    properties: Dict[str, str]


def version() -> str:
    """The version of the library in use."""
    return text(lib.vcore_version())


def probe(backend: Union[Backend, str] = Backend.AUTO) -> BackendInfo:
    """Measures a backend, for some milliseconds; AUTO: the one that a vm would get."""
    wanted = choice(Backend, backend)
    raw = ffi.new("struct vcore_backend_info *", {"size": ffi.sizeof("struct vcore_backend_info")})
    chosen = check(lib.vcore_backend_probe(wanted, raw))
    return BackendInfo(Backend(chosen) if wanted is Backend.AUTO else wanted, bool(raw.available), Feature(raw.features), raw.max_vcpus, raw.max_slots, raw.ring0_ps,
                       raw.ring3_ps, raw.exit_ns, bool(raw.ring0_is_native), text(raw.reason))


def backends() -> List[BackendInfo]:
    """All backends, those that do not work here with the reason."""
    return [probe(backend) for backend in Backend if backend is not Backend.AUTO]


def _listed(function: Any, count: int) -> List[List[str]]:
    found: List[List[str]] = []
    out = [ffi.new("const char **") for _ in range(count)]
    while function(len(found), *out) >= 0:
        found.append([text(pointer[0]) if pointer[0] else "" for pointer in out])
    return found


def cpu_models() -> List[Described]:
    """The CPU models that `cpu=` takes, with features added and removed: "x86-64-v3,+rdseed,-avx2"."""
    return [Described(name, summary, {}) for name, summary in _listed(lib.vcore_cpu_model, 2)]


def cpu_missing(model: str, backend: Union[Backend, str] = Backend.AUTO) -> List[str]:
    """Features of a model that a backend cannot give on this host."""
    out = ffi.new("char[4096]")
    check(lib.vcore_cpu_missing(model.encode(), choice(Backend, backend), out, len(out)))
    return [name for name in text(out).split(",") if name]


def device_types() -> List[Described]:
    """The devices that VM.add_device() makes, with their properties."""
    found = []
    for name, summary, properties in _listed(lib.vcore_device_describe, 3):
        lines = (line.split(None, 1) for line in properties.splitlines() if line.strip())
        found.append(Described(name, summary, {words[0]: words[1] if len(words) > 1 else "" for words in lines}))
    return found
