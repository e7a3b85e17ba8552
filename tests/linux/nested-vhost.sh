#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# nested-vhost.sh DIR MICROVM VSOCK: vhost.sh on backend kvm, with the local APIC in the kernel and all controllers there, and on emu, inside one boot of nested.sh.
set -u
here=$(cd "$(dirname "$0")" && pwd)
"$here/vhost.sh" "$1" "$2" "$3" prepare || exit # kernel and initrd: the inside is read-only
microvm=$(realpath "$2") dir=$(realpath "$1") vsock=$(realpath "$3")
export SMP=2 MEM=2560 LIMIT=${LIMIT:-900}
exec "$here/nested.sh" "$1" "
failed=0
# once more, as in nested-guests.sh
twice() { '$here/vhost.sh' '$dir' '$microvm' '$vsock' \"\$@\" || { echo again; '$here/vhost.sh' '$dir' '$microvm' '$vsock' \"\$@\"; } || failed=1; }
${RUNS:-
twice pci --backend kvm --cpu host,-xsave --irqchip full
twice pci --backend kvm --cpu host,-xsave --irqchip split
twice mmio --backend kvm --cpu host,-xsave --irqchip full
twice pci --backend emu
}
exit \$failed"
