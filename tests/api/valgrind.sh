#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# valgrind.sh PROGRAM ARGUMENT...: under memcheck; no error, nothing lost.
command -v valgrind >/dev/null || {
	echo "SKIP: valgrind is not installed"
	exit 77
}
CYCLES_ANY_MEMORY=1 exec valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite,indirect,possible \
	--errors-for-leak-kinds=definite,indirect --smc-check=all-non-file --fair-sched=yes "$@"
