#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# pci.sh DIR MICROVM IRQ [OPTION...]
# Boots Debian's cloud kernel with a virtio-rng on PCI. It passes when the kernel finds the bus through ACPI and ECAM, has BARs and windows where they
# belong, its stock driver reads random bytes, interrupts of that kind (msi, intx) are counted, and all of it works once more after a removal and a
# rescan. 77 where there is no kernel to be had.
set -u
dir=$1 microvm=$2 irq=$3
shift 3
. "$(dirname "$0")/common.sh"
find_kernel
make_initrd pci pci-init.sh "virtio_pci virtio-rng"
cmdline="console=ttyS0 quiet panic=-1" # messages in the midst of lines would hide those
[ "$irq" = msi ] || cmdline="$cmdline pci=nomsi"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "$cmdline" --memory 384M --cpus 2 --timeout 150 --device virtio-rng "$@" </dev/null 2>&1 |
	tr -d '\r' >"$log"
status=${PIPESTATUS[0]}

[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
expect "init" '^pci: init$'
expect "ECAM" '^pci: PCI: MMCONFIG at \[mem 0xe0000000-0xefffffff\] reserved'
[ "$irq" = intx ] || expect "_OSC" '^pci: acpi PNP0A08:00: _OSC: OS now controls \[PCIeHotplug PME AER PCIeCapability\]'
expect "host bridge" '^pci: 0000:00:00.0 0x8086 0x0d57 0x060000 '
expect "virtio-rng" '^pci: 0000:00:01.0 0x1af4 0x1044 0x00ff00 virtio-pci$'
expect "MSI-X BAR" '^pci: 0000:00:01.0 resource 0x00000000f0000000 0x00000000f0000fff '
expect "register BAR in the 64-bit window" '^pci: 0000:00:01.0 resource 0x0000([1-9a-f][0-9a-f]{3}|0[1-9a-f][0-9a-f]{2}|00[1-9a-f][0-9a-f])0{8} '
expect "32-bit window" '^pci: iomem f0000000-febfffff : PCI Bus 0000:00$'
expect "random bytes" '^pci: rng virtio_rng.0 4096 bytes$'
if [ "$irq" = msi ]; then
	expect "MSI-X" '^pci: irq .*PCI-MSI.*virtio0-input$'
else
	expect "INTx on GSI 17" '^pci: irq .*IO-APIC +17-fasteoi +virtio0$'
fi
expect "interrupts" '^pci: interrupts counted$'
expect "removal" '^pci: removed$'
expect "random bytes after a rescan" '^pci: again virtio_rng.[01] 4096 bytes$'
expect "end" '^pci: end$'
no_trouble 'nobody cared|insmod .* fails|can.t assign'
verdict "pci.sh $irq $*" "$(sed -n 's/^pci: irq //p' "$log" | tr -s ' ' | tail -n 1)"
