#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the test of --api-sock: what there is, and then a line a turn until Ctrl-Alt-Del.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do
	insmod "/mods/$module" || echo "api: insmod $module fails"
done </mods/order
# the keys are a signal to this process
echo 0 >/proc/sys/kernel/ctrl-alt-del
trap 'echo "api: keys"; sync; reboot -f' INT
echo "api: init $(nproc) $(cat /proc/cmdline)"
read -r line </dev/vda
echo "api: disk $line"
echo "the guest was here" | dd of=/dev/vda bs=512 seek=1 conv=notrunc 2>/dev/null
head -c 8 /dev/hwrng | wc -c | sed 's/^/api: random /'
get() { wget -q -O - "$@" 2>&1; }
# with a network card: the metadata, first without a token
if [ -d /sys/class/net/eth0 ]; then
	service=http://169.254.170.2
	ip link set eth0 up
	ip addr add 169.254.1.2/16 dev eth0
	echo "api: without $(get $service/latest/meta-data/id | tail -n 1)"
	token=$(printf 'PUT /latest/api/token HTTP/1.1\r\nHost: m\r\nX-metadata-token-ttl-seconds: 60\r\nConnection: close\r\n\r\n' | nc 169.254.170.2 80 | tail -n 1)
	echo "api: id $(get --header "X-metadata-token: $token" --header 'Accept: application/json' $service/latest/meta-data/id)"
	echo "api: keys of $(get --header "X-metadata-token: $token" $service/latest/meta-data/ | tr '\n' ' ')"
	echo "api: blob $(get --header "X-metadata-token: $token" $service/latest/blob | md5sum)"
	echo "api: peer $(ping -c 1 -W 5 169.254.1.1 | grep -c ' 0% packet loss')"
fi
turn=0
while :; do
	turn=$((turn + 1))
	echo "api: turn $turn"
	# a shell's trap waits for its commands, but not for `wait`
	usleep 200000 &
	wait
done
