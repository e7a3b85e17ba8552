#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the test of virtio devices: the console is hvc0, which is there only when its module is loaded.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
legacy=
! grep -q '^0x10[0-3]' /sys/bus/pci/devices/*/device || legacy=force_legacy=1
while read -r module; do
	case $module in
	virtio_pci.ko*) insmod "/mods/$module" $legacy ;;
	*) insmod "/mods/$module" ;;
	esac
done </mods/order
# the driver makes ports when the device tells of them, which takes a moment
until [ -e /dev/hvc0 ] && grep -qs '^org.test.port$' /sys/class/virtio-ports/*/name; do
	sleep 0.1
done
exec </dev/hvc0 >/dev/hvc0 2>&1
echo "virtio: init"
echo "<1>virtio: from the kernel" >/dev/kmsg
for device in /sys/bus/virtio/devices/*; do
	echo "virtio: device $(cat "$device/device") driver $(basename "$(readlink -f "$device/driver")") packed $(cut -c 35 "$device/features") version_1 $(cut -c 33 "$device/features")"
done
stty -F /dev/hvc0 size | sed 's/^/virtio: size /'
# both entropy devices fill, one after the other
for rng in $(cat /sys/class/misc/hw_random/rng_available); do
	echo "$rng" >/sys/class/misc/hw_random/rng_current
	echo "virtio: $rng $(dd if=/dev/hwrng bs=4096 count=64 2>/dev/null | gzip -c | wc -c)"
done
port=/dev/$(basename "$(dirname "$(grep -l '^org.test.port$' /sys/class/virtio-ports/*/name)")")
exec 3<>"$port"
read -r line <&3
echo "virtio: port says $line"
seq 1 30000 >&3
exec 3>&-
echo "virtio: end"
# what the console has not sent yet
sleep 1
poweroff -f
