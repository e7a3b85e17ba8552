#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# balloon.sh DIR PROGRAM inflate|report|reclaim [emu|kvm]
# Runs balloon.c with Debian's cloud kernel and its virtio_balloon. 77 where there is no kernel to be had.
set -u
dir=$1 program=$2 way=$3 backend=${4:-emu}
. "$(dirname "$0")/common.sh"
find_kernel
make_initrd balloon balloon-init.sh "virtio_mmio virtio_balloon"
timeout -s KILL 200 "$program" "$kernel" "$initrd" "$way" "$backend"
