# SPDX-License-Identifier: LGPL-2.1-or-later
"""The compiled part, made by build_cffi.py: cffi's view of the library."""
from typing import Any

ffi: Any
lib: Any
