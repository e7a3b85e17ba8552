#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two guests on a switch, one of which pings the other: switch.py VMLINUZ INITRD, whose init has the driver of virtio-net and a shell on the console"""
import sys

import virtcore

lan = virtcore.Switch()
with virtcore.VM(memory="256M") as one, virtcore.VM(memory="256M") as two:
    for vm in one, two:
        vm.add_switch("lan", lan)
        vm.add_device("virtio-net", net="switch", switch="lan")
        vm.boot_linux(*sys.argv[1:3], "console=ttyS0 quiet panic=-1")
    for number, vm in enumerate((one, two), 1):
        vm.console.expect("init:", timeout=120)
        vm.console.send(f"ip addr add 10.0.0.{number}/24 dev eth0 && ip link set eth0 up && echo up\n")
        vm.console.expect("(?m)^up", timeout=60)
    one.console.send("ping -c 3 10.0.0.2\n")
    print(one.console.expect("3 packets transmitted[^\n]*\n", timeout=60).group().strip())
    for port in lan.ports:
        print(port)
