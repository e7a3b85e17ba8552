#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# blk.sh DIR MICROVM [OPTION...]
# Boots Debian's cloud kernel with four disks, which its stock virtio_blk serves. It passes when the file system that the guest has filled in a
# qcow2 image, and what it wrote on a raw one, are on the host what they were in the guest, e2fsck and qemu-img check find nothing, and a
# read-only disk and the file under an overlay are unchanged. 77 where there is no kernel to be had.
set -u
dir=$1 microvm=$2
shift 2
. "$(dirname "$0")/common.sh"
need qemu-img mke2fs e2fsck debugfs
find_kernel
make_initrd blk blk-init.sh "virtio_mmio virtio_blk ext4"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
truncate -s 64M "$work/plain"
mke2fs -q -t ext4 "$work/plain"
qemu-img convert -O qcow2 "$work/plain" "$work/a.qcow2"
truncate -s 16M "$work/b.raw"
head -c 4M /dev/urandom >"$work/c.raw"
cp "$work/c.raw" "$work/c.before"
qemu-img convert -O qcow2 "$work/c.raw" "$work/d.qcow2"
cp "$work/d.qcow2" "$work/d.before"
timeout -s KILL 300 "$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 panic=-1" --memory 384M --cpus 2 --timeout 200 \
	--device "virtio-blk,transport=mmio,image=$work/a.qcow2,serial=first" \
	--device "virtio-blk,transport=mmio,image=$work/b.raw,format=raw,queues=2,packed=on,worker=thread" \
	--device "virtio-blk,transport=mmio,image=$work/c.raw,format=raw,readonly=on,block_size=4096" \
	--device "virtio-blk,transport=mmio,image=$work/d.qcow2,overlay=on" "$@" </dev/null 2>&1 | tr -d '\r' >"$log"
status=${PIPESTATUS[0]}

value() { # value NAME: what the guest says
	sed -n "s/^blk: $1 //p" "$log"
}
[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
expect "init" '^blk: init$'
expect "vda" '^blk: vda size 131072 ro 0 queues 1 block 512 discard [1-9][0-9]* cache write back serial first$'
expect "vdb" '^blk: vdb size 32768 ro 0 queues 2 '
expect "vdc" '^blk: vdc size 8192 ro 1 queues 1 block 4096 discard 0 '
expect "vdd" '^blk: vdd size 8192 ro 0 '
for step in mount fstrim umount "mount again" "raw data" blkdiscard read-only; do
	expect "$step" "^blk: $step ok\$"
done
expect "end" '^blk: end$'
no_trouble 'I/O error, dev vd[abd]|Buffer I/O error|EXT4-fs error'

qemu-img check -q "$work/a.qcow2" >"$work/out" 2>&1 || { cat "$work/out"; bad="$bad qemu-img check;"; }
qemu-img convert -O raw "$work/a.qcow2" "$work/plain"
e2fsck -fn "$work/plain" >"$work/out" 2>&1 || { cat "$work/out"; bad="$bad e2fsck;"; }
for n in 1 3 5 6; do
	debugfs -R "dump /file$n $work/f$n" "$work/plain" 2>/dev/null
done
[ "$(cat "$work"/f? | md5sum | cut -d ' ' -f 1)" = "$(value sum)" ] || bad="$bad other files on the host;"
[ "$(seq -f 'file %g' 1 200 | LC_ALL=C sort | md5sum | cut -d ' ' -f 1)" = "$(value many)" ] || bad="$bad other small files in the guest;"
[ "$(head -c 8M "$work/b.raw" | md5sum | cut -d ' ' -f 1)" = "$(value rawsum)" ] || bad="$bad other data on the raw disk;"
[ "$(value overlay | wc -c)" = 33 ] || bad="$bad no overlay;"
cmp -s "$work/c.raw" "$work/c.before" || bad="$bad a read-only disk has changed;"
cmp -s "$work/d.qcow2" "$work/d.before" || bad="$bad the file under an overlay has changed;"
verdict "blk.sh $*" "four disks"
