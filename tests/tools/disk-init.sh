#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of an initial RAM disk: mounts the disk that root= names on the kernel's command line, and goes on there.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do
	insmod "/mods/$module" || echo "disk: insmod $module fails"
done </mods/order
root=/dev/vda init=/sbin/init flags=ro
for word in $(cat /proc/cmdline); do
	case $word in
	root=*) root=${word#root=} ;;
	init=*) init=${word#init=} ;;
	rw) flags=rw ;;
	esac
done
mkdir -p /root
for _ in $(seq 100); do
	[ -b "$root" ] && break
	usleep 50000
done
mount -t ext4 -o $flags "$root" /root || echo "disk: no root on $root"
umount /proc /sys
mount --move /dev /root/dev
exec switch_root /root "$init"
