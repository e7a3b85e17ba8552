/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lockstep: the run of the shadow, which leaves no trace in memory. */
#include "backend/emu/lockstep.h"
#include "backend/emu/mmu/mmu.h"

#define MAX_INSN 15u

/* ---- stores ---- */

/* An entry with what is there before the store; leaves the run when there is no room. */
static struct emu_shadow_store *new_store(struct emu_shadow *s, uint64_t gpa, uint8_t *host, unsigned size)
{
	struct emu_shadow_store *e = &s->store[s->count];

	if (s->count == EMU_LOCKSTEP_STORES) {
		s->incomplete = true;
		emu_leave(s->c);
	}
	e->gpa = gpa;
	e->host = host;
	e->size = (uint8_t)size;
	e->marks = false;
	memcpy(e->before, host, size);
	s->count++;
	return e;
}

void emu_shadow_store(struct emu_vcpu *c, uint64_t gpa, uint8_t *host, const void *bytes, unsigned size)
{
	const uint8_t *from = bytes;
	unsigned n;

	for (unsigned at = 0; at < size; at += n) {
		struct emu_shadow_store *e;

		n = size - at < EMU_STORE_MAX ? size - at : EMU_STORE_MAX;
		e = new_store(c->shadow, gpa + at, host + at, n);
		memcpy(e->after, from + at, n);
		memcpy(e->host, e->after, n);
	}
}

/* The walk is about to set bits in an entry: they are taken back, too, but the translator need not set them. */
static void marking(void *ctx, uint64_t gpa, void *entry, unsigned size)
{
	struct emu_shadow_store *e = new_store(ctx, gpa, entry, size);

	e->marks = true;
	memcpy(e->after, e->before, size);
}

static void take_back(struct emu_shadow *s)
{
	for (unsigned i = s->count; i-- > 0;) {
		const struct emu_shadow_store *e = &s->store[i];

		memcpy(e->host, e->before, e->size);
	}
}

/* ---- following ---- */

void emu_lockstep_follow(struct emu_lockstep *ls)
{
	const struct emu_vcpu *c = ls->c;
	struct emu_vcpu *second = ls->second;

	memcpy(&second->s, &c->s, offsetof(struct vc_cpu_state, xsave) + EMU_IMAGE_SIZE);
	second->aflags = (c->aflags & ~ls->unkept) | (ls->right & ls->unkept);
	second->in_block = second->attention = false;
	second->exit = c->exit;
	if (ls->followed != c->mmu->changes) {
		second->mmu->last_slot = NULL;
		emu_mmu_state_changed(second);
		ls->followed = c->mmu->changes;
	}
	emu_mode_changed(second);
	memcpy(second->mmu->paging.pdpte, c->mmu->paging.pdpte, sizeof c->mmu->paging.pdpte);
	second->mmu->pdptes_loaded = c->mmu->pdptes_loaded;
	second->mmu->paging.marking = marking;
	second->mmu->paging.marking_ctx = second->shadow;
}

/* ---- instructions ---- */

static uint64_t code_linear(const struct emu_vcpu *c, uint64_t rip)
{
	return c->mode == EMU_MODE_64 ? rip : (uint32_t)(c->s.seg[VC_CS].base + rip);
}

/* May raise. */
static bool fetch_and_decode(struct emu_vcpu *c, struct emu_insn *insn)
{
	const struct emu_decode_mode mode = {c->mode, c->protected_mode, &c->bvcpu->cpuid.features};
	struct vc_page_info *page;
	uint8_t bytes[MAX_INSN];
	unsigned first, rest;
	const uint8_t *host;
	uint64_t gpa;
	int status;

	host = emu_fetch(c, code_linear(c, c->s.rip), &first, &gpa, &page);
	if (first > MAX_INSN)
		first = MAX_INSN;
	memcpy(bytes, host, first);
	status = emu_decode(bytes, first, &mode, insn);
	if (status == EMU_DECODE_MORE && first < MAX_INSN) {
		host = emu_fetch(c, code_linear(c, (c->s.rip + first) & emu_ip_mask(c)), &rest, &gpa, &page);
		if (rest > MAX_INSN - first)
			rest = MAX_INSN - first;
		memcpy(bytes + first, host, rest);
		status = emu_decode(bytes, first + rest, &mode, insn);
	}
	return status == EMU_DECODE_OK;
}

/* The instruction at s.rip; where it cannot be fetched or decoded, it will raise. */
static void decode(struct emu_vcpu *c, struct emu_lockstep_insn *at)
{
	jmp_buf here, *const outer = c->unwind;

	at->decoded = false;
	c->unwind = &here;
	if (!setjmp(here))
		at->decoded = fetch_and_decode(c, &at->insn);
	c->unwind = outer;
}

/* A shift by zero leaves the flags alone. */
static bool may_shift_by_zero(const struct emu_insn *i)
{
	if (i->op < EMU_ROL || i->op > EMU_SHRD || i->desc->enc == EMU_ENC_RM_1)
		return false;
	if (i->desc->enc == EMU_ENC_RM_IMM || i->desc->enc == EMU_ENC_RM_REG_IMM)
		return !(i->imm & (i->opsize == 8 ? 63 : 31));
	return true;
}

/* What the instruction does to flags: from those before it to those behind. */
static void track_flags(const struct emu_lockstep_insn *before, struct emu_lockstep_insn *behind)
{
	const struct emu_opdesc *desc = before->insn.desc;
	uint32_t undefined = emu_flag_bits(desc->flags_undefined);
	uint32_t set = may_shift_by_zero(&before->insn) ? 0 : emu_flag_bits(desc->flags_written) | undefined;

	behind->flags_set = before->flags_set | set;
	behind->flags_undefined = (before->flags_undefined & ~set) | undefined;
}

static void note(struct emu_lockstep *ls, unsigned k)
{
	const struct emu_vcpu *c = ls->second;
	struct emu_lockstep_insn *at = &ls->insn[k];

	memcpy(at->gpr, c->s.gpr, sizeof at->gpr);
	at->rip = c->s.rip;
	at->rflags = c->s.rflags;
	at->aflags = c->aflags;
	at->stores = ls->shadow.count;
}

static void take_image(struct emu_lockstep *ls, unsigned k)
{
	memcpy(ls->image[k].bytes, ls->second->s.xsave.bytes, EMU_IMAGE_SIZE);
	ls->insn[k].image = k;
}

static bool is_vector(const struct emu_insn *i)
{
	return i->op == EMU_VEC || i->op == EMU_X87 || i->op == EMU_FWAIT || (i->op >= EMU_FXSAVE && i->op <= EMU_STMXCSR);
}

/* Instruction k. False: it did not complete. */
static bool step(struct emu_lockstep *ls, unsigned k)
{
	struct emu_lockstep_insn *at = &ls->insn[k], *behind = at + 1;

	decode(ls->second, at);
	ls->why = interp_run_one(ls->second);
	if (ls->why != EMU_STOP_EVENTS)
		return false;
	if (!at->decoded) {
		ls->shadow.incomplete = true;
		return false;
	}
	note(ls, k + 1);
	track_flags(at, behind);
	behind->image = at->image;
	if (is_vector(&at->insn))
		take_image(ls, k + 1);
	return true;
}

bool emu_lockstep_interpret(struct emu_lockstep *ls)
{
	struct emu_lockstep_insn *at = ls->insn;
	bool goes_on = true;

	ls->done = 0;
	ls->shadow.count = 0;
	ls->shadow.incomplete = false;
	at->flags_set = at->flags_undefined = 0;
	note(ls, 0);
	take_image(ls, 0);
	while (goes_on && ls->done < ls->native && step(ls, ls->done)) {
		goes_on = at[1].rip == ((at->rip + at->insn.len) & emu_ip_mask(ls->second));
		ls->done++;
		at++;
	}
	take_back(&ls->shadow);
	/* Not those of an instruction that did not complete. */
	ls->shadow.count = at->stores;
	return !ls->shadow.incomplete;
}
