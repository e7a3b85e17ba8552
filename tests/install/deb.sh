#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# deb.sh: Debian packages from this tree, of which lintian says no error, and each of which has what it is for. 77 where the tools are missing.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
for tool in dpkg-buildpackage lintian dh doxygen; do
	command -v "$tool" >/dev/null || { echo "SKIP: $tool is not installed (Debian: dpkg-dev, debhelper, dh-python, lintian, doxygen)"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/libvirtcore-0.1.0"
(cd "$top" && git ls-files -z | xargs -0 tar c) | tar x -C "$work/libvirtcore-0.1.0"
cd "$work/libvirtcore-0.1.0" || exit 1
missing=$(dpkg-checkbuilddeps 2>&1) || { echo "SKIP: $missing"; exit 77; }
DEB_BUILD_OPTIONS="parallel=2 nocheck noddebs" dpkg-buildpackage -b -us -uc >"$work/log" 2>&1 || { tail -n 40 "$work/log"; exit 1; }
cd "$work" || exit 1
lintian --fail-on error --suppress-tags bad-distribution-in-changes-file,initial-upload-closes-no-bugs ./*.changes || exit 1
has() { # has PACKAGE PATTERN...
	local package=$1 list pattern
	list=$(dpkg-deb --contents "$package"_*.deb | awk '{print $6}')
	shift
	for pattern in "$@"; do
		grep -qE "$pattern" <<<"$list" || { echo "$package has no $pattern"; exit 1; }
	done
}
has libvirtcore0 'libvirtcore\.so\.0\.'
has libvirtcore-dev 'include/virtcore/vm\.h' 'libvirtcore\.pc' 'libvirtcore\.so$' 'html/index\.html' 'man3/libvirtcore\.3' 'guide/embedding\.md'
has python3-virtcore 'dist-packages/virtcore/vm\.py' '_virtcore.*\.so'
has virtcore-tools 'bin/microvm$' 'man1/microvm\.1'
# from the packages, unpacked: a program and a Python one
mkdir root
for package in *.deb; do dpkg-deb -x "$package" root; done
lib=$(dirname root/usr/lib/*/libvirtcore.so.0)
cc "$top/examples/raw-code.c" -Iroot/usr/include -L"$lib" -lvirtcore -o raw && LD_LIBRARY_PATH=$lib ./raw || exit 1
LD_LIBRARY_PATH=$lib PYTHONPATH=root/usr/lib/python3/dist-packages /usr/bin/python3 "$top/bindings/python/examples/raw_code.py" || exit 1
ls ./*.deb
