#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# serve.sh DIR MICROVM PROPERTIES QUEUES
# QEMU is the front-end: Debian's cloud kernel on a disk that `microvm vhost-user-serve` serves, twice, each time by a new QEMU. It passes when the
# guest reads what it wrote, sees no error, and the disk holds on the host what the guest says. 77 where a component is missing.
set -u
here=$(cd "$(dirname "$0")" && pwd)
tools=$here/../../tools
dir=$1 microvm=$2 properties=$3 queues=$4
for tool in busybox cpio gzip modprobe qemu-system-x86_64; do
	command -v $tool >/dev/null || {
		echo "SKIP: $tool is not installed (Debian: busybox-static, cpio, gzip, kmod, qemu-system-x86)"
		exit 77
	}
done
kernel=$("$tools/get-kernel.sh" "$dir") || { echo "SKIP: no Debian cloud kernel: neither in $dir nor from apt"; exit 77; }
"$here/blk.sh" "$dir" "$microvm" "" prepare || exit
initrd=$dir/vhost-blk-$(cksum <"$here/blk-init.sh" | cut -d ' ' -f 1).gz

work=$(mktemp -d)
server= guest=
end() {
	[ -z "$guest" ] || kill -9 "$guest" 2>/dev/null
	[ -z "$server" ] || kill -9 "$server" 2>/dev/null
	rm -rf "$work"
}
trap end EXIT
truncate -s 32M "$work/disk"
"$microvm" vhost-user-serve --socket "$work/sock" --device "virtio-blk,image=$work/disk,queues=$queues$properties" --verbose >"$work/server.log" 2>&1 &
server=$!
for _ in $(seq 1 100); do
	[ -S "$work/sock" ] && break
	sleep 0.1
done

bad=
check() { # check LOG: of one run
	expect() { # expect TEXT PATTERN
		grep -qE -- "$2" "$1" || bad="$bad no $3;"
	}
	expect "$1" "^vhost: vda size 65536 ro 0 queues $queues\$" vda
	for step in "direct data" mount umount "rounds bad 0" "programs bad 0"; do
		expect "$1" "^vhost: $step( ok)?\$" "$step"
	done
	expect "$1" '^vhost: end$' end
	trouble=$(grep -E 'BUG|WARNING|Oops|Call Trace|I/O error|EXT4-fs error' "$1" | head -n 3)
	[ -z "$trouble" ] || bad="$bad $trouble;"
	[ "$(md5sum <"$work/disk" | cut -d ' ' -f 1)" = "$(sed -n 's/^vhost: sum //p' "$1")" ] || bad="$bad other data on the host;"
}
for run in 1 2; do
	timeout -s KILL 280 qemu-system-x86_64 -nodefaults -no-reboot -display none -serial stdio -accel tcg -m 384M -smp 2 \
		-object memory-backend-memfd,id=memory,size=384M,share=on -machine q35,memory-backend=memory \
		-chardev "socket,id=disk,path=$work/sock" -device "vhost-user-blk-pci,chardev=disk,num-queues=$queues" \
		-kernel "$kernel" -initrd "$initrd" -append "console=ttyS0 panic=-1" </dev/null >"$work/log$run" 2>&1 &
	guest=$!
	wait $guest
	status=$?
	guest=
	sed -i 's/\r//' "$work/log$run"
	[ "$status" = 0 ] || bad="$bad QEMU ended with $status;"
	check "$work/log$run"
	[ -z "$bad" ] || break
done
kill "$server"
wait "$server"
status=$?
server=
[ "$status" = 0 ] || bad="$bad the server ended with $status;"
[ "$(grep -c 'a front-end is there' "$work/server.log")" = 2 ] || bad="$bad not two front-ends;"
! grep -q 'turned out' "$work/server.log" || bad="$bad a front-end was turned out;"
if [ -n "$bad" ]; then
	cat "$work"/log? "$work/server.log"
	echo "serve.sh $*:$bad"
	exit 1
fi
echo "serve.sh $*: a disk served to QEMU"
