#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# nested-devices.sh DIR FULL-DIR MICROVM PROGRAMS [NAME...]
# Debian's stock drivers with each of the library's devices on backend kvm: the tests of this directory inside one boot of nested.sh. PROGRAMS: the directory
# of those that the tests run. NAME: only these.
set -u
here=$(cd "$(dirname "$0")" && pwd)
dir=$(realpath "$1") full=$(realpath "$2") microvm=$(realpath "$3") programs=$(realpath "$4")
shift 4
# no XSAVE: see nested-boot.sh
kvm="--backend kvm --cpu host,-xsave"
# name, script, kernel, arguments
all="virtio-mmio virtio $dir $microvm mmio $kvm
virtio-pci virtio $dir $microvm pci $kvm
blk blk $dir $microvm $kvm
vsock vsock $dir $microvm $programs/vsock pci $kvm
9p 9p $full $microvm pci $kvm
display display $full $microvm pci $kvm
pmem pmem $dir $microvm pci $kvm
guard-isa guard $full $microvm panics isa $kvm
guard-starves guard $full $microvm starves pci $kvm
mem mem $dir $programs/mem pci kvm
balloon-inflate balloon $dir $programs/balloon inflate kvm
balloon-report balloon $dir $programs/balloon report kvm
balloon-reclaim balloon $dir $programs/balloon reclaim kvm
hotplug hotplug $dir $programs/hotplug kvm host,-xsave
cpu-hotplug cpu-hotplug $dir $programs/cpu-hotplug legacy kvm host,-xsave
net-tap net $dir $microvm tap packed=on $kvm
net-user net $dir $microvm user packed=on $kvm
run run $full $microvm $kvm"

inside="failed=
run() { # run NAME SCRIPT ARGUMENT...: twice at most, as in nested-guests.sh
	local name=\$1 script=$here/\$2.sh
	shift 2
	\"\$script\" \"\$@\" || { echo \"\$name again\"; \"\$script\" \"\$@\"; } || failed=\"\$failed \$name\"
}
"
while read -r name script arguments; do
	[ $# = 0 ] || [[ " $* " = *" $name "* ]] || continue
	# shellcheck disable=SC2086 # one word an argument
	PREPARE=1 "$here/$script.sh" $arguments || exit # kernel and initrd: the inside is read-only
	inside="${inside}run $name $script $arguments
"
done <<<"$all"
export SMP=2 MEM=2560 LIMIT=${LIMIT:-1500}
exec "$here/nested.sh" "$dir" "${inside}[ -z \"\$failed\" ] || echo \"failed:\$failed\"
[ -z \"\$failed\" ]"
