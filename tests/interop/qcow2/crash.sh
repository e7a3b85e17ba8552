#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# crash.sh TOOL [FACTOR]: power failures (crash.c) on images of several kinds.
set -u
tool=$(realpath "$1") factor=${2:-1}
command -v qemu-img >/dev/null || { echo "SKIP: no qemu-img (Debian: qemu-utils)"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0
n=0
for options in cluster_size=512 cluster_size=512,refcount_bits=64 cluster_size=4k cluster_size=4k,compat=0.10 cluster_size=64k refcount_bits=1,cluster_size=1k; do
	for seed in $(seq 1 "$factor"); do
		n=$((n + 1))
		qemu-img create -q -f qcow2 -o "$options" "$n.qcow2" 4M
		"$tool" "$n.qcow2" "$seed" 12 || { echo "FAIL: $options, seed $seed"; failed=1; }
	done
done
# with clusters that a snapshot shares
qemu-img create -q -f qcow2 -o cluster_size=4k snap.qcow2 4M
qemu-io -c 'write -P 0 0 3M' snap.qcow2 >/dev/null
qemu-img snapshot -c one snap.qcow2
"$tool" snap.qcow2 1 $((12 * factor)) || { echo "FAIL: snapshot"; failed=1; }
[ $failed = 0 ] && echo "power failures: flushed data is there, nothing is corrupt"
exit $failed
