#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test_source.sh SOURCE-ROOT STATIC-LIBRARY: what the library's code must not do, found in its text and its symbols.
library=$(realpath "$2")
cd "$1" || exit 1
failed=$(mktemp -u)
complain() { # complain WHAT, with what was found on standard input
	found=$(cat)
	[ -z "$found" ] && return
	echo "$1:"
	echo "$found"
	: >"$failed" # a pipeline's end is a process of its own
}
# Code without comments and strings, as FILE:LINE:TEXT.
code=$(mktemp)
symbols=$(mktemp)
trap 'rm -f "$code" "$symbols" "$failed"' EXIT
find lib include -name '*.[ch]' | sort | python3 -c '
import re, sys
def blank(m):
    return re.sub(r"[^\n]", "", m.group(0)) if m.group(0).startswith("/") else "\"\""
for name in sys.stdin.read().split():
    text = re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", blank, open(name).read(), flags=re.S)
    for n, line in enumerate(text.split("\n"), 1):
        if line.strip():
            print(f"{name}:{n}:{line}")
' >"$code"

calls() { grep -E ":[^#]*\<($1) *\(" "$code"; }
calls 'printf|vprintf|fprintf|puts|putchar|perror|dprintf|psignal|syslog' | complain "the library prints"
calls 'exit|_exit|_Exit|abort|quick_exit|assert|__builtin_trap|__assert_fail' | complain "the library ends the program"
grep -E '\<(stdin|stderr|stdout)\>' "$code" | complain "the library uses the program's streams"
calls 'scanf|getchar|gets|getline' | complain "the library reads standard input"
calls 'sleep|usleep|nanosleep|clock_nanosleep' | complain "the library sleeps"
calls 'signal|sigaction|sigset|setitimer|alarm|atexit|fork|system|popen' | complain "the library takes what is the process's"
calls 'strcpy|strcat|sprintf|vsprintf|alloca|setenv|putenv|chdir|umask|setlocale|strtok|localtime|gmtime|ctime|rand' |
	complain "functions not for a library"

grep -rlE 'include *<linux/kvm(_para)?\.h>' lib include | grep -v '^lib/backend/kvm/' | complain "only lib/backend/kvm knows <linux/kvm.h>"
grep -rlE 'include *<linux/vfio\.h>' lib include | grep -v '^lib/passthrough/' | complain "only lib/passthrough knows <linux/vfio.h>"
grep -rnE 'include *"(kvm|backend/kvm)/' lib | grep -v '^lib/backend/kvm/' | complain "only lib/backend/kvm knows itself"

# A room imports only itself and rooms above it.
rooms="core memory bus cpu chipset backend block net device virtio vhost passthrough loader vm debug"
above=
for room in $rooms; do
	above="$above $room"
	[ -d "lib/$room" ] || continue
	for other in $rooms; do
		case " $above " in
		*" $other "*) continue ;;
		esac
		grep -rnE "include *\"$other/" "lib/$room" | complain "lib/$room imports lib/$other, which is below it"
	done
done

# Const tables are the only statics: nothing in writable sections but the thread's error message, and what the dynamic
# linker relocates before the program starts (.data.rel.ro). Sanitizers add symbols of their own.
nm --format=sysv "$library" 2>/dev/null | awk -F'|' 'NF == 7 { gsub(/ /, ""); print }' >"$symbols"
grep -q vcore_vm_new "$symbols" || echo "nm finds no symbols in $library" | complain "the static library"
awk -F'|' '$4 == "OBJECT" && $7 ~ /^\.(data|bss)/ && $7 !~ /^\.data\.rel\.ro/ && $1 !~ /^(__|\.L|_?asan|ubsan)/ { print $1, $7 }' "$symbols" |
	complain "statics that are not const"
awk -F'|' '$7 ~ /^\.t(bss|data)/ && $1 != "message" && $1 !~ /^__/ { print $1, $7 }' "$symbols" |
	complain "thread-local variables besides the error message"
[ ! -e "$failed" ]
