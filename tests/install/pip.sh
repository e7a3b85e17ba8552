#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# pip.sh BUILD: `pip install ./bindings/python` against an installed library, without network, and the package it leaves at work.
set -eu
build=$(cd "$1" && pwd)
top=$(cd "$(dirname "$0")/../.." && pwd)
python=/usr/bin/python3
skip() { echo "SKIP: $*"; exit 77; }
"$python" -c 'import cffi, setuptools, wheel, venv, ensurepip' 2>/dev/null ||
	skip "$python lacks cffi, setuptools, wheel or venv (Debian: python3-cffi, python3-setuptools, python3-wheel, python3-venv)"
pkg-config --exists python3 || skip "Python's headers are not installed (Debian: python3-dev)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

DESTDIR="$work/root" meson install -C "$build" --no-rebuild --quiet
# setuptools writes beside the sources
mkdir "$work/source"
cp -r "$top/bindings/python/." "$work/source"
export PKG_CONFIG_PATH="$(dirname "$(find "$work/root" -name libvirtcore.pc)")" PKG_CONFIG_SYSROOT_DIR="$work/root"
export LD_LIBRARY_PATH="$(dirname "$(find "$work/root" -name libvirtcore.so.0)")"
"$python" -m venv --system-site-packages "$work/venv"
"$work/venv/bin/pip" install --quiet --no-index --no-build-isolation "$work/source"
cd "$work"
venv/bin/python - "$work/venv" <<'PY'
import sys

import virtcore

assert virtcore.__file__.startswith(sys.argv[1]), virtcore.__file__
with virtcore.VM(machine="none", backend="emu", memory="2M") as vm:
    written = []
    vm.memory[0x1000] = b"\xe6\x10\xf4"  # out 0x10, al; hlt
    vm.add_ports(0x10, 1, write=lambda offset, width, value: written.append(value))
    vm.vcpu.set_mode("protected32")
    vm.vcpu.regs.rip = 0x1000
    vm.vcpu.regs.rax = 42
    assert vm.vcpu.run() == virtcore.Halt()
    assert written == [42], written
PY
echo "virtcore by pip: works"
