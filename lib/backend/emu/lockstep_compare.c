/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lockstep: did the translator do what the interpreter did? */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "backend/emu/lockstep.h"

#define PTE_AD 0x60u

static const char *const gpr_names[16] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                          "R8",  "R9",  "R10", "R11", "R12", "R13", "R14", "R15"};

/* What native instructions may change in the vector state; FOP, FIP and FDP only x87 does, which the interpreter runs.
 */
static const struct field {
	const char *name;
	uint16_t offset, size, count, stride;
} fields[] = {
    {"MXCSR", offsetof(struct vc_xsave, mxcsr), 4, 1, 0},     {"FCW", offsetof(struct vc_xsave, fcw), 2, 1, 0},
    {"FSW", offsetof(struct vc_xsave, fsw), 2, 1, 0},         {"FTW", offsetof(struct vc_xsave, ftw), 1, 1, 0},
    {"ST", offsetof(struct vc_xsave, st), 10, 8, 16},         {"XMM", offsetof(struct vc_xsave, xmm), 16, 16, 16},
    {"YMM_HI", offsetof(struct vc_xsave, ymm_hi), 16, 16, 16}};

static bool differ(struct emu_lockstep *ls, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool differ(struct emu_lockstep *ls, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(ls->difference, sizeof ls->difference, format, args);
	va_end(args);
	return false;
}

/* ---- where the translator stopped ---- */

static bool at_registers_of(const struct emu_lockstep *ls, unsigned k)
{
	return ls->c->s.rip == ls->insn[k].rip && !memcmp(ls->c->s.gpr, ls->insn[k].gpr, sizeof ls->insn[k].gpr);
}

/* Somebody wanted the vcpu before the block began. */
static bool did_not_begin(const struct emu_lockstep *ls)
{
	bool wanted = atomic_load_explicit(ls->c->requests, memory_order_relaxed) || ls->c->attention;

	return wanted && at_registers_of(ls, 0) && !(ls->why == EMU_STOP_EVENTS && at_registers_of(ls, ls->done));
}

static bool find_stop(struct emu_lockstep *ls, bool left)
{
	uint64_t rip = ls->c->s.rip;

	ls->stopped_at = 0;
	if (left && did_not_begin(ls))
		return true;
	if (left) {
		ls->stopped_at = ls->done;
		if (ls->why == EMU_STOP_EXCEPTION)
			return differ(ls, "goes on to %#" PRIx64 " over an instruction that raises exception %u", rip,
			              ls->second->exc.vector);
		if (ls->why == EMU_STOP_EXIT)
			return differ(ls, "goes on to %#" PRIx64 " over an instruction that accesses a device", rip);
		return true;
	}
	while (ls->insn[ls->stopped_at].rip != rip) {
		if (ls->stopped_at == ls->done)
			return differ(ls, "stops at %#" PRIx64 ", where the interpreter has not been", rip);
		ls->stopped_at++;
	}
	return true;
}

/* ---- registers ---- */

/* Flags of which the translator need not have the interpreter's value. */
static uint32_t free_flags(const struct emu_lockstep *ls)
{
	const struct emu_lockstep_insn *at = &ls->insn[ls->stopped_at];

	return at->flags_undefined | (ls->unkept & ~at->flags_set) | ls->dead;
}

static uint32_t wrong_flags(const struct emu_lockstep *ls)
{
	return (ls->c->aflags ^ ls->insn[ls->stopped_at].aflags) & VC_FLAGS_ARITH & ~free_flags(ls);
}

static bool same_registers(struct emu_lockstep *ls)
{
	const struct emu_lockstep_insn *at = &ls->insn[ls->stopped_at];
	const struct vc_cpu_state *s = &ls->c->s;

	if (s->rip != at->rip)
		return differ(ls, "RIP is %#" PRIx64 ", not %#" PRIx64, s->rip, at->rip);
	for (unsigned i = 0; i < 16; i++)
		if (s->gpr[i] != at->gpr[i])
			return differ(ls, "%s is %#" PRIx64 ", not %#" PRIx64, gpr_names[i], s->gpr[i], at->gpr[i]);
	if (wrong_flags(ls))
		return differ(ls, "flags are %#x, not %#x", ls->c->aflags & ~free_flags(ls), at->aflags & ~free_flags(ls));
	if (s->rflags != at->rflags)
		return differ(ls, "RFLAGS without arithmetic flags is %#" PRIx64 ", not %#" PRIx64, s->rflags, at->rflags);
	return true;
}

static const uint8_t *image_at(const struct emu_lockstep *ls)
{
	return ls->image[ls->insn[ls->stopped_at].image].bytes;
}

static bool same_field(const struct emu_lockstep *ls, const struct field *f, unsigned i)
{
	unsigned at = f->offset + i * f->stride;

	return !memcmp(ls->c->s.xsave.bytes + at, image_at(ls) + at, f->size);
}

/* The low 8 bytes in which they differ. */
static uint64_t piece(const uint8_t *bytes, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, bytes, size < 8 ? size : 8);
	return value;
}

static bool vector_differs(struct emu_lockstep *ls, const struct field *f, unsigned i)
{
	const uint8_t *here = ls->c->s.xsave.bytes + f->offset + i * f->stride;
	const uint8_t *there = image_at(ls) + f->offset + i * f->stride;
	unsigned at = 0;
	char number[8] = "", where[32] = "";

	while (f->size > 8 && here[at] == there[at])
		at++;
	at -= at % 8;
	if (f->count > 1)
		snprintf(number, sizeof number, "%u", i);
	if (f->size > 8)
		snprintf(where, sizeof where, " from byte %u on", at);
	return differ(ls, "%s%s%s is %#" PRIx64 ", not %#" PRIx64, f->name, number, where, piece(here + at, f->size - at),
	              piece(there + at, f->size - at));
}

static bool same_vectors(struct emu_lockstep *ls)
{
	/* nearly always: one comparison */
	if (!memcmp(ls->c->s.xsave.bytes, image_at(ls), EMU_IMAGE_SIZE))
		return true;
	for (unsigned f = 0; f < VC_ARRAY_SIZE(fields); f++)
		for (unsigned i = 0; i < fields[f].count; i++)
			if (!same_field(ls, &fields[f], i))
				return vector_differs(ls, &fields[f], i);
	return true;
}

/* Segments, control registers, MSRs, events: nothing of them is changed by native code. */
static bool same_rest(struct emu_lockstep *ls)
{
	const size_t from = offsetof(struct vc_cpu_state, seg), to = offsetof(struct vc_cpu_state, xsave);
	const uint8_t *here = (const uint8_t *)&ls->c->s, *there = (const uint8_t *)&ls->second->s;

	if (!memcmp(here + from, there + from, to - from))
		return true;
	for (size_t at = from; at < to; at++)
		if (here[at] != there[at])
			return differ(ls, "byte %zu of struct vc_cpu_state (a segment, control register or MSR) is %#x, not %#x",
			              at, here[at], there[at]);
	return true;
}

/* ---- memory ---- */

/* The byte of a page-table entry in which the shadow's walk set A or D. */
static bool is_marked(const struct emu_shadow *s, const uint8_t *host)
{
	for (unsigned i = 0; i < s->count; i++)
		if (s->store[i].marks && s->store[i].host == host)
			return true;
	return false;
}

static bool same_store(const struct emu_shadow *s, const struct emu_shadow_store *e)
{
	if (!memcmp(e->found, e->host, e->size))
		return true;
	for (unsigned i = 0; i < e->size; i++) {
		uint8_t wrong = e->found[i] ^ e->host[i];

		if (wrong & ~(is_marked(s, e->host + i) ? PTE_AD : 0u))
			return false;
	}
	return true;
}

/*
 * What the translator left where the shadow stored. Stores may overlap, so memory is brought to what it should be and
 * then back.
 */
static bool same_memory(struct emu_lockstep *ls)
{
	struct emu_shadow *s = &ls->shadow;
	unsigned made = ls->insn[ls->stopped_at].stores;
	const struct emu_shadow_store *wrong = NULL;

	for (unsigned i = 0; i < s->count; i++)
		memcpy(s->store[i].found, s->store[i].host, s->store[i].size);
	for (unsigned i = s->count; i-- > 0;)
		memcpy(s->store[i].host, s->store[i].before, s->store[i].size);
	for (unsigned i = 0; i < made; i++)
		memcpy(s->store[i].host, s->store[i].after, s->store[i].size);
	for (unsigned i = 0; i < s->count && !wrong; i++)
		if (!same_store(s, &s->store[i])) {
			wrong = &s->store[i];
			differ(ls, "memory at GPA %#" PRIx64 " is %#" PRIx64 ", not %#" PRIx64, wrong->gpa,
			       piece(wrong->found, wrong->size), piece(wrong->host, wrong->size));
		}
	for (unsigned i = 0; i < s->count; i++)
		memcpy(s->store[i].host, s->store[i].found, s->store[i].size);
	return !wrong;
}

bool emu_lockstep_compare(struct emu_lockstep *ls, bool left)
{
	return find_stop(ls, left) && same_registers(ls) && same_vectors(ls) && same_rest(ls) && same_memory(ls);
}

/* ---- the report ---- */

static void say(const struct emu_lockstep *ls, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(const struct emu_lockstep *ls, const char *format, ...)
{
	char line[240];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof line, format, args);
	va_end(args);
	vc_log(ls->c->bvm->env.log, VCORE_LOG_ERROR, "lockstep: %s", line);
}

static void say_block(const struct emu_lockstep *ls)
{
	char text[128];

	for (unsigned k = 0; k <= ls->done; k++) {
		const struct emu_lockstep_insn *at = &ls->insn[k];
		const char *here = k == ls->stopped_at ? "  <- the translator is here" : "";

		if (k < ls->done)
			emu_disassemble(&at->insn, at->rip, text, sizeof text);
		else if (ls->why != EMU_STOP_EVENTS && at->decoded)
			snprintf(text, sizeof text, "(%s)", ls->why == EMU_STOP_EXCEPTION ? "faults" : "accesses a device");
		else
			snprintf(text, sizeof text, "(the interpreter is here)");
		say(ls, "  %#" PRIx64 "  %s%s", at->rip, text, here);
	}
}

static void say_register(const struct emu_lockstep *ls, const char *name, uint64_t before, uint64_t interpreted,
                         uint64_t translated, bool wrong)
{
	say(ls, "  %-6s %016" PRIx64 "  %016" PRIx64 "  %016" PRIx64 "%s", name, before, interpreted, translated,
	    wrong ? "  <- differs" : "");
}

static void say_registers(const struct emu_lockstep *ls)
{
	const struct emu_lockstep_insn *before = ls->insn, *at = &ls->insn[ls->stopped_at];
	const struct vc_cpu_state *s = &ls->c->s;

	say(ls, "         before            interpreted       translated");
	for (unsigned i = 0; i < 16; i++)
		say_register(ls, gpr_names[i], before->gpr[i], at->gpr[i], s->gpr[i], at->gpr[i] != s->gpr[i]);
	say_register(ls, "RIP", before->rip, at->rip, s->rip, at->rip != s->rip);
	say_register(ls, "flags", before->aflags, at->aflags, ls->c->aflags, wrong_flags(ls));
	say_register(ls, "RFLAGS", before->rflags, at->rflags, s->rflags, at->rflags != s->rflags);
	if (free_flags(ls))
		say(ls, "  flags %#x are undefined or dead (of these %#x since a block before, and inverted on entry)",
		    free_flags(ls), ls->unkept);
}

static void say_vectors(const struct emu_lockstep *ls)
{
	for (unsigned f = 0; f < VC_ARRAY_SIZE(fields); f++)
		for (unsigned i = 0; i < fields[f].count; i++) {
			unsigned at = fields[f].offset + i * fields[f].stride;
			const uint8_t *here = ls->c->s.xsave.bytes + at, *there = image_at(ls) + at;

			if (same_field(ls, &fields[f], i))
				continue;
			for (unsigned k = 0; k < fields[f].size; k += 8)
				say(ls, "  %s %u from byte %u on: interpreted %016" PRIx64 ", translated %016" PRIx64, fields[f].name,
				    i, k, piece(there + k, fields[f].size - k), piece(here + k, fields[f].size - k));
		}
}

static void say_stores(const struct emu_lockstep *ls)
{
	for (unsigned k = 0; k < ls->done; k++)
		for (unsigned i = ls->insn[k].stores; i < ls->insn[k + 1].stores; i++) {
			const struct emu_shadow_store *e = &ls->shadow.store[i];

			if (!e->marks)
				say(ls,
				    "  store of %u bytes at GPA %#" PRIx64 " by %#" PRIx64 ": %#" PRIx64 " over %#" PRIx64
				    "; found %#" PRIx64,
				    e->size, e->gpa, ls->insn[k].rip, piece(e->after, e->size), piece(e->before, e->size),
				    piece(e->host, e->size));
		}
}

void emu_lockstep_report(const struct emu_lockstep *ls)
{
	say(ls, "vcpu %u, after %" PRIu64 " instructions without a difference: %s", ls->c->bvcpu->index, ls->compared,
	    ls->difference);
	say_block(ls);
	say_registers(ls);
	say_vectors(ls);
	say_stores(ls);
}
