/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The life of a device that a vfio-user server serves. */
#include "passthrough/user_device.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/error.h"

/* ---- the connection, on the loop ---- */

void vc_user_device_tell(void *ctx)
{
	struct vc_user_device *d = ctx;
	const struct vc_physical_events *events;
	void *events_ctx;
	bool tell;

	pthread_mutex_lock(&d->events_lock);
	events = d->events;
	events_ctx = d->events_ctx;
	tell = events && d->gone && !d->told;
	d->told |= tell;
	d->telling = tell;
	pthread_mutex_unlock(&d->events_lock);
	if (!tell)
		return;
	events->gone(events_ctx, "the vfio-user server is gone");
	pthread_mutex_lock(&d->events_lock);
	d->telling = false;
	pthread_cond_broadcast(&d->told_cond);
	pthread_mutex_unlock(&d->events_lock);
}

static void on_gone(struct vc_user_device *d)
{
	vc_watch_free(d->watch);
	vc_watch_free(d->twin_watch);
	d->watch = d->twin_watch = NULL;
	vc_vfio_user_hang_up(&d->user);
	if (atomic_load(&d->closing))
		return;
	pthread_mutex_lock(&d->events_lock);
	d->gone = true;
	pthread_mutex_unlock(&d->events_lock);
	vc_user_device_tell(d);
}

static const uint32_t ended = EPOLLRDHUP | EPOLLHUP | EPOLLERR;

static void on_main(void *ctx, uint32_t events)
{
	struct vc_user_device *d = ctx;

	if (events & ended || vc_user_device_check(d, vc_vfio_user_serve(&d->user)) < 0)
		on_gone(d);
}

static void on_twin(void *ctx, uint32_t events)
{
	struct vc_user_device *d = ctx;

	if (events & ended || vc_user_device_check(d, vc_vfio_user_serve_twin(&d->user)) < 0)
		on_gone(d);
}

static int watch(struct vc_user_device *d)
{
	bool twin = d->user.twin.fd >= 0;
	int r;

	/* callbacks find both */
	vc_loop_hold(d->loop);
	/* with a twin socket only replies come on the main one, to those who wait for them */
	r = vc_watch_new(d->loop, d->user.main.fd, twin ? EPOLLRDHUP : EPOLLIN | EPOLLRDHUP, on_main, d, &d->watch);
	if (r >= 0 && twin)
		r = vc_watch_new(d->loop, d->user.twin.fd, EPOLLIN, on_twin, d, &d->twin_watch);
	vc_loop_release(d->loop);
	return r;
}

/* ---- making and taking away ---- */

static struct vc_user_device *new_device(const struct vc_log *log, const struct vc_user_settings *settings)
{
	struct vc_user_device *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	d->log = log;
	d->settings = *settings;
	d->settings.socket = strdup(settings->socket);
	d->physical = (struct vc_physical){.ops = &vc_user_physical_ops, .name = d->settings.socket};
	d->user.main.fd = -1;
	d->user.path = d->settings.socket;
	d->user.timeout_ms = (uint32_t)settings->timeout_ms;
	d->user.memory = &vc_user_device_memory;
	d->user.ctx = d;
	for (unsigned i = 0; i < VC_PHYSICAL_REGIONS; i++)
		d->regions[i].fd = -1;
	pthread_mutex_init(&d->irq_lock, NULL);
	pthread_mutex_init(&d->events_lock, NULL);
	pthread_cond_init(&d->told_cond, NULL);
	vc_vfio_user_maps_init(&d->maps);
	vc_clock_init(&d->clock);
	if (d->settings.socket && vc_loop_new(&d->clock, true, &d->loop) >= 0)
		return d;
	vc_user_device_free(d);
	return NULL;
}

int vc_user_device_new(const struct vc_log *log, const struct vc_user_settings *settings, int fd,
                       struct vc_user_device **out)
{
	struct vc_user_device *d = new_device(log, settings);
	int r;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return vc_fail(ENOMEM, "no memory for a vfio-user device");
	}
	r = fd >= 0 ? vc_vfio_user_begin(&d->user, fd) : vc_vfio_user_connect(&d->user);
	if (r >= 0)
		r = vc_user_device_open(d);
	if (r >= 0)
		r = watch(d);
	if (r < 0)
		vc_user_device_free(d);
	else
		*out = d;
	return r;
}

void vc_user_device_free(struct vc_user_device *d)
{
	/* a callback may wait for the server */
	atomic_store(&d->closing, true);
	if (d->user.main.fd >= 0)
		vc_vfio_user_hang_up(&d->user);
	if (d->loop) {
		vc_loop_hold(d->loop);
		vc_watch_free(d->twin_watch);
		vc_watch_free(d->watch);
		vc_loop_release(d->loop);
	}
	vc_loop_free(d->loop);
	if (d->user.main.fd >= 0)
		vc_vfio_user_close(&d->user);
	for (unsigned i = 0; i < VC_PHYSICAL_REGIONS; i++)
		if (d->regions[i].fd >= 0)
			close(d->regions[i].fd);
	for (unsigned i = 0; i < VC_USER_IRQS; i++)
		free(d->fds[i]);
	vc_vfio_user_maps_fini(&d->maps);
	pthread_cond_destroy(&d->told_cond);
	pthread_mutex_destroy(&d->events_lock);
	pthread_mutex_destroy(&d->irq_lock);
	free((char *)(uintptr_t)d->settings.socket);
	free(d);
}
