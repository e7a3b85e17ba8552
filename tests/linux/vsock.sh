#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# vsock.sh DIR MICROVM PROGRAM mmio|pci [OPTION...]
# Boots Debian's cloud kernel with a virtio-vsock. It passes when megabytes sent through connections from the guest and from the host come back
# unchanged, at the same time, and a port where nobody listens refuses. 77 where there is no kernel to be had.
set -u
dir=$1 microvm=$2 program=$3 transport=$4
shift 4
. "$(dirname "$0")/common.sh"
find_kernel
make_initrd "vsock-$transport" vsock-init.sh "virtio_$transport vmw_vsock_virtio_transport" "$program:bin/vsock"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
timeout -s KILL 200 "$program" host-echo "$work/vsock_1000" >"$work/echo" &
timeout -s KILL 200 "$program" host-send "$work/vsock" 2000 2000000 >"$work/send" &
timeout -s KILL 200 "$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 quiet panic=-1" --memory 256M --cpus 2 --timeout 150 \
	--device "virtio-vsock,transport=$transport,cid=42,path=$work" "$@" </dev/null 2>&1 | tr -d '\r' >"$log"
status=${PIPESTATUS[0]}
[ "$status" = 0 ] || kill $(jobs -p)
wait

[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
expect "init" '^vsock: init$' "$log"
expect "data of the guest's connection" '^vsock: sent 3000000, 3000000 came back$' "$log"
expect "refusal" '^vsock: connecting to the host: Connection reset by peer$' "$log"
expect "end of the guest's echo" '^vsock: echoed 2000000$' "$log"
expect "end" '^vsock: end$' "$log"
expect "end of the host's echo" '^vsock: echoed 3000000$' "$work/echo"
expect "data of the host's connection" '^vsock: sent 2000000, 2000000 came back$' "$work/send"
[ ! -e "$work/vsock" ] || bad="$bad the socket is left;"
no_trouble
verdict "vsock.sh $transport $*" "5 MB both ways" "$work/echo" "$work/send"
