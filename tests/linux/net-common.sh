# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# Sourced by the network tests. $dir keeps the kernel; sets $kernel and $initrd, or skips the test.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
find_kernel
make_initrd net net-init.sh "virtio_mmio virtio_pci virtio_net" "$here/net-udhcpc.sh:udhcpc.sh"
