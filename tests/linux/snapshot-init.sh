#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the snapshot test: drivers, then a shell on the serial port that is asked by the test.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do
	insmod "/mods/$module" || echo "snapshot: insmod $module fails"
done </mods/order
exec /bin/sh </dev/ttyS0 >/dev/ttyS0 2>&1
