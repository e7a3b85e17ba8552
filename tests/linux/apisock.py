#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""apisock.py DIR MICROVM KERNEL INITRD CLIENT [OPTION...]
A Debian guest is described, started, paused, saved, gone on with in a second process and told Ctrl-Alt-Del by Firecracker's API. Nobody here wrote the clients:
    curl            curl
    mmds            curl, and a network card with the metadata service
    swagger-client  of npm, which makes its requests of Firecracker's own description of its API (firecracker.yaml; its path is in FIRECRACKER_OPENAPI)
    firecrackerode  of npm (its directory, with what it requires, is in FIRECRACKERODE)
    firecracker     what Firecracker's own tests use (framework/http_api.py; the directory `tests` of its repository is in FIRECRACKER_TESTS), which holds each
                    request and answer against the description
77 with the reason where one cannot be had."""
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tools"))
from console import Console, Failed  # noqa: E402

DIR, MICROVM, KERNEL, INITRD, CLIENT, *OPTIONS = sys.argv[1:]
SWAGGER_CLIENT = "swagger-client@3.18"  # those after it are a hundred times as large


def skip(why):
    print("SKIP:", why)
    sys.exit(77)


class Curl:
    """Requests by method and path."""

    def __init__(self, path):
        self.socket = path

    def call(self, name, method, path, body):
        done = subprocess.run(["curl", "-sS", "--unix-socket", self.socket, "-X", method, "http://localhost" + path, "-w", "\n%{http_code}"] +
                              (["-H", "Content-Type: application/json", "-d", json.dumps(body)] if body is not None else []),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
        if done.returncode:
            raise Failed(f"curl {method} {path}: {done.stderr}")
        text, status = done.stdout.rsplit("\n", 1)
        return int(status), json.loads(text) if text else None

    def close(self):
        pass


class Node:
    """A client in JavaScript: one line of JSON a request, one an answer."""

    def __init__(self, script, *arguments):
        self.process = subprocess.Popen(["node", os.path.join(HERE, script), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer()

    def answer(self):
        answer = json.loads(self.process.stdout.readline() or '{"error": "node has ended"}')
        if "error" in answer:
            raise Failed(f"{CLIENT}: {answer['error']}")
        return answer

    def call(self, name, method, path, body):
        self.process.stdin.write(json.dumps({"name": name, "method": method, "path": path, "body": body}) + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        return answer["status"], json.loads(answer["text"]) if answer["text"] else None

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class FirecrackerTests:
    """What its tests call: an object a path, a method a method."""

    def __init__(self, path):
        sys.path.insert(0, os.environ["FIRECRACKER_TESTS"])
        from framework.http_api import Api
        self.api = Api(path)

    def call(self, name, method, path, body):
        resources = [r for r in vars(self.api).values() if path == getattr(r, "resource", None) or getattr(r, "id_field", None) and path.startswith(r.resource + "/")]
        try:
            answer = getattr(resources[0], method.lower())(**(body or {}))
        except RuntimeError as refused:
            return refused.args[2].status_code, refused.args[1]
        return answer.status_code, answer.json() if answer.content else None

    def close(self):
        self.api.session.close()


def modules():
    """Where the package is, installed from the registry."""
    where = os.path.abspath(os.path.join(DIR, SWAGGER_CLIENT))
    if not os.path.isdir(os.path.join(where, "node_modules", "swagger-client")):
        os.makedirs(where, exist_ok=True)
        try:
            done = subprocess.run(["npm", "install", "--prefix", where, "--no-audit", "--no-fund", "--ignore-scripts", SWAGGER_CLIENT],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240)
        except subprocess.TimeoutExpired:
            skip(f"npm gives no {SWAGGER_CLIENT} in time")
        if done.returncode:
            skip(f"npm gives no {SWAGGER_CLIENT}: {done.stdout.strip().splitlines()[-1:]}")
    return os.path.join(where, "node_modules")


class Vm:
    def __init__(self, work, name):
        self.socket = os.path.join(work, name + ".socket")
        self.console = Console([MICROVM, "--api-sock", self.socket, "--id", name, "--timeout", "200", *OPTIONS])
        end = time.monotonic() + 30
        while not os.path.exists(self.socket) and time.monotonic() < end and self.console.process.poll() is None:
            time.sleep(0.01)
        self.client = CLIENTS[CLIENT](self.socket)

    def call(self, name, method, path, body=None):
        status, answer = self.client.call(name, method, path, body)
        if status not in (200, 204):
            raise Failed(f"{name}: {status} {answer}\n{self.console.tail()}")
        return answer

    def state(self):
        return self.call("describeInstance", "GET", "/")["state"]

    def set_state(self, state):
        self.call("patchVm", "PATCH", "/vm", {"state": state})

    def act(self, action):
        self.call("createSyncAction", "PUT", "/actions", {"action_type": action})

    def close(self):
        self.client.close()
        self.console.close()


CLIENTS = {
    "curl": Curl,
    "mmds": Curl,
    "swagger-client": lambda path: Node("apisock-swagger.mjs", modules(), os.environ["FIRECRACKER_OPENAPI"], path),
    "firecrackerode": lambda path: Node("apisock-firecrackerode.cjs", os.path.abspath(os.environ["FIRECRACKERODE"]), path),
    "firecracker": FirecrackerTests,
}
BLOB = "".join(chr(65 + i % 26) for i in range(40000))


def expect(what, got, wanted):
    if got != wanted:
        raise Failed(f"{what}: {got!r}, expected {wanted!r}")


def describe(vm, work):
    disk = os.path.join(work, "disk")
    with open(disk, "wb") as f:
        f.write(b"from the host\n".ljust(1 << 20, b"\0"))
    vm.call("putMachineConfiguration", "PUT", "/machine-config", {"vcpu_count": 2, "mem_size_mib": 192})
    vm.call("putGuestBootSource", "PUT", "/boot-source",
            {"kernel_image_path": KERNEL, "initrd_path": INITRD, "boot_args": "console=ttyS0 quiet reboot=k panic=1 pci=off net.ifnames=0"})
    vm.call("putGuestDriveByID", "PUT", "/drives/disk", {"drive_id": "disk", "path_on_host": disk, "is_root_device": True, "is_read_only": False})
    vm.call("putBalloon", "PUT", "/balloon", {"amount_mib": 0, "deflate_on_oom": True, "stats_polling_interval_s": 1})
    vm.call("putGuestVsock", "PUT", "/vsock", {"guest_cid": 3, "uds_path": os.path.join(work, "vsock")})
    vm.call("putEntropyDevice", "PUT", "/entropy", {})
    if CLIENT == "mmds":
        vm.call("", "PUT", "/network-interfaces/eth0", {"iface_id": "eth0", "host_dev_name": "apitap0", "guest_mac": "06:00:ac:10:00:02"})
        vm.call("", "PUT", "/mmds/config", {"network_interfaces": ["eth0"], "version": "V2", "ipv4_address": "169.254.170.2"})
        vm.call("", "PUT", "/mmds", {"latest": {"meta-data": {"id": "i-17", "zone": {"a": "b"}}, "blob": BLOB}})
    return disk


def life(work):
    vm = Vm(work, "first")
    try:
        expect("state", vm.state(), "Not started")
        disk = describe(vm, work)
        vm.act("InstanceStart")
        line = vm.console.expect(r"api: init (.*?)\r?\n").group(1).decode()
        expect("vcpus and command line", line, "2 console=ttyS0 quiet reboot=k panic=1 pci=off net.ifnames=0 root=/dev/vda rw")
        vm.console.expect("api: disk from the host")
        vm.console.expect("api: random 8")
        if CLIENT == "mmds":
            metadata(vm.console)
        vm.console.expect("api: turn 3")
        vm.call("patchBalloon", "PATCH", "/balloon", {"amount_mib": 16})
        end = time.monotonic() + 60
        while vm.call("describeBalloonStats", "GET", "/balloon/statistics")["actual_mib"] < 16:
            if time.monotonic() > end:
                raise Failed("the balloon is not filled")
            time.sleep(0.1)
        vm.set_state("Paused")
        expect("state", vm.state(), "Paused")
        vm.call("createSnapshot", "PUT", "/snapshot/create", {"snapshot_path": os.path.join(work, "state"), "mem_file_path": os.path.join(work, "memory")})
        vm.set_state("Resumed")
        turn = int(vm.console.expect(r"api: turn (\d+)").group(1))
    finally:
        vm.close()
    with open(disk, "rb") as f:
        expect("the disk", f.read(1024)[512:].rstrip(b"\0"), b"the guest was here\n")
    # a process that was killed leaves it
    os.unlink(os.path.join(work, "vsock"))
    return turn


def metadata(console):
    console.expect("api: without .*401 Unauthorized")
    console.expect('api: id "i-17"')
    console.expect("api: keys of id zone/")
    console.expect("api: blob " + hashlib.md5(BLOB.encode()).hexdigest())
    console.expect("api: peer 1")


def second_life(work, turn):
    vm = Vm(work, "second")
    try:
        vm.call("loadSnapshot", "PUT", "/snapshot/load", {"snapshot_path": os.path.join(work, "state"),
                                                          "mem_backend": {"backend_type": "File", "backend_path": os.path.join(work, "memory")}})
        expect("state", vm.state(), "Paused")
        vm.set_state("Resumed")
        first = int(vm.console.expect(r"api: turn (\d+)").group(1))
        if not 3 < first <= turn + 2:
            raise Failed(f"it goes on at turn {first}; the original went on to {turn}")
        vm.console.expect(r"api: turn \d+")
        expect("the balloon", vm.call("describeBalloonStats", "GET", "/balloon/statistics")["actual_mib"], 16)
        vm.act("SendCtrlAltDel")
        vm.console.expect("api: keys")
        expect("status", vm.console.wait(), 0)
    finally:
        vm.close()


# of a client: the program it needs, the variable that names what no package has and what that is
NEEDS = {
    "curl": ("curl", None, None),
    "mmds": ("curl", None, None),
    "swagger-client": ("npm", "FIRECRACKER_OPENAPI", "Firecracker's description of its API (firecracker.yaml)"),
    "firecrackerode": ("node", "FIRECRACKERODE", "the directory of the npm package firecrackerode"),
    "firecracker": ("python3", "FIRECRACKER_TESTS", "the directory of Firecracker's own tests"),
}


def look_for_client():
    program, variable, what = NEEDS[CLIENT]
    if variable and variable not in os.environ:
        skip(f"{variable} does not name {what}, which no package carries")
    if not shutil.which(program):
        skip(f"{program} is not installed")
    if CLIENT == "swagger-client":
        modules()
    if CLIENT == "firecracker":
        missing = [name for name in ("requests_unixsocket", "jsonschema", "yaml") if not importlib.util.find_spec(name)]
        if missing:
            skip(f"Firecracker's tests need the Python packages {', '.join(missing)}")


def main():
    look_for_client()
    probe = subprocess.run([MICROVM, "--api-sock", "/no/such/socket"], stderr=subprocess.PIPE, text=True)
    if "switched off" in probe.stderr:
        skip(probe.stderr.strip())
    with tempfile.TemporaryDirectory() as work:
        try:
            second_life(work, life(work))
        except Failed as e:
            print(e)
            return 1
    print(f"apisock.py {CLIENT}: a life, and another one")
    return 0


sys.exit(main())
