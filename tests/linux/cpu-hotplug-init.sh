#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the CPU hot-plug test: uses the processor that comes, lets it go, and uses it when it comes again.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
cpu=/sys/devices/system/cpu/cpu1
until_cpu() { # until_cpu is|isnt: 60 seconds at most
	for turn in $(seq 1200); do
		[ -d $cpu ] && state=is || state=isnt
		[ $state = "$1" ] && return
		usleep 50000
	done
	echo "cpus: trouble: cpu1 $state there"
}
use_cpu() {
	until_cpu is
	[ "$(cat $cpu/online)" = 1 ] || echo 1 >$cpu/online
	echo "cpus: online $(cat /sys/devices/system/cpu/online)"
	# work that only that processor does: its own clock ticks for it
	before=$(awk '$1 == "cpu1" { print $2 }' /proc/stat)
	taskset 2 sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; echo "cpus: counted $i"'
	after=$(awk '$1 == "cpu1" { print $2 }' /proc/stat)
	[ "$after" -gt "$before" ] && echo "cpus: it ticked"
}
echo "cpus: possible $(cat /sys/devices/system/cpu/possible) online $(cat /sys/devices/system/cpu/online)"
echo "cpus: ready"
use_cpu
echo "cpus: worked"
until_cpu isnt
echo "cpus: online $(cat /sys/devices/system/cpu/online)"
echo "cpus: gone"
use_cpu
dmesg | grep -E "BUG|WARNING|Oops|Call Trace|nobody cared|AE_|ACPI Error" | sed 's/^/cpus: trouble /'
echo "cpus: end"
poweroff -f
