#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the vhost-user-fs test: a directory of the host that virtiofsd serves.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo "vhost: init"
while read -r module; do
	insmod "/mods/$module" || echo "vhost: insmod $module fails"
done </mods/order
say() { # say WHAT COMMAND...: how it ended
	what=$1
	shift
	if "$@"; then echo "vhost: $what ok"; else echo "vhost: $what fails"; fi
}
mkdir /mnt
say mount mount -t virtiofs share /mnt
echo "vhost: read $(md5sum </mnt/from-host | cut -d ' ' -f 1)"
dd if=/dev/urandom of=/mnt/from-guest bs=64k count=64 2>/dev/null
sync
echo "vhost: wrote $(md5sum </mnt/from-guest | cut -d ' ' -f 1)"
mkdir /mnt/many
for n in $(seq 1 100); do echo "file $n" >/mnt/many/$n; done
say rename mv /mnt/many/1 /mnt/many/one
say link ln -s one /mnt/many/link
say remove rm /mnt/many/2
echo "vhost: count $(ls /mnt/many | wc -l)"
# a program that lies on the host
cp /bin/busybox /mnt/busybox
echo 3 >/proc/sys/vm/drop_caches
say program [ "$(/mnt/busybox expr 40 + 2)" = 42 ]
rm /mnt/busybox
say umount umount /mnt
say "mount again" mount -t virtiofs share /mnt
echo "vhost: again $(md5sum </mnt/from-guest | cut -d ' ' -f 1)"
echo "vhost: end"
poweroff -f
