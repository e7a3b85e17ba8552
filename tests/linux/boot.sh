#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# boot.sh DIR MICROVM CPUS CLOCKSOURCE [OPTION...]
# Boots Debian's cloud kernel with microvm and CPUS vcpus up to an init that powers the machine off. It passes when init saw all vcpus and that
# clock source, all of them worked, the console shows no sign of trouble and the end is a poweroff. 77 where there is no kernel to be had.
set -u
dir=$1 microvm=$2 cpus=$3 clocksource=$4
shift 4
. "$(dirname "$0")/common.sh"
find_kernel
make_initrd boot init.sh ""

log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 panic=-1" --memory 384M --cpus "$cpus" --timeout 150 --stats "$@" \
	</dev/null 2>&1 | tr -d '\r' >"$log"
status=${PIPESTATUS[0]}

[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
expect "init" '^boot: init$'
expect "$cpus vcpus" "^boot: cpus $cpus\$"
expect "clock source $clocksource" "^boot: clocksource $clocksource\$"
expect "end of init" '^boot: end$'
no_trouble 'self-detected stall|boot: cpu [0-9]+ fails'
verdict "boot.sh --cpus $cpus $*" "$(sed -n 's/^\[ *\([0-9.]*\)\].*Run .*init as init process.*/init after \1 s/p' "$log" | tail -n 1)"
