#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# init of the test of virtio-9p: what one does with files, in a directory of the host.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do
	insmod "/mods/$module"
done </mods/order
echo "9p: init"
mkdir -p /mnt /ro
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 share /mnt || poweroff -f
mount -t 9p -o trans=virtio,version=9p2000.L readonly /ro || poweroff -f
echo "9p: host says $(cat /mnt/hello)"
cd /mnt || poweroff -f
seq 1 300000 >numbers
echo "9p: $(md5sum <numbers)"
dd if=numbers of=copy bs=100000 2>/dev/null
cmp numbers copy && echo "9p: same"
truncate -s 10 copy
echo more >>copy
echo "9p: $(wc -c <copy) bytes"
mkdir many
for i in $(seq 1 300); do echo "$i" >"many/file-$i"; done
echo "9p: $(ls many | wc -l) files, $(cat many/* | sort -n | tail -n 1) the last"
mv many/file-7 many/seven && ln many/seven eight && ln -s /hello link && echo "9p: link to $(readlink link)"
cat link 2>/dev/null || echo "9p: the link is the guest's"
chmod 640 eight && echo "9p: $(stat -c '%a %h' eight)"
touch -d '2001-02-03 04:05:06' eight
rm -r many
rmdir nothing 2>/dev/null || echo "9p: removed"
mknod pipe p 2>/dev/null || echo "9p: no pipe"
(exec 3>open; rm open; echo late >&3 && echo "9p: written when it was gone")
df /mnt >/dev/null && echo "9p: df"
echo x >/ro/new 2>/dev/null || echo "9p: read-only"
cp /ro/hello /tmp/hello && cmp /tmp/hello /mnt/hello && echo "9p: read"
cd /
umount /mnt && umount /ro && echo "9p: end"
poweroff -f
