#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""load.py KERNEL-DIR PROGRAM disk|9p|switch|socket|user|tap|passt [PROPERTIES]
A booted Linux puts a device under load. disk: fio with checksums of all it reads back, on a raw image and a qcow2 one at once, with discards between;
qemu-img check after it. 9p: fio likewise and a tree of files, in a directory of this host. The others: iperf3 both ways over that backing of virtio-net, to
another guest or to this host. PROGRAM is microvm; for switch pair.c. 77, with the reason, where something is missing."""
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = os.path.join(os.path.dirname(HERE), "tools")
sys.path.insert(0, TOOLS)
from console import Console, Failed  # noqa: E402

VERIFY = "--verify=crc32c --verify_fatal=1 --do_verify=1 --randrepeat=0 --group_reporting --thread --minimal"
READY = "tools: ready"


def skip(why):
    print("SKIP:", why)
    sys.exit(77)


def tool(shell, name, *arguments):
    done = subprocess.run([shell, os.path.join(TOOLS, name), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        skip(f"{name}: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return done.stdout.strip()


def must(guest, command, timeout=150):
    status, out = guest.run(command, timeout)
    if status:
        raise Failed(f"{command!r} in the guest: status {status}:\n{out[-1500:]}")
    return out


class Test:
    def __init__(self, kernel_dir, program, kind, more, work):
        self.program, self.kind, self.more, self.work = program, kind, more, work
        self.kernel = tool("sh", "get-kernel.sh", kernel_dir, *(["amd64"] if kind == "9p" else []))
        self.initrd = tool("bash", "make-tools.sh", kernel_dir, self.kernel, kernel_dir, "fio", "iperf3")
        self.ended = []  # to be ended

    def start(self, command, **options):
        console = Console(command, 120, **options)
        self.ended.append(console)
        console.expect(READY)
        return console

    def microvm(self, cmdline, *devices, cpus=1):
        arguments = [self.program, "--backend", "emu", "--kernel", self.kernel, "--initrd", self.initrd, "--memory", "768M", "--cpus", str(cpus), "--timeout", "400",
                     "--cmdline", f"console=ttyS0 quiet panic=-1 {cmdline}"]
        for device in devices:
            arguments += ["--device", device + self.more]
        return self.start(arguments)

    def helper(self, *command):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.ended.append(process)
        return process

    def close(self):
        for one in self.ended:
            if isinstance(one, Console):
                one.close()
            else:
                one.terminate()
                one.wait()

    def end(self, guest):
        guest.type("poweroff -f")
        status = guest.wait()
        trouble = re.search(r".*(BUG:|WARNING:|Oops|Call Trace|soft lockup|I/O error|NETDEV WATCHDOG).*", guest.text())
        if status or trouble:
            raise Failed(f"the program ended with {status}, expected 0; {trouble.group(0) if trouble else ''}\n{guest.tail()}")

    # ---- disks, files ----

    def disk(self):
        raw, qcow2 = (os.path.join(self.work, name) for name in ("raw", "qcow2"))
        with open(raw, "wb") as f:
            f.truncate(64 << 20)
        if not shutil.which("qemu-img"):
            skip("qemu-img is not installed (Debian: qemu-utils)")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", qcow2, "64M"], check=True)
        guest = self.microvm("", f"virtio-blk,image={raw},format=raw", f"virtio-blk,image={qcow2},format=qcow2", cpus=2)
        for jobs in ("--rw=randwrite --bsrange=512-64k --bs_unaligned=0 --iodepth=16", "--rw=randwrite --bs=4k --iodepth=32", "--rw=write --bs=128k --iodepth=8"):
            must(guest, f"fio --ioengine=libaio --direct=1 --size=48M --fsync=200 {VERIFY} {jobs} --name=raw --filename=/dev/vda --name=qcow2 --filename=/dev/vdb")
            must(guest, "blkdiscard -o 1048576 -l 20971520 /dev/vda && blkdiscard -o 1048576 -l 20971520 /dev/vdb")
        must(guest, "dd if=/dev/urandom of=/dev/vda bs=1M count=32 oflag=direct && dd if=/dev/vda of=/dev/vdb bs=1M count=64 iflag=direct oflag=direct")
        self.end(guest)
        done = subprocess.run(["qemu-img", "check", qcow2], capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"qemu-img check: {done.stdout}{done.stderr}")
        done = subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, qcow2], capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"qemu-img compare: {done.stdout}{done.stderr}")
        return "three loads with checksums on two disks"

    def p9(self):
        share = os.path.join(self.work, "share")
        os.mkdir(share)
        guest = self.microvm("", f"virtio-9p,tag=share,path={share}", cpus=2)
        must(guest, "mkdir /mnt && mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 share /mnt && cd /mnt")
        must(guest, f"fio --ioengine=psync --size=16M --numjobs=2 --bsrange=1k-64k --rw=randwrite --directory=/mnt --name=files {VERIFY}")
        must(guest, f"fio --ioengine=psync --size=16k --nrfiles=1 --numjobs=8 --bs=1k --rw=randrw --directory=/mnt --fsync=4 --name=small {VERIFY}")
        must(guest, "for d in $(seq 8); do mkdir -p tree/$d && for f in $(seq 25); do echo $d $f >tree/$d/$f; done; done; cp -a tree copy && diff -r tree copy")
        must(guest, "for d in $(seq 8); do mv tree/$d tree/moved$d && ln copy/$d/1 tree/link$d && ln -s moved$d tree/symlink$d; done; rm -r copy && [ $(find tree -type f | wc -l) = 208 ]")
        must(guest, "cd / && umount /mnt")
        self.end(guest)
        found = subprocess.run(["sh", "-c", "cat tree/moved*/* | sort | sha256sum; for d in $(seq 8); do for f in $(seq 25); do echo $d $f; done; done | sort | sha256sum"],
                               cwd=share, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=True).stdout.split()
        if found[0] != found[2]:
            raise Failed("the host finds other files than the guest has written")
        return "loads with checksums and a tree of files"

    # ---- networks ----

    def iperf(self, guest, server, options=""):
        rates = []
        for way in ("", "-R"):
            out = must(guest, f"iperf3 -c {server} -t 2 -f m {options} {way}", 90)
            rate = re.search(r"([\d.]+) Mbits/sec\s.*receiver", out)
            if not rate or float(rate.group(1)) <= 0:
                raise Failed(f"iperf3 {way}: nothing came over: {out}")
            rates.append(rate.group(1))
        self.end(guest)
        return f"iperf3 {rates[0]} and {rates[1]} Mbit/s"

    def host_server(self, address):
        with socket.socket() as s:
            s.bind((address, 0))
            port = s.getsockname()[1]
        if not shutil.which("iperf3"):
            skip("iperf3 is not installed")
        self.helper("iperf3", "-s", "-B", address, "-p", str(port))
        return f"-p {port}"

    def switch(self):
        guest = self.start([self.program, self.kernel, self.initrd, "768", "10.6.0", "iperf3,-s,-D", *([self.more[1:]] if self.more else [])],
                           stderr=subprocess.DEVNULL)  # what the first guest says
        must(guest, "until iperf3 -c 10.6.0.1 -n 1K >/dev/null 2>&1; do usleep 200000; done")
        return self.iperf(guest, "10.6.0.1")

    def socket(self):
        address = f"unix:{self.work}/net"
        first = self.microvm("address=10.6.0.1/24 run=iperf3,-s,-D", f"virtio-net,net=socket,listen=on,socket={address}")
        guest = self.microvm("address=10.6.0.2/24", f"virtio-net,net=socket,socket={address}")
        must(guest, "until iperf3 -c 10.6.0.1 -n 1K >/dev/null 2>&1; do usleep 200000; done")
        rates = self.iperf(guest, "10.6.0.1")
        self.end(first)
        return rates

    def user(self):
        options = self.host_server("127.0.0.1")
        return self.iperf(self.microvm("address=10.7.0.15/24", "virtio-net,net=user,subnet=10.7.0.0/24"), "10.7.0.2", options)

    def setup(self, what, *commands):
        for command in commands:
            done = subprocess.run(command.split(), capture_output=True, text=True)
            if done.returncode:
                skip(f"no permission for a {what}: {command}: {done.stderr.strip()}")

    def tap(self):
        self.setup("tap", "ip link set lo up", "ip link add br0 type bridge", "ip addr add 10.8.0.1/24 dev br0", "ip link set br0 up", "ip tuntap add tap0 mode tap")
        options = self.host_server("10.8.0.1")
        return self.iperf(self.microvm("address=10.8.0.2/24", "virtio-net,net=tap,ifname=tap0,bridge=br0"), "10.8.0.1", options)

    def passt(self):
        if not shutil.which("passt"):
            skip("passt is not installed")
        # it copies the address of an interface with a default route
        self.setup("veth", "ip link set lo up", "ip link add up0 type veth peer name far0", "ip addr add 10.9.0.2/24 dev up0", "ip link set up0 up",
                   "ip link set far0 up", "ip route add default via 10.9.0.1")
        options = self.host_server("0.0.0.0")
        path = os.path.join(self.work, "passt")
        os.chmod(self.work, 0o755)
        self.helper("passt", "-f", "--socket", path, "--runas", "0")
        # microvm calls again until it is there
        return self.iperf(self.microvm("address=10.9.0.2/24", f"virtio-net,net=socket,socket=unix:{path},reconnect=100"), "10.9.0.1", options)


def main():
    kernel_dir, program, kind, *more = sys.argv[1:]
    if kind in ("tap", "passt") and "IN_NAMESPACE" not in os.environ:
        if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
            skip("no permission for a network namespace")
        if not os.path.exists("/dev/net/tun"):
            skip("there is no /dev/net/tun")
        os.execvpe("unshare", ["unshare", "--net", sys.executable, *sys.argv], {**os.environ, "IN_NAMESPACE": "1"})
    with tempfile.TemporaryDirectory() as work:
        test = Test(kernel_dir, program, kind, "".join(f",{one}" for one in more), work)
        try:
            print(f"load.py {kind}:", getattr(test, {"9p": "p9"}.get(kind, kind))())
        except Failed as e:
            sys.exit(f"load.py {kind}: {e}")
        finally:
            test.close()


main()
