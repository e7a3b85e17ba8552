#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# migrate.sh DIR MICROVM qemu|microvm PROPERTIES [OPTION...]
# A vm moves from one QEMU, or one microvm, to another while fio writes to its disk. `microvm vhost-user-serve` serves that here and there, one process
# each, from the same image; QEMU knows by their log what they have written to its guest's memory. It passes when fio finds all that it has written, what
# was read meanwhile is in the guest's memory there, the guest sees no error, and the disk holds on the host what the guest says. 77 where a component
# is missing.
set -u
dir=$1 microvm=$(realpath "$2") party=$3 properties=$4
shift 4
. "$(dirname "$0")/../../linux/common.sh"
need fio
[ "$party" != qemu ] || need qemu-system-x86_64
find_kernel
initrd=$("$tools/make-tools.sh" "$dir" "$kernel" "$dir" fio "$(dirname "$0")/verify.sh") || skip "no initial RAM disk with fio"

work=$(mktemp -d)
trap 'kill -9 $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$work"' EXIT
head -c 64M /dev/urandom >"$work/disk"
cached=$(tail -c 32M "$work/disk" | md5sum | cut -d ' ' -f 1)
servers=()
for end in here there; do
	"$microvm" vhost-user-serve --socket "$work/sock-$end" --device "virtio-blk,image=$work/disk,queues=2,lock=off$properties" --verbose >"$work/server-$end" 2>&1 &
	servers+=($!)
	mkfifo "$work/monitor-$end"
	: >"$work/$end"
done
exec 8<>"$work/monitor-here" 9<>"$work/monitor-there"
# memory that the guest's kernel does not fill with zeroes before it is read into: else QEMU knows that it has changed
cmdline="console=ttyS0 quiet panic=-1 init_on_alloc=0 run=sh,/usr/bin/verify.sh,30"
qemu() { # qemu END [OPTION...]: its monitor reads from a pipe
	local end=$1
	shift
	exec timeout -s KILL 280 qemu-system-x86_64 -nodefaults -no-reboot -display none -serial "file:$work/$end" -monitor stdio -accel tcg -m 768M -smp 2 \
		-object memory-backend-memfd,id=memory,size=768M,share=on -machine q35,memory-backend=memory \
		-chardev "socket,id=disk,path=$work/sock-$end" -device "vhost-user-blk-pci,chardev=disk,num-queues=2$properties" \
		-kernel "$kernel" -initrd "$initrd" -append "$cmdline" "$@" <"$work/monitor-$end" >"$work/said-$end" 2>&1
}
ours() { # ours END [OPTION...]
	local end=$1
	shift
	exec timeout -s KILL 280 "$microvm" --timeout 270 --verbose --serial "file:$work/$end" \
		--device "vhost-user-blk,socket=$work/sock-$end,queues=2$properties" "$@" </dev/null >"$work/said-$end" 2>&1
}
qemu_moved() {
	echo "info migrate" >&8
	grep -q 'Migration status: \(completed\|failed\)' "$work/said-here"
}
for end in here there; do
	retry 10 test -S "$work/sock-$end" || skip "the server does not start"
done
if [ "$party" = qemu ]; then
	qemu here &
	here_pid=$! gone=0
	qemu there -incoming "unix:$work/move" &
else
	ours here --kernel "$kernel" --initrd "$initrd" --cmdline "$cmdline" --memory 768M --cpus 2 --monitor "$work/monitor" "$@" &
	here_pid=$! gone=108 # it is elsewhere
	ours there --incoming "unix:$work/move" &
fi
there_pid=$!
retry 120 grep -q '^verify: begin' "$work/here" || bad="$bad the guest does not come up;"
sleep 5
if [ -z "$bad" ] && [ "$party" = qemu ]; then
	printf 'migrate_set_parameter max-bandwidth 40M\nmigrate_set_parameter downtime-limit 2000\nmigrate -d unix:%s\n' "$work/move" >&8
	retry 90 qemu_moved || bad="$bad the migration does not end;"
	grep -q 'Migration status: completed' "$work/said-here" || bad="$bad the migration fails;"
	echo quit >&8
elif [ -z "$bad" ]; then
	"$microvm" monitor "$work/monitor" migrate "uri=unix:$work/move" max-bandwidth=40000000 >"$work/moved" 2>&1 || bad="$bad migrate: $(tail -n 1 "$work/moved");"
fi
if [ -z "$bad" ]; then
	wait $here_pid
	status=$?
	[ $status = $gone ] || bad="$bad the vm here ended with $status;"
	wait $there_pid || bad="$bad the vm there ended with $?;"
fi
log=$work/log
cat "$work/here" "$work/there" | tr -d '\r' >"$log"
expect "agreement of fio there" '^verify: fio 0.$' "$work/there"
expect "memory that was read before" "^verify: cached $cached.\$" "$work/there"
expect "end there" '^verify: end.$' "$work/there"
no_trouble 'I/O error'
! grep -q 'turned out' "$work"/server-* || bad="$bad a front-end was turned out;"
[ "$(md5sum <"$work/disk" | cut -d ' ' -f 1)" = "$(sed -n 's/^verify: sum //p' "$log")" ] || bad="$bad other data on the host;"
for server in "${servers[@]}"; do
	kill "$server"
	wait "$server" || bad="$bad a server ended with $?;"
done
verdict "migrate.sh $party $properties" "a vm that has moved under fio" "$work"/s*-*
