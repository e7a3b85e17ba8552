#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# run.sh DIR MICROVM OPTION...
# `microvm run` and virtcore.run() as a user meets them, in short, with options such as those of a backend; run.py has the rest. DIR keeps the full kernel.
set -u
dir=$1 microvm=$2
shift 2
. "$(dirname "$0")/common.sh"
find_kernel amd64
[ -z "${PREPARE-}" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log root=$work/root
mkdir -p "$root/bin"
cp "$(command -v busybox)" "$root/bin/busybox"
for name in sh cat; do ln -s busybox "$root/bin/$name"; done
run=(timeout 150 "$microvm" run "$@" --kernel "$kernel")

echo through | "${run[@]}" "$root" -- sh -c 'cat; echo other >&2; echo gone >/file; cat /file; exit 7' >"$log" 2>"$work/err"
status=$?
[ $status = 7 ] || bad=" the status is $status, expected 7;"
[ "$(cat "$log")" = "through
gone" ] || bad="$bad wrong output;"
[ "$(cat "$work/err")" = other ] || bad="$bad wrong errors;"
[ ! -e "$root/file" ] || bad="$bad a file that was to be gone with the vm;"
"${run[@]}" --writable --cpus 2 "$root" -- sh -c 'echo kept >/file; kill -TERM $$' >>"$log" 2>>"$work/err"
status=$?
[ $status = 143 ] || bad="$bad the status is $status, expected that of a signal, 143;"
[ "$(cat "$root/file")" = kept ] || bad="$bad no file that was to stay;"

package=$(dirname "$microvm")/../bindings/python said="microvm run"
if ls "$package"/virtcore/_virtcore.*.so >/dev/null 2>&1; then
	PYTHONPATH=$package VIRTCORE_MICROVM=$microvm timeout 150 /usr/bin/python3 - "$kernel" "$root" "$@" >>"$log" 2>&1 <<'END' || bad="$bad virtcore.run();"
import sys

import virtcore

kernel, root, *options = sys.argv[1:]
chosen = dict(zip((name.removeprefix("--") for name in options[::2]), options[1::2]))
done = virtcore.run(["sh", "-c", "cat; echo other >&2; exit 7"], rootfs=root, kernel=kernel, input=b"through", **chosen)
assert (done.returncode, done.stdout, done.stderr) == (7, b"through", b"other\n"), done
END
	said="$said, virtcore.run()"
fi
verdict run "$said: streams, status, what is written ($*)" "$work/err"
