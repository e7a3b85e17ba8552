#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# boot.sh DIR MICROVM
# QEMU boots from a disk that `microvm vhost-user-serve` serves, and has nothing else: SeaBIOS reads GRUB from it, GRUB the kernel and its initial RAM
# disk, and the root file system is there. It passes when a second boot reads what the first has written, fsck finds nothing, and the files hold on the
# host what the guest says. 77 where a component is missing.
set -u
dir=$1 microvm=$(realpath "$2")
. "$(dirname "$0")/../../linux/common.sh"
PATH=$PATH:/usr/sbin:/sbin
grub=/usr/lib/grub/i386-pc
need qemu-system-x86_64 mke2fs debugfs
command -v grub-mkimage >/dev/null && [ -f $grub/boot.img ] || skip "GRUB is not installed (Debian: grub-pc-bin, grub-common)"
find_kernel
make_initrd disk ../tools/disk-init.sh "virtio_pci virtio_blk ext4"
init=$(cd "$(dirname "$0")" && pwd)/boot-init.sh

work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$work"' EXIT
start=2048 sectors=129024 # of the one partition: 63 MiB behind the first

make_root() {
	mkdir -p "$work"/root/{bin,sbin,boot,data,dev,proc,sys}
	cp "$(command -v busybox)" "$work/root/bin/busybox"
	for tool in $(busybox --list | grep -vx busybox); do
		ln -s busybox "$work/root/bin/$tool"
	done
	install -m 755 "$init" "$work/root/sbin/init"
	cp "$kernel" "$work/root/boot/vmlinuz"
	cp "$initrd" "$work/root/boot/initrd.gz"
	chown -R 0:0 "$work/root"
}

# GRUB lies where it looks for itself by default: its first sector in the disk's, the rest behind it, in front of the partition.
make_disk() {
	cat >"$work/grub.cfg" <<-'END'
		linux (hd0,msdos1)/boot/vmlinuz console=ttyS0 panic=-1 root=/dev/vda1
		initrd (hd0,msdos1)/boot/initrd.gz
		boot
	END
	truncate -s 64M "$work/disk"
	mke2fs -q -t ext4 -O ^metadata_csum_seed,^orphan_file -d "$work/root" -E offset=$((start * 512)) "$work/disk" $((sectors / 2))k || return
	grub-mkimage -O i386-pc -d $grub -p /boot -c "$work/grub.cfg" -o "$work/core" biosdisk part_msdos ext2 linux boot || return
	dd if=$grub/boot.img of="$work/disk" bs=446 count=1 conv=notrunc status=none
	# bootable, of type Linux; no geometry; start and length; and the signature
	printf '\x80\xff\xff\xff\x83\xff\xff\xff%b%b' "$(word $start)" "$(word $sectors)" | dd of="$work/disk" bs=1 seek=446 conv=notrunc status=none
	printf '\x55\xaa' | dd of="$work/disk" bs=1 seek=510 conv=notrunc status=none
	dd if="$work/core" of="$work/disk" seek=1 conv=notrunc status=none
}
word() { # a number as four bytes of printf's, the lowest first
	printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24))
}
make_root && make_disk || { echo "boot.sh: no disk"; exit 70; }

"$microvm" vhost-user-serve --socket "$work/sock" --device "virtio-blk,image=$work/disk,queues=2" --verbose >"$work/server" 2>&1 &
server=$!
for _ in $(seq 100); do
	[ -S "$work/sock" ] && break
	sleep .1
done
for boot in 0 1; do
	log=$work/log$boot
	timeout -s KILL 200 qemu-system-x86_64 -nodefaults -no-reboot -display none -serial stdio -accel tcg -m 384M -smp 2 \
		-object memory-backend-memfd,id=memory,size=384M,share=on -machine q35,memory-backend=memory \
		-chardev "socket,id=disk,path=$work/sock" -device vhost-user-blk-pci,chardev=disk,num-queues=2,bootindex=0 </dev/null >"$log" 2>&1
	status=$?
	sed -i 's/\r//' "$log"
	[ $status = 0 ] || bad="$bad boot $boot: QEMU ended with $status;"
	expect "root on the disk" "^boot: root /dev/vda1 ext4 sum $(md5sum <"$kernel" | cut -d ' ' -f 1)\$"
	expect "data of boot $boot" "^boot: wrote $boot [0-9a-f]{32}\$"
	expect "end" '^boot: end$'
	no_trouble 'I/O error|EXT4-fs error'
	[ -z "$bad" ] || break
done
kill $server
wait $server || bad="$bad the server ended with $?;"
! grep -q 'turned out' "$work/server" || bad="$bad QEMU was turned out;"
if [ -z "$bad" ]; then
	expect "data of the first boot in the second" "^boot: read 0 $(sed -n 's/^boot: wrote 0 //p' "$work/log0")\$"
	dd if="$work/disk" of="$work/part" bs=1M skip=1 status=none
	e2fsck -fn "$work/part" >"$work/fsck" 2>&1 || bad="$bad fsck: $(tail -n 1 "$work/fsck");"
	for boot in 0 1; do
		[ "$(debugfs -R "cat /data/$boot" "$work/part" 2>/dev/null | md5sum | cut -d ' ' -f 1)" = "$(sed -n "s/^boot: wrote $boot //p" "$work/log$boot")" ] ||
			bad="$bad other data on the host;"
	done
fi
verdict "boot.sh" "SeaBIOS, GRUB, Linux and its root, from a disk served to QEMU, twice" "$work/server"
