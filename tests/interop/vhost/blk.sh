#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# blk.sh DIR MICROVM PROPERTIES KILLS [OPTION...]
# Debian's cloud kernel on a disk that qemu-storage-daemon serves, which is killed KILLS times while the guest writes, and started again. It passes
# when the guest reads what it wrote, sees no error, and the disk holds on the host what the guest says. 77 where a component is missing.
set -u
dir=$1 microvm=$2 properties=$3 kills=$4
shift 4
. "$(dirname "$0")/../../linux/common.sh"
need qemu-storage-daemon
find_kernel
here=$(cd "$(dirname "$0")" && pwd) # where make_initrd finds the init
make_initrd vhost-blk blk-init.sh "virtio_mmio virtio_pci virtio_blk ext4"

work=$(mktemp -d)
daemon= guest=
end() {
	[ -z "$guest" ] || kill -9 "$guest" 2>/dev/null
	[ -z "$daemon" ] || kill -9 "$daemon" 2>/dev/null
	rm -rf "$work"
}
trap end EXIT
start_daemon() {
	rm -f "$work/sock"
	qemu-storage-daemon --blockdev driver=file,node-name=f0,filename="$work/disk" --blockdev driver=raw,node-name=d0,file=f0 \
		--export type=vhost-user-blk,id=e0,node-name=d0,addr.type=unix,addr.path="$work/sock",writable=on,num-queues=2 >>"$work/daemon.log" 2>&1 &
	daemon=$!
	for _ in $(seq 1 100); do
		[ -S "$work/sock" ] && return
		sleep 0.1
	done
}
log=$work/log
truncate -s 32M "$work/disk"
start_daemon
timeout -s KILL 300 "$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 panic=-1" --memory 384M --cpus 2 --timeout 240 --verbose \
	--device "vhost-user-blk,socket=$work/sock,reconnect_ms=100$properties" "$@" </dev/null >"$log" 2>&1 &
guest=$!
for kill in $(seq 1 "$kills"); do
	# each time somewhere in the rounds
	for _ in $(seq 1 2400); do
		grep -q "vhost: round $((kill * 5))" "$log" && break
		kill -0 $guest 2>/dev/null || break
		sleep 0.1
	done
	kill -9 "$daemon"
	wait "$daemon" 2>/dev/null
	sleep 0.3
	start_daemon
done
wait $guest
status=$?
guest=
sed -i 's/\r//' "$log"

[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
expect "vda" '^vhost: vda size 65536 ro 0 queues [12]$'
for step in "direct data" mount umount "rounds bad 0" "programs bad 0"; do
	expect "$step" "^vhost: $step( ok)?\$"
done
expect "end" '^vhost: end$'
back=$(grep -c 'is there again' "$log")
[ "$back" -ge "$kills" ] || bad="$bad the daemon came back $back times of $kills;"
no_trouble 'I/O error|EXT4-fs error'
[ "$(md5sum <"$work/disk" | cut -d ' ' -f 1)" = "$(sed -n 's/^vhost: sum //p' "$log")" ] || bad="$bad other data on the host;"
verdict "blk.sh $*" "a disk served by qemu-storage-daemon, killed $kills times" "$work/daemon.log"
