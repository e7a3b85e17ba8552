#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# From a bare Debian to a Python prompt with a booted virtual machine in `vm`: installs what is missing, builds, fetches Debian's kernel, boots it.
set -eu
cd "$(dirname "$0")/.."
. tests/tools/need.sh
. examples/build.sh
need gcc libc6-dev meson ninja-build pkg-config libjson-c-dev python3 python3-cffi python3-dev busybox-static cpio gzip

build_with -Dpython=enabled
kernel=$(sh tests/tools/get-kernel.sh $build/guest)
sh tests/tools/mkinitramfs.sh $build/guest/initrd.gz examples/init.sh
set -x
PYTHONPATH=$build/bindings/python exec /usr/bin/python3 -i bindings/python/examples/prompt.py "$kernel" $build/guest/initrd.gz
