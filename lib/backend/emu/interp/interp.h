/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inside interp/: decoded blocks and the form in which their operations are executed.
 *
 * A block is a run of instructions of one guest page that ends at the latest at the page's end. Each instruction is one
 * struct interp_op of 32 bytes with a handler specialised on what it does, its width and its kind of operand. A handler
 * ends by calling the next one (which the compiler makes a jump), so there is no dispatch loop; builds in which calls
 * in tail position are real calls (no optimisation, sanitizers) let a loop do it.
 *
 * Instructions too rare to be worth a handler of that form run through interp_call(): their struct emu_insn is kept in
 * the block behind the operations and a function of the form of emu_system_fn executes it. System and vector
 * instructions are executed so too.
 */
#ifndef VC_EMU_INTERP_H
#define VC_EMU_INTERP_H

#include "backend/emu/emu.h"
#include "backend/emu/mmu/access.h"

/*
 * Handlers call each other where the compiler makes that a jump. meson.build defines INTERP_LOOP for builds in which it
 * may not.
 */
#if defined(__OPTIMIZE__) && !defined(INTERP_LOOP)
#define INTERP_THREADED 1
#endif

#define INTERP_INLINE static inline __attribute__((always_inline))

struct interp_op;
/*
 * Returns NULL when the engine is to stop (s.rip is set then), else the operation to go on with when handlers do not
 * call each other.
 */
typedef const struct interp_op *interp_ret;
typedef interp_ret (*interp_fn)(struct emu_vcpu *c, const struct interp_op *i);

struct interp_op {
	struct emu_cur head;
	int32_t disp; /* of the memory operand; RIP-relative: from the block's start. Branches: from the block's start to
	                 the target */
	interp_fn fn;
	uint64_t imm;  /* immediate, or the struct emu_insn */
	uint16_t base; /* memory: where in struct emu_vcpu the 64-bit base and index are */
	uint16_t index;
	uint8_t reg; /* registers: where in struct emu_vcpu they are (AH is 1) */
	uint8_t rm;
	uint8_t scale;
	uint8_t seg; /* segment, and address size (0: 16, 1: 32, 2: 64 bits) << 4 */
};
_Static_assert(sizeof(struct interp_op) == 32, "operations are half a cache line");

/*
 * How an r/m operand is reached; handlers are specialised on it. The three fast kinds know that the segment is flat and
 * continue in the handler of kind ANY when the TLB has no entry; ANY knows every address size and segment and calls the
 * slow paths.
 */
enum interp_kind {
	INTERP_REG,
	INTERP_BD,  /* 64-bit: base + disp */
	INTERP_BIS, /* 64-bit: base + (index << scale) + disp */
	INTERP_A32, /* 32-bit address */
	INTERP_ANY,
	INTERP_LOCK, /* as ANY, atomically */
	INTERP_KINDS
};

struct interp_block {
	uint64_t gpa;
	uint32_t key;
	uint32_t generation;
	struct vc_page_info *page;
	struct interp_block *next;    /* in its hash bucket */
	struct interp_block *link[2]; /* successors: [0] behind the block, [1] where its branch goes */
	uint16_t bytes;               /* length of the code, not beyond the page */
	uint8_t insns;
	uint8_t ops;
	uint32_t raw;                     /* where the copy of the code is, in bytes from the block's start */
	const struct interp_cross *cross; /* of a block that is one instruction over the page's end; else NULL */
	struct interp_op op[];
};
_Static_assert(sizeof(struct interp_block) == 64, "operations stay aligned");

/* The second page of an instruction that crosses into it. */
struct interp_cross {
	struct vc_page_info *page;
	uint64_t gpa;
	uint32_t generation;
	uint32_t bytes;
};

#define INTERP_MAX_INSNS 62
/* In a block's key: made while there were hooks on code; it may have operations that call them (interp_hook). */
#define INTERP_KEY_HOOKS (1u << 31)
#define INTERP_HASH_BITS 14
/* The arena of blocks: what it begins with, and what it may grow to when it is full again within so many instructions.
 */
#define INTERP_ARENA_FIRST    (2u << 20)
#define INTERP_ARENA_MAX      (32u << 20)
#define INTERP_ARENA_PATIENCE 20000000u

struct interp {
	struct interp_block *hash[1u << INTERP_HASH_BITS];
	uint8_t *arena;
	size_t used;
	size_t limit;        /* of used, for the time being */
	uint64_t flushed_at; /* icount at the last flush */
	uint32_t flushes;
	bool want_flush;
	bool linear_is_rip; /* CS is flat: blocks may be linked, and found by rip */
	struct emu_decode_mode mode;
	/* for an instruction that runs alone, uncached: its page never changes */
	struct interp_block *alone;
	struct emu_insn alone_insn;
	struct vc_page_info alone_page;
};

/* ---- cache.c ---- */
static inline uint32_t interp_hash(uint64_t gpa, uint32_t key)
{
	return (uint32_t)((gpa ^ (gpa >> INTERP_HASH_BITS) ^ key) & ((1u << INTERP_HASH_BITS) - 1));
}
INTERP_INLINE struct interp_block *interp_block_of(const struct interp_op *i)
{
	return (struct interp_block *)(uintptr_t)((const char *)(i - i->head.index) - sizeof(struct interp_block));
}
INTERP_INLINE bool interp_block_current(const struct interp_block *b)
{
	return atomic_load_explicit(&b->page->generation, memory_order_acquire) == b->generation;
}
int interp_cache_new(struct interp *it);
void interp_cache_free(struct interp *it);
/* Key and code segment, from the vcpu's mode; after everything that may have changed them. */
void interp_mode(struct emu_vcpu *c);
/* The block at s.rip, decoded when it is not there; NULL: run one instruction alone. May raise; s.rip is the place. */
struct interp_block *interp_find(struct emu_vcpu *c);
/* Prepare the instruction at s.rip to run alone. May raise. */
const struct interp_op *interp_prepare_alone(struct emu_vcpu *c);
/* Whether the second page of a crossing block's instruction is still what it was. May raise. */
bool interp_cross_current(struct emu_vcpu *c, const struct interp_block *b);

/* ---- lower.c ---- */
/* Where an instruction is, for lowering it. */
struct interp_place {
	unsigned offset;       /* from the start of its block */
	unsigned page_offset;  /* of the block's start in its page; VC_PAGE_SIZE: no branch may use links */
	struct emu_insn *keep; /* room for it with the block */
};
/* Make the operation. True: it uses place->keep. */
bool interp_lower(struct emu_vcpu *c, const struct emu_insn *insn, const struct interp_place *place,
                  struct interp_op *op);
/*
 * The operation that calls hooks before the instruction that `op` will be of, if there may be any. page_offset: of the
 * instruction; bytes: of the block that begins with it, 0: none does. False: none made.
 */
bool interp_lower_hook(const struct emu_vcpu *c, const struct emu_insn *insn, unsigned offset, unsigned page_offset,
                       unsigned bytes, struct interp_op *op);
/* Make the operation of insn also that of the conditional jump behind it. False: there is no handler for the two. */
bool interp_fuse(const struct emu_vcpu *c, const struct emu_insn *insn, const struct emu_insn *jcc,
                 const struct interp_place *jcc_place, struct interp_op *op);
/* Whether EMU_A_END or anything else ends the block with this instruction. */
bool interp_ends_block(const struct emu_insn *insn);

/* ---- selection: the handler of an instruction whose op is of that family; NULL: not one of mine in this form ---- */
interp_fn interp_select_alu(const struct emu_insn *n, enum interp_kind kind);
interp_fn interp_select_fused(const struct emu_insn *n,
                              unsigned condition); /* CMP, TEST with the Jcc behind it; registers only */
interp_fn interp_select_unary(const struct emu_insn *n, enum interp_kind kind);
interp_fn interp_select_move(const struct emu_insn *n, enum interp_kind kind);
interp_fn interp_select_shift(const struct emu_insn *n, enum interp_kind kind);
interp_fn interp_select_muldiv(const struct emu_insn *n, enum interp_kind kind);
interp_fn interp_select_bit(const struct emu_insn *n, enum interp_kind kind);
interp_fn interp_select_bmi(const struct emu_insn *n, enum interp_kind kind);
interp_fn interp_select_flags(const struct emu_insn *n, enum interp_kind kind);
interp_fn interp_select_stack(const struct emu_vcpu *c, const struct emu_insn *n, enum interp_kind kind);
interp_fn interp_select_branch(const struct emu_vcpu *c, const struct emu_insn *n, enum interp_kind kind, bool near);
/* ... of the form of emu_system_fn. */
emu_system_fn interp_select_string(const struct emu_insn *n);
emu_system_fn interp_select_rare(const struct emu_insn *n);

/* Flags of comparing a with b in `size` bytes. */
uint32_t interp_compare(uint64_t a, uint64_t b, unsigned size);

/* ---- run.c: operations of the engine itself ---- */
interp_ret interp_call(struct emu_vcpu *c, const struct interp_op *i);     /* imm: insn, its fn an emu_system_fn */
interp_ret interp_call_end(struct emu_vcpu *c, const struct interp_op *i); /* ... that ends a block */
interp_ret interp_raise_ud(struct emu_vcpu *c, const struct interp_op *i);
interp_ret interp_raise_gp(struct emu_vcpu *c, const struct interp_op *i);
interp_ret interp_check_cross(struct emu_vcpu *c,
                              const struct interp_op *i); /* before an instruction that crosses pages */
/* Before an instruction: calls hooks. reg: INTERP_HOOK_*; imm: bytes of the block, if this is its first instruction. */
#define INTERP_HOOK_CODE  1u
#define INTERP_HOOK_BLOCK 2u
interp_ret interp_hook(struct emu_vcpu *c, const struct interp_op *i);
/* A block ends without a branch: behind it, in the same page, or anywhere. */
interp_ret interp_end_near(struct emu_vcpu *c, const struct interp_op *i);
interp_ret interp_end_far(struct emu_vcpu *c, const struct interp_op *i);
/* Go on at s.rip, in whatever mode that is. */
interp_ret interp_resume(struct emu_vcpu *c);
/* Go on at rip, whose block must be searched for, or decoded. */
interp_ret interp_enter_slow(struct emu_vcpu *c, uint64_t rip);
/* The slow end of a branch at i to rip: link `k` of its block is made when possible. */
interp_ret interp_branch_slow(struct emu_vcpu *c, const struct interp_op *i, unsigned k, uint64_t rip);

/* ---- branch.c ---- */
/* Go to rip, which was checked, anywhere. */
interp_ret interp_goto(struct emu_vcpu *c, uint64_t rip);
/* #GP(0) at i unless a near branch may go to rip: canonical, or within the code segment. */
void interp_check_target(struct emu_vcpu *c, const struct interp_op *i, uint64_t rip);

/* ---- stack.c: any mode ---- */
/* Linear address of seg:offset; the offset is cut to the address size already. */
uint64_t interp_segment_linear(struct emu_vcpu *c, unsigned seg, uint64_t offset, unsigned size,
                               enum vcore_access access);
uint64_t interp_stack_linear(struct emu_vcpu *c, uint64_t rsp, unsigned size, enum vcore_access access);
static inline uint64_t interp_stack_mask(const struct emu_vcpu *c)
{
	return vc_width_mask(c->stack_size);
}
static inline void interp_set_rsp(struct emu_vcpu *c, uint64_t value)
{
	uint64_t mask = interp_stack_mask(c);
	/* a 32-bit stack pointer zeroes the upper half as every 32-bit write; a 16-bit one leaves the rest alone */
	c->s.gpr[VC_RSP] = c->stack_size == 2 ? (c->s.gpr[VC_RSP] & ~mask) | (value & mask) : value & mask;
}
/* Push stores before RSP moves. Peek: the value at the stack's top + skip. */
void interp_push(struct emu_vcpu *c, unsigned size, uint64_t value);
uint64_t interp_peek(struct emu_vcpu *c, unsigned size, unsigned skip);
uint64_t interp_load(struct emu_vcpu *c, uint64_t linear, unsigned size);
void interp_store(struct emu_vcpu *c, uint64_t linear, unsigned size, uint64_t value);

/* ---- handlers ---- */
#ifdef INTERP_THREADED
#define INTERP_GO(c, n) return (n)->fn((c), (n))
#else
#define INTERP_GO(c, n) return (n)
#endif
#define INTERP_NEXT          INTERP_GO(c, i + 1)
#define INTERP_HANDLER(name) static interp_ret name(struct emu_vcpu *c, const struct interp_op *i)

#define INTERP_AT(type, c, offset) (*(type *)((char *)(c) + (offset)))
#define INTERP_GPR(reg)            ((unsigned)(reg)*8)

/* Registers by byte offset. Writes of 32 bits zero the upper half. */
INTERP_INLINE uint64_t interp_get(struct emu_vcpu *c, unsigned at, unsigned bits)
{
	switch (bits) {
	case 8:
		return INTERP_AT(emu_mem8, c, at);
	case 16:
		return INTERP_AT(emu_mem16, c, at);
	case 32:
		return INTERP_AT(emu_mem32, c, at);
	default:
		return INTERP_AT(emu_mem64, c, at);
	}
}
INTERP_INLINE void interp_set(struct emu_vcpu *c, unsigned at, unsigned bits, uint64_t value)
{
	switch (bits) {
	case 8:
		INTERP_AT(emu_mem8, c, at) = (uint8_t)value;
		break;
	case 16:
		INTERP_AT(emu_mem16, c, at) = (uint16_t)value;
		break;
	case 32:
		INTERP_AT(emu_mem64, c, at) = (uint32_t)value;
		break;
	default:
		INTERP_AT(emu_mem64, c, at) = value;
	}
}

/* ---- memory operands ---- */
INTERP_INLINE uint64_t interp_ea(struct emu_vcpu *c, const struct interp_op *i)
{
	return INTERP_AT(uint64_t, c, i->base) + (INTERP_AT(uint64_t, c, i->index) << i->scale) +
	       (uint64_t)(int64_t)i->disp;
}
/* Offset in the segment, any address size. */
INTERP_INLINE uint64_t interp_offset(struct emu_vcpu *c, const struct interp_op *i)
{
	uint64_t ea = interp_ea(c, i);
	return i->seg & 0x20 ? ea : i->seg & 0x10 ? (uint32_t)ea : (uint16_t)ea;
}
/* Linear address of any memory operand, plus `more` (bit offsets). c->cur must be set. */
uint64_t interp_linear_segmented(struct emu_vcpu *c, const struct interp_op *i, uint64_t offset, unsigned size,
                                 enum vcore_access access);
INTERP_INLINE uint64_t interp_linear(struct emu_vcpu *c, const struct interp_op *i, unsigned size,
                                     enum vcore_access access)
{
	uint64_t offset = interp_offset(c, i);
	unsigned seg = i->seg & 7;
	if (vc_likely(c->flat >> seg & 1) && seg != VC_SS)
		return offset;
	if (i->seg & 0x20 && seg >= VC_FS) /* 64-bit addresses are those of 64-bit mode */
		return offset + c->s.seg[seg].base;
	return interp_linear_segmented(c, i, offset, size, access);
}
INTERP_INLINE uint64_t interp_linear_fast(struct emu_vcpu *c, const struct interp_op *i, enum interp_kind kind)
{
	switch (kind) {
	case INTERP_BD:
		return INTERP_AT(uint64_t, c, i->base) + (uint64_t)(int64_t)i->disp;
	case INTERP_A32:
		return (uint32_t)interp_ea(c, i);
	default:
		return interp_ea(c, i);
	}
}
INTERP_INLINE uint64_t interp_mem_get(const void *p, unsigned bits)
{
	switch (bits) {
	case 8:
		return *(const volatile emu_mem8 *)p;
	case 16:
		return *(const volatile emu_mem16 *)p;
	case 32:
		return *(const volatile emu_mem32 *)p;
	default:
		return *(const volatile emu_mem64 *)p;
	}
}
INTERP_INLINE void interp_mem_set(void *p, unsigned bits, uint64_t value)
{
	switch (bits) {
	case 8:
		*(volatile emu_mem8 *)p = (uint8_t)value;
		break;
	case 16:
		*(volatile emu_mem16 *)p = (uint16_t)value;
		break;
	case 32:
		*(volatile emu_mem32 *)p = (uint32_t)value;
		break;
	default:
		*(volatile emu_mem64 *)p = value;
	}
}
INTERP_INLINE uint64_t interp_ld(struct emu_vcpu *c, uint64_t linear, unsigned bits)
{
	return bits == 8    ? emu_ld8(c, linear)
	       : bits == 16 ? emu_ld16(c, linear)
	       : bits == 32 ? emu_ld32(c, linear)
	                    : emu_ld64(c, linear);
}
INTERP_INLINE void interp_st(struct emu_vcpu *c, uint64_t linear, unsigned bits, uint64_t value)
{
	switch (bits) {
	case 8:
		emu_st8(c, linear, (uint8_t)value);
		break;
	case 16:
		emu_st16(c, linear, (uint16_t)value);
		break;
	case 32:
		emu_st32(c, linear, (uint32_t)value);
		break;
	default:
		emu_st64(c, linear, value);
	}
}

/* Read the r/m operand. False (fast kinds only): not in the TLB, continue in the handler of kind ANY. */
INTERP_INLINE bool interp_read(struct emu_vcpu *c, const struct interp_op *i, enum interp_kind kind, unsigned bits,
                               uint64_t *value)
{
	if (kind == INTERP_REG) {
		*value = interp_get(c, i->rm, bits);
		return true;
	}
	if (kind >= INTERP_ANY) {
		c->cur = &i->head;
		*value = interp_ld(c, interp_linear(c, i, bits / 8, VCORE_ACCESS_READ), bits);
		return true;
	}
	uint64_t linear = interp_linear_fast(c, i, kind);
	const struct emu_tlb_entry *e = emu_tlb_at(c, linear);
	if (vc_unlikely(e->read != emu_tag(c, linear + bits / 8 - 1)))
		return false;
	*value = interp_mem_get((void *)(linear + e->addend), bits);
	return true;
}
/* Write it, never having read it. */
INTERP_INLINE bool interp_write(struct emu_vcpu *c, const struct interp_op *i, enum interp_kind kind, unsigned bits,
                                uint64_t value)
{
	if (kind == INTERP_REG) {
		interp_set(c, i->rm, bits, value);
		return true;
	}
	if (kind >= INTERP_ANY) {
		c->cur = &i->head;
		interp_st(c, interp_linear(c, i, bits / 8, VCORE_ACCESS_WRITE), bits, value);
		return true;
	}
	uint64_t linear = interp_linear_fast(c, i, kind);
	const struct emu_tlb_entry *e = emu_tlb_at(c, linear);
	if (vc_unlikely(e->write != emu_tag(c, linear + bits / 8 - 1)))
		return false;
	interp_mem_set((void *)(linear + e->addend), bits, value);
	return true;
}

/* Read, modify, write of the r/m operand: in two calls, between which nothing may fault. */
struct interp_rmw {
	void *p;         /* host address; NULL: the slow way */
	uint64_t linear; /* ... */
};
INTERP_INLINE bool interp_rmw_begin_at(struct emu_vcpu *c, enum interp_kind kind, unsigned bits, uint64_t linear,
                                       struct interp_rmw *m, uint64_t *old)
{
	m->linear = linear;
	m->p = emu_rmw_ptr(c, linear, bits / 8);
	*old = vc_likely(m->p != NULL) ? interp_mem_get(m->p, bits)
	                               : emu_rmw_slow_begin(c, linear, bits / 8, kind == INTERP_LOCK);
	return true;
}
INTERP_INLINE bool interp_rmw_begin(struct emu_vcpu *c, const struct interp_op *i, enum interp_kind kind, unsigned bits,
                                    struct interp_rmw *m, uint64_t *old)
{
	if (kind == INTERP_REG) {
		m->p = (char *)c + i->rm;
		*old = interp_get(c, i->rm, bits);
		return true;
	}
	if (kind >= INTERP_ANY) {
		c->cur = &i->head;
		return interp_rmw_begin_at(c, kind, bits, interp_linear(c, i, bits / 8, VCORE_ACCESS_WRITE), m, old);
	}
	uint64_t linear = interp_linear_fast(c, i, kind);
	const struct emu_tlb_entry *e = emu_tlb_at(c, linear);
	if (vc_unlikely(e->write != emu_tag(c, linear + bits / 8 - 1)))
		return false;
	m->p = (void *)(linear + e->addend);
	*old = interp_mem_get(m->p, bits);
	return true;
}
INTERP_INLINE void interp_rmw_end(struct emu_vcpu *c, enum interp_kind kind, unsigned bits, const struct interp_rmw *m,
                                  uint64_t value)
{
	if (kind == INTERP_REG)
		interp_set(c, (unsigned)((char *)m->p - (char *)c), bits, value);
	else if (kind < INTERP_ANY || vc_likely(m->p != NULL))
		interp_mem_set(m->p, bits, value);
	else
		emu_rmw_slow_end(c, m->linear, bits / 8, value, kind == INTERP_LOCK);
}

/* ---- leaving a block ---- */
INTERP_INLINE bool interp_wanted(const struct emu_vcpu *c)
{
	uint16_t flags; /* attention and once */
	memcpy(&flags, &c->attention, sizeof flags);
	return atomic_load_explicit(c->requests, memory_order_relaxed) | flags;
}
_Static_assert(offsetof(struct emu_vcpu, once) == offsetof(struct emu_vcpu, attention) + 1, "read as one");

/* To a place in the page of i's block: link `k`, `delta` bytes from the block's start. */
#define INTERP_BRANCH(c, i, k, delta)                                                 \
	do {                                                                              \
		struct interp_block *to_ = interp_block_of(i)->link[k];                       \
		uint64_t rip_ = ((c)->block_rip + (uint64_t)(int64_t)(delta)) & (c)->ip_mask; \
		if (vc_unlikely(interp_wanted(c) || !to_ || !interp_block_current(to_)))      \
			return interp_branch_slow((c), (i), (k), rip_);                           \
		(c)->block_rip = rip_;                                                        \
		(c)->icount += to_->insns;                                                    \
		INTERP_GO(c, to_->op);                                                        \
	} while (0)

#endif
