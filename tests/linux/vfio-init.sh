#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the VFIO test: writes to the NVMe that was passed through, reads it back past the page cache, and counts interrupts.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo "vfio: init"
if [ -e /mods/order ]; then
	while read -r module; do
		insmod "/mods/$module" || echo "vfio: insmod $module fails"
	done </mods/order
fi
[ "$plug" != 1 ] || echo "vfio: plug it in"
until_disk() { # until_disk is|isnt: a minute at most
	for _ in $(seq 600); do
		disk=$(ls /dev/nvme*n1 2>/dev/null | head -n 1)
		[ -n "$disk" ] && state=is || state=isnt
		[ $state = "$1" ] && return
		usleep 100000
	done
}
until_disk is
for device in /sys/bus/pci/devices/*; do
	driver=$(readlink "$device/driver")
	echo "vfio: ${device##*/} $(cat "$device/vendor") $(cat "$device/device") $(cat "$device/class") ${driver##*/}"
done
echo "vfio: disk $disk $(cat "/sys/block/${disk##*/}/size") sectors"
for group in /sys/kernel/iommu_groups/*; do
	for device in "$group"/devices/*; do
		[ "$(cat "$device/class" 2>/dev/null)" != 0x010802 ] || echo "vfio: group type $(cat "$group/type") $(dmesg | grep -o 'input address: .*')"
	done
done
interrupts() {
	grep nvme /proc/interrupts | awk '{ for (i = 2; i <= NF && $i ~ /^[0-9]+$/; i++) n += $i } END { print n + 0 }'
}
before=$(interrupts)
dd if=/dev/urandom of=/tmp/data bs=64k count=32 2>/dev/null
dd if=/tmp/data of="$disk" bs=64k seek=16 conv=fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
dd if="$disk" of=/tmp/back bs=64k skip=16 count=32 2>/dev/null
cmp /tmp/data /tmp/back && echo "vfio: read back what was written"
echo "vfio: interrupts $(($(interrupts) - before))"
grep nvme /proc/interrupts | sed 's/^ */vfio: irq /'
if [ "$plug" = 1 ]; then
	echo "vfio: take it"
	until_disk isnt
	[ -n "$disk" ] || echo "vfio: taken"
fi
dmesg | grep -E "BUG|WARNING|Oops|Call Trace|nobody cared|can't assign|nvme.*(timeout|fail|disabl)"
echo "vfio: end"
poweroff -f
