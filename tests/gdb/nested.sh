#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# nested.sh DIR MICROVM GUEST API-GDB: gdb.py and the API's test of the stub, and of debugging, on backend kvm inside tests/linux/nested.sh, whose
# /dev/kvm is a standard one with debug registers.
set -u
here=$(cd "$(dirname "$0")" && pwd)
command -v gdb >/dev/null || { echo "SKIP: gdb is not installed (Debian: gdb)"; exit 77; }
microvm=$(realpath "$2") guest=$(realpath "$3") api=$(realpath "$4")
export SMP=2 MEM=1536
exec "$here/../linux/nested.sh" "$1" "
failed=0
CK_DEFAULT_TIMEOUT=200 timeout 200 '$api' || failed=1
timeout 250 python3 -B '$here/gdb.py' '$microvm' kvm '$guest' || failed=1
exit \$failed"
