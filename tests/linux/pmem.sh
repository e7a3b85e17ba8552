#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# pmem.sh DIR MICROVM mmio|pci [OPTION...]
# Boots Debian's cloud kernel twice with a file as persistent memory, which its stock virtio_pmem serves. It passes when the second boot finds what the
# first has synced and left mounted, also through a mount with DAX, and the file system is sound on the host. 77 where there is no kernel to be had.
set -u
dir=$1 microvm=$2 transport=$3
shift 3
. "$(dirname "$0")/common.sh"
need mke2fs e2fsck debugfs
find_kernel
make_initrd "pmem-$transport" pmem-init.sh "virtio_$transport virtio_pmem nd_pmem ext4"

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
