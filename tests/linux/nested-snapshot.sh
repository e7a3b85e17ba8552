#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# nested-snapshot.sh DIR PROGRAM API-TEST: API-TEST, which takes snapshots of tiny guests, and snapshot.sh on backend kvm, with clones there and on emu, inside one boot of nested.sh.
set -u
here=$(cd "$(dirname "$0")" && pwd)
PREPARE=1 "$here/snapshot.sh" "$1" "$2" || exit # kernel and initrd: the inside is read-only
program=$(realpath "$2") test=$(realpath "$3")
export SMP=2 MEM=1536 LIMIT=${LIMIT:-260}
exec "$here/nested.sh" "$1" "
failed=0
'$test' || failed=1
# no XSAVE: see nested-boot.sh
for setup in 'kvm host,-xsave' 'emu qemu64,-vme'; do
	'$here/snapshot.sh' '$1' '$program' kvm \$setup || { echo again; '$here/snapshot.sh' '$1' '$program' kvm \$setup; } || failed=1
done
exit \$failed"
