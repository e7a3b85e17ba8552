#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# crash.sh DIR MICROVM qemu|microvm PROPERTIES KILLS [OPTION...]
# A disk that `microvm vhost-user-serve` serves to QEMU or to microvm, with these PROPERTIES of its own. The server is killed KILLS times while fio
# writes in the guest, and started again. It passes when fio finds all that it has written, the guest sees no error, and the disk holds on the host what
# the guest says. 77 where a component is missing.
set -u
dir=$1 microvm=$(realpath "$2") party=$3 properties=$4 kills=$5
shift 5
. "$(dirname "$0")/../../linux/common.sh"
need fio
[ "$party" != qemu ] || need qemu-system-x86_64
find_kernel
initrd=$("$tools/make-tools.sh" "$dir" "$kernel" "$dir" fio "$(dirname "$0")/verify.sh") || skip "no initial RAM disk with fio"

work=$(mktemp -d)
trap 'kill -9 $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$work"' EXIT
log=$work/log
head -c 64M /dev/urandom >"$work/disk"
cached=$(tail -c 32M "$work/disk" | md5sum | cut -d ' ' -f 1)
# Every write is flushed, so that some are in flight at any time.
start_server() { # until what was in flight of the one before has let go of the image
	for _ in $(seq 100); do
		"$microvm" vhost-user-serve --socket "$work/sock" --device "virtio-blk,image=$work/disk,queues=2,cache=writethrough$properties" --verbose >>"$work/server" 2>&1 &
		server=$!
		for _ in $(seq 100); do
			kill -0 $server 2>/dev/null || break
			[ ! -S "$work/sock" ] || return 0
			sleep .05
		done
	done
	skip "the server does not start"
}
start_guest() {
	local cmdline="console=ttyS0 quiet panic=-1 run=sh,/usr/bin/verify.sh,$((8 + 3 * kills))"
	if [ "$party" = qemu ]; then
		exec timeout -s KILL 280 qemu-system-x86_64 -nodefaults -no-reboot -display none -serial stdio -accel tcg -m 768M -smp 2 \
			-object memory-backend-memfd,id=memory,size=768M,share=on -machine q35,memory-backend=memory \
			-chardev "socket,id=disk,path=$work/sock,reconnect=1" -device "vhost-user-blk-pci,chardev=disk,num-queues=2$properties" \
			-kernel "$kernel" -initrd "$initrd" -append "$cmdline"
	fi
	exec timeout -s KILL 280 "$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "$cmdline" --memory 768M --cpus 2 --timeout 270 --verbose \
		--device "vhost-user-blk,socket=$work/sock,reconnect_ms=100,queues=2$properties" "$@"
}
start_server
start_guest "$@" </dev/null >"$log" 2>&1 &
guest=$!
for _ in $(seq 1200); do
	grep -q '^verify: begin' "$log" && break
	kill -0 $guest 2>/dev/null || break
	sleep .1
done
for _ in $(seq "$kills"); do
	sleep "2.$RANDOM" # whatever is under way then
	kill -9 $server
	wait $server 2>/dev/null
	start_server
done
wait $guest
status=$?
kill $server
wait $server || bad="$bad the server ended with $?;"
sed -i 's/\r//' "$log"
[ $status = 0 ] || bad="$bad the guest ended with $status;"
expect "agreement of fio" '^verify: fio 0$'
expect "memory that was read" "^verify: cached $cached\$"
expect "end" '^verify: end$'
no_trouble 'I/O error'
[ "$(grep -c 'a front-end is there' "$work/server")" -gt "$kills" ] || bad="$bad the guest did not come back each time;"
! grep -q 'turned out' "$work/server" || bad="$bad the guest was turned out;"
[ "$(md5sum <"$work/disk" | cut -d ' ' -f 1)" = "$(sed -n 's/^verify: sum //p' "$log")" ] || bad="$bad other data on the host;"
taken=$(sed -n "s/.* \([0-9]*\) requests were in flight.*/\1/p" "$work/server" | paste -sd + | sed "s/^$/0/")
verdict "crash.sh $party $properties" "a server killed $kills times under fio, $((taken)) requests were in flight" "$work/server"
