#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes the compiled part of the package, virtcore._virtcore.

The declarations are taken from the public headers as the C compiler's preprocessor sees them, each time that it is built, and the
compiler checks the outcome against the same headers: they cannot drift.

build_cffi.py INCLUDE OUT.c CC...   writes the C source, which meson compiles, and OUT.c.d with the headers that went into it; setup.py uses installed()
"""
import os
import re
import shlex
import subprocess
import sys

import cffi

HERE = os.path.dirname(os.path.abspath(__file__))

# What the library calls, in glue.c, and what that calls in turn, in virtcore/_callbacks.py.
GLUE = """
extern "Python" {
    void vcpy_meet_thread(void);
    void vcpy_device_reset(void *ctx);
    int64_t vcpy_device_save(void *ctx, void *buffer, size_t length);
    int vcpy_device_load(void *ctx, const void *buffer, size_t length);
    void vcpy_log(void *ctx, int level, const char *message);
    const char *vcpy_clone_properties(void *ctx, uint32_t index, const char *type, const char *properties);
    int vcpy_clone_prepare(void *ctx, vcore_vm *vm);
    void vcpy_destroy(void *ctx);
}
struct vcpy_ctx { ...; };
void vcpy_fill(struct vcpy_ctx *ctx, void *handle, uintptr_t read, uintptr_t write, uintptr_t call, uintptr_t hook, uintptr_t event, uintptr_t failed);
int vcpy_run(vcore_vcpu *vcpu, int64_t timeout_ns, struct vcore_exit *exit);
vcore_vcpu *vcpy_current(void);
int vcpy_io_add(vcore_vm *vm, int bus, uint64_t start, uint64_t length, void *ctx, vcore_device **device);
int vcpy_pci_add(vcore_vm *vm, const struct vcore_pci_description *description, void *ctx, vcore_device **device);
int vcpy_hook_add(vcore_vm *vm, uint32_t kind, uint64_t start, uint64_t length, uint32_t access, void *ctx, vcore_hook **hook);
void vcpy_set_log(struct vcore_options *options, void *ctx);
int vcpy_clone(vcore_snapshot *snapshot, struct vcore_clone_options *options, void *ctx, void *log_ctx, vcore_vm **vm);
"""


def declarations(include, compiler, options=()):
    """What the headers under `include` declare, without what they include of others."""
    root = os.path.realpath(include)
    text = subprocess.run([*compiler, "-E", *options, "-I", root, "-x", "c", os.path.join(root, "virtcore", "virtcore.h")], check=True, capture_output=True,
                          text=True).stdout
    ours, lines = False, []
    for line in text.splitlines():
        marker = re.match(r'# \d+ "([^"]*)"', line)
        if marker:
            ours = os.path.realpath(marker[1]).startswith(root + os.sep)
        elif ours and not line.startswith("#"):
            lines.append(re.sub(r'__attribute__\(\(visibility\("default"\)\)\)', "", line))
    return "\n".join(lines)


def builder(include, compiler, options=(), **link):
    """The cffi builder for headers in the directory `include`."""
    ffi = cffi.FFI()
    ffi.cdef(declarations(include, compiler, options))
    ffi.cdef(GLUE)
    with open(os.path.join(HERE, "glue.c"), encoding="utf-8") as glue:
        ffi.set_source("virtcore._virtcore", glue.read(), **link)
    return ffi


def installed():
    """The builder for the library that pkg-config finds."""
    def config(*options):
        return shlex.split(subprocess.run(["pkg-config", *options, "libvirtcore"], check=True, capture_output=True, text=True).stdout)
    directories = [*(flag[2:] for flag in config("--cflags-only-I")), *config("--variable=includedir")]
    include = next(d for d in directories if os.path.exists(os.path.join(d, "virtcore", "virtcore.h")))
    return builder(include, shlex.split(os.environ.get("CC", "cc")), include_dirs=[include], libraries=["virtcore"],
                   define_macros=[("_CFFI_NO_LIMITED_API", None)], py_limited_api=False, library_dirs=[flag[2:] for flag in config("--libs-only-L")])


if __name__ == "__main__":
    made = sys.argv[2]
    builder(sys.argv[1], sys.argv[3:], ["-MD", "-MF", made + ".d", "-MT", made]).emit_c_code(made)
