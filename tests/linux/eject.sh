#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# eject.sh DIR MICROVM
# Debian's cloud kernel lets go of a card when the monitor asks for it (eject.py). 77 where there is no kernel to be had.
set -u
dir=$1 microvm=$2
. "$(dirname "$0")/common.sh"
need python3
find_kernel
make_initrd hotplug hotplug-init.sh "virtio_pci virtio-rng"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
timeout -s KILL 200 python3 "$here/eject.py" "$microvm" "$kernel" "$initrd" "$work/monitor"
