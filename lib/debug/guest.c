/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* State and memory of the vcpu that gdb looks at. */
#include "debug/debug.h"

int vc_gdb_load(struct vc_gdb *g, uint32_t vcpu)
{
	int r;

	if (g->state_loaded && g->state_of == vcpu)
		return 0;
	r = vc_vcpu_load(&g->vm->vcpus[vcpu], g->state);
	g->state_loaded = r >= 0;
	g->state_of = vcpu;
	return r;
}

int vc_gdb_store(struct vc_gdb *g, bool general)
{
	struct vcore_vcpu *v = &g->vm->vcpus[g->state_of];
	struct vcore_regs regs = {.size = sizeof regs, .rip = g->state->rip, .rflags = g->state->rflags};
	int r;

	memcpy(&regs.rax, g->state->gpr, sizeof g->state->gpr);
	r = general ? vcore_vcpu_set_regs(v, &regs) : vc_vcpu_store(v, g->state);
	g->state_loaded = false;
	return r;
}

void vc_gdb_forget(struct vc_gdb *g)
{
	g->state_loaded = false;
}

uint64_t vc_gdb_linear_rip(const struct vc_gdb *g)
{
	const struct vc_cpu_state *s = g->state;
	bool in_64bit = (s->efer & VC_EFER_LMA) && (s->seg[VC_CS].attr & VC_SEG_L);

	return in_64bit ? s->rip : (uint32_t)(s->seg[VC_CS].base + s->rip);
}

/* The part of a range that lies in its first page. */
static size_t in_page(uint64_t address, size_t length)
{
	size_t room = VC_PAGE_SIZE - (address & ~VC_PAGE_MASK);

	return length < room ? length : room;
}

size_t vc_gdb_read(struct vc_gdb *g, uint64_t gva, uint8_t *buffer, size_t length)
{
	size_t done = 0;

	if (vc_gdb_load(g, g->current) < 0)
		return 0;
	while (done < length) {
		size_t n = in_page(gva + done, length - done);
		uint64_t gpa;

		if (vc_vcpu_walk(&g->vm->vcpus[g->current], g->state, gva + done, &gpa) < 0 ||
		    vcore_memory_read(g->vm, gpa, buffer + done, n) < 0)
			break;
		vc_gdb_hide(g, gpa, buffer + done, n);
		done += n;
	}
	return done;
}

int vc_gdb_write(struct vc_gdb *g, uint64_t gva, const uint8_t *buffer, size_t length)
{
	int r = vc_gdb_load(g, g->current);

	while (r >= 0 && length > 0) {
		size_t n = in_page(gva, length);
		uint8_t bytes[VC_PAGE_SIZE];
		uint64_t gpa;

		r = vc_vcpu_walk(&g->vm->vcpus[g->current], g->state, gva, &gpa);
		if (r >= 0) {
			memcpy(bytes, buffer, n);
			vc_gdb_put(g, gpa, bytes, n);
			r = vcore_memory_write(g->vm, gpa, bytes, n);
		}
		gva += n;
		buffer += n;
		length -= n;
	}
	return r;
}
