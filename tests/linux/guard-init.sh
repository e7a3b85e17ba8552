#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the guard test: is told that it is a copy, feeds the watchdog for longer than it waits, and then does what the command line says.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do
	case $module in
	i6300esb*) insmod "/mods/$module" heartbeat=3 ;;
	*) insmod "/mods/$module" ;;
	esac
done </mods/order
[ -c /dev/watchdog ] && echo "guard: init"
for turn in $(seq 300); do
	dmesg | grep -q 'crng reseeded due to virtual machine fork' && break
	usleep 100000
done
dmesg | grep -q 'crng reseeded due to virtual machine fork' && echo "guard: a copy"
exec 3>/dev/watchdog
for turn in $(seq 20); do
	echo >&3
	usleep 250000
done
echo "guard: fed"
if grep -q panics /proc/cmdline; then
	echo V >&3 # stops the watchdog once it is closed
	exec 3>&-
	echo c >/proc/sysrq-trigger
fi
sleep 60
echo "guard: nobody bites"
poweroff -f
