#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# manual.sh PAGE...: the manual pages are well-formed, and what they say can be read.
command -v mandoc >/dev/null || { echo "SKIP: mandoc is not installed"; exit 77; }
for page in "$@"; do
	mandoc -T lint -W warning "$page" || exit 1
	[ "$(mandoc -T ascii "$page" | wc -l)" -gt 15 ] || { echo "$page: says nothing"; exit 1; }
done
