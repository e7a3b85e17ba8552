#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# headers.sh: each public header, alone, means the same to every compiler here, C and C++, old and new, without a warning; nor have clang-tidy and cppcheck one.
set -u
cd "$(dirname "$0")/../../include" || exit 1
failed=0
checked=0
try() { # try TOOL ARGUMENT...: what it prints is wrong
	command -v "$1" >/dev/null || return
	"$@" >"$work" 2>&1 || { echo "$*:"; cat "$work"; failed=1; }
	checked=$((checked + 1))
}
work=$(mktemp)
trap 'rm -f "$work"' EXIT
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wundef -Werror -fsyntax-only -I."
for header in virtcore/*.h; do
	for standard in c99 c2x; do
		try gcc -std=$standard $warnings -Wstrict-prototypes -xc "$header"
		try clang -std=$standard $warnings -Wstrict-prototypes -xc "$header"
	done
	for standard in c++11 c++20; do
		try g++ -std=$standard $warnings -xc++ "$header"
		try clang++ -std=$standard $warnings -xc++ "$header"
	done
done
checks='-*,bugprone-*,cert-*,clang-analyzer-*,misc-*,performance-*,portability-*,-bugprone-easily-swappable-parameters'
try clang-tidy --quiet --warnings-as-errors='*' --header-filter=virtcore/ --checks="$checks" virtcore/virtcore.h -- -xc -std=c11 -I.
try clang-tidy --quiet --warnings-as-errors='*' --header-filter=virtcore/ --checks="$checks" virtcore/virtcore.h -- -xc++ -std=c++17 -I.
try cppcheck --quiet --enable=warning,style,performance,portability --error-exitcode=1 --std=c11 -I. virtcore/virtcore.h
[ "$checked" -gt 0 ] || { echo "SKIP: no compiler that can be called by its name"; exit 77; }
echo "headers: $checked checks"
exit $failed
