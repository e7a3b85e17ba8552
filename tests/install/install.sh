#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# install.sh BUILD: what a user gets from `meson install`: headers, pkg-config, SONAME, symbol versions; an outside program builds and runs.
set -eu
build=$(cd "$1" && pwd)
top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "install.sh: $*" >&2; exit 1; }

DESTDIR="$work/root" meson install -C "$build" --no-rebuild --quiet
prefix=$(find "$work/root" -name libvirtcore.pc | head -n 1)
[ -n "$prefix" ] || fail "no libvirtcore.pc was installed"
export PKG_CONFIG_PATH="$(dirname "$prefix")" PKG_CONFIG_SYSROOT_DIR="$work/root"
library=$(find "$work/root" -name 'libvirtcore.so.0' | head -n 1)
[ -n "$library" ] || fail "no libvirtcore.so.0 was installed"
export LD_LIBRARY_PATH="$(dirname "$library")"

cc "$top/examples/raw-code.c" -Wall -Wextra -Wno-unused-parameter -Werror $(pkg-config --cflags --libs libvirtcore) -o "$work/raw"
"$work/raw" | grep -q 'wrote 42' || fail "the outside program did not run"
mkdir "$work/static"
cp "$(dirname "$library")/libvirtcore.a" "$work/static/"
cc "$top/examples/raw-code.c" $(pkg-config --cflags libvirtcore) "$work/static/libvirtcore.a" $(pkg-config --static --libs-only-other libvirtcore) \
	$(pkg-config --static --libs-only-l libvirtcore | sed 's/-lvirtcore//') -pthread -o "$work/raw-static"
LD_LIBRARY_PATH= "$work/raw-static" | grep -q 'wrote 42' || fail "the static program did not run"
if command -v c++ >/dev/null; then
	printf '#include <virtcore/virtcore.h>\nint main() { return vcore_version() == nullptr; }\n' >"$work/x.cc"
	c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror "$work/x.cc" $(pkg-config --cflags --libs libvirtcore) -o "$work/cxx"
	"$work/cxx" || fail "the C++ program did not run"
fi

readelf -d "$library" | grep -q 'SONAME.*\[libvirtcore.so.0\]' || fail "SONAME is not libvirtcore.so.0"
exported=$(nm -D --defined-only "$library" | awk '{print $3}' | grep -v '^VIRTCORE_')
stray=$(echo "$exported" | grep -v '^vcore_[a-z0-9_]*@@VIRTCORE_0\.[0-9]*$' || true)
[ -z "$stray" ] || fail "exported, but not vcore_* with a version: $stray"
# every function of the headers is there, and nothing else
sed -n 's/.*\(vcore_[a-z0-9_]*\)(.*/\1/p' "$top"/include/virtcore/*.h >"$work/mentioned"
grep -h -A2 'VCORE_API' "$top"/include/virtcore/*.h | grep -o 'vcore_[a-z0-9_]*(' | tr -d '(' | sort -u >"$work/declared"
echo "$exported" | sed 's/@.*//' | sort -u >"$work/exported"
diff "$work/declared" "$work/exported" || fail "the headers (<) and the library (>) differ"
echo "installed: $(wc -l <"$work/exported") functions"
