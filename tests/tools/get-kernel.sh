#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# get-kernel.sh DIR [FLAVOUR [SUITE]]
# Fetches Debian's newest cloud kernel, or one of another flavour ("amd64": the full one), with `apt-get download`, unpacks it under DIR, one flavour a
# directory, makes its list of modules (depmod), and prints the path of its vmlinuz. Nothing is installed; what DIR already has is used again. SUITE: of
# Debian's that apt need not know ("bookworm-backports"), whose lists are kept in DIR; a directory is of one suite.
set -eu
dir=$1 flavour=${2:-cloud-amd64} suite=${3:-}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
found=$(ls "$dir"/boot/vmlinuz-*-"$flavour" 2>/dev/null | sort -V | tail -n 1)
if [ -z "$found" ]; then
	if [ -n "$suite" ]; then
		mkdir -p "$dir/apt/lists/partial" "$dir/apt/archives/partial"
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" >"$dir/apt/sources.list"
		cat >"$dir/apt/apt.conf" <<-END
			Dir::Etc::SourceList "$dir/apt/sources.list";
			Dir::Etc::SourceParts "/dev/null";
			Dir::State::lists "$dir/apt/lists";
			Dir::Cache "$dir/apt";
		END
		export APT_CONFIG="$dir/apt/apt.conf"
		apt-get -qq update >&2
	fi
	package=$(apt-cache depends "linux-image-$flavour" 2>/dev/null | sed -n "s/.*Depends: \(linux-image-.*-$flavour\).*/\1/p" | tail -n 1)
	if [ -z "$package" ]; then
		echo "get-kernel.sh: apt knows no linux-image-$flavour; run: apt-get update" >&2
		exit 1
	fi
	echo "Fetching $package" >&2
	(cd "$dir" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$package" >&2 && dpkg -x "$package"_*.deb . && rm -f "$package"_*.deb)
	found=$(ls "$dir"/boot/vmlinuz-*-"$flavour" | sort -V | tail -n 1)
fi
version=${found##*/vmlinuz-} PATH=$PATH:/usr/sbin:/sbin
[ -f "$dir/lib/modules/$version/modules.dep" ] || ! command -v depmod >/dev/null || depmod -b "$dir" "$version"
echo "$found"
