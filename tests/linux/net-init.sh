#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the network tests. On the kernel's command line: net.role and what that needs; see net.sh and net-switch.c.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
for word in $(cat /proc/cmdline); do
	case $word in net.*=*) eval "$(echo "${word#net.}" | sed "s/=\(.*\)/='\1'/")" ;; esac
done
legacy=
! grep -q '^0x10[0-3]' /sys/bus/pci/devices/*/device || legacy=force_legacy=1
for module in $(cat /mods/order); do insmod "/mods/$module" $(echo "$module" | sed -n "s/^virtio_pci[.]ko.*/$legacy/p") || echo "net: insmod $module failed"; done
ip link set lo up
ip link set eth0 up || echo "net: no eth0"
echo "net: role $role"
fetch() { # fetch URL: says its checksum
	echo "net: sum $(wget -q -O - "$1" | sha256sum | cut -d ' ' -f 1)"
}
await() { # await ADDRESS: until it answers
	for _ in $(seq 100); do
		ping -c 1 -W 1 "$1" >/dev/null && break
	done
	ping -c 3 -W 5 "$1" | sed -n 's/^3 packets transmitted, \([0-9]*\) .*/net: pings \1/p'
}
case $role in
dhcp) # by DHCP, then $url
	udhcpc -i eth0 -n -q -t 10 -s /udhcpc.sh
	ip -4 -o addr show dev eth0 | sed 's/.*inet \([^ ]*\).*/net: address \1/'
	fetch "$url"
	;;
static) # address $address, then a ping of $peer and $url
	ip addr add "$address" dev eth0
	await "$peer"
	fetch "$url"
	;;
send) # address $address; a file of $bytes to $peer
	ip addr add "$address" dev eth0
	await "$peer"
	dd if=/dev/urandom of=/tmp/file bs=65536 count=$((bytes / 65536)) 2>/dev/null
	echo "net: sum $(sha256sum </tmp/file | cut -d ' ' -f 1)"
	for _ in $(seq 100); do
		nc "$peer" 5000 </tmp/file && break
		usleep 100000
	done
	;;
receive) # address $address; a file from whoever comes
	ip addr add "$address" dev eth0
	echo "net: sum $(nc -l -p 5000 | sha256sum | cut -d ' ' -f 1)"
	;;
esac
for device in /sys/bus/virtio/devices/*; do echo "net: version_1 $(cut -c 33 "$device/features")"; done
echo "net: end"
poweroff -f
