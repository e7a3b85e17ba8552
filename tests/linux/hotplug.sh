#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# hotplug.sh DIR HOTPLUG
# Debian's cloud kernel sees a card come to and go from a PCI Express slot. 77 where there is no kernel to be had.
set -u
tools=$(cd "$(dirname "$0")/../tools" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
dir=$1 hotplug=$2
for tool in busybox cpio gzip modprobe; do
	command -v $tool >/dev/null || { echo "SKIP: $tool is not installed (Debian: busybox-static, cpio, gzip, kmod)"; exit 77; }
done
kernel=$("$tools/get-kernel.sh" "$dir") || { echo "SKIP: no Debian cloud kernel: neither in $dir nor from apt"; exit 77; }
initrd=$dir/hotplug-$(cksum <"$here/hotplug-init.sh" | cut -d ' ' -f 1).gz
if [ ! -f "$initrd" ]; then
	files=$("$tools/module-files.sh" "$dir" "$kernel" virtio_pci virtio-rng) || exit 70
	# shellcheck disable=SC2086 # one word a file
	sh "$tools/mkinitramfs.sh" "$initrd" "$here/hotplug-init.sh" $files || exit 70
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$hotplug" "$kernel" "$initrd" </dev/null 2>&1 | tr -d '\r' >"$log"
status=${PIPESTATUS[0]}
cat "$log"
[ "$status" = 0 ] || { echo "hotplug.sh: the program ended with $status"; exit 1; }
grep -q '^hotplug: slots 7$' "$log" || { echo "hotplug.sh: no slot 7"; exit 1; }
[ "$(grep -c '^hotplug: 2048 bytes$' "$log")" = 3 ] || { echo "hotplug.sh: a card gave no random bytes"; exit 1; }
! grep -E '^hotplug: (trouble|insmod|the card)' "$log"
