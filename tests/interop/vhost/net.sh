#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# net.sh DIR MICROVM PROPERTIES PAIRS KILLS [OPTION...]
# Debian's cloud kernel with a network card that DPDK's testpmd serves, which answers every ping; it is killed KILLS times (0 or 1) and started
# again. 77 where a component is missing. testpmd takes a whole CPU while it runs.
set -u
dir=$1 microvm=$2 properties=$3 pairs=$4 kills=$5
shift 5
. "$(dirname "$0")/../../linux/common.sh"
need dpdk-testpmd
find_kernel
here=$(cd "$(dirname "$0")" && pwd) # where make_initrd finds the init
make_initrd vhost-net net-init.sh "virtio_mmio virtio_pci virtio_net"

work=$(mktemp -d)
daemon= guest=
end() {
	[ -z "$guest" ] || kill -9 "$guest" 2>/dev/null
	[ -z "$daemon" ] || kill -9 "$daemon" 2>/dev/null
	rm -rf "$work"
}
trap end EXIT
mkfifo "$work/input"
exec 9<>"$work/input" # it ends with its input
start_daemon() {
	rm -f "$work/sock"
	dpdk-testpmd -l 0,1 --no-huge -m 256 --no-pci --file-prefix="vc$$" --no-telemetry --vdev="net_vhost0,iface=$work/sock,queues=$pairs" -- \
		--forward-mode=icmpecho --auto-start --nb-cores=1 --rxq="$pairs" --txq="$pairs" --total-num-mbufs=4096 --no-mlockall <&9 >>"$work/daemon.log" 2>&1 &
	daemon=$!
	for _ in $(seq 1 300); do
		[ -S "$work/sock" ] && return
		kill -0 $daemon 2>/dev/null || break
		sleep 0.1
	done
	cat "$work/daemon.log"
	skip "testpmd does not start here"
}
log=$work/log
start_daemon
timeout -s KILL 200 "$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 panic=-1" --memory 256M --cpus 2 --timeout 180 --verbose \
	--device "vhost-user-net,socket=$work/sock,reconnect_ms=100,mac=52:54:00:12:34:56,queues=$pairs$properties" "$@" </dev/null >"$log" 2>&1 &
guest=$!
if [ "$kills" -gt 0 ]; then
	for _ in $(seq 1 1200); do
		grep -q "vhost: ping 5" "$log" && break
		kill -0 $guest 2>/dev/null || break
		sleep 0.1
	done
	kill -9 "$daemon"
	wait "$daemon" 2>/dev/null
	start_daemon
fi
wait $guest
status=$?
guest=
sed -i 's/\r//' "$log"

[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
for said in "mac 52:54:00:12:34:56 queues $pairs" "ping ok" "large ping ok" "ping again ok" "ping after down and up ok" end; do
	expect "$said" "^vhost: $said\$"
done
[ "$(grep -c 'is there again' "$log")" -ge "$kills" ] || bad="$bad the daemon did not come back;"
no_trouble 'NETDEV WATCHDOG'
verdict "net.sh $*" "a network card served by testpmd, $pairs pairs of queues, killed $kills times" "$work/daemon.log"
