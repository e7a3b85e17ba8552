#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""microvm.py MICROVM BACKEND: the command as a user meets it: help, exit statuses, --config, --serial, and a terminal that is
always given back as it was."""
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time

MICROVM, BACKEND = os.path.abspath(sys.argv[1]), sys.argv[2]
POWEROFF, USAGE, ERROR, CRASH, RESET, STOPPED, MIGRATED, TIMEOUT = 0, 64, 70, 100, 102, 104, 108, 124
failures = []


def check(name, good, detail=""):
    print(("ok    " if good else "FAIL  ") + name + ("" if good else f": {str(detail)[:600]}"), flush=True)
    if not good:
        failures.append(name)


def run(*arguments, **options):
    try:
        return subprocess.run([MICROVM, *arguments], capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, **options)
    except subprocess.TimeoutExpired as e:
        return subprocess.CompletedProcess(arguments, -1, str(e.stdout), str(e.stderr) + " (does not end)")


def expect(name, status, *arguments, out="", err=""):
    r = run(*arguments)
    check(name, r.returncode == status and out in r.stdout and err in r.stderr,
          f"status {r.returncode}, expected {status}; out {r.stdout[-300:]!r}; err {r.stderr[-300:]!r}")
    return r


# Tiny guests for real mode at 0x7c00.
def out8(port, value):
    return b"\xb0" + bytes([value]) + b"\xba" + port.to_bytes(2, "little") + b"\xee"


def text(message):
    return b"".join(out8(0x3f8, c) for c in message.encode())


HANG = b"\xfa\xf4\xeb\xfd"  # cli; hlt; jmp
SPIN = b"\xeb\xfe"
GUESTS = {
    # SLP_EN with SLP_TYP 5 of \\_S5 to PM1a_CNT, which the FADT has at port 0x604
    "poweroff": text("bye\r\n") + b"\xb8\x00\x34\xba\x04\x06\xef" + HANG,
    "reset": out8(0x64, 0xfe) + HANG,
    # lidt of nothing; protected mode; ud2
    "crash": b"\x0f\x01\x1e\x00\x7d\x0f\x20\xc0\x0c\x01\x0f\x22\xc0\x0f\x0b" + HANG,
    "debug-exit": out8(0xf4, 5) + HANG,
    "spin": text("spinning\r\n") + SPIN,
    "halt": HANG,
    # mov ax, 0x2000; mov es, ax; xor di, di; again: inc word es:[di]; add di, 4096; jmp again
    "writer": text("writing\r\n") + b"\xb8\x00\x20\x8e\xc0\x31\xff\x26\xff\x05\x81\xc7\x00\x10\xeb\xf7",
    # sends back what comes in, plus one: in al, (lsr); test 1; jz; in al, rbr; inc; out
    "echo": text("ready\r\n") + b"\xba\xfd\x03\xec\xa8\x01\x74\xf8\xba\xf8\x03\xec\xfe\xc0\xee\xeb\xef",
}
work = tempfile.TemporaryDirectory()


def guest(name):
    path = os.path.join(work.name, name)
    with open(path, "wb") as f:
        f.write(GUESTS[name].ljust(1024, b"\0"))
    return ["--kernel", path, "--image", "flat", "--address", "0x7c00"]


def machine(name, *more):
    return [*guest(name), "--backend", BACKEND, "--memory", "16M", *more]


def without_a_guest():
    r = expect("--help", 0, "--help", out="usage: microvm")
    for word in ("--kernel", "--initrd", "--cmdline", "--memory", "--cpus", "--max-cpus", "--vcpu-place", "--memory-flags", "--memory-kind", "--memory-numa", "--memory-threads", "--cpu ", "--backend", "--engine", "--machine", "--config",
                 "--device", "--serial", "--debug-exit", "--gdb", "--timeout", "--lockstep-limit", "--monitor", "--api-sock", "--config-file", "--no-api", "--id", "--metadata", "--log-path", "--level ", "--metrics-path", "--no-seccomp", "--snapshot-save", "--restore", "--incoming", "--no-verify", "--print-config", "--stats", "--trace", "Exit status", "Ctrl-A x"):
        check(f"--help tells of {word}", word in r.stdout)
    check("--help tells of run", "microvm run " in r.stdout)
    expect("run --help", 0, "run", "--help", out="usage: microvm run")
    expect("--version", 0, "--version", out="libvirtcore")
    expect("--cpu help", 0, "--cpu", "help", out="x86-64-v3")
    expect("--cpu help, features", 0, "--cpu", "help", out="kvm-steal-time")
    expect("--cpu help, gaps", 0, "--cpu", "help", out="emu here: ")
    expect("more vcpus than there may be", ERROR, *machine("halt"), "--cpus", "3", "--max-cpus", "2", err="max_vcpus is 2")
    expect("no such vcpu", ERROR, *machine("halt"), "--vcpu-place", "1,policy=idle", err="'1,policy=idle'")
    expect("no such policy", ERROR, *machine("halt"), "--vcpu-place", "0,policy=fast", err="policy=fast")
    expect("no such host CPU", ERROR, *machine("halt"), "--vcpu-place", "all,cpus=8191", err="none of its CPUs")
    expect("no such memory flag", USAGE, "--kernel", "x", "--memory-flags", "thp,soft", err="--memory-flags soft")
    expect("no such node", ERROR, *machine("halt"), "--memory-numa", "bind:1000", err="numa is 'bind:1000'")
    expect("memory set aside", 11, *machine("debug-exit"), "--debug-exit", "--memory-flags", "thp,prealloc", "--memory-kind", "anon",
           "--memory-threads", "2", "--verbose", err="memory 16 of 16 MiB")
    expect("a vcpu's place", 11, *machine("debug-exit"), "--debug-exit", "--vcpu-place", "all,policy=batch,nice=1")
    expect("--device help", 0, "--device", "help", out="debug-exit")
    expect("--device TYPE,help", 0, "--device", "virtio-blk,help", out="readonly")
    expect("--device TYPE,help of none", 64, "--device", "virtio-blok,help", err="virtio-blok,help")
    expect("no kernel", USAGE, err="--kernel")
    expect("unknown option", USAGE, "--kernle", "x", err="kernle")
    expect("a word too many", USAGE, "--kernel", "x", "y", err="\"y\"")
    expect("bad memory", USAGE, "--kernel", "x", "--memory", "much", err="much")
    expect("bad cpus", USAGE, "--kernel", "x", "--cpus", "0", err="--cpus 0")
    expect("bad backend", USAGE, "--kernel", "x", "--backend", "xen", err="auto, kvm, emu")
    expect("bad timeout", USAGE, "--kernel", "x", "--timeout", "-1", err="--timeout")
    expect("bad lockstep-limit", USAGE, "--kernel", "x", "--lockstep-limit", "0", err="--lockstep-limit 0")
    expect("bad serial", USAGE, *machine("halt"), "--serial", "modem", err="modem")
    expect("a gdb address that is none", ERROR, *machine("halt"), "--gdb=nowhere", err="nowhere")
    expect("a kernel that is not there", ERROR, "--kernel", "/no/such/kernel", "--backend", BACKEND, err="/no/such/kernel")
    expect("a kernel that is none", ERROR, "--kernel", "/etc/passwd", "--backend", BACKEND, err="/etc/passwd")
    expect("an unknown CPU model", ERROR, *machine("halt"), "--cpu", "x86-64-v9", err="x86-64-v9")
    expect("an unknown device", ERROR, *machine("halt"), "--device", "warp,speed=9", err="warp")
    expect("a wrong property", ERROR, *machine("halt"), "--device", "debug-exit,prot=9", err="prot")
    expect("machine pc is not built", ERROR, *machine("halt"), "--machine", "pc", err="pc")


def statuses():
    expect("poweroff", POWEROFF, *machine("poweroff"), out="bye")
    expect("reset", RESET, *machine("reset"))
    expect("crash", CRASH, *machine("crash"), err="triple fault")
    expect("debug-exit", 5 << 1 | 1, *machine("debug-exit"), "--debug-exit")
    expect("debug-exit on another port", TIMEOUT, *machine("debug-exit"), "--debug-exit=0x501", "--timeout", "0.2")
    expect("timeout", TIMEOUT, *machine("spin"), "--timeout", "1", out="spinning", err="time-out")
    expect("timeout of a halted guest", TIMEOUT, *machine("halt"), "--timeout", "0.2")
    expect("--stats", POWEROFF, *machine("poweroff"), "--stats", err="exits")
    expect("--verbose says which backend", POWEROFF, *guest("poweroff"), "--verbose", "--memory", "16M", err="backend")
    expect("four cpus", 11, *machine("debug-exit"), "--debug-exit", "--cpus", "4")
    expect("no legacy parts", 11, *machine("debug-exit"), "--debug-exit", "--no-legacy")


def config():
    kernel = guest("debug-exit")[1]
    description = {"backend": BACKEND, "memory": "16M", "devices": [{"type": "debug-exit"}],
                   "boot": {"kernel": kernel, "image": "flat", "address": 0x7c00}}
    path = os.path.join(work.name, "vm.json")
    with open(path, "w") as f:
        json.dump(description, f)
    r = run("--config", path)
    if "json-c" in r.stderr:
        print("SKIP: " + r.stderr.strip())
        return
    check("--config", r.returncode == 11, f"{r.returncode} {r.stderr}")
    r = subprocess.run([MICROVM, "--config", "-"], input=json.dumps(description), capture_output=True, text=True, timeout=60)
    check("--config -", r.returncode == 11, f"{r.returncode} {r.stderr}")
    expect("--config with a shape of one's own", USAGE, "--config", path, "--memory", "5M", err="--config")
    expect("--config that is not there", ERROR, "--config", "/no/such.json", err="/no/such.json")
    description["cqus"] = 3
    with open(path, "w") as f:
        json.dump(description, f)
    expect("--config with an unknown key", ERROR, "--config", path, err="cqus")


def print_config():
    arguments = [*machine("debug-exit"), "--cpus", "3", "--cpu", "qemu64", "--no-legacy", "--debug-exit", "--device", "debugcon,addr=0x402",
                 "--serial", "none"]
    r = run(*arguments, "--print-config")
    if "json-c" in r.stderr:
        print("SKIP: " + r.stderr.strip())
        return
    d = json.loads(r.stdout)
    check("--print-config tells what was given", r.returncode == 0 and d["cpus"] == 3 and d["cpu"] == "qemu64" and d["memory"] == 16 << 20 and
          d["backend"] == BACKEND and not d["legacy"] and d["boot"]["address"] == 0x7c00 and d["boot"]["image"] == "flat" and
          d["devices"] == [{"type": "debug-exit", "addr": "0xf4"}, {"type": "debugcon", "addr": "0x402"}], r.stdout)
    check("--print-config tells the defaults", d["machine"] == "microvm" and d["unhandled"] == "ignore" and d["engine"] == "auto" and
          d["irqchip"] == "auto" and d["memory_kind"] == "anon" and d["memory_flags"] == [] and d["boot"]["initrd"] is None, r.stdout)
    path = os.path.join(work.name, "full.json")
    with open(path, "w") as f:
        f.write(r.stdout)
    expect("--config takes it back", 11, "--config", path)
    again = run("--config", path, "--print-config")
    check("... and prints it as it was", again.stdout == r.stdout, again.stdout + again.stderr)
    more = json.loads(run("--config", path, "--print-config", "--device", "uart,output=file:a,,b", "--kernel", "/k").stdout)
    check("... with what the command line adds", more["devices"][2] == {"type": "uart", "output": "file:a,b"} and more["boot"]["kernel"] == "/k", more)
    for where, device in (("stdio", {"input": "stdin", "output": "stdout"}), ("pty", {"pty": "on"}), ("file:x", {"output": "file:x"})):
        d = json.loads(run(*machine("halt"), "--serial", where, "--print-config").stdout)
        check(f"--print-config of --serial {where}", d["devices"] == [{"type": "uart", **device}], d["devices"])
    with open(path, "w") as f:
        json.dump({"cqus": 3}, f)
    expect("--print-config of an unknown key", ERROR, "--config", path, "--print-config", err="cqus")


def monitor():
    path = os.path.join(work.name, "monitor")
    vm = subprocess.Popen([MICROVM, *machine("spin"), "--monitor", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    vm.stdout.readline()  # it spins: the monitor is there
    if vm.poll() is not None or not os.path.exists(path):
        print("SKIP: " + vm.stderr.read().decode().strip())
        vm.wait()
        return

    def ask(name, status, *words, out="", err="", text=None):
        r = subprocess.run([MICROVM, "monitor", path, *words], input=text or "", capture_output=True, text=True, timeout=20)
        check(name, r.returncode == status and out in r.stdout and err in r.stderr, f"status {r.returncode}; {r.stdout[-300:]!r}; {r.stderr[-300:]!r}")
        return r

    expect("monitor without a socket", USAGE, "monitor", out="usage: microvm monitor")
    expect("monitor --help", 0, "monitor", "--help", out="usage: microvm monitor")
    expect("a monitor that is not there", 1, "monitor", "/no/such/socket", "query-status", err="/no/such/socket")
    r = ask("one command", 0, "query-status")
    check("... is JSON", json.loads(r.stdout) == {"status": "running", "running": True}, r.stdout)
    check("a thread id is one of the process's", str(json.loads(ask("query-cpus", 0, "query-cpus").stdout)[0]["thread-id"])
          in os.listdir(f"/proc/{vm.pid}/task"))
    ask("a command that is none", 1, "warp", err="no command \"warp\"")
    ask("a wrong value", 1, "device-remove", "id=x", err="expected a number")
    ask("an unknown argument", 1, "pause", "now=1", err="unknown argument \"now\"")
    ask("a word too many", 1, "pause", "now", err="unknown argument \"now\"")
    ask("help", 0, "help", "device-add", out="a name of device-types")
    ask("a list", 1, "send-key", "ctrl,alt,warp", err="no key \"warp\"")
    ask("a list as JSON", 1, "send-key", '["ctrl","alt"]', err="no virtcore keyboard")
    ask("a display that is not there", 1, "screendump", "x.png", err="no display 0")
    added = json.loads(ask("device-add", 0, "device-add", "debugcon", "addr=0x402", "output=null").stdout)
    ask("device-remove", 0, "device-remove", f"id={added['id']}")
    ask("a value that is so or not", 1, "net-link", "1", "down", err="expected a network card")
    ask("device-remove again", 1, "device-remove", str(added["id"]), err="there is no device")
    ask("reset", 0, "reset")
    check("... reads the kernel again", vm.stdout.readline() == b"spinning\r\n")
    ask("... and goes on", 0, "query-status", out="\"running\": true")
    ask("powerdown", 0, "powerdown")
    ask("lines of a script", 0, text="pause\n\nquery-status\nresume\n", out="* STOP")
    ask("a script ends at an error", 1, text="warp\nquit\n", err="warp")
    prompt(path)
    check("quit ends the vm", vm.wait(20) == STOPPED, vm.returncode)
    check("the socket is gone", not os.path.exists(path))
    vm.stdout.close()
    vm.stderr.close()


def prompt(path):
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    p = subprocess.Popen([MICROVM, "monitor", path], stdin=slave, stdout=slave, stderr=slave, start_new_session=True)

    def type_in(name, keys, wanted):
        os.write(master, keys)
        got = read_until(master, wanted)
        check("prompt: " + name, wanted in got, got)

    type_in("begins", b"", b"(vm) ")
    type_in("TAB completes a command", b"query-sta\t", b"query-stat")
    type_in("TAB TAB lists", b"\t", b"query-status   query-stats")
    type_in("a command", b"us\r", b"\"status\": \"running\"")
    type_in("TAB completes an argument", b"device-rem\ti\t", b"device-remove id=")
    type_in("... and what is so or not", b"\x15net-link 1 up=of\t", b"net-link 1 up=off ")
    type_in("... and a device type", b"\x15device-a\tty\tdebug-\t", b"device-add type=debug-exit ")
    type_in("... and its properties", b"add\t", b"type=debug-exit addr=")
    type_in("Ctrl-C forgets the line, an event is shown", b"\x03pause\r", b"* STOP")
    type_in("the history", b"\x1b[A\x01re\x1b[3~\x1b[C\x0b\x15resume\r", b"* RESUME")
    type_in("an error", b"warp\r", b"no command \"warp\"")
    type_in("the end of the vm", b"quit\r", b"the monitor is gone")
    check("prompt: exit status", p.wait(20) == 0, p.returncode)
    check("prompt: terminal restored", termios.tcgetattr(slave) == before)
    os.close(master)
    os.close(slave)


def snapshots():
    path, socket, packed = (os.path.join(work.name, name) for name in ("snapshot", "snapshot-monitor", "snapshot-packed"))
    arguments = [*machine("echo"), "--device", "debugcon,addr=0x402,output=null", "--snapshot-save", path, "--monitor", socket]
    p = subprocess.Popen([MICROVM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if p.stdout.readline() != b"ready\r\n":
        print("SKIP: " + p.stderr.read().decode().strip())
        p.wait()
        return
    p.send_signal(signal.SIGUSR1)
    line = p.stderr.readline().decode()
    if "cannot save interrupt controllers" in line or "json-c" in line:
        print("SKIP: " + line.strip())
        p.kill()
        p.wait()
        return
    check("SIGUSR1 saves a snapshot", path + ": a snapshot of 16 MiB" in line, line)
    p.stdin.write(b"HAL")
    p.stdin.flush()
    check("... and the guest goes on", b"IBM" in read_until(p.stdout.fileno(), b"IBM"))
    r = subprocess.run([MICROVM, "monitor", socket, "snapshot-save", f"path={packed}", "compress=zstd"], capture_output=True, text=True, timeout=20)
    files = [path]
    if "no zstd" in r.stderr:
        print("SKIP: " + r.stderr.strip())
    else:
        check("the monitor saves one", r.returncode == 0 and json.loads(r.stdout)["memory"] == 16 << 20, r.stdout + r.stderr)
        files.append(packed)
    r = subprocess.run([MICROVM, "monitor", socket, "snapshot-save", "path=/no/such/directory/x"], capture_output=True, text=True, timeout=20)
    check("... not where it cannot", r.returncode == 1 and "/no/such/directory/x" in r.stderr, r.stderr)
    p.send_signal(signal.SIGTERM)
    p.wait(20)
    for stream in (p.stdin, p.stdout, p.stderr):
        stream.close()

    for file in files:
        for options in ([], ["--no-verify", "--device", "debugcon,output=null"]):
            status, said, err = answer("--restore", file, *options)
            check(f"--restore {os.path.basename(file)} {' '.join(options)}", said == b"IBM" and status == STOPPED, f"{status} {said!r} {err[:200]}")
    out = os.path.join(work.name, "restored")
    expect("--restore to a file", TIMEOUT, "--restore", path, "--serial", "file:" + out, "--timeout", "0.3")
    check("... which is made", os.path.exists(out))
    expect("--restore without serial port", TIMEOUT, "--restore", path, "--serial", "none", "--timeout", "0.3")
    expect("--restore of a bad serial", USAGE, "--restore", path, "--serial", "modem", err="modem")
    expect("--restore of what is not there", ERROR, "--restore", "/no/such/file", err="/no/such/file")
    expect("--restore of what is none", ERROR, "--restore", MICROVM, err="no snapshot")
    expect("--restore with another memory", USAGE, "--restore", path, "--memory", "1G", err="--restore")
    expect("--restore with a kernel", USAGE, "--restore", path, "--kernel", "x", err="--restore")
    expect("--restore with a device it has not", USAGE, "--restore", path, "--device", "virtio-rng", err="no such device")
    os.truncate(path, 5000)
    expect("--restore of one cut off", ERROR, "--restore", path, err="cut off")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def migrate(path, *arguments):
    """The monitor's command, until somebody waits there. How it goes then: a status, and why."""
    def ask(*words):
        return subprocess.run([MICROVM, "monitor", path, *words], capture_output=True, text=True, timeout=20)

    end = time.monotonic() + 20
    while time.monotonic() < end:
        r = ask("migrate", *arguments)
        if "cannot be begun" in r.stderr:  # the one before is not at its end yet
            continue
        if r.returncode:
            return "refused", r.stderr
        info = {"status": "setup"}
        while info["status"] == "setup":
            r = ask("query-migrate")
            if r.returncode:  # gone already
                return "gone", r.stderr
            info = json.loads(r.stdout)
        if info["status"] != "failed" or "refused" not in info["error"]:
            return info["status"], info.get("error", "")
        time.sleep(0.02)
    return "nobody", ""


def migration():
    path, address = os.path.join(work.name, "migrate"), f"tcp:127.0.0.1:{free_port()}"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    here = subprocess.Popen([MICROVM, *machine("echo"), "--monitor", path], **pipes)
    if here.stdout.readline() != b"ready\r\n":
        print("SKIP: " + here.stderr.read().decode().strip())
        here.wait()
        return
    there = subprocess.Popen([MICROVM, "--incoming", address, "--backend", BACKEND], **pipes)
    status, why = migrate(path, "uri=" + address, "streams=3", "delta=on", "max-bandwidth=1G")
    if "cannot save interrupt controllers" in why:
        print("SKIP: " + why)
        for p in (here, there):
            p.kill()
            p.communicate()
        return
    check("migrate over TCP", status in ("active", "stopped", "completed", "gone"), f"{status} {why}")
    check("... ends it here", here.wait(20) == MIGRATED, here.returncode)
    err = here.stderr.read().decode()
    check("... with a line", "microvm: migration completed: " in err and "stopped for" in err and "\033" not in err, err)
    there.stdin.write(b"HAL")
    there.stdin.flush()
    check("... and goes on there", b"IBM" in read_until(there.stdout.fileno(), b"IBM"))
    there.send_signal(signal.SIGTERM)
    check("... until it is ended", there.wait(20) == STOPPED, there.returncode)
    err = there.stderr.read().decode()
    check("... with a line there", "microvm: migration completed: " in err, err)
    for p in (here, there):
        for stream in (p.stdin, p.stdout, p.stderr):
            stream.close()
    expect("--incoming at no address", ERROR, "--incoming", "tcp:nowhere", err="expected tcp:HOST:PORT")


def migration_on_terminals():
    path, address = os.path.join(work.name, "migrate-slowly"), f"tcp:127.0.0.1:{free_port()}"
    prompt, slave = pty.openpty()

    def watch(p, master, _):
        """The bars of both sides and of the prompt, of one that does not come to an end."""
        got = read_until(master, b"writing")
        if b"json-c" in got:
            print("SKIP: " + got.decode())
            p.kill()
            return
        asker = subprocess.Popen([MICROVM, "monitor", path], stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        on_terminal("an --incoming whose source gives up", ["--incoming", address, "--backend", BACKEND],
                    lambda q, there, _: receive(asker, master, there), ERROR)
        os.write(prompt, b"\x15quit\r")
        asker.wait(20)

    def receive(asker, here, there):
        status, why = migrate(path, "uri=" + address, "max-bandwidth=40000", "streams=2")
        check("migrate to a terminal", status == "active", f"{status} {why}")
        for name, fd, wanted in (("when it is sent", here, b"\033[Kmicrovm: migration: ["), ("for --incoming", there, b"\033[Kmicrovm: migration: ["),
                                 ("in the prompt", prompt, b"(vm [")):
            got = read_until(fd, wanted)
            check("a bar " + name, wanted in got, got)
        os.write(prompt, b"\x15migrate-cancel\r")
        check("migrate-cancel", b"canceled" in read_until(prompt, b"canceled"))
        got = read_until(here, b"migration canceled")
        check("... is told here", b"migration canceled: " in got, got)
        got = read_until(there, b"gave up")
        check("... and there", b"the other side gave up: the migration was cancelled" in got + read_until(there, b"cancelled", 5), got)

    on_terminal("a migration that is cancelled", [*machine("writer"), "--monitor", path], watch, STOPPED)
    os.close(prompt)
    os.close(slave)


def serial():
    path = os.path.join(work.name, "console")
    expect("--serial file:", POWEROFF, *machine("poweroff"), "--serial", "file:" + path)
    with open(path) as f:
        check("--serial file: has it", f.read() == "bye\n" or open(path, "rb").read() == b"bye\r\n")
    r = expect("--serial none", POWEROFF, *machine("poweroff"), "--serial", "none")
    check("--serial none says nothing", r.stdout == "", r.stdout)
    status, said, err = answer(*machine("echo"))
    check("standard input reaches the guest", b"IBM" in said and status == STOPPED, f"{status} {said!r} {err[:200]}")
    p = subprocess.Popen([MICROVM, *machine("echo"), "--serial", "pty"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    line = p.stderr.readline()
    check("--serial pty tells its name", "/dev/pts/" in line, line)
    fd = os.open(line.split()[-1], os.O_RDWR | os.O_NOCTTY)
    os.write(fd, b"HAL")
    check("--serial pty carries both ways", b"IBM" in read_until(fd, b"IBM"))
    os.close(fd)
    p.send_signal(signal.SIGTERM)
    check("SIGTERM", p.wait(20) == STOPPED, p.returncode)
    p.stderr.close()


def read_until(fd, wanted, seconds=20):
    import select
    got, end = b"", time.monotonic() + seconds
    while wanted not in got and time.monotonic() < end:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                got += os.read(fd, 4096)
            except OSError:
                break
    return got


def answer(*arguments):
    """To "HAL" and the end of input, until the guest is ended. Its status, what it said, standard error."""
    with subprocess.Popen([MICROVM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
        p.stdin.write(b"HAL")
        p.stdin.close()
        said = read_until(p.stdout.fileno(), b"IBM")
        p.send_signal(signal.SIGTERM)
        return p.wait(20), said, p.stderr.read()


def on_terminal(name, arguments, act, status):
    """Runs it on a terminal of its own, whose settings must be the same afterwards."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    p = subprocess.Popen([MICROVM, *arguments], stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    during = act(p, master, slave)
    try:
        p.wait(30)
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()
    check(name, p.returncode == status, f"status {p.returncode}, expected {status}")
    check(name + ": terminal restored", termios.tcgetattr(slave) == before)
    if during is not None:
        check(name + ": terminal was raw", not during[3] & (termios.ICANON | termios.ECHO | termios.ISIG), during)
    os.close(master)
    os.close(slave)


def terminal():
    def until_ready(p, master, slave):
        read_until(master, b"ready")
        return termios.tcgetattr(slave)

    def quit_by_key(p, master, slave):
        during = until_ready(p, master, slave)
        os.write(master, b"H\x01\x01A")
        check("Ctrl-A Ctrl-A sends Ctrl-A", b"I\x02B" in read_until(master, b"I\x02B"))
        os.write(master, b"\x03")
        check("Ctrl-C goes to the guest", b"\x04" in read_until(master, b"\x04"))
        os.write(master, b"\x01x")
        return during

    def terminate(number):
        def act(p, master, slave):
            during = until_ready(p, master, slave)
            p.send_signal(number)
            return during
        return act

    on_terminal("normal end", machine("poweroff"), lambda p, master, slave: None, POWEROFF)
    on_terminal("Ctrl-A x", machine("echo"), quit_by_key, STOPPED)
    on_terminal("SIGTERM on a terminal", machine("echo"), terminate(signal.SIGTERM), STOPPED)
    on_terminal("SIGINT on a terminal", machine("echo"), terminate(signal.SIGINT), STOPPED)
    on_terminal("SIGHUP on a terminal", machine("echo"), terminate(signal.SIGHUP), STOPPED)
    on_terminal("an error on a terminal", machine("echo", "--device", "warp"), lambda p, master, slave: None, ERROR)
    on_terminal("time-out on a terminal", machine("spin", "--timeout", "0.3"), lambda p, master, slave: None, TIMEOUT)


if BACKEND == "kvm":
    probe = run(*machine("debug-exit"), "--debug-exit")
    if probe.returncode == ERROR and "/dev/kvm" in probe.stderr:
        print("SKIP: " + probe.stderr.strip())
        sys.exit(77)
without_a_guest()
statuses()
config()
print_config()
monitor()
snapshots()
migration()
migration_on_terminals()
serial()
terminal()
print(f"{len(failures)} failed: {failures}" if failures else "all is well")
sys.exit(bool(failures))
