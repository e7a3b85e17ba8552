/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Segment descriptors, far pointers and stacks, as the parts share them that load segments: segment.c, far.c, iret.c,
 * delivery.c, task.c and the system instructions.
 */
#ifndef VC_EMU_SEGMENT_H
#define VC_EMU_SEGMENT_H

#include "backend/emu/emu.h"
#include "backend/emu/mmu/access.h"

/* ---- descriptors (SDM vol. 3, 3.4.5) ---- */

struct emu_desc {
	uint64_t raw;
	uint64_t linear; /* where it was read */
};

/* System descriptor types. */
enum {
	EMU_TSS16 = 1,
	EMU_LDT = 2,
	EMU_CALL16 = 4,
	EMU_TASK_GATE = 5,
	EMU_INT16 = 6,
	EMU_TRAP16 = 7,
	EMU_TSS32 = 9,
	EMU_CALL32 = 12,
	EMU_INT32 = 14,
	EMU_TRAP32 = 15,
};
#define EMU_TYPE_BUSY       2u /* of a TSS */
#define EMU_TYPE_ACCESSED   1u /* of code and data */
#define EMU_TYPE_WRITABLE   2u /* of data */
#define EMU_TYPE_READABLE   2u /* of code */
#define EMU_TYPE_CONFORMING 4u /* of code */
#define EMU_TYPE_DOWN       4u /* of data: expand-down */
#define EMU_TYPE_CODE       8u

static inline unsigned emu_desc_type(uint64_t raw)
{
	return raw >> 40 & 15;
}
static inline bool emu_desc_s(uint64_t raw)
{
	return raw >> 44 & 1;
}
static inline unsigned emu_desc_dpl(uint64_t raw)
{
	return raw >> 45 & 3;
}
static inline bool emu_desc_present(uint64_t raw)
{
	return raw >> 47 & 1;
}
static inline bool emu_desc_l(uint64_t raw)
{
	return raw >> 53 & 1;
}
static inline bool emu_desc_db(uint64_t raw)
{
	return raw >> 54 & 1;
}
static inline uint32_t emu_desc_base(uint64_t raw)
{
	return (uint32_t)(raw >> 16 & 0xffffff) | (uint32_t)(raw >> 32 & 0xff000000u);
}
static inline uint16_t emu_desc_attr(uint64_t raw)
{
	return raw >> 40 & 0xf0ff;
}
static inline uint32_t emu_desc_limit(uint64_t raw)
{
	uint32_t limit = (uint32_t)(raw & 0xffff) | (uint32_t)(raw >> 32 & 0xf0000);
	return raw >> 55 & 1 ? limit << 12 | 0xfff : limit;
}
static inline bool emu_desc_is_code(uint64_t raw)
{
	return emu_desc_s(raw) && emu_desc_type(raw) & EMU_TYPE_CODE;
}
static inline bool emu_desc_is_data(uint64_t raw)
{
	return emu_desc_s(raw) && !(emu_desc_type(raw) & EMU_TYPE_CODE);
}
static inline bool emu_desc_is_writable_data(uint64_t raw)
{
	return emu_desc_is_data(raw) && emu_desc_type(raw) & EMU_TYPE_WRITABLE;
}
static inline bool emu_desc_is_conforming(uint64_t raw)
{
	return emu_desc_is_code(raw) && emu_desc_type(raw) & EMU_TYPE_CONFORMING;
}
/* Of a 64-bit gate or system descriptor: whole base. high: its second 8 bytes. */
static inline uint64_t emu_desc_base64(uint64_t raw, uint64_t high)
{
	return emu_desc_base(raw) | high << 32;
}

static inline bool emu_selector_null(uint16_t selector)
{
	return !(selector & ~3);
}
/* A selector as an error code. */
static inline uint32_t emu_selector_error(uint16_t selector)
{
	return selector & 0xfffcu;
}

/* Read the descriptor of a selector; false when it lies outside its table. */
bool emu_desc_find(struct emu_vcpu *c, uint16_t selector, struct emu_desc *d);
/* The same; outside its table raises vector(selector). */
void emu_desc_get(struct emu_vcpu *c, uint16_t selector, enum vc_vector outside, struct emu_desc *d);
/* Second half of a 16-byte descriptor; #GP(selector) outside the table or when its type field is not zero. */
uint64_t emu_desc_get_high(struct emu_vcpu *c, uint16_t selector, const struct emu_desc *d);
/* Set the accessed bit in memory and in d. */
void emu_desc_touch(struct emu_vcpu *c, struct emu_desc *d);
/* Change bits of a descriptor's type field in memory with a locked access, whatever the CPL; returns what the field
 * was. */
unsigned emu_desc_change_type(struct emu_vcpu *c, uint64_t linear, unsigned set, unsigned clear);

/* ---- segment registers ---- */

void emu_segment_fill(struct vc_segment *seg, uint16_t selector, uint64_t raw);
/* Null selector: unusable; dpl is kept because SS.DPL is the CPL. */
void emu_segment_null(struct vc_segment *seg, uint16_t selector, unsigned dpl);
/* As real mode loads a register: only the base changes. */
void emu_segment_real(struct vc_segment *seg, uint16_t selector);
/* As virtual-8086 mode does. */
void emu_segment_v86(struct vc_segment *seg, uint16_t selector);
/* Real or virtual-8086, as the current mode is. */
void emu_segment_8086(struct emu_vcpu *c, struct vc_segment *seg, uint16_t selector);
/* On return to outer privilege: ES, DS, FS, GS that the new CPL must not use become null. */
void emu_segments_demote(struct emu_vcpu *c, unsigned cpl);

/* Checks of a new stack segment for privilege level `cpl`; raises `vector`(selector), or #SS(selector) when not
 * present. */
void emu_desc_check_stack(struct emu_vcpu *c, uint16_t selector, uint64_t raw, unsigned cpl, enum vc_vector vector);
/* #GP(0) unless rip is inside the code segment (64-bit: canonical). */
void emu_check_rip(struct emu_vcpu *c, const struct vc_segment *cs, uint64_t rip);

static inline bool emu_sign_extends(uint64_t linear, unsigned width)
{
	return (uint64_t)((int64_t)(linear << (64 - width)) >> (64 - width)) == linear;
}
/* For an access in the current paging mode. */
static inline bool emu_canonical(const struct emu_vcpu *c, uint64_t linear)
{
	return emu_sign_extends(linear, c->s.cr4 & VC_CR4_LA57 ? 57 : 48);
}
/* For what registers hold: bases of tables and segments, MSRs, INVPCID. By what the CPU can do, whatever the paging
 * mode. */
static inline bool emu_canonical_register(const struct emu_vcpu *c, uint64_t linear)
{
	return emu_sign_extends(linear, vc_feature_has(&c->bvcpu->cpuid.features, VC_F_LA57) ? 57 : 48);
}
static inline bool emu_virtual_8086(const struct emu_vcpu *c)
{
	return c->s.rflags & VC_FLAG_VM;
}
static inline unsigned emu_iopl(const struct emu_vcpu *c)
{
	return c->s.rflags >> 12 & 3;
}
static inline bool emu_segment_is_64(const struct emu_vcpu *c, const struct vc_segment *cs)
{
	return c->long_mode && cs->attr & VC_SEG_L;
}
/* Address behind the instruction. */
static inline uint64_t emu_next_rip(const struct emu_vcpu *c, const struct emu_insn *i)
{
	return (c->s.rip + i->len) & emu_ip_mask(c);
}

/* ---- implicit supervisor accesses with the fast path of mmu/access.h ---- */

static inline uint64_t emu_ld_system(struct emu_vcpu *c, uint64_t linear, unsigned size)
{
	const struct emu_tlb_entry *e = emu_tlb_at(c, linear);
	uint64_t last = linear + size - 1;
	if (vc_unlikely(e->read != ((last & VC_PAGE_MASK) | c->ctx_super[last >> 63])))
		return emu_ld_super(c, linear, size);
	const volatile void *p = (const volatile void *)(linear + e->addend);
	switch (size) {
	case 1:
		return *(const volatile emu_mem8 *)p;
	case 2:
		return *(const volatile emu_mem16 *)p;
	case 4:
		return *(const volatile emu_mem32 *)p;
	default:
		return *(const volatile emu_mem64 *)p;
	}
}

/* ---- stacks ---- */

/* A stack that values are pushed on or popped from before anything is committed. */
struct emu_stack {
	const struct vc_segment *ss; /* NULL: flat, 64-bit */
	uint64_t sp;
	uint64_t mask;  /* of the stack pointer */
	uint32_t error; /* code of #SS when outside the segment */
	bool inner;     /* of a more privileged level than the current one */
};
/* The current stack. */
struct emu_stack emu_stack_current(const struct emu_vcpu *c);
/* A stack in a segment not loaded yet; the low 16 or 32 bits of sp count. */
struct emu_stack emu_stack_at(const struct vc_segment *ss, uint64_t sp, uint32_t error, bool inner);
/* #SS unless `bytes` more can be pushed. */
void emu_stack_reserve(struct emu_vcpu *c, const struct emu_stack *st, unsigned bytes);
void emu_stack_push(struct emu_vcpu *c, struct emu_stack *st, unsigned size, uint64_t value);
uint64_t emu_stack_pop(struct emu_vcpu *c, struct emu_stack *st, unsigned size);
/* The value `offset` bytes above the stack pointer, which stays. */
uint64_t emu_stack_peek(struct emu_vcpu *c, const struct emu_stack *st, uint64_t offset, unsigned size);
/* Write the pointer of st to RSP: as many bits as its segment has. */
void emu_stack_commit(struct emu_vcpu *c, const struct emu_stack *st);

/* ---- task.c ---- */

/* Stack of privilege level `cpl` in the current TSS, 16- or 32-bit; #TS(TR) when outside its limit. */
void emu_tss_stack(struct emu_vcpu *c, unsigned cpl, uint16_t *ss, uint32_t *sp);
/* Long mode: entry 0-2 is RSPn, 3 + n is ISTn; #TS(TR) outside the limit, #SS(0) when not canonical. */
uint64_t emu_tss_stack64(struct emu_vcpu *c, unsigned entry);

enum emu_task_reason { EMU_TASK_JMP, EMU_TASK_CALL, EMU_TASK_IRET, EMU_TASK_EVENT };
/*
 * Switch to the task of an available (IRET: busy) TSS: descriptor d at `selector`, privileges checked. next_rip is
 * saved in the old task; for an event with an error code that is pushed on the new stack.
 */
struct emu_event;
void emu_task_switch(struct emu_vcpu *c, uint16_t selector, const struct emu_desc *d, enum emu_task_reason reason,
                     uint64_t next_rip, const struct emu_event *event);
/* The TSS that a task gate names, checked as far as JMP, CALL and events do alike: `vector`(selector). */
void emu_task_gate(struct emu_vcpu *c, uint64_t gate, uint16_t *selector, struct emu_desc *d);

#endif
