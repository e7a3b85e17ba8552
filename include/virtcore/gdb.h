/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file Debugging the guest with gdb: a remote stub that a stock gdb connects to with `target remote ADDRESS`.
 *
 * Each vcpu is a thread of gdb's, number index + 1. gdb sees general, segment, x87, SSE and AVX registers, the bases of
 * FS and GS and the control registers, and guest-virtual memory through the page tables of the current thread. Software
 * breakpoints are INT3 in guest memory; an INT3 that the guest itself has there stays the guest's. Hardware breakpoints
 * and watchpoints share the four debug registers, in place of what the guest has in them; a read watchpoint also sees
 * writes, which gdb tells by the changed value. A step takes an interrupt that is due, as the CPU does.
 *
 * While gdb holds the vm no vcpu executes, whoever runs them: the library's threads stand still, vcore_vcpu_run() does
 * not return until gdb lets its vcpu go or the vm ends. Guest time stands still with a started vm. vcore_vm_pause(),
 * _resume() and _stop() work beside it. VCORE_EXIT_DEBUG goes to gdb.
 */
#ifndef VIRTCORE_GDB_H
#define VIRTCORE_GDB_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

/** A gdb stub of a vm. Owned by the program. */
typedef struct vcore_gdb vcore_gdb;

struct vcore_gdb_options {
	uint32_t size;
	uint32_t wait; /**< 1: vcpus stand still until the first gdb lets them go, or leaves */
	/**
	 * Where to listen: "tcp:HOST:PORT", "HOST:PORT" or ":PORT", HOST a numeric address ("[::1]"), "localhost" or
	 * nothing, which is 127.0.0.1; PORT 0: one the system chooses. "unix:PATH": a socket that does not exist yet,
	 * removed at the end. NULL: "127.0.0.1:1234". Whoever can connect has the whole guest.
	 */
	const char *address;
};

/**
 * Listen for gdb, on a thread of the library's. One gdb at a time: further ones are turned away.
 *
 * The vm is held when gdb connects and goes on, without gdb's breakpoints, when it detaches or its connection ends;
 * gdb's `kill` is vcore_vm_stop(). When the vm has its final exit gdb is told so: an exit status of 0, the debug-exit
 * device's (code << 1 | 1), or SIGABRT for a crash. Until vcore_gdb_free() vcore_vcpu_set_debug() is refused with
 * -EBUSY.
 * @param options NULL: defaults
 * @param gdb     out; it holds a reference to the vm, which therefore lives at least until vcore_gdb_free()
 * @return 0; -EINVAL no vm, an address of another form (named in the message); -EBUSY the vm has a stub already;
 *         -EDEADLK from a callback of one of its vcpus;
 * -EADDRINUSE, -EACCES and other errnos of making the socket; -EAGAIN no thread can be made; -ENOMEM
 */
VCORE_API int vcore_gdb_new(vcore_vm *vm, const struct vcore_gdb_options *options, vcore_gdb **gdb);

/**
 * What to give to gdb's `target remote`: "127.0.0.1:1234", "[::1]:1234" or the socket's path.
 * @param text   out: cut to length, always ended by a zero byte
 * @param length at least 1
 * @return its whole length; -EINVAL
 */
VCORE_API int vcore_gdb_address(vcore_gdb *gdb, char *text, size_t length);

/**
 * End the stub: a connected gdb is told of a final exit there has been, and else sees its connection close; the vm goes
 * on without breakpoints. Returns once the stub's thread is gone. NULL is allowed. Not from inside a callback of the
 * same vm.
 */
VCORE_API void vcore_gdb_free(vcore_gdb *gdb);

VCORE_END_DECLS
#endif
