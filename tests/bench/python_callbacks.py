#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How often a second a guest can call Python: devices and hooks of the package virtcore (backend emu) beside Unicorn's hooks in Python.

The same 32-bit loop, the same work in the callback (it counts), in turn; CPU time, which other load on the host hardly changes; medians.
python_callbacks.py [--smoke] [--rounds N] [--json FILE], with PYTHONPATH=BUILD/bindings/python. Without python3-unicorn there is no peer.
"""
import argparse
import json
import statistics
import time

import virtcore

try:
    import unicorn
    from unicorn.x86_const import UC_X86_INS_IN, UC_X86_INS_OUT
except ImportError:
    unicorn = None

CODE, MMIO, PORT = 0x1000, 0x10000000, 0x10


class Counter:
    """As many arguments as each side passes."""
    count = 0

    def two(self, address, length):
        self.count += 1

    def three(self, offset, width, value):
        self.count += 1

    def four(self, vm, address, length, data):
        self.count += 1

    def five(self, vm, offset, width, value, data):
        self.count += 1

    def read(self, offset, width):
        self.count += 1
        return 0

    def read_four(self, vm, offset, width, data):
        self.count += 1
        return 0


def loop(body, turns):
    """mov ecx, turns; l: BODY; dec ecx; jnz l"""
    body = bytes.fromhex(body)
    return b"\xb9" + turns.to_bytes(4, "little") + body + b"\x49\x75" + bytes([256 - len(body) - 3])


def ours(code, add, counter):
    with virtcore.VM(machine="none", backend="emu", memory="2M") as vm:
        vm.memory[CODE] = code + b"\xf4"
        vm.vcpu.set_mode("protected32")
        vm.vcpu.regs.rip = CODE
        add(vm, counter)
        start = time.process_time()
        assert vm.vcpu.run() == virtcore.Halt()
        return time.process_time() - start


def theirs(code, add, counter):
    machine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
    machine.mem_map(0, 2 << 20)
    machine.mem_write(CODE, code)
    add(machine, counter)
    start = time.process_time()
    machine.emu_start(CODE, CODE + len(code))
    return time.process_time() - start


# name: body of the loop, callbacks a turn, how virtcore and how Unicorn is told to call
ROWS = {
    "each instruction": ("", 2, lambda vm, c: vm.hook_code(c.two), lambda uc, c: uc.hook_add(unicorn.UC_HOOK_CODE, c.four)),
    "each block": ("", 1, lambda vm, c: vm.hook_block(c.two), lambda uc, c: uc.hook_add(unicorn.UC_HOOK_BLOCK, c.four)),
    "port write": ("e610", 1, lambda vm, c: vm.add_ports(PORT, 1, write=c.three),
                   lambda uc, c: uc.hook_add(unicorn.UC_HOOK_INSN, c.five, None, 1, 0, UC_X86_INS_OUT)),
    "port read": ("e410", 1, lambda vm, c: vm.add_ports(PORT, 1, read=c.read),
                  lambda uc, c: uc.hook_add(unicorn.UC_HOOK_INSN, c.read_four, None, 1, 0, UC_X86_INS_IN)),
    "MMIO read": ("a100000010", 1, lambda vm, c: vm.add_mmio(MMIO, 0x1000, read=c.read),
                  lambda uc, c: uc.mmio_map(MMIO, 0x1000, c.read_four, None, None, None)),
    "MMIO write": ("a300000010", 1, lambda vm, c: vm.add_mmio(MMIO, 0x1000, write=c.three),
                   lambda uc, c: uc.mmio_map(MMIO, 0x1000, None, None, c.five, None)),
}


def measure(run, code, add, expected):
    """Nanoseconds a callback."""
    counter = Counter()
    took = run(code, add, counter)
    assert expected <= counter.count <= expected + 2, f"{counter.count} callbacks in place of {expected}"
    return took / counter.count * 1e9


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="few callbacks: only see that everything runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    args = parser.parse_args()
    turns, rounds = (1000, 1) if args.smoke else (300000, args.rounds)
    results = {}
    for name, (body, each, add, add_unicorn) in ROWS.items():
        code, found = loop(body, turns), {"virtcore": [], "unicorn": []}
        for _ in range(rounds):
            found["virtcore"].append(measure(ours, code, add, turns * each))
            if unicorn:
                found["unicorn"].append(measure(theirs, code, add_unicorn, turns * each))
        results[name] = {peer: statistics.median(values) for peer, values in found.items() if values}
    print(f"{'callback at':18}{'virtcore':>12}{'unicorn':>12}{'x faster':>10}")
    for name, row in results.items():
        peer = f"{row['unicorn']:9.0f} ns{row['unicorn'] / row['virtcore']:10.2f}" if "unicorn" in row else "   not installed"
        print(f"{name:18}{row['virtcore']:9.0f} ns{peer}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
