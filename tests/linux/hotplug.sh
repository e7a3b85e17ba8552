#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# hotplug.sh DIR HOTPLUG [emu|kvm [CPU]]
# Debian's cloud kernel sees a card come to and go from a PCI Express slot. 77 where there is no kernel to be had.
set -u
dir=$1 hotplug=$2
shift 2
. "$(dirname "$0")/common.sh"
find_kernel
make_initrd hotplug hotplug-init.sh "virtio_pci virtio-rng"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$hotplug" "$kernel" "$initrd" "$@" </dev/null 2>&1 | tr -d '\r' >"$log"
status=${PIPESTATUS[0]}
cat "$log"
[ "$status" = 0 ] || { echo "hotplug.sh: the program ended with $status"; exit 1; }
grep -q '^hotplug: slots 7$' "$log" || { echo "hotplug.sh: no slot 7"; exit 1; }
[ "$(grep -c '^hotplug: 2048 bytes$' "$log")" = 3 ] || { echo "hotplug.sh: a card gave no random bytes"; exit 1; }
! grep -E '^hotplug: (trouble|insmod|the card)' "$log"
