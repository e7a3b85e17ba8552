#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# serve.sh DIR MICROVM PROPERTIES QUEUES
# QEMU is the front-end: Debian's cloud kernel on a disk that `microvm vhost-user-serve` serves, twice, each time by a new QEMU; PROPERTIES are those of
# both. The disk grows under the second. It passes when the guest reads what it wrote, sees no error, and the disk holds on the host what the guest
# says. 77 where a component is missing.
set -u
dir=$1 microvm=$(realpath "$2") properties=$3 queues=$4
. "$(dirname "$0")/../../linux/common.sh"
need qemu-system-x86_64
find_kernel
here=$(cd "$(dirname "$0")" && pwd) # where make_initrd finds the init
make_initrd vhost-blk blk-init.sh "virtio_mmio virtio_pci virtio_blk ext4"

work=$(mktemp -d)
trap 'kill -9 $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$work"' EXIT
truncate -s 32M "$work/disk"
mkfifo "$work/commands"
exec 9<>"$work/commands"
"$microvm" vhost-user-serve --socket "$work/sock" --device "virtio-blk,image=$work/disk,queues=$queues$properties" --commands --verbose <&9 >"$work/server" 2>&1 &
server=$!
for _ in $(seq 100); do
	[ -S "$work/sock" ] && break
	sleep .1
done
grow() { # once the guest has seen how large it is
	for _ in $(seq 1200); do
		grep -q '^vhost: vda size' "$log" && break
		kill -0 $guest 2>/dev/null || break
		sleep .1
	done
	echo "resize 33M" >&9
}
for run in 1 2; do
	log=$work/log$run
	timeout -s KILL 280 qemu-system-x86_64 -nodefaults -no-reboot -display none -serial stdio -accel tcg -m 384M -smp 2 \
		-object memory-backend-memfd,id=memory,size=384M,share=on -machine q35,memory-backend=memory \
		-chardev "socket,id=disk,path=$work/sock" -device "vhost-user-blk-pci,chardev=disk,num-queues=$queues$properties" \
		-kernel "$kernel" -initrd "$initrd" -append "console=ttyS0 panic=-1" </dev/null >"$log" 2>&1 &
	guest=$!
	[ $run = 1 ] || grow
	wait $guest
	status=$?
	sed -i 's/\r//' "$log"
	[ "$status" = 0 ] || bad="$bad QEMU ended with $status;"
	expect vda "^vhost: vda size 65536 ro 0 queues $queues\$"
	for step in "direct data" mount umount "rounds bad 0" "programs bad 0"; do
		expect "$step" "^vhost: $step( ok)?\$"
	done
	expect end '^vhost: end$'
	no_trouble 'I/O error|EXT4-fs error'
	[ "$(md5sum <"$work/disk" | cut -d ' ' -f 1)" = "$(sed -n 's/^vhost: sum //p' "$log")" ] || bad="$bad other data on the host;"
	[ -z "$bad" ] || break
done
expect "word of the new size" 'vda: detected capacity change from 65536 to 67584'
kill $server
wait $server || bad="$bad the server ended with $?;"
[ "$(grep -c 'a front-end is there' "$work/server")" = 2 ] || bad="$bad not two front-ends;"
! grep -q 'turned out' "$work/server" || bad="$bad a front-end was turned out;"
verdict "serve.sh $*" "a disk served to QEMU" "$work/server"
