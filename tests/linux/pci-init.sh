#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the PCI test: what the kernel found on the bus, and random bytes through virtio-rng there.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo "pci: init"
while read -r module; do
	insmod "/mods/$module" || echo "pci: insmod $module fails"
done </mods/order
dmesg | grep -E 'MMCONFIG|_OSC: OS now' | sed 's/^[^]]*\] /pci: /'
for device in /sys/bus/pci/devices/*; do
	driver=$(readlink "$device/driver")
	echo "pci: ${device##*/} $(cat "$device/vendor") $(cat "$device/device") $(cat "$device/class") ${driver##*/}"
	grep -v '^0x0000000000000000 ' "$device/resource" | sed "s/^/pci: ${device##*/} resource /"
done
grep -E 'PCI Bus|0000:00:|virtio-pci|MMCONFIG' /proc/iomem | sed 's/^ */pci: iomem /'
interrupts() {
	grep virtio0 /proc/interrupts | awk '{ for (i = 2; i <= NF && $i ~ /^[0-9]+$/; i++) n += $i } END { print n + 0 }'
}
before=$(interrupts)
echo "pci: rng $(cat /sys/class/misc/hw_random/rng_current) $(dd if=/dev/hwrng bs=512 count=8 2>/dev/null | wc -c) bytes"
grep virtio0 /proc/interrupts | sed 's/^ */pci: irq /'
[ "$(interrupts)" -gt "$before" ] && echo "pci: interrupts counted"
# taken away and found again: the driver resets the device, the bus sizes and places its BARs anew
echo 1 >/sys/bus/pci/devices/0000:00:01.0/remove
[ -e /sys/bus/pci/devices/0000:00:01.0 ] || echo "pci: removed"
echo 1 >/sys/bus/pci/rescan
echo "pci: again $(cat /sys/class/misc/hw_random/rng_current) $(dd if=/dev/hwrng bs=512 count=8 2>/dev/null | wc -c) bytes"
dmesg | grep -E "BUG|WARNING|Oops|Call Trace|nobody cared|can't assign"
echo "pci: end"
poweroff -f
