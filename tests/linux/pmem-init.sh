#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the pmem test: the first boot fills the file system on /dev/pmem0 and ends without unmounting it; the second finds what was synced.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do
	insmod "/mods/$module"
done </mods/order
for turn in $(seq 100); do
	[ -b /dev/pmem0 ] && break
	usleep 100000
done
echo "pmem: size $(cat /sys/block/pmem0/size)"
mkdir /data
if ! grep -q second /proc/cmdline; then
	mount -t ext4 /dev/pmem0 /data && echo "pmem: mounted"
	dd if=/dev/urandom of=/data/file bs=64k count=200 2>/dev/null
	echo "kept" >/data/word
	sync
	echo "pmem: sum $(md5sum </data/file)"
	echo "pmem: interrupts $(grep -E 'virtio[0-9]+(-|$)' /proc/interrupts | awk '{ s += $2 + $3 } END { print s }')"
	echo "pmem: end"
	poweroff -f
fi
mount -t ext4 -o dax /dev/pmem0 /data && echo "pmem: mounted $(grep -o 'dax[=a-z]*' /proc/mounts)"
echo "pmem: word $(cat /data/word)"
echo "pmem: sum $(md5sum </data/file)"
cp /data/file /data/copy
cmp /data/file /data/copy && echo "pmem: copied"
umount /data && echo "pmem: end"
poweroff -f
