#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# nested.sh DIR COMMAND
# Runs a shell command of this machine inside an emulated PC (QEMU TCG) whose /dev/kvm is a standard one (AMD SVM with nested paging). The command
# sees this machine's files read-only, an empty /run, /tmp and /mnt, and starts in /run; its exit status becomes this script's. DIR keeps the kernel
# and its modules. SMP (2) vcpus, MEM (1024) MiB, LIMIT (270) seconds. THREAD (multi): of QEMU's emulation; multi
# is faster for a Linux inside, single loses no state of guests. PASSTHROUGH=1: with an IOMMU and VFIO, and devices to pass through: an NVMe controller
# with 4 virtual functions, e1000e, edu, two e1000 on one conventional bus. OUTER: a kernel that has all of what the inside needs built in, in place of
# Debian's. 77, with the reason as the last line, where something is missing.
set -u
skip() {
	echo "SKIP: $*"
	exit 77
}
tools=$(cd "$(dirname "$0")/../tools" && pwd)
dir=$1 command=$2 smp=${SMP:-2} mem=${MEM:-1024} limit=${LIMIT:-270} thread=${THREAD:-multi}
modules="virtio_pci virtiofs kvm_amd tun bridge vhost_net vhost_vsock" machine=q35 append="console=ttyS0 quiet panic=-1 no_timer_check" devices=()

command -v qemu-system-x86_64 >/dev/null || skip "qemu-system-x86_64 is not installed (Debian: qemu-system-x86)"
for share in /usr/lib/qemu/virtiofsd /usr/libexec/virtiofsd; do [ -x "$share" ] && break; done
[ -x "$share" ] || skip "virtiofsd is not installed (Debian: qemu-system-common)"
for tool in busybox cpio gzip modprobe depmod; do
	command -v "$tool" >/dev/null || skip "$tool is not installed (Debian: busybox-static, cpio, gzip, kmod)"
done
if [ "${OUTER:-}" ]; then
	kernel=$OUTER modules=
else
	kernel=$("$tools/get-kernel.sh" "$dir") || skip "no Debian cloud kernel: neither in $dir nor from apt"
fi
release=${kernel##*/vmlinuz-}

work=$(mktemp -d)
if [ "${PASSTHROUGH:-}" ]; then
	modules="${modules:+$modules vfio_iommu_type1 vfio-pci}" machine=q35,kernel-irqchip=split append="$append intel_iommu=on"
	truncate -s 64M "$work/nvme"
	devices=(-device intel-iommu,intremap=on,caching-mode=on -device pcie-root-port,id=rp1,chassis=1,slot=1 -device pcie-root-port,id=rp2,chassis=2,slot=2
		-device nvme-subsys,id=s0 -drive "if=none,id=d0,file=$work/nvme,format=raw"
		-device nvme,id=n0,subsys=s0,serial=test,bus=rp1,max_ioqpairs=26,msix_qsize=32,sriov_max_vfs=4,sriov_vq_flexible=16,sriov_vi_flexible=8
		-device nvme-ns,drive=d0,bus=n0,shared=on -device e1000e,bus=rp2,romfile= -device edu,addr=05.0
		-device pci-bridge,id=conventional,chassis_nr=9,shpc=off,addr=06.0 -device e1000,bus=conventional,addr=1.0,romfile= -device e1000,bus=conventional,addr=2.0,romfile=)
fi
share_pid= qemu_pid=
leave() {
	[ -z "$qemu_pid" ] || kill "$qemu_pid" 2>/dev/null
	[ -z "$share_pid" ] || kill "$share_pid" 2>/dev/null
	wait
	rm -rf "$work"
}
trap leave EXIT
trap 'exit 124' TERM INT

# modules in the order in which they must be loaded, as files of the initial RAM disk
[ -z "$modules" ] || [ -f "$dir/lib/modules/$release/modules.dep" ] || depmod -b "$dir" "$release" || exit 70
pairs=() order=
while read -r kind file _; do
	[ "$kind" = insmod ] || continue
	pairs+=("$file:modules/${file##*/}")
	order="$order ${file##*/}"
done < <(for m in $modules; do
	modprobe -d "$dir" -S "$release" --show-depends "$m" || exit
done | awk '!seen[$0]++')
[ -n "$order${OUTER-}" ] || skip "the kernel package in $dir has no modules"

# the project and its build are to be seen inside even where they are in one of the directories that are empty there
keep= put_back= n=0
for d in "$(dirname "$(dirname "$tools")")" "${MESON_BUILD_ROOT-}"; do
	[ -n "$d" ] || continue
	n=$((n + 1))
	d=$(printf '%q' "$d")
	keep="$keep mkdir /keep$n && mount --bind /host$d /keep$n;"
	put_back="$put_back mkdir -p /host$d 2>/dev/null; mount --bind /keep$n /host$d;"
done

cat >"$work/init" <<EOF
#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for m in $order; do insmod /modules/\$m || echo "insmod \$m failed"; done
mkdir /host
mount -t virtiofs -o ro host /host || { echo "nested: status 70"; poweroff -f; }
for d in proc sys dev; do mount --bind /\$d /host/\$d; done
$keep
for d in run tmp mnt var/tmp; do mount -t tmpfs tmp /host/\$d; done
$put_back
mkdir -p /host/dev/shm
mount -t tmpfs shm /host/dev/shm
ip link set lo up
cp /command /host/run/command
echo "nested: begin"
chroot /host /bin/bash -c 'export HOME=/run PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; cd /run; . /run/command' </dev/null
echo "nested: status \$?"
poweroff -f
EOF
printf '%s\n' "$command" >"$work/command"
"$tools/mkinitramfs.sh" "$work/initrd" "$work/init" "$work/command:command" "${pairs[@]}" || exit 70

# One run; the status from inside goes to $status.
once() {
	rm -f "$work/share" "$work/console"
	"$share" --socket-path="$work/share" -o source=/ -o sandbox=chroot -o cache=always -f >"$work/share.log" 2>&1 &
	share_pid=$!
	for _ in $(seq 100); do
		[ -S "$work/share" ] && break
		kill -0 $share_pid 2>/dev/null || skip "virtiofsd does not run here: $(tail -n 1 "$work/share.log")"
		sleep .1
	done

	mkfifo "$work/console"
	timeout "$limit" qemu-system-x86_64 -accel tcg,thread="$thread" -M "$machine" -cpu max -smp "$smp" -m "$mem" -nodefaults -display none -no-reboot \
		-object memory-backend-memfd,id=ram,size="${mem}M",share=on -numa node,memdev=ram -serial "file:$work/console" \
		-chardev socket,id=share,path="$work/share" -device vhost-user-fs-pci,chardev=share,tag=host,queue-size=512 \
		-kernel "$kernel" -initrd "$work/initrd" -append "$append" \
		"${devices[@]}" </dev/null &
	qemu_pid=$!
	# what the command says, as it says it; all of the console when it did not get that far
	sed -u -e 's/\r$//' <"$work/console" | tee "$work/log" | sed -u -n -e '0,/nested: begin/d' -e '/nested: status/d' -e p
	wait $qemu_pid
	qemu=$?
	qemu_pid=
	kill $share_pid 2>/dev/null
	wait $share_pid
	share_pid=
	status=$(sed -n 's/^nested: status \([0-9]*\)$/\1/p' "$work/log" | tail -n 1)
}
once
if [ -z "$status" ]; then
	# the emulated PC or its file server now and then stands still on a busy machine; a guest that hangs is ended by its own time-out inside
	echo "nested.sh: no status from inside (qemu ended with $qemu; 124: $limit s are over): once more"
	once
fi
grep -q 'nested: begin' "$work/log" || tail -n 20 "$work/log"
[ -n "$status" ] || skip "the emulated PC stood still twice (qemu ended with $qemu; 124: $limit s are over)"
exit "$status"
