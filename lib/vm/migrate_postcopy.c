/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/migrate_postcopy.h"

#include <stdlib.h>

#include "core/util.h"
#include "vm/migrate_absent.h"

/* Frames are small: what is asked for waits behind those that are on their way. */
#define PAGES_MAX 16u
#define RUNS_MAX  16u
#define TABLE     (RUNS_MAX * VC_MIG_RUN_BYTES)

/* A frame in the making. */
struct frame {
	uint32_t runs, pages;
	uint8_t bytes[TABLE + PAGES_MAX * VC_PAGE_SIZE];
};

/* Whoever has memory of the source's from a device will want the destination's. */
int vc_mig_follow_check(struct vcore_vm *vm)
{
	uint64_t shared = UINT64_MAX;

	vc_mem_rdlock(&vm->mem);
	for (uint32_t i = 0; i < vm->mem.count; i++)
		if (atomic_load(&vm->mem.slots[i]->sharers))
			shared = vm->mem.slots[i]->gpa;
	vc_mem_unlock(&vm->mem);
	return shared == UINT64_MAX
	           ? 0
	           : vc_fail(ENOTSUP,
	                     "post-copy: a device shares the memory at %#llx with another process, which could not wait "
	                     "for it",
	                     (unsigned long long)shared);
}

/* ---- what is absent ---- */

int vc_mig_follow_announce(struct vc_mig_follow *m)
{
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < m->memory->count; i++)
		r = vc_mig_absent_send(m->stream, i, m->memory->slot[i].todo, m->memory->slot[i].pages);
	return r;
}

/* Frames that are not in order could come for ever. */
static int take_absent(struct vc_mig_follow *m, const struct vc_mig_frame *f)
{
	struct vc_mig_slot *s = f->argument < m->memory->count ? &m->memory->slot[f->argument] : NULL;
	uint64_t first = vc_mig_absent_first(f);
	int64_t r;

	if (f->argument < m->cursor_slot || (f->argument == m->cursor_slot && first < m->cursor_page))
		return vc_fail(EPROTO, "migration: absent pages of slot %u from %llu on, which come too late", f->argument,
		               (unsigned long long)first);
	r = vc_mig_absent_take(f, m->memory->count, s ? s->todo : NULL, s ? s->pages : 0);
	m->cursor_slot = f->argument;
	m->cursor_page = first + 1;
	return r < 0 ? (int)r : 0;
}

int vc_mig_follow_again(struct vc_mig_follow *m)
{
	struct vc_mig_frame f;
	int r;

	vc_mig_memory_sent(m->memory);
	m->cursor_page = m->cursor_slot = 0;
	do {
		r = vc_mig_receive(m->stream, &f);
		if (r < 0)
			break;
		if (f.kind == VC_MIG_ABSENT)
			r = take_absent(m, &f);
		else if (f.kind == VC_MIG_READY && !f.argument)
			r = 1;
		else
			r = vc_fail(EPROTO, "migration: a frame of kind %u came where absent pages were expected", f.kind);
		free(f.payload);
	} while (r == 0);
	m->cursor_page = m->cursor_slot = 0;
	return r < 0 ? vc_mig_peer_reason(m->stream, r) : 0;
}

/* ---- pages ---- */

static void add_page(struct frame *f, uint32_t slot, uint64_t page, bool zero)
{
	uint8_t *last = f->runs ? f->bytes + (f->runs - 1) * VC_MIG_RUN_BYTES : NULL;
	uint32_t kind = zero ? VC_MIG_ZEROES : 0, count = last ? vc_ld32(last + 4) : 0;

	if (last && vc_ld32(last) == slot && (count & VC_MIG_ZEROES) == kind &&
	    vc_ld64(last + 8) + (count & ~VC_MIG_ZEROES) == page) {
		vc_st32(last + 4, count + 1);
		return;
	}
	last = f->bytes + f->runs++ * VC_MIG_RUN_BYTES;
	vc_st32(last, slot);
	vc_st32(last + 4, kind | 1);
	vc_st64(last + 8, page);
}

static void put_page(struct vc_mig_follow *m, struct frame *f, uint32_t index, uint64_t page)
{
	struct vc_mig_slot *s = &m->memory->slot[index];
	uint8_t *copy = f->bytes + TABLE + f->pages * VC_PAGE_SIZE;
	bool zero;

	/* nobody writes it any more */
	memcpy(copy, s->slot->hva + page * VC_PAGE_SIZE, VC_PAGE_SIZE);
	zero = vc_is_zero(copy, VC_PAGE_SIZE);
	add_page(f, index, page, zero);
	f->pages += !zero;
	m->zero_pages += zero;
	m->pages += !zero;
	s->todo[page / 64] &= ~(1ull << (page % 64));
}

static int flush(struct vc_mig_follow *m, struct frame *f)
{
	uint32_t table = f->runs * VC_MIG_RUN_BYTES, data = f->pages * VC_PAGE_SIZE;

	if (!f->runs)
		return 0;
	/* the contents were put behind a full table */
	memmove(f->bytes + table, f->bytes + TABLE, data);
	return vc_mig_send(m->stream, VC_MIG_PAGES_FRAME, f->runs, f->bytes, table + data);
}

static bool is_full(const struct frame *f)
{
	return f->runs == RUNS_MAX || f->pages == PAGES_MAX;
}

/* A frame of what is to be sent from there on, up to the end of the slot. */
static int send_from(struct vc_mig_follow *m, uint32_t index, uint64_t page)
{
	const struct vc_mig_slot *s = &m->memory->slot[index];
	struct frame f;
	uint64_t count;

	f.runs = f.pages = 0;
	while (!is_full(&f) && (count = vc_image_next_run(s->todo, s->pages, 0, &page)))
		for (; count && !is_full(&f); count--)
			put_page(m, &f, index, page++);
	return flush(m, &f);
}

/* ---- what is asked for ---- */

static int serve(struct vc_mig_follow *m, const struct vc_mig_frame *f)
{
	uint64_t page = f->length == 8 ? vc_ld64(f->payload) : UINT64_MAX;
	struct vc_mig_slot *s = f->argument < m->memory->count ? &m->memory->slot[f->argument] : NULL;

	if (!s || page >= s->pages)
		return vc_fail(EPROTO, "migration: page %llu of slot %u was asked for", (unsigned long long)page, f->argument);
	m->wanted++;
	/* one that is on its way already needs nothing; who wants it will want the next ones */
	if (!vc_test_bit(s->todo, page))
		return 0;
	m->cursor_slot = f->argument;
	m->cursor_page = page;
	return send_from(m, f->argument, page);
}

/* One frame that the other side may send. 1: of the kind that is waited for */
static int take(struct vc_mig_follow *m, enum vc_mig_kind kind)
{
	struct vc_mig_frame f;
	int r = vc_mig_receive(m->stream, &f);

	if (r < 0)
		return r;
	if (f.kind == VC_MIG_WANT)
		r = serve(m, &f);
	else if (f.kind == kind && !f.length && !f.argument)
		r = 1;
	else
		r = vc_fail(EPROTO, "migration: the other side speaks out of turn (kind %u)", f.kind);
	free(f.payload);
	return r;
}

int vc_mig_follow_until(struct vc_mig_follow *m, enum vc_mig_kind kind)
{
	int r;

	do
		r = take(m, kind);
	while (r == 0);
	return r < 0 ? vc_mig_peer_reason(m->stream, r) : 0;
}

/* ---- the rest ---- */

/* Where there is something to be sent, from the cursor on and around. False: nothing is left. */
static bool find_next(struct vc_mig_follow *m)
{
	for (uint32_t n = 0; n <= m->memory->count; n++) {
		const struct vc_mig_slot *s = &m->memory->slot[m->cursor_slot];

		if (m->cursor_page < s->pages && vc_image_next_run(s->todo, s->pages, 0, &m->cursor_page))
			return true;
		m->cursor_slot = (m->cursor_slot + 1) % m->memory->count;
		m->cursor_page = 0;
	}
	return false;
}

int vc_mig_follow_push(struct vc_mig_follow *m, void (*told)(void *ctx), void *ctx)
{
	int r = 0;

	while (r >= 0 && find_next(m)) {
		while (r == 0 && vc_mig_has_word(m->stream))
			r = take(m, VC_MIG_WHOLE);
		/* the vm has ended there, and needs no more */
		if (r > 0)
			return 0;
		if (r >= 0 && find_next(m))
			r = send_from(m, m->cursor_slot, m->cursor_page);
		told(ctx);
	}
	if (r >= 0)
		r = vc_mig_send(m->stream, VC_MIG_END, 0, NULL, 0);
	return r < 0 ? vc_mig_peer_reason(m->stream, r) : vc_mig_follow_until(m, VC_MIG_WHOLE);
}
