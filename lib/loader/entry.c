/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The states in which kernels are entered, and the GDT that matches them. */
#include "core/error.h"
#include "core/util.h"
#include "loader/internal.h"

enum { GDT_CODE = 2, GDT_DATA = 3, GDT_TSS = 4, GDT_ENTRIES = 6 }; /* a TSS takes two entries in long mode */

/* Descriptor of a segment register's contents, SDM vol. 3, 3.4.5. */
static uint64_t descriptor(const struct vc_segment *segment)
{
	uint64_t limit = segment->attr & VC_SEG_G ? segment->limit >> 12 : segment->limit;
	uint64_t access = segment->attr & 0xff, flags = segment->attr >> 12 & 0xf;

	return (limit & 0xffff) | (segment->base & 0xffffff) << 16 | access << 40 | (limit >> 16 & 0xf) << 48 |
	       flags << 52 | (segment->base >> 24 & 0xff) << 56;
}

static int enter(struct vc_mem *mem, struct vc_cpu_state *state, uint64_t entry, uint16_t code_mode)
{
	const struct vc_segment code = {
	    .limit = UINT32_MAX, .selector = GDT_CODE * 8, .attr = 0xb | VC_SEG_S | VC_SEG_P | VC_SEG_G | code_mode};
	const struct vc_segment data = {
	    .limit = UINT32_MAX, .selector = GDT_DATA * 8, .attr = 0x3 | VC_SEG_S | VC_SEG_P | VC_SEG_G | VC_SEG_DB};
	const struct vc_segment tss = {.limit = 0x67, .selector = GDT_TSS * 8, .attr = 0xb | VC_SEG_P};
	uint64_t gdt[GDT_ENTRIES] = {0};

	for (unsigned i = 0; i < VC_SEG_COUNT; i++)
		state->seg[i] = i == VC_CS ? code : data;
	state->tr = tss;
	state->gdtr = (struct vc_table){.base = VC_BOOT_GDT, .limit = sizeof gdt - 1};
	state->idtr = (struct vc_table){0};
	memset(state->gpr, 0, sizeof state->gpr);
	state->rip = entry;
	state->rflags = 0x2;
	/* Nobody asks for a stack, but pushing onto one should hit RAM that nothing else uses. */
	state->gpr[VC_RSP] = VC_BOOT_INFO;

	gdt[GDT_CODE] = descriptor(&code);
	gdt[GDT_DATA] = descriptor(&data);
	gdt[GDT_TSS] = descriptor(&tss);
	return vc_mem_write(mem, VC_BOOT_GDT, gdt, sizeof gdt);
}

int vc_boot_enter32(struct vc_mem *mem, struct vc_cpu_state *state, uint64_t entry)
{
	vc_cpu_state_flat32(state);
	/* the PVH ABI wants every other bit cleared, and nobody wants more */
	state->cr0 = VC_CR0_PE | VC_CR0_ET;
	state->cr4 = 0;
	return enter(mem, state, entry, VC_SEG_DB);
}

int vc_boot_enter64(struct vc_mem *mem, struct vc_cpu_state *state, uint64_t entry)
{
	int r = vc_write_identity_tables(mem, VC_BOOT_PAGE_TABLES);

	if (r)
		return r;
	vc_cpu_state_long64(state, VC_BOOT_PAGE_TABLES);
	return enter(mem, state, entry, VC_SEG_L);
}
