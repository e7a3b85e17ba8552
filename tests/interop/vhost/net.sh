#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# net.sh DIR MICROVM PROPERTIES PAIRS KILLS [OPTION...]
# Debian's cloud kernel with a network card that DPDK's testpmd serves, which answers every ping; it is killed KILLS times (0 or 1) and started
# again. 77 where a component is missing. testpmd takes a whole CPU while it runs.
set -u
here=$(cd "$(dirname "$0")" && pwd)
tools=$here/../../tools
dir=$1 microvm=$2 properties=$3 pairs=$4 kills=$5
shift 5
for tool in busybox cpio gzip modprobe dpdk-testpmd; do
	command -v $tool >/dev/null || {
		echo "SKIP: $tool is not installed (Debian: busybox-static, cpio, gzip, kmod, dpdk-dev)"
		exit 77
	}
done
kernel=$("$tools/get-kernel.sh" "$dir") || { echo "SKIP: no Debian cloud kernel: neither in $dir nor from apt"; exit 77; }
initrd=$dir/vhost-net-$(cksum <"$here/net-init.sh" | cut -d ' ' -f 1).gz
if [ ! -f "$initrd" ]; then
	files=$("$tools/module-files.sh" "$dir" "$kernel" virtio_mmio virtio_pci virtio_net) || exit 70
	# shellcheck disable=SC2086 # one word a file
	sh "$tools/mkinitramfs.sh" "$initrd.$$" "$here/net-init.sh" $files && mv "$initrd.$$" "$initrd" || exit 70
fi

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
	echo "SKIP: testpmd does not start here"
	exit 77
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

bad=
expect() { # expect TEXT
	grep -qE -- "^vhost: $1\$" "$log" || bad="$bad no $1;"
}
[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
expect "mac 52:54:00:12:34:56 queues $pairs"
for step in ping "large ping" "ping again" "ping after down and up"; do
	expect "$step ok"
done
expect "end"
[ "$(grep -c 'is there again' "$log")" -ge "$kills" ] || bad="$bad the daemon did not come back;"
trouble=$(grep -E 'BUG|WARNING|Oops|Call Trace|soft lockup|NETDEV WATCHDOG' "$log" | head -n 3)
[ -z "$trouble" ] || bad="$bad $trouble;"
if [ -n "$bad" ]; then
	cat "$log" "$work/daemon.log"
	echo "net.sh $*:$bad"
	exit 1
fi
echo "net.sh $*: a network card served by testpmd, $pairs pairs of queues, killed $kills times"
