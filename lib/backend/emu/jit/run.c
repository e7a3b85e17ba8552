/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine: finding blocks and serving what translated code leaves for. */
#include <stdlib.h>

#include "backend/emu/hook.h"
#include "backend/emu/jit/jit.h"
#include "backend/emu/mmu/mmu.h"
#include "backend/emu/promote/promote.h"
#include "backend/emu/vcpu.h"

/* A block whose groups of accesses cross pages so often is translated again without groups. */
#define MAX_BAILS 16u
/* Keys are told apart by four bits of a tag. */
#define NO_KEY 15u

int jit_vm_new(struct vc_bvm *vm, struct jit_vm **jit)
{
	struct jit_vm *j = vc_pages_new(sizeof *j);
	int r;

	if (!j)
		return vc_fail(ENOMEM, "no memory for the translator");
	j->vm = vm;
	pthread_mutex_init(&j->lock, NULL);
	r = jit_cache_new(j);
	if (r < 0) {
		jit_vm_free(j);
		return r;
	}
	*jit = j;
	return 0;
}

void jit_vm_free(struct jit_vm *j)
{
	if (!j)
		return;
	jit_cache_free(j);
	pthread_mutex_destroy(&j->lock);
	vc_pages_free(j, sizeof *j);
}

/* ---- the mode ---- */

/* A small number for what translation depends on; NO_KEY when there are too many. */
static unsigned key_number(struct jit_vm *j, uint32_t key)
{
	unsigned count = atomic_load_explicit(&j->key_count, memory_order_acquire), k;

	for (k = 0; k < count; k++)
		if (j->keys[k] == key)
			return k;
	pthread_mutex_lock(&j->lock);
	for (k = 0; k < atomic_load(&j->key_count); k++)
		if (j->keys[k] == key)
			break;
	if (k == atomic_load(&j->key_count) && k < JIT_MAX_KEYS) {
		j->keys[k] = key;
		atomic_store_explicit(&j->key_count, k + 1, memory_order_release);
	}
	pthread_mutex_unlock(&j->lock);
	return k < JIT_MAX_KEYS ? k : NO_KEY;
}

void jit_mode_changed(struct emu_vcpu *c)
{
	const struct vc_segment *cs = &c->s.seg[VC_CS];
	bool can = c->mode == EMU_MODE_64 ||
	           (c->mode == EMU_MODE_32 && c->protected_mode && cs->base == 0 && cs->limit == UINT32_MAX);

	if (!can) {
		c->jit_can = false;
		return;
	}
	if (c->mode_key != c->jit_mode_key || c->jit_key == NO_KEY) {
		c->jit_key = (uint8_t)key_number(c->jit, c->mode_key);
		c->jit_mode_key = c->mode_key;
	}
	/* the interpreter, if it runs, gives over at the next block */
	if (!c->jit_can && c->jit_key != NO_KEY)
		c->attention = true;
	c->jit_can = c->jit_key != NO_KEY;
}

void jit_forget_paths(struct emu_vcpu *c)
{
	/* no tag is 0, see choose_context(); a vcpu that never ran has touched none of that memory */
	if (!c->jit_paths)
		return;
	c->jit_paths = false;
	memset(c->jit_jumps, 0, sizeof c->jit_jumps);
	memset(c->jit_returns, 0, sizeof c->jit_returns);
	memset(c->jit_pages, 0, sizeof c->jit_pages);
}

/*
 * Which context tags are of, for code at rip. Neither half of addresses XORed with it is 0 above bit 47: numbers are
 * not 0, and keys not 15.
 */
static void choose_context(struct emu_vcpu *c, uint64_t rip)
{
	c->jit_ctx = c->mmu->jit_number[rip >> 63] << 48 | (uint64_t)c->jit_key << 60;
}

/* ---- slow ways of translated code ---- */

uint32_t jit_fill_slow(struct emu_vcpu *c, uint64_t linear, uint32_t how)
{
	const struct emu_tlb_entry *e = emu_tlb_at(c, linear);
	bool write = how & JIT_HOW_WRITE;
	struct emu_page page;
	uint32_t error;

	if (c->mmu->paging.mode >= VC_PAGING_4 && !vc_paging_canonical(&c->mmu->paging, linear))
		return JIT_FILL_NO;
	if (!emu_translate(c, linear, write, EMU_BY_CPL, &page, &error))
		return JIT_FILL_NO;
	return (write ? e->write : e->read) == emu_tag(c, linear) ? JIT_FILL_DONE : JIT_FILL_NO;
}

emu_system_fn jit_called(struct emu_vcpu *c, struct emu_insn *n)
{
	emu_system_fn fn = interp_called(c, n);

	n->stub = 0; /* stubs belong to a vcpu, blocks do not: it is looked up each time */
	return fn;
}

/* ---- finding and making blocks ---- */

static bool wanted(const struct emu_vcpu *c)
{
	return atomic_load_explicit(c->requests, memory_order_relaxed) || c->attention;
}

static void evict(struct emu_vcpu *c)
{
	struct jit_vm *j = c->jit;

	vc_gate_begin(c->bvm->gate, &c->bvcpu->pass);
	emu_inside_again(c);
	pthread_mutex_lock(&j->lock);
	if (!jit_room(j))
		jit_evict(j);
	pthread_mutex_unlock(&j->lock);
	vc_gate_end(c->bvm->gate, &c->bvcpu->pass);
	emu_inside_again(c);
}

/* The block's page was stored to: good again if its own bytes are what they were. */
static bool revalidate(struct emu_vcpu *c, struct jit_block *b, const uint8_t *host, struct vc_page_info *page)
{
	struct jit_vm *j = c->jit;
	uint32_t generation;
	bool good;

	if (b->page != page || b->second)
		return false;
	generation = emu_code_mark(c, page, b->gpa, b->bytes);
	good = !memcmp(b->code, host, b->bytes) && b->bails < MAX_BAILS;
	pthread_mutex_lock(&j->lock);
	good = good && atomic_load(&page->generation) == generation;
	if (good && atomic_load(&b->stale)) {
		b->generation = generation;
		jit_make_good(j, b);
	}
	pthread_mutex_unlock(&j->lock);
	return good;
}

/* What is to be translated. False: nothing there can be, or hooks are on what the interpreter must execute. */
static bool read_source(struct emu_vcpu *c, struct jit_source *s, uint64_t linear)
{
	return jit_read_source(c, s, linear) && !(s->hooked && (s->second || c->jit->lockstep));
}

static struct jit_block *make(struct emu_vcpu *c, uint64_t linear, bool no_groups)
{
	struct jit_vm *j = c->jit;
	struct jit_source s;
	struct jit_block *b;

	if (!read_source(c, &s, linear))
		return NULL;
	for (;;) {
		pthread_mutex_lock(&j->lock);
		b = jit_look_up(j, s.gpa, c->mode_key);
		if (b && atomic_load(&b->stale)) {
			jit_remove(j, b);
			b = NULL;
		}
		if (!b && (atomic_load(&s.page->generation) != s.generation ||
		           (s.second && atomic_load(&s.second->generation) != s.second_generation))) {
			pthread_mutex_unlock(&j->lock);
			return NULL;
		}
		if (!b) {
			b = jit_translate(c, &s, no_groups);
			if (b)
				atomic_fetch_add_explicit(&c->bvcpu->blocks, 1, memory_order_relaxed);
		}
		pthread_mutex_unlock(&j->lock);
		if (b)
			return b;
		evict(c);
		/* outside the gate the memory map may have changed */
		if (!read_source(c, &s, linear))
			return NULL;
	}
}

static uint64_t linear_of(const struct emu_vcpu *c, uint64_t rip)
{
	return c->mode == EMU_MODE_64 ? rip : (uint32_t)rip;
}

/* The block at s.rip; NULL: the interpreter must go on there. May raise. */
static struct jit_block *find(struct emu_vcpu *c)
{
	struct jit_vm *j = c->jit;
	uint64_t linear = linear_of(c, c->s.rip), gpa;
	struct vc_page_info *page;
	struct jit_block *b;
	const uint8_t *host;
	unsigned available;
	bool no_groups = false;

	host = emu_fetch(c, linear, &available, &gpa, &page);
	if (!page)
		return NULL;
	b = jit_look_up(j, gpa, c->mode_key);
	if (b && !atomic_load(&b->stale))
		return b;
	if (b) {
		no_groups = b->bails >= MAX_BAILS;
		if (revalidate(c, b, host, page))
			return b;
	}
	return make(c, linear, no_groups);
}

static struct emu_jit_jump *jump_at(struct emu_vcpu *c, uint64_t rip)
{
	return &c->jit_jumps[(rip ^ rip >> 12) & (EMU_JIT_JUMPS - 1)];
}

/* Remember the way to the block: jump cache and page. */
static void remember(struct emu_vcpu *c, const struct jit_block *b)
{
	uint64_t rip = linear_of(c, c->s.rip), page = rip & VC_PAGE_MASK;
	struct emu_jit_jump *jump = jump_at(c, rip);
	struct emu_jit_page *p = &c->jit_pages[(rip >> 12) & (EMU_JIT_PAGES - 1)];

	jump->tag = rip ^ c->jit_ctx;
	jump->code = b->entry;
	p->tag = page ^ c->jit_ctx;
	p->id = b->gpa >> 12 < UINT32_MAX ? (uint32_t)(b->gpa >> 12) : UINT32_MAX;
	c->jit_page = page;
}

/* The way to s.rip that is remembered; NULL: none. */
static const uint8_t *quick(struct emu_vcpu *c)
{
	uint64_t rip = linear_of(c, c->s.rip);
	const struct emu_jit_jump *jump = jump_at(c, rip);

	if (jump->tag != (rip ^ c->jit_ctx))
		return NULL;
	c->jit_page = rip & VC_PAGE_MASK;
	return jump->code;
}

/* The way to s.rip leads to a block that is not good any more. */
static void forget(struct emu_vcpu *c)
{
	jump_at(c, linear_of(c, c->s.rip))->tag = EMU_NO_TAG;
}

/* ---- serving ---- */

static uint64_t rip_at(const struct emu_vcpu *c, uint64_t page_offset)
{
	return linear_of(c, c->jit_page + page_offset);
}

/* Where another page comes next, jit_page is that already. */
static uint64_t link_target(const struct emu_vcpu *c, const struct jit_link *l)
{
	return rip_at(c, l->page_id ? l->offset & (VC_PAGE_SIZE - 1) : l->offset);
}

static void count_call(struct emu_vcpu *c, unsigned op)
{
	uint64_t n = atomic_load_explicit(&c->jit_calls[op], memory_order_relaxed);

	atomic_store_explicit(&c->jit_calls[op], n + 1, memory_order_relaxed);
	c->jit_called++;
}

bool jit_op_count(struct vc_bvcpu *v, unsigned n, const char **name, uint64_t *count)
{
	const struct emu_vcpu *c = emu_of(v);

	if (n >= EMU_OP_COUNT)
		return false;
	*name = emu_op_name((enum emu_op)n);
	*count = atomic_load_explicit(&c->jit_calls[n], memory_order_relaxed);
	return true;
}

/*
 * The instruction at s.rip has not been executed, though it was counted when hooks were told of it: they shall not be
 * told again when it is.
 */
static void not_executed(struct emu_vcpu *c)
{
	uint64_t linear = linear_of(c, c->s.rip);

	if (!emu_hooks_on(c))
		return;
	for (unsigned k = 0; k < VC_ARRAY_SIZE(c->sys->told); k++) {
		if (c->sys->told[k].linear == linear && c->sys->told[k].count + 1 == c->icount) {
			c->icount--;
			return;
		}
	}
}

/* Where translated code goes on behind what stepped out of the gate; NULL: at s.rip. */
static inline const uint8_t *still_good(struct emu_vcpu *c, const uint8_t *resume, const struct jit_block *block,
                                        uint64_t evictions)
{
	if (!resume || wanted(c) || atomic_load(&c->jit->evictions) != evictions || atomic_load(&block->stale) ||
	    !c->jit_can)
		return NULL;
	return resume;
}

/* Hooks before the instruction at site. Told once, whether translated code or the interpreter then executes it. */
static const uint8_t *tell_hooks(struct emu_vcpu *c, const struct jit_site *site)
{
	uint64_t evictions = atomic_load(&c->jit->evictions), rip = c->s.rip;
	const struct jit_block *block = site->block;
	unsigned hooks = site->hooks, length = site->insn.len;
	const uint8_t *resume = site->resume;
	bool called = false;

	if (hooks & JIT_HOOK_BLOCK)
		called = emu_hook_block(c, rip, block->bytes, c->icount);
	if (hooks & JIT_HOOK_CODE)
		called |= emu_hook_code(c, rip, length, c->icount);
	if (called)
		resume = still_good(c, resume, block, evictions);
	c->icount += resume != NULL;
	return resume;
}

/* The instruction at site, by its function. Returns where translated code goes on; NULL: at s.rip. */
static const uint8_t *call_out(struct emu_vcpu *c, struct jit_site *site)
{
	const uint8_t *resume = site->resume;
	struct jit_block *block = site->block;
	uint64_t evictions = atomic_load(&c->jit->evictions);
	/* outside the gate, in a callback of a device or a hook, site and block may be evicted */
	const struct emu_insn insn = site->insn;
	enum emu_next next;

	not_executed(c);
	count_call(c, insn.op);
	next = site->fn(c, &insn);
	c->icount++;
	if (next == EMU_JUMP)
		return NULL;
	c->s.rip = linear_of(c, c->s.rip + insn.len);
	return still_good(c, resume, block, evictions);
}

/* An indirect branch whose target is not in the jump cache; it has been executed but for its faults. */
static void check_target(struct emu_vcpu *c, uint64_t at)
{
	struct jit_source s;

	if (c->mode != EMU_MODE_64 || vc_paging_canonical(&c->mmu->paging, c->s.rip))
		return;
	/* RSP as it was before the instruction */
	c->s.rip = at;
	if (jit_read_source(c, &s, at)) {
		const struct emu_insn *n = &s.insn[0];

		if (n->op == EMU_CALL_IND)
			c->s.gpr[VC_RSP] += 8;
		else if (n->op == EMU_RET)
			c->s.gpr[VC_RSP] -= 8 + (n->desc->enc == EMU_ENC_IMM ? n->imm & 0xffff : 0);
	}
	emu_raise_error(c, VC_GP, 0);
}

/* A group of accesses did not lie in one page. When that comes again and again, the block is made anew without groups.
 */
static void note_bail(struct emu_vcpu *c, struct jit_block *b)
{
	struct jit_vm *j = c->jit;

	pthread_mutex_lock(&j->lock);
	if (++b->bails >= MAX_BAILS)
		jit_make_stale(j, b);
	pthread_mutex_unlock(&j->lock);
}

/* The page behind the block's own one, where its instruction goes on. False: it is another one now, or none. */
static bool second_is_there(struct emu_vcpu *c, const struct jit_block *b)
{
	uint64_t linear = linear_of(c, c->jit_page + VC_PAGE_SIZE), gpa;
	struct emu_jit_page *p = &c->jit_pages[(linear >> 12) & (EMU_JIT_PAGES - 1)];
	struct vc_page_info *page;
	unsigned available;

	emu_fetch(c, linear, &available, &gpa, &page);
	if (page != b->second || gpa != b->second_gpa)
		return false;
	p->tag = linear ^ c->jit_ctx;
	p->id = (uint32_t)(gpa >> 12);
	return true;
}

/* Flags that translated code did not keep, because only a fault's frame shows them. */
static void recover(struct emu_vcpu *c)
{
	uint64_t setter = (c->jit_value & ~(uint64_t)JIT_BAIL_ACCESS) >> 17;

	if (setter)
		jit_recover_flags(c, rip_at(c, setter - 1));
}

static struct jit_block *block_before(const uint8_t *return_address)
{
	struct jit_block *b;

	memcpy(&b, return_address - 5 - 8, sizeof b);
	return b;
}

/*
 * Translated code was left, by one of the ways out. Each function returns the host code to enter next; NULL: the way to
 * s.rip is to be looked up. Where the interpreter was run, *why is how that ended.
 */

static const uint8_t *by_link(struct emu_vcpu *c, enum emu_stop *why)
{
	struct jit_vm *j = c->jit;
	struct jit_link *l = (struct jit_link *)(uintptr_t)c->jit_value;
	struct jit_block *b;
	uint64_t evictions;

	(void)why;
	c->s.rip = link_target(c, l);
	if (wanted(c))
		return NULL;
	evictions = atomic_load(&j->evictions);
	choose_context(c, c->s.rip);
	b = find(c);
	if (!b)
		return NULL;
	pthread_mutex_lock(&j->lock);
	if (evictions == atomic_load(&j->evictions) && !atomic_load(&b->stale))
		jit_link(j, l, b);
	pthread_mutex_unlock(&j->lock);
	remember(c, b);
	return b->entry;
}

static const uint8_t *by_site(struct emu_vcpu *c, enum emu_stop *why)
{
	struct jit_site *site = (struct jit_site *)(uintptr_t)c->jit_value;

	c->s.rip = rip_at(c, site->page_offset);
	if (site->hooks)
		return tell_hooks(c, site);
	if (site->fn)
		return call_out(c, site);
	not_executed(c);
	count_call(c, site->insn.op);
	*why = interp_run_block(c);
	return NULL;
}

static const uint8_t *by_indirect_branch(struct emu_vcpu *c, enum emu_stop *why)
{
	uint64_t at = rip_at(c, c->jit_value);

	(void)why;
	c->s.rip = c->jit_extra ^ c->jit_ctx;
	if (c->s.rip >> 47 && c->s.rip >> 47 != 0x1ffff)
		check_target(c, at);
	return NULL;
}

static const uint8_t *by_bail(struct emu_vcpu *c, enum emu_stop *why)
{
	c->s.rip = rip_at(c, c->jit_value & 0xffff);
	recover(c);
	if (c->jit_value & JIT_BAIL_GROUP)
		note_bail(c, (struct jit_block *)(uintptr_t)c->jit_extra);
	c->jit_bails++;
	not_executed(c);
	if (c->jit_value & JIT_BAIL_ACCESS && jit_plain(c, (const struct jit_block *)(uintptr_t)c->jit_extra))
		return NULL;
	*why = interp_run_block(c);
	return NULL;
}

static const uint8_t *by_poll(struct emu_vcpu *c, enum emu_stop *why)
{
	(void)why;
	c->s.rip = rip_at(c, c->jit_value);
	return NULL;
}

static const uint8_t *by_second_page(struct emu_vcpu *c, enum emu_stop *why)
{
	struct jit_vm *j = c->jit;
	struct jit_block *b = (struct jit_block *)(uintptr_t)c->jit_value;

	(void)why;
	c->s.rip = rip_at(c, b->gpa & (VC_PAGE_SIZE - 1));
	if (second_is_there(c, b))
		return b->entry;
	forget(c);
	pthread_mutex_lock(&j->lock);
	jit_make_stale(j, b);
	pthread_mutex_unlock(&j->lock);
	return NULL;
}

static const uint8_t *by_stale_block(struct emu_vcpu *c, enum emu_stop *why)
{
	const struct jit_block *b = block_before((const uint8_t *)(uintptr_t)c->jit_value);

	(void)why;
	c->s.rip = rip_at(c, b->gpa & (VC_PAGE_SIZE - 1));
	forget(c);
	return NULL;
}

static const uint8_t *(*const way_out[])(struct emu_vcpu *, enum emu_stop *why) = {
    [JIT_LEAVE_LINK] = by_link,         [JIT_LEAVE_SITE] = by_site, [JIT_LEAVE_INDIRECT] = by_indirect_branch,
    [JIT_LEAVE_BAIL] = by_bail,         [JIT_LEAVE_POLL] = by_poll, [JIT_LEAVE_SECOND] = by_second_page,
    [JIT_LEAVE_STALE] = by_stale_block,
};

/* ---- the loop ---- */

static enum emu_stop run(struct emu_vcpu *c)
{
	enum emu_stop why = EMU_STOP_EVENTS;
	const uint8_t *code;
	struct jit_block *b;

	c->jit_paths = true;
	for (;;) {
		/* who asks for something sets the request first: where this is 0 already, nothing needs a fence here */
		if (atomic_load_explicit(&c->jit_poll, memory_order_relaxed))
			atomic_store(&c->jit_poll, 0);
		if (wanted(c)) {
			if (c->promote && c->cpl == 3)
				promote_tick(c);
			return EMU_STOP_EVENTS;
		}
		if (!c->jit_can)
			return interp_run(c);
		if (c->promote && c->cpl == 3) {
			enum promote_next next = promote_run(c);

			if (next == PROMOTE_AGAIN)
				continue;
			if (next == PROMOTE_INTERPRET) {
				why = interp_run_block(c);
				if (why != EMU_STOP_EVENTS)
					return why;
				continue;
			}
		}
		choose_context(c, c->s.rip);
		code = quick(c);
		if (!code) {
			b = find(c);
			if (!b) {
				c->jit_untranslated++;
				why = interp_run_block(c);
				if (why != EMU_STOP_EVENTS)
					return why;
				continue;
			}
			remember(c, b);
			code = b->entry;
		}
		while (code) {
			c->jit->thunks.enter(c, code);
			code = way_out[c->jit_left](c, &why);
		}
		if (why != EMU_STOP_EVENTS)
			return why;
	}
}

enum emu_stop jit_run(struct emu_vcpu *c)
{
	jmp_buf here, *const outer = c->unwind;
	enum emu_stop stop;

	c->in_block = false;
	c->cur = NULL;
	c->unwind = &here;
	switch (setjmp(here)) {
	case 0:
		stop = run(c);
		break;
	case EMU_UNWIND_EXCEPTION:
		stop = EMU_STOP_EXCEPTION;
		break;
	case EMU_UNWIND_EXIT:
		stop = EMU_STOP_EXIT;
		break;
	default:
		stop = EMU_STOP_EVENTS;
	}
	c->unwind = outer;
	return stop;
}

/* ---- lockstep ---- */

/* find(), with nothing where that raises. */
static struct jit_block *try_find(struct emu_vcpu *c)
{
	jmp_buf here, *const outer = c->unwind;
	struct jit_block *volatile b = NULL;

	c->unwind = &here;
	if (!setjmp(here))
		b = find(c);
	c->unwind = outer;
	return b;
}

unsigned jit_native_insns(struct emu_vcpu *c)
{
	const struct jit_block *b;

	if (!c->jit_can)
		return 0;
	choose_context(c, c->s.rip);
	b = try_find(c);
	return b ? b->native : 0;
}

enum jit_step jit_step(struct emu_vcpu *c)
{
	struct jit_block *b = try_find(c);
	uint64_t start = c->s.rip;

	c->jit_paths = true;
	atomic_store(&c->jit_poll, 0);
	c->jit_page = linear_of(c, start) & VC_PAGE_MASK;
	do {
		c->jit->thunks.enter(c, b->entry);
	} while (c->jit_left == JIT_LEAVE_SECOND && second_is_there(c, b));
	if (c->jit_left == JIT_LEAVE_SECOND)
		c->jit_value = start & (VC_PAGE_SIZE - 1);
	switch (c->jit_left) {
	case JIT_LEAVE_LINK: {
		const struct jit_link *l = (const struct jit_link *)(uintptr_t)c->jit_value;

		c->s.rip = link_target(c, l);
		c->jit_dead = c->s.rip == start + b->bytes ? emu_flag_bits(EMU_FL_ALL & ~b->live[b->bytes]) : 0;
		return JIT_STEP_EXIT;
	}
	case JIT_LEAVE_INDIRECT:
		c->s.rip = c->jit_extra ^ c->jit_ctx;
		c->jit_dead = 0;
		return JIT_STEP_EXIT;
	default:
		c->s.rip = rip_at(c, c->jit_value & 0xffff);
		if (c->jit_left == JIT_LEAVE_BAIL)
			recover(c);
		c->jit_dead = emu_flag_bits(EMU_FL_ALL & ~b->live[c->s.rip - start]);
		return JIT_STEP_BAIL;
	}
}

uint32_t jit_dead_flags(struct emu_vcpu *c)
{
	return c->jit_dead;
}
