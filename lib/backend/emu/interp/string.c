/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * MOVS CMPS STOS LODS SCAS INS OUTS, with REP.
 *
 * Repetition works on pieces that lie in one page on each side, at the speed of host memory, and on single elements
 * where a piece is not possible (devices, code pages, an element across pages, wrapping addresses). Registers are right
 * behind every piece, so a fault or an interrupt finds the completed iterations committed and s.rip at the instruction.
 */
#include "backend/emu/interp/interp.h"

struct string {
	struct emu_vcpu *c;
	const struct emu_insn *insn;
	unsigned size; /* of an element */
	bool down;     /* DF */
	bool rep;
	uint64_t mask; /* of addresses and the counter */
};

static uint64_t reg(const struct string *s, enum vc_gpr r)
{
	return s->c->s.gpr[r] & s->mask;
}
/* Registers change as far as the address size goes; 32 bits zero the upper half. */
static void set_reg(const struct string *s, enum vc_gpr r, uint64_t value)
{
	uint64_t *gpr = &s->c->s.gpr[r];
	*gpr = s->insn->addrsize == 2 ? (*gpr & ~s->mask) | (value & s->mask) : value & s->mask;
}
static void step(const struct string *s, enum vc_gpr r, uint64_t elements)
{
	uint64_t bytes = elements * s->size;
	set_reg(s, r, s->down ? reg(s, r) - bytes : reg(s, r) + bytes);
}

static uint64_t source(const struct string *s, enum vcore_access access)
{
	return interp_segment_linear(s->c, s->insn->seg, reg(s, VC_RSI), s->size, access);
}
static uint64_t destination(const struct string *s, enum vcore_access access)
{
	return interp_segment_linear(s->c, VC_ES, reg(s, VC_RDI), s->size, access);
}

/* ---- pieces ---- */

/* One side of a piece. */
struct side {
	uint8_t *first; /* host address of the first element; in memory, the others lie behind it, or before it with DF */
	uint64_t elements; /* at most; 0: no piece */
};

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The side at seg:offset for at most `count` elements. Raises what the first element would. */
static struct side side_of(const struct string *s, unsigned seg, uint64_t offset, uint64_t count, bool write)
{
	struct side none = {NULL, 0};
	uint64_t linear, room, in_page;
	unsigned bytes;
	uint8_t *host;
	/* a limit, or a wrap of the address, may lie within the piece */
	if (s->c->mode != EMU_MODE_64 && !(s->c->flat >> seg & 1))
		return none;
	room = s->down ? offset / s->size + 1 : (s->mask - offset) / s->size;
	linear = interp_segment_linear(s->c, seg, offset, s->size, write ? VCORE_ACCESS_WRITE : VCORE_ACCESS_READ);
	in_page = linear & (VC_PAGE_SIZE - 1);
	if (in_page + s->size > VC_PAGE_SIZE)
		return none;
	emu_check_alignment(s->c, linear, s->size); /* which comes before a page fault */
	host = emu_span(s->c, linear, write, &bytes);
	if (!host)
		return none;
	in_page = s->down ? in_page / s->size + 1 : bytes / s->size;
	return (struct side){host, min64(min64(room, in_page), count)};
}

/* The lowest address of n elements. */
static uint8_t *lowest(const struct string *s, uint8_t *first, uint64_t n)
{
	return s->down ? first - (n - 1) * s->size : first;
}
static uint8_t *element(const struct string *s, uint8_t *first, uint64_t k)
{
	return s->down ? first - k * s->size : first + k * s->size;
}

static uint64_t get(const void *p, unsigned size)
{
	return interp_mem_get(p, size * 8);
}
static void put(void *p, unsigned size, uint64_t value)
{
	interp_mem_set(p, size * 8, value);
}

static uint64_t move_piece(const struct string *s, uint64_t count)
{
	struct side from = side_of(s, s->insn->seg, reg(s, VC_RSI), count, false), to;
	uint64_t n;
	uint8_t *low_from, *low_to;
	if (!from.elements)
		return 0;
	to = side_of(s, VC_ES, reg(s, VC_RDI), from.elements, true);
	n = to.elements;
	if (!n)
		return 0;
	low_from = lowest(s, from.first, n);
	low_to = lowest(s, to.first, n);
	/* element by element, an overlap ahead of the direction repeats what was just written */
	if (s->down ? low_to < low_from && low_from < low_to + n * s->size
	            : low_from < low_to && low_to < low_from + n * s->size)
		for (uint64_t k = 0; k < n; k++)
			put(element(s, to.first, k), s->size, get(element(s, from.first, k), s->size));
	else
		memmove(low_to, low_from, n * s->size);
	step(s, VC_RSI, n);
	step(s, VC_RDI, n);
	return n;
}

static uint64_t store_piece(const struct string *s, uint64_t count)
{
	struct side to = side_of(s, VC_ES, reg(s, VC_RDI), count, true);
	uint64_t n = to.elements, value = s->c->s.gpr[VC_RAX] & vc_width_mask(s->size);
	uint8_t *low;
	if (!n)
		return 0;
	low = lowest(s, to.first, n);
	if (value == (value & 0xff) * (vc_width_mask(s->size) / 0xff))
		memset(low, (int)(value & 0xff), n * s->size);
	else
		for (uint64_t k = 0; k < n; k++)
			put(low + k * s->size, s->size, value);
	step(s, VC_RDI, n);
	return n;
}

/* Whether a repeated comparison goes on behind one with that outcome: REPE while equal, REPNE while not. */
static bool goes_on(const struct string *s, bool equal)
{
	return equal == !(s->insn->prefixes & EMU_P_REPNE);
}

static uint64_t compare_piece(const struct string *s, uint64_t count)
{
	struct side a = side_of(s, s->insn->seg, reg(s, VC_RSI), count, false), b;
	uint64_t n = 0, x, y;
	if (!a.elements)
		return 0;
	b = side_of(s, VC_ES, reg(s, VC_RDI), a.elements, false);
	if (!b.elements)
		return 0;
	do {
		x = get(element(s, a.first, n), s->size);
		y = get(element(s, b.first, n), s->size);
		n++;
	} while (n < b.elements && goes_on(s, x == y));
	s->c->aflags = interp_compare(x, y, s->size);
	step(s, VC_RSI, n);
	step(s, VC_RDI, n);
	return n;
}

static uint64_t scan_piece(const struct string *s, uint64_t count)
{
	struct side b = side_of(s, VC_ES, reg(s, VC_RDI), count, false);
	uint64_t n = 0, x = s->c->s.gpr[VC_RAX] & vc_width_mask(s->size), y;
	if (!b.elements)
		return 0;
	do
		y = get(element(s, b.first, n++), s->size);
	while (n < b.elements && goes_on(s, x == y));
	s->c->aflags = interp_compare(x, y, s->size);
	step(s, VC_RDI, n);
	return n;
}

/* ---- single elements ---- */

static void move_one(const struct string *s)
{
	uint64_t v = interp_load(s->c, source(s, VCORE_ACCESS_READ), s->size);
	interp_store(s->c, destination(s, VCORE_ACCESS_WRITE), s->size, v);
	step(s, VC_RSI, 1);
	step(s, VC_RDI, 1);
}
static void store_one(const struct string *s)
{
	interp_store(s->c, destination(s, VCORE_ACCESS_WRITE), s->size, s->c->s.gpr[VC_RAX]);
	step(s, VC_RDI, 1);
}
static void load_one(const struct string *s)
{
	uint64_t v = interp_load(s->c, source(s, VCORE_ACCESS_READ), s->size);
	interp_set(s->c, INTERP_GPR(VC_RAX), s->size * 8, v);
	step(s, VC_RSI, 1);
}
static void compare_one(const struct string *s)
{
	uint64_t a = interp_load(s->c, source(s, VCORE_ACCESS_READ), s->size);
	uint64_t b = interp_load(s->c, destination(s, VCORE_ACCESS_READ), s->size);
	s->c->aflags = interp_compare(a, b, s->size);
	step(s, VC_RSI, 1);
	step(s, VC_RDI, 1);
}
static void scan_one(const struct string *s)
{
	uint64_t b = interp_load(s->c, destination(s, VCORE_ACCESS_READ), s->size);
	s->c->aflags = interp_compare(s->c->s.gpr[VC_RAX] & vc_width_mask(s->size), b, s->size);
	step(s, VC_RDI, 1);
}
/* The store must not fault once the port was read. */
static void input_one(const struct string *s)
{
	uint64_t to = destination(s, VCORE_ACCESS_WRITE);
	emu_check_alignment(s->c, to, s->size);
	emu_probe(s->c, to, s->size, true);
	interp_store(s->c, to, s->size, emu_io_in(s->c, (uint16_t)s->c->s.gpr[VC_RDX], s->size, false));
	step(s, VC_RDI, 1);
}
static void output_one(const struct string *s)
{
	uint64_t v = interp_load(s->c, source(s, VCORE_ACCESS_READ), s->size);
	emu_io_out(s->c, (uint16_t)s->c->s.gpr[VC_RDX], s->size, (uint32_t)v, false);
	step(s, VC_RSI, 1);
}

/* ---- the instructions ---- */

static const struct string_op {
	void (*one)(const struct string *s);
	uint64_t (*piece)(const struct string *s,
	                  uint64_t count); /* as much as there is at once; the number of elements done */
	bool compares;
} string_ops[] = {
    [EMU_MOVS - EMU_MOVS] = {move_one, move_piece, false},   [EMU_CMPS - EMU_MOVS] = {compare_one, compare_piece, true},
    [EMU_STOS - EMU_MOVS] = {store_one, store_piece, false}, [EMU_LODS - EMU_MOVS] = {load_one, NULL, false},
    [EMU_SCAS - EMU_MOVS] = {scan_one, scan_piece, true},    [EMU_INS - EMU_MOVS] = {input_one, NULL, false},
    [EMU_OUTS - EMU_MOVS] = {output_one, NULL, false},
};

static bool events_wait(const struct emu_vcpu *c)
{
	return c->attention || atomic_load_explicit(c->requests, memory_order_relaxed);
}

/* Elements of an interruptible stretch, where they are done one by one. */
#define STRETCH 256

/* True: the repetition is over. */
static bool repeat_stretch(const struct string *s, const struct string_op *op)
{
	for (unsigned k = 0; k < STRETCH; k++) {
		uint64_t count = reg(s, VC_RCX), done = 0;
		if (!count)
			return true;
		if (op->piece && !s->c->stepping)
			done = op->piece(s, count);
		if (done) {
			k = STRETCH;
		} else {
			op->one(s);
			done = 1;
		}
		set_reg(s, VC_RCX, count - done);
		if (count == done || (op->compares && !goes_on(s, s->c->aflags & VC_FLAG_ZF)))
			return true;
		if (s->c->stepping)
			return false;
	}
	return false;
}

static enum emu_next string_instruction(struct emu_vcpu *c, const struct emu_insn *i)
{
	const struct string_op *op = &string_ops[i->op - EMU_MOVS];
	struct string s = {
	    .c = c,
	    .insn = i,
	    .size = i->opsize,
	    .down = c->s.rflags & VC_FLAG_DF,
	    .rep = i->prefixes & (EMU_P_REP | EMU_P_REPNE),
	    .mask = vc_width_mask(i->addrsize),
	};
	/* before the operand in memory, and whatever the count */
	if (i->op == EMU_INS || i->op == EMU_OUTS)
		emu_io_check(c, (uint16_t)c->s.gpr[VC_RDX], i->opsize);
	if (!s.rep) {
		op->one(&s);
		return EMU_NEXT;
	}
	do {
		if (repeat_stretch(&s, op))
			return EMU_NEXT;
	} while (!c->stepping && !events_wait(c));
	return EMU_JUMP; /* s.rip is still the instruction */
}

emu_system_fn interp_select_string(const struct emu_insn *n)
{
	return n->op >= EMU_MOVS && n->op <= EMU_OUTS ? string_instruction : NULL;
}
