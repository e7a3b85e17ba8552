# SPDX-License-Identifier: LGPL-2.1-or-later
# Sourced by the network tests. DIR keeps the kernel; sets $kernel and $initrd, or skips the test.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need depmod
find_kernel
release=${kernel##*/vmlinuz-}
initrd=$dir/net-$(cat "$here"/net-*.sh | cksum | cut -d ' ' -f 1).gz

make_net_initrd() {
	local pairs=() order work kind file
	[ -f "$dir/lib/modules/$release/modules.dep" ] || depmod -b "$dir" "$release" || exit 70
	work=$(mktemp -d)
	while read -r kind file _; do
		[ "$kind" = insmod ] || continue
		pairs+=("$file:modules/${file##*/}")
		echo "${file##*/}"
	done < <(for m in virtio_mmio virtio_pci virtio_net; do
		modprobe -d "$dir" -S "$release" --show-depends "$m" || exit
	done | awk '!seen[$0]++') >"$work/order"
	[ -s "$work/order" ] || skip "the kernel package in $dir has no modules"
	sh "$tools/mkinitramfs.sh" "$initrd" "$here/net-init.sh" "$work/order:modules/order" "$here/net-udhcpc.sh:udhcpc.sh" "${pairs[@]}" || exit 70
	rm -rf "$work"
}
[ -f "$initrd" ] || make_net_initrd
