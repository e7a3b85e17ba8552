#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# 9p.sh DIR MICROVM mmio|pci [OPTION...]
# Boots Debian's kernel with a directory of this host, twice, once read-only. It passes when files can be used there as they are used, and the host
# finds what the guest has done. The cloud kernel knows no 9P, so it is the full one, in DIR. 77 where there is none to be had.
set -u
dir=$1 microvm=$2 transport=$3
shift 3
. "$(dirname "$0")/common.sh"
find_kernel amd64
make_initrd "9p-$transport" 9p-init.sh "virtio_$transport 9pnet_virtio 9p"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log share=$work/share
mkdir "$share"
echo "hello guest" >"$share/hello"
timeout -s KILL 200 "$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 quiet panic=-1" --memory 384M --cpus 2 --timeout 150 \
	--device "virtio-9p,transport=$transport,tag=share,path=$share" \
	--device "virtio-9p,transport=$transport,tag=readonly,path=$share,readonly=on,packed=on,worker=loop" \
	"$@" </dev/null 2>&1 | tr -d '\r' >"$log"
status=${PIPESTATUS[0]}

[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
expect "init" '^9p: init$'
expect "file of the host" '^9p: host says hello guest$'
expect "sum" "^9p: $(seq 1 300000 | md5sum)\$"
expect "copy" '^9p: same$'
expect "size" '^9p: 15 bytes$'
expect "directory" '^9p: 300 files, 300 the last$'
expect "link" '^9p: link to /hello$'
expect "end of the link" "^9p: the link is the guest's\$"
expect "mode" '^9p: 640 2$'
expect "removal" '^9p: removed$'
expect "refusal of a pipe" '^9p: no pipe$'
expect "removed file" '^9p: written when it was gone$'
expect "space" '^9p: df$'
expect "read-only directory" '^9p: read-only$'
expect "reading there" '^9p: read$'
expect "end" '^9p: end$'
seq 1 300000 | cmp -s - "$share/numbers" || bad="$bad other numbers on the host;"
[ "$(find "$share" -mindepth 1 -printf '%f\n' | LC_ALL=C sort | tr '\n' ' ')" = "copy eight hello link numbers " ] || bad="$bad other files on the host;"
[ "$(readlink "$share/link")" = /hello ] || bad="$bad another link on the host;"
[ "$(TZ=UTC stat -c '%y %a' "$share/eight" | cut -c 1-19)" = "2001-02-03 04:05:06" ] || bad="$bad another time on the host;"
no_trouble
verdict "9p.sh $transport $*" "files of the host"
