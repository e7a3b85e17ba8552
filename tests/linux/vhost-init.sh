#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the test of vhost in the host's kernel: ping and iperf3 over eth0, data by vsock both ways; then once more when the host has connected.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do
	insmod "/mods/$module"
done </mods/order
ip link set lo up
ip link set eth0 up
ip addr add 10.11.0.2/24 dev eth0
echo "vhost: init"
ping -c 1 -W 10 10.11.0.1 >/dev/null
ping -c 3 -W 5 10.11.0.1 | sed -n 's/^3 packets transmitted, \([0-9]*\) .*/vhost: pings \1/p'
for way in "" -R; do
	iperf3 -c 10.11.0.1 -n 8M -f m $way 2>&1 | sed -n 's/.* \([0-9.]* Mbits\/sec\).*receiver/vhost: iperf3 \1/p'
done
if [ -e /bin/vsock ]; then
	vsock guest-echo 2000 >/tmp/echo &
	vsock guest-send 1000 300000
	wait
	cat /tmp/echo
fi
grep virtio /proc/interrupts | sed 's/^/vhost: irq /'
echo "vhost: one"
nc -l -p 6000 </dev/null
ping -c 3 -W 5 10.11.0.1 | sed -n 's/^3 packets transmitted, \([0-9]*\) .*/vhost: again \1/p'
echo "vhost: end"
poweroff -f
