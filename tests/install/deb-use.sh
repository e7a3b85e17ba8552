#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs in the Debian of deb.sh, where the packages are installed: what each of them is for.
fail() { echo "FAIL  $*"; exit 1; }
cd /tmp || exit 1
cc /usr/share/doc/libvirtcore-dev/examples/raw-code.c $(pkg-config --cflags --libs libvirtcore) -o raw && ./raw | grep -q 'wrote 42' || fail "libvirtcore-dev: a program"
man 3 libvirtcore | grep -q LIBVIRTCORE || fail "libvirtcore-dev: the manual page"
[ -f /usr/share/doc/libvirtcore-dev/guide/embedding.md ] || fail "libvirtcore-dev: the guide"
echo "ok    libvirtcore0, libvirtcore-dev"
microvm --help | grep -q -- --kernel || fail "virtcore-tools: microvm --help"
man microvm | grep -q MICROVM || fail "virtcore-tools: the manual page"
man microvm-run | grep -q ROOTFS || fail "virtcore-tools: the manual page of microvm run"
said=$(timeout 200 microvm run --backend emu / -- sh -c 'cat /etc/debian_version; cat /proc/1/cmdline | tr -d "\000"; exit 7')
[ $? = 7 ] || fail "virtcore-tools: the exit status of microvm run: $said"
[ "$said" = "$(cat /etc/debian_version)
/init" ] || fail "virtcore-tools: microvm run said: $said"
echo "ok    virtcore-tools"
python3 -c 'import virtcore; print(virtcore.VM(machine="none", memory="2M"))' || fail "python3-virtcore: import"
python3 /usr/share/doc/python3-virtcore/examples/raw_code.py || fail "python3-virtcore: an example"
python3 - <<'PY' || fail "python3-virtcore: virtcore.run()"
import virtcore
done = virtcore.run(["sh", "-c", "cat; uname -r >&2"], rootfs="/", backend="emu", input=b"through\n", timeout=200)
assert (done.returncode, done.stdout) == (0, b"through\n"), done
assert done.stderr.strip(), done
PY
echo "ok    python3-virtcore"
