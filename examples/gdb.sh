#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# gdb.sh MICROVM VMLINUZ INITRD: a session of stock gdb with a guest: where its first vcpu begins, a stop a while into the boot, registers, code, the vcpus.
set -eu
microvm=$1 kernel=$2 initrd=$3
work=$(mktemp -d)
trap 'kill $vm 2>/dev/null || :; rm -rf "$work"' EXIT
"$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 nokaslr quiet" --cpus 2 --serial none --gdb="unix:$work/gdb" &
vm=$!
until [ -S "$work/gdb" ] || ! kill -0 $vm; do sleep 0.1; done
gdb -batch -ex "target remote $work/gdb" -ex 'info registers rip' -ex 'x/3i $rip' -ex 'stepi 5' -ex 'info registers rip' -ex 'info threads' -ex kill 2>&1
