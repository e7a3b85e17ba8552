# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's kernel, booted and spoken to over its console. KERNEL_DIR is where it is kept."""
import asyncio
import concurrent.futures
import functools
import glob
import os
import shutil
import subprocess
import sys
import time

import pytest
import virtcore

HERE = os.path.dirname(os.path.abspath(__file__))
TOOL = functools.partial(os.path.join, HERE, "../tools")
INIT = """#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
for module in $(cat /mods/order 2>/dev/null); do insmod "/mods/$module"; done
echo "init: $(nproc) cpus"
while read -r line; do
	[ "$line" = quit ] && poweroff -f
	eval "$line"
done
"""


@pytest.fixture(scope="module")
def linux(tmp_path_factory):
    """Paths of a kernel and an initial RAM disk whose init executes lines of the console."""
    directory = os.environ.get("KERNEL_DIR")
    if not directory:
        pytest.skip("KERNEL_DIR is not set")
    made = subprocess.run([os.path.join(HERE, "../linux/boot.sh"), directory, "none", "1", "none"], env=os.environ | {"PREPARE": "1"}, capture_output=True, text=True)
    if made.returncode:
        pytest.skip((made.stdout + made.stderr).strip().splitlines()[-1].removeprefix("SKIP: "))
    scratch = tmp_path_factory.mktemp("linux")
    (scratch / "init").write_text(INIT)
    subprocess.run(["sh", os.path.join(HERE, "../tools/mkinitramfs.sh"), scratch / "initrd", scratch / "init"], check=True)
    return sorted(glob.glob(os.path.join(directory, "boot", "vmlinuz-*")))[-1], scratch / "initrd"


def test_switch(linux, tmp_path):
    """The example: two guests, one of which pings the other."""
    tools = os.path.join(HERE, "../tools")
    (tmp_path / "init").write_text(INIT)
    files = subprocess.run([os.path.join(tools, "module-files.sh"), os.environ["KERNEL_DIR"], linux[0], "virtio_pci", "virtio_net"], check=True, capture_output=True, text=True)
    subprocess.run(["sh", os.path.join(tools, "mkinitramfs.sh"), tmp_path / "initrd", tmp_path / "init", *files.stdout.split()], check=True)
    example = os.path.join(HERE, "../../bindings/python/examples/switch.py")
    done = subprocess.run([sys.executable, example, linux[0], tmp_path / "initrd"], capture_output=True, text=True, timeout=200)
    assert "3 packets transmitted, 3 packets received" in done.stdout, done.stdout + done.stderr


def test_prompt(linux, tmp_path):
    """The example, as examples/python.sh starts it."""
    top = os.path.join(HERE, "../..")
    subprocess.run(["sh", os.path.join(HERE, "../tools/mkinitramfs.sh"), tmp_path / "initrd", os.path.join(top, "examples/init.sh")], check=True)
    typed = 'saved = vm.snapshot(); sh("rm -rf /bin"); vm.reset_to(saved); print(sh("expr 6 \\* 7"))\n'
    done = subprocess.run([sys.executable, "-i", os.path.join(top, "bindings/python/examples/prompt.py"), linux[0], tmp_path / "initrd"], input=typed,
                          capture_output=True, text=True, timeout=200)
    assert "booted in" in done.stdout and done.stdout.endswith("42\n\n"), done.stdout + done.stderr


def test_boot(linux):
    with virtcore.VM(memory="256M", cpus=2, backend="emu") as vm:
        vm.boot_linux(*linux, "console=ttyS0 quiet panic=-1")
        assert vm.console.expect(r"init: (\d+) cpus", timeout=120)[1] == "2"
        for turn in range(3):
            vm.console.send(f"echo $((40 + {turn}))\n")
            vm.console.expect(rf"(?m)^{40 + turn}$", timeout=60)
        vm.pause()
        assert vm.state is virtcore.State.PAUSED and "paused" in repr(vm)
        vm.resume()
        vm.console.send("quit\n")
        assert vm.wait(60) == virtcore.Poweroff()
        with pytest.raises(virtcore.ConsoleEnded):
            vm.console.expect("login:")


def test_device_of_linux(linux):
    """An MMIO device in Python that busybox reaches through /dev/mem."""
    with virtcore.VM(memory="256M", backend="emu") as vm:
        seen = []
        vm.add_mmio(0xfd000000, 0x1000, read=lambda offset, width: 0xabcd, write=lambda offset, width, value: seen.append((offset, value)))
        vm.boot_linux(*linux, "console=ttyS0 quiet panic=-1")
        vm.console.expect("init:", timeout=120)
        vm.console.send("mount -t devtmpfs dev /dev; devmem 0xfd000010 32 0x1234; echo \"got-$(devmem 0xfd000000 32)-\"\n")
        assert vm.console.expect("got-(0x[0-9A-F]*)-", timeout=60)[1] == "0x0000ABCD" and seen == [(0x10, 0x1234)]


def test_asyncio(linux):
    """Two guests in one event loop."""
    async def one(number):
        async with virtcore.aio.VM(memory="128M", backend="emu") as vm:
            vm.boot_linux(*linux, "console=ttyS0 quiet panic=-1")
            await vm.console.expect("init:", timeout=240)
            vm.console.send(f"echo =$(({number} * 2))=\nquit\n")
            await vm.console.expect(f"={number * 2}=", timeout=60)
            return await vm.wait(60)

    async def both():
        return await asyncio.gather(one(21), one(4))
    assert asyncio.run(both()) == [virtcore.Poweroff()] * 2


def test_example(linux):
    """examples/boot_linux.py"""
    example = os.path.join(HERE, "../../bindings/python/examples/boot_linux.py")
    done = subprocess.run([sys.executable, example, *linux, "init:", "quit"], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and done.stdout.endswith("Poweroff(vcpu=0)\n") and "init: 2 cpus" in done.stdout


@pytest.fixture(scope="module")
def full_kernel():
    """Debian's full kernel, for the cloud kernel has neither 9P nor graphics."""
    got = subprocess.run([TOOL("get-kernel.sh"), os.environ["KERNEL_DIR"] + "-full", "amd64"], capture_output=True, text=True)
    if got.returncode:
        pytest.skip("no full Debian kernel: " + got.stderr.strip())
    return got.stdout.strip()


def test_run(full_kernel, tmp_path):
    """Commands in vms of their own, two at a time."""
    if not os.path.exists(os.path.join(os.path.dirname(virtcore.command._microvm()), "guest-init")):
        pytest.skip("the guest's init is not built: there is no static libc")
    (tmp_path / "bin").mkdir()
    shutil.copy(shutil.which("busybox"), tmp_path / "bin/sh")
    tmp_path.chmod(0o755)
    for name in ("cat", "sleep"):
        (tmp_path / "bin" / name).symlink_to("sh")
    (tmp_path / "file").write_bytes(b"of the host")

    def run(*argv, **options):
        return virtcore.run(argv, tmp_path, kernel=full_kernel, backend="emu", **options)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        streams = pool.submit(run, "sh", "-c", "cat; echo $WORD $PWD >&2; printf '\\0\\r\\n\\377'; exit 3", input=b"in\0put\n", env={"WORD": "a 'b'"}, cwd="/bin", timeout=240)
        killed = pool.submit(run, "sh", "-c", "read -r x </file; echo $x; echo changed >/file; kill -9 $$", user="5:6", writable=True, memory="256M")
        missing = pool.submit(run, "nothing", network=True, cpus=2)
        checked = pool.submit(run, "sh", "-c", "exit 7", check=True)
        late = pool.submit(run, "sleep", "1000", timeout=0.5)
    done = streams.result()
    assert (done.returncode, done.stdout, done.stderr) == (3, b"in\0put\n\0\r\n\xff", b"a 'b' /bin\n") and done.args[:2] == ["sh", "-c"]
    done = killed.result()
    assert (done.returncode, done.stdout) == (-9, b"of the host\n") and b"Permission denied" in done.stderr
    done = missing.result()
    assert (done.returncode, done.stderr) == (127, b"microvm: cannot run nothing: No such file or directory\n")
    with pytest.raises(subprocess.CalledProcessError):
        checked.result()
    with pytest.raises(subprocess.TimeoutExpired):
        late.result()
    for options, what in (({"user": "nobody"}, "no user nobody"), ({"kernel": tmp_path / "file"}, "--modules")):
        with pytest.raises(virtcore.RunError, match=what):
            virtcore.run(["sh"], tmp_path, **{"kernel": full_kernel, "backend": "emu", **options})
    with pytest.raises(ValueError):
        run("sh", env={"a=b": "c"})


def test_screen(full_kernel, tmp_path):
    """What Debian's kernel draws through virtio-gpu."""
    numpy = pytest.importorskip("numpy")
    files = subprocess.run([TOOL("module-files.sh"), os.environ["KERNEL_DIR"] + "-full", full_kernel, "virtio_pci", "virtio-gpu", "virtio_input", "evdev"], check=True,
                           capture_output=True, text=True).stdout.split()
    subprocess.run(["sh", TOOL("mkinitramfs.sh"), tmp_path / "initrd", os.path.join(HERE, "../linux/display-init.sh"), *files], check=True)
    drawn = "".join(f"{number}\n" for number in range(400000)).encode()
    expected = numpy.frombuffer(drawn[2:2 + 640 * 480 * 4], "u1").reshape(480, 640, 4)[:, :, :3]
    with virtcore.VM(memory="384M", backend="emu") as vm:
        vm.add_device("virtio-gpu", width=640, height=480)
        for kind in ("keyboard", "mouse", "tablet"):
            vm.add_device("virtio-" + kind)
        vm.boot_linux(full_kernel, tmp_path / "initrd", "console=ttyS0 quiet panic=-1 vt.global_cursor_default=0")
        vm.console.expect("display: drawn", timeout=240)
        for _ in range(300):  # the driver flushes a little later
            if (numpy.asarray(vm.display().copy())[:, :, :3] == expected).all():
                break
            time.sleep(0.1)
        else:
            pytest.fail("another picture")
        assert vm.display().png().startswith(b"\x89PNG") and "<img" in vm._repr_html_() and "640x480" in repr(vm.display())
        vm.console.expect("listening", timeout=60)
        vm.input("keyboard").press("shift", "a")
        vm.console.expect("display: keyboard 1 42 1\n(?s:.*)display: keyboard 1 42 0\n", timeout=60)
