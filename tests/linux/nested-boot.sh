#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# nested-boot.sh DIR MICROVM: boot.sh on backend kvm with 1 and 2 vcpus and each place of the interrupt controllers, inside one boot of nested.sh.
set -u
here=$(cd "$(dirname "$0")" && pwd)
PREPARE=1 "$here/boot.sh" "$1" "$2" 1 kvm-clock || exit # kernel and initrd: the inside is read-only
microvm=$(realpath "$2")
# no XSAVE: the XCR0 of a nested guest does not reach the CPUID of QEMU's TCG, which Linux tells as an inconsistency
export SMP=2 MEM=1536 LIMIT=150
exec "$here/nested.sh" "$1" "
failed=0
for setup in '1 full' '1 split' '2 full' '2 split'; do
	set -- \$setup
	'$here/boot.sh' '$1' '$microvm' \$1 kvm-clock --backend kvm --cpu host,-xsave --irqchip \$2 ||
		{ echo again; '$here/boot.sh' '$1' '$microvm' \$1 kvm-clock --backend kvm --cpu host,-xsave --irqchip \$2; } || failed=1
done
exit \$failed"
