/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A block: instructions that follow each other in one page, up to one that never goes on behind itself. Conditional
 * branches in between are ways out of it.
 */
#include "backend/emu/decode/tables.h"
#include "backend/emu/hook.h"
#include "backend/emu/jit/trans.h"

/* ---- what can be translated ---- */

static bool segments_are_plain(const struct jit_trans *t, const struct emu_insn *n)
{
	bool memory = (n->prefixes & EMU_P_MEM || n->desc->imm == EMU_IMM_MOFFS) && n->op != EMU_LEA;

	if (t->long_mode)
		return true;
	if (memory && !(t->c->flat >> n->seg & 1))
		return false;
	return !(n->desc->attr & EMU_A_STACK) || (t->c->flat >> VC_SS & 1 && t->c->stack_size == 4);
}

bool jit_is_native(const struct jit_trans *t, const struct emu_insn *n)
{
	if (n->addrsize == 2 || !segments_are_plain(t, n))
		return false;
	if (jit_branch_native(n))
		return n->op == EMU_JCC || n->opsize == (t->long_mode ? 8 : 4);
	if (n->op == EMU_VEC && n->map == EMU_MAP_0F && n->opcode == 0x77 && !t->long_mode)
		return false;               /* VZEROUPPER leaves YMM8 to YMM15 alone there */
	if (jit_system_native(t->c, n)) /* behind STI comes another instruction, see emit_sti() */
		return n->op != EMU_STI || (n != &t->s->insn[t->s->count - 1] && !t->j->lockstep);
	return jit_integer_native(n) || jit_stack_native(n) || jit_vector_native(n);
}

/* ---- flags ---- */

/* How far a shift or rotation goes when that is known; -1: by CL. */
static int shift_count(const struct emu_insn *n)
{
	if (n->desc->enc == EMU_ENC_RM_1)
		return 1;
	if (n->desc->enc == EMU_ENC_RM_IMM || n->desc->enc == EMU_ENC_RM_REG_IMM)
		return (int)(n->imm & (n->opsize == 8 ? 63 : 31));
	return -1;
}
static bool is_shift(const struct emu_insn *n)
{
	return n->op >= EMU_ROL && n->op <= EMU_SHRD;
}

uint8_t jit_flags_killed(const struct emu_insn *n)
{
	if (is_shift(n)) {
		int count = shift_count(n);

		if (count <= 0)
			return 0;
		return n->op == EMU_SHL || n->op == EMU_SHR || n->op == EMU_SAR || n->op == EMU_SHLD || n->op == EMU_SHRD
		           ? EMU_FL_ALL
		           : EMU_FL_C | EMU_FL_O;
	}
	return n->desc->flags_written | n->desc->flags_undefined;
}

uint8_t jit_flags_needed(const struct emu_insn *n, uint8_t behind)
{
	if (is_shift(n)) {
		uint8_t carry = n->op == EMU_RCL || n->op == EMU_RCR ? EMU_FL_C : 0;

		/* by zero, the old flags stay */
		return shift_count(n) > 0 ? carry : behind | carry;
	}
	return n->desc->flags_read;
}

static void find_live(struct jit_trans *t)
{
	uint8_t live = EMU_FL_ALL, seen = EMU_FL_ALL;

	for (unsigned k = t->s->count; k-- > 0;) {
		const struct emu_insn *n = &t->s->insn[k];

		t->live[k + 1] = live;
		t->seen[k + 1] = seen;
		if (n->op == EMU_JCC || t->hooked)
			live = EMU_FL_ALL;
		else
			live = (uint8_t)((live & ~jit_flags_killed(n)) | jit_flags_needed(n, live));
		seen = jit_may_fault(t, n) ? EMU_FL_ALL : (uint8_t)((seen & ~jit_flags_killed(n)) | live);
		t->live[k] = live;
		t->seen[k] = seen;
	}
}

/* Where the block wants the flags that it is entered with. */
static enum jit_flags_in flags_in(const struct jit_trans *t)
{
	if (!t->live[0])
		return JIT_FLAGS_DEAD;
	for (unsigned k = 0; k < t->s->count && !t->j->lockstep && !t->s->second && !t->hooked; k++) {
		const struct emu_insn *n = &t->s->insn[k];

		if (!jit_is_native(t, n) || (n->prefixes & EMU_P_MEM && n->op != EMU_LEA && n->op != EMU_NOP) ||
		    n->desc->attr & EMU_A_STACK || n->op == EMU_VEC || n->op == EMU_JMP || n->op == EMU_JMP_IND)
			break;
		if (n->desc->flags_read)
			return JIT_FLAGS_HOST;
		if (n->desc->flags_written)
			break;
	}
	return JIT_FLAGS_MEMORY;
}

/* Not by PUSHFQ, which takes ten times as long. */
void jit_save_flags(struct jit_asm *a)
{
	struct host_mem m = jit_field(FIELD(jit_flags));

	jit_mov_rr(a, true, H_R10, H_RAX);
	JIT_PUT(a, 0x9f);             /* LAHF */
	JIT_PUT(a, 0x0f, 0x90, 0xc0); /* SETO al */
	jit_encode(a, &(struct host_insn){.pp = 0x66, .opcode = 0x89, .reg = H_RAX, .mem = &m});
	jit_mov_rr(a, true, H_RAX, H_R10);
}

/* As wide as they were stored: a wider load would wait for the store to be over. */
void jit_load_flags(struct jit_asm *a, unsigned reg)
{
	struct host_mem m = jit_field(FIELD(jit_flags));

	jit_encode(a, &(struct host_insn){.map = 1, .opcode = 0xb7, .reg = (uint8_t)reg, .mem = &m}); /* MOVZX reg, word */
}

void jit_spoil_flags(struct jit_trans *t, uint8_t live)
{
	if (t->flags == JIT_FL_HOST && live)
		jit_save_flags(&t->a);
	t->flags = JIT_FL_MEMORY;
}

/*
 * Before a check. Flags that nothing reads any more still show in the frame of a fault between here and where they are
 * overwritten. Mostly they can be computed again from the registers of the instruction that set them; if not, they are
 * saved.
 */
void jit_spoil_for_check(struct jit_trans *t)
{
	if (t->flags != JIT_FL_HOST || t->live[t->i]) {
		jit_spoil_flags(t, t->live[t->i]);
		return;
	}
	t->recover = jit_recoverable(t) ? (uint16_t)(t->setter_offset + 1) : 0;
	jit_spoil_flags(t, t->recover ? 0 : EMU_FL_ALL);
}

void jit_want_flags(struct jit_trans *t)
{
	struct jit_asm *a = &t->a;

	if (t->flags != JIT_FL_MEMORY)
		return;
	jit_store(a, true, jit_field(FIELD(jit_spill)), H_RAX);
	jit_load_flags(a, H_RAX);
	JIT_PUT(a, 0x04, 0x7f); /* ADD al, 127 */
	JIT_PUT(a, 0x9e);       /* SAHF */
	jit_load(a, true, H_RAX, jit_field(FIELD(jit_spill)));
	t->flags = JIT_FL_BOTH;
}

void jit_settle_rsp(struct jit_trans *t)
{
	if (!t->delta)
		return;
	jit_lea(&t->a, true, H_R15, (struct host_mem){.base = H_R15, .index = H_NONE, .disp = t->delta});
	for (unsigned k = 0; k < EMU_JIT_ADDENDS; k++) {
		if (t->group[k].base == VC_RSP) {
			t->group[k].lo -= t->delta;
			t->group[k].hi -= t->delta;
		}
	}
	t->delta = 0;
}

/* ---- cold code ---- */

struct jit_cold *jit_cold(struct jit_trans *t, enum jit_cold_kind kind)
{
	struct jit_cold *c = &t->cold[t->colds];

	if (t->colds == JIT_MAX_COLD) {
		t->a.full = true; /* cannot happen with JIT_MAX_INSNS */
		c = &t->cold[JIT_MAX_COLD - 1];
	} else {
		t->colds++;
	}
	*c = (struct jit_cold){.kind = (uint8_t)kind, .delta = t->delta, .recover = t->recover};
	c->page_offset = (uint16_t)(t->s->page_offset + t->offset);
	return c;
}

void jit_bail_if(struct jit_trans *t, enum host_condition cc)
{
	struct jit_cold *c = jit_cold(t, JIT_COLD_BAIL);

	c->from = jit_jcc(&t->a, cc);
}

static void put_bail(struct jit_trans *t, const struct jit_cold *c)
{
	if (c->delta)
		jit_lea(&t->a, true, H_R15, (struct host_mem){.base = H_R15, .index = H_NONE, .disp = c->delta});
	jit_mov_imm64(&t->a, H_R11, c->page_offset | (uint32_t)c->recover << 17);
	jit_jmp_to(&t->a, t->j->thunks.leave_bail);
}

/* ---- leaving a block ---- */

struct jit_link *jit_new_link(struct jit_trans *t, int64_t page_target)
{
	struct jit_link *l;

	if (t->link_count == VC_ARRAY_SIZE(t->links)) {
		t->a.full = true;
		return &t->links[0];
	}
	l = &t->links[t->link_count++];
	*l = (struct jit_link){.from = t->b, .offset = (uint64_t)page_target};
	return l;
}

static struct jit_link *link_final(const struct jit_trans *t, const struct jit_link *l)
{
	return t->b->links + (l - t->links);
}

/* A jump whose displacement can be replaced in one store. */
static void put_patchable_jump(struct jit_trans *t, uint8_t **site)
{
	jit_align(&t->a, 4, 1);
	jit_put8(&t->a, 0xe9);
	*site = t->a.p;
	jit_put32(&t->a, 0); /* to what follows */
}

static void put_leave(struct jit_trans *t, const struct jit_link *l)
{
	jit_mov_imm64(&t->a, H_R11, (uintptr_t)link_final(t, l));
	jit_jmp_to(&t->a, t->j->thunks.leave_link);
}

/* What a link leads to while it has no target. save: flags are in RFLAGS. */
static void put_unlinked(struct jit_trans *t, struct jit_link *l, bool save)
{
	l->unlinked = jit_here(&t->a);
	if (save) {
		jit_save_flags(&t->a);
		put_patchable_jump(t, &l->site_save);
		l->unlinked_save = jit_here(&t->a);
	}
	put_leave(t, l);
}

static bool same_page(const struct jit_trans *t, int64_t target)
{
	return target >= 0 && target < 4096;
}

/*
 * R10: linear address of the page this far from the block's. Jumps if the vcpu's jit_pages does not say that guest page
 * id is there. Spoils R10, R11 and RFLAGS. Returns where the id is in the code, to be patched: a multiple of 4.
 */
static uint32_t *put_page_check(struct jit_trans *t, bool enter, int32_t distance, uint32_t page_id,
                                struct jit_label no[2])
{
	struct jit_asm *a = &t->a;
	struct host_mem ctx = jit_field(FIELD(jit_ctx)), tag = jit_field_indexed(FIELD(jit_pages[0].tag), H_R11);
	struct host_mem id = jit_field_indexed(FIELD(jit_pages[0].id), H_R11);
	uint32_t *id_in_code;

	jit_load(a, true, H_R10, jit_field(FIELD(jit_page)));
	jit_lea(a, t->long_mode, H_R10, (struct host_mem){.base = H_R10, .index = H_NONE, .disp = distance});
	jit_mov_rr(a, true, H_R11, H_R10);
	jit_shift_imm(a, 5, true, H_R11, 8);
	jit_alu_imm(a, H_AND, false, H_R11, (EMU_JIT_PAGES - 1) << 4);
	if (enter)
		jit_store(a, true, jit_field(FIELD(jit_page)), H_R10);
	jit_alu_mem(a, H_XOR, true, H_R10, &ctx);
	jit_alu_mem(a, H_CMP, true, H_R10, &tag);
	no[0] = jit_jcc(a, H_NE);
	/* CMP dword [r11 + id], imm32 */
	jit_align(a, 4, 8);
	jit_encode(a, &(struct host_insn){.opcode = 0x81, .reg = H_CMP, .mem = &id, .imm = page_id, .imm_size = 4});
	id_in_code = (uint32_t *)(void *)(a->p - 4);
	if ((uintptr_t)id_in_code & 3)
		a->full = true;
	no[1] = jit_jcc(a, H_NE);
	return id_in_code;
}

/* To another page: only if it is the one that the link was made for. RFLAGS were saved. */
static void put_cross(struct jit_trans *t, struct jit_link *l)
{
	struct jit_label no[2];

	jit_lose_addend(t);
	l->page_id = put_page_check(t, true, (int32_t)((int64_t)l->offset & -4096), UINT32_MAX, no);
	put_patchable_jump(t, &l->site);
	l->unlinked = jit_here(&t->a);
	jit_land(&t->a, no[0]);
	jit_land(&t->a, no[1]);
	put_leave(t, l);
}

void jit_exit_direct(struct jit_trans *t, int64_t target)
{
	struct jit_link *l;

	jit_settle_rsp(t);
	l = jit_new_link(t, target);
	if (!same_page(t, target)) {
		jit_spoil_flags(t, EMU_FL_ALL);
		put_cross(t, l);
	} else {
		put_patchable_jump(t, &l->site);
		put_unlinked(t, l, t->flags == JIT_FL_HOST);
	}
	t->ended = true;
}

void jit_exit_if(struct jit_trans *t, unsigned cc, int64_t target)
{
	struct jit_cold *c;

	jit_settle_rsp(t);
	jit_want_flags(t);
	c = jit_cold(t, same_page(t, target) ? JIT_COLD_LINK : JIT_COLD_CROSS);
	c->link = jit_new_link(t, target);
	c->save = t->flags == JIT_FL_HOST;
	jit_align(&t->a, 4, 2);
	JIT_PUT(&t->a, 0x0f, 0x80 | (uint8_t)cc);
	c->from = (struct jit_label){t->a.p};
	jit_put32(&t->a, 0);
}

static void put_cold(struct jit_trans *t, struct jit_cold *c)
{
	switch (c->kind) {
	case JIT_COLD_MISS:
		jit_emit_cold_miss(t, c);
		break;
	case JIT_COLD_BAIL:
		jit_land(&t->a, c->from);
		put_bail(t, c);
		break;
	case JIT_COLD_LINK:
		jit_land(&t->a, c->from);
		c->link->site = c->from.at;
		put_unlinked(t, c->link, c->save);
		break;
	case JIT_COLD_CROSS:
		jit_land(&t->a, c->from);
		if (c->save)
			jit_save_flags(&t->a);
		put_cross(t, c->link);
		break;
	case JIT_COLD_POLL:
		jit_land(&t->a, c->from);
		jit_mov_imm64(&t->a, H_R11, c->page_offset);
		jit_jmp_to(&t->a, t->j->thunks.leave_poll);
		break;
	case JIT_COLD_SECOND:
		jit_land(&t->a, c->from);
		jit_land(&t->a, c->from2);
		jit_mov_imm64(&t->a, H_R11, (uintptr_t)t->b);
		jit_jmp_to(&t->a, t->j->thunks.leave_second);
		break;
	case JIT_COLD_CALL:
		jit_land(&t->a, c->from);
		if (c->from2.at)
			jit_land(&t->a, c->from2);
		jit_mov_imm64(&t->a, H_R11, (uintptr_t)c->site);
		jit_jmp_to(&t->a, t->j->thunks.leave_site);
		break;
	case JIT_COLD_VEC:
		jit_land(&t->a, c->from);
		jit_call_to(&t->a, c->write ? t->j->thunks.vec_load_avx : t->j->thunks.vec_load);
		jit_op_rr(&t->a, 0x85, false, H_R11, H_R11);
		jit_jcc_to(&t->a, H_NE, c->back);
		put_bail(t, c);
		break;
	case JIT_COLD_RETURN:
		jit_land(&t->a, c->from);
		put_patchable_jump(t, &c->link->site);
		c->link->unlinked = jit_here(&t->a);
		put_leave(t, c->link);
		break;
	}
}

/* ---- calls of C ---- */

struct jit_site *jit_new_site(struct jit_trans *t)
{
	struct jit_site *site = jit_meta_alloc(t->j, sizeof *site);

	*site = (struct jit_site){.insn = *t->n, .block = t->b, .page_offset = (uint16_t)(t->s->page_offset + t->offset)};
	site->insn.offset = (uint16_t)t->offset;
	site->fn = jit_called(t->c, &site->insn);
	return site;
}

/* Out at a site, with everything in its place. */
static void emit_site(struct jit_trans *t, struct jit_site *site, bool comes_back)
{
	jit_settle_rsp(t);
	jit_spoil_flags(t, EMU_FL_ALL); /* it may fault */
	jit_mov_imm64(&t->a, H_R11, (uintptr_t)site);
	jit_jmp_to(&t->a, t->j->thunks.leave_site);
	if (comes_back)
		site->resume = jit_here(&t->a);
	t->flags = JIT_FL_MEMORY;
	t->vec_ready = t->vec_avx = false;
	jit_forget_group(t, EMU_REG_NONE);
}

static void emit_call_out(struct jit_trans *t)
{
	bool end = t->n->desc->attr & EMU_A_END;

	emit_site(t, jit_new_site(t), !end);
	t->ended = end;
}

/* Hooks that the instruction, or the block that it begins, has to be told. */
static void emit_hooks(struct jit_trans *t)
{
	unsigned at = t->s->page_offset + t->offset;
	unsigned hooks = (emu_hooks_code_wanted(t->c, at, 1) ? JIT_HOOK_CODE : 0) |
	                 (!t->i && emu_hooks_block_wanted(t->c, at, 1) ? JIT_HOOK_BLOCK : 0);
	struct jit_site *site;

	if (!hooks)
		return;
	site = jit_meta_alloc(t->j, sizeof *site);
	*site = (struct jit_site){.insn = *t->n, .block = t->b, .page_offset = (uint16_t)at, .hooks = (uint8_t)hooks};
	emit_site(t, site, true);
	t->cached = EMU_REG_NONE;
}

/* ---- the whole ---- */

static void put_block_pointer(struct jit_trans *t)
{
	jit_align(&t->a, 16, 8);
	jit_put64(&t->a, (uintptr_t)t->b);
}

/* The instruction's second page must be where it was when the block was made. */
static void check_second_page(struct jit_trans *t)
{
	struct jit_cold *c = jit_cold(t, JIT_COLD_SECOND);
	struct jit_label no[2];

	put_page_check(t, false, VC_PAGE_SIZE, (uint32_t)(t->s->second_gpa >> 12), no);
	c->from = no[0];
	c->from2 = no[1];
}

/* The poll is the first instruction, of 8 bytes at a multiple of 16: it is what is replaced when the block is stale. */
static void put_entry(struct jit_trans *t)
{
	struct jit_asm *a = &t->a;
	struct jit_cold *c;

	put_block_pointer(t);
	t->b->entry = jit_here(a);
	JIT_PUT(a, 0x83, 0xbc, 0x24); /* CMP dword [rsp + disp32], imm8 */
	jit_put32(a, FIELD(jit_poll));
	jit_put8(a, 0);
	c = jit_cold(t, JIT_COLD_POLL);
	c->from = jit_jcc(a, H_NE);
	t->flags = JIT_FL_MEMORY;
	if (t->s->second)
		check_second_page(t);
	if (t->b->flags_in == JIT_FLAGS_HOST) {
		struct jit_label over;

		jit_want_flags(t);
		over = jit_jmp(a);
		put_block_pointer(t);
		t->b->entry_host = jit_here(a);
		jit_nop(a, 8);
		jit_land(a, over);
		t->flags = JIT_FL_HOST;
	}
}

static bool emit_native(struct jit_trans *t)
{
	return jit_emit_integer(t) || jit_emit_stack(t) || jit_emit_branch(t) || jit_emit_vector(t) || jit_emit_system(t);
}

/* Groups whose base the instruction has written; RSP's are the business of those that do. */
static void forget_written(struct jit_trans *t)
{
	for (unsigned k = 0; k < EMU_JIT_ADDENDS; k++)
		if (t->group[k].valid && t->group[k].base != VC_RSP && jit_writes_gpr(t->n, t->group[k].base))
			jit_forget_group(t, t->group[k].base);
}

static void emit_all(struct jit_trans *t)
{
	bool leading = true;

	for (t->i = 0; t->i < t->s->count && !t->ended; t->i++) {
		t->n = &t->s->insn[t->i];
		if (!jit_keeps_cached(t->n))
			t->cached = EMU_REG_NONE;
		if (t->hooked)
			emit_hooks(t);
		if (jit_is_native(t, t->n)) {
			if (t->j->lockstep && !leading)
				break;
			emit_native(t);
			t->b->native += leading;
			forget_written(t);
		} else {
			if (t->j->lockstep && t->i)
				break;
			emit_call_out(t);
			leading = false;
		}
		if (t->n->desc->flags_written | t->n->desc->flags_undefined) {
			t->setter = t->i;
			t->setter_offset = (uint16_t)(t->s->page_offset + t->offset);
			t->recover = t->only_noted ? (uint16_t)(t->setter_offset + 1) : 0;
			t->only_noted = false;
		}
		t->offset += t->n->len;
	}
	if (t->ended)
		return;
	/* behind the last instruction, in this page or at the start of the next one */
	jit_exit_direct(t, (int64_t)(t->s->page_offset + t->offset));
}

/* For lockstep: what is live, by offset in the code. */
static void keep_live(struct jit_trans *t)
{
	uint8_t *live = jit_meta_alloc(t->j, JIT_MAX_BYTES + 16);
	unsigned at = 0;

	for (unsigned k = 0; k < t->s->count; k++) {
		live[at] = t->live[k];
		at += t->s->insn[k].len;
	}
	live[at] = EMU_FL_ALL;
	t->b->live = live;
}

struct jit_block *jit_translate(struct emu_vcpu *c, const struct jit_source *s, bool no_groups)
{
	struct jit_vm *j = c->jit;
	struct jit_trans *t;
	struct jit_block *b;
	uint8_t *code;

	if (!jit_room(j))
		return NULL;
	t = j->trans;
	t->j = j;
	t->c = c;
	t->s = s;
	t->i = t->offset = 0;
	t->long_mode = c->mode == EMU_MODE_64;
	t->delta = 0;
	t->vec_ready = t->vec_avx = t->ended = false;
	t->no_groups = no_groups;
	t->hooked = s->hooked;
	memset(t->group, 0, sizeof t->group);
	t->in_r11 = -1;
	t->next_group = 0;
	t->cached = EMU_REG_NONE;
	t->recover = 0;
	t->only_noted = false;
	t->setter = JIT_MAX_INSNS;
	t->colds = t->link_count = 0;
	t->n = &s->insn[0];
	b = jit_meta_alloc(j, sizeof *b);
	*b = (struct jit_block){.gpa = s->gpa,
	                        .key = c->mode_key,
	                        .generation = s->generation,
	                        .page = s->page,
	                        .second = s->second,
	                        .second_gpa = s->second_gpa};
	code = jit_meta_alloc(j, s->bytes);
	b->links = jit_meta_alloc(j, sizeof *b->links * (2 * s->count + 4));
	t->b = b;
	t->a = jit_code_begin(j);
	find_live(t);
	b->flags_in = (uint8_t)flags_in(t);
	put_entry(t);
	emit_all(t);
	for (unsigned k = 0; k < t->colds; k++)
		put_cold(t, &t->cold[k]);
	b->bytes = (uint16_t)t->offset;
	b->code = code;
	memcpy(code, s->code, b->bytes);
	b->links_count = (uint8_t)t->link_count;
	memcpy(b->links, t->links, t->link_count * sizeof *b->links);
	if (j->lockstep)
		keep_live(t);
	jit_code_end(j, &t->a);
	jit_insert(j, b);
	return b;
}
