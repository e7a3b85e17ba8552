/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Code memory and the blocks in it.
 *
 * The code map is cut into regions that are filled in turn. When
 * all are full, the oldest one is emptied: all vcpus leave translated code for that moment, and every jump into the
 * region is taken back. Translated code is found through the hash, links, and each vcpu's jump cache and shadow stack.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "backend/emu/codemap.h"
#include "backend/emu/jit/trans.h"
#include "backend/emu/vcpu.h"

int jit_cache_new(struct jit_vm *j)
{
	int r = emu_codemap_new("translated code", JIT_CODE_SIZE, &j->write, &j->execute);

	if (r < 0)
		return r;
	j->meta = mmap(NULL, JIT_META_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (j->meta == MAP_FAILED)
		return vc_fail_errno(errno, "cannot allocate %u MiB for what belongs to translated code",
		                     (unsigned)(JIT_META_SIZE >> 20));
	j->trans = vc_pages_new(sizeof *j->trans);
	if (!j->trans)
		return vc_fail(ENOMEM, "no memory for the translator");
	jit_make_thunks(j);
	j->region_used[0] = true;
	return 0;
}

void jit_cache_free(struct jit_vm *j)
{
	emu_codemap_free(j->write, j->execute, JIT_CODE_SIZE);
	if (j->meta && j->meta != MAP_FAILED)
		munmap(j->meta, JIT_META_SIZE);
	vc_pages_free(j->trans, sizeof *j->trans);
}

/* ---- room ---- */

static bool region_has_room(const struct jit_vm *j)
{
	return j->code_used + JIT_BLOCK_CODE <= JIT_REGION_CODE && j->meta_used + JIT_BLOCK_META <= JIT_REGION_META;
}

static void use_region(struct jit_vm *j, unsigned region)
{
	j->region = region;
	j->region_used[region] = true;
	j->code_used = region ? 0 : j->thunk_size;
	j->meta_used = 0;
}

bool jit_room(struct jit_vm *j)
{
	unsigned next = (j->region + 1) % JIT_REGIONS;

	if (region_has_room(j))
		return true;
	if (j->region_used[next])
		return false;
	use_region(j, next);
	return true;
}

void *jit_meta_alloc(struct jit_vm *j, size_t size)
{
	uint8_t *p = j->meta + (size_t)j->region * JIT_REGION_META + j->meta_used;

	j->meta_used += VC_ALIGN_UP(size, (size_t)16);
	return p;
}

struct jit_asm jit_code_begin(struct jit_vm *j)
{
	uint8_t *p = j->write + (size_t)j->region * JIT_REGION_CODE + j->code_used;

	return (struct jit_asm){.p = p, .end = p + JIT_BLOCK_CODE, .delta = j->execute - j->write};
}

void jit_code_end(struct jit_vm *j, const struct jit_asm *a)
{
	j->code_used = VC_ALIGN_UP((size_t)(a->p - j->write - (size_t)j->region * JIT_REGION_CODE), (size_t)16);
}

/* ---- tables ---- */

static unsigned hash(uint64_t gpa, uint32_t key)
{
	return (unsigned)(gpa ^ gpa >> JIT_HASH_BITS ^ key * 0x9e37u) & ((1u << JIT_HASH_BITS) - 1);
}
static unsigned page_hash(uint64_t gpa)
{
	return (unsigned)(gpa >> 12 ^ gpa >> 25) & ((1u << JIT_PAGES_BITS) - 1);
}

struct jit_block *jit_look_up(struct jit_vm *j, uint64_t gpa, uint32_t key)
{
	struct jit_block *b = atomic_load_explicit(&j->hash[hash(gpa, key)], memory_order_acquire);

	while (b && (b->gpa != gpa || b->key != key))
		b = atomic_load_explicit(&b->next, memory_order_acquire);
	return b;
}

static void list(struct jit_vm *j, struct jit_block *b, unsigned which, uint64_t gpa)
{
	struct jit_page_node **page = &j->pages[page_hash(gpa)];

	b->node[which] = (struct jit_page_node){.next = *page, .block = b, .gpa = gpa & VC_PAGE_MASK};
	*page = &b->node[which];
}

static void unlist(struct jit_vm *j, struct jit_page_node *node)
{
	struct jit_page_node **at = &j->pages[page_hash(node->gpa)];

	for (; *at; at = &(*at)->next) {
		if (*at == node) {
			*at = node->next;
			return;
		}
	}
}

void jit_insert(struct jit_vm *j, struct jit_block *b)
{
	_Atomic(struct jit_block *) *bucket = &j->hash[hash(b->gpa, b->key)];

	memcpy(&b->first, jit_writable(j, b->entry), 8);
	if (b->entry_host)
		memcpy(&b->first_host, jit_writable(j, b->entry_host), 8);
	b->region_next = j->region_blocks[j->region];
	j->region_blocks[j->region] = b;
	list(j, b, 0, b->gpa);
	if (b->second)
		list(j, b, 1, b->second_gpa);
	atomic_store_explicit(&b->next, atomic_load(bucket), memory_order_relaxed);
	atomic_store_explicit(bucket, b, memory_order_release);
}

/* ---- links ---- */

static void patch(uint8_t *site, intptr_t delta, const uint8_t *target)
{
	int32_t rel = (int32_t)(target - (site + delta + 4));

	__atomic_store_n((int32_t *)(void *)site, rel, __ATOMIC_RELEASE);
}

static void unlink_one(struct jit_vm *j, struct jit_link *l)
{
	intptr_t delta = j->execute - j->write;

	patch(l->site, delta, l->unlinked);
	if (l->site_save)
		patch(l->site_save, delta, l->unlinked_save);
	if (l->page_id)
		__atomic_store_n(l->page_id, UINT32_MAX, __ATOMIC_RELEASE);
	l->to = NULL;
}

static void unlink_incoming(struct jit_vm *j, struct jit_block *b)
{
	struct jit_link *next;

	for (struct jit_link *l = b->incoming; l; l = next) {
		next = l->next;
		unlink_one(j, l);
	}
	b->incoming = NULL;
}

static void forget_outgoing(struct jit_block *b)
{
	for (unsigned k = 0; k < b->links_count; k++) {
		struct jit_link *l = &b->links[k];

		if (!l->to)
			continue;
		*l->at = l->next;
		if (l->next)
			l->next->at = l->at;
		l->to = NULL;
	}
}

/* Later in the same page: a chain of such links comes to an end, so none of them needs a poll. */
static bool forward(const struct jit_link *l)
{
	return l->offset < VC_PAGE_SIZE && l->offset > (l->from->gpa & (VC_PAGE_SIZE - 1));
}

void jit_link(struct jit_vm *j, struct jit_link *l, struct jit_block *to)
{
	intptr_t delta = j->execute - j->write;

	if (l->to || j->lockstep)
		return;
	if (l->page_id) {
		if (to->gpa >> 12 >= UINT32_MAX)
			return;
		__atomic_store_n(l->page_id, (uint32_t)(to->gpa >> 12), __ATOMIC_RELEASE);
		patch(l->site, delta, to->entry);
	} else if (!l->site_save || to->flags_in == JIT_FLAGS_DEAD) {
		patch(l->site, delta, to->entry);
	} else if (to->flags_in == JIT_FLAGS_HOST && forward(l)) {
		patch(l->site, delta, to->entry_host);
	} else {
		patch(l->site_save, delta, to->entry);
	}
	l->to = to;
	l->next = to->incoming;
	l->at = &to->incoming;
	if (l->next)
		l->next->at = &l->next;
	to->incoming = l;
}

/* ---- staleness ---- */

/* CALL thunk, and three bytes that are never reached. */
static uint64_t call_of(const uint8_t *entry, const uint8_t *thunk)
{
	return 0xe8 | (uint64_t)(uint32_t)(thunk - (entry + 5)) << 8 | 0x909090ull << 40;
}

static void put_first(struct jit_vm *j, const uint8_t *entry, uint64_t bytes)
{
	__atomic_store_n((uint64_t *)(void *)jit_writable(j, entry), bytes, __ATOMIC_RELEASE);
}

void jit_make_stale(struct jit_vm *j, struct jit_block *b)
{
	if (atomic_load(&b->stale))
		return;
	atomic_store(&b->stale, true);
	put_first(j, b->entry, call_of(b->entry, j->thunks.stale));
	if (b->entry_host)
		put_first(j, b->entry_host, call_of(b->entry_host, j->thunks.stale_host));
}

void jit_make_good(struct jit_vm *j, struct jit_block *b)
{
	put_first(j, b->entry, b->first);
	if (b->entry_host)
		put_first(j, b->entry_host, b->first_host);
	atomic_store(&b->stale, false);
}

static void take_from_tables(struct jit_vm *j, struct jit_block *b)
{
	_Atomic(struct jit_block *) *at = &j->hash[hash(b->gpa, b->key)];

	for (; atomic_load(at); at = &atomic_load(at)->next) {
		if (atomic_load(at) == b) {
			atomic_store(at, atomic_load(&b->next));
			break;
		}
	}
	unlist(j, &b->node[0]);
	if (b->second)
		unlist(j, &b->node[1]);
}

void jit_remove(struct jit_vm *j, struct jit_block *b)
{
	jit_make_stale(j, b);
	unlink_incoming(j, b);
	take_from_tables(j, b);
}

unsigned jit_blocks_in_page(struct emu_vcpu *c, uint64_t gpa, uint16_t *offsets, unsigned max)
{
	struct jit_vm *j = c->jit;
	unsigned count = 0;

	gpa &= VC_PAGE_MASK;
	pthread_mutex_lock(&j->lock);
	for (const struct jit_page_node *n = j->pages[page_hash(gpa)]; n && count < max; n = n->next)
		if (n->gpa == gpa && (n->block->gpa & VC_PAGE_MASK) == gpa && n->block->key == c->mode_key)
			offsets[count++] = n->block->gpa & (VC_PAGE_SIZE - 1);
	pthread_mutex_unlock(&j->lock);
	return count;
}

void jit_page_stored(struct vc_bvm *vm, uint64_t gpa)
{
	struct jit_vm *j = ((struct emu_vm *)vm->priv)->jit;

	if (!j)
		return;
	pthread_mutex_lock(&j->lock);
	for (struct jit_page_node *n = j->pages[page_hash(gpa)]; n; n = n->next)
		if (n->gpa == (gpa & VC_PAGE_MASK))
			jit_make_stale(j, n->block);
	pthread_mutex_unlock(&j->lock);
}

/* ---- eviction ---- */

static void empty_region(struct jit_vm *j, unsigned region)
{
	for (struct jit_block *b = j->region_blocks[region]; b; b = b->region_next) {
		take_from_tables(j, b);
		unlink_incoming(j, b);
		forget_outgoing(b);
	}
	j->region_blocks[region] = NULL;
	j->region_used[region] = false;
}

static void forget_paths(struct vc_bvm *vm)
{
	for (uint32_t i = 0; i < vm->vcpus; i++)
		if (vm->vcpu && vm->vcpu[i] && emu_of(vm->vcpu[i]))
			jit_forget_paths(emu_of(vm->vcpu[i]));
}

void jit_evict(struct jit_vm *j)
{
	unsigned next = (j->region + 1) % JIT_REGIONS;

	empty_region(j, next);
	use_region(j, next);
	forget_paths(j->vm);
	atomic_fetch_add(&j->evictions, 1);
}

void jit_flush(struct vc_bvm *vm)
{
	struct jit_vm *j = ((struct emu_vm *)vm->priv)->jit;

	if (!j)
		return;
	pthread_mutex_lock(&j->lock);
	for (unsigned r = 0; r < JIT_REGIONS; r++)
		empty_region(j, r);
	use_region(j, 0);
	forget_paths(vm);
	atomic_fetch_add(&j->evictions, 1);
	pthread_mutex_unlock(&j->lock);
}
