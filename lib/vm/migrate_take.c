/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory as it comes, on a thread for each connection. */
#include <stdlib.h>

#include "core/clock.h"
#include "core/thread.h"
#include "vm/migrate_delta.h"
#include "vm/migrate_receive.h"
#include "vm/snapshot_file.h"

#define PROGRESS_NS 250000000u

/* What of a frame is left. */
struct contents {
	const uint8_t *at;
	uint32_t length;
};

/* ---- pages ---- */

/* Pages that are zeroes already take no memory by being looked at, but where they were written before. */
static int take_zero(uint8_t *page, struct contents *c)
{
	if (!vc_is_zero(page, VC_PAGE_SIZE))
		memset(page, 0, VC_PAGE_SIZE);
	return 0;
}

static int take_whole(uint8_t *page, struct contents *c)
{
	if (c->length < VC_PAGE_SIZE)
		return vc_fail(EPROTO, "migration: a page where %u bytes are left", c->length);
	memcpy(page, c->at, VC_PAGE_SIZE);
	c->at += VC_PAGE_SIZE;
	c->length -= VC_PAGE_SIZE;
	return 0;
}

static int take_delta(uint8_t *page, struct contents *c)
{
	uint32_t length = c->length < 2 ? 0 : vc_ld16(c->at);
	int r;

	if (c->length < 2 || length > c->length - 2)
		return vc_fail(EPROTO, "migration: a delta of %u bytes where %u are left", length, c->length);
	r = vc_mig_delta_apply(page, c->at + 2, length);
	c->at += 2 + length;
	c->length -= 2 + length;
	return r;
}

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static int take_run(struct vc_mig_inlet *in, const uint8_t *run, struct contents *c)
{
	static const struct {
		int (*take)(uint8_t *page, struct contents *contents);
		size_t counter;
	} ways[] = {{take_whole, offsetof(struct vc_mig_inlet, pages)},
	            {take_delta, offsetof(struct vc_mig_inlet, delta_pages)},
	            {take_zero, offsetof(struct vc_mig_inlet, zero_pages)}};
	const struct vc_mem *mem = &in->whole->vm->mem;
	uint32_t index = vc_ld32(run), word = vc_ld32(run + 4), way = word >> 30, n = word & (VC_MIG_DELTAS - 1);
	uint64_t page = vc_ld64(run + 8), pages;
	uint8_t nowhere[VC_PAGE_SIZE] = {0};
	struct vc_slot *slot;
	int r = 0;

	if (index >= mem->count)
		return vc_fail(EPROTO, "migration: pages for slot %u of %u", index, mem->count);
	slot = mem->slots[index];
	pages = slot->length / VC_PAGE_SIZE;
	if (way >= VC_ARRAY_SIZE(ways) || !n || page >= pages || n > pages - page)
		return vc_fail(EPROTO, "migration: %u pages of kind %u from %llu on: slot %u has %llu", n, way,
		               (unsigned long long)page, index, (unsigned long long)pages);
	count((_Atomic uint64_t *)((char *)in + ways[way].counter), n);
	/* what cannot be written is the same file, as for a snapshot */
	for (uint32_t i = 0; r >= 0 && i < n && !(slot->host_readonly && ways[way].take == take_zero); i++)
		r = ways[way].take(slot->host_readonly ? nowhere : slot->hva + (page + i) * VC_PAGE_SIZE, c);
	return r;
}

/* The contents as they were before they were packed. */
static int unpack(struct vc_mig_inlet *in, struct contents *c)
{
	int64_t n;

	if (!in->unpacked)
		return vc_fail(EPROTO, "migration: packed pages, of which the greeting did not tell");
	n = vc_snapshot_unpack(c->at, c->length, in->unpacked, VC_MIG_CONTENTS_BYTES);
	if (n < 0)
		return vc_fail(EPROTO, "migration: what was packed cannot be unpacked: %s", vcore_error_message());
	*c = (struct contents){in->unpacked, (uint32_t)n};
	return 0;
}

static int take_pages(struct vc_mig_inlet *in, const struct vc_mig_frame *f)
{
	uint32_t runs = f->argument, table = runs * VC_MIG_RUN_BYTES;
	struct contents c;
	int r = 0;

	if (!runs || runs > VC_MIG_RUNS || f->length < table)
		return vc_fail(EPROTO, "migration: %u runs of pages in %u bytes", runs, f->length);
	c = (struct contents){f->payload + table, f->length - table};
	if (f->kind == VC_MIG_PACKED)
		r = unpack(in, &c);
	for (uint32_t i = 0; r >= 0 && i < runs; i++)
		r = take_run(in, f->payload + i * VC_MIG_RUN_BYTES, &c);
	return r >= 0 && c.length ? vc_fail(EPROTO, "migration: %u bytes that no run has", c.length) : r;
}

/* ---- progress: of the first connection's thread ---- */

static int tell(struct vc_mig_receiving *m)
{
	struct vcore_migrate_info *info = &m->info;
	uint64_t now = vc_host_ns(), looked_at = 0;

	info->sent = info->pages = info->zero_pages = info->delta_pages = 0;
	for (uint32_t i = 0; i < m->inlets; i++) {
		struct vc_mig_inlet *in = &m->inlet[i];

		info->sent += atomic_load_explicit(&in->stream.bytes_in, memory_order_relaxed);
		info->delta_pages += atomic_load_explicit(&in->delta_pages, memory_order_relaxed);
		info->pages += atomic_load_explicit(&in->pages, memory_order_relaxed);
		info->zero_pages += atomic_load_explicit(&in->zero_pages, memory_order_relaxed);
	}
	info->pages += info->delta_pages;
	looked_at = info->pages + info->zero_pages;
	info->remaining = looked_at - m->round_looked_at < m->round_pages
	                      ? (m->round_pages - (looked_at - m->round_looked_at)) * VC_PAGE_SIZE
	                      : 0;
	if (now - m->told > PROGRESS_NS || !info->rate) {
		info->rate = vc_muldiv64(info->sent - m->told_bytes, 1000000000, now - m->told + 1);
		m->told_bytes = info->sent;
		m->told = now;
	}
	info->total_ns = now - m->begun;
	return m->o.progress && m->o.progress(m->o.ctx, info)
	           ? vc_fail(ECANCELED, "the migration was cancelled by the progress callback")
	           : 0;
}

static int begin_round(struct vc_mig_receiving *m, uint32_t number, uint64_t pages)
{
	int r;

	m->round_pages = 0;
	m->info.rounds = number ? number : m->info.rounds;
	r = tell(m);
	m->round_looked_at = m->info.pages + m->info.zero_pages;
	/* no more than there are */
	m->round_pages = pages < m->info.memory / VC_PAGE_SIZE ? pages : m->info.memory / VC_PAGE_SIZE;
	return r;
}

/* ---- rounds ---- */

static int take_round(struct vc_mig_inlet *in, const struct vc_mig_frame *f)
{
	int r;

	if (f->length != 8)
		return vc_fail(EPROTO, "migration: the mark of a round in %u bytes: expected 8", f->length);
	r = vc_mig_crew_meet(&in->whole->crew, f->argument);
	return r >= 0 && in == in->whole->inlet ? begin_round(in->whole, f->argument, vc_ld64(f->payload)) : r;
}

/* 1: that was the last. */
static int take_frame(struct vc_mig_inlet *in, const struct vc_mig_frame *f)
{
	int r;

	switch (f->kind) {
	case VC_MIG_ROUND:
		r = take_round(in, f);
		return r >= 0 && f->argument == VC_MIG_NO_ROUND ? 1 : r;
	case VC_MIG_PAGES_FRAME:
	case VC_MIG_PACKED:
		r = take_pages(in, f);
		return r >= 0 && in == in->whole->inlet && vc_host_ns() - in->whole->told > PROGRESS_NS ? tell(in->whole) : r;
	default:
		return vc_fail(EPROTO, "migration: a frame of kind %u came where memory was expected", f->kind);
	}
}

static int take_rounds(struct vc_mig_inlet *in)
{
	struct vc_mig_frame f;
	int r;

	do {
		r = vc_mig_receive(&in->stream, &f);
		if (r < 0)
			break;
		r = take_frame(in, &f);
		free(f.payload);
	} while (r == 0);
	if (r < 0)
		vc_mig_crew_fail(&in->whole->crew, r);
	return r < 0 ? r : 0;
}

static void *run_inlet(void *ctx)
{
	take_rounds(ctx);
	return NULL;
}

static int prepare(struct vc_mig_receiving *m)
{
	for (uint32_t i = 0; i < m->inlets; i++) {
		m->inlet[i].whole = m;
		if (!(m->features & VC_MIG_ZSTD))
			continue;
		m->inlet[i].unpacked = malloc(VC_MIG_CONTENTS_BYTES);
		if (!m->inlet[i].unpacked)
			return vc_fail(ENOMEM, "migration: no memory for a frame");
	}
	m->crew.size = m->inlets;
	for (uint32_t i = 0; i < m->vm->mem.count; i++)
		m->info.memory += m->vm->mem.slots[i]->length;
	m->info.state = VCORE_MIGRATE_ACTIVE;
	m->info.streams = m->inlets;
	return 0;
}

int vc_mig_take_memory(struct vc_mig_receiving *m)
{
	uint32_t threads = 0;
	int r = prepare(m), error;

	while (r >= 0 && threads + 1 < m->inlets) {
		error = vc_thread_new(&m->inlet[threads + 1].thread, run_inlet, &m->inlet[threads + 1]);
		if (error)
			r = vc_fail_errno(error, "migration: a thread for a connection");
		else
			threads++;
	}
	if (r >= 0)
		r = vc_mig_send(&m->inlet->stream, VC_MIG_READY, 0, NULL, 0);
	if (r >= 0)
		r = take_rounds(m->inlet);
	if (r < 0) /* wakes the others */
		vc_mig_crew_fail(&m->crew, r);
	for (uint32_t i = 1; i <= threads; i++)
		pthread_join(m->inlet[i].thread, NULL);
	r = vc_mig_crew_result(&m->crew);
	return r < 0 ? vc_mig_peer_reason(&m->inlet->stream, r) : 0;
}
