#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""disk.py DIR KERNEL-DIR MICROVM raw|qcow2 [PROPERTIES]
A Debian root file system on virtio-blk boots to a login prompt; root logs in, has an address by DHCP, fetches a file from this host by HTTP, installs a
package from a mirror here and powers the machine off; all of it is there at the next boot. The file system is clean then, fsck finds nothing; as
qcow2 the disk is an overlay over one that stays as it was. PROPERTIES are those of both devices. 77, with the reason, where packages cannot be had."""
import functools
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = os.path.join(os.path.dirname(HERE), "tools")
sys.path.insert(0, TOOLS)
from console import Console, Failed  # noqa: E402

HOST = "10.7.0.2"  # as the guest sees it
NEEDED = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "busybox": "busybox-static", "cpio": "cpio", "modprobe": "kmod", "qemu-img": "qemu-utils"}


def skip(why):
    print("SKIP:", why)
    sys.exit(77)


def output(*command):
    """What a tool says; the test is skipped when the tool says that something cannot be had."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode in (1, 77):
        skip(f"{os.path.basename(command[1])}: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    if done.returncode:
        raise Failed(f"{' '.join(command)}: status {done.returncode}: {done.stderr}")
    return done.stdout.strip()


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


def serve(directory):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=directory))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def must(guest, command, pattern="", timeout=None):
    status, out = guest.run(command, timeout)
    match = re.search(pattern, out)
    if status or not match:
        raise Failed(f"{command!r} in the guest: status {status}, expected 0 and {pattern!r}:\n{out}")
    return match


def log_in(guest):
    guest.expect("debian login: ")
    guest.type("root")
    guest.expect("Password: ")
    guest.type("virtcore")
    guest.expect("root@debian:~# ")
    guest.shell()


def power_off(guest):
    guest.type("systemctl poweroff")
    status = guest.wait()
    if status:
        raise Failed(f"microvm ended with {status}, expected 0:\n{guest.tail()}")
    trouble = re.search(r".*(BUG:|WARNING:|Oops|Call Trace|soft lockup|I/O error|EXT4-fs error|EXT4-fs warning|\[FAILED\]).*", guest.text())
    if trouble:
        raise Failed(f"the console says: {trouble.group(0)}")


def first_boot(guest, port, data):
    log_in(guest)
    must(guest, "cat /etc/debian_version", r"^12\.")
    must(guest, "for i in $(seq 300); do ip -4 -o addr show scope global | grep inet && break; sleep .2; done", r"inet 10\.7\.0\.15/24")
    with open(os.path.join(data, "file"), "rb") as f:
        sha256 = hashlib.sha256(f.read()).hexdigest()
    must(guest, f"/usr/lib/apt/apt-helper download-file http://{HOST}:{port}/file /root/file")
    must(guest, "sha256sum /root/file", sha256)
    must(guest, f"echo 'deb [trusted=yes] http://{HOST}:{port}/mirror/ ./' >/etc/apt/sources.list")
    must(guest, "apt-get -q update")
    must(guest, "apt-get -q -y install hello", "Setting up hello")
    must(guest, "hello", "Hello, world!")
    power_off(guest)
    return sha256


def second_boot(guest, sha256):
    log_in(guest)
    must(guest, "hello", "Hello, world!")
    must(guest, "dpkg --verify hello && dpkg --audit")
    must(guest, "sha256sum /root/file", sha256)
    power_off(guest)


def check_disk(disk, image, work):
    """disk: as the guest had it."""
    if image == "qcow2":
        done = subprocess.run(["qemu-img", "check", disk], capture_output=True, text=True)
        if done.returncode or "No errors were found" not in done.stdout:
            raise Failed(f"qemu-img check: {done.stdout}{done.stderr}")
        raw = os.path.join(work, "raw")
        subprocess.run(["qemu-img", "convert", "-O", "raw", disk, raw], check=True)
        disk = raw
    fsck = subprocess.run(["e2fsck", "-fn", disk], capture_output=True, text=True)
    head = subprocess.run(["dumpe2fs", "-h", disk], capture_output=True, text=True).stdout
    if fsck.returncode or "needs_recovery" in head or not re.search(r"^Filesystem state: +clean$", head, re.M):
        raise Failed(f"e2fsck -fn: status {fsck.returncode}: {fsck.stdout}{fsck.stderr}{head}")


def test(directory, kernel_dir, microvm, image, more, work):
    kernel = output("sh", os.path.join(TOOLS, "get-kernel.sh"), kernel_dir)
    with open(os.path.join(TOOLS, "make-disk.sh"), "rb") as make, open(os.path.join(TOOLS, "disk-init.sh"), "rb") as init:
        directory += f"-{zlib.crc32(make.read() + init.read()):08x}"  # another recipe, another disk
    output("bash", os.path.join(TOOLS, "make-disk.sh"), directory, kernel, kernel_dir)
    base, disk = os.path.join(os.path.abspath(directory), "disk.raw"), os.path.join(work, "disk")
    before = os.stat(base).st_mtime_ns
    if image == "raw":
        subprocess.run(["cp", "--sparse=always", base, disk], check=True)
    else:
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", disk], check=True)
    data = os.path.join(work, "data")
    os.mkdir(data)
    os.symlink(os.path.abspath(os.path.join(directory, "mirror")), os.path.join(data, "mirror"))
    with open(os.path.join(data, "file"), "wb") as f:
        f.write(os.urandom(3000000))
    port = serve(data)
    command = [microvm, "--backend", "emu", "--kernel", kernel, "--initrd", os.path.join(directory, "initrd.gz"), "--cmdline", "console=ttyS0 root=/dev/vda",
               "--memory", "512M", "--cpus", "2", "--timeout", "400", "--device", f"virtio-blk,image={disk},format={image}{more}",
               "--device", f"virtio-net,net=user,subnet=10.7.0.0/24{more}"]
    start = time.monotonic()
    times = []
    for boot in (lambda guest: first_boot(guest, port, data), lambda guest: second_boot(guest, sha256)):
        guest = Console(command, 180)
        try:
            sha256 = boot(guest)
        finally:
            guest.close()
        times.append(f"{time.monotonic() - start:.0f} s")
        check_disk(disk, image, work)
    if os.stat(base).st_mtime_ns != before:
        raise Failed(f"{base} was written")
    print(f"disk.py {image}: login, DHCP, HTTP, a package, clean after two boots ({', '.join(times)})")


def main():
    directory, kernel_dir, microvm, image, *more = sys.argv[1:]
    missing = [f"{tool} (Debian: {package})" for tool, package in NEEDED.items() if not shutil.which(tool)]
    if missing:
        skip("not installed: " + ", ".join(missing))
    with tempfile.TemporaryDirectory() as work:
        try:
            test(directory, kernel_dir, microvm, image, "".join(f",{one}" for one in more), work)
        except Failed as e:
            sys.exit(f"disk.py {image}: {e}")


main()
