#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# deb.sh KERNELS: Debian's source package and the binary ones from this tree, of which lintian says no error, and which do what they are for in a Debian
# that has nothing else of us. KERNELS: where the full kernel is kept. 77 where the tools are missing.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
kernels=$1
skip() { echo "SKIP: $*"; exit 77; }
for tool in dpkg-buildpackage lintian dh doxygen; do
	command -v "$tool" >/dev/null || skip "$tool is not installed (Debian: dpkg-dev, debhelper, dh-python, lintian, doxygen)"
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/libvirtcore-0.1.0"
(cd "$top" && git ls-files -z | xargs -0 tar c) | tar x -C "$work/libvirtcore-0.1.0"
cd "$work/libvirtcore-0.1.0" || exit 1
missing=$(dpkg-checkbuilddeps 2>&1) || skip "$missing"
DEB_BUILD_OPTIONS="parallel=2 nocheck noddebs" dpkg-buildpackage -us -uc >"$work/log" 2>&1 || { tail -n 40 "$work/log"; exit 1; }
cd "$work" || exit 1
lintian --allow-root --fail-on error --suppress-tags bad-distribution-in-changes-file,initial-upload-closes-no-bugs ./*.changes || exit 1
has() { # has PACKAGE PATTERN...
	local package=$1 list pattern
	list=$(dpkg-deb --contents "$package"_*.deb | awk '{print $6}')
	shift
	for pattern in "$@"; do
		grep -qE "$pattern" <<<"$list" || { echo "$package has no $pattern"; exit 1; }
	done
}
has libvirtcore0 'libvirtcore\.so\.0\.'
has libvirtcore-dev 'include/virtcore/vm\.h' 'libvirtcore\.pc' 'libvirtcore\.so$' 'html/index\.html' 'man3/libvirtcore\.3' 'guide/embedding\.md'
has python3-virtcore 'dist-packages/virtcore/vm\.py' '_virtcore.*\.so'
has virtcore-tools 'bin/microvm$' 'man1/microvm\.1' 'libexec/virtcore/guest-init$'
ls ./*.deb ./*.dsc

# each package in use, in a Debian of its own
[ "$(id -u)" = 0 ] && command -v mmdebstrap >/dev/null || skip "the packages are good, but were not installed: that needs root and mmdebstrap"
kernel=$(sh "$top/tests/tools/get-kernel.sh" "$kernels" amd64) || skip "the packages are good, but there is no kernel to try microvm run with"
# what is mounted for it goes with its namespace, however it ends
unshare --mount bash -eu -s "$kernel" "$top/tests/install/deb-use.sh" <<'END'
mmdebstrap --quiet --mode=root --dpkgopt=force-unsafe-io --variant=apt --include=gcc,libc6-dev,pkg-config,man-db --customize-hook='cp ./*.deb "$1/tmp"' \
	--customize-hook='chroot "$1" sh -c "apt-get install -qq -y --no-install-recommends /tmp/*.deb" >log 2>&1 || { tail log; false; }' bookworm root </dev/null
share=root/root/.local/share/virtcore
mkdir -p "$share/boot" "$share/lib"
cp "$1" "$share/boot/"
ln -s /mnt "$share/lib/modules"
mount --bind "$(dirname "$1")/../lib/modules" root/mnt
mount -t proc proc root/proc
mount --rbind /dev root/dev
cp "$2" root/tmp/use.sh
chroot root env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root sh /tmp/use.sh </dev/null
END
