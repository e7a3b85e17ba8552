/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The descriptors of queues that the host's kernel serves, and where such queues are. */
#include "virtio/served.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <virtcore/error.h>

#include "bus/iommu.h"
#include "core/error.h"
#include "virtio/device_priv.h"

enum { RING_INDEX = 2 };

/* ---- interrupts ---- */

static bool take_call(const struct vc_served *s)
{
	uint64_t count;

	return read(s->call, &count, sizeof count) == sizeof count;
}

static void interrupt(struct vc_served *s)
{
	struct vc_virtio *v = s->v;

	atomic_fetch_add(&v->calls, 1);
	if (v->ops->called)
		v->ops->called(v->ctx);
	vc_virtio_interrupt(v, s->index);
}

static void on_call(void *ctx, uint32_t events)
{
	struct vc_served *s = ctx;

	if (take_call(s))
		interrupt(s);
}

void vc_served_settle(struct vc_virtio *v)
{
	for (uint32_t i = 0; i < v->served_count; i++)
		if (take_call(&v->served[i]) && vc_virtio_is_pausing(v))
			interrupt(&v->served[i]);
}

static int change_route(struct vc_served *s, bool add)
{
	const struct vc_env *env = s->v->env;
	struct vc_irq_route route = {.fd = s->call, .resample = -1, .gsi = -1, .address = s->address, .data = s->data};

	return env->irqfd(env->machine_ctx, &route, add);
}

/* With the lock: from the loop to the kernel, or back. */
static void set_route(struct vc_served *s, bool on, uint64_t address, uint32_t data)
{
	if (s->routed)
		change_route(s, false);
	s->address = address;
	s->data = data;
	/* a driver that has no message for now is called by the loop, and so is who is refused */
	s->routed = on && change_route(s, true) >= 0;
	vc_watch_set_events(s->watch, s->routed ? 0 : EPOLLIN);
}

static void route(struct vc_served *s)
{
	const struct vc_virtio_transport *t = &s->v->transport;
	uint64_t address = 0;
	uint32_t data = 0;
	bool on;

	pthread_mutex_lock(&s->lock);
	on = t->message(t->ctx, s->index, &address, &data);
	if (on != s->routed || (on && (address != s->address || data != s->data)))
		set_route(s, on, address, data);
	pthread_mutex_unlock(&s->lock);
}

void vc_virtio_route(struct vc_virtio *v)
{
	bool can = v->transport.message && v->env->irqfd;

	for (uint32_t i = 0; can && i < v->served_count; i++)
		route(&v->served[i]);
}

/* ---- descriptors ---- */

static int init(struct vc_served *s, struct vc_virtio *v, uint32_t index)
{
	*s = (struct vc_served){.v = v, .index = index};
	pthread_mutex_init(&s->lock, NULL);
	s->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->bell < 0 || s->call < 0)
		return vc_fail_errno(errno, "%s: eventfds of queue %u", v->ops->type, index);
	return vc_watch_new(v->env->loop, s->call, EPOLLIN, on_call, s, &s->watch);
}

int vc_served_init(struct vc_virtio *v, uint32_t count)
{
	int r = 0;

	if (!count)
		return 0;
	v->served = calloc(count, sizeof v->served[0]);
	if (!v->served)
		return vc_fail(ENOMEM, "no memory for a %s", v->ops->type);
	while (r >= 0 && v->served_count < count) {
		r = init(&v->served[v->served_count], v, v->served_count);
		v->served_count++;
	}
	return r;
}

void vc_served_fini(struct vc_virtio *v)
{
	for (uint32_t i = 0; i < v->served_count; i++) {
		struct vc_served *s = &v->served[i];

		if (s->routed)
			change_route(s, false);
		vc_watch_free(s->watch);
		if (s->bell >= 0)
			close(s->bell);
		if (s->call >= 0)
			close(s->call);
		pthread_mutex_destroy(&s->lock);
	}
	free(v->served);
}

void vc_served_ring(const struct vc_served *s)
{
	const uint64_t one = 1;

	/* fails only when the counter is full: signalled already */
	while (write(s->bell, &one, sizeof one) < 0 && errno == EINTR)
		;
}

/* ---- queues ---- */

/*
 * Chains that were in flight where the state was saved, and served by the library. Its devices that the kernel can
 * serve as well give chains back in the order in which they took them, so these are the last that it took.
 */
static void take_back(struct vc_virtq *q)
{
	for (const struct vc_replay *r = q->replay; r; r = r->next) {
		q->avail--;
		q->descs -= r->descs;
	}
	vc_replay_clear(q);
}

bool vc_served_get(struct vc_virtio *v, unsigned n, struct vc_served_queue *queue)
{
	struct vc_virtq *q = vc_virtio_queue(v, n);

	if (!q || n >= v->served_count)
		return false;
	take_back(q);
	*queue = (struct vc_served_queue){
	    .size = q->size,
	    .descriptors = q->setup.descriptors,
	    .driver = q->setup.driver,
	    .device = q->setup.device,
	    .base = q->avail,
	    .bell = v->served[n].bell,
	    .call = v->served[n].call,
	};
	return true;
}

void vc_served_set_base(struct vc_virtio *v, unsigned n, uint16_t base)
{
	struct vc_virtq *q = &v->queues[n];
	uint8_t used[2];

	q->avail = q->seen = base;
	q->used = base;
	/* all that it took it has given back; should it not have, its ring counts */
	if (vc_mem_read(q->mem, q->setup.device + RING_INDEX, used, sizeof used) >= 0)
		q->used = vc_ld16(used);
	q->shown = q->used;
	q->unshown = 0;
}

unsigned vc_served_statistics(const struct vc_virtio *v, struct vc_stat stats[VC_STATS_MAX])
{
	stats[0] = (struct vc_stat){"vhost", 1};
	stats[1] = (struct vc_stat){"calls", atomic_load(&v->calls)};
	return 2;
}

/* ---- properties ---- */

int vc_kernel_read_wish(struct vc_props *props, enum vc_kernel_wish *wish)
{
	const char *text = vc_props_string(props, "vhost", "off");
	bool on;

	*wish = VC_KERNEL_AUTO;
	if (!strcmp(text, "auto"))
		return 0;
	if (vc_props_bool(props, "vhost", false, &on) < 0)
		return vc_fail(EINVAL, "property vhost=%s: expected on, off or auto", text);
	*wish = on ? VC_KERNEL_ON : VC_KERNEL_OFF;
	return 0;
}

int vc_kernel_fall_back(const struct vc_env *env, const char *type, enum vc_kernel_wish wish, int r)
{
	if (wish != VC_KERNEL_AUTO)
		return r;
	vc_log(env->log, VCORE_LOG_INFO, "%s: vhost=auto: served by the library: %s", type, vcore_error_message());
	return 0;
}

int vc_kernel_check_rings(const struct vc_env *env, struct vc_props *props)
{
	bool packed, legacy = false;
	int r = vc_props_bool(props, "packed", false, &packed);

	if (env->pci && vc_pci_iommu(env->pci) && strcmp(vc_props_string(props, "transport", "pci"), "mmio"))
		r = vc_fail(ENOTSUP, "property vhost: the kernel's vhost knows nothing of the guest's IOMMU, and here is one");

	if (r >= 0)
		r = vc_props_bool(props, "legacy", false, &legacy);
	if (r >= 0 && legacy)
		r = vc_fail(ENOTSUP, "property legacy=on: the kernel's vhost serves drivers of virtio 1.0 and later alone");
	if (r >= 0 && packed)
		r = vc_fail(ENOTSUP, "property packed=on: the kernel's vhost serves split virtqueues alone");
	return r;
}
