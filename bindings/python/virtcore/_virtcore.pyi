# SPDX-License-Identifier: LGPL-2.1-or-later
"""The compiled part, made by build_cffi.py: cffi's view of the library."""
from typing import Any, Callable, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

class _Ffi:
    NULL: Any
    def def_extern(self) -> Callable[[F], F]: ...
    def __getattr__(self, name: str) -> Any: ...

ffi: _Ffi
lib: Any
