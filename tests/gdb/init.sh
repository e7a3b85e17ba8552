#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the gdb test: runs, with a system call now and then, until a line comes, and powers off.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev 2>/dev/null
echo "gdb: init, $(nproc) cpus"
until read -r -t 1 line; do :; done
echo "gdb: end"
poweroff -f
