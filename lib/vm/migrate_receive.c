/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The destination of a migration. */
#include <stdlib.h>
#include <unistd.h>

#include "core/clock.h"
#include "memory/backing.h"
#include "vm/migrate_receive.h"
#include "vm/snapshot_codec.h"

/* ---- the machine ---- */

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

static int check_size(const struct vc_mig_receiving *m, const struct vcore_snapshot *s)
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

static int build(struct vc_mig_receiving *m, const struct vcore_snapshot *s)
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

static int receive_kind(struct vc_mig_receiving *m, enum vc_mig_kind kind, const char *what, struct vc_mig_frame *f)
{
	int r = vc_mig_receive(&m->inlet->stream, f);

	if (r >= 0 && f->kind != kind) {
		free(f->payload);
		r = vc_fail(EPROTO, "migration: a frame of kind %u came where %s expected", f->kind, what);
	}
	return r;
}

static int take_machine(struct vc_mig_receiving *m)
{
	struct vcore_snapshot *s;
	struct vc_mig_frame f;
	int r = receive_kind(m, VC_MIG_MACHINE, "the machine was", &f);

	if (r >= 0)
		r = decode(&f, &s);
	if (r < 0)
		return r;
	r = build(m, s);
	vcore_snapshot_unref(s);
	if (r >= 0 && m->features & VC_MIG_POSTCOPY)
		r = vc_arrival_new(m->vm, m->number, &m->arrival);
	return r;
}

/* ---- the handover ---- */

/* What is still to come, if anything is, up to the state. */
static int take_absent(struct vc_mig_receiving *m, struct vc_mig_frame *f)
{
	int r;

	while ((r = vc_mig_receive(&m->inlet->stream, f)) >= 0 && f->kind == VC_MIG_ABSENT && m->arrival) {
		r = vc_arrival_absent(m->arrival, f);
		free(f->payload);
		if (r < 0)
			return r;
	}
	if (r >= 0 && f->kind != VC_MIG_STATE) {
		free(f->payload);
		r = vc_fail(EPROTO, "migration: a frame of kind %u came where the state was expected", f->kind);
	}
	return r;
}

static int take_state(struct vc_mig_receiving *m, struct vc_mig_frame *f)
{
	struct vcore_snapshot *s;
	int r = decode(f, &s);

	if (r < 0)
		return r;
	r = vc_snapshot_become(m->vm, s, false);
	vcore_snapshot_unref(s);
	return r;
}

/* The rest of the memory comes later: states may be loaded from it already. */
static int take_over_early(struct vc_mig_receiving *m, struct vc_mig_frame *f)
{
	int r = vc_arrival_start(m->arrival, &m->inlet->stream);

	if (r < 0) {
		free(f->payload);
		return r;
	}
	r = take_state(m, f);
	return r < 0 ? r : vc_arrival_take_over(m->arrival);
}

static int take_over(struct vc_mig_receiving *m)
{
	struct vc_mig_frame f;
	int r = take_absent(m, &f);

	if (r < 0)
		return r;
	if (vc_arrival_is_needed(m->arrival))
		return take_over_early(m, &f);
	r = take_state(m, &f);
	if (r >= 0)
		r = vc_mig_send(&m->inlet->stream, VC_MIG_LOADED, 0, NULL, 0);
	return r < 0 ? r : vc_mig_expect(&m->inlet->stream, VC_MIG_GO);
}

static int take_vm(struct vc_mig_receiving *m)
{
	int r = vc_mig_accept(m);

	if (r >= 0)
		r = take_machine(m);
	if (r >= 0)
		r = vc_mig_take_memory(m);
	return r < 0 ? r : take_over(m);
}

static int check_options(const struct vcore_migrate_receive_options *options, struct vcore_migrate_receive_options *o)
{
	if (vc_struct_in(o, sizeof *o, options) < 0)
		return vc_fail(EINVAL, "vcore_migrate_receive: options with their size set are needed");
	if (!o->address && o->fd < 0)
		return vc_fail(EINVAL, "vcore_migrate_receive: neither an address nor a descriptor");
	if (o->more_fd_count >= VC_MIG_STREAMS || (o->more_fd_count && !o->more_fds))
		return vc_fail(EINVAL, "vcore_migrate_receive: %u more descriptors: expected at most %u", o->more_fd_count,
		               VC_MIG_STREAMS - 1);
	return 0;
}

static void close_all(struct vc_mig_receiving *m)
{
	for (uint32_t i = 0; i < VC_MIG_STREAMS; i++) {
		vc_mig_stream_close(&m->inlet[i].stream);
		free(m->inlet[i].unpacked);
	}
	vc_mig_accept_end(m);
}

static int receive_vm(struct vc_mig_receiving *m, struct vcore_vm **vm)
{
	int r = take_vm(m);

	if (m->held)
		vc_still_end(&m->still);
	if (r >= 0) {
		/* the vm is ours: whether the source hears of it changes nothing any more. An arrival has told it */
		if (!m->vm->arrival)
			vc_mig_send(&m->inlet->stream, VC_MIG_RUNS_FRAME, 0, NULL, 0);
		if (!m->vm->arrival)
			vc_arrival_give_up(m->arrival);
		*vm = m->vm;
	} else {
		/* before anything is closed: it is why */
		vc_mig_tell_failure(&m->inlet->stream);
		for (uint32_t i = 0; i < VC_MIG_STREAMS; i++)
			vc_mig_stream_shutdown(&m->inlet[i].stream);
		vc_arrival_give_up(m->arrival);
		vcore_vm_unref(m->vm);
	}
	close_all(m);
	return r < 0 ? r : 0;
}

int vcore_migrate_receive(const struct vcore_migrate_receive_options *options, vcore_vm **vm)
{
	struct vc_mig_receiving *m;
	int r;

	if (!vm)
		return vc_fail(EINVAL, "vcore_migrate_receive: a place for the vm is needed");
	*vm = NULL;
	m = calloc(1, sizeof *m);
	if (!m)
		return vc_fail(ENOMEM, "vcore_migrate_receive: no memory");
	m->listener = -1;
	for (uint32_t i = 0; i < VC_MIG_STREAMS; i++)
		m->inlet[i].stream.fd = -1;
	m->info = (struct vcore_migrate_info){.size = sizeof m->info, .state = VCORE_MIGRATE_SETUP};
	m->begun = m->told = vc_host_ns();
	r = check_options(options, &m->o);
	if (r >= 0)
		r = vc_mig_crew_init(&m->crew);
	if (r >= 0) {
		r = receive_vm(m, vm);
		vc_mig_crew_fini(&m->crew);
	}
	free(m);
	return r;
}
