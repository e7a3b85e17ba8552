#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# lockstep.sh DIR MICROVM COUNT [OPTION...]
# Boots Debian's cloud kernel with engine lockstep until COUNT instructions were compared; all: to init and on to the poweroff. It passes when none
# differed, and nearly all that the guest executed were compared. 77 where there is no kernel to be had.
set -u
here=$(cd "$(dirname "$0")" && pwd)
dir=$1 microvm=$2 count=$3
shift 3
PREPARE=1 bash "$here/boot.sh" "$dir" "$microvm" 1 none || exit $?
kernel=$("$here/../tools/get-kernel.sh" "$dir")
limit="--lockstep-limit $count --timeout 540" parameters=
[ "$count" != all ] || limit="--timeout 1700" parameters=cryptomgr.notests
initrd=$(ls -t "$dir"/boot-*.gz | head -n 1)

log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 panic=-1 $parameters" --memory 384M --backend emu --engine lockstep \
	$limit --stats "$@" </dev/null 2>&1 | tr -d '\r' >"$log"
status=${PIPESTATUS[0]}

compared=$(sed -n 's/^microvm: instructions compared \([0-9]*\) .*/\1/p' "$log")
executed=$(sed -n 's/^microvm: instructions \([0-9]*\) .*/\1/p' "$log")
bad=
[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
if [ "$count" = all ]; then
	grep -q '^boot: end$' "$log" || bad="$bad no end of init;"
else
	[ "${compared:-0}" -ge "$count" ] || bad="$bad ${compared:-no} instructions were compared;"
	grep -q 'instructions compared without a difference$' "$log" || bad="$bad the limit did not end it;"
fi
[ $((${compared:-0} / 9 * 10)) -ge "${executed:-1}" ] || bad="$bad only ${compared:-0} of ${executed:-?} instructions were compared;"
if [ -n "$bad" ]; then
	tail -n 80 "$log"
	echo "lockstep.sh $count $*:$bad"
	exit 1
fi
echo "lockstep.sh $count $*: $(grep 'instructions compared' "$log" | tail -n 1)"
