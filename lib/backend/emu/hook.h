/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hooks (backend/hook.h) in backend emu, for the engines and the MMU.
 *
 * Code and blocks: where such hooks are, the interpreter puts calls into the blocks that it decodes, and the translator
 * leaves the code to the interpreter. They do so for every instruction whose offset in its page is one that a hook's
 * range has, because code is cached by its physical address and hooks are on linear ones; emu_hook_code() and
 * emu_hook_block() look at that. When hooks change, every vcpu is outside the gate: translated blocks are dropped, and
 * VC_REQ_TLB has each vcpu drop its decoded ones. Engines need not look at hooks elsewhere.
 *
 * Memory: a page that a hook's range touches gets no tag in the TLB, so every access comes to the slow paths of
 * mmu/access.c, which report it.
 */
#ifndef VC_EMU_HOOK_H
#define VC_EMU_HOOK_H

#include "backend/emu/emu.h"

/* ---- for engines: when code is decoded ---- */

/* Any hook on code or blocks: if not, nothing is inserted. What lockstep's second vcpu does is told by the first. */
static inline bool emu_hooks_on(const struct emu_vcpu *c)
{
	const struct vc_hooks *h = &c->bvm->hooks;

	return vc_unlikely(h->list[VCORE_HOOK_CODE] || h->list[VCORE_HOOK_BLOCK]) && !c->shadow;
}
/* Whether an instruction (a block) may have to be told that begins in [page_offset, page_offset + len) of a page. */
bool emu_hooks_code_wanted(const struct emu_vcpu *c, unsigned page_offset, unsigned len);
bool emu_hooks_block_wanted(const struct emu_vcpu *c, unsigned page_offset, unsigned len);

/* ---- for engines: when it is executed ---- */

/*
 * Before the instruction (the block) at rip, with a precise state as for a fault there; len: its bytes. True: callbacks
 * were called, outside the gate. Then, before anything that was kept is used, the engine looks at requests and
 * attention, and whether its code is still current; if not it leaves before the instruction, which is not told again
 * when it is come to next. That is known by `count`: the number of instructions executed before, or any number that is
 * the same only as long as the instruction has not been executed.
 */
bool emu_hook_code(struct emu_vcpu *c, uint64_t rip, unsigned len, uint64_t count);
bool emu_hook_block(struct emu_vcpu *c, uint64_t rip, unsigned len, uint64_t count);

/* The vcpu was sent elsewhere, by an event or by the program: the next instruction is told, whichever it is. */
void emu_hook_forget(struct emu_vcpu *c);

/* ---- for mmu/ ---- */

/* Hooks want to see accesses to the page at gpa. */
static inline bool emu_hooks_page(const struct emu_vcpu *c, uint64_t gpa)
{
	const struct vc_hook_list *list = c->bvm->hooks.list[VCORE_HOOK_MEMORY];

	return vc_unlikely(list != NULL) && vc_hooks_touch(list, gpa, gpa + VC_PAGE_SIZE - 1);
}
/*
 * An access inside one page has happened. Steps out of the gate for callbacks; while this vcpu holds the gate for a
 * locked access (emu_mmu.exclusive), up to EMU_HOOK_LATER accesses of at most 8 bytes wait for emu_hook_memory_later().
 */
void emu_hook_memory(struct emu_vcpu *c, uint64_t gpa, uint64_t linear, const void *data, unsigned len, bool write);
void emu_hook_memory_later(struct emu_vcpu *c);

#endif
