#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# cpu-hotplug.sh DIR PROGRAM legacy|no-legacy [emu|kvm [CPU]]
# Debian's cloud kernel sees a processor come, go and come again. 77 where there is no kernel to be had.
set -u
dir=$1 program=$2
shift 2
. "$(dirname "$0")/common.sh"
find_kernel
make_initrd cpu-hotplug cpu-hotplug-init.sh ""
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$program" "$kernel" "$initrd" "$@" </dev/null 2>&1 | tr -d '\r' >"$log"
status=${PIPESTATUS[0]}
cat "$log"
[ "$status" = 0 ] || { echo "cpu-hotplug.sh: the program ended with $status"; exit 1; }
grep -q '^cpus: possible 0-2 online 0$' "$log" || { echo "cpu-hotplug.sh: the guest begins with other processors"; exit 1; }
for line in 'online 0-1' 'counted 20000' 'it ticked'; do
	[ "$(grep -c "^cpus: $line$" "$log")" = 2 ] || { echo "cpu-hotplug.sh: \"$line\" is not there twice"; exit 1; }
done
grep -q '^cpus: online 0$' "$log" || { echo "cpu-hotplug.sh: the processor does not go"; exit 1; }
! grep '^cpus: trouble' "$log"
