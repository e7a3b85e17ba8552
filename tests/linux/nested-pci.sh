#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# nested-pci.sh DIR MICROVM: pci.sh on backend kvm, with the interrupt controllers in the kernel and in the library, inside one boot of nested.sh.
set -u
here=$(cd "$(dirname "$0")" && pwd)
PREPARE=1 "$here/pci.sh" "$1" "$2" msi || exit # kernel and initrd: the inside is read-only
microvm=$(realpath "$2") dir=$(realpath "$1")
export SMP=2 MEM=1536 LIMIT=150
exec "$here/nested.sh" "$1" "
failed=0
# once more, as in nested-guests.sh
twice() { '$here/pci.sh' '$dir' '$microvm' \"\$@\" || { echo again; '$here/pci.sh' '$dir' '$microvm' \"\$@\"; } || failed=1; }
twice msi --backend kvm --cpu host,-xsave --irqchip full
twice intx --backend kvm --cpu host,-xsave --irqchip split
exit \$failed"
