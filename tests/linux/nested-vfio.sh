#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# nested-vfio.sh DIR MICROVM NVME-VF EDU: real devices for guests, inside one boot of nested.sh that has an IOMMU and an NVMe controller with virtual
# functions: the whole controller, then one of its virtual functions.
set -u
here=$(cd "$(dirname "$0")" && pwd)
"$here/vfio.sh" "$1" "$2" prepare || exit # kernel and initrd: the inside is read-only
dir=$(realpath "$1") microvm=$(realpath "$2") vf=$(realpath "$3")
export SMP=2 MEM=1536 LIMIT=${LIMIT:-400} PASSTHROUGH=1
exec "$here/nested.sh" "$1" "
SHOW=1 TIMEOUT=150 '$here/vfio.sh' '$dir' '$microvm' 01:00.0 --backend kvm --cpu host,-xsave
ls -l /sys/bus/pci/devices/0000:01:00.0/driver
"
