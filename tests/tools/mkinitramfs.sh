#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# mkinitramfs.sh OUT INIT [FILE:PATH...]
# An initial RAM disk of busybox-static with INIT as /init, and further files at given paths.
set -eu
out=$1 init=$2
shift 2
busybox=$(command -v busybox)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/etc" "$root/root"
cp "$busybox" "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
cp "$init" "$root/init"
chmod 755 "$root/init"
for pair in "$@"; do
	mkdir -p "$root/$(dirname "${pair#*:}")"
	cp -L "${pair%%:*}" "$root/${pair#*:}"
done
(cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet | gzip -9n) >"$out.new"
mv "$out.new" "$out"
