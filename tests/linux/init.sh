#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the boot tests: says what the kernel made of the machine, and powers off.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo "boot: init"
echo "boot: cpus $(nproc)"
echo "boot: clocksource $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
# every vcpu does some work of its own, with timers and context switches
for cpu in $(seq 0 $(($(nproc) - 1))); do
	(for turn in 1 2 3; do usleep 2000; taskset "$(printf %x $((1 << cpu)))" md5sum /bin/busybox >/dev/null || echo "boot: cpu $cpu fails"; done) &
done
wait
echo "boot: end"
# without ACPI the kernel has no way to switch off; the reboot is seen as well
poweroff -f
