#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# mem.sh DIR PROGRAM mmio|pci [emu|kvm]
# Runs mem.c with Debian's cloud kernel and its virtio_mem. 77 where there is no kernel to be had.
set -u
tools=$(cd "$(dirname "$0")/../tools" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
dir=$1 program=$2 transport=$3 backend=${4:-emu}
for tool in busybox cpio gzip modprobe; do
	command -v $tool >/dev/null || { echo "SKIP: $tool is not installed (Debian: busybox-static, cpio, gzip, kmod)"; exit 77; }
done
kernel=$("$tools/get-kernel.sh" "$dir") || { echo "SKIP: no Debian cloud kernel: neither in $dir nor from apt"; exit 77; }
initrd=$dir/mem-$transport-$(cksum <"$here/mem-init.sh" | cut -d ' ' -f 1).gz
if [ ! -f "$initrd" ]; then
	files=$("$tools/module-files.sh" "$dir" "$kernel" "virtio_$transport" virtio_mem) || exit 70
	# shellcheck disable=SC2086 # one word a file
	sh "$tools/mkinitramfs.sh" "$initrd" "$here/mem-init.sh" $files || exit 70
fi
timeout -s KILL 250 "$program" "$kernel" "$initrd" "$transport" "$backend"
