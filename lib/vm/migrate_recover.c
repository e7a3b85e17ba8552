/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A post-copy migration that was interrupted is taken up again, over another connection. */
#include "vm/migrate_arrival.h"
#include "vm/migrate_sending.h"

/* ---- the source ---- */

/* The other side is that very vm's, and says what it waits for. */
static int shake_hands(struct vc_mig_sending *m, int cancel_fd)
{
	struct vc_mig_stream model = vc_mig_sending_model(m, cancel_fd), *stream = &m->channel->stream;
	int r;

	m->channels = 1;
	r = vc_mig_connect_again(&m->o, &model, m->number, stream);
	r = r < 0 ? vc_mig_peer_reason(stream, r) : vc_mig_follow_again(&m->follow);
	if (r < 0)
		return r;
	m->kept = VCORE_MIGRATE_NONE;
	stream->cancel_fd = -1;
	return 0;
}

static int send_again(struct vc_mig_sending *m, int cancel_fd)
{
	int r;

	m->info.state = VCORE_MIGRATE_RECOVERING;
	m->info.error[0] = '\0';
	vc_mig_sending_update(m);
	r = shake_hands(m, cancel_fd);
	if (r >= 0)
		r = vc_mig_sending_follow(m);
	if (r < 0) {
		vc_mig_sending_hang_up(m, r);
		return r;
	}
	vc_mig_sending_update(m);
	vc_mig_sending_end_vm(m);
	vc_still_end(&m->still);
	return 0;
}

static int recover_source(struct vc_mig_sending *m, const struct vcore_migrate_recover_options *o, int cancel_fd)
{
	int r = vc_mig_crew_init(&m->crew);

	if (r < 0) {
		vc_migrate_leave(m->vm, NULL, m);
		return r;
	}
	m->o = (struct vcore_migrate_options){.size = sizeof m->o,
	                                      .address = o->address,
	                                      .fd = o->fd,
	                                      .timeout_ms = o->timeout_ms,
	                                      .progress = o->progress,
	                                      .ctx = o->ctx};
	r = send_again(m, cancel_fd);
	vc_mig_sending_end(m, r);
	return r;
}

/* ---- both ---- */

static int check_options(struct vcore_vm *vm, const struct vcore_migrate_recover_options *options,
                         struct vcore_migrate_recover_options *o)
{
	if (!vm || vc_struct_in(o, sizeof *o, options) < 0)
		return vc_fail(EINVAL, "vcore_migrate_recover: a vm, and options with their size set, are needed");
	if (!o->address && o->fd < 0)
		return vc_fail(EINVAL, "vcore_migrate_recover: neither an address nor a descriptor");
	return o->flags || o->reserved ? vc_fail(EINVAL, "vcore_migrate_recover: flags are %#x, reserved is %u: expected 0",
	                                         o->flags, o->reserved)
	                               : 0;
}

int vcore_migrate_recover(vcore_vm *vm, const struct vcore_migrate_recover_options *options)
{
	struct vcore_migrate_recover_options o;
	struct vc_mig_sending *kept;
	int r = check_options(vm, options, &o), cancel_fd;

	if (r >= 0)
		r = vc_migrate_enter_again(vm, &kept, &cancel_fd);
	if (r < 0)
		return r;
	if (kept)
		return recover_source(kept, &o, cancel_fd);
	r = vm->arrival ? vc_arrival_recover(vm->arrival, &o, cancel_fd)
	                : vc_fail(ENOENT, "vcore_migrate_recover: the vm has no migration that was interrupted");
	vc_migrate_leave(vm, NULL, NULL);
	return r;
}
