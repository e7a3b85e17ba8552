/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is sent of a vm's memory. */
#include <stdlib.h>
#include <unistd.h>

#include "vm/migrate.h"

static uint64_t words_of(const struct vc_mig_slot *s)
{
	return (s->pages + 63) / 64;
}

/* ---- beginning ---- */

static void mark(struct vc_mig_slot *s, uint64_t from, uint64_t to)
{
	for (uint64_t page = from; page < to; page++)
		s->todo[page / 64] |= 1ull << (page % 64);
}

/* What the host has never given memory to is zeroes: not even looked at, for looking would make the host give some. */
static void mark_data(struct vc_mig_slot *s)
{
	const struct vc_slot *slot = s->slot;
	off_t begin = (off_t)slot->offset, end = begin + (off_t)slot->length, data = begin, hole;

	while (data < end) {
		data = lseek(slot->fd, data, SEEK_DATA);
		if (data < 0 && errno != ENXIO) /* a file system that does not tell */
			mark(s, 0, s->pages);
		if (data < 0 || data >= end)
			return;
		hole = lseek(slot->fd, data, SEEK_HOLE);
		if (hole < 0 || hole > end)
			hole = end;
		mark(s, (uint64_t)(data - begin) / VC_PAGE_SIZE,
		     VC_ALIGN_UP((uint64_t)(hole - begin), VC_PAGE_SIZE) / VC_PAGE_SIZE);
		data = hole;
	}
}

static int begin_slot(struct vc_mig_memory *m, struct vc_mig_slot *s)
{
	int r;

	s->pages = s->slot->length / VC_PAGE_SIZE;
	m->total += s->slot->length;
	s->todo = calloc(words_of(s), 8);
	s->sent = calloc(words_of(s), 8);
	if (!s->todo || !s->sent)
		return vc_fail(ENOMEM, "migration: no memory for bitmaps of %llu pages", (unsigned long long)s->pages);
	r = vc_mem_log_dirty(&m->vm->mem, NULL, s->slot, VC_LOG_MIGRATION, true);
	if (r < 0)
		return r;
	s->logged = true;
	/* after the log is on: what comes to be later is in it */
	if (s->slot->kind == VCORE_MEMORY_MEMFD && s->slot->fd >= 0)
		mark_data(s);
	else
		mark(s, 0, s->pages);
	return 0;
}

/* Pins all slots there are. */
static int list_slots(struct vc_mig_memory *m)
{
	struct vc_mem *mem = &m->vm->mem;

	vc_mem_rdlock(mem);
	m->version = atomic_load(&mem->version);
	m->slot = calloc(mem->count + 1, sizeof *m->slot);
	for (uint32_t i = 0; m->slot && i < mem->count; i++) {
		atomic_fetch_add_explicit(&mem->slots[i]->pins, 1, memory_order_relaxed);
		m->slot[m->count++].slot = mem->slots[i];
	}
	vc_mem_unlock(mem);
	return m->slot ? 0 : vc_fail(ENOMEM, "migration: no memory for a list of slots");
}

int vc_mig_memory_begin(struct vc_mig_memory *m, struct vcore_vm *vm)
{
	uint64_t longest = 0;
	int r;

	m->vm = vm;
	r = list_slots(m);
	for (uint32_t i = 0; r >= 0 && i < m->count; i++) {
		r = begin_slot(m, &m->slot[i]);
		if (words_of(&m->slot[i]) > longest)
			longest = words_of(&m->slot[i]);
	}
	if (r >= 0 && !(m->bitmap = malloc(longest * 8 + 8)))
		r = vc_fail(ENOMEM, "migration: no memory for a bitmap");
	return r;
}

void vc_mig_memory_end(struct vc_mig_memory *m)
{
	for (uint32_t i = 0; i < m->count; i++) {
		struct vc_mig_slot *s = &m->slot[i];

		if (s->logged)
			vc_mem_log_dirty(&m->vm->mem, NULL, s->slot, VC_LOG_MIGRATION, false);
		vc_mem_unpin(s->slot);
		free(s->todo);
		free(s->sent);
	}
	free(m->slot);
	free(m->bitmap);
	m->count = 0;
}

/* ---- what is to be sent ---- */

uint64_t vc_mig_memory_left(const struct vc_mig_memory *m)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < m->count; i++)
		for (uint64_t w = 0; w < words_of(&m->slot[i]); w++)
			pages += (uint64_t)__builtin_popcountll(m->slot[i].todo[w]);
	return pages;
}

void vc_mig_memory_sent(struct vc_mig_memory *m)
{
	for (uint32_t i = 0; i < m->count; i++)
		memset(m->slot[i].todo, 0, words_of(&m->slot[i]) * 8);
}

static void sent_some(struct vc_mig_memory *m, const struct vc_mig_channel *c)
{
	for (uint32_t i = 0; i < m->count && i <= c->end_slot; i++) {
		struct vc_mig_slot *s = &m->slot[i];
		uint64_t words = i < c->end_slot ? words_of(s) : c->end_page / 64;

		for (uint64_t w = 0; w < words; w++)
			s->todo[w] &= ~vc_mig_channel_own(c, w, s->todo[w]);
	}
}

void vc_mig_memory_sent_some(struct vc_mig_memory *m, const struct vc_mig_channel *channel, uint32_t channels)
{
	for (uint32_t i = 0; i < channels; i++)
		sent_some(m, &channel[i]);
}

int64_t vc_mig_memory_look(struct vc_mig_memory *m)
{
	if (atomic_load(&m->vm->mem.version) != m->version)
		return vc_fail(EBUSY, "migration: memory slots were added or removed, or a snapshot was taken, meanwhile");
	for (uint32_t i = 0; i < m->count; i++) {
		struct vc_mig_slot *s = &m->slot[i];
		int64_t r = vc_mem_get_dirty(&m->vm->mem, NULL, s->slot, VC_LOG_MIGRATION, m->bitmap, words_of(s) * 8);

		for (uint64_t w = 0; r > 0 && w < words_of(s); w++)
			s->todo[w] |= m->bitmap[w];
		if (r < 0)
			return r;
	}
	return (int64_t)vc_mig_memory_left(m);
}
