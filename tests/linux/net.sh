#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# net.sh DIR MICROVM KIND [DEVICE-PROPERTIES [OPTION...]]
# A booted Debian guest on the network: it gets an address, pings where it can, and fetches a file by HTTP whose checksum must be right.
# KIND user: DHCP and NAT by libslirp, the server is on this host's loopback. tap, passt: inside a network namespace of their own. 77, with the
# reason, where something is missing.
set -u
dir=$1 microvm=$(realpath "$2") kind=$3 more=${4:+,$4}
options=("${@:5}")
[ ${#options[@]} -gt 0 ] || options=(--backend emu)
. "$(dirname "$0")/net-common.sh"

# tap and passt: once more, as root of a new namespace
if [ "$kind" != user ] && [ -z "${IN_NAMESPACE-}" ]; then
	[ "$kind" != passt ] || command -v passt >/dev/null || skip "passt is not installed"
	unshare --net true 2>/dev/null || skip "no permission for a network namespace"
	[ -c /dev/net/tun ] || [ "$kind" != tap ] || skip "there is no /dev/net/tun"
	IN_NAMESPACE=1 exec unshare --net bash "$0" "$@"
fi

work=$(mktemp -d)
log=$work/log
chmod 755 "$work"
helpers=()
leave() {
	for pid in "${helpers[@]}"; do kill "$pid" 2>/dev/null; done
	wait
	rm -rf "$work"
}
trap leave EXIT
dd if=/dev/urandom of="$work/file" bs=65536 count=32 2>/dev/null
sum=$(sha256sum <"$work/file" | cut -d ' ' -f 1)

serve() { # serve ADDRESS PORT: sets $port
	local address=$1
	python3 - "$address" "$2" "$work" <<'PY' &
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[3])
server = http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), handler)
open(sys.argv[3] + "/port", "w").write(str(server.server_port))
server.serve_forever()
PY
	helpers+=($!)
	for _ in $(seq 100); do
		[ -s "$work/port" ] && break
		sleep .1
	done
	port=$(cat "$work/port") || skip "python3 cannot serve HTTP here"
}

case $kind in
user)
	serve 127.0.0.1 0
	net="net=user,subnet=10.7.0.0/24" cpus=1 role="dhcp net.url=http://10.7.0.2:$port/file" expected='net: address 10\.7\.0\.15/24'
	;;
tap)
	ip link set lo up
	ip link add br0 type bridge 2>/dev/null || skip "no permission for a bridge, or the kernel has none"
	ip addr add 10.8.0.1/24 dev br0
	ip link set br0 up
	ip tuntap add tap0 mode tap multi_queue 2>/dev/null || skip "no permission for a tap"
	serve 10.8.0.1 8000
	net="net=tap,ifname=tap0,bridge=br0,queues=2" cpus=2 role="static net.address=10.8.0.2/24 net.peer=10.8.0.1 net.url=http://10.8.0.1:$port/file"
	expected='net: pings 3'
	;;
passt)
	# it copies the address of an interface with a default route
	ip link set lo up
	ip link add up0 type veth peer name far0 2>/dev/null || skip "no permission for a veth"
	ip addr add 10.9.0.2/24 dev up0
	ip link set up0 up
	ip link set far0 up
	ip route add default via 10.9.0.1
	serve 0.0.0.0 8000
	passt -f --socket "$work/passt" --runas 0 >"$work/passt.log" 2>&1 &
	helpers+=($!)
	for _ in $(seq 50); do
		[ -S "$work/passt" ] && break
		kill -0 "${helpers[-1]}" 2>/dev/null || skip "passt does not run here: $(tail -n 1 "$work/passt.log")"
		sleep .1
	done
	net="net=socket,socket=unix:$work/passt" cpus=1 role="dhcp net.url=http://10.9.0.1:$port/file" expected='net: address 10\.9\.0\.2/24'
	;;
esac

"$microvm" "${options[@]}" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 panic=-1 net.role=$role" --memory 256M --cpus $cpus --timeout 120 \
	--device "virtio-net,$net,pcap=$work/pcap$more" </dev/null 2>&1 | tr -d '\r' >"$log"
status=${PIPESTATUS[0]}

[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
expect "$expected" "^$expected"
expect "file" "^net: sum $sum\$"
expect "end of init" '^net: end$'
modern=1
[[ $more != *legacy=on* ]] || modern=0
expect "driver of the right age" "^net: version_1 $modern\$"
no_trouble 'net: insmod'
[ "$(od -A n -t x4 -N 4 "$work/pcap")" = " a1b23c4d" ] && [ "$(stat -c %s "$work/pcap")" -gt 2000000 ] || bad="$bad the capture is no record of it;"
verdict "net.sh $kind" "address, $(stat -c %s "$work/file") bytes by HTTP"
