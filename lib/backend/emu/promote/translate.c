/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Translation of ring-3 code for the process of a promoted address space, where the guest's registers are the host's
 * and its addresses are the host's: nearly all instructions are copied. Replaced are
 *   - branches: direct ones are linked, indirect ones go through a table by the low 16 bits of the target, and every
 * block begins with a look whether it is the one that was meant;
 *   - operands relative to RIP: their address is a constant, put in a register that the instruction does not use;
 *   - what must not happen in the process (system calls, CPUID, segment registers...): INT3, which stops it.
 * Host flags are the guest's throughout, so that nothing of this touches them.
 *
 * A mark tells for each host address which guest instruction it belongs to, and which registers are in spill slots
 * there; so the process can be stopped anywhere, by a fault or a kick, with a precise state.
 */
#include <stdlib.h>

#include "backend/emu/jit/jit.h"
#include "backend/emu/mmu/mmu.h"
#include "backend/emu/promote/promote.h"
#include "backend/emu/vcpu.h"

#define BLOCK_ROOM (16u << 10) /* no block's code is longer */
#define AHEAD      512u        /* blocks that are translated at one go */
#define FOLLOW     64u         /* ... of which so many only because others lead there */

struct stub {
	uint32_t site; /* of the displacement */
	uint64_t target;
};

struct trans {
	struct promoted *p;
	struct jit_asm a;
	const struct jit_source *s;
	const struct emu_insn *n;
	uint64_t pc; /* of n */
	const uint8_t *bytes;
	bool ended;
	struct stub stub[2 * JIT_MAX_INSNS + 2];
	unsigned stubs;
	uint64_t ahead[AHEAD]; /* blocks to go on with */
	unsigned ahead_count, ahead_next, followed;
};

static struct host_mem spill(unsigned slot)
{
	return (struct host_mem){.base = H_NONE, .index = H_NONE, .disp = (int32_t)(CHILD_SLOTS + slot * 8)};
}

/* ---- marks ---- */

static struct promoted_mark *new_mark(struct trans *t, uint64_t pc, unsigned fix)
{
	struct promoted *p = t->p;
	uint32_t host = (uint32_t)(t->a.p - promoted_code_at(p, 0));

	if (p->marks && p->mark[p->marks - 1].host == host)
		p->marks--;
	if (p->marks == p->marks_max) {
		unsigned max = p->marks_max ? p->marks_max * 2 : 4096;
		struct promoted_mark *more = realloc(p->mark, max * sizeof *more);

		if (!more) {
			t->a.full = true;
			return &p->mark[p->marks - 1];
		}
		p->mark = more;
		p->marks_max = max;
	}
	p->mark[p->marks] = (struct promoted_mark){.host = host, .pc = pc, .fix = (uint8_t)fix};
	return &p->mark[p->marks++];
}

static void mark(struct trans *t, uint64_t pc, unsigned fix)
{
	new_mark(t, pc, fix);
}

static void stop(struct trans *t, enum promoted_kind kind, uint64_t pc, uint32_t site)
{
	struct promoted_mark *m = new_mark(t, pc, 0);

	m->kind = (uint8_t)kind;
	m->site = site;
	jit_put8(&t->a, 0xcc);
}

/* ---- branches ---- */

static void follow(struct trans *t, uint64_t target)
{
	if (t->ahead_count < AHEAD && t->followed < FOLLOW) {
		t->ahead[t->ahead_count++] = target;
		t->followed++;
	}
}

static void jump(struct trans *t, uint64_t target, int cc)
{
	const struct promoted_block *b = promoted_look_up(t->p, target);
	struct jit_label l = cc < 0 ? jit_jmp(&t->a) : jit_jcc(&t->a, (enum host_condition)cc);

	if (t->a.full)
		return;
	if (b) {
		vc_st32(l.at, (uint32_t)(b->entry - (uint32_t)(l.at + 4 - promoted_code_at(t->p, 0))));
		return;
	}
	t->stub[t->stubs++] = (struct stub){(uint32_t)(l.at - promoted_code_at(t->p, 0)), target};
	follow(t, target);
}

/* R11 holds the target, and its own value is in its slot. */
static void dispatch(struct trans *t, bool rcx_saved)
{
	const unsigned fix = PROMOTED_FIX_R11 | PROMOTED_FIX_PC;
	struct host_mem entry = {.base = H_NONE, .index = H_RCX, .scale = 3, .disp = (int32_t)CHILD_TABLE};

	mark(t, 0, rcx_saved ? fix | PROMOTED_FIX_RCX : fix);
	if (!rcx_saved)
		jit_store(&t->a, true, spill(PROMOTED_SLOT_RCX), H_RCX);
	mark(t, 0, fix | PROMOTED_FIX_RCX);
	jit_encode(&t->a, &(struct host_insn){.map = 1, .opcode = 0xb7, .reg = H_RCX, .rm = H_R11}); /* MOVZX ecx, r11w */
	jit_encode(&t->a, &(struct host_insn){.opcode = 0xff, .reg = 4, .mem = &entry});
	t->ended = true;
}

/* A block's way in for indirect branches. Returns where the way to the next one of its place in the table is written.
 */
static uint32_t put_check(struct trans *t)
{
	const unsigned fix = PROMOTED_FIX_R11 | PROMOTED_FIX_PC;
	struct jit_asm *a = &t->a;
	uint32_t otherwise;

	mark(t, 0, fix | PROMOTED_FIX_RCX);
	jit_mov_imm64(a, H_RCX, -t->pc);
	jit_lea(a, true, H_RCX, (struct host_mem){.base = H_RCX, .index = H_R11});
	JIT_PUT(a, 0xe3, 0x05); /* JRCXZ over the jump */
	jit_jmp_to(a, promoted_code_at(t->p, t->p->miss));
	otherwise = (uint32_t)(a->p - 4 - promoted_code_at(t->p, 0));
	jit_load(a, true, H_RCX, spill(PROMOTED_SLOT_RCX));
	mark(t, 0, fix);
	jit_load(a, true, H_R11, spill(PROMOTED_SLOT_R11));
	return otherwise;
}

static void save_r11(struct trans *t)
{
	jit_store(&t->a, true, spill(PROMOTED_SLOT_R11), H_R11);
}

static void put_call(struct trans *t)
{
	uint64_t next = t->pc + t->n->len, target = next + t->n->imm;

	save_r11(t);
	jit_mov_imm64(&t->a, H_R11, next);
	mark(t, t->pc, PROMOTED_FIX_R11);
	JIT_PUT(&t->a, 0x41, 0x53); /* PUSH r11 */
	mark(t, target, PROMOTED_FIX_R11);
	jit_load(&t->a, true, H_R11, spill(PROMOTED_SLOT_R11));
	mark(t, target, 0);
	jump(t, target, -1);
	follow(t, next);
	t->ended = true;
}

static void put_ret(struct trans *t)
{
	struct host_mem top = {.base = H_RSP, .index = H_NONE};

	save_r11(t);
	if (t->n->desc->enc == EMU_ENC_IMM) {
		jit_load(&t->a, true, H_R11, top);
		mark(t, t->pc, PROMOTED_FIX_R11);
		top.disp = 8 + (int32_t)(t->n->imm & 0xffff);
		jit_lea(&t->a, true, H_RSP, top);
	} else {
		JIT_PUT(&t->a, 0x41, 0x5b); /* POP r11 */
	}
	dispatch(t, false);
}

/* LOOP, JRCXZ: only with a short displacement. */
static void put_short_branch(struct trans *t)
{
	uint64_t next = t->pc + t->n->len;

	jit_put(&t->a, t->bytes, t->n->len - 1u);
	jit_put8(&t->a, 5);
	mark(t, next, 0);
	jump(t, next, -1);
	mark(t, next + t->n->imm, 0);
	jump(t, next + t->n->imm, -1);
	t->ended = true;
}

/* ---- operands ---- */

static bool uses(const struct emu_insn *n, unsigned reg)
{
	return n->reg == reg || (n->prefixes & EMU_P_VEX && n->reg2 == reg);
}

/*
 * A register for the address of an operand relative to RIP: one that no instruction with such an operand uses by
 * itself, and that needs no REX. RBX is left only to what has two register operands of its own, by VEX: BH, whose
 * number is RDI's, is then none of them.
 */
static unsigned address_register(const struct emu_insn *n, unsigned *fix)
{
	static const struct {
		uint8_t reg, fix;
	} choice[] = {{H_RSI, PROMOTED_FIX_RSI}, {H_RDI, PROMOTED_FIX_RDI}, {H_RBX, PROMOTED_FIX_RBX}};
	unsigned i = 0;

	while (i < VC_ARRAY_SIZE(choice) - 1 && uses(n, choice[i].reg))
		i++;
	*fix = choice[i].fix;
	return choice[i].reg;
}

/* Where ModRM is in the instruction; what follows it is SIB, displacement, immediate. */
static unsigned modrm_at(const struct trans *t)
{
	unsigned at = 0;
	const uint8_t *b = t->bytes;

	if (t->n->prefixes & EMU_P_VEX) {
		while (b[at] != 0xc4 && b[at] != 0xc5)
			at++;
		return at + (b[at] == 0xc4 ? 4 : 3);
	}
	while (b[at] == 0x66 || b[at] == 0x67 || b[at] == 0xf2 || b[at] == 0xf3 || b[at] == 0xf0 || b[at] == 0x2e ||
	       b[at] == 0x36 || b[at] == 0x3e || b[at] == 0x26 || b[at] == 0x64 || b[at] == 0x65)
		at++;
	if ((b[at] & 0xf0) == 0x40)
		at++;
	return at + (t->n->map == 0 ? 1 : t->n->map == 1 ? 2 : 3);
}

static bool is_rip_relative(const struct emu_insn *n)
{
	return n->prefixes & EMU_P_MEM && n->base == EMU_REG_RIP;
}

/* The instruction with [register] in place of [rip + disp]. */
static void put_based(struct trans *t, unsigned reg)
{
	unsigned at = modrm_at(t);

	jit_put(&t->a, t->bytes, at);
	jit_put8(&t->a, (t->bytes[at] & 0x38) | reg);
	jit_put(&t->a, t->bytes + at + 5, t->n->len - at - 5);
}

static uint64_t rip_address(const struct trans *t)
{
	return t->pc + t->n->len + (uint64_t)(int64_t)t->n->disp;
}

static void put_rip_relative(struct trans *t)
{
	unsigned fix, reg = address_register(t->n, &fix);
	uint64_t next = t->pc + t->n->len;

	if (t->n->op == EMU_LEA) {
		jit_mov_imm64(&t->a, t->n->reg, t->n->opsize == 8 ? rip_address(t) : (uint32_t)rip_address(t));
		return;
	}
	jit_store(&t->a, true, spill(PROMOTED_SLOT_BASE), reg);
	jit_mov_imm64(&t->a, reg, rip_address(t));
	mark(t, t->pc, fix);
	put_based(t, reg);
	mark(t, next, fix);
	jit_load(&t->a, true, reg, spill(PROMOTED_SLOT_BASE));
}

/* R11 = operand of an indirect branch; its own value is saved. */
static void load_target(struct trans *t)
{
	const struct emu_insn *n = t->n;

	save_r11(t);
	if (!(n->prefixes & EMU_P_MEM)) {
		jit_mov_rr(&t->a, true, H_R11, n->rm);
	} else if (is_rip_relative(n)) {
		jit_mov_imm64(&t->a, H_R11, rip_address(t));
		mark(t, t->pc, PROMOTED_FIX_R11);
		jit_load(&t->a, true, H_R11, (struct host_mem){.base = H_R11, .index = H_NONE});
	} else {
		struct host_mem m = {.base = n->base == EMU_REG_NONE ? H_NONE : n->base,
		                     .index = n->index == EMU_REG_NONE ? H_NONE : n->index,
		                     .scale = n->scale,
		                     .disp = n->disp};

		if (n->seg == VC_FS)
			jit_put8(&t->a, 0x64);
		jit_load(&t->a, true, H_R11, m);
	}
	mark(t, t->pc, PROMOTED_FIX_R11);
}

static void put_call_indirect(struct trans *t)
{
	load_target(t);
	jit_store(&t->a, true, spill(PROMOTED_SLOT_RCX), H_RCX);
	jit_mov_imm64(&t->a, H_RCX, t->pc + t->n->len);
	mark(t, t->pc, PROMOTED_FIX_R11 | PROMOTED_FIX_RCX);
	jit_put8(&t->a, 0x51); /* PUSH rcx */
	follow(t, t->pc + t->n->len);
	dispatch(t, true);
}

/* ---- instructions ---- */

static void put_jcc(struct trans *t)
{
	jump(t, t->pc + t->n->len + t->n->imm, t->n->reg2);
}
static void put_jmp(struct trans *t)
{
	jump(t, t->pc + t->n->len + t->n->imm, -1);
	t->ended = true;
}
static void put_jmp_indirect(struct trans *t)
{
	load_target(t);
	dispatch(t, false);
}

typedef void (*put_fn)(struct trans *t);
static const put_fn branches[EMU_OP_COUNT] = {
    [EMU_JCC] = put_jcc,
    [EMU_JMP] = put_jmp,
    [EMU_CALL] = put_call,
    [EMU_RET] = put_ret,
    [EMU_JMP_IND] = put_jmp_indirect,
    [EMU_CALL_IND] = put_call_indirect,
    [EMU_LOOP] = put_short_branch,
    [EMU_LOOPE] = put_short_branch,
    [EMU_LOOPNE] = put_short_branch,
    [EMU_JCXZ] = put_short_branch,
};

/* Ranges of operations that do in the process what they do in ring 3 of the guest. */
static const struct {
	uint16_t first, last;
} copied[] = {
    {EMU_ADD, EMU_CMOVCC},   {EMU_ENTER, EMU_LEAVE},    {EMU_LAHF, EMU_CMC},
    {EMU_CLD, EMU_PAUSE},    {EMU_MOVS, EMU_SCAS},      {EMU_XLAT, EMU_XLAT},
    {EMU_MOVBE, EMU_MOVNTI}, {EMU_LDMXCSR, EMU_SFENCE}, {EMU_X87, EMU_VEC},
};

static bool is_copied(const struct trans *t, const struct emu_insn *n)
{
	bool in = false;

	for (unsigned i = 0; i < VC_ARRAY_SIZE(copied) && !in; i++)
		in = n->op >= copied[i].first && n->op <= copied[i].last;
	if (!in || n->seg == VC_GS)
		return false;
	/* the operating system may have AVX switched off; and an environment shows where the code is */
	if (n->op == EMU_VEC && n->prefixes & EMU_P_VEX && !t->p->avx)
		return false;
	if (n->op == EMU_X87 && n->prefixes & EMU_P_MEM && (n->opcode == 0xd9 || n->opcode == 0xdd) &&
	    (n->modrm >> 3 & 5) == 4)
		return false;
	/* to a guest without BMI1 and LZCNT these are not TZCNT and LZCNT */
	if ((n->op == EMU_BSF || n->op == EMU_BSR) && n->prefixes & EMU_P_REP)
		return false;
	return !is_rip_relative(n) || n->addrsize == 8;
}

/* REX.B or VEX.B with an operand relative to RIP means nothing, and would mean something with a register. */
static bool has_b(const struct trans *t)
{
	unsigned modrm = modrm_at(t), escape = modrm - (t->n->map == 0 ? 1 : t->n->map == 1 ? 2 : 3);

	if (t->n->prefixes & EMU_P_VEX)
		return modrm >= 4 && t->bytes[modrm - 4] == 0xc4 && !(t->bytes[modrm - 3] & 0x20);
	return escape > 0 && (t->bytes[escape - 1] & 0xf1) == 0x41;
}

/* It can be copied with another register for its address. */
static bool can_be_based(const struct trans *t)
{
	return t->n->op == EMU_LEA ? t->n->opsize >= 4 : !has_b(t);
}

static void put_insn(struct trans *t)
{
	const struct emu_insn *n = t->n;
	put_fn branch = branches[n->op];

	mark(t, t->pc, 0);
	if (branch && n->seg != VC_GS && n->opsize >= 4 && (n->addrsize == 8 || !(n->prefixes & EMU_P_MEM))) {
		branch(t);
	} else if (branch || !is_copied(t, n) || (is_rip_relative(n) && !can_be_based(t))) {
		stop(t, PROMOTED_INSN, t->pc, 0);
		t->ended = true;
	} else if (is_rip_relative(n)) {
		put_rip_relative(t);
	} else {
		jit_put(&t->a, t->bytes, n->len);
	}
}

static bool translate_source(struct trans *t, uint64_t pc)
{
	struct promoted *p = t->p;
	const struct jit_source *s = t->s;
	struct promoted_block *b;
	unsigned marks = p->marks;

	t->a =
	    (struct jit_asm){.p = promoted_code_at(p, p->code_used), .end = promoted_code_at(p, p->code_used) + BLOCK_ROOM};
	t->pc = pc;
	t->stubs = 0;
	t->ended = false;
	b = &p->block[p->blocks];
	*b = (struct promoted_block){.pc = pc, .indirect = p->code_used, .next = p->hash[promoted_hash(pc)]};
	b->otherwise = put_check(t);
	b->entry = (uint32_t)(t->a.p - promoted_code_at(p, 0));
	/* so that it can jump to itself */
	p->hash[promoted_hash(pc)] = p->blocks++;
	t->bytes = s->code;
	for (unsigned i = 0; i < s->count && !t->ended; i++) {
		t->n = &s->insn[i];
		put_insn(t);
		t->pc += t->n->len;
		t->bytes += t->n->len;
	}
	if (!t->ended) {
		mark(t, t->pc, 0);
		jump(t, t->pc, -1);
	}
	for (unsigned i = 0; i < t->stubs && !t->a.full; i++) {
		vc_st32(promoted_code_at(p, t->stub[i].site),
		        (uint32_t)(t->a.p - promoted_code_at(p, 0)) - (t->stub[i].site + 4));
		stop(t, PROMOTED_LINK, t->stub[i].target, t->stub[i].site);
	}
	if (t->a.full) {
		p->hash[promoted_hash(pc)] = b->next;
		p->blocks--;
		p->marks = marks;
		return false;
	}
	p->code_used = (uint32_t)VC_ALIGN_UP(t->a.p - promoted_code_at(p, 0), 16);
	return true;
}

/* What is at pc can be read without a fault. */
static bool readable(struct emu_vcpu *c, uint64_t pc)
{
	struct vc_walk w;

	return !(pc >> 47) && emu_walk(c, pc, VC_PF_U | VC_PF_I, false, &w) &&
	       ((pc & (VC_PAGE_SIZE - 1)) <= VC_PAGE_SIZE - 16 || emu_walk(c, pc + 16, VC_PF_U | VC_PF_I, false, &w));
}

/* What the translator has met in a page is what will be executed there. */
static void follow_page(struct emu_vcpu *c, struct trans *t, uint64_t pc, uint64_t gpa)
{
	uint16_t offsets[AHEAD];
	unsigned count = jit_blocks_in_page(c, gpa, offsets, AHEAD - t->ahead_count);

	for (unsigned i = 0; i < count; i++)
		t->ahead[t->ahead_count++] = (pc & VC_PAGE_MASK) + offsets[i];
}

static bool translate(struct emu_vcpu *c, struct trans *t, uint64_t pc)
{
	struct promoted *p = t->p;
	struct jit_source s;
	bool new_page = false, new_second;

	if (p->blocks == p->blocks_max || p->code_used + BLOCK_ROOM > CHILD_CODE_SIZE || !readable(c, pc) ||
	    !jit_read_source(c, &s, pc) || !promoted_note_source(p, pc, s.gpa, s.page, s.generation, &new_page) ||
	    (s.second &&
	     !promoted_note_source(p, pc + VC_PAGE_SIZE, s.second_gpa, s.second, s.second_generation, &new_second)))
		return false;
	t->s = &s;
	if (!translate_source(t, pc))
		return false;
	promoted_put_in_table(p, &p->block[p->blocks - 1]);
	if (new_page)
		follow_page(c, t, pc, s.gpa);
	return true;
}

uint32_t promoted_code(struct emu_vcpu *c, struct promoted *p, uint64_t pc)
{
	const struct promoted_block *b = promoted_look_up(p, pc);
	struct trans t;

	if (b)
		return b->entry;
	t.p = p;
	t.ahead_count = t.ahead_next = t.followed = 0;
	if (!translate(c, &t, pc)) {
		if (p->blocks == p->blocks_max || p->code_used + BLOCK_ROOM > CHILD_CODE_SIZE || p->sources == PROMOTE_SOURCE)
			promoted_code_flush(p);
		return 0;
	}
	while (t.ahead_next < t.ahead_count) {
		uint64_t next = t.ahead[t.ahead_next++];

		if (!promoted_look_up(p, next))
			translate(c, &t, next);
	}
	return promoted_look_up(p, pc)->entry;
}
