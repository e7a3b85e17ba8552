#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# vfio.sh DIR MICROVM HOST [OPTION...]
# Boots Debian's cloud kernel with the host's NVMe controller HOST passed through. It passes when the guest reads back what it wrote there, and
# interrupts were counted. With `prepare` for HOST: only fetches and makes what it needs in DIR. PLUG=1: the controller comes while the guest runs, and
# goes again, behind a root port. INTX=1: it has no messages. IOMMU=1: behind a virtio-iommu, with the kernel of backports that has its driver, which
# is kept in DIR-backports.
set -u
dir=$1 microvm=$2 host=$3
shift 3
. "$(dirname "$0")/common.sh"
if [ "${IOMMU:-}" = 1 ]; then
	dir=$dir-backports
	find_kernel cloud-amd64 bookworm-backports
	make_initrd vfio vfio-init.sh virtio-iommu
	set -- --iommu virtio "$@"
else
	find_kernel
	make_initrd vfio vfio-init.sh ""
fi
[ "$host" != prepare ] || exit 0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
device=(--device "vfio-pci,host=$host,rebind=on") cmdline="console=ttyS0 quiet panic=-1"
[ "${INTX:-}" != 1 ] || cmdline="$cmdline pci=nomsi"
until_said() { # two minutes at most
	for _ in $(seq 240); do
		[ -f "$log" ] || return
		! grep -q "^vfio: $1" "$log" || return
		sleep .5
	done
}
if [ "${PLUG:-}" = 1 ]; then
	socket=$log.monitor cmdline="$cmdline plug=1"
	device=(--device pci-root-port,addr=4 --monitor "$socket")
	trap 'rm -f "$log" "$socket"' EXIT
	{
		until_said 'plug it in'
		"$microvm" monitor "$socket" device-add vfio-pci "host=$host" rebind=on addr=4/0 >"$log.id"
		until_said 'take it'
		[ ! -S "$socket" ] || "$microvm" monitor "$socket" device-remove "$(tr -dc 0-9 <"$log.id")"
		rm -f "$log.id"
	} &
fi
"$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "$cmdline" --memory 256M --timeout "${TIMEOUT:-200}" --stats --verbose "${device[@]}" "$@" \
	</dev/null 2>&1 | sed -u 's/\r$//' >"$log"
status=${PIPESTATUS[0]}
[ "${PLUG:-}" != 1 ] || expect "removal" '^vfio: taken$'
[ "${INTX:-}" != 1 ] || expect "INTx" '^vfio: irq .*IO-APIC +17-fasteoi +nvme0q0'
[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
expect "init" '^vfio: init$'
expect "NVMe" '^vfio: 0000:.* 0x1b36 0x0010 0x010802 nvme$'
expect "data" '^vfio: read back what was written$'
[ "${IOMMU:-}" != 1 ] || expect "translation" '^vfio: group type DMA.* input address: [34][0-9] bits$'
expect "interrupts" '^vfio: interrupts [1-9]'
expect "end" '^vfio: end$'
# no interrupt of a message comes back from the kernel
if [[ " $* " == *" kvm "* ]]; then
	expect "way through the kernel" ' 0 interrupts through the loop; [1-9][0-9]* vectors went to the kernel'
	calls=$(sed -n 's/.*: \([0-9]*\) accesses came as calls.*/\1/p' "$log")
	[ "${calls:-0}" -le "${LIMIT_CALLS:-9999}" ] || bad="$bad $calls accesses to registers came as calls;"
fi
no_trouble 'nobody cared|timeout, completion polled'
[ "${SHOW:-}" != 1 ] || cat "$log"
verdict "vfio.sh $host $*" "$(sed -n 's/^vfio: interrupts /interrupts /p; s/.*: \([0-9]* accesses came\)/\1/p; s/^microvm: exits/exits/p' "$log" | tr '\n' ' ')"
