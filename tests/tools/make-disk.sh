#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# make-disk.sh DIR VMLINUZ MODULES
# A disk with Debian on it, in DIR: disk.raw, an ext4 file system made of Debian's packages (no partitions; root's password is "virtcore"), with the
# modules of that kernel, which get-kernel.sh has unpacked in MODULES, and initrd.gz, which finds the disk and starts what is on it. Further mirror/: a
# package that is not on the disk, with an index for apt. Takes half a minute; what DIR has is used again. As root, or with fakeroot and user
# namespaces; nothing is mounted on this machine. Status 77: there are no packages to be had.
set -euo pipefail
tools=$(cd "$(dirname "$0")" && pwd)
dir=$1 kernel=$2 modules=$3
release=${kernel##*/vmlinuz-} suite=${SUITE:-bookworm} size=${SIZE:-1G}
packages=systemd-sysv,systemd-resolved,udev,dbus,iproute2,kmod,login
mkdir -p "$dir"
dir=$(cd "$dir" && pwd) modules=$(cd "$modules" && pwd)
as_root=
if [ "$(id -u)" != 0 ]; then
	as_root=fakeroot
	command -v fakeroot >/dev/null || { echo "make-disk.sh: not root, and there is no fakeroot" >&2; exit 77; }
fi

# Settings, in a tree whose root is $1; the packages are installed there.
configure() {
	echo debian >"$1/etc/hostname"
	echo "127.0.0.1 localhost debian" >"$1/etc/hosts"
	echo "/dev/vda / ext4 errors=remount-ro 0 1" >"$1/etc/fstab"
	printf '[Match]\nName=e*\n\n[Network]\nDHCP=yes\n' >"$1/etc/systemd/network/80-dhcp.network"
	chroot "$1" systemctl --quiet enable systemd-networkd
	# what would use the network unasked
	chroot "$1" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer systemd-networkd-wait-online.service
	echo root:virtcore | chroot "$1" chpasswd
}

make_root() {
	# shellcheck disable=SC2016 # $1 is the hook's
	mmdebstrap --quiet --variant=minbase --include="$packages" --format=tar --aptopt='Acquire::Languages "none"' --dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --customize-hook="$(declare -f configure); set -e; configure \"\$1\"" \
		"$suite" "$dir/root.tar.new" || exit 77
	mv "$dir/root.tar.new" "$dir/root.tar"
}

make_image() {
	local root
	root=$(mktemp -d)
	# one user namespace or one fakeroot for both: owners are kept between them
	export root dir modules release size
	$as_root bash -euc '
		tar -C "$root" -xf "$dir/root.tar"
		mkdir -p "$root/usr/lib/modules"
		cp -a "$modules/lib/modules/$release" "$root/usr/lib/modules/"
		chown -R 0:0 "$root/usr/lib/modules"
		rm -f "$dir/disk.new"
		mke2fs -q -t ext4 -L debian -d "$root" "$dir/disk.new" "$size" >/dev/null' || { rm -rf "$root"; exit 70; }
	rm -rf "$root"
	mv "$dir/disk.new" "$dir/disk.raw"
}

make_mirror() (
	rm -rf "$dir/mirror.new"
	mkdir "$dir/mirror.new"
	cd "$dir/mirror.new"
	apt-get -qq download hello >/dev/null 2>&1 || { echo "make-disk.sh: apt cannot download the package hello" >&2; exit 77; }
	for file in *.deb; do
		dpkg-deb -f "$file"
		printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$file" "$(stat -c %s "$file")" "$(sha256sum <"$file" | cut -d ' ' -f 1)"
	done >Packages
	mv "$dir/mirror.new" "$dir/mirror"
)

[ -f "$modules/lib/modules/$release/modules.dep" ] || depmod -b "$modules" "$release"
[ -f "$dir/root.tar" ] || make_root
[ -f "$dir/disk.raw" ] || make_image
[ -d "$dir/mirror" ] || make_mirror
if [ ! -f "$dir/initrd.gz" ]; then
	files=$("$tools/module-files.sh" "$modules" "$kernel" virtio_pci virtio_mmio virtio_blk)
	# shellcheck disable=SC2086 # one word a file
	sh "$tools/mkinitramfs.sh" "$dir/initrd.gz" "$tools/disk-init.sh" $files
fi
