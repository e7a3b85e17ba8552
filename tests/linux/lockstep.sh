#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# lockstep.sh DIR MICROVM COUNT [OPTION...]
# Boots Debian's cloud kernel with engine lockstep until COUNT instructions were compared. It passes when none differed, and nearly all that the
# guest executed were compared. 77 where there is no kernel to be had.
set -u
here=$(cd "$(dirname "$0")" && pwd)
dir=$1 microvm=$2 count=$3
shift 3
bash "$here/boot.sh" "$dir" "$microvm" 0 none || exit $?
kernel=$("$here/../tools/get-kernel.sh" "$dir")
initrd=$(ls -t "$dir"/boot-*.gz | head -n 1)

log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 earlyprintk=ttyS0 panic=-1" --memory 384M --backend emu --engine lockstep \
	--lockstep-limit "$count" --timeout 540 --stats "$@" </dev/null 2>&1 | tr -d '\r' >"$log"
status=${PIPESTATUS[0]}

compared=$(sed -n 's/^microvm: \([0-9]*\) instructions compared without a difference$/\1/p' "$log")
executed=$(sed -n 's/^microvm: instructions \([0-9]*\) .*/\1/p' "$log")
bad=
[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
[ "${compared:-0}" -ge "$count" ] || bad="$bad ${compared:-no} instructions were compared;"
[ $((${compared:-0} / 9 * 10)) -ge "${executed:-1}" ] || bad="$bad only ${compared:-0} of ${executed:-?} instructions were compared;"
if [ -n "$bad" ]; then
	tail -n 80 "$log"
	echo "lockstep.sh $count $*:$bad"
	exit 1
fi
echo "lockstep.sh $count $*: $(grep 'instructions compared' "$log" | tail -n 1)"
