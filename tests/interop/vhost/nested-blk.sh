#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# nested-blk.sh DIR MICROVM: blk.sh on backend kvm, where notifications are eventfds in the kernel, inside nested.sh. qemu-storage-daemon is killed once.
set -u
here=$(cd "$(dirname "$0")" && pwd)
PREPARE=1 "$here/blk.sh" "$1" "$2" '' 0 || exit # kernel and initrd: the inside is read-only
microvm=$(realpath "$2")
# no XSAVE: as in tests/linux/nested-boot.sh
export SMP=2 MEM=1536 LIMIT=270
exec "$here/../../linux/nested.sh" "$1" "'$here/blk.sh' '$1' '$microvm' ,queues=2 1 --backend kvm --cpu host,-xsave --memory-kind memfd"
