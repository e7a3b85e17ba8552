/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the parts that translate one block. */
#ifndef VC_EMU_JIT_TRANS_H
#define VC_EMU_JIT_TRANS_H

#include "backend/emu/jit/jit.h"

#define FIELD(name) ((uint32_t)offsetof(struct emu_vcpu, name))
#define GPR_AT(reg) ((uint32_t)(reg)*8u)

/* Where a guest register is. H_NONE: in struct emu_vcpu. */
static inline unsigned jit_home(unsigned guest)
{
	return guest == VC_RSP ? H_R15 : guest == VC_R10 || guest == VC_R11 || guest == VC_R15 ? H_NONE : guest;
}

/* Code that is written behind the block, because it is rarely executed. */
enum jit_cold_kind {
	JIT_COLD_MISS,
	JIT_COLD_BAIL,
	JIT_COLD_LINK,
	JIT_COLD_CROSS,
	JIT_COLD_POLL,
	JIT_COLD_VEC,
	JIT_COLD_SECOND,
	JIT_COLD_CALL,
	JIT_COLD_RETURN
};

struct jit_access {
	bool simple;  /* base register (or none) and displacement, so that others off the same base can share a check */
	uint8_t base; /* guest register, or EMU_REG_NONE, EMU_REG_RIP */
	uint8_t index, scale, seg;
	bool address32;
	int64_t disp;
	unsigned size;
	bool write;   /* else it is only read */
	bool aligned; /* must be a multiple of its size */
	int bit_base; /* BT with a register: guest register whose upper bits move the address; -1 */
	uint8_t bit_size;
};

struct jit_cold {
	uint8_t kind;
	bool write;                   /* MISS: the access; VEC: AVX is needed */
	bool save;                    /* LINK, CROSS: flags are in RFLAGS and must be saved for some targets */
	struct jit_label from, from2; /* where it is jumped from */
	uint8_t *back;                /* executable: where it returns to */
	struct jit_access access;
	int64_t lo;
	unsigned size;
	int32_t delta;        /* RSP to be moved by */
	uint16_t page_offset; /* of the instruction */
	uint16_t recover;     /* as in struct jit_trans */
	struct jit_link *link;
	struct jit_site *site; /* CALL */
};

#define JIT_MAX_COLD 260u

enum jit_flags_state { JIT_FL_HOST, JIT_FL_MEMORY, JIT_FL_BOTH };

struct jit_trans {
	struct jit_vm *j;
	struct emu_vcpu *c;
	struct jit_asm a;
	const struct jit_source *s;
	struct jit_block *b;
	unsigned i;                      /* the instruction being translated */
	const struct emu_insn *n;        /* ... */
	unsigned offset;                 /* ... from the block's start */
	bool long_mode;                  /* 64-bit mode; else flat 32-bit */
	uint8_t live[JIT_MAX_INSNS + 1]; /* EMU_FL_* that are read behind instruction k-1, before k */
	uint8_t seen[JIT_MAX_INSNS + 1]; /* ... or would show in the frame of a fault */
	enum jit_flags_state flags;
	int32_t delta;           /* guest RSP = R15 + delta */
	bool vec_ready, vec_avx; /* checked in this block */
	bool no_groups;
	bool hooked; /* hooks are on the block: all flags are read */
	bool ended;  /* nothing falls out of the block any more */

	/*
	 * Pages that were checked: [lo, hi) off `base` is in one. The addend of one of them may be in R11 (in_r11, else
	 * -1), and those of `stored` ones are in emu_vcpu.jit_addend.
	 */
	struct jit_group {
		bool valid, stored, write;
		uint8_t base;
		int64_t lo, hi;
	} group[EMU_JIT_ADDENDS];
	int in_r11;
	unsigned next_group;

	/*
	 * Flags that are in neither place, and not needed but for a fault: 1 + the page offset of the instruction they can
	 * be computed from (jit_recover_flags()); else 0. And the last instruction that set flags.
	 */
	uint16_t recover, setter_offset;
	unsigned setter;
	bool only_noted; /* the instruction at hand set flags that were not even computed */

	/* While instructions without memory operands follow each other: the guest register of which R10 has a copy;
	 * EMU_REG_NONE */
	uint8_t cached;

	struct jit_cold cold[JIT_MAX_COLD];
	unsigned colds;
	struct jit_link links[JIT_MAX_INSNS * 2 + 8];
	unsigned link_count;
};

/* Whether instruction n of the block can be translated; decided by what it is, not by where it is. */
bool jit_is_native(const struct jit_trans *t, const struct emu_insn *n);
/* Flags: read (or needed to come through it), and surely overwritten. */
uint8_t jit_flags_needed(const struct emu_insn *n, uint8_t live_behind);
uint8_t jit_flags_killed(const struct emu_insn *n);

/* ---- recover.c ---- */
/* May instruction n of the block fault, or leave the block without a look at t->recover? */
bool jit_may_fault(const struct jit_trans *t, const struct emu_insn *n);
/* Can what instruction t->setter set be computed from registers at any fault from t->i on? */
bool jit_recoverable(const struct jit_trans *t);
bool jit_is_rsp_move(const struct emu_insn *n);
/* Can the flags of such an instruction, at t->i, which nothing reads, be computed from RSP at any fault behind it? */
bool jit_rsp_may_lag(const struct jit_trans *t);

/* ---- block.c ---- */
struct jit_cold *jit_cold(struct jit_trans *t, enum jit_cold_kind kind);
static inline uint8_t jit_live_behind(const struct jit_trans *t)
{
	return t->live[t->i + 1];
}
/* RFLAGS to emu_vcpu.jit_flags; uses R10. */
void jit_save_flags(struct jit_asm *a);
/* ... and what it has saved to a register. */
void jit_load_flags(struct jit_asm *a, unsigned reg);
/* The next host instruction reads flags that the guest left. */
void jit_want_flags(struct jit_trans *t);
/* The next host instructions change RFLAGS: uses R10, saves what is still read from instruction t->i on (live: mask).
 */
void jit_spoil_flags(struct jit_trans *t, uint8_t live);
void jit_spoil_for_check(struct jit_trans *t);
/* The instruction left the guest's flags in RFLAGS. */
static inline void jit_set_flags(struct jit_trans *t)
{
	t->flags = JIT_FL_HOST;
}
/* Make R15 guest RSP. */
void jit_settle_rsp(struct jit_trans *t);
/* An instruction behind which the block goes on at another block. */
void jit_exit_direct(struct jit_trans *t, int64_t page_target);
/* Conditional: cc taken to page_target. */
void jit_exit_if(struct jit_trans *t, unsigned cc, int64_t page_target);
/* r10: linear address of the target. */
void jit_exit_indirect(struct jit_trans *t);
/* The interpreter goes on at this instruction if cc. */
void jit_bail_if(struct jit_trans *t, enum host_condition cc);
/* RIP behind the instruction, relative to jit_page. */
static inline int64_t jit_page_next(const struct jit_trans *t)
{
	return (int64_t)(t->s->page_offset + t->offset + t->n->len);
}
struct jit_site *jit_new_site(struct jit_trans *t);
struct jit_link *jit_new_link(struct jit_trans *t, int64_t page_target);

/* ---- memory.c ---- */
/* The instruction's explicit memory operand. */
struct jit_access jit_operand(const struct jit_trans *t, const struct emu_insn *n);
/*
 * Check the access and give the host operand for it. It uses R11, and R10 unless the operand says otherwise. spare: R10
 * must not be part of the operand. RFLAGS are lost, the guest's flags kept as jit_spoil_for_check() keeps them.
 */
struct host_mem jit_access(struct jit_trans *t, const struct jit_access *x, bool spare);
struct jit_access jit_stack_access(const struct jit_trans *t, int64_t disp, unsigned size, bool write);
/* to (R10 or R11) = effective address with segment base, of any operand; both are used. */
void jit_effective(struct jit_trans *t, const struct jit_access *x, unsigned to);
void jit_emit_cold_miss(struct jit_trans *t, struct jit_cold *c);
/* R11 is used for something else. */
static inline void jit_lose_addend(struct jit_trans *t)
{
	if (t->in_r11 >= 0 && !t->group[t->in_r11].stored)
		t->group[t->in_r11].valid = false;
	t->in_r11 = -1;
}
/* That base register changes; EMU_REG_NONE: nothing is known any more. */
static inline void jit_forget_group(struct jit_trans *t, unsigned base)
{
	for (unsigned k = 0; k < EMU_JIT_ADDENDS; k++)
		if (base == EMU_REG_NONE || t->group[k].base == base)
			t->group[k].valid = false;
	if (t->in_r11 >= 0 && !t->group[t->in_r11].valid)
		t->in_r11 = -1;
}

/* Bytes of the memory operand. */
unsigned jit_mem_size(const struct emu_insn *n);
/* May the instruction write that guest register? */
bool jit_writes_gpr(const struct emu_insn *n, unsigned reg);

/* ---- registers ---- */
/* The host register that has guest register g, loaded into `scratch` when it is in memory. */
static inline unsigned jit_get(struct jit_trans *t, unsigned g, unsigned scratch)
{
	unsigned h = jit_home(g);

	if (h != H_NONE)
		return h;
	if (scratch == H_R11)
		jit_lose_addend(t);
	jit_load(&t->a, true, scratch, jit_field(GPR_AT(g)));
	return scratch;
}
/* Write back what an instruction left in `host`. */
static inline void jit_put_back(struct jit_trans *t, unsigned g, unsigned host)
{
	if (jit_home(g) == H_NONE)
		jit_store(&t->a, true, jit_field(GPR_AT(g)), host);
}

/* ---- instructions: false when it is not one of theirs ---- */
bool jit_emit_integer(struct jit_trans *t);
bool jit_emit_stack(struct jit_trans *t);
bool jit_emit_branch(struct jit_trans *t);
bool jit_emit_vector(struct jit_trans *t);
bool jit_emit_system(struct jit_trans *t);
bool jit_keeps_cached(const struct emu_insn *n);
bool jit_integer_native(const struct emu_insn *n);
bool jit_branch_native(const struct emu_insn *n);
bool jit_stack_native(const struct emu_insn *n);
bool jit_vector_native(const struct emu_insn *n);
bool jit_system_native(const struct emu_vcpu *c, const struct emu_insn *n);

#endif
