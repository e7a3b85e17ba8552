#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# check.sh LIBRARY: the exported ABI against the checked-in baseline; additions are fine, changes and removals are not.
# check.sh --update LIBRARY: make the baseline anew, after a release or before the first one.
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v abidiff >/dev/null; then
	echo "abidiff is not installed (package abigail-tools)"
	exit 77
fi
if [ "$1" = --update ]; then
	exec abidw --exported-interfaces-only --no-show-locs --no-comp-dir-path --no-corpus-path --out-file "$here/libvirtcore.abi" "$2"
fi
abidiff --no-added-syms --exported-interfaces-only --suppressions "$here/suppressions" "$here/libvirtcore.abi" "$1"
status=$?
# bit 3: the change breaks programs; bit 2: it may
[ $((status & 8)) = 0 ] && [ $((status & 1)) = 0 ] && [ $((status & 4)) = 0 ]
