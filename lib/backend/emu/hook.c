/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the engines and the MMU have to tell hooks. */
#include "backend/emu/hook.h"

#include "backend/emu/mmu/mmu.h"
#include "backend/emu/vcpu.h"

/* ---- code ---- */

static bool wanted(const struct emu_vcpu *c, enum vcore_hook_kind kind, unsigned page_offset, unsigned len)
{
	const struct vc_hook_list *list = c->bvm->hooks.list[kind];

	for (unsigned k = page_offset; list && k < page_offset + len && k < VC_PAGE_SIZE; k++)
		if (list->offsets[k / 64] >> k % 64 & 1)
			return true;
	return false;
}

bool emu_hooks_code_wanted(const struct emu_vcpu *c, unsigned page_offset, unsigned len)
{
	return wanted(c, VCORE_HOOK_CODE, page_offset, len);
}

bool emu_hooks_block_wanted(const struct emu_vcpu *c, unsigned page_offset, unsigned len)
{
	return wanted(c, VCORE_HOOK_BLOCK, page_offset, len);
}

/*
 * Hooks that were called for this very instruction are not called again, nor are those that they added: a callback that
 * takes its hook out and puts it back would be called for ever.
 */
static bool call(struct emu_vcpu *c, enum vcore_hook_kind kind, uint64_t rip, unsigned len, uint64_t count)
{
	uint64_t linear = c->mode == EMU_MODE_64 ? rip : (uint32_t)(c->s.seg[VC_CS].base + rip);
	struct emu_hook_told *told = &c->sys->told[kind];
	uint64_t from = told->linear == linear && told->count == count ? told->next : 0;
	struct vcore_hook_event e = {.kind = kind, .address = linear, .linear = linear, .length = len};

	if (!vc_hooks_call(c->bvcpu, &e, from))
		return false;
	emu_inside_again(c);
	*told = (struct emu_hook_told){.linear = linear, .count = count, .next = c->bvm->hooks.added + 1};
	return true;
}

bool emu_hook_code(struct emu_vcpu *c, uint64_t rip, unsigned len, uint64_t count)
{
	return call(c, VCORE_HOOK_CODE, rip, len, count);
}

bool emu_hook_block(struct emu_vcpu *c, uint64_t rip, unsigned len, uint64_t count)
{
	return call(c, VCORE_HOOK_BLOCK, rip, len, count);
}

void emu_hook_forget(struct emu_vcpu *c)
{
	memset(c->sys->told, 0, sizeof c->sys->told);
}

/* ---- memory ---- */

static uint64_t low_bytes(const void *data, unsigned len)
{
	uint64_t value = 0;

	if (len == 4)
		memcpy(&value, data, 4);
	else if (len >= 8)
		memcpy(&value, data, 8);
	else
		memcpy(&value, data, len);
	return value;
}

void emu_hook_memory(struct emu_vcpu *c, uint64_t gpa, uint64_t linear, const void *data, unsigned len, bool write)
{
	struct vcore_hook_event e = {.kind = VCORE_HOOK_MEMORY,
	                             .address = gpa,
	                             .linear = linear,
	                             .length = len,
	                             .is_write = write,
	                             .value = low_bytes(data, len),
	                             .data = data};
	struct emu_mmu *m = c->mmu;

	if (!vc_hooks_touch(c->bvm->hooks.list[VCORE_HOOK_MEMORY], gpa, gpa + len - 1))
		return;
	if (m->exclusive) {
		if (m->untold_count < EMU_HOOK_LATER)
			m->untold[m->untold_count++] = e;
	} else if (vc_hooks_call(c->bvcpu, &e, 0)) {
		emu_inside_again(c);
	}
}

void emu_hook_memory_later(struct emu_vcpu *c)
{
	struct emu_mmu *m = c->mmu;
	unsigned count = m->untold_count;

	m->untold_count = 0;
	for (unsigned i = 0; i < count; i++) {
		m->untold[i].data = &m->untold[i].value;
		vc_hooks_call(c->bvcpu, &m->untold[i], 0);
		emu_inside_again(c);
	}
}
