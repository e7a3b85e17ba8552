#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# fs.sh DIR MICROVM PROPERTIES [OPTION...]
# Debian's cloud kernel mounts a directory that virtiofsd serves. It passes when either side reads what the other wrote. 77 where a component is missing.
set -u
dir=$1 microvm=$2 properties=$3
shift 3
. "$(dirname "$0")/../../linux/common.sh"
virtiofsd=/usr/lib/qemu/virtiofsd
[ -x $virtiofsd ] || skip "virtiofsd is not installed (Debian: qemu-system-common)"
[ "$(id -u)" = 0 ] || skip "virtiofsd wants to be root"
find_kernel
here=$(cd "$(dirname "$0")" && pwd) # where make_initrd finds the init
make_initrd vhost-fs fs-init.sh "virtio_mmio virtio_pci virtiofs"

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
[ -S "$work/sock" ] || { cat "$work/daemon.log"; skip "virtiofsd does not start here"; }
timeout -s KILL 300 "$microvm" --kernel "$kernel" --initrd "$initrd" --cmdline "console=ttyS0 panic=-1" --memory 384M --cpus 2 --timeout 240 --verbose \
	--device "vhost-user-fs,socket=$work/sock,tag=share$properties" "$@" </dev/null 2>&1 | tr -d '\r' >"$log"
status=${PIPESTATUS[0]}

sum() {
	md5sum <"$work/share/$1" | cut -d ' ' -f 1
}
[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
for said in "mount ok" "rename ok" "link ok" "remove ok" "program ok" "umount ok" "mount again ok" "read $(sum from-host)" "wrote $(sum from-guest)" \
	"again $(sum from-guest)" "count 100" end; do
	expect "$said" "^vhost: $said\$"
done
[ "$(ls "$work/share/many" | wc -l)" = 100 ] && [ "$(cat "$work/share/many/link")" = "file 1" ] || bad="$bad other files on the host;"
no_trouble
verdict "fs.sh $*" "a directory served by virtiofsd" "$work/daemon.log"
