/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Guest code as a block is made of it: read once, decoded, and marked as code before it is looked at again. */
#include "backend/emu/hook.h"
#include "backend/emu/jit/trans.h"

#define MAX_INSN 15u

static bool ends(const struct emu_vcpu *c, const struct emu_insn *n)
{
	return n->op != EMU_JCC && n->desc->attr & EMU_A_END && !jit_system_native(c, n);
}

/* Instructions from `code`, until a branch that ends the block. */
static void decode(struct emu_vcpu *c, struct jit_source *s, unsigned available)
{
	const struct emu_decode_mode mode = {c->mode, c->protected_mode, &c->bvcpu->cpuid.features};

	s->count = s->bytes = 0;
	while (s->count < JIT_MAX_INSNS && s->bytes < JIT_MAX_BYTES) {
		struct emu_insn *n = &s->insn[s->count];

		if (emu_decode(s->code + s->bytes, available - s->bytes, &mode, n) != EMU_DECODE_OK || n->op == EMU_INVALID)
			return;
		s->bytes += n->len;
		s->count++;
		if (ends(c, n))
			return;
	}
}

/* Hooks on code or blocks, where the block is. */
static bool are_hooks_on(const struct emu_vcpu *c, const struct jit_source *s)
{
	return emu_hooks_on(c) &&
	       (emu_hooks_block_wanted(c, s->page_offset, 1) || emu_hooks_code_wanted(c, s->page_offset, s->bytes));
}

/* Fewer instructions where hooks are, and nothing behind a branch where they are on blocks. */
static void shorten_for_hooks(const struct emu_vcpu *c, struct jit_source *s)
{
	bool blocks = c->bvm->hooks.list[VCORE_HOOK_BLOCK] != NULL;
	unsigned count = 0, bytes = 0;

	while ((s->hooked || blocks) && count < s->count) {
		bytes += s->insn[count++].len;
		if ((blocks && s->insn[count - 1].desc->attr & EMU_A_END) || count == JIT_MAX_HOOKED) {
			s->count = count;
			s->bytes = bytes;
		}
	}
}

/* One instruction that goes on in the next page. */
static bool read_crossing(struct emu_vcpu *c, struct jit_source *s, uint64_t linear, unsigned first)
{
	unsigned rest = MAX_INSN - first, available;
	const uint8_t *host;

	if (first >= MAX_INSN)
		return false;
	linear += first;
	host = emu_fetch(c, c->mode == EMU_MODE_64 ? linear : (uint32_t)linear, &available, &s->second_gpa, &s->second);
	/* put_page_check() compares 32 bits of a page's number */
	if (!s->second || s->second_gpa >> 12 >= UINT32_MAX)
		return false;
	memcpy(s->code + first, host, rest);
	decode(c, s, MAX_INSN);
	if (!s->count || s->insn[0].len <= first)
		return false;
	s->count = 1;
	s->bytes = s->insn[0].len;
	s->hooked = are_hooks_on(c, s);
	s->generation = emu_code_mark(c, s->page, s->gpa, first);
	s->second_generation = emu_code_mark(c, s->second, s->second_gpa, s->bytes - first);
	return !memcmp(s->code, s->host, first) && !memcmp(s->code + first, host, s->bytes - first);
}

bool jit_read_source(struct emu_vcpu *c, struct jit_source *s, uint64_t linear)
{
	unsigned available;

	s->host = emu_fetch(c, linear, &available, &s->gpa, &s->page);
	if (!s->page)
		return false;
	s->page_offset = linear & (VC_PAGE_SIZE - 1);
	if (available > JIT_MAX_BYTES + 15)
		available = JIT_MAX_BYTES + 15;
	memcpy(s->code, s->host, available);
	s->second = NULL;
	decode(c, s, available);
	s->hooked = s->count && are_hooks_on(c, s);
	if (emu_hooks_on(c))
		shorten_for_hooks(c, s);
	if (!s->count)
		return s->page_offset + MAX_INSN > VC_PAGE_SIZE && read_crossing(c, s, linear, available);
	s->generation = emu_code_mark(c, s->page, s->gpa, s->bytes);
	return !memcmp(s->code, s->host, s->bytes);
}
