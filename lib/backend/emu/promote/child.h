/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The process of a promoted address space: how it is laid out, and what is said to it.
 *
 * It holds the guest's user pages at their own addresses, translated code, and next to nothing else. It is stopped in a
 * signal handler, or executes translated code; every way out of that is a signal. Its handler sends one message, obeys
 * orders (system calls that map and unmap pages) and returns to what the signal frame says, which the vcpu's thread
 * reads and writes in shared memory.
 *
 * Guest code can write the spill slots and the dead stack there, and nothing that anybody believes: orders come through
 * a pipe, which translated code cannot write to as it makes no system calls; code and the table of indirect branches
 * are mapped without PROT_WRITE.
 */
#ifndef VC_EMU_PROMOTE_CHILD_H
#define VC_EMU_PROMOTE_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <ucontext.h>

/*
 * Addresses in the process. Its own are in 2 MiB that absolute 32-bit addresses reach and that guests hardly use, and
 * at `code`; an address space that has something there is not promoted.
 */
#define CHILD_OWN        0x7fc00000u
#define CHILD_SLOTS      CHILD_OWN /* what translated code spills */
#define CHILD_STACK      (CHILD_OWN + 0x10000u)
#define CHILD_STACK_SIZE 0x20000u
#define CHILD_HANDLER    (CHILD_OWN + 0x40000u)
#define CHILD_TABLE      (CHILD_OWN + 0x100000u) /* host addresses by the low 16 bits of a guest one */
#define CHILD_OWN_SIZE   0x200000u
#define CHILD_GUEST_LOW  0x10000u /* below, the host lets nobody map pages */
#define CHILD_TASK_END   0x7ffffffff000ull
#define CHILD_TABLE_SIZE 0x10000u
#define CHILD_CODE_SIZE  (16u << 20)

/* Offsets in the object that holds all of it. */
#define CHILD_AT_SLOTS   0u
#define CHILD_AT_STACK   0x10000u
#define CHILD_AT_HANDLER 0x30000u
#define CHILD_AT_TABLE   0x40000u
#define CHILD_AT_CODE    0x100000u
#define CHILD_SIZE       (CHILD_AT_CODE + CHILD_CODE_SIZE)

/* Descriptors in the process: orders, messages, the object, then one for each memory slot. */
enum { CHILD_FD_ORDERS, CHILD_FD_MESSAGES, CHILD_FD_OBJECT, CHILD_FD_SLOT };
#define CHILD_SLOTS_MAX 16u

#define CHILD_SIGNAL_KICK 10 /* SIGUSR1 */

struct child_message {
	int64_t what;   /* signal, SIGALRM once a second; or negative: an order failed with -errno */
	uint64_t frame; /* ucontext_t, in the process */
};

#define CHILD_CALLS_MAX 64u
struct child_order {
	uint32_t count;
	uint32_t run; /* afterwards return from the handler, if all calls succeeded */
	struct child_call {
		uint64_t number, argument[6];
	} call[CHILD_CALLS_MAX];
};

struct emu_child {
	pid_t pid;
	bool alive;
	int orders, messages;
	int orders_end;  /* the other one: as long as it is open, no write raises SIGPIPE */
	uint8_t *object; /* mapped to be written */
	uint64_t code;   /* address of translated code in the process */
	/* It is stopped: by this signal, and this is the frame that it will return to, in object. */
	int stopped_by;
	ucontext_t *frame;
};

/* fds: of memory slots. 0, or -errno: this host cannot do that, or not now. It is stopped. */
int child_new(struct emu_child *child, const int *fds, unsigned count);
void child_free(struct emu_child *child);
/* Have it make those system calls, and then run or not. False: one failed, and it does not run; or it died (alive is
 * false). */
bool child_order(struct emu_child *child, struct child_order *order, bool run);
/* After a run was ordered: until it stops. False: it died. */
bool child_wait(struct emu_child *child);

#endif
