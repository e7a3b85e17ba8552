#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the test with Open vSwitch: ovs.address is ours; with ovs.peer that one is pinged for ever, and every answer told.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do
	insmod "/mods/$module"
done </mods/order
peer=
for word in $(cat /proc/cmdline); do
	case $word in
	ovs.address=*) address=${word#*=} ;;
	ovs.peer=*) peer=${word#*=} ;;
	esac
done
ip link set eth0 up
ip addr add "$address" dev eth0
echo "ovs: ready"
n=0
while [ -n "$peer" ]; do
	ping -c 1 -W 1 -s 1400 "$peer" >/dev/null || continue
	n=$((n + 1))
	echo "ovs: answer $n"
	usleep 100000
done
while :; do sleep 1000; done
