# SPDX-License-Identifier: LGPL-2.1-or-later
# Sourced by the examples: build_with [OPTION...] builds in build-quickstart, which they share, with further options of meson's.

build=build-quickstart
build_with() {
	if [ ! -f $build/build.ninja ]; then
		meson setup $build -Dbuildtype=release -Dtests=disabled "$@" >/dev/null
	elif [ $# != 0 ]; then
		meson configure $build "$@"
	fi
	echo "Building in $build"
	ninja -C $build >/dev/null || ninja -C $build
}
