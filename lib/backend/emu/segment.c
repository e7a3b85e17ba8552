/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Segmentation: logical to linear addresses, descriptor tables, loading of data segment registers, stacks. */
#include "backend/emu/segment.h"

#include "backend/emu/mmu/mmu.h"

/* ---- logical to linear ---- */

/* Whether [offset, offset + size) is inside the segment's limit (SDM vol. 3, 5.3). */
static bool inside(const struct vc_segment *seg, uint64_t offset, unsigned size)
{
	uint64_t last = offset + size - 1;
	bool down = (seg->attr & (VC_SEG_S | EMU_TYPE_CODE | EMU_TYPE_DOWN)) == (VC_SEG_S | EMU_TYPE_DOWN);

	if (down)
		return offset > seg->limit && last <= (seg->attr & VC_SEG_DB ? 0xffffffffu : 0xffffu);
	/* Accesses that wrap at 4 GiB may or may not fault; here they wrap, as those of a flat segment do. */
	return last <= seg->limit || seg->limit == 0xffffffffu;
}

static bool allowed(const struct vc_segment *seg, enum vcore_access access)
{
	unsigned type = VC_SEG_TYPE(seg->attr);

	if (access == VCORE_ACCESS_WRITE)
		return (type & (EMU_TYPE_CODE | EMU_TYPE_WRITABLE)) == EMU_TYPE_WRITABLE;
	if (access == VCORE_ACCESS_READ)
		return !(type & EMU_TYPE_CODE) || type & EMU_TYPE_READABLE;
	return true;
}

uint64_t emu_seg_linear(struct emu_vcpu *c, enum vc_sreg seg, uint64_t offset, unsigned size, enum vcore_access access)
{
	const struct vc_segment *s = &c->s.seg[seg];
	enum vc_vector vector = seg == VC_SS ? VC_SSF : VC_GP;

	if (c->mode == EMU_MODE_64) {
		uint64_t linear = offset + (seg >= VC_FS ? s->base : 0);
		if (vc_unlikely(!emu_canonical(c, linear) || !emu_canonical(c, linear + size - 1)))
			emu_raise_error(c, vector, 0);
		return linear;
	}
	offset &= 0xffffffffu;
	if (vc_unlikely(s->unusable || (c->protected_mode && !allowed(s, access)) || !inside(s, offset, size)))
		emu_raise_error(c, vector, 0);
	return (uint32_t)(s->base + offset);
}

void emu_check_rip(struct emu_vcpu *c, const struct vc_segment *cs, uint64_t rip)
{
	if (emu_segment_is_64(c, cs) ? !emu_canonical(c, rip) : rip > cs->limit)
		emu_raise_error(c, VC_GP, 0);
}

/* ---- descriptor tables ---- */

bool emu_desc_find(struct emu_vcpu *c, uint16_t selector, struct emu_desc *d)
{
	uint64_t base = c->s.gdtr.base;
	uint32_t limit = c->s.gdtr.limit;
	uint32_t offset = selector & 0xfff8u;

	if (selector & 4) {
		if (c->s.ldtr.unusable)
			return false;
		base = c->s.ldtr.base;
		limit = c->s.ldtr.limit;
	}
	if (offset + 7 > limit)
		return false;
	d->linear = base + offset;
	if (!c->long_mode)
		d->linear &= 0xffffffffu;
	d->raw = emu_ld_system(c, d->linear, 8);
	return true;
}

void emu_desc_get(struct emu_vcpu *c, uint16_t selector, enum vc_vector outside, struct emu_desc *d)
{
	if (!emu_desc_find(c, selector, d))
		emu_raise_error(c, outside, emu_selector_error(selector));
}

uint64_t emu_desc_get_high(struct emu_vcpu *c, uint16_t selector, const struct emu_desc *d)
{
	uint32_t limit = selector & 4 ? c->s.ldtr.limit : c->s.gdtr.limit;
	uint64_t high;

	if ((selector & 0xfff8u) + 15u > limit)
		emu_raise_error(c, VC_GP, emu_selector_error(selector));
	high = emu_ld_system(c, d->linear + 8, 8);
	if (high >> 40 & 0x1f)
		emu_raise_error(c, VC_GP, emu_selector_error(selector));
	return high;
}

unsigned emu_desc_change_type(struct emu_vcpu *c, uint64_t linear, unsigned set, unsigned clear)
{
	struct emu_page page;
	unsigned offset;
	uint32_t error;
	uint8_t was, *p;

	linear += 5;
	if (!c->long_mode)
		linear &= 0xffffffffu;
	if (!emu_translate(c, linear, true, EMU_SUPERVISOR, &page, &error))
		emu_raise_pf(c, linear, error);
	if (!page.slot || !(page.slot->flags & VCORE_MEM_W)) {
		/* ROM or a device: as any store to it */
		was = (uint8_t)emu_ld_super(c, linear, 1);
		emu_st_super(c, linear, 1, (was | set) & ~clear);
		return was & 15;
	}
	offset = linear & (VC_PAGE_SIZE - 1);
	p = page.host + offset;
	was = __atomic_load_n(p, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(p, &was, (uint8_t)((was | set) & ~clear), true, __ATOMIC_SEQ_CST,
	                                    __ATOMIC_RELAXED))
		;
	if (page.info)
		emu_code_stored(c->bvm, page.info, page.gpa + offset, 1);
	if (atomic_load_explicit(&page.slot->dirty, memory_order_acquire))
		vc_mem_mark_dirty(page.slot, page.gpa + offset, 1);
	return was & 15;
}

void emu_desc_touch(struct emu_vcpu *c, struct emu_desc *d)
{
	if (d->raw >> 40 & EMU_TYPE_ACCESSED)
		return;
	emu_desc_change_type(c, d->linear, EMU_TYPE_ACCESSED, 0);
	d->raw |= (uint64_t)EMU_TYPE_ACCESSED << 40;
}

/* ---- segment registers ---- */

void emu_segment_fill(struct vc_segment *seg, uint16_t selector, uint64_t raw)
{
	*seg = (struct vc_segment){
	    .base = emu_desc_base(raw), .limit = emu_desc_limit(raw), .selector = selector, .attr = emu_desc_attr(raw)};
}

void emu_segment_null(struct vc_segment *seg, uint16_t selector, unsigned dpl)
{
	*seg = (struct vc_segment){.selector = selector, .attr = (uint16_t)(dpl << 5), .unusable = 1};
}

void emu_segment_real(struct vc_segment *seg, uint16_t selector)
{
	/* Limit and size stay as they are ("big real mode"). */
	seg->selector = selector;
	seg->base = (uint32_t)selector << 4;
	seg->attr = (seg->attr & (VC_SEG_DB | VC_SEG_G)) | 0x93;
	if (seg->unusable)
		seg->limit = 0xffff;
	seg->unusable = 0;
}

void emu_segment_v86(struct vc_segment *seg, uint16_t selector)
{
	*seg = (struct vc_segment){.base = (uint32_t)selector << 4, .limit = 0xffff, .selector = selector, .attr = 0xf3};
}

void emu_segment_8086(struct emu_vcpu *c, struct vc_segment *seg, uint16_t selector)
{
	if (emu_virtual_8086(c))
		emu_segment_v86(seg, selector);
	else
		emu_segment_real(seg, selector);
}

void emu_segments_demote(struct emu_vcpu *c, unsigned cpl)
{
	static const uint8_t data[] = {VC_ES, VC_DS, VC_FS, VC_GS};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(data); n++) {
		struct vc_segment *s = &c->s.seg[data[n]];
		bool conforming = (s->attr & (EMU_TYPE_CODE | EMU_TYPE_CONFORMING)) == (EMU_TYPE_CODE | EMU_TYPE_CONFORMING);
		/* Unlike a load of a null selector this leaves the base, which 64-bit code may have set apart from the
		 * selector. */
		if (s->unusable)
			s->selector = 0; /* of 1 to 3, which are null as well */
		else if (!conforming && VC_SEG_DPL(s->attr) < cpl)
			*s = (struct vc_segment){.base = s->base, .unusable = 1};
	}
}

void emu_desc_check_stack(struct emu_vcpu *c, uint16_t selector, uint64_t raw, unsigned cpl, enum vc_vector vector)
{
	if ((selector & 3) != cpl || !emu_desc_is_writable_data(raw) || emu_desc_dpl(raw) != cpl)
		emu_raise_error(c, vector, emu_selector_error(selector));
	if (!emu_desc_present(raw))
		emu_raise_error(c, VC_SSF, emu_selector_error(selector));
}

static void load_stack_segment(struct emu_vcpu *c, uint16_t selector)
{
	struct emu_desc d;

	if (emu_selector_null(selector)) {
		if (c->mode != EMU_MODE_64 || c->cpl == 3 || (selector & 3) != c->cpl)
			emu_raise_error(c, VC_GP, 0);
		emu_segment_null(&c->s.seg[VC_SS], selector, c->cpl);
		return;
	}
	emu_desc_get(c, selector, VC_GP, &d);
	emu_desc_check_stack(c, selector, d.raw, c->cpl, VC_GP);
	emu_desc_touch(c, &d);
	emu_segment_fill(&c->s.seg[VC_SS], selector, d.raw);
}

static void load_data_segment(struct emu_vcpu *c, enum vc_sreg seg, uint16_t selector)
{
	struct emu_desc d;
	unsigned rpl = selector & 3;

	if (emu_selector_null(selector)) {
		emu_segment_null(&c->s.seg[seg], selector, 0);
		return;
	}
	emu_desc_get(c, selector, VC_GP, &d);
	if (!emu_desc_s(d.raw) || (emu_desc_is_code(d.raw) && !(emu_desc_type(d.raw) & EMU_TYPE_READABLE)))
		emu_raise_error(c, VC_GP, emu_selector_error(selector));
	if (!emu_desc_is_conforming(d.raw) && (emu_desc_dpl(d.raw) < rpl || emu_desc_dpl(d.raw) < c->cpl))
		emu_raise_error(c, VC_GP, emu_selector_error(selector));
	if (!emu_desc_present(d.raw))
		emu_raise_error(c, VC_NP, emu_selector_error(selector));
	emu_desc_touch(c, &d);
	emu_segment_fill(&c->s.seg[seg], selector, d.raw);
}

void emu_load_sreg(struct emu_vcpu *c, enum vc_sreg seg, uint16_t selector)
{
	if (!c->protected_mode)
		emu_segment_8086(c, &c->s.seg[seg], selector);
	else if (seg == VC_SS)
		load_stack_segment(c, selector);
	else
		load_data_segment(c, seg, selector);
	/* In 64-bit mode neither the stack size nor the flatness of a segment comes from its descriptor. */
	if (c->mode != EMU_MODE_64)
		emu_mode_changed(c);
}

/* ---- stacks ---- */

struct emu_stack emu_stack_current(const struct emu_vcpu *c)
{
	return (struct emu_stack){
	    .ss = c->mode == EMU_MODE_64 ? NULL : &c->s.seg[VC_SS],
	    .sp = c->s.gpr[VC_RSP],
	    .mask = vc_width_mask(c->stack_size),
	};
}

struct emu_stack emu_stack_at(const struct vc_segment *ss, uint64_t sp, uint32_t error, bool inner)
{
	return (struct emu_stack){.ss = ss,
	                          .sp = sp,
	                          .mask = !ss                    ? ~0ull
	                                  : ss->attr & VC_SEG_DB ? 0xffffffffu
	                                                         : 0xffffu,
	                          .error = error,
	                          .inner = inner};
}

/* Linear address of an access to the stack; #SS when it is not allowed there. */
static uint64_t stack_linear(struct emu_vcpu *c, const struct emu_stack *st, uint64_t offset, unsigned size)
{
	offset &= st->mask;
	if (!st->ss) {
		if (vc_unlikely(!emu_canonical(c, offset) || !emu_canonical(c, offset + size - 1)))
			emu_raise_error(c, VC_SSF, st->error);
		return offset;
	}
	if (vc_unlikely(st->ss->unusable || !inside(st->ss, offset, size)))
		emu_raise_error(c, VC_SSF, st->error);
	return (uint32_t)(st->ss->base + offset);
}

void emu_stack_reserve(struct emu_vcpu *c, const struct emu_stack *st, unsigned bytes)
{
	uint64_t bottom = (st->sp - bytes) & st->mask;

	/* A frame that wraps around the end of the segment is checked value by value as it is written. */
	if (bottom <= (st->sp & st->mask))
		stack_linear(c, st, bottom, bytes);
}

void emu_stack_push(struct emu_vcpu *c, struct emu_stack *st, unsigned size, uint64_t value)
{
	uint64_t sp = st->sp - size;
	uint64_t linear = stack_linear(c, st, sp, size);

	if (st->inner)
		emu_st_super(c, linear, size, value);
	else if (size == 8)
		emu_st64(c, linear, value);
	else if (size == 4)
		emu_st32(c, linear, (uint32_t)value);
	else
		emu_st16(c, linear, (uint16_t)value);
	st->sp = (st->sp & ~st->mask) | (sp & st->mask);
}

uint64_t emu_stack_peek(struct emu_vcpu *c, const struct emu_stack *st, uint64_t offset, unsigned size)
{
	uint64_t linear = stack_linear(c, st, st->sp + offset, size);

	return size == 8 ? emu_ld64(c, linear) : size == 4 ? emu_ld32(c, linear) : emu_ld16(c, linear);
}

uint64_t emu_stack_pop(struct emu_vcpu *c, struct emu_stack *st, unsigned size)
{
	uint64_t value = emu_stack_peek(c, st, 0, size);

	st->sp = (st->sp & ~st->mask) | ((st->sp + size) & st->mask);
	return value;
}

void emu_stack_commit(struct emu_vcpu *c, const struct emu_stack *st)
{
	uint64_t *rsp = &c->s.gpr[VC_RSP];

	if (st->mask == 0xffff)
		*rsp = (*rsp & ~(uint64_t)0xffff) | (st->sp & 0xffff);
	else
		*rsp = st->sp & st->mask;
}
