#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# setup.sh BUILD PYTHON: pyproject.toml and setup.py make the package from an installed library, as pip does; meson installs it whole.
set -eu
build=$(cd "$1" && pwd) python=$2
here=$(cd "$(dirname "$0")" && pwd)
"$python" -c 'import setuptools' 2>/dev/null || { echo "SKIP: python3-setuptools is not installed"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "setup.sh: $*" >&2; exit 1; }
works() { # works DIR: the package in it does
	cd "$work"
	PYTHONPATH=$1 "$python" -c 'import sys, virtcore
assert virtcore.__file__.startswith(sys.argv[1]), virtcore.__file__
with virtcore.VM(machine="none", memory="64K") as vm:
    print(virtcore.version(), vm)' "$1"
	[ -f "$1/virtcore/py.typed" ] || fail "$1/virtcore has no py.typed"
}

DESTDIR="$work/root" meson install -C "$build" --no-rebuild --quiet
export PKG_CONFIG_PATH="$(dirname "$(find "$work/root" -name libvirtcore.pc)")" PKG_CONFIG_SYSROOT_DIR="$work/root"
export LD_LIBRARY_PATH="$(dirname "$(find "$work/root" -name libvirtcore.so.0)")" PYTHONDONTWRITEBYTECODE=1
works "$(dirname "$(dirname "$(find "$work/root" -path '*virtcore/vm.py')")")"
cp -r "$here/../../bindings/python" "$work/source"
cd "$work/source"
"$python" setup.py -q build --build-lib "$work/lib" || fail "setup.py failed"
works "$work/lib"
