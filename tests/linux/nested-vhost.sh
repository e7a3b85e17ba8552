#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# nested-vhost.sh DIR MICROVM VSOCK UNIT-TEST: the unit test of vhost in the kernel, which only there finds one, and vhost.sh on backend kvm, with each
# place of the interrupt controllers in the kernel and each transport, inside one boot of nested.sh. A Linux on backend emu would take a quarter of an hour
# there: what that does otherwise is in the unit test.
set -u
here=$(cd "$(dirname "$0")" && pwd)
"$here/vhost.sh" "$1" "$2" "$3" prepare || exit # kernel and initrd: the inside is read-only
microvm=$(realpath "$2") dir=$(realpath "$1") vsock=$(realpath "$3") unit=$(realpath "$4")
export SMP=2 MEM=2560 LIMIT=${LIMIT:-900}
exec "$here/nested.sh" "$1" "
failed=0
# once more, as in nested-guests.sh
twice() { \"\$@\" || { echo again; \"\$@\"; } || failed=1; }
twice env CK_FORK=no '$unit'
for setup in 'pci full' 'pci split' 'mmio full'; do
	set -- \$setup
	twice '$here/vhost.sh' '$dir' '$microvm' '$vsock' \$1 --backend kvm --cpu host,-xsave --irqchip \$2
done
exit \$failed"
