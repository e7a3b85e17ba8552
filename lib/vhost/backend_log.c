/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The log of pages that are written: for a front-end whose vm moves elsewhere. */
#include "core/util.h"
#include "vhost/backend.h"

static void written(void *ctx, struct vc_slot *slot, uint64_t gpa, uint64_t length)
{
	struct vcore_vhost_user *s = ctx;

	/* as vc_mem_wrote() has it: a log that is switched on now shows the page with the write */
	atomic_thread_fence(memory_order_seq_cst);
	if (vc_likely(!atomic_load_explicit(&s->logging, memory_order_relaxed)) || !s->pages_log.at)
		return;
	for (uint64_t page = gpa / VC_PAGE_SIZE; page <= (gpa + length - 1) / VC_PAGE_SIZE; page++)
		if (page / 8 < s->pages_log.length)
			atomic_fetch_or((_Atomic uint8_t *)&s->pages_log.at[page / 8], (uint8_t)(1u << page % 8));
}

const struct vc_mem_listener vc_vhost_backend_listener = {.written = written};

int vc_vhost_backend_set_log(struct vcore_vhost_user *s, int fd, uint64_t offset, uint64_t length)
{
	struct vc_vhost_shared log = {0};
	int r = fd < 0 ? 0 : vc_vhost_backend_share(s, fd, offset, length, "log", &log);

	if (r < 0 || (!log.at && !s->pages_log.at))
		return r;
	vc_virtio_hold(s->v, true);
	vc_vhost_backend_unshare(&s->pages_log);
	s->pages_log = log;
	vc_virtio_hold(s->v, false);
	return 0;
}
