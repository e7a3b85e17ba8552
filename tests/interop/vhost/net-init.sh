#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the vhost-user-net test: testpmd answers ARP and every ping.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo "vhost: init"
while read -r module; do
	insmod "/mods/$module" || echo "vhost: insmod $module fails"
done </mods/order
say() { # say WHAT COMMAND...: how it ended
	what=$1
	shift
	if "$@" >/dev/null 2>&1; then echo "vhost: $what ok"; else echo "vhost: $what fails"; fi
}
echo "vhost: mac $(cat /sys/class/net/eth0/address) queues $(ls /sys/class/net/eth0/queues | grep -c rx)"
ip link set eth0 up
ip addr add 10.9.0.2/24 dev eth0
say ping ping -c 3 -W 5 10.9.0.1
say "large ping" ping -c 3 -W 5 -s 1400 10.9.0.1
# the daemon may be killed here, and come again
echo "vhost: pinging"
for n in $(seq 1 30); do
	ping -c 1 -W 1 10.9.0.3 >/dev/null 2>&1 && echo "vhost: ping $n"
	sleep 0.2
done
say "ping again" ping -c 3 -W 5 10.9.0.4
ip link set eth0 down
ip link set eth0 up
ip addr add 10.9.0.2/24 dev eth0 2>/dev/null
say "ping after down and up" ping -c 3 -W 5 10.9.0.5
echo "vhost: end"
poweroff -f
