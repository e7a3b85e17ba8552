#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the hot-plug test: uses the card that comes, notices that it goes, and comes again; switches its power itself.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do
	insmod "/mods/$module" || echo "hotplug: insmod $module fails"
done </mods/order
until_card() { # until_card is|isnt: 30 seconds at most
	for turn in $(seq 600); do
		ls -d /sys/bus/pci/devices/*:01:00.0/virtio* >/dev/null 2>&1 && state=is || state=isnt
		[ $state = "$1" ] && return
		usleep 50000
	done
	echo "hotplug: the card $state there"
}
use_card() {
	until_card is
	echo "hotplug: $(dd if=/dev/hwrng bs=512 count=4 2>/dev/null | wc -c) bytes"
}
echo "hotplug: slots $(ls /sys/bus/pci/slots)"
echo "hotplug: ready"
use_card
echo "hotplug: works"
until_card isnt
sleep 3 # Linux ignores cards that come in the second after it has switched the power off
echo "hotplug: gone"
use_card
echo 0 >/sys/bus/pci/slots/7/power
until_card isnt
echo 1 >/sys/bus/pci/slots/7/power
use_card
dmesg | grep -E "BUG|WARNING|Oops|Call Trace|nobody cared" | sed 's/^/hotplug: trouble /'
dmesg | grep -E "pciehp|pcieport" | sed 's/^/kernel: /'
echo "hotplug: end"
poweroff -f
