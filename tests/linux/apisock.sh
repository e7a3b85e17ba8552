#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# apisock.sh DIR MICROVM CLIENT [OPTION...]
# The whole life of a Debian guest by Firecracker's API (apisock.py). CLIENT mmds: with curl, and a tap in a network namespace of its own, over which the guest
# reads its metadata. 77, with the reason, where something is missing.
set -u
dir=$1 microvm=$2 client=$3
shift 3
. "$(dirname "$0")/common.sh"
if [ "$client" = mmds ] && [ -z "${IN_NAMESPACE-}" ]; then
	unshare --net true 2>/dev/null || skip "no permission for a network namespace"
	[ -c /dev/net/tun ] || skip "there is no /dev/net/tun"
	IN_NAMESPACE=1 exec unshare --net bash "$0" "$dir" "$microvm" "$client" "$@"
fi
find_kernel
make_initrd apisock apisock-init.sh "virtio_mmio virtio_blk virtio_net virtio_balloon virtio-rng vmw_vsock_virtio_transport"
if [ "$client" = mmds ]; then
	ip tuntap add apitap0 mode tap 2>/dev/null || skip "no permission for a tap"
	ip addr add 169.254.1.1/16 dev apitap0
	ip link set apitap0 up
fi
exec python3 "$here/apisock.py" "$dir" "$microvm" "$kernel" "$initrd" "$client" "$@"
