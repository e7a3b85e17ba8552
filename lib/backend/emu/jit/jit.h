/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Engine jit: guest code of 64-bit and flat 32-bit mode translated to host code of the same instruction set.
 *
 *   asm.c        encoding of host instructions
 *   cache.c      code memory, blocks, links between them, invalidation, eviction
 *   thunk.c      the code between C and translated code
 *   source.c     reading the guest's code
 *   block.c      what a block is; flags; the way out of blocks
 *   memory.c     memory operands: TLB checks, groups of accesses, slow ways
 *   integer.c, branch.c, vector.c, system.c   translation of instructions
 *   plain.c      loads and stores of devices
 *   recover.c    flags that were not kept, for the frame of a fault
 *   fast.c       C that translated code calls while vector registers are the guest's
 *   run.c        the engine: finding blocks, serving what translated code cannot do
 *
 * Registers. In translated code RSP is the vcpu (struct emu_vcpu), below which lies a stack for signal handlers. R10
 * and R11 are scratch. Guest RSP is in R15; guest R10, R11 and R15 are in struct emu_vcpu; all others are in the host's
 * registers of the same name. Guest XMM and YMM registers are in the host's while vec_live says so.
 *
 * Position. Blocks are keyed on the guest-physical address and the mode, and serve every linear address of their page:
 * emu_vcpu.jit_page holds the linear address of the page that is being executed; RIP is that plus a constant.
 *
 * Flags. At a block's entry the arithmetic flags are dead, in emu_vcpu.jit_flags, or in the host's RFLAGS, whichever
 * the block wants: struct jit_block.flags_in.
 *
 * Memory. An access that the TLB lets through is made in place. For any other the block asks for a fill, and if that
 * does not help (device, page crossing, page with code, watchpoint, fault) it leaves at the instruction, of which
 * nothing has happened yet, and the interpreter goes on. So only the interpreter raises faults of memory accesses.
 *
 * Hooks. A block that hooks on code or blocks are on has a call of C before each such instruction, with the flags in
 * their place as if all of them were always read. Where hooks on blocks are it ends at the first branch.
 *
 * Stores to code make the blocks of their page stale: their first instruction is replaced by a call of a thunk,
 * atomically. Nothing else has to be undone: every way into a block leads over its first instruction.
 */
#ifndef VC_EMU_JIT_H
#define VC_EMU_JIT_H

#include <pthread.h>

#include "backend/emu/emu.h"
#include "backend/emu/jit/asm.h"

struct jit_block;
struct jit_trans;
struct jit_vm;

/* ---- the engine, for vcpu.c, vm.c, mmu/ ---- */
int jit_vm_new(struct vc_bvm *vm, struct jit_vm **jit);
void jit_vm_free(struct jit_vm *jit);
/* As interp_run(). */
enum emu_stop jit_run(struct emu_vcpu *c);
/* The mode changed: whether and how code is translated now. */
void jit_mode_changed(struct emu_vcpu *c);
/* Every way of this vcpu to find blocks without a look at page tables is closed. */
void jit_forget_paths(struct emu_vcpu *c);
/* Offsets in the page, at most max, of blocks of the vcpu's mode in it; returns how many. */
unsigned jit_blocks_in_page(struct emu_vcpu *c, uint64_t gpa, uint16_t *offsets, unsigned max);
/* Code of the page was stored to. Any thread. */
void jit_page_stored(struct vc_bvm *vm, uint64_t gpa);
/* Drop all blocks: inside an exclusive section. */
void jit_flush(struct vc_bvm *vm);

/* struct vc_backend */
bool jit_op_count(struct vc_bvcpu *v, unsigned n, const char **name, uint64_t *count);

/* ---- lockstep ---- */
enum jit_step { JIT_STEP_EXIT, JIT_STEP_BAIL };
/* Leading instructions of the block at s.rip that are native code. 0: the first one is not; also when fetching it
 * faults. */
unsigned jit_native_insns(struct emu_vcpu *c);
/* Execute that block once. */
enum jit_step jit_step(struct emu_vcpu *c);
/* Arithmetic flags that were given up by the last step because nothing reads them any more. */
uint32_t jit_dead_flags(struct emu_vcpu *c);

/* ---- blocks ---- */

enum jit_flags_in {
	JIT_FLAGS_DEAD,   /* written before they are read */
	JIT_FLAGS_MEMORY, /* in jit_flags */
	JIT_FLAGS_HOST,   /* in RFLAGS at entry_host, in jit_flags at entry */
};

/* A direct way from one block to another: a jump whose displacement is patched. */
struct jit_link {
	uint8_t *site;      /* writable address of the 32-bit displacement; aligned */
	uint8_t *unlinked;  /* executable address that it leads to while there is no target */
	uint8_t *site_save; /* flags are in RFLAGS: another jump, behind code that saves them, for targets that want that;
	                       else NULL */
	uint8_t *unlinked_save;
	uint32_t *page_id; /* another page: the immediate that the id in jit_pages is compared with; else NULL */
	struct jit_block *from, *to;
	struct jit_link *next, **at; /* in the list of those that lead to `to`; what points to this one */
	uint64_t offset;             /* target from jit_page */
};

/* A call of C code in the middle of a block. */
struct jit_site {
	struct emu_insn insn;
	emu_system_fn fn; /* NULL: the interpreter executes this instruction */
	uint8_t *resume;  /* executable; NULL: the block ends here */
	uint16_t page_offset;
	uint8_t hooks; /* JIT_HOOK_*: a call of these, before the instruction; else 0 */
	struct jit_block *block;
};
enum { JIT_HOOK_CODE = 1, JIT_HOOK_BLOCK = 2 };

/* Blocks by page. */
struct jit_page_node {
	struct jit_page_node *next;
	struct jit_block *block;
	uint64_t gpa;
};

struct jit_block {
	uint64_t gpa;
	uint32_t key;
	uint32_t generation;
	struct vc_page_info *page;
	_Atomic(struct jit_block *) next; /* in its hash bucket */
	struct jit_page_node node[2];     /* in the lists of its pages */
	struct vc_page_info *second;      /* as in struct jit_source */
	uint64_t second_gpa;
	struct jit_block *region_next;
	struct jit_link *incoming;
	struct jit_link *links;
	uint8_t *entry, *entry_host; /* executable; entry_host NULL unless flags_in is HOST */
	uint64_t first, first_host;  /* the 8 bytes at the entries, for when the block becomes good again */
	const uint8_t *code;         /* copy of the guest's bytes */
	uint16_t bytes;
	uint16_t native; /* lockstep: leading instructions that are native code */
	uint8_t links_count, flags_in;
	uint8_t bails;       /* groups that did not fit in a page */
	_Atomic bool stale;  /* patched */
	const uint8_t *live; /* lockstep: EMU_FL_* wanted, by offset in the code */
};

#define JIT_REGIONS 8u
#ifndef JIT_REGION_CODE /* tests make it small, so that regions are evicted */
#define JIT_REGION_CODE (8u << 20)
#endif
#define JIT_REGION_META (16u << 20)
#define JIT_CODE_SIZE   (JIT_REGIONS * JIT_REGION_CODE)
#define JIT_META_SIZE   ((size_t)JIT_REGIONS * JIT_REGION_META)
#define JIT_BLOCK_CODE  (48u << 10) /* no block is longer */
#define JIT_BLOCK_META  (24u << 10)
#define JIT_HASH_BITS   16
#define JIT_PAGES_BITS  13
#define JIT_MAX_INSNS   64u
#define JIT_MAX_BYTES   512u
#define JIT_MAX_HOOKED  32u /* instructions of a block that hooks are on: each has a struct jit_site of its own */
#define JIT_MAX_KEYS    15u

struct jit_thunks {
	void (*enter)(struct emu_vcpu *c, const void *code);
	uint8_t *leave_link, *leave_site, *leave_indirect, *leave_bail, *leave_poll, *leave_second;
	uint8_t *stale, *stale_host, *fill, *vec_load, *vec_load_avx;
};

/* By which thunk translated code was left: emu_vcpu.jit_left, with jit_value and jit_extra. */
enum jit_leave {
	JIT_LEAVE_LINK,     /* value: struct jit_link */
	JIT_LEAVE_SITE,     /* struct jit_site */
	JIT_LEAVE_INDIRECT, /* offset in the page; extra: tag of the target */
	JIT_LEAVE_BAIL,     /* offset in the page | (1 + offset of the instruction that flags must be computed from) << 17 |
	                       JIT_BAIL_* */
	JIT_LEAVE_POLL,     /* offset in the page */
	JIT_LEAVE_SECOND,   /* struct jit_block: its second page is not known to be there */
	JIT_LEAVE_STALE,    /* behind the entry of a stale block */
};

enum {
	JIT_BAIL_GROUP = 1u << 16,  /* extra is a struct jit_block with a group that does not lie in one page */
	JIT_BAIL_ACCESS = 1u << 31, /* extra is the struct jit_block: the TLB does not let the access through */
};

struct jit_vm {
	struct vc_bvm *vm;
	pthread_mutex_t lock; /* all but the code itself and look-ups in hash[] */
	uint8_t *write, *execute, *meta;
	size_t code_used, meta_used; /* in the current region */
	size_t thunk_size;           /* at the start of region 0 */
	unsigned region;
	bool region_used[JIT_REGIONS];
	struct jit_block *region_blocks[JIT_REGIONS];
	_Atomic(struct jit_block *) hash[1u << JIT_HASH_BITS];
	struct jit_page_node *pages[1u << JIT_PAGES_BITS];
	uint32_t keys[JIT_MAX_KEYS];
	_Atomic uint32_t key_count;
	struct jit_thunks thunks;
	struct jit_trans *trans; /* the block being translated */
	bool lockstep;
	_Atomic uint64_t evictions;
};

/* ---- cache.c ---- */
int jit_cache_new(struct jit_vm *j);
void jit_cache_free(struct jit_vm *j);
struct jit_block *jit_look_up(struct jit_vm *j, uint64_t gpa, uint32_t key);
/* Room for one block; false: eviction is needed. With the lock. */
bool jit_room(struct jit_vm *j);
void *jit_meta_alloc(struct jit_vm *j, size_t size);
struct jit_asm jit_code_begin(struct jit_vm *j);
void jit_code_end(struct jit_vm *j, const struct jit_asm *a);
void jit_insert(struct jit_vm *j, struct jit_block *b);
void jit_remove(struct jit_vm *j, struct jit_block *b); /* it becomes unreachable; its memory stays */
void jit_make_stale(struct jit_vm *j, struct jit_block *b);
void jit_make_good(struct jit_vm *j, struct jit_block *b);
void jit_link(struct jit_vm *j, struct jit_link *l, struct jit_block *to);
/* Free the next region: with every vcpu outside the gate. */
void jit_evict(struct jit_vm *j);
static inline uint8_t *jit_writable(const struct jit_vm *j, const uint8_t *executable)
{
	return (uint8_t *)(j->write + (executable - j->execute));
}

/* ---- thunk.c ---- */
void jit_make_thunks(struct jit_vm *j);
/* fast.c: called by thunks while the guest's vector registers are in the host's. */
enum { JIT_FILL_NO, JIT_FILL_DONE, JIT_FILL_SLOW /* jit_fill_slow() must be asked */ };
enum { JIT_HOW_WRITE = 1u << 16, JIT_HOW_ALIGNED = 1u << 17 }; /* besides the size */
uint32_t jit_fill(struct emu_vcpu *c, uint64_t linear, uint32_t how);
uint32_t jit_fill_slow(struct emu_vcpu *c, uint64_t linear, uint32_t how);
/* Which vector registers the guest may use now: what to load. */
enum { JIT_VEC_NONE, JIT_VEC_SSE, JIT_VEC_AVX, JIT_VEC_AVX_ZERO /* upper halves are zero */ };
uint32_t jit_vec_ready(struct emu_vcpu *c);

/* ---- block.c ---- */
/* The guest's bytes. */
struct jit_source {
	uint64_t gpa;
	struct vc_page_info *page;
	uint32_t generation;
	struct vc_page_info *second; /* of one instruction that crosses into the next page; else NULL */
	uint64_t second_gpa;
	uint32_t second_generation;
	unsigned bytes; /* of the block */
	unsigned page_offset;
	unsigned count; /* instructions */
	bool hooked;    /* hooks on code or blocks are there */
	const uint8_t *host;
	uint8_t code[JIT_MAX_BYTES + 16];
	struct emu_insn insn[JIT_MAX_INSNS];
};
/* Decode at rip; false: nothing there can be translated. May raise. */
bool jit_read_source(struct emu_vcpu *c, struct jit_source *s, uint64_t linear);
/* recover.c: aflags as the instruction at linear set them, whose registers have not changed since. */
void jit_recover_flags(struct emu_vcpu *c, uint64_t linear);
/*
 * plain.c: execute the instruction of the block at s.rip, if it is a plain load or store. False: it is not, nothing has
 * happened. May raise.
 */
bool jit_plain(struct emu_vcpu *c, const struct jit_block *b);
/* run.c: the function for an instruction that is not native; NULL: the interpreter executes it. */
emu_system_fn jit_called(struct emu_vcpu *c, struct emu_insn *n);
/* NULL: no room (evict and try again). With the lock. */
struct jit_block *jit_translate(struct emu_vcpu *c, const struct jit_source *s, bool no_groups);

#endif
