#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# make-tools.sh DIR VMLINUZ MODULES [PROGRAM...]
# Prints the path, in DIR, of an initial RAM disk with a shell on its console (tools-init.sh) that console.py can talk to, the modules of disks, network cards
# and 9P for that kernel, as far as it has them, and those programs of this machine with their libraries. Made once. Status 77: a program is not installed.
set -euo pipefail
tools=$(cd "$(dirname "$0")" && pwd)
dir=$1 kernel=$2 modules=$3
shift 3
paths=()
for program in "$@"; do
	paths+=("$(realpath "$(command -v "$program")")") || { echo "make-tools.sh: $program is not installed" >&2; exit 77; }
done
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
out=$dir/tools-$( (echo "$kernel" "$@"; cat "$0" "$tools/tools-init.sh" "${paths[@]}") | cksum | cut -d ' ' -f 1)
if [ ! -f "$out" ]; then
	wanted=(virtio_pci virtio_mmio virtio_blk virtio_net)
	[ -z "$(find "$modules/lib/modules" -name '9p.ko*' -print -quit)" ] || wanted+=(9pnet_virtio 9p)
	files=$("$tools/module-files.sh" "$modules" "$kernel" "${wanted[@]}")
	# shellcheck disable=SC2086 # one word a file
	sh "$tools/mkinitramfs.sh" "$out.base" "$tools/tools-init.sh" $files
	# programs and libraries in an archive of their own behind it, not compressed: the guest need not unpack them
	root=$(mktemp -d)
	trap 'rm -rf "$root"' EXIT
	mkdir -p "$root/usr/bin"
	for path in "${paths[@]}"; do
		cp "$path" "$root/usr/bin/"
		{ ldd "$path" || true; } | sed -n 's/.*[ \t]\(\/[^ ]*\) (0x.*/\1/p' | while read -r library; do
			mkdir -p "$root/$(dirname "$library")"
			cp -L "$library" "$root/$library"
		done
	done
	truncate -s %512 "$out.base"
	(cd "$root" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) >>"$out.base"
	mv "$out.base" "$out"
fi
echo "$out"
