#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# fs.sh DIR MICROVM PROPERTIES [OPTION...]
# Debian's cloud kernel mounts a directory that virtiofsd serves. It passes when either side reads what the other wrote. 77 where a component is missing.
set -u
here=$(cd "$(dirname "$0")" && pwd)
tools=$here/../../tools
dir=$1 microvm=$2 properties=$3
shift 3
virtiofsd=/usr/lib/qemu/virtiofsd
for tool in busybox cpio gzip modprobe $virtiofsd; do
	command -v $tool >/dev/null || {
		echo "SKIP: $tool is not installed (Debian: busybox-static, cpio, gzip, kmod, qemu-system-common)"
		exit 77
	}
done
[ "$(id -u)" = 0 ] || { echo "SKIP: virtiofsd wants to be root"; exit 77; }
kernel=$("$tools/get-kernel.sh" "$dir") || { echo "SKIP: no Debian cloud kernel: neither in $dir nor from apt"; exit 77; }
initrd=$dir/vhost-fs-$(cksum <"$here/fs-init.sh" | cut -d ' ' -f 1).gz
if [ ! -f "$initrd" ]; then
	files=$("$tools/module-files.sh" "$dir" "$kernel" virtio_mmio virtio_pci virtiofs) || exit 70
	# shellcheck disable=SC2086 # one word a file
	sh "$tools/mkinitramfs.sh" "$initrd.$$" "$here/fs-init.sh" $files && mv "$initrd.$$" "$initrd" || exit 70
fi

work=$(mktemp -d)
daemon=
end() {
	[ -z "$daemon" ] || kill "$daemon" 2>/dev/null
	rm -rf "$work"
}
trap end EXIT
log=$work/log
mkdir "$work/share"
head -c 3M /dev/urandom >"$work/share/from-host"
$virtiofsd --socket-path="$work/sock" -o source="$work/share" -o sandbox=chroot -o cache=auto >"$work/daemon.log" 2>&1 &
daemon=$!
for _ in $(seq 1 100); do
	[ -S "$work/sock" ] && break
	sleep 0.1
done
[ -S "$work/sock" ] || { cat "$work/daemon.log"; echo "SKIP: virtiofsd does not start here"; exit 77; }
timeout -s KILL 300 "$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 panic=-1" --memory 384M --cpus 2 --timeout 240 --verbose \
	--device "vhost-user-fs,socket=$work/sock,tag=share$properties" "$@" </dev/null 2>&1 | tr -d '\r' >"$log"
status=${PIPESTATUS[0]}

bad=
expect() { # expect TEXT
	grep -qE -- "^vhost: $1\$" "$log" || bad="$bad no $1;"
}
sum() {
	md5sum <"$work/share/$1" | cut -d ' ' -f 1
}
[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
for step in mount rename link remove program umount "mount again"; do
	expect "$step ok"
done
expect "read $(sum from-host)"
expect "wrote $(sum from-guest)"
expect "again $(sum from-guest)"
expect "count 100"
expect "end"
[ "$(ls "$work/share/many" | wc -l)" = 100 ] && [ "$(cat "$work/share/many/link")" = "file 1" ] || bad="$bad other files on the host;"
trouble=$(grep -E 'BUG|WARNING|Oops|Call Trace|soft lockup' "$log" | head -n 3)
[ -z "$trouble" ] || bad="$bad $trouble;"
if [ -n "$bad" ]; then
	cat "$log" "$work/daemon.log"
	echo "fs.sh $*:$bad"
	exit 1
fi
echo "fs.sh $*: a directory served by virtiofsd"
