#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# guard.sh DIR MICROVM panics|starves isa|pci [OPTION...]
# Boots Debian's kernel with a watchdog and pvpanic. It passes when the guest renews its random numbers after the monitor has given it another
# generation ID, the watchdog waits while it is fed, and a guest that starves it or panics ends as such. The cloud kernel has
# no driver for this watchdog and none for the generation ID, so it is the full one, in DIR. 77 where there is none to be had.
set -u
dir=$1 microvm=$2 fate=$3 bus=$4
shift 4
. "$(dirname "$0")/common.sh"
find_kernel amd64
make_initrd guard guard-init.sh "i6300esb pvpanic-mmio pvpanic-pci"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log socket=$work/monitor
timeout -s KILL 150 "$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 quiet $fate" --memory 256M --cpus 2 --timeout 120 \
	--monitor "$socket" --device "pvpanic,bus=$bus" --device i6300esb,action=reset "$@" </dev/null >"$log" 2>&1 &
vm=$!
said() { # said TEXT: within a minute, or the vm has ended
	for _ in $(seq 600); do
		grep -q "$1" "$log" && return
		kill -0 $vm 2>/dev/null || return
		sleep 0.1
	done
}
bad=
said 'guard: init'
before=$("$microvm" monitor "$socket" query-generation-id)
"$microvm" monitor "$socket" set-generation-id >/dev/null || bad="$bad set-generation-id;"
[ -n "$before" ] && [ "$("$microvm" monitor "$socket" query-generation-id)" != "$before" ] || bad="$bad no other ID;"
wait $vm
status=$?

expect() { # expect TEXT PATTERN
	tr -d '\r' <"$log" | grep -qE -- "$2" || bad="$bad no $1;"
}
expect "init" '^guard: init$'
expect "copy" '^guard: a copy$'
expect "feeding" '^guard: fed$'
case $fate in
panics)
	[ $status = 100 ] || bad="$bad microvm ended with $status, expected 100;"
	expect "crash" 'the guest crashed: the guest panicked'
	;;
starves)
	[ $status = 102 ] || bad="$bad microvm ended with $status, expected 102;"
	! grep -q "nobody bites" "$log" || bad="$bad the watchdog does not bite;"
	;;
esac
if [ -n "$bad" ]; then
	cat "$log"
	echo "guard.sh $fate $bus $*:$bad"
	exit 1
fi
echo "guard.sh $fate $bus $*: watched"
