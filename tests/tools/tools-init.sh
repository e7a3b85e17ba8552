#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init that runs what comes on its console, line by line. With address=A/N on the kernel's command line eth0 has that address.
/bin/busybox --install -s /bin
export PATH=/usr/bin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/shm /tmp
mount -t tmpfs tmp /dev/shm
while read -r module; do
	insmod "/mods/$module" || echo "tools: insmod $module fails"
done </mods/order
ip link set lo up
for word in $(cat /proc/cmdline); do
	case $word in
	address=*) ip addr add "${word#address=}" dev eth0 && ip link set eth0 up ;;
	run=*) run=$(echo "${word#run=}" | tr , ' ') ;;
	esac
done
stty -echo
echo "tools: ready"
$run
while read -r line; do
	eval "$line"
done
poweroff -f
