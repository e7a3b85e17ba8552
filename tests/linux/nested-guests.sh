#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# nested-guests.sh DIR RUN-GUEST LIST: every tiny guest of LIST on each kind of backend kvm, inside one boot of nested.sh. DIR as there.
# QEMU's emulated SVM loses state now and then (vector registers above all, one run in some twenty): who fails is run once more, and that is shown.
set -u
here=$(cd "$(dirname "$0")" && pwd)
run=$(realpath "$2")
export SMP=2 THREAD=single LIMIT=240
exec "$here/nested.sh" "$1" "
failed=0
while read -r image vcpus expected marks; do
	for backend in kvm kvm-split kvm-user; do
		name=\"\${image##*/} with \$vcpus vcpus on \$backend\"
		SECONDS=0
		for try in 1 2; do
			timeout -s KILL 70 '$run' \$backend \$image \$vcpus \$expected \$marks </dev/null
			status=\$?
			[ \$status != 0 ] && [ \$status != 77 ] || break
			echo \"again \$name: status \$status\"
		done
		case \$status in
		0) echo \"ok    \$name, \$SECONDS s\" ;;
		77) echo \"SKIP  \$name\" ;;
		*) echo \"FAIL  \$name: status \$status\"; failed=1 ;;
		esac
	done
done <'$3'
exit \$failed"
