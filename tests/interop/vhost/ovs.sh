#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# ovs.sh DIR MICROVM [OPTION...]
# Two guests ping each other through Open vSwitch with DPDK, which connects to the sockets on which our network cards listen; it is killed once and
# started again, and the pings go on. 77 where a component is missing. Open vSwitch takes a whole CPU.
set -u
dir=$1 microvm=$(realpath "$2")
shift 2
. "$(dirname "$0")/../../linux/common.sh"
switch=/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk
[ -x $switch ] || skip "ovs-vswitchd-dpdk is not installed (Debian: openvswitch-switch-dpdk)"
need ovsdb-server ovsdb-tool ovs-vsctl
find_kernel
here=$(cd "$(dirname "$0")" && pwd) # where make_initrd finds the init
make_initrd ovs ovs-init.sh "virtio_mmio virtio_pci virtio_net"
if [ -z "${IN_NAMESPACE-}" ]; then
	unshare --net true 2>/dev/null || skip "no permission for a network namespace"
	IN_NAMESPACE=1 exec unshare --net bash "$0" "$dir" "$microvm" "$@"
fi

work=$(mktemp -d)
pids=() vswitchd=
end() {
	kill -9 "${pids[@]}" $vswitchd 2>/dev/null
	wait 2>/dev/null # without a word about each
	rm -rf "$work"
}
trap end EXIT
export OVS_RUNDIR=$work OVS_DBDIR=$work OVS_SYSCONFDIR=$work OVS_LOGDIR=$work XDG_RUNTIME_DIR=$work
database=unix:$work/db.sock
mkdir "$work/sockets"
control() { # never for ever
	ovs-vsctl --db="$database" --timeout=40 "$@" >>"$work/switch.log" 2>&1
}
start_switch() {
	rm -f "$work"/*.pid
	$switch "$database" --pidfile="$work/vswitchd.pid" >>"$work/switch.log" 2>&1 &
	vswitchd=$!
}
no_switch() {
	tail -n 20 "$work/switch.log"
	skip "Open vSwitch with DPDK does not start here"
}
ip link set lo up
ovsdb-tool create "$work/conf.db" /usr/share/openvswitch/vswitch.ovsschema || no_switch
ovsdb-server "$work/conf.db" --remote="p$database" >"$work/switch.log" 2>&1 &
pids+=($!)
retry 10 test -S "$work/db.sock" || no_switch
control --no-wait set Open_vSwitch . other_config:dpdk-init=true other_config:dpdk-lcore-mask=0x1 other_config:pmd-cpu-mask=0x2 \
	other_config:dpdk-extra="--no-huge --legacy-mem -m 2048 --no-pci --no-telemetry --file-prefix=vc$$" || no_switch
start_switch
control add-br br0 -- set bridge br0 datapath_type=netdev || no_switch
for n in 1 2; do
	control add-port br0 "v$n" -- set Interface "v$n" type=dpdkvhostuserclient "options:vhost-server-path=$work/sockets/v$n" || no_switch
done

guest() { # guest N CMDLINE [OPTION...]
	local n=$1 cmdline=$2
	shift 2
	timeout -s KILL 400 "$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 quiet panic=-1 ovs.address=10.12.0.$n/24 $cmdline" --memory 192M \
		--timeout 390 --verbose --serial "file:$work/guest$n" --device "vhost-user-net,socket=$work/sockets/v$n,listen=on,mac=52:54:00:12:34:0$n" "$@" \
		</dev/null >"$work/said$n" 2>&1 &
	pids+=($!)
}
answers() { # answers LEAST
	[ "$(cat "$work/guest2" 2>/dev/null | grep -c "^ovs: answer")" -ge "$1" ]
}
log=$work/guest2
guest 1 "" "$@"
guest 2 "ovs.peer=10.12.0.1" "$@"
if retry 200 answers 5; then
	kill -9 $vswitchd
	wait $vswitchd 2>/dev/null
	before=$(grep -c '^ovs: answer' "$log")
	start_switch
	retry 120 answers $((before + 5)) || bad="$bad no answers after Open vSwitch was killed;"
	for n in 1 2; do
		expect "return of the back-end" 'is there again' "$work/said$n"
	done
else
	bad="$bad no answers;"
fi
no_trouble
verdict "ovs.sh $*" "$(grep -c '^ovs: answer' "$log") pings through Open vSwitch, killed once" "$work/guest1" "$work/said1" "$work/said2" "$work/switch.log"
