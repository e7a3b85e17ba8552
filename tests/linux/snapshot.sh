#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# snapshot.sh DIR PROGRAM BACKEND|prepare [CLONE-BACKEND [CPU]]
# Snapshots and clones of a running Debian cloud kernel. 77 where there is no kernel to be had.
set -u
tools=$(cd "$(dirname "$0")/../tools" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
dir=$1 program=$2
shift 2
for tool in busybox cpio gzip modprobe; do
	command -v $tool >/dev/null || { echo "SKIP: $tool is not installed (Debian: busybox-static, cpio, gzip, kmod)"; exit 77; }
done
kernel=$("$tools/get-kernel.sh" "$dir") || { echo "SKIP: no Debian cloud kernel: neither in $dir nor from apt"; exit 77; }
initrd=$dir/snapshot-$(cksum <"$here/snapshot-init.sh" | cut -d ' ' -f 1).gz
if [ ! -f "$initrd" ]; then
	files=$("$tools/module-files.sh" "$dir" "$kernel" virtio_pci virtio-rng virtio_blk) || exit 70
	# shellcheck disable=SC2086 # one word a file
	sh "$tools/mkinitramfs.sh" "$initrd" "$here/snapshot-init.sh" $files || exit 70
fi
[ "$1" != prepare ] || exit 0
exec "$program" "$kernel" "$initrd" "$@" </dev/null
