#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# pmem.sh DIR MICROVM mmio|pci [OPTION...]
# Boots Debian's cloud kernel twice with a file as persistent memory, which its stock virtio_pmem serves. It passes when the second boot finds what the
# first has synced and left mounted, also through a mount with DAX, and the file system is sound on the host. 77 where there is no kernel to be had.
set -u
tools=$(cd "$(dirname "$0")/../tools" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
dir=$1 microvm=$2 transport=$3
shift 3
for tool in busybox cpio gzip modprobe mke2fs e2fsck debugfs; do
	command -v $tool >/dev/null || { echo "SKIP: $tool is not installed (Debian: busybox-static, cpio, gzip, kmod, e2fsprogs)"; exit 77; }
done
kernel=$("$tools/get-kernel.sh" "$dir") || { echo "SKIP: no Debian cloud kernel: neither in $dir nor from apt"; exit 77; }
initrd=$dir/pmem-$transport-$(cksum <"$here/pmem-init.sh" | cut -d ' ' -f 1).gz
if [ ! -f "$initrd" ]; then
	files=$("$tools/module-files.sh" "$dir" "$kernel" "virtio_$transport" virtio_pmem nd_pmem ext4) || exit 70
	# shellcheck disable=SC2086 # one word a file
	sh "$tools/mkinitramfs.sh" "$initrd" "$here/pmem-init.sh" $files || exit 70
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
image=$work/image
truncate -s 64M "$image"
mke2fs -q -t ext4 -b 4096 "$image"
boot() { # boot WORD PROPERTIES LOG [OPTION...]
	local word=$1 properties=$2 log=$3
	shift 3
	timeout -s KILL 200 "$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 quiet panic=-1 $word" --memory 256M --cpus 2 \
		--timeout 150 --device "virtio-pmem,transport=$transport,image=$image$properties" "$@" </dev/null 2>&1 | tr -d '\r' >"$log"
	return "${PIPESTATUS[0]}"
}
bad=
boot first "" "$work/first" "$@" || bad="$bad the first boot ended with $?;"
cp "$image" "$work/before"
boot second ",share=off,packed=on" "$work/second" "$@" || bad="$bad the second boot ended with $?;"
cmp -s "$image" "$work/before" || bad="$bad a file that is not shared has changed;"
boot second "" "$work/third" "$@" || bad="$bad the third boot ended with $?;"

expect() { # expect LOG TEXT PATTERN
	grep -qE -- "$3" "$work/$1" || bad="$bad no $2 ($1);"
}
expect first size '^pmem: size 131072$'
expect first mount '^pmem: mounted$'
expect first interrupts '^pmem: interrupts [1-9]'
sum=$(sed -n 's/^pmem: sum //p' "$work/first")
[ "$(echo "$sum" | wc -c)" -gt 33 ] || bad="$bad no sum;"
for log in second third; do
	expect $log "mount with DAX" '^pmem: mounted dax'
	expect $log word '^pmem: word kept$'
	expect $log sum "^pmem: sum $sum\$"
	expect $log copy '^pmem: copied$'
	expect $log end '^pmem: end$'
done
trouble=$(cat "$work"/first "$work"/second "$work"/third | grep -E 'BUG|Oops|Call Trace|soft lockup|I/O error|EXT4-fs error' | head -n 3)
[ -z "$trouble" ] || bad="$bad $trouble;"
e2fsck -fn "$image" >"$work/out" 2>&1 || { cat "$work/out"; bad="$bad e2fsck;"; }
debugfs -R "dump /copy $work/copy" "$image" 2>/dev/null
[ "$(md5sum <"$work/copy")" = "$sum" ] || bad="$bad another copy on the host;"
if [ -n "$bad" ]; then
	cat "$work"/first "$work"/second "$work"/third
	echo "pmem.sh $transport $*:$bad"
	exit 1
fi
echo "pmem.sh $transport $*: a file system in memory"
