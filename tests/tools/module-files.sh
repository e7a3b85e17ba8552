#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# module-files.sh DIR VMLINUZ MODULE...
# Prints what mkinitramfs.sh needs so that an init finds the modules of a kernel unpacked under DIR, with those they depend on, in /mods: FILE:PATH words.
# /mods/order names them in the order in which they load.
set -euo pipefail
dir=$(cd "$1" && pwd) version=${2##*/vmlinuz-}
shift 2
order=$dir/mods-$(echo "$@" | tr ' /' '--').order
for module in "$@"; do
	modprobe -d "$dir" -S "$version" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$order.files"
sed 's,.*/,,' "$order.files" >"$order"
echo "$order:mods/order"
sed 's,.*/\(.*\),&:mods/\1,' "$order.files"
