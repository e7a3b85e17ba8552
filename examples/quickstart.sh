#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# From a bare Debian to a booted virtual machine: installs what is missing, builds, fetches Debian's kernel, boots it and tells how long that took.
# Options go to microvm, such as: sh examples/quickstart.sh --backend emu --cpus 2
set -eu
cd "$(dirname "$0")/.."
. tests/tools/need.sh
. examples/build.sh
need gcc libc6-dev meson ninja-build pkg-config libjson-c-dev busybox-static cpio gzip binutils

build_with
kernel=$(sh tests/tools/get-kernel.sh $build/guest)
sh tests/tools/mkinitramfs.sh $build/guest/initrd.gz examples/init.sh

now() { date +%s%N; }
log=$build/guest/console.log
start=$(now)
echo "Booting ${kernel##*/}"
status=0
{
	$build/examples/microvm --kernel "$kernel" --initrd $build/guest/initrd.gz --cmdline "console=ttyS0 quickstart" --verbose "$@" </dev/null 2>&1 || echo $? >$build/guest/status
} | while IFS= read -r line; do
	printf '%s\n' "$line"
	case $line in
	*"init reached"*) echo $((($(now) - start) / 1000000)) >$build/guest/ms ;;
	esac
done | tee "$log"
[ ! -f $build/guest/status ] || status=$(cat $build/guest/status)
rm -f $build/guest/status
if [ $status != 0 ] || [ ! -f $build/guest/ms ]; then
	echo "The guest did not reach its init (microvm's exit status: $status)." >&2
	exit 1
fi
ms=$(cat $build/guest/ms)
rm -f $build/guest/ms
echo
echo "From start to the guest's init: $((ms / 1000)).$(printf %03d $((ms % 1000))) s"
echo "For a shell in it (Ctrl-A x leaves):"
echo "    $build/examples/microvm --kernel $kernel --initrd $build/guest/initrd.gz --cmdline \"console=ttyS0 quiet\""
