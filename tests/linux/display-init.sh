#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the display test: draws, and tells what is typed and pointed.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do
	insmod "/mods/$module"
done </mods/order
echo "display: init"
for device in /sys/bus/virtio/devices/*; do
	echo "display: device $(cat "$device/device") driver $(basename "$(readlink -f "$device/driver")")"
done
while [ ! -c /dev/fb0 ]; do usleep 100000; done
fb=/sys/class/graphics/fb0
echo "display: fb $(cat $fb/name) $(cat $fb/virtual_size) $(cat $fb/stride) $(cat $fb/bits_per_pixel)"
seq 1 400000 | head -c $((640 * 480 * 4)) >/dev/fb0
echo "display: drawn"

number=3
for name in keyboard mouse tablet; do
	event=$(basename "$(dirname "$(dirname "$(grep -l "^virtcore $name\$" /sys/class/input/event*/device/name)")")")
	echo "display: $name $(cat "/sys/class/input/$event/device/capabilities/ev")"
	eval "exec $number</dev/input/$event"
	number=$((number + 1))
done
echo "display: listening"
# type, code, value
show() { # show NAME EVENTS
	dd bs=24 count="$2" 2>/dev/null | od -An -v -w24 -t d2 | while read -r line; do
		# shellcheck disable=SC2086 # fields
		set -- "$1" $line
		echo "display: $1 ${10} ${11} ${12}"
	done
}
show keyboard 8 <&3
show mouse 5 <&4
show tablet 3 <&5
for light in /sys/class/leds/*::capslock/brightness; do echo 1 >"$light"; done
echo "display: light"
while [ "$(head -n 1 /sys/class/drm/card0-Virtual-1/modes)" != 320x200 ]; do usleep 100000; done
echo "display: mode 320x200"
read -r line
poweroff -f
