#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the IOMMU test: disk, network and entropy behind a virtio-iommu, and then a device that somebody has write where nothing is mapped.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo "iommu: init"
while read -r module; do
	insmod "/mods/$module" || echo "iommu: insmod $module fails"
done </mods/order
# drivers wait for the IOMMU's
for n in $(seq 1 100); do
	[ -e /dev/vda ] && [ -e /sys/class/net/eth0 ] && [ -e /dev/hwrng ] && break
	sleep 0.1
done
sum() {
	md5sum | cut -d ' ' -f 1
}
for device in /sys/bus/pci/devices/*; do
	[ -e "$device/iommu_group" ] || continue
	group=$device/iommu_group
	echo "iommu: ${device##*/} $(cat "$device/device") $(basename "$(readlink "$device/driver")") type $(cat "$group/type") reserved $(tr '\n' ' ' <"$group/reserved_regions")"
done
echo "iommu: groups $(ls /sys/kernel/iommu_groups | wc -l)"
for device in /sys/bus/virtio/devices/*; do
	echo "iommu: virtio $(cat "$device/device") $(basename "$(readlink "$device/driver")") platform $(cut -c 34 "$device/features") packed $(cut -c 35 "$device/features")"
done

# past the page cache, in pieces that are not contiguous in memory
dd if=/dev/urandom of=/tmp/data bs=64k count=128 2>/dev/null
dd if=/tmp/data of=/dev/vda bs=512k oflag=direct 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/vda of=/tmp/back bs=1M count=8 iflag=direct 2>/dev/null
cmp /tmp/data /tmp/back && echo "iommu: disk ok"
echo "iommu: sum $(sum </tmp/data)"
echo "iommu: rng $(dd if=/dev/hwrng bs=512 count=8 2>/dev/null | wc -c)"
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ping -c 3 -w 20 10.0.2.2 >/dev/null && echo "iommu: ping ok"

# a snapshot is taken in the midst of this
echo "iommu: ready"
for n in $(seq 1 15); do
	dd if=/dev/vda of=/tmp/back bs=1M count=8 iflag=direct 2>/dev/null
	cmp /tmp/data /tmp/back || echo "iommu: round $n fails"
	sleep 0.1
done
echo "iommu: rounds done"
ping -c 2 -w 20 10.0.2.2 >/dev/null && echo "iommu: ping again ok"

# the entropy device without its driver: its registers are in the fifth BAR
pci=$(dirname "$(readlink -f /sys/bus/virtio/drivers/virtio_rng/virtio*)")
bar=$(sed -n 5p "$pci/resource" | cut -d ' ' -f 1)
echo "${pci##*/}" >"$pci/driver/unbind"
printf '\006\000' | dd of="$pci/config" bs=1 seek=4 conv=notrunc 2>/dev/null
reg() { # reg OFFSET WIDTH VALUE
	devmem $((bar + $1)) "$2" "$3"
}
reg 20 8 0
reg 20 8 3
reg 8 32 1 # VERSION_1 and ACCESS_PLATFORM
reg 12 32 3
reg 20 8 11
reg 22 16 0
reg 24 16 16
reg 32 32 0x66660000 # rings where nothing is mapped
reg 40 32 0x66670000
reg 48 32 0x66680000
reg 28 16 1
reg 20 8 15
reg 12288 16 0
for n in $(seq 1 50); do
	dmesg | grep -q 'page fault' && break
	sleep 0.1
done
dmesg | grep 'page fault' | sed 's/^[^]]*\] /iommu: /'
echo "iommu: status $(devmem $((bar + 20)) 8)"
# nobody else has suffered
dd if=/dev/vda of=/tmp/back bs=1M count=8 iflag=direct 2>/dev/null
cmp /tmp/data /tmp/back && echo "iommu: disk still ok"
ping -c 2 -w 20 10.0.2.2 >/dev/null && echo "iommu: ping still ok"
dmesg | grep -E "BUG|WARNING|Oops|Call Trace"
echo "iommu: end"
poweroff -f
