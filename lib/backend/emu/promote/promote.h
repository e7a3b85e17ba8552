/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promoted address spaces: ring 3 of a guest process that computes for long runs in a host process of its own
 * (child.h), where its pages lie at their own addresses. Its code is translated without checks of memory accesses:
 * instructions are copied, and only what a copy would do wrong is replaced.
 *
 *   child.c      the host process
 *   memory.c     the guest's pages in it
 *   code.c       translated code and where it came from
 *   translate.c  making it
 *   registers.c  the vcpu's registers in the process
 *   run.c        when to promote; running
 *
 * All of it belongs to one vcpu and its thread, so there are no locks. What is mapped in the process is a TLB: a page
 * is mapped when it is first touched, by the rights its page tables give, and unmapped when the architecture would drop
 * the translation. Faults, system calls and everything that is not common are left to the other engines: the process
 * stops, its registers become the vcpu's.
 */
#ifndef VC_EMU_PROMOTE_PROMOTE_H
#define VC_EMU_PROMOTE_PROMOTE_H

#include "backend/emu/emu.h"
#include "backend/emu/jit/asm.h"
#include "backend/emu/promote/child.h"

struct vc_page_info;
struct vc_slot;

/* ---- for jit/run.c, mmu/, vcpu.c ---- */

struct promote; /* struct emu_vcpu.promote; NULL: nothing is promoted */

/* Sets emu_vcpu.promote if the vm's engine has this. */
int promote_new(struct emu_vcpu *c);
void promote_free(struct emu_vcpu *c);
void promote_publish_counters(struct emu_vcpu *c);
/* The vcpu leaves the engine for an event: was it in ring 3, again? */
void promote_tick(struct emu_vcpu *c);
enum promote_next {
	PROMOTE_NO,        /* go on in another engine until the next return to ring 3 */
	PROMOTE_AGAIN,     /* there are requests, or the like: look at them */
	PROMOTE_INTERPRET, /* the interpreter must execute what is at s.rip */
};
/* Run at s.rip, at CPL 3. */
enum promote_next promote_run(struct emu_vcpu *c);
/* Translations that were dropped: of a page, of a region (mask as in kill_region()), of writes to code. */
void promote_kill_page(struct emu_vcpu *c, uint64_t linear);
void promote_kill_all(struct emu_vcpu *c);
void promote_drop_writes(struct emu_vcpu *c);
/* Make it stop. Any thread, any signal handler. */
void promote_kick(struct emu_vcpu *c);
/* The vcpu's thread sleeps, or goes back to the program: it may be on any CPU that it was allowed to. */
void promote_unpin(struct emu_vcpu *c);

/* ---- between the parts ---- */

#define PROMOTE_PAGES  32768u /* table of mapped pages; it is emptied when three quarters are used */
#define PROMOTE_KILLS  32u
#define PROMOTE_SOURCE 4096u /* pages that code was translated from */

struct promoted_page {
	uint64_t linear; /* of the page, | 1: in use */
	uint32_t info;   /* index of the page in its slot */
	uint8_t slot;    /* index in promoted.slot */
	bool write;
};

/* What the vcpu's state is where translated code stands at a host address, until the next mark. */
struct promoted_mark {
	uint32_t host; /* offset in the code */
	uint8_t fix;   /* PROMOTED_FIX_* */
	uint8_t kind;
	uint16_t pad;
	uint32_t site; /* LINK: offset of the displacement that leads here */
	uint64_t pc;   /* LINK: the target */
};
enum promoted_kind {
	PROMOTED_RUNNING,
	PROMOTED_INSN, /* int3: an instruction that is not translated */
	PROMOTED_LINK, /* int3: a direct branch to what was not translated */
	PROMOTED_MISS, /* int3: an indirect one; the target is in R11 */
};
/* Guest registers that are in spill slots, and R11 that holds the guest's RIP. */
enum {
	PROMOTED_FIX_R11 = 1,
	PROMOTED_FIX_RCX = 2,
	PROMOTED_FIX_RSI = 4,
	PROMOTED_FIX_RDI = 8,
	PROMOTED_FIX_RBX = 16,
	PROMOTED_FIX_PC = 32,
};
enum { PROMOTED_SLOT_R11, PROMOTED_SLOT_RCX, PROMOTED_SLOT_BASE, PROMOTED_SLOTS };

struct promoted_block {
	uint64_t pc;
	uint32_t entry, indirect; /* offsets in the code */
	uint32_t otherwise;       /* ... of where `indirect` goes on when another block is meant */
	uint32_t next;            /* in its hash bucket; 0: none */
};

/* A page that code was translated from. */
struct promoted_source {
	uint64_t linear, gpa;
	struct vc_page_info *page;
	uint32_t generation;
};

#define PROMOTED_HASH 4096u

struct promoted {
	struct emu_child child;
	uint64_t root;    /* CR3 */
	uint64_t version; /* of the memory map */
	uint16_t context; /* of the address space when what is mapped was last right */
	uint32_t epoch;
	uint64_t fs_base; /* in the process */
	bool avx;         /* VEX instructions are copied */

	struct vc_slot *slot[CHILD_SLOTS_MAX];
	unsigned slots;
	struct promoted_page *page;
	unsigned pages;
	uint64_t kill[PROMOTE_KILLS];
	unsigned kills;
	bool kill_all, drop_writes, check_sources;
	bool dormant; /* it is not worth it now, or another guest process has its CR3 */

	struct promoted_mark *mark;
	unsigned marks, marks_max;
	struct promoted_block *block;
	unsigned blocks, blocks_max;
	uint32_t hash[PROMOTED_HASH];
	uint32_t *first; /* by table entry: the block that it leads to; 0: none */
	struct promoted_source *source;
	unsigned sources;
	uint32_t code_used, miss; /* offsets in the code: the end; what empty entries of the table lead to */
	unsigned flushes;         /* of code */

	int cpu;                         /* that the process is kept on; -1: none */
	uint64_t slice_ns;               /* how long it ran last */
	uint64_t executed_ns, served_ns; /* of CPU time, and on the clock, since it was woken; what lies back weighs less */
	unsigned stops, past_stops;
	uint64_t cpu_ns; /* the process's, when last looked at */
};

/* memory.c */
/* Not now: some of the memory is still to come, and the process could not wait for it. */
bool promoted_must_wait(const struct emu_vcpu *c);
int promoted_memory_new(struct emu_vcpu *c, struct promoted *p);
/* Bring what is mapped up to date. False: the process is gone. */
bool promoted_sync(struct emu_vcpu *c, struct promoted *p);
enum promoted_map { PROMOTED_MAPPED, PROMOTED_NOT_MAPPED, PROMOTED_DIED };
/* Map the page of an access that faulted in the process. NOT: it is not plain memory, or the guest faults. */
enum promoted_map promoted_map(struct emu_vcpu *c, struct promoted *p, uint64_t linear, bool write);
/* Nothing of the guest's is at addresses that the process needs itself. */
bool promoted_fits(struct emu_vcpu *c, const struct promoted *p);

/* code.c */
static inline uint8_t *promoted_code_at(const struct promoted *p, uint32_t offset)
{
	return p->child.object + CHILD_AT_CODE + offset;
}
static inline unsigned promoted_hash(uint64_t pc)
{
	return (unsigned)(pc ^ pc >> 12) & (PROMOTED_HASH - 1);
}
int promoted_code_new(struct promoted *p);
void promoted_code_flush(struct promoted *p);
/* Code that was translated is what is there now; else it is flushed. False: there is quite another program. */
bool promoted_code_check(struct emu_vcpu *c, struct promoted *p);
/* The block at pc; NULL: none. */
struct promoted_block *promoted_look_up(const struct promoted *p, uint64_t pc);
/* Indirect branches find it. */
void promoted_put_in_table(struct promoted *p, const struct promoted_block *b);
/* Code was translated from that page. False: it is known as another one, or there are too many. */
bool promoted_note_source(struct promoted *p, uint64_t linear, uint64_t gpa, struct vc_page_info *page,
                          uint32_t generation, bool *new_page);
/* The branch at a LINK mark leads there from now on. */
void promoted_link(struct promoted *p, const struct promoted_mark *mark, uint32_t entry);
/* The mark that holds at an address in the process; NULL: not in translated code. */
const struct promoted_mark *promoted_mark_at(const struct promoted *p, uint64_t host);

/* translate.c */
/* Offset of the translation of pc, made if need be, with what it leads to; 0: it cannot be. */
uint32_t promoted_code(struct emu_vcpu *c, struct promoted *p, uint64_t pc);

/* registers.c */
void promoted_state_in(const struct emu_vcpu *c, struct promoted *p, uint32_t entry);
void promoted_state_out(struct emu_vcpu *c, const struct promoted *p, const struct promoted_mark *m);
static inline greg_t *promoted_gregs(const struct promoted *p)
{
	return p->child.frame->uc_mcontext.gregs;
}
static inline const uint64_t *promoted_slots(const struct promoted *p)
{
	return (const uint64_t *)(const void *)(p->child.object + CHILD_AT_SLOTS);
}

#endif
