/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Guest memory by linear address: the inline TLB check, and the slow paths behind it.
 *
 * All may raise (not return) #PF, #AC, #GP for an address that is not canonical (accesses by SS are checked before,
 * with their segment), or leave for the program on an access nobody answers. No host pointer from here may be kept
 * across another access.
 */
#ifndef VC_EMU_ACCESS_H
#define VC_EMU_ACCESS_H

#include "backend/emu/emu.h"

/* size 1-8; any alignment; pages may be crossed; MMIO, code pages, watchpoints: all handled. */
uint64_t emu_load_slow(struct emu_vcpu *c, uint64_t linear, unsigned size);
void emu_store_slow(struct emu_vcpu *c, uint64_t linear, unsigned size, uint64_t value);
/* The same where it is all that the instruction does with memory or devices; size 1, 2, 4 or 8. sole.c */
uint64_t emu_load_sole(struct emu_vcpu *c, uint64_t linear, unsigned size);
void emu_store_sole(struct emu_vcpu *c, uint64_t linear, unsigned size, uint64_t value);

static inline struct emu_tlb_entry *emu_tlb_at(struct emu_vcpu *c, uint64_t linear)
{
	return &c->tlb[(linear >> 12) & (EMU_TLB_SIZE - 1)];
}
static inline uint64_t emu_tag(const struct emu_vcpu *c, uint64_t linear)
{
	return (linear & VC_PAGE_MASK) | c->ctx;
}

/* One machine access whatever the alignment, of memory whose type only the guest knows. */
typedef uint8_t emu_mem8 __attribute__((may_alias, aligned(1)));
typedef uint16_t emu_mem16 __attribute__((may_alias, aligned(1)));
typedef uint32_t emu_mem32 __attribute__((may_alias, aligned(1)));
typedef uint64_t emu_mem64 __attribute__((may_alias, aligned(1)));

/* The tag of the access's last byte is compared with the entry of its first: a page crossing never matches. */
#define EMU_ACCESS(bits)                                                                       \
	static inline uint##bits##_t emu_ld##bits(struct emu_vcpu *c, uint64_t linear)             \
	{                                                                                          \
		const struct emu_tlb_entry *e = emu_tlb_at(c, linear);                                 \
		if (vc_likely(e->read == emu_tag(c, linear + bits / 8 - 1)))                           \
			return *(const volatile emu_mem##bits *)(linear + e->addend);                      \
		return (uint##bits##_t)emu_load_slow(c, linear, bits / 8);                             \
	}                                                                                          \
	static inline void emu_st##bits(struct emu_vcpu *c, uint64_t linear, uint##bits##_t value) \
	{                                                                                          \
		const struct emu_tlb_entry *e = emu_tlb_at(c, linear);                                 \
		if (vc_likely(e->write == emu_tag(c, linear + bits / 8 - 1)))                          \
			*(volatile emu_mem##bits *)(linear + e->addend) = value;                           \
		else                                                                                   \
			emu_store_slow(c, linear, bits / 8, value);                                        \
	}
EMU_ACCESS(8)
EMU_ACCESS(16)
EMU_ACCESS(32)
EMU_ACCESS(64)
#undef EMU_ACCESS

/*
 * For read-modify-write: a host pointer at which `size` bytes may be read and written, atomically with LOCK; NULL when
 * it crosses a page, is MMIO, a code page or watched: then use emu_rmw_slow_begin/end. Raises the faults of a write.
 */
void *emu_rmw_ptr_slow(struct emu_vcpu *c, uint64_t linear, unsigned size);
static inline void *emu_rmw_ptr(struct emu_vcpu *c, uint64_t linear, unsigned size)
{
	const struct emu_tlb_entry *e = emu_tlb_at(c, linear);
	if (vc_likely(e->write == emu_tag(c, linear + size - 1)))
		return (void *)(linear + e->addend);
	return emu_rmw_ptr_slow(c, linear, size);
}
/*
 * The slow way: begin checks write rights of every byte, stops the other vcpus when `locked`, and returns the old
 * value; end stores and lets them go on. Nothing that can fault may stand between them. A begin may leave for the
 * program (MMIO).
 */
uint64_t emu_rmw_slow_begin(struct emu_vcpu *c, uint64_t linear, unsigned size, bool locked);
void emu_rmw_slow_end(struct emu_vcpu *c, uint64_t linear, unsigned size, uint64_t value, bool locked);

/* #AC unless linear is a multiple of alignment, where alignment is checked at all: CPL 3, CR0.AM, RFLAGS.AC (SDM vol.
 * 3, 6.15). */
void emu_check_alignment(struct emu_vcpu *c, uint64_t linear, unsigned alignment);

/* Blocks of bytes (vectors, XSAVE, descriptor frames): all pages are checked before the first byte moves; alignment is
 * not. */
void emu_ld_bytes(struct emu_vcpu *c, uint64_t linear, void *buffer, unsigned size);
void emu_st_bytes(struct emu_vcpu *c, uint64_t linear, const void *buffer, unsigned size);
/* Raise what a write (or read) of [linear, linear+size) would raise, without effect. */
void emu_probe(struct emu_vcpu *c, uint64_t linear, unsigned size, bool write);

/* For REP string operations: host pointer to RAM at linear and how many bytes from there to the end of the page, for
 * reading or writing (write: not a code page; marks dirty); NULL when it is not plain RAM. Raises faults. */
void *emu_span(struct emu_vcpu *c, uint64_t linear, bool write, unsigned *bytes);

/* Implicit supervisor accesses: GDT, LDT, IDT, TSS, whatever the CPL. */
uint64_t emu_ld_super(struct emu_vcpu *c, uint64_t linear, unsigned size);
void emu_st_super(struct emu_vcpu *c, uint64_t linear, unsigned size, uint64_t value);

#endif
