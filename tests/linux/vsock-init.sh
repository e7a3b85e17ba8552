#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the test of virtio-vsock: data to the host and back, while the host does the same.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do
	insmod "/mods/$module"
done </mods/order
echo "vsock: init"
/bin/vsock guest-echo 2000 >/tmp/echo &
/bin/vsock guest-send 1000 3000000
/bin/vsock guest-send 1001 1
wait
cat /tmp/echo
echo "vsock: end"
poweroff -f
