#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the virtio-mem test: says how much memory there is, uses it, and gives it up, a line from the console at a time.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
# as movable memory, or it could not be taken out again
echo online_movable >/sys/devices/system/memory/auto_online_blocks
while read -r module; do
	insmod "/mods/$module"
done </mods/order
mkdir /fill
echo "mem: ready"
n=0
while read -r line; do
	n=$((n + 1))
	case $line in
	total) ;;
	fill)
		mount -t tmpfs -o size=90% fill /fill
		yes virtio-mem | dd of=/fill/file bs=1M count=300 iflag=fullblock 2>/dev/null
		sum=$(md5sum </fill/file)
		;;
	sum) # what is there must be what was written
		[ "$(md5sum </fill/file)" = "$sum" ] || break
		;;
	free)
		umount /fill
		echo 3 >/proc/sys/vm/drop_caches
		;;
	off)
		dmesg | grep -E 'BUG|WARNING|Oops|Call Trace'
		poweroff -f
		;;
	esac
	echo "mem: $n $line $(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) kB"
done
