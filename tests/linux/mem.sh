#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# mem.sh DIR PROGRAM mmio|pci [emu|kvm]
# Runs mem.c with Debian's cloud kernel and its virtio_mem. 77 where there is no kernel to be had.
set -u
dir=$1 program=$2 transport=$3 backend=${4:-emu}
. "$(dirname "$0")/common.sh"
find_kernel
make_initrd "mem-$transport" mem-init.sh "virtio_$transport virtio_mem"
timeout -s KILL 250 "$program" "$kernel" "$initrd" "$transport" "$backend"
