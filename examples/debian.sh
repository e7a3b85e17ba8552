#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A Debian machine of one's own on the terminal: installs what is missing, builds, makes a disk of Debian's packages once (half a minute), boots it. Log in
# as root, password virtcore; `poweroff` or Ctrl-A x ends it. The network is `user`: apt-get works there. What is written stays, in build-quickstart/debian/my.qcow2.
# Options go to microvm, such as: bash examples/debian.sh --cpus 2 --memory 1G
set -eu
cd "$(dirname "$0")/.."
. tests/tools/need.sh
. examples/build.sh
need gcc libc6-dev meson ninja-build pkg-config libjson-c-dev libslirp-dev libglib2.0-dev busybox-static cpio gzip binutils kmod mmdebstrap e2fsprogs qemu-utils

build_with -Dslirp=enabled
kernel=$(sh tests/tools/get-kernel.sh $build/guest)
echo "Making the disk"
bash tests/tools/make-disk.sh $build/debian "$kernel" $build/guest
# the disk stays as it was made: what is written goes to an overlay
disk=$build/debian/my.qcow2
[ -f $disk ] || qemu-img create -q -f qcow2 -b disk.raw -F raw $disk
set -x
exec $build/examples/microvm --kernel "$kernel" --initrd $build/debian/initrd.gz --cmdline "console=ttyS0 quiet root=/dev/vda" --memory 512M \
	--device virtio-blk,image=$disk --device virtio-net,net=user "$@"
