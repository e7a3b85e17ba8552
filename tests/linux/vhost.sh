#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# vhost.sh DIR MICROVM VSOCK prepare|mmio|pci [OPTION...]
# Boots Debian's cloud kernel with a virtio-net on a tap and a virtio-vsock, both served by vhost in the kernel of this host. It passes when pings and
# iperf3 work both ways, data by vsock sockets come back unchanged both ways, interrupts on backend kvm with MSI-X go past the library, and when all that
# goes on after a snapshot, here and in a vm restored from it. 77, with the reason, where there is no vhost. prepare: only makes what it needs in DIR.
set -u
dir=$1 microvm=$(realpath "$2") vsock=$(realpath "$3") transport=$4
shift 4
. "$(dirname "$0")/common.sh"
find_kernel
need iperf3 ip
libraries=$(ldd "$(command -v iperf3)" | sed -n 's/.*[ \t]\(\/[^ ]*\) (.*/\1:\1/p')
# shellcheck disable=SC2086 # a word each
make_initrd vhost vhost-init.sh "virtio_mmio virtio_pci virtio_net vmw_vsock_virtio_transport" "$vsock:bin/vsock" "$(command -v iperf3):bin/iperf3" $libraries
[ "$transport" != prepare ] || exit 0
for device in vhost-net vhost-vsock net/tun; do
	[ -c "/dev/$device" ] || skip "there is no /dev/$device"
done
if [ -z "${IN_NAMESPACE-}" ]; then
	IN_NAMESPACE=1 exec unshare --net bash "$0" "$dir" "$microvm" "$vsock" "$transport" "$@"
fi

work=$(mktemp -d)
log=$work/log
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$work"' EXIT
ip link set lo up
ip tuntap add tap0 mode tap || skip "no permission for a tap"
ip addr add 10.11.0.1/24 dev tap0
ip link set tap0 up
iperf3 -s -B 10.11.0.1 >"$work/iperf" 2>&1 &
timeout 300 "$vsock" guest-echo 1000 >"$work/echo" &
timeout 300 "$vsock" send-to 42 2000 300000 >"$work/send" &
devices="--device virtio-net,transport=$transport,net=tap,ifname=tap0,vhost=on --device virtio-vsock,transport=$transport,cid=42,vhost=on"
await() { # await PATTERN FILE
	for _ in $(seq 1200); do
		grep -q -- "$1" "$2" 2>/dev/null && return 0
		kill -0 "$vm" 2>/dev/null || return 1
		sleep .1
	done
	return 1
}
call() { # the guest goes on when somebody connects
	for _ in $(seq 50); do
		busybox nc -w 1 10.11.0.2 6000 </dev/null >/dev/null 2>&1 && return 0
		sleep .1
	done
	return 1
}
ended() { # ended WHAT
	wait "$vm"
	local status=$?
	[ "$status" = 0 ] || bad="$bad $1: microvm ended with $status;"
}
# shellcheck disable=SC2086
timeout -s KILL 280 "$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 quiet panic=-1" --memory 256M --cpus 1 --timeout 270 \
	--monitor "$work/monitor" --serial "file:$log" $devices "$@" </dev/null >"$work/said" 2>&1 &
vm=$!
if await '^vhost: one' "$log"; then
	"$microvm" monitor "$work/monitor" query-devices >"$work/devices"
	"$microvm" monitor "$work/monitor" query-stats >"$work/stats"
	"$microvm" monitor "$work/monitor" snapshot-save path="$work/snapshot" >"$work/saved" 2>&1 || bad="$bad snapshot: $(tail -n 1 "$work/saved");"
	call || bad="$bad no connection after the snapshot;"
fi
ended "the vm"
sed -i 's/\r$//' "$log"
expect "init" '^vhost: init$'
expect "pings" '^vhost: pings 3$'
[ "$(grep -c '^vhost: iperf3 [1-9]' "$log")" = 2 ] || bad="$bad no iperf3 both ways;"
expect "data of the guest's connection" '^vsock: sent 300000, 300000 came back$'
expect "echo of the guest" '^vsock: echoed 300000$'
expect "echo of the host" '^vsock: echoed 300000$' "$work/echo"
expect "data of the host's connection" '^vsock: sent 300000, 300000 came back$' "$work/send"
expect "pings after the snapshot" '^vhost: again 3$'
expect "end" '^vhost: end$'
no_trouble
calls=$(tr -d ' \n' <"$work/devices" 2>/dev/null | grep -o '"vhost":1,"calls":[0-9]*' | grep -o '[0-9]*$' | tr '\n' ' ')
[ "$(echo "$calls" | wc -w)" = 2 ] || bad="$bad the devices are not vhost's;"
case "$transport $*" in
pci*kvm*) # a few come before the driver has its messages set up
	for n in $calls; do
		[ "$n" -lt 20 ] || bad="$bad $n interrupts came through the library;"
	done
	;;
esac

# shellcheck disable=SC2086
if [ -z "$bad" ]; then
	backend=
	case "$*" in *--backend*) backend="--backend $(echo "$*" | sed 's/.*--backend \([^ ]*\).*/\1/')" ;; esac
	first=$log log=$work/log2
	timeout -s KILL 120 "$microvm" --restore "$work/snapshot" $backend --serial "file:$log" --timeout 100 </dev/null >"$work/said2" 2>&1 &
	vm=$!
	call || bad="$bad no connection to the restored vm;"
	ended "the restored vm"
	sed -i 's/\r$//' "$log"
	expect "pings of the restored vm" '^vhost: again 3$'
	cat "$first" >>"$log"
fi
verdict "vhost.sh $transport $*" "$(grep -o 'iperf3 .*' "$log" | tr '\n' ' ')calls $calls" "$work/said" "$work/said2" "$work/stats" "$work/devices" "$work/send"
