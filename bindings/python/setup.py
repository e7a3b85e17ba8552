# SPDX-License-Identifier: LGPL-2.1-or-later
"""What pyproject.toml cannot say: the compiled part is made by cffi."""
from setuptools import setup

setup(cffi_modules=["build_cffi.py:installed"])
