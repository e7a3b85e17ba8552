#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# example.sh DIR MICROVM: examples/gdb.sh with Debian's kernel.
here=$(cd "$(dirname "$0")" && pwd)
command -v gdb >/dev/null || { echo "SKIP: gdb is not installed"; exit 77; }
PREPARE=1 "$here/../linux/boot.sh" "$1" "$2" 1 none || exit
said=$(sh "$here/../../examples/gdb.sh" "$2" "$("$here/../tools/get-kernel.sh" "$1")" "$(ls "$1"/boot-*.gz | head -n 1)")
echo "$said"
[ "$(echo "$said" | grep -c '^rip ')" = 2 ] && echo "$said" | grep -q 'vcpu 1 waits for SIPI'
