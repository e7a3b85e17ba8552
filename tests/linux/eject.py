# SPDX-License-Identifier: LGPL-2.1-or-later
# eject.py MICROVM KERNEL INITRD SOCKET: with the guest of hotplug-init.sh, a card in a slot is removed by the monitor: when the guest has let go
# of it, and not before; and another one comes.
import json
import socket
import subprocess
import sys

microvm, kernel, initrd, path = sys.argv[1:]
vm = subprocess.Popen([microvm, "--backend", "emu", "--kernel", kernel, "--initrd", initrd, "--cmdline", "console=ttyS0 quiet panic=-1",
                       "--memory", "256M", "--timeout", "120", "--monitor", path, "--device", "pci-root-port,addr=1,slot=7",
                       "--device", "virtio-rng,addr=1/0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def fail(what):
    vm.kill()
    sys.exit("eject.py: " + what)


def guest_says(wanted):
    for line in vm.stdout:
        print(line, end="")
        if wanted in line:
            return
    fail("the guest does not say " + wanted)


guest_says("hotplug: works")
client = socket.socket(socket.AF_UNIX)
client.settimeout(60)
client.connect(path)
stream = client.makefile("rw")
events = []


def answer():
    while True:
        message = json.loads(stream.readline())
        if "event" not in message:
            return message
        events.append(message["event"])


def ask(command, **arguments):
    print(json.dumps({"execute": command, "arguments": arguments}), file=stream, flush=True)
    message = answer()
    if "return" not in message:
        fail(f"{command}: {message}")
    return message["return"]


answer()  # the greeting
ask("capabilities")
card = [d["id"] for d in ask("query-devices") if d["type"] == "virtio-rng"][0]
if ask("device-remove", id=card) != {"leaving": True}:
    fail("the card does not wait for the guest")
# Linux gives its user five seconds to change his mind
if card not in [d["id"] for d in ask("query-devices")] or "DEVICE_REMOVED" in events:
    fail("the card has gone at once")
while "DEVICE_REMOVED" not in events:
    events.append(json.loads(stream.readline()).get("event"))
if card in [d["id"] for d in ask("query-devices")]:
    fail("the card is still there")
guest_says("hotplug: gone")
ask("device-add", type="virtio-rng", properties={"addr": "1/0"})
guest_says("hotplug: 2048 bytes")
guest_says("hotplug: end")
if vm.wait(60):
    fail(f"microvm ended with {vm.returncode}")
