#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""apisock.py MICROVM BACKEND [openapi]: `microvm --api-sock` as software that drives Firecracker meets it: every request and every error, the life of a vm,
a snapshot that goes on in another process, and what no such software would send.

With `openapi` each request and each answer is also held against Firecracker's published description of its API, whose path is in the environment variable
FIRECRACKER_OPENAPI (src/firecracker/swagger/firecracker.yaml of its repository; no package carries it). 77 without it."""
import http.client
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time

MICROVM, BACKEND = os.path.abspath(sys.argv[1]), sys.argv[2]
USAGE, ERROR, STOPPED = 64, 70, 104
WAIT = 60
failures, seen = [], set()
work = tempfile.TemporaryDirectory()


def check(name, good, detail=""):
    print(("ok    " if good else "FAIL  ") + name + ("" if good else f": {str(detail)[:700]}"), flush=True)
    if not good:
        failures.append(name)


def file(name, data=b""):
    path = os.path.join(work.name, name)
    with open(path, "wb") as f:
        f.write(data)
    return path


# ---- Firecracker's description ----

class Description:
    def __init__(self, path):
        import yaml
        with open(path) as f:
            self.text = yaml.safe_load(f)
        self.routes = []
        for pattern, methods in self.text["paths"].items():
            self.routes.append((re.compile("^" + re.sub(r"\{[a-z_]+\}", "[A-Za-z0-9_]+", pattern) + "$"), pattern, methods))

    def schema(self, schema):
        while "$ref" in schema:
            schema = self.text["definitions"][schema["$ref"].split("/")[-1]]
        return schema

    def misfits(self, schema, value, where):
        """What is wrong with a value, in words."""
        schema = self.schema(schema)
        kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
        kind = schema.get("type")
        if kind and (not isinstance(value, kinds[kind]) or (kind == "integer" and isinstance(value, bool))):
            return [f"{where}: {value!r} is no {kind}"]
        found = []
        # YAML takes Off for a boolean
        if "enum" in schema and value not in schema["enum"] and (value, False) not in [("Off", e) for e in schema["enum"]]:
            found.append(f"{where}: {value!r} is none of {schema['enum']}")
        if kind == "integer" and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            found.append(f"{where}: {value} is out of range")
        if kind == "array":
            for i, element in enumerate(value):
                found += self.misfits(schema["items"], element, f"{where}[{i}]")
        if kind == "object":
            properties = schema.get("properties", {})
            found += [f"{where}: {name} is missing" for name in schema.get("required", []) if name not in value]
            for name, member in value.items():
                if name in properties and value[name] is not None:  # null is as if it were not there
                    found += self.misfits(properties[name], member, f"{where}.{name}")
                elif name not in properties and properties and "additionalProperties" not in schema:
                    found.append(f"{where}: {name} is not described")
        return found

    def check(self, method, path, body, status, answer):
        """Of a request that was answered."""
        for pattern, template, methods in self.routes:
            operation = pattern.match(path) and methods.get(method.lower())
            if operation:
                break
        else:
            # DELETE is younger than its description, and what is no route at all is not described
            return [] if status == 400 else [f"{method} {path} is not described"]
        seen.add((method.lower(), template))
        found = []
        for parameter in operation.get("parameters", []):
            # a PATCH of the machine has only what changes, which its description does not say
            if parameter["in"] == "body" and status < 400 and body is not None and (method, template) != ("PATCH", "/machine-config"):
                found += self.misfits(parameter["schema"], body, "request")
        response = operation["responses"].get(status) or operation["responses"].get("default")
        if status == 200 and status not in operation["responses"] or status == 204 and status not in operation["responses"]:
            found.append(f"status {status} is not described")
        if answer is not None:
            found += self.misfits(response["schema"], answer, "answer")
        return found


description = None
if sys.argv[3:] == ["openapi"]:
    if "FIRECRACKER_OPENAPI" not in os.environ:
        print("SKIP: FIRECRACKER_OPENAPI does not name Firecracker's description of its API (firecracker.yaml), which no package carries")
        sys.exit(77)
    try:
        description = Description(os.environ["FIRECRACKER_OPENAPI"])
    except ImportError:
        print("SKIP: python3-yaml is not installed")
        sys.exit(77)

# ---- a vm ----


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=WAIT)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(WAIT)
        self.sock.connect(self.path)


class Vm:
    def __init__(self, name, *more):
        self.socket = os.path.join(work.name, name + ".socket")
        self.process = subprocess.Popen([MICROVM, "--api-sock", self.socket, "--backend", BACKEND, "--timeout", "100", *more],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        end = time.monotonic() + WAIT
        while self.process.poll() is None and time.monotonic() < end:
            try:
                self.call("GET", "/version")
                break
            except OSError:
                time.sleep(0.01)

    def call(self, method, path, body=None, raw=None):
        """Status and answer of a request."""
        connection = Unix(self.socket)
        connection.request(method, path, raw if raw is not None else None if body is None else json.dumps(body))
        response = connection.getresponse()
        text = response.read()
        connection.close()
        answer = json.loads(text) if text else None
        if description and raw is None:
            found = description.check(method, path, body, response.status, answer)
            if found:
                check(f"{method} {path} {json.dumps(body)} as described", False, found)
        return response.status, answer

    def good(self, method, path, body=None):
        status, answer = self.call(method, path, body)
        check(f"{method} {path} {json.dumps(body) if body is not None else ''}"[:110], status == (200 if method == "GET" else 204), (status, answer))
        return answer

    def bad(self, method, path, body, text, status=400, raw=None):
        got, answer = self.call(method, path, body, raw)
        check(f"refused: {method} {path} {json.dumps(body) if body is not None else ''}"[:110],
              got == status and list(answer) == ["fault_message"] and text in answer["fault_message"], (got, answer, text))

    def say(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def hear(self, text):
        got = self.process.stdout.read(len(text))
        check(f"the guest says {text!r}", got == text, got)

    def end(self, status=STOPPED):
        if status == STOPPED:
            self.process.terminate()
        got = self.process.wait(WAIT)
        err = self.process.stderr.read().decode()
        check(f"the process ends with {status}", got == status, f"{got} {err[-300:]}")
        check("its socket is gone", not os.path.exists(self.socket))
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()
        return err


# An ELF program for 64-bit mode: says "ready", sends back what comes in plus one, "D" for the Delete key, and resets the machine at "!".
def guest():
    def port(number):
        return b"\x66\xba" + struct.pack("<H", number)

    ready = port(0x3f8) + b"".join(b"\xb0" + bytes([c]) + b"\xee" for c in b"ready\n")
    serial = port(0x3fd) + b"\xec\xa8\x01" + b"\x74%c" + port(0x3f8) + b"\xec\x3c\x21\x75\x07" + port(0x64) + b"\xb0\xfe\xee" + port(0x3f8) + b"\xfe\xc0\xee" + b"\xeb%c"
    delete = port(0x60) + b"\xec\x3c\x53\x75%c" + port(0x3f8) + b"\xb0\x44\xee" + b"\xeb%c"
    keyboard = port(0x64) + b"\xec\xa8\x01\x74" + bytes([len(delete) - 2])

    def back(at):
        return 256 - at

    k = len(keyboard)
    delete = delete.replace(b"\x75%c", b"\x75" + bytes([back(k + 9)])).replace(b"\xeb%c", b"\xeb" + bytes([back(k + len(delete) - 2)]))
    k += len(delete)
    serial = serial.replace(b"\x74%c", b"\x74" + bytes([back(k + 9)]))
    serial = serial.replace(b"\xeb%c", b"\xeb" + bytes([back(k + len(serial) - 1)]))
    code = ready + keyboard + delete + serial
    at = 64 + 56
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x100000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, at, 0x100000, 0x100000, len(code), len(code), 0x1000) + code


KERNEL, DISK, PMEM = file("kernel", guest()), file("disk", bytes(1 << 20)), file("pmem", bytes(2 << 20))
DRIVE = {"drive_id": "root", "path_on_host": DISK, "is_root_device": True, "is_read_only": False}
NIC = {"iface_id": "eth0", "host_dev_name": "apitap0", "guest_mac": "AA:FC:00:00:00:01"}
LIMIT = {"bandwidth": {"size": 1000, "refill_time": 100}}
NO_LIMIT = {"bandwidth": {"size": 0, "refill_time": 0}, "ops": None}
POST, PRE = "not supported after starting the microVM", "not supported before starting the microVM"
NOT_HERE = "not supported: "

PRE_BOOT = [  # what can be said before the start only
    ("/machine-config", {"vcpu_count": 1, "mem_size_mib": 32}),
    ("/boot-source", {"kernel_image_path": KERNEL, "boot_args": "console=ttyS0"}),
    ("/cpu-config", {}),
    ("/drives/root", DRIVE),
    ("/network-interfaces/eth0", NIC),
    ("/pmem/p", {"id": "p", "path_on_host": DISK, "read_only": True}),
    ("/vsock", {"guest_cid": 3, "uds_path": os.path.join(work.name, "v.sock")}),
    ("/balloon", {"amount_mib": 4, "deflate_on_oom": True, "stats_polling_interval_s": 1}),
    ("/entropy", {"rate_limiter": LIMIT}),
    ("/serial", {"serial_out_path": None}),
    ("/logger", {"log_path": os.path.join(work.name, "log"), "level": "Debug", "show_level": True, "show_log_origin": True}),
    ("/metrics", {"metrics_path": os.path.join(work.name, "metrics"), "emit_id": True, "properties": {"zone": "a"}}),
    ("/mmds/config", {"network_interfaces": ["eth0"], "version": "V2", "ipv4_address": "169.254.170.2"}),
    ("/hotplug/memory", {"total_size_mib": 256, "slot_size_mib": 128, "block_size_mib": 2}),
    ("/snapshot/load", {"snapshot_path": "/no", "mem_file_path": "/no"}),
]

# method, path, body, what the sentence says
REFUSED = [
    ("GET", "/warp", None, "Invalid request method and/or path: GET /warp."),
    ("GET", "/vm", None, "Invalid request method"),
    ("GET", "/drives/root", None, "Invalid request method"),
    ("POST", "/actions", {"action_type": "InstanceStart"}, "Invalid request method and/or path: POST"),
    ("PUT", "/snapshot", {}, "Invalid request method"),
    ("GET", "/version", {}, "GET request cannot have a body."),
    ("PUT", "/boot-source", None, "Empty PUT request."),
    ("PATCH", "/machine-config", None, "Empty PATCH request."),
    ("PATCH", "/machine-config", {}, "Empty PATCH request."),
    ("PUT", "/machine-config", [], "expected an object"),
    ("PUT", "/machine-config", {"vcpu_count": 1}, "missing field `mem_size_mib`"),
    ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 32, "ht_enabled": True}, "unknown field `ht_enabled`, expected one of `vcpu_count`"),
    ("PUT", "/machine-config", {"vcpu_count": 0, "mem_size_mib": 32}, "`vcpu_count`: invalid value: 0"),
    ("PUT", "/machine-config", {"vcpu_count": 33, "mem_size_mib": 32}, "from 1 to 32"),
    ("PUT", "/machine-config", {"vcpu_count": "1", "mem_size_mib": 32}, "`vcpu_count`"),
    ("PUT", "/machine-config", {"vcpu_count": 1.5, "mem_size_mib": 32}, "`vcpu_count`"),
    ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": -1}, "`mem_size_mib`"),
    ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 1 << 80}, "`mem_size_mib`"),
    ("PUT", "/machine-config", {"vcpu_count": 3, "mem_size_mib": 32, "smt": True}, "even number if SMT"),
    ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 33, "huge_pages": "2M"}, "multiple of the configured page size"),
    ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 32, "cpu_template": "Z9"}, "`T2`"),
    ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 32, "cpu_template": "V1N1"}, NOT_HERE),
    ("PATCH", "/machine-config", {"smt": 1}, "`smt`: expected a boolean"),
    ("PUT", "/boot-source", {"kernel_image_path": "/no/such/kernel"}, "/no/such/kernel"),
    ("PUT", "/boot-source", {"kernel_image_path": KERNEL, "initrd_path": "/no/such/initrd"}, "/no/such/initrd"),
    ("PUT", "/boot-source", {"kernel_image_path": "/dev/zero"}, "expected a file"),
    ("PUT", "/boot-source", {"kernel_image_path": "a\0b"}, "expected a string"),
    ("PUT", "/boot-source", {"kernel_image_path": "x" * 5000}, "expected a string of at most"),
    ("PUT", "/cpu-config", {"cpuid_modifiers": [{"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": [{"register": "ecx", "bitmap": "0b0"}]}]}, NOT_HERE),
    ("PUT", "/cpu-config", {"cpuid_modifiers": [{"leaf": "0x1"}]}, "missing field `subleaf`"),
    ("PUT", "/drives", DRIVE, "The ID cannot be empty."),
    ("PUT", "/drives/", DRIVE, "The ID cannot be empty."),
    ("PUT", "/drives/a-b", DRIVE, "alphanumeric characters and underscores"),
    ("PUT", "/drives/" + "a" * 80, DRIVE, "at most 64"),
    ("PUT", "/drives/root/x", DRIVE, "Invalid request method"),
    ("PUT", "/drives/other", DRIVE, "The id from the path does not match the id from the body!"),
    ("PUT", "/drives/root", {**DRIVE, "path_on_host": "/no/such/disk"}, "/no/such/disk"),
    ("PUT", "/drives/root", {**DRIVE, "rate_limiter": LIMIT}, NOT_HERE),
    ("PUT", "/drives/root", {**DRIVE, "cache_type": "Writearound"}, "`Writeback`"),
    ("PUT", "/drives/root", {**DRIVE, "partuuid": "a b"}, "partuuid"),
    ("PUT", "/drives/root", {"drive_id": "root", "is_root_device": True}, "either path_on_host"),
    ("PUT", "/drives/root", {**DRIVE, "socket": "/s"}, "either path_on_host"),
    ("PUT", "/drives/root", {"drive_id": "root", "is_root_device": True, "socket": "/s", "io_engine": "Sync"}, "socket"),
    ("PUT", "/network-interfaces/eth1", NIC, "does not match"),
    ("PUT", "/network-interfaces/eth0", {**NIC, "guest_mac": "AA:FC:00:00:00"}, "AA:FC:00:00:00"),
    ("PUT", "/network-interfaces/eth0", {**NIC, "mtu": 67}, "`mtu`"),
    ("PUT", "/network-interfaces/eth0", {**NIC, "rx_rate_limiter": LIMIT}, NOT_HERE),
    ("PUT", "/network-interfaces/eth0", {**NIC, "tx_rate_limiter": {"ops": {"size": 1}}}, "missing field `refill_time`"),
    ("PUT", "/pmem/p", {"id": "p", "path_on_host": "/no/such/pmem"}, "/no/such/pmem"),
    ("PUT", "/vsock", {"guest_cid": 2, "uds_path": "/v"}, "`guest_cid`"),
    ("PUT", "/vsock", {"guest_cid": 3, "uds_path": work.name}, "exists"),
    ("GET", "/balloon", None, "No balloon device found."),
    ("PUT", "/balloon", {"amount_mib": 1 << 20, "deflate_on_oom": True}, "too large"),
    ("PUT", "/balloon", {"amount_mib": 1, "deflate_on_oom": True, "free_page_hinting": True}, NOT_HERE),
    ("PUT", "/entropy", {"rate_limiter": {"ops": {"size": 1, "refill_time": 1}}}, NOT_HERE),
    ("PUT", "/serial", {"rate_limiter": {"size": 1, "refill_time": 1}}, NOT_HERE),
    ("PUT", "/logger", {"log_path": "/no/such/directory/log"}, "/no/such/directory/log"),
    ("PUT", "/logger", {"level": "Loud"}, "`Trace`"),
    ("PUT", "/metrics", {"metrics_path": "/no/such/directory/metrics"}, "/no/such/directory/metrics"),
    ("PUT", "/metrics", {"metrics_path": "/m", "properties": {"a": 1}}, "`properties`"),
    ("PATCH", "/mmds", {"a": 1}, "not initialized"),
    ("PUT", "/mmds/config", {"network_interfaces": []}, "is empty"),
    ("PUT", "/mmds/config", {"network_interfaces": ["eth9"]}, "does not correspond"),
    ("PUT", "/mmds/config", {"network_interfaces": "eth0"}, "expected an array"),
    ("PUT", "/hotplug/memory", {"total_size_mib": 100}, "multiple of slot_size_mib"),
    ("PUT", "/actions", {"action_type": "Warp"}, "`InstanceStart`"),
    ("PUT", "/actions", {}, "missing field `action_type`"),
    ("PUT", "/actions", {"action_type": "InstanceStart"}, "without kernel configuration"),
    ("PUT", "/actions", {"action_type": "SendCtrlAltDel"}, PRE),
    ("PUT", "/actions", {"action_type": "FlushMetrics"}, PRE),
    ("PATCH", "/vm", {"state": "Paused"}, PRE),
    ("PATCH", "/vm", {"state": "Gone"}, "`Resumed`"),
    ("PATCH", "/drives/root", {"drive_id": "root"}, PRE),
    ("PATCH", "/network-interfaces/eth0", {"iface_id": "eth0"}, PRE),
    ("PATCH", "/pmem/p", {"id": "p"}, PRE),
    ("PATCH", "/balloon", {"amount_mib": 1}, PRE),
    ("GET", "/balloon/statistics", None, PRE),
    ("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 1}, PRE),
    ("PATCH", "/balloon/hinting/start", {"acknowledge_on_stop": True}, PRE),
    ("GET", "/balloon/hinting/status", None, PRE),
    ("PATCH", "/balloon/hinting/stop", None, PRE),
    ("GET", "/hotplug/memory", None, PRE),
    ("PATCH", "/hotplug/memory", {"requested_size_mib": 0}, PRE),
    ("PUT", "/snapshot/create", {"snapshot_path": "/s", "mem_file_path": "/m"}, PRE),
    ("PUT", "/snapshot/create", {"snapshot_path": "/s"}, "missing field `mem_file_path`"),
    ("PUT", "/snapshot/load", {"snapshot_path": "/s"}, "missing"),
    ("PUT", "/snapshot/load", {"snapshot_path": "/s", "mem_file_path": "/m", "mem_backend": {"backend_type": "File", "backend_path": "/m"}}, "too many"),
    ("PUT", "/snapshot/load", {"snapshot_path": "/s", "mem_backend": {"backend_type": "Uffd", "backend_path": "/m"}}, NOT_HERE),
    ("PUT", "/snapshot/load", {"snapshot_path": "/s", "mem_file_path": "/m", "clock_realtime": True}, NOT_HERE),
    ("PUT", "/snapshot/load", {"snapshot_path": "/no/such/state", "mem_file_path": "/m"}, "/no/such/state"),
    ("PUT", "/snapshot/load", {"snapshot_path": KERNEL, "mem_file_path": "/m"}, "deserializing"),
    ("DELETE", "/drives/root", None, PRE),
]


def requests():
    vm = Vm("requests")
    for row in REFUSED:
        vm.bad(*row)
    info = vm.good("GET", "/")
    check("... which say what there is", info["state"] == "Not started" and info["id"] == "anonymous-instance", info)
    check("a version as Firecracker's", re.match(r"1\.\d+\.\d+", vm.good("GET", "/version")["firecracker_version"]))
    check("the machine's defaults", vm.good("GET", "/machine-config") ==
          {"vcpu_count": 1, "mem_size_mib": 128, "smt": False, "track_dirty_pages": False, "huge_pages": "None"})
    for path, body in PRE_BOOT[:-1]:
        vm.good("PUT", path, body)
    vm.bad("PUT", "/metrics", {"metrics_path": "/m"}, "already")
    vm.bad("PUT", "/snapshot/load", PRE_BOOT[-1][1], "not allowed after configuring")
    vm.bad("PUT", "/drives/other", {**DRIVE, "drive_id": "other"}, "A root block device already exists!")
    vm.bad("PUT", "/pmem/q", {"id": "q", "path_on_host": DISK, "root_device": True}, "root")
    vm.bad("PUT", "/network-interfaces/eth1", {**NIC, "iface_id": "eth1"}, "already in use: AA:FC:00:00:00:01")
    vm.bad("PUT", "/mmds/config", {"network_interfaces": ["eth0"], "ipv4_address": "10.0.0.1"}, "not link local")
    vm.bad("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 2}, "balloon device target size")
    vm.good("PUT", "/drives/data", {"drive_id": "data", "path_on_host": DISK, "is_root_device": False, "is_read_only": True, "rate_limiter": NO_LIMIT,
                                    "cache_type": "Writeback", "io_engine": "Async"})
    vm.good("PUT", "/drives/root", {**DRIVE, "is_root_device": False})
    vm.good("PUT", "/drives/data", {"drive_id": "data", "path_on_host": DISK, "is_root_device": True, "is_read_only": True})
    vm.good("PATCH", "/machine-config", {"vcpu_count": 2, "smt": True})
    vm.good("PUT", "/mmds", {"latest": {"meta-data": {"id": "i-1", "old": True}}})
    vm.good("PATCH", "/mmds", {"latest": {"meta-data": {"old": None, "new": [1, None]}}})
    check("the metadata", vm.good("GET", "/mmds") == {"latest": {"meta-data": {"id": "i-1", "new": [1, None]}}})
    vm.bad("PATCH", "/mmds", {"x": "y" * 51170}, "fit", status=413)
    config = vm.good("GET", "/vm/config")
    check("the whole configuration", [d["drive_id"] for d in config["drives"]] == ["data", "root"] and config["machine-config"]["smt"] and
          config["machine-config"]["mem_size_mib"] == 32 and config["vsock"] == PRE_BOOT[6][1] and config["network-interfaces"] == [NIC], config)
    vm.end()


def hostile():
    vm = Vm("hostile")
    vm.bad("PUT", "/boot-source", "51201 bytes", "larger than the limit", status=413, raw=b" " * 51201)
    for name, raw in (("no JSON", b"{"), ("two values", b"{}{}"), ("deep", b"[" * 5000), ("deep objects", b'{"a":' * 5000), ("no UTF-8", b'{"a":"\xff"}'),
                      ("a comma", b'{"a":1,}'), ("null", b"null"), ("zero bytes", b"\0" * 100), ("a number", b"12"), ("NaN", b"NaN")):
        vm.bad("PUT", "/boot-source", name, "deserializing", raw=raw)
    idle = []
    for raw in (b"\0" * 1000, b"GET / HTTP/1.1\r\n\r\n" * 3, b"PUT /boot-source HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"A" * 100000,
                b"GET /" + b"x" * 60000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /%00%0a%2f HTTP/1.1\r\nHost: x\r\n\r\n",
                b"PUT /mmds HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(WAIT)
        s.connect(vm.socket)
        try:
            s.sendall(raw)
        except OSError:
            pass
        idle.append(s)
    check("it still answers", vm.good("GET", "/")["state"] == "Not started")
    for s in idle:
        s.close()
    err = vm.end()
    check("no line of the log is another's", not re.search(r"[\0-\x09\x0b-\x1f]", err), err)


def life():
    vm = Vm("life", "--id", "one")
    for path, body in PRE_BOOT[:-1]:
        if path not in ("/network-interfaces/eth0", "/mmds/config", "/pmem/p"):  # a tap needs rights
            vm.good("PUT", path, body)
    vm.good("PUT", "/pmem/p", {"id": "p", "path_on_host": PMEM, "read_only": True, "rate_limiter": NO_LIMIT})
    vm.good("PATCH", "/machine-config", {"cpu_template": "T2", "huge_pages": "Transparent"})
    vm.good("PUT", "/vsock", {"guest_cid": 3, "uds_path": "/no/such/directory/v.sock"})
    vm.bad("PUT", "/actions", {"action_type": "InstanceStart"}, "Start microvm error: ")
    check("it may be tried again", vm.good("GET", "/")["state"] == "Not started")
    vm.good("PUT", *PRE_BOOT[6])
    vm.good("PUT", "/actions", {"action_type": "InstanceStart"})
    vm.hear(b"ready\n")
    vm.say(b"a")
    vm.hear(b"b")
    check("it runs", vm.good("GET", "/")["state"] == "Running" and vm.good("GET", "/")["id"] == "one")
    for path, body in PRE_BOOT:
        if path not in ("/network-interfaces/eth0", "/mmds/config", "/drives/root", "/pmem/p"):
            vm.bad("PUT", path, body, POST)
    vm.bad("PATCH", "/machine-config", {"vcpu_count": 2}, POST)
    vm.bad("PUT", "/actions", {"action_type": "InstanceStart"}, POST)
    vm.bad("DELETE", "/drives/root", None, "PCI is not enabled")
    vm.bad("PUT", "/snapshot/create", {"snapshot_path": "/s", "mem_file_path": "/m"}, "not paused")
    post_boot(vm)
    vm.good("PUT", "/actions", {"action_type": "SendCtrlAltDel"})
    vm.hear(b"D")
    vm.good("PUT", "/actions", {"action_type": "FlushMetrics"})
    with open(os.path.join(work.name, "metrics")) as f:
        line = json.loads(f.readlines()[-1])
    check("figures", line["id"] == "one" and line["properties"] == {"zone": "a"} and line["vm"]["time_us"] > 0, line)
    with open(os.path.join(work.name, "log")) as f:
        log = f.read()
    check("the log", "[one:main:INFO:microvm] The API server received a PUT request on /actions" in log and "ERROR" in log, log[-500:])
    state, memory = snapshot(vm)
    vm.end()
    go_on(state, memory)


def post_boot(vm):
    vm.good("PATCH", "/drives/root", {"drive_id": "root", "path_on_host": DISK})
    vm.good("PATCH", "/drives/root", {"drive_id": "root", "rate_limiter": NO_LIMIT})
    vm.bad("PATCH", "/drives/root", {"drive_id": "root", "path_on_host": KERNEL}, NOT_HERE)
    vm.bad("PATCH", "/drives/root", {"drive_id": "root", "rate_limiter": LIMIT}, NOT_HERE)
    vm.bad("PATCH", "/drives/none", {"drive_id": "none"}, "none")
    vm.bad("PATCH", "/network-interfaces/eth0", {"iface_id": "eth0"}, "eth0")
    vm.good("PATCH", "/pmem/p", {"id": "p"})
    vm.bad("PATCH", "/pmem/p", {"id": "p", "rate_limiter": LIMIT}, NOT_HERE)
    vm.good("PATCH", "/balloon", {"amount_mib": 8})
    vm.bad("PATCH", "/balloon", {"amount_mib": 33}, "too large")
    check("the balloon", vm.good("GET", "/balloon")["amount_mib"] == 8)
    check("its figures", vm.good("GET", "/balloon/statistics")["target_mib"] == 8)
    vm.good("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 5})
    vm.bad("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 0}, "cannot be enabled/disabled")
    vm.bad("PATCH", "/balloon/hinting/start", None, NOT_HERE)
    vm.bad("GET", "/balloon/hinting/status", None, NOT_HERE)
    vm.good("PATCH", "/hotplug/memory", {"requested_size_mib": 64})
    vm.bad("PATCH", "/hotplug/memory", {"requested_size_mib": 1024}, "Memory hotplug update error")
    memory = vm.good("GET", "/hotplug/memory")
    check("the memory", memory == {"total_size_mib": 256, "slot_size_mib": 128, "block_size_mib": 2, "plugged_size_mib": 0, "requested_size_mib": 64}, memory)
    vm.good("PUT", "/mmds", {"a": "b"})


def snapshot(vm):
    state, memory = os.path.join(work.name, "state"), os.path.join(work.name, "memory")
    vm.good("PATCH", "/vm", {"state": "Paused"})
    vm.good("PATCH", "/vm", {"state": "Paused"})
    check("it is paused", vm.good("GET", "/")["state"] == "Paused")
    vm.bad("PUT", "/snapshot/create", {"snapshot_path": state, "mem_file_path": memory, "snapshot_type": "Diff"}, NOT_HERE)
    vm.bad("PUT", "/snapshot/create", {"snapshot_path": state, "mem_file_path": state}, "the same")
    vm.bad("PUT", "/snapshot/create", {"snapshot_path": "/no/such/s", "mem_file_path": "/no/such/m"}, "/no/such/m")
    vm.good("PUT", "/snapshot/create", {"snapshot_path": state + "2", "mem_file_path": memory + "2"})
    vm.good("PUT", "/snapshot/create", {"snapshot_path": state, "mem_file_path": memory, "snapshot_type": "Full"})
    vm.good("PATCH", "/vm", {"state": "Resumed"})
    vm.good("PATCH", "/vm", {"state": "Resumed"})
    vm.say(b"c")
    vm.hear(b"d")
    return state, memory


def go_on(state, memory):
    vm = Vm("again", "--id", "two")
    load = {"snapshot_path": state, "mem_backend": {"backend_type": "File", "backend_path": memory}}
    with open(state) as f:
        known = json.load(f)
    for name, change in (("no-format", {"format": "x"}), ("version", {"version": 2}), ("no-config", {"config": None}), ("id", {"snapshot": "00"}),
                         ("drives", {"config": {**known["config"], "drives": [{"drive_id": 1}]}}),
                         ("many", {"config": {**known["config"], "drives": [DRIVE] * 100}}), ("machine", {"config": {"drives": []}})):
        vm.bad("PUT", "/snapshot/load", {**load, "snapshot_path": file("state-" + name, json.dumps({**known, **change}).encode())}, "")
    vm.bad("PUT", "/snapshot/load", {**load, "mem_backend": {"backend_type": "File", "backend_path": memory + "2"}}, "belongs to another snapshot")
    vm.bad("PUT", "/snapshot/load", {**load, "mem_backend": {"backend_type": "File", "backend_path": KERNEL}}, "Load snapshot error")
    vm.bad("PUT", "/snapshot/load", {**load, "network_overrides": [{"iface_id": "eth7", "host_dev_name": "t"}]}, "eth7")
    vm.call("PUT", "/logger", raw=b'{"level": "eRROR"}')
    vm.good("PUT", "/logger", {"level": "Off"})
    vm.good("PUT", "/snapshot/load", {**load, "vsock_override": {"uds_path": os.path.join(work.name, "w.sock")}})
    check("it is there, paused", vm.good("GET", "/")["state"] == "Paused")
    config = vm.good("GET", "/vm/config")
    check("its configuration came along", config["vsock"]["uds_path"].endswith("w.sock") and config["drives"] == [DRIVE] and
          config["balloon"]["amount_mib"] == 8 and os.path.exists(config["vsock"]["uds_path"]), config)
    vm.bad("PUT", "/snapshot/load", load, POST)
    vm.good("PATCH", "/vm", {"state": "Resumed"})
    vm.say(b"x")
    vm.hear(b"y")
    check("its balloon", vm.good("GET", "/balloon/statistics")["target_mib"] == 8)
    vm.good("PUT", "/actions", {"action_type": "SendCtrlAltDel"})
    vm.hear(b"D")
    vm.say(b"!")
    vm.end(0)
    vm = Vm("resumed")
    vm.good("PUT", "/snapshot/load", {"snapshot_path": state, "mem_file_path": memory, "resume_vm": True})
    check("it runs at once", vm.good("GET", "/")["state"] == "Running")
    vm.say(b"e")
    vm.hear(b"f")
    vm.good("PATCH", "/vm", {"state": "Paused"})
    vm.end()  # a paused one, too
    vm = Vm("never")
    vm.good("PUT", "/snapshot/load", {"snapshot_path": state, "mem_file_path": memory})
    vm.end()


def command_line():
    def run(name, status, *arguments, err="", text=b""):
        r = subprocess.run([MICROVM, *arguments], input=text, capture_output=True, timeout=WAIT)
        check(name, r.returncode == status and err in r.stderr.decode(), f"{r.returncode} {r.stderr.decode()[-300:]}")
        return r

    config = {"boot-source": PRE_BOOT[1][1], "machine-config": PRE_BOOT[0][1], "drives": [DRIVE], "entropy": {}, "network-interfaces": []}
    path = file("vm.json", json.dumps(config).encode())
    # its standard input has all at once: "!" ends it
    r = run("--config-file --no-api", 0, "--config-file", path, "--no-api", "--backend", BACKEND, "--timeout", "100", text=b"a!")
    check("... runs the vm", r.stdout.startswith(b"ready\nb"), r.stdout)
    run("--config-file with a wrong field", ERROR, "--no-api", "--config-file", file("bad.json", b'{"drive": []}'), err="unknown field `drive`")
    run("--config-file with a wrong drive", ERROR, "--no-api", "--config-file", file("bad.json", b'{"drives": [{}]}'), err="The ID cannot be empty")
    run("--config-file that is not there", ERROR, "--no-api", "--config-file", "/no/such.json", err="/no/such.json")
    run("--metadata that is not JSON", ERROR, "--api-sock", "/no/such/socket", "--metadata", KERNEL, err="--metadata")
    run("--api-sock where nothing can be", ERROR, "--api-sock", "/no/such/socket", err="/no/such/socket")
    run("--api-sock of something else's", ERROR, "--api-sock", KERNEL, err="in use")
    run("--api-sock with --kernel", USAGE, "--api-sock", "/s", "--kernel", KERNEL, err="--api-sock")
    run("--no-api alone", USAGE, "--no-api", err="--no-api")
    run("--id without the API", USAGE, "--kernel", KERNEL, "--id", "x", err="--id")
    run("a wrong --id", USAGE, "--api-sock", "/s", "--id", "a_b", err="--id a_b")
    run("a wrong --level", ERROR, "--api-sock", "/s", "--level", "Loud", err="--level")


def main():
    probe = subprocess.run([MICROVM, "--api-sock", "/no/such/socket"], capture_output=True, text=True)
    if "switched off" in probe.stderr:
        print("SKIP: " + probe.stderr.strip())
        return 77
    requests()
    hostile()
    life()
    command_line()
    if description:
        missing = sorted(f"{method} {path}" for _, path, methods in description.routes for method in methods if (method, path) not in seen)
        check("every operation of the description was asked for", not missing, missing)
    print(f"{len(failures)} failures")
    return bool(failures)


sys.exit(main())
