/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/notice.h"

void vc_notice_init(struct vc_notice *notice, struct vc_loop *loop, vc_loop_fn deliver, void *owner)
{
	*notice = (struct vc_notice){.deliver = deliver, .owner = owner, .loop = loop};
	pthread_mutex_init(&notice->lock, NULL);
	pthread_cond_init(&notice->idle, NULL);
}

void vc_notice_fini(struct vc_notice *notice)
{
	pthread_cond_destroy(&notice->idle);
	pthread_mutex_destroy(&notice->lock);
}

void vc_notice_set(struct vc_notice *notice, vc_notice_fn fn, void *ctx)
{
	pthread_mutex_lock(&notice->lock);
	notice->fn = fn;
	notice->ctx = ctx;
	while (notice->running && !pthread_equal(notice->runner, pthread_self()))
		pthread_cond_wait(&notice->idle, &notice->lock);
	pthread_mutex_unlock(&notice->lock);
}

void vc_notice_raise(struct vc_notice *notice)
{
	pthread_mutex_lock(&notice->lock);
	/* without memory for it the next one tells of both */
	if (notice->fn && notice->loop && !notice->posted)
		notice->posted = vc_loop_post(notice->loop, notice->deliver, notice->owner) >= 0;
	pthread_mutex_unlock(&notice->lock);
}

bool vc_notice_begin(struct vc_notice *notice, vc_notice_fn *fn, void **ctx)
{
	pthread_mutex_lock(&notice->lock);
	notice->posted = false;
	*fn = notice->fn;
	*ctx = notice->ctx;
	notice->running = *fn != NULL;
	notice->runner = pthread_self();
	pthread_mutex_unlock(&notice->lock);
	return *fn != NULL;
}

void vc_notice_end(struct vc_notice *notice)
{
	pthread_mutex_lock(&notice->lock);
	notice->running = false;
	pthread_cond_broadcast(&notice->idle);
	pthread_mutex_unlock(&notice->lock);
}

void vc_notice_close(struct vc_notice *notice)
{
	struct vc_loop *loop;

	pthread_mutex_lock(&notice->lock);
	loop = notice->loop;
	notice->loop = NULL;
	pthread_mutex_unlock(&notice->lock);
	if (loop)
		vc_loop_cancel_post(loop, notice->deliver, notice->owner);
}
