/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The destination of a migration. */
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/address.h"
#include "memory/backing.h"
#include "vm/migrate_arrival.h"
#include "vm/snapshot_codec.h"

struct receiving {
	struct vcore_migrate_receive_options o;
	struct vc_mig_stream stream;
	struct vcore_vm *vm; /* NULL: not made yet */
	struct vc_still still;
	bool held;
	struct vc_arrival *arrival; /* memory may come by post-copy; NULL: it will not */
	bool arrives;               /* it does */
};

/* ---- a connection ---- */

static int accept_one(int listener, uint32_t wait_ms)
{
	struct pollfd fd = {listener, POLLIN, 0};
	int n = poll(&fd, 1, wait_ms ? (int)(wait_ms > INT32_MAX ? INT32_MAX : wait_ms) : -1), r;

	if (n < 0)
		return vc_fail_errno(errno, "migration: waiting for a connection");
	if (n == 0)
		return vc_fail(ETIMEDOUT, "migration: nobody has connected for %u ms", wait_ms);
	r = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	return r < 0 ? vc_fail_errno(errno, "migration: taking a connection") : r;
}

static int listen_at(const char *text, uint32_t wait_ms)
{
	union vc_address address;
	int listener, r = vc_address_parse("migration", text, &address);

	if (r < 0)
		return r;
	vc_address_unlisten_stale(&address);
	listener = vc_address_listen("a migration", &address, 1);
	if (listener < 0)
		return listener;
	r = accept_one(listener, wait_ms);
	close(listener);
	vc_address_unlisten(&address);
	return r;
}

static int open_stream(struct receiving *m)
{
	int fd = m->o.address ? listen_at(m->o.address, m->o.wait_ms) : m->o.fd, r;

	if (fd < 0)
		return m->o.address ? fd : vc_fail(EINVAL, "vcore_migrate_receive: neither an address nor a descriptor");
	r = vc_mig_stream_open(&m->stream, fd, m->o.timeout_ms);
	if (m->o.address)
		close(fd);
	return r;
}

/* ---- the machine ---- */

static int take_hello(struct receiving *m)
{
	struct vc_mig_frame f;
	int r = vc_mig_receive(&m->stream, &f);

	if (r < 0)
		return r;
	free(f.payload);
	if (f.kind != VC_MIG_HELLO || f.argument != VC_MIG_VERSION || f.length != 16)
		return vc_fail(EPROTO, "migration: a greeting of version %u (%u bytes): expected version %u", f.argument,
		               f.length, VC_MIG_VERSION);
	return 0;
}

/* Takes the frame apart and frees it. */
static int decode(struct vc_mig_frame *f, struct vcore_snapshot **s)
{
	int r = vc_snapshot_decode(f->payload, f->length, s);

	free(f->payload);
	f->payload = NULL;
	return r;
}

static uint64_t host_memory(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int check_size(const struct receiving *m, const struct vcore_snapshot *s)
{
	uint64_t limit = m->o.memory_limit ? m->o.memory_limit : host_memory(), left = limit;

	for (uint32_t i = 0; i < s->slots; i++) {
		if (s->slot[i].length > left)
			return vc_fail(E2BIG, "migration: the machine has more memory than the %llu bytes it may have",
			               (unsigned long long)limit);
		left -= s->slot[i].length;
	}
	if (s->ram_low > limit || s->ram_high > limit - s->ram_low)
		return vc_fail(E2BIG, "migration: the machine has more RAM than the %llu bytes it may have",
		               (unsigned long long)limit);
	return 0;
}

/* What the source does not send is zeroes: what building the machine has put there, or the program, must go. */
static void clear_slot(struct vc_slot *slot)
{
	if (slot->host_readonly)
		return;
	if ((slot->kind == VCORE_MEMORY_MEMFD || slot->kind == VCORE_MEMORY_ANON) && !(slot->flags & VCORE_MEM_LOCKED))
		vc_backing_discard(slot, 0, slot->length);
	else
		memset(slot->hva, 0, slot->length);
}

static int build(struct receiving *m, const struct vcore_snapshot *s)
{
	int r = check_size(m, s);

	if (r >= 0)
		r = vc_snapshot_build(s, m->o.clone, &m->vm);
	if (r >= 0)
		r = vc_still_begin(m->vm, "vcore_migrate_receive", false, &m->still);
	if (r < 0)
		return r;
	m->held = true;
	r = vc_snapshot_match(m->vm, s);
	for (uint32_t i = 0; r >= 0 && i < m->vm->mem.count; i++)
		clear_slot(m->vm->mem.slots[i]);
	return r;
}

static int take_machine(struct receiving *m)
{
	struct vcore_snapshot *s;
	struct vc_mig_frame f;
	int r = vc_mig_receive(&m->stream, &f);

	if (r >= 0 && f.kind != VC_MIG_MACHINE) {
		free(f.payload);
		r = vc_fail(EPROTO, "migration: a frame of kind %u came where the machine was expected", f.kind);
	}
	if (r >= 0)
		r = decode(&f, &s);
	if (r < 0)
		return r;
	r = build(m, s);
	vcore_snapshot_unref(s);
	if (r >= 0 && f.argument & VC_MIG_POSTCOPY)
		r = vc_arrival_new(m->vm, &m->arrival);
	return r < 0 ? r : vc_mig_send(&m->stream, VC_MIG_READY, 0, NULL, 0);
}

/* ---- memory ---- */

/* Pages that are zeroes already take no memory by being looked at, but where they were written before. */
static void clear_pages(uint8_t *at, uint64_t pages)
{
	for (; pages; pages--, at += VC_PAGE_SIZE)
		if (!vc_is_zero(at, VC_PAGE_SIZE))
			memset(at, 0, VC_PAGE_SIZE);
}

/* One run; *data: the contents that are left, of *left pages. */
static int take_run(struct receiving *m, const uint8_t *run, const uint8_t **data, uint32_t *left)
{
	uint32_t index = vc_ld32(run), kind = vc_ld32(run + 4), count = kind & ~VC_MIG_ZEROES;
	uint64_t page = vc_ld64(run + 8), pages;
	struct vc_slot *slot;

	if (index >= m->vm->mem.count)
		return vc_fail(EPROTO, "migration: pages for slot %u of %u", index, m->vm->mem.count);
	slot = m->vm->mem.slots[index];
	pages = slot->length / VC_PAGE_SIZE;
	if (!count || page >= pages || count > pages - page)
		return vc_fail(EPROTO, "migration: %u pages from %llu on: slot %u has %llu", count, (unsigned long long)page,
		               index, (unsigned long long)pages);
	if (!(kind & VC_MIG_ZEROES) && count > *left)
		return vc_fail(EPROTO, "migration: a run of %u pages where %u follow", count, *left);
	if (slot->host_readonly) /* the same file, as for a snapshot */
		;
	else if (kind & VC_MIG_ZEROES)
		clear_pages(slot->hva + page * VC_PAGE_SIZE, count);
	else
		memcpy(slot->hva + page * VC_PAGE_SIZE, *data, (size_t)count * VC_PAGE_SIZE);
	if (!(kind & VC_MIG_ZEROES)) {
		*data += (size_t)count * VC_PAGE_SIZE;
		*left -= count;
	}
	return 0;
}

static int take_pages(struct receiving *m, const struct vc_mig_frame *f)
{
	uint32_t runs = f->argument, table = runs * VC_MIG_RUN_BYTES, left;
	const uint8_t *data;
	int r = 0;

	if (!runs || runs > VC_MIG_RUNS || f->length < table || (f->length - table) % VC_PAGE_SIZE)
		return vc_fail(EPROTO, "migration: %u runs of pages in %u bytes", runs, f->length);
	data = f->payload + table;
	left = (f->length - table) / VC_PAGE_SIZE;
	for (uint32_t i = 0; r >= 0 && i < runs; i++)
		r = take_run(m, f->payload + i * VC_MIG_RUN_BYTES, &data, &left);
	return r >= 0 && left ? vc_fail(EPROTO, "migration: %u pages that no run has", left) : r;
}

/* Of one of the frames with memory. */
static int take_some(struct receiving *m, const struct vc_mig_frame *f)
{
	if (f->kind == VC_MIG_PAGES_FRAME)
		return take_pages(m, f);
	return m->arrival ? vc_arrival_absent(m->arrival, f) : vc_fail(EPROTO, "migration: absent pages without post-copy");
}

/* Up to the state. */
static int take_memory(struct receiving *m, struct vc_mig_frame *f)
{
	int r;

	while ((r = vc_mig_receive(&m->stream, f)) >= 0 && (f->kind == VC_MIG_PAGES_FRAME || f->kind == VC_MIG_ABSENT)) {
		r = take_some(m, f);
		free(f->payload);
		if (r < 0)
			return r;
	}
	if (r >= 0 && f->kind != VC_MIG_STATE) {
		free(f->payload);
		r = vc_fail(EPROTO, "migration: a frame of kind %u came where pages or the state were expected", f->kind);
	}
	return r;
}

/* ---- the handover ---- */

static int take_state(struct receiving *m, struct vc_mig_frame *f)
{
	struct vcore_snapshot *s;
	int r = decode(f, &s);

	if (r < 0)
		return r;
	r = vc_snapshot_become(m->vm, s, false);
	vcore_snapshot_unref(s);
	return r;
}

/* The last step: from here on the vm is ours, or was never. */
static int take_over(struct receiving *m, struct vc_mig_frame *f)
{
	int r = 0;

	m->arrives = vc_arrival_is_needed(m->arrival);
	/* states may be loaded from pages that are still to come */
	if (m->arrives)
		r = vc_arrival_start(m->arrival, &m->stream);
	if (r < 0) {
		free(f->payload);
		return r;
	}
	r = take_state(m, f);
	if (r >= 0 && m->arrives)
		return vc_arrival_take_over(m->arrival);
	if (r >= 0)
		r = vc_mig_send(&m->stream, VC_MIG_LOADED, 0, NULL, 0);
	return r < 0 ? r : vc_mig_expect(&m->stream, VC_MIG_GO);
}

static int take_vm(struct receiving *m)
{
	struct vc_mig_frame f;
	int r = take_hello(m);

	if (r >= 0)
		r = take_machine(m);
	if (r >= 0)
		r = take_memory(m, &f);
	return r < 0 ? r : take_over(m, &f);
}

/* How it ends, when all is held no longer. */
static int end_it(struct receiving *m, int r)
{
	/* the vm is ours: whether the source hears of it changes nothing any more, unless it has some of its memory */
	if (r >= 0 && !m->arrives)
		vc_mig_send(&m->stream, VC_MIG_RUNS_FRAME, 0, NULL, 0);
	if (r < 0)
		vc_mig_tell_failure(&m->stream);
	if (r < 0 || !m->arrives)
		vc_arrival_give_up(m->arrival);
	if (r < 0)
		vcore_vm_unref(m->vm);
	vc_mig_stream_close(&m->stream);
	return r;
}

int vcore_migrate_receive(const struct vcore_migrate_receive_options *options, vcore_vm **vm)
{
	struct receiving m = {.stream.fd = -1};
	int r;

	if (!vm)
		return vc_fail(EINVAL, "vcore_migrate_receive: a place for the vm is needed");
	*vm = NULL;
	if (vc_struct_in(&m.o, sizeof m.o, options) < 0)
		return vc_fail(EINVAL, "vcore_migrate_receive: options with their size set are needed");
	r = open_stream(&m);
	if (r >= 0)
		r = take_vm(&m);
	if (m.held)
		vc_still_end(&m.still);
	r = end_it(&m, r);
	*vm = r < 0 ? NULL : m.vm;
	return r < 0 ? r : 0;
}
