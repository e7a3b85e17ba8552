# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# Sourced by the tests here: what they begin and end with. They have set $dir, where the kernel is kept. With PREPARE set they end once kernel and
# initrd are there: inside nested.sh $dir is read-only.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=$here/../tools
bad= log=

skip() {
	echo "SKIP: $*"
	exit 77
}

need() { # need TOOL...
	local tool
	for tool in "$@"; do
		command -v "$tool" >/dev/null || skip "$tool is not installed (Debian: busybox-static, cpio, gzip, kmod, qemu-utils, e2fsprogs)"
	done
}

find_kernel() { # find_kernel [FLAVOUR]: sets $kernel
	need busybox cpio gzip modprobe
	kernel=$("$tools/get-kernel.sh" "$dir" "$@") || skip "no Debian kernel: neither in $dir nor from apt"
}

# make_initrd NAME INIT MODULES [SOURCE:DESTINATION...]: sets $initrd; made anew when INIT or a further file is another one
make_initrd() {
	local name=$1 init=$here/$2 modules=$3
	shift 3
	initrd=$dir/$name-$(cat "$init" "${@%%:*}" | cksum | cut -d ' ' -f 1).gz
	[ -f "$initrd" ] || build_initrd "$@"
	[ -z "${PREPARE-}" ] || exit 0
}

build_initrd() { # by make_initrd, with its variables
	local files=
	# shellcheck disable=SC2086 # one word a module, and a file
	if [ -n "$modules" ]; then
		files=$("$tools/module-files.sh" "$dir" "$kernel" $modules) || exit 70
	fi
	# shellcheck disable=SC2086
	sh "$tools/mkinitramfs.sh" "$initrd" "$init" "$@" $files || exit 70
}

retry() { # retry SECONDS COMMAND...: until it succeeds
	local tries=$(($1 * 10))
	shift
	for _ in $(seq $tries); do
		"$@" && return 0
		sleep .1
	done
	return 1
}
expect() { # expect TEXT PATTERN [FILE]: a line of $log
	grep -qE -- "$2" "${3:-$log}" || bad="$bad no $1;"
}

no_trouble() { # no_trouble [PATTERN]: the guest's kernel complains of nothing
	local found
	found=$(grep -E "BUG|WARNING|Oops|Call Trace|soft lockup${1:+|$1}" "$log" | head -n 3)
	[ -z "$found" ] || bad="$bad $found;"
}

verdict() { # verdict TEST SENTENCE [FILE...]: the end; with the files when something was bad
	local test=$1 good=$2
	shift 2
	if [ -n "$bad" ]; then
		cat "$log" "$@"
		echo "$test:$bad"
		exit 1
	fi
	echo "$test: $good"
}
