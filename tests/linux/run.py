#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""run.py DIR MICROVM user|none: `microvm run`, as a user meets it, with a root of busybox and Debian's full kernel, which is kept in DIR. Exit status 77 where there is
none to be had. none: a build without libslirp."""
import concurrent.futures
import fcntl
import os
import pty
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
KERNELS, MICROVM, NET = sys.argv[1], os.path.abspath(sys.argv[2]), sys.argv[3]
PATIENCE = 200
failures = []


def skip(why):
    print("SKIP: " + why)
    sys.exit(77)


def check(name, good, detail=""):
    print(("ok    " if good else "FAIL  ") + name + ("" if good else f": {str(detail)[:1500]}"), flush=True)
    if not good:
        failures.append(name)


def command(*options, root, argv=()):
    return [MICROVM, "run", "--backend", "emu", *options, root, "--", *argv]


def run(*argv, options=(), root=None, input=None, environment=None):
    return subprocess.run(command(*options, root=root or ROOT, argv=argv), input=input, stdin=None if input is not None else subprocess.DEVNULL, capture_output=True,
                          timeout=PATIENCE, env=environment)


def make_root(path, secret):
    """A root of busybox alone, with links that lead out of it."""
    for name in ("bin", "etc", "home/guest"):
        os.makedirs(os.path.join(path, name))
    shutil.copy(shutil.which("busybox"), os.path.join(path, "bin/busybox"))
    for applet in ("sh", "cat", "tee", "id", "pwd", "ls", "sleep", "nc", "stty", "tty", "head", "yes", "hostname", "readlink", "chmod", "mkdir"):
        os.symlink("busybox", os.path.join(path, "bin", applet))
    for name, text in (("etc/passwd", "root:x:0:0::/root:/bin/sh\nguest:x:1000:1001::/home/guest:/bin/sh\n"), ("etc/group", "root:x:0:\nguest:x:1001:\nmore:x:77:guest\n"),
                       ("file", "of the host\n"), ("bin/broken", "#!/nothing/here\n")):
        with open(os.path.join(path, name), "w") as file:
            file.write(text)
    os.chmod(os.path.join(path, "bin/broken"), 0o755)
    os.symlink(secret, os.path.join(path, "absolute"))
    os.symlink("../" * 20 + secret[1:], os.path.join(path, "relative"))
    return path


def listing(path):
    """All that is in a directory: names, modes, contents."""
    found = {}
    for where, directories, files in os.walk(path):
        for name in directories + files:
            whole = os.path.join(where, name)
            info = os.lstat(whole)
            content = open(whole, "rb").read() if os.path.isfile(whole) and not os.path.islink(whole) else b""
            found[os.path.relpath(whole, path)] = (info.st_mode, info.st_uid, info.st_mtime_ns, content)
    return found


def test_command():
    """One command that looks around; the root is as it was."""
    before = listing(ROOT)
    script = f"""
        echo out; echo err >&2; pwd; id; hostname; echo "$WORD|$TAKEN|$HOME"
        cat /file; echo changed >/file; cat /file; echo new >/new; chmod 600 /bin/broken; cat /new
        cat /absolute /relative; mkdir -p {os.path.dirname(SECRET)}; echo written >/absolute; cat /relative
        ls /sys/class/net; readlink /proc/self/exe; echo again >/dev/stderr; ls -d /proc/1 /dev/null /tmp /dev/shm
        echo leaked >/tmp/x || echo no tmp
        sleep 1000 & exit 42"""
    options = ["--workdir", "/home/guest", "--env", "WORD=a 'b' =c", "-e", "TAKEN", "--env", "NOTHING", "--hostname", "here"]
    done = run("sh", "-c", script, options=options, environment={**os.environ, "TAKEN": "from here"})
    out = done.stdout.decode().splitlines()
    check("exit status", done.returncode == 42, done)
    check("streams, directory, user, name, environment", out[:5] == ["out", "/home/guest", "uid=0(root) gid=0(root)", "here", "a 'b' =c|from here|/root"], done)
    check("writing to the layer", out[5:8] == ["of the host", "changed", "new"], done)
    check("links stay inside", b"secret" not in done.stdout and "written" in out and open(SECRET).read() == "secret", done)
    check("no network", "lo" in out and "eth0" not in out, done)
    check("what a system has", out[-4:] == ["/dev/null", "/dev/shm", "/proc/1", "/tmp"], done)
    errors = done.stderr.decode().splitlines()
    check("standard error apart", errors[0] == "err" and errors[-1] == "again" and not any("microvm" in line for line in errors), done)
    check("the host's directory is untouched", listing(ROOT) == before)


def test_bytes():
    """1 MB of all bytes through all streams."""
    data = random.Random(1).randbytes(1 << 20)
    done = run("tee", "/dev/stderr", input=data)
    check("1 MB from input to output", done.returncode == 0 and done.stdout == data, (done.returncode, len(done.stdout)))
    check("1 MB from input to error", done.stderr == data, len(done.stderr))


def wait_until_ready(pid):
    """microvm takes signals itself: they are blocked."""
    blocked = 0
    while not blocked >> signal.SIGINT - 1 & 1:
        time.sleep(0.01)
        with open(f"/proc/{pid}/status") as status:
            blocked = next(int(line.split()[1], 16) for line in status if line.startswith("SigBlk"))


def test_signals():
    """One that the command takes, then one that ends it."""
    script = "trap 'echo taken; kill -SEGV $$' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(command(root=ROOT, argv=["sh", "-c", script]), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=PATIENCE)[0]
        check("signals in and out", (first, rest, process.returncode) == (b"ready\n", b"taken\n", 128 + signal.SIGSEGV), (first, rest, process.returncode))
    with subprocess.Popen(command(root=ROOT, argv=["sleep", "1000"]), stdin=subprocess.DEVNULL) as process:
        wait_until_ready(process.pid)
        process.send_signal(signal.SIGINT)
        check("a signal before the command is there", process.wait(PATIENCE) == 128 + signal.SIGINT, process.returncode)


def test_time():
    """The vm is ended, whatever it does."""
    done = run("sleep", "1000", options=["--timeout", "0.7"])
    check("time-out", done.returncode == 124 and b"time-out" in done.stderr, done)


def test_writable_with_network():
    """A root that is written, by a user of its /etc/passwd, who reaches a server of this host."""
    server = socket.create_server(("127.0.0.1", 0))
    said = []

    def serve():
        peer = server.accept()[0]
        said.append(peer.recv(100))
        peer.sendall(b"hello guest\n")
        peer.close()
    threading.Thread(target=serve, daemon=True).start()
    script = f"id; echo $HOME; pwd; echo mine >/home/guest/new; echo outside >/absolute; cat /etc/resolv.conf; echo hello host | nc 10.0.2.2 {server.getsockname()[1]}; echo left >/tmp/x"
    root = make_root(os.path.join(WORK, "writable,root"), SECRET)
    shutil.chown(os.path.join(root, "home/guest"), 1000, 1001) if os.geteuid() == 0 else os.chmod(os.path.join(root, "home/guest"), 0o777)
    done = run("sh", "-c", script, options=["--writable", "--net", NET, "-u", "guest", "--workdir", "/home", "--cpus", "2"], root=root)
    out = done.stdout.decode().splitlines()
    check("user by name, with further groups", out[:3] == ["uid=1000(guest) gid=1001(guest) groups=77(more)", "/home/guest", "/home"], done)
    check("network", NET == "none" or out[3:] == ["nameserver 10.0.2.3", "hello guest"] and said == [b"hello host\n"], (done, said))
    new = os.path.join(root, "home/guest/new")
    check("a writable root", os.path.exists(new) and open(new).read() == "mine\n" and not os.path.exists(os.path.join(root, "tmp/x")), done)
    check("links stay inside when written", open(SECRET).read() == "secret", done)


def test_not_found():
    """Sentences for what cannot run."""
    done = run("nothing-of-this-name", options=["--user", "5:6"])
    check("a command that is not there", done.returncode == 127 and done.stderr == b"microvm: cannot run nothing-of-this-name: No such file or directory\n", done)
    done = run("/file")
    check("a file that is no command", done.returncode == 126 and b"cannot run /file: Permission denied" in done.stderr, done)


def test_reader_goes():
    """The command hears that nobody reads, as it does without a vm."""
    with subprocess.Popen(command(root=ROOT, argv=["yes"]), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        line = process.stdout.readline()
        process.stdout.close()
        check("a closed pipe ends the writer", line == b"y\n" and process.wait(PATIENCE) == 128 + signal.SIGPIPE, process.returncode)


def read_until(fd, text):
    seen = b""
    while text not in seen:
        seen += os.read(fd, 1000)
    return seen


def test_terminal():
    """With -t: keys, size and its change; the terminal is given back."""
    ours, its = pty.openpty()
    before = termios.tcgetattr(its)
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    script = "tty; stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(command("-t", root=ROOT, argv=["sh", "-c", script]), stdin=its, stdout=its, stderr=its, start_new_session=True) as process:
        seen = read_until(ours, b"ready")
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 99, 0, 0))
        process.send_signal(signal.SIGWINCH)
        seen += read_until(ours, b"44 99\r\n")
        status = process.wait(PATIENCE)
    check("terminal", b"/dev/pts/0\r\n33 77\r\n" in seen and status == 5, (seen, status))
    check("the terminal is as it was", termios.tcgetattr(its) == before)


def test_refusals():
    """Without a guest."""
    done = subprocess.run([MICROVM, "run", ROOT], capture_output=True, text=True)
    check("no command", done.returncode == 125 and "needs a directory and a command" in done.stderr, done)
    done = run("ls", options=["--tty"])
    check("no terminal", done.returncode == 125 and b"to be a terminal" in done.stderr, done)
    done = run("ls", root=os.path.join(WORK, "nowhere"))
    check("no root", done.returncode == 125 and b"nowhere" in done.stderr, done)
    done = run("ls", options=["--kernel", SECRET])
    check("no modules of the kernel", done.returncode == 125 and b"--modules DIR" in done.stderr, done)
    cloud = os.path.join(WORK, "boot/vmlinuz-0-cloud-amd64")
    modules = os.path.join(WORK, "lib/modules/0-cloud-amd64")
    os.makedirs(os.path.dirname(cloud))
    os.makedirs(modules)
    for path, text in ((cloud, ""), (os.path.join(modules, "modules.dep"), "kernel/virtio_mmio.ko:\nkernel/virtio_console.ko:\n")):
        with open(path, "w") as file:
            file.write(text)
    done = run("ls", options=["--kernel", cloud])
    check("a kernel without 9P", done.returncode == 125 and b"has no 9pnet_virtio" in done.stderr and b"linux-image-amd64" in done.stderr, done)
    done = subprocess.run([MICROVM, "run", "--help"], capture_output=True, text=True)
    check("help", done.returncode == 0 and "--writable" in done.stdout)


got = subprocess.run(["sh", os.path.join(HERE, "../tools/get-kernel.sh"), KERNELS, "amd64"], capture_output=True, text=True)
if got.returncode:
    skip("no full Debian kernel: " + got.stderr.strip())
if not shutil.which("busybox"):
    skip("busybox is not installed (Debian: busybox-static)")
os.environ["VIRTCORE_KERNEL"] = got.stdout.strip()
with tempfile.TemporaryDirectory() as WORK:
    SECRET = os.path.join(WORK, "secret")
    with open(SECRET, "w") as secret_file:
        secret_file.write("secret")
    ROOT = make_root(os.path.join(WORK, "root"), SECRET)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        tests = [test_command, test_bytes, test_signals, test_time, test_writable_with_network, test_not_found, test_reader_goes, test_terminal, test_refusals]
        for future in [pool.submit(test) for test in tests]:
            future.result()
print(f"run.py: {len(failures)} failed" if failures else "run.py: commands in vms of their own")
sys.exit(bool(failures))
