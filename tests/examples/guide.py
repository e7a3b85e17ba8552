#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""guide.py BUILD KERNEL-DIR FILE.md...: the guide's code does what the guide says.

Each block of code says what becomes of it: `run` (C is compiled first, with warnings as errors; it ends with 0), `run kernel` (the same with
the arguments VMLINUZ INITRD), or it is a `console`, `json` or `text` to be looked at. They run in a directory that has vmlinuz and initrd.gz."""
import glob
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOOKED_AT = ("console", "json", "text", "")
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"]


def blocks(path):
    """(line, language, words, code) of each."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for found in re.finditer(r"^```(\w*)([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield text.count("\n", 0, found.start()) + 1, found[1], found[2].split(), found[3]


def compile_c(build, code, where):
    with open(where + ".c", "w", encoding="utf-8") as file:
        file.write(code)
    subprocess.run(["cc", "-std=gnu11", "-O1", *WARNINGS, "-I", os.path.join(ROOT, "include"), where + ".c", "-o", where, "-L", os.path.join(build, "lib"), "-lvirtcore",
                    "-Wl,-rpath," + os.path.join(build, "lib")], check=True)
    return [where]


def command(build, language, words, code, where):
    if language == "sh":
        return ["sh", "-ec", code]
    program = compile_c(build, code, where) if language == "c" else [sys.executable, "-c", code]
    return program + (["vmlinuz", "initrd.gz"] if "kernel" in words else [])


def guest(kernels, directory):
    """A kernel and an initial RAM disk; None: where there is none to be had."""
    tools = os.path.join(ROOT, "tests/tools")
    kernel = subprocess.run([os.path.join(tools, "get-kernel.sh"), kernels], capture_output=True, text=True)
    if kernel.returncode:
        return None
    os.symlink(os.path.abspath(kernel.stdout.strip()), os.path.join(directory, "vmlinuz"))
    subprocess.run(["sh", os.path.join(tools, "mkinitramfs.sh"), os.path.join(directory, "initrd.gz"), os.path.join(ROOT, "examples/init.sh")], check=True)
    return directory


def main():
    build, kernels, *paths = sys.argv[1:]
    build = os.path.abspath(build)
    env = {**os.environ, "PATH": os.path.join(build, "examples") + ":" + os.environ["PATH"], "PYTHONPATH": os.path.join(build, "bindings/python")}
    python = glob.glob(os.path.join(build, "bindings/python/virtcore/_virtcore*.so"))
    bad = ran = 0
    with tempfile.TemporaryDirectory() as directory:
        kernel = guest(kernels, directory)
        for path in paths:
            for line, language, words, code in blocks(path):
                place = f"{os.path.relpath(path, ROOT)}:{line}"
                if language in LOOKED_AT and not words:
                    continue
                if "run" not in words:
                    print(f"{place}: says neither run nor that it is to be looked at")
                    bad += 1
                elif (language != "c" or "kernel" in words) and not kernel or language == "python" and not python:
                    print(f"{place}: not run: there is no {'Python package' if kernel else 'kernel'} here")
                else:
                    done = subprocess.run(command(build, language, words, code, os.path.join(directory, f"block{line}")), cwd=directory, env=env, stdin=subprocess.DEVNULL,
                                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200)
                    ran += 1
                    print(f"{place}: {'ok' if done.returncode == 0 else f'ended with {done.returncode}'}")
                    if done.returncode:
                        print(done.stdout)
                        bad += 1
    print(f"{ran} blocks run, {bad} bad")
    return bad or not ran


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
