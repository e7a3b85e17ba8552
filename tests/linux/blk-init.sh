#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the disk test: vda has an ext4 file system in a qcow2 image, vdb is a raw one with several queues, vdc has a read-only one, vdd an
# overlay.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo "blk: init"
while read -r module; do
	insmod "/mods/$module" || echo "blk: insmod $module fails"
done </mods/order
say() { # say WHAT COMMAND...: how it ended
	what=$1
	shift
	if "$@"; then echo "blk: $what ok"; else echo "blk: $what fails"; fi
}
sum() {
	md5sum | cut -d ' ' -f 1
}
for disk in vda vdb vdc vdd; do
	q=/sys/block/$disk
	echo "blk: $disk size $(cat $q/size) ro $(cat $q/ro) queues $(ls $q/mq | wc -l) block $(cat $q/queue/logical_block_size) discard $(cat $q/queue/discard_max_bytes) cache $(cat $q/cache_type) serial $(cat $q/serial)"
done

# a file system: written, flushed, unmounted, mounted again
mkdir /mnt
say mount mount -t ext4 -o discard /dev/vda /mnt
for n in 1 2 3 4 5 6; do
	dd if=/dev/urandom of=/mnt/file$n bs=64k count=$((n * 8)) 2>/dev/null
done
sync
sums=$(cat /mnt/file* | sum)
rm /mnt/file2 /mnt/file4
mkdir /mnt/many
for n in $(seq 1 200); do echo "file $n" >/mnt/many/$n; done
say fstrim fstrim /mnt
say umount umount /mnt
say "mount again" mount -t ext4 /dev/vda /mnt
echo "blk: sum $(cat /mnt/file1 /mnt/file3 /mnt/file5 /mnt/file6 | sum)"
echo "blk: many $(cat /mnt/many/* | sort | sum)"
umount /mnt

# a raw disk, past the page cache, from all vcpus at once
for part in 0 1 2 3; do
	dd if=/dev/urandom of=/tmp/part$part bs=64k count=32 2>/dev/null
	dd if=/tmp/part$part of=/dev/vdb bs=64k seek=$((part * 32)) oflag=direct 2>/dev/null &
done
wait
blockdev --flushbufs /dev/vdb
cat /tmp/part* >/tmp/all
dd if=/dev/vdb of=/tmp/back bs=128k count=64 iflag=direct 2>/dev/null
say "raw data" cmp /tmp/all /tmp/back
echo "blk: rawsum $(sum </tmp/all)"
say blkdiscard blkdiscard -o 8388608 -l 4194304 /dev/vdb

# what must not be written, and what is not kept
say "read-only" sh -c '! dd if=/dev/zero of=/dev/vdc bs=512 count=1 2>/dev/null'
dd if=/dev/urandom of=/dev/vdd bs=64k count=16 oflag=direct 2>/dev/null
echo "blk: overlay $(dd if=/dev/vdd bs=64k count=16 iflag=direct 2>/dev/null | sum)"
echo "blk: end"
poweroff -f
