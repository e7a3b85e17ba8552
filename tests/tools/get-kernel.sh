#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# get-kernel.sh DIR
# Fetches Debian's newest cloud kernel with `apt-get download`, unpacks it under DIR and prints the path of its vmlinuz. Nothing is installed;
# what DIR already has is used again.
set -eu
dir=$1
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
found=$(ls "$dir"/boot/vmlinuz-*-cloud-amd64 2>/dev/null | sort -V | tail -n 1)
if [ -z "$found" ]; then
	package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-.*-cloud-amd64\).*/\1/p' | tail -n 1)
	if [ -z "$package" ]; then
		echo "get-kernel.sh: apt knows no linux-image-cloud-amd64; run: apt-get update" >&2
		exit 1
	fi
	echo "Fetching $package" >&2
	(cd "$dir" && apt-get -qq download "$package" >&2 && dpkg -x "$package"_*.deb . && rm -f "$package"_*.deb)
	found=$(ls "$dir"/boot/vmlinuz-*-cloud-amd64 | sort -V | tail -n 1)
fi
echo "$found"
