#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# iommu.sh DIR MICROVM [FORM [OPTION...]]
# Boots Debian's cloud kernel of backports (Linux 6.12: the first whose configuration has virtio-iommu) with a virtio-iommu, behind which are
# a disk, a network card and an entropy device, whose further properties FORM gives. It passes when the stock drivers bind and each device has an
# IOMMU group, data goes to the disk and back, the network answers, and an access of a device to what nothing is mapped at is blocked and
# reported in the guest and in the log, while all others go on; and when all of that is so for a vm that goes on from a snapshot of the
# first, too. 77 where there is no kernel to be had.
set -u
dir=$1 microvm=$2 form=${3:-}
shift 2
[ $# = 0 ] || shift
. "$(dirname "$0")/common.sh"
find_kernel cloud-amd64 bookworm-backports
make_initrd iommu iommu-init.sh "virtio-iommu virtio_blk virtio_net virtio-rng"

after() { # what both of them have in the end
	expect "rounds" '^iommu: rounds done$'
	expect "network after the rounds" '^iommu: ping again ok$'
	expect "fault in the guest" '^iommu: virtio_iommu virtio[0-9]+: page fault from EP 32 at 0x6666'
	expect "fault in the log" 'virtio-rng at PCI 00:04.0: DMA from 0x6666[0-9a-f]* is blocked: its IOMMU domain does not map that'
	expect "a device that wants a reset" '^iommu: status 0x4F$'
	expect "disk after the fault" '^iommu: disk still ok$'
	expect "network after the fault" '^iommu: ping still ok$'
	expect "end" '^iommu: end$'
	! grep -q 'round .* fails' "$log" || bad="$bad other data in a round;"
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
truncate -s 16M "$work/disk"
timeout -s KILL 200 "$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 panic=-1 iomem=relaxed" --memory 384M --cpus 2 --timeout 150 \
	--verbose --snapshot-save "$work/snapshot" --iommu virtio --device "virtio-blk,image=$work/disk,format=raw$form" \
	--device "virtio-net,net=user$form" --device "virtio-rng$form" "$@" </dev/null >"$work/raw" 2>&1 &
pid=$!
for _ in $(seq 1 1500); do
	if grep -q '^iommu: ready' "$work/raw"; then
		pkill -USR1 -P $pid
		break
	fi
	sleep 0.1
done
wait $pid
status=$?
tr -d '\r' <"$work/raw" >"$log"
[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
expect "init" '^iommu: init$'
expect "IOMMU's driver" 'virtio_iommu virtio[0-9]+: input address: 48 bits'
for device in 0x1042 0x1041 0x1044; do
	expect "group of $device" "^iommu: 0000:00:0[0-9a-f].0 $device virtio-pci type DMA.* reserved .*0x00000000fee00000 0x00000000feefffff msi"
done
for driver in virtio_blk virtio_net virtio_rng; do
	expect "$driver" "^iommu: virtio 0x000[124] $driver platform 1 packed $([ "${form#*packed=on}" = "$form" ] && echo 0 || echo 1)\$"
done
expect "disk" '^iommu: disk ok$'
expect "bytes of the entropy device" '^iommu: rng 4096$'
expect "network" '^iommu: ping ok$'
after
no_trouble 'insmod .* fails'
[ "$(head -c 8M "$work/disk" | md5sum | cut -d ' ' -f 1)" = "$(sed -n 's/^iommu: sum //p' "$log")" ] || bad="$bad other data on the host;"
# the other one goes on from the midst of it
log=$work/log2
timeout -s KILL 200 "$microvm" --restore "$work/snapshot" --timeout 150 --verbose </dev/null 2>&1 | tr -d '\r' >"$log"
[ "${PIPESTATUS[0]}" = 0 ] || bad="$bad microvm --restore fails;"
after
verdict "iommu.sh $form $*" "$(sed -n 's/^iommu: groups //p' "$work/log") groups"
