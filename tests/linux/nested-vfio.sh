#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# nested-vfio.sh DIR MICROVM NVME-VF VFIO-EDU VFIO-BUS: real devices for guests, inside one boot of nested.sh that has an IOMMU, an NVMe controller with virtual
# functions, edu and two e1000 on one bus: what is refused and with which sentence, edu and the e1000 through the API, a virtual function created, given to Linux on
# kvm from the start, while it runs, and behind the guest's own IOMMU, and released, and the whole controller with INTx. It is minutes long. By
# /dev/iommu where its kernel has that (no Debian one has; OUTER: another, see nested.sh), else this part is skipped.
# The guests do without cmpxchg16b: where it faults, QEMU 7.2's emulation of nested paging loses flags.
set -u
here=$(cd "$(dirname "$0")" && pwd)
"$here/vfio.sh" "$1" "$2" prepare || exit # kernel and initrd: the inside is read-only
isolated=1
IOMMU=1 "$here/vfio.sh" "$1" "$2" prepare || isolated= # it has said why
dir=$(realpath "$1") microvm=$(realpath "$2") vf=$(realpath "$3") edu=$(realpath "$4") bus=$(realpath "$5")
export SMP=2 MEM=1536 LIMIT=${LIMIT:-850} PASSTHROUGH=1
exec "$here/nested.sh" "$1" "
failed=0
good() { if \"\$@\"; then echo \"ok    \$*\"; else echo \"FAIL  \$*\"; failed=1; fi; }
says() { # says PATTERN COMMAND...
	local said pattern=\$1
	shift
	said=\$(\"\$@\" 2>&1) && { echo \"FAIL  \$*: no failure\"; failed=1; }
	if grep -qE -- \"\$pattern\" <<<\"\$said\"; then echo \"ok    \$said\"; else echo \"FAIL  \$*: \$said\"; failed=1; fi
}
guest() { '$here/vfio.sh' '$dir' '$microvm' \"\$@\" || failed=1; }
driver() { basename \"\$(readlink /sys/bus/pci/devices/0000:\$1/driver)\"; }

says 'its driver is none: expected vfio-pci' '$edu' kvm 00:05.0
says 'this host has no such PCI function' '$edu' kvm 77:00.0
says 'it has no SR-IOV' '$microvm' sriov create 00:05.0 2
good '$microvm' sriov bind 00:05.0
group=\$(basename \"\$(readlink /sys/bus/pci/devices/0000:00:05.0/iommu_group)\")
says \"this user may not open /dev/vfio/\$group\" setpriv --reuid 65534 --clear-groups '$edu' emu 00:05.0
chown 65534 /dev/vfio/\$group
says 'this user may lock 1024 KiB' prlimit --memlock=1048576 setpriv --reuid 65534 --clear-groups '$edu' emu 00:05.0
good prlimit --memlock=536870912 setpriv --reuid 65534 --clear-groups '$edu' emu 00:05.0
good '$edu' kvm 00:05.0
for backend in kvm emu; do good '$edu' \$backend 00:05.0 iommu; done
grep -q 'fault addr 0x100000' <<<\"\$(dmesg)\" || { echo 'FAIL  the host has seen no blocked access'; failed=1; }
if [ -e /dev/iommu ]; then
	for backend in kvm emu; do good '$edu' \$backend 00:05.0,iommufd=on; done
	good '$edu' kvm 00:05.0,iommufd=on iommu
	good '$edu' kvm 00:05.0,iommufd=off iommu
	says 'IOMMU group [0-9]+ by /dev/iommu' '$microvm' --memory 16M --timeout 1 --verbose --backend emu --device vfio-pci,host=00:05.0 --kernel /dev/null
else
	echo 'SKIP  /dev/iommu: this kernel has none (OUTER: another one)'
	says 'there is no /dev/iommu' '$edu' kvm 00:05.0,iommufd=on
fi
good '$microvm' sriov bind 03:01.0
says 'reset of 0000:03:02.0 as well|each of 0000:03:02.0 must be vfio-pci' '$bus' kvm 0000:03:01.0 0000:03:02.0 00:05.0
good '$microvm' sriov bind 03:02.0
for backend in kvm emu; do good '$bus' \$backend 0000:03:01.0 0000:03:02.0 00:05.0; done
[ ! -e /dev/iommu ] || good '$bus' kvm 0000:03:01.0,iommufd=off 0000:03:02.0 00:05.0
good '$edu' kvm 00:05.0 wanted
[ \"\$(driver 00:05.0)\" = '' ] || { echo 'FAIL  edu was not let go of'; failed=1; }
good '$microvm' sriov release 00:05.0
[ \"\$(driver 00:05.0)\" = '' ] || { echo 'FAIL  edu was not given back'; failed=1; }

says 'its driver is nvme: expected vfio-pci' '$edu' kvm 01:00.0
good '$edu' kvm 01:00.0 assign
says 'expected 1 to 4' '$microvm' sriov create 01:00.0 5
good '$microvm' sriov create 01:00.0 2
says 'they must be destroyed before there can be 3' '$microvm' sriov create 01:00.0 3
good '$vf' /dev/nvme0 1
says 'it is no network card' '$microvm' sriov mac 01:00.0 0 52:54:00:12:34:56
'$microvm' sriov list
function=\$('$microvm' sriov list | sed -n 's/^  0: 0000:\\([^ ]*\\) .*/\\1/p')
export LIMIT_CALLS=400
guest \"\$function\" --backend kvm --cpu host,-xsave,-cx16
[ '$isolated' != 1 ] || IOMMU=1 guest \"\$function\" --backend kvm --cpu host,-xsave,-cx16
PLUG=1 guest \"\$function\" --backend kvm --cpu host,-xsave,-cx16
good '$microvm' sriov destroy 01:00.0
INTX=1 guest 01:00.0 --backend kvm --cpu host,-xsave,-cx16 --irqchip full
[ \"\$(driver 01:00.0)\" = nvme ] || { echo 'FAIL  the NVMe controller was not given back'; failed=1; }
exit \$failed"
