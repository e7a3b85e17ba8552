#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# net-switch.sh DIR PROGRAM [BYTES [PROPERTIES]]: two Debian guests of one process on a switch; see net-switch.c.
set -u
dir=$1 program=$(realpath "$2") bytes=${3:-8388608} more=${4-}
. "$(dirname "$0")/net-common.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
timeout 200 "$program" "$kernel" "$initrd" "$work" "$bytes" "$more" >"$work/out" 2>&1
status=$?
bad=
[ $status = 0 ] || bad="$bad the program ended with $status;"
sum() { tr -d '\r' <"$work/console$1" | sed -n 's/^net: sum //p'; }
grep -q 'net: pings 3' "$work/console0" || bad="$bad no pings;"
[ -n "$(sum 0)" ] && [ "$(sum 0)" = "$(sum 1)" ] || bad="$bad checksums $(sum 0) and $(sum 1);"
trouble=$(grep -hE 'BUG|WARNING|Oops|Call Trace|net: insmod' "$work"/console? | head -n 3)
[ -z "$trouble" ] || bad="$bad $trouble;"
if [ -n "$bad" ]; then
	tail -n 40 "$work"/console?
	cat "$work/out"
	echo "net-switch.sh:$bad"
	exit 1
fi
cat "$work/out"
echo "net-switch.sh: pings, and $bytes bytes by TCP"
