#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the vhost-user-blk test: vda is served by qemu-storage-daemon. What is written is read back while the daemon may be killed and come again.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo "vhost: init"
while read -r module; do
	insmod "/mods/$module" || echo "vhost: insmod $module fails"
done </mods/order
say() { # say WHAT COMMAND...: how it ended
	what=$1
	shift
	if "$@"; then echo "vhost: $what ok"; else echo "vhost: $what fails"; fi
}
q=/sys/block/vda
echo "vhost: vda size $(cat $q/size) ro $(cat $q/ro) queues $(ls $q/mq | wc -l)"

# from all vcpus at once, past the page cache
for part in 0 1 2 3; do
	dd if=/dev/urandom of=/tmp/part$part bs=64k count=32 2>/dev/null
	dd if=/tmp/part$part of=/dev/vda bs=64k seek=$((part * 32)) oflag=direct 2>/dev/null &
done
wait
cat /tmp/part* >/tmp/all
dd if=/dev/vda of=/tmp/back bs=128k count=64 iflag=direct 2>/dev/null
say "direct data" cmp /tmp/all /tmp/back

# many requests in flight, round after round, each with its own bytes: one that is lost, or done again later, is seen
echo "vhost: rounds begin"
bad=0
for round in $(seq 1 24); do
	dd if=/dev/urandom of=/tmp/round bs=64k count=32 2>/dev/null
	at=$((64 + round % 3 * 32))
	dd if=/tmp/round of=/dev/vda bs=64k seek=$at 2>/dev/null
	sync
	sync; echo 3 >/proc/sys/vm/drop_caches
	dd if=/dev/vda of=/tmp/back bs=64k skip=$at count=32 2>/dev/null
	cmp -s /tmp/round /tmp/back || bad=$((bad + 1))
	echo "vhost: round $round"
done
echo "vhost: rounds bad $bad"

# programs that are read from the disk, over pages that held others: what the daemon writes there is executed
mkdir /mnt
mke2fs -F /dev/vda >/dev/null
say mount mount -t ext4 /dev/vda /mnt
bad=0
for n in $(seq 1 6); do
	cp /bin/busybox /mnt/busybox$n
done
sync
for n in $(seq 1 6); do
	sync; echo 3 >/proc/sys/vm/drop_caches
	[ "$(/mnt/busybox$n expr $n + 40)" = $((n + 40)) ] || bad=$((bad + 1))
done
echo "vhost: programs bad $bad"
say umount umount /mnt
echo "vhost: sum $(dd if=/dev/vda bs=64k iflag=direct 2>/dev/null | md5sum | cut -d ' ' -f 1)"
echo "vhost: end"
poweroff -f
