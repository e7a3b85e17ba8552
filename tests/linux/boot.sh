#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# boot.sh DIR MICROVM CPUS CLOCKSOURCE [OPTION...]
# Boots Debian's cloud kernel with microvm and CPUS vcpus up to an init that powers the machine off. It passes when init saw all vcpus and that
# clock source, all of them worked, the console shows no sign of trouble and the end is a poweroff. 77 where there is no kernel to be had.
# With 0 CPUS: only fetches and makes what it needs in DIR.
set -u
tools=$(cd "$(dirname "$0")/../tools" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
dir=$1 microvm=$2 cpus=$3 clocksource=$4
shift 4
for tool in busybox cpio gzip; do
	command -v $tool >/dev/null || { echo "SKIP: $tool is not installed (Debian: busybox-static, cpio, gzip)"; exit 77; }
done
kernel=$("$tools/get-kernel.sh" "$dir") || { echo "SKIP: no Debian cloud kernel: neither in $dir nor from apt"; exit 77; }
initrd=$dir/boot-$(cksum <"$here/init.sh" | cut -d ' ' -f 1).gz
[ -f "$initrd" ] || sh "$tools/mkinitramfs.sh" "$initrd" "$here/init.sh" || exit 70
[ "$cpus" != 0 ] || exit 0

log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 panic=-1" --memory 384M --cpus "$cpus" --timeout 150 --stats "$@" \
	</dev/null 2>&1 | tr -d '\r' >"$log"
status=${PIPESTATUS[0]}

bad=
expect() { # expect TEXT PATTERN
	grep -qE -- "$2" "$log" || bad="$bad no $1;"
}
[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
expect "init" '^boot: init$'
expect "$cpus vcpus" "^boot: cpus $cpus\$"
expect "clock source $clocksource" "^boot: clocksource $clocksource\$"
expect "end of init" '^boot: end$'
trouble=$(grep -E 'BUG|WARNING|Oops|Call Trace|soft lockup|self-detected stall|boot: cpu [0-9]+ fails' "$log" | head -n 3)
[ -z "$trouble" ] || bad="$bad $trouble;"
if [ -n "$bad" ]; then
	cat "$log"
	echo "boot.sh --cpus $cpus $*:$bad"
	exit 1
fi
echo "boot.sh --cpus $cpus $*: $(sed -n 's/^\[ *\([0-9.]*\)\].*Run .*init as init process.*/init after \1 s/p' "$log" | tail -n 1)"
