#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# virtio.sh DIR MICROVM mmio|pci|pci,legacy=on [OPTION...]
# Boots Debian's cloud kernel whose only console is a virtio one, with a named port and two entropy devices, one with packed queues and a
# thread of its own. It passes when Debian's drivers bind to them and data goes both ways. With legacy=on they use the legacy interface. 77 where there is no kernel to be had.
set -u
dir=$1 microvm=$2 transport=$3
shift 3
. "$(dirname "$0")/common.sh"
find_kernel
make_initrd "virtio-${transport%,*}" virtio-init.sh "virtio_${transport%,*} virtio_console virtio_rng"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
echo "hello guest" >"$work/in"
timeout -s KILL 200 "$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=hvc0 panic=-1" --memory 256M --cpus 2 --timeout 150 --serial none \
	--device "virtio-rng,transport=$transport" \
	--device "virtio-rng,transport=$transport,packed=on,worker=thread" \
	--device "virtio-console,transport=$transport,output=stdout,cols=100,rows=30,port1=org.test.port,port1_input=file:$work/in,port1_output=file:$work/out" \
	"$@" </dev/null 2>&1 | tr -d '\r' >"$log"
status=${PIPESTATUS[0]}

[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
expect "init" '^virtio: init$'
expect "message of the kernel" 'virtio: from the kernel$'
modern=1
[ "$transport" != pci,legacy=on ] || modern=0
expect "entropy device" "^virtio: device 0x0004 driver virtio_rng packed 0 version_1 $modern"
[ $modern = 0 ] || expect "entropy device with packed queues" '^virtio: device 0x0004 driver virtio_rng packed 1 version_1 1$'
expect "console" '^virtio: device 0x0003 driver virtio_console '
expect "size of the console" '^virtio: size 30 100$'
expect "bytes of the first entropy device" '^virtio: virtio_rng.0 26[0-9]{4}$'
expect "bytes of the second entropy device" '^virtio: virtio_rng.1 26[0-9]{4}$'
expect "input of the port" '^virtio: port says hello guest$'
expect "end" '^virtio: end$'
seq 1 30000 | cmp -s - "$work/out" || bad="$bad other output of the port;"
no_trouble
verdict "virtio.sh $transport $*" "console and entropy devices"
