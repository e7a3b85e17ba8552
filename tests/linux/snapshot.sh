#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# snapshot.sh DIR PROGRAM BACKEND [CLONE-BACKEND [CPU]]
# Snapshots and clones of a running Debian cloud kernel. 77 where there is no kernel to be had.
set -u
dir=$1 program=$2
shift 2
. "$(dirname "$0")/common.sh"
find_kernel
make_initrd snapshot snapshot-init.sh "virtio_pci virtio-rng virtio_blk"
exec "$program" "$kernel" "$initrd" "$@" </dev/null
