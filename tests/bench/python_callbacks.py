#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How often a second a guest can call Python: devices and hooks of the package virtcore (backend emu) beside Unicorn's hooks in Python.

The same 32-bit loop, the same body of the Python function, in turn; CPU time, which other load on the host hardly changes; medians. Once with
an empty body, once with one that counts. "floor" is the interpreter's own part: the same function called by C that does nothing else.
python_callbacks.py [--smoke] [--rounds N] [--json FILE], with PYTHONPATH=BUILD/bindings/python. Without python3-unicorn there is no peer.
"""
import argparse
import collections
import itertools
import json
import statistics
import time

import virtcore

try:
    import unicorn
    from unicorn.x86_const import UC_X86_INS_IN, UC_X86_INS_OUT
except ImportError:
    unicorn = None

CODE, DATA, MMIO, PORT, CALL = 0x1000, 0x100000, 0x10000000, 0x10, 100


class Empty:
    """As many arguments as each side passes."""

    def one(self, event):
        pass

    def two(self, address, length):
        pass

    def three(self, offset, width, value):
        pass

    def four(self, vm, address, length, data):
        pass

    def five(self, vm, offset, width, value, data):
        pass

    def six(self, vm, access, address, length, value, data):
        pass

    def read(self, offset, width):
        return 0

    def read_four(self, vm, offset, width, data):
        return 0


class Counter:
    """The same, with something to do."""
    count = 0

    def one(self, event):
        self.count += 1

    def two(self, address, length):
        self.count += 1

    def three(self, offset, width, value):
        self.count += 1

    def four(self, vm, address, length, data):
        self.count += 1

    def five(self, vm, offset, width, value, data):
        self.count += 1

    def six(self, vm, access, address, length, value, data):
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


def ours(code, add, callee):
    with virtcore.VM(machine="none", backend="emu", memory="2M") as vm:
        vm.memory[CODE] = code + b"\xf4"
        vm.vcpu.set_mode("protected32")
        vm.vcpu.regs.rip = CODE
        add(vm, callee)
        start = time.process_time()
        assert vm.vcpu.run() == virtcore.Halt()
        return time.process_time() - start


def theirs(code, add, callee):
    machine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
    machine.mem_map(0, 2 << 20)
    machine.mem_write(CODE, code)
    add(machine, callee)
    start = time.process_time()
    machine.emu_start(CODE, CODE + len(code))
    return time.process_time() - start


def hook(uc, kind, function, *instruction):
    """On everything, of the data that the loop has."""
    begin, end = (DATA, DATA + 0xfff) if kind & (unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE) else (1, 0)
    uc.hook_add(kind, function, None, begin, end, *instruction)


# name: body of the loop (a second one: of Unicorn's, which has no hypercalls), callbacks a turn, how virtcore and how Unicorn is told to call, arguments
ROWS = {
    "each instruction": ([""], 2, lambda vm, f: vm.hook_code(f.two), lambda uc, f: hook(uc, unicorn.UC_HOOK_CODE, f.four), "two"),
    "each block": ([""], 1, lambda vm, f: vm.hook_block(f.two), lambda uc, f: hook(uc, unicorn.UC_HOOK_BLOCK, f.four), "two"),
    "memory read": (["a100001000"], 1, lambda vm, f: vm.hook_memory(f.one, DATA, 0x1000, virtcore.READS),
                    lambda uc, f: hook(uc, unicorn.UC_HOOK_MEM_READ, f.six), "one"),
    "memory write": (["a300001000"], 1, lambda vm, f: vm.hook_memory(f.one, DATA, 0x1000, virtcore.WRITES),
                     lambda uc, f: hook(uc, unicorn.UC_HOOK_MEM_WRITE, f.six), "one"),
    "port write": (["e610"], 1, lambda vm, f: vm.add_ports(PORT, 1, write=f.three),
                   lambda uc, f: hook(uc, unicorn.UC_HOOK_INSN, f.five, UC_X86_INS_OUT), "three"),
    "port read": (["e410"], 1, lambda vm, f: vm.add_ports(PORT, 1, read=f.read),
                  lambda uc, f: hook(uc, unicorn.UC_HOOK_INSN, f.read_four, UC_X86_INS_IN), "read"),
    "MMIO read": (["a100000010"], 1, lambda vm, f: vm.add_mmio(MMIO, 0x1000, read=f.read),
                  lambda uc, f: uc.mmio_map(MMIO, 0x1000, f.read_four, None, None, None), "read"),
    "MMIO write": (["a300000010"], 1, lambda vm, f: vm.add_mmio(MMIO, 0x1000, write=f.three),
                   lambda uc, f: uc.mmio_map(MMIO, 0x1000, None, None, f.five, None), "three"),
    "hypercall, INT": (["b0640f01c1", "b064cd80"], 1, lambda vm, f: vm.add_hypercalls(CALL, call=f.two),
                       lambda uc, f: hook(uc, unicorn.UC_HOOK_INTR, f.three), "two"),
}
ARGUMENTS = {"one": 1, "two": 2, "three": 3, "read": 2}


def floor(callee, name, calls):
    """Seconds that C takes to call the function so often."""
    function = getattr(callee, name)
    others = [itertools.repeat(DATA)] * (ARGUMENTS[name] - 1)
    start = time.process_time()
    collections.deque(map(function, itertools.repeat(DATA, calls), *others), maxlen=0)
    return time.process_time() - start


def check(run, code, add, expected):
    """That it is called as often as it should be."""
    counter = Counter()
    run(code, add, counter)
    assert expected <= counter.count <= expected + 2, f"{counter.count} callbacks in place of {expected}"


def measure(row, body, turns, rounds):
    """Medians in nanoseconds a callback, by who calls."""
    codes, each, add, add_unicorn, name = ROWS[row]
    peers = {"virtcore": (ours, codes[0], add)}
    if unicorn:
        peers["unicorn"] = (theirs, codes[-1], add_unicorn)
    for run, code, how in peers.values():
        check(run, loop(code, 500), how, 500 * each)
    found = {peer: [] for peer in [*peers, "floor"]}
    for _ in range(rounds):
        for peer, (run, code, how) in peers.items():
            found[peer].append(run(loop(code, turns), how, body()))
        found["floor"].append(floor(body(), name, turns * each))
    return {peer: statistics.median(took) / (turns * each) * 1e9 for peer, took in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="few callbacks: only see that everything runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    args = parser.parse_args()
    turns, rounds = (1000, 1) if args.smoke else (300000, args.rounds)
    results = {}
    for label, body in {"an empty body": Empty, "a body that counts": Counter}.items():
        print(f"{'callback with ' + label:34}{'virtcore':>10}{'unicorn':>12}{'x faster':>10}{'floor':>10}")
        for row in ROWS:
            found = results.setdefault(row, {})[label] = measure(row, body, turns, rounds)
            peer = f"{found['unicorn']:9.0f} ns{found['unicorn'] / found['virtcore']:10.2f}" if "unicorn" in found else f"{'not installed':>22}"
            print(f"{row:34}{found['virtcore']:7.0f} ns{peer}{found['floor']:7.0f} ns", flush=True)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
