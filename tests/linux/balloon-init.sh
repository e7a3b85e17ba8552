#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the balloon test: uses much memory, frees it, and waits.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do
	insmod "/mods/$module"
done </mods/order
mkdir /fill
mount -t tmpfs -o size=90% fill /fill
dd if=/dev/zero of=/fill/file bs=1M count=160 2>/dev/null
echo "balloon: filled"
read -r line
rm /fill/file
echo "balloon: freed"
read -r line
# what was given back can be used again, and is what was written
dd if=/dev/urandom of=/fill/a bs=1M count=60 2>/dev/null
cp /fill/a /fill/b 2>/dev/null
rm /fill/b
md5sum </fill/a >/fill/sum1
md5sum </fill/a >/fill/sum2
cmp /fill/sum1 /fill/sum2 && echo "balloon: used again"
read -r line
poweroff -f
