/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/migrate_crew.h"

#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <virtcore/error.h>

#include "core/error.h"

int vc_mig_crew_init(struct vc_mig_crew *c)
{
	*c = (struct vc_mig_crew){.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .size = 1};
	if (c->stop_fd < 0)
		return vc_fail_errno(errno, "an eventfd for a migration");
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->met, NULL);
	return 0;
}

void vc_mig_crew_fini(struct vc_mig_crew *c)
{
	close(c->stop_fd);
	pthread_cond_destroy(&c->met);
	pthread_mutex_destroy(&c->lock);
}

void vc_mig_crew_fail(struct vc_mig_crew *c, int error)
{
	static const uint64_t one = 1;

	pthread_mutex_lock(&c->lock);
	if (!c->error || (error == -EREMOTEIO && c->error != -EREMOTEIO)) {
		c->error = error;
		snprintf(c->message, sizeof c->message, "%s", vcore_error_message());
		/* at most 1 so far: there is room for another one */
		if (write(c->stop_fd, &one, sizeof one) < 0)
			c->error = vc_fail_errno(errno, "an eventfd of a migration");
	}
	pthread_cond_broadcast(&c->met);
	pthread_mutex_unlock(&c->lock);
}

int vc_mig_crew_result(struct vc_mig_crew *c)
{
	int r;

	pthread_mutex_lock(&c->lock);
	r = c->error ? vc_fail(-c->error, "%s", c->message) : 0;
	pthread_mutex_unlock(&c->lock);
	return r;
}

/* Caller holds the lock. */
static int wait_for_all(struct vc_mig_crew *c)
{
	uint32_t meeting = c->meetings;

	if (++c->waiting == c->size) {
		c->waiting = 0;
		c->meetings++;
		pthread_cond_broadcast(&c->met);
	}
	while (c->meetings == meeting && !c->error)
		pthread_cond_wait(&c->met, &c->lock);
	return c->meetings == meeting ? vc_fail(ECANCELED, "migration: another connection has failed") : 0;
}

int vc_mig_crew_meet(struct vc_mig_crew *c, uint32_t subject)
{
	int r;

	pthread_mutex_lock(&c->lock);
	if (!c->waiting)
		c->subject = subject;
	if (c->error)
		r = vc_fail(ECANCELED, "migration: another connection has failed");
	else if (c->subject == subject)
		r = wait_for_all(c);
	else
		r = vc_fail(EPROTO, "migration: round %u on one connection, %u on another", subject, c->subject);
	pthread_mutex_unlock(&c->lock);
	return r;
}
