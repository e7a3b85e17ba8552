# SPDX-License-Identifier: LGPL-2.1-or-later
# Sourced: need PACKAGE... installs what is missing of Debian's packages as root, else says the exact line and stops.
# Words in brackets, "[package]", are wished for only: without them something is skipped, visibly.

need() {
	missing= wished=
	for package in "$@"; do
		case $package in
		\[*\]) package=${package#\[}; package=${package%\]}; kind=wished ;;
		*) kind=missing ;;
		esac
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' && continue
		eval "$kind=\"\$$kind $package\""
	done
	[ -n "$missing$wished" ] || return 0
	if [ "$(id -u)" != 0 ]; then
		echo "Needed packages are not installed. As root, run:" >&2
		echo "    apt-get install --no-install-recommends$missing$wished" >&2
		[ -z "$missing" ] && return 0
		exit 1
	fi
	echo "Installing:$missing$wished"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	if ! apt-get install -qq -y --no-install-recommends $missing $wished >/dev/null; then
		[ -z "$missing" ] || apt-get install -qq -y --no-install-recommends $missing >/dev/null || exit 1
		echo "Could not install all of:$wished" >&2
	fi
}
