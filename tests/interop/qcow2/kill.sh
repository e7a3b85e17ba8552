#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# kill.sh TOOL TIMES: a process that writes and flushes an image is killed in the middle; then the image is sound, but for leaks, and has
# all that was flushed.
set -u
tool=$(realpath "$1") times=$2
command -v qemu-img >/dev/null || { echo "SKIP: no qemu-img (Debian: qemu-utils)"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
RANDOM=${SEED:-1}
for turn in $(seq 1 "$times"); do
	size=$((512 << RANDOM % 8))
	# every other one goes on with the image that the last left
	if [ ! -f a.qcow2 ] || [ $((RANDOM % 2)) = 0 ]; then
		rm -f a.qcow2 state
		qemu-img create -q -f qcow2 -o cluster_size=$size a.qcow2 16M
	fi
	"$tool" write a.qcow2 state "$turn" 2>err &
	pid=$!
	# until it has flushed something, and a random while more
	for _ in $(seq 1 200); do
		[ -s state ] && [ "$(tail -c 16384 state | tr -d '\0' | head -c 1 | wc -c)" = 1 ] && break
		sleep 0.01
	done
	sleep "0.0$((RANDOM % 9))$((RANDOM % 9))"
	kill -9 $pid 2>/dev/null || { cat err; echo "turn $turn: it ended by itself"; exit 1; }
	wait $pid 2>/dev/null
	qemu-img check -q a.qcow2 >out 2>&1
	status=$?
	# 0: sound; 3: leaked clusters only
	if [ $status != 0 ] && [ $status != 3 ]; then
		cat out
		echo "turn $turn: qemu-img check: status $status"
		exit 1
	fi
	"$tool" verify a.qcow2 state >out 2>&1 || { cat out; echo "turn $turn: flushed data is lost"; exit 1; }
	leaks=$((${leaks:-0} + (status == 3)))
done
echo "$times times killed, $leaks of them leaked, the last: $(cat out)"
