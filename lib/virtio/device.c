/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The common half of virtio devices: status, features, queues, configuration. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/error.h"
#include "virtio/device_priv.h"

#define SIZE_DEFAULT 256u
#define STATUS_BITS                                                                                   \
	(VC_VIRTIO_S_ACKNOWLEDGE | VC_VIRTIO_S_DRIVER | VC_VIRTIO_S_DRIVER_OK | VC_VIRTIO_S_FEATURES_OK | \
	 VC_VIRTIO_S_FAILED)

/* ---- making and freeing ---- */

static int check_config(const struct vc_virtio_config *config)
{
	if (!config->queues || config->queues > VC_VIRTIO_QUEUES_MAX)
		return vc_fail(EINVAL, "%s: %u queues: expected 1 to %u", config->ops->type, config->queues,
		               VC_VIRTIO_QUEUES_MAX);
	for (uint32_t i = 0; config->sizes && i < config->queues; i++) {
		uint32_t size = config->sizes[i];

		if (!size || size > VC_VIRTQ_MAX_SIZE || (size & (size - 1)))
			return vc_fail(EINVAL, "%s: queue %u of size %u: expected a power of 2 up to %u", config->ops->type, i,
			               size, VC_VIRTQ_MAX_SIZE);
	}
	return 0;
}

static int make_workers(struct vc_virtio *v, bool threads)
{
	uint32_t count = threads ? v->queue_count : 1;

	v->workers = calloc(count, sizeof v->workers[0]);
	if (!v->workers)
		return vc_fail(ENOMEM, "no memory for a %s", v->ops->type);
	while (v->worker_count < count) {
		int r = vc_worker_init(&v->workers[v->worker_count], v, v->worker_count, threads ? 1 : v->queue_count, threads);

		if (r < 0)
			return r;
		v->worker_count++;
	}
	return 0;
}

/* Behind an IOMMU no area of a queue takes more than a page: drivers map areas page by page, and get such pages as they
 * come. */
static uint32_t largest_size(const struct vc_virtio *v, uint32_t size)
{
	bool translated = v->ring_features & VC_VIRTIO_F_ACCESS_PLATFORM;

	return translated && size > VC_IOMMU_PAGE / VC_DESC_BYTES ? VC_IOMMU_PAGE / VC_DESC_BYTES : size;
}

static int make_parts(struct vc_virtio *v, const struct vc_virtio_config *config)
{
	int r;

	v->queues = calloc(config->queues, sizeof v->queues[0]);
	if (!v->queues)
		return vc_fail(ENOMEM, "no memory for a %s", config->ops->type);
	for (; v->queue_count < config->queues; v->queue_count++) {
		uint32_t n = v->queue_count;

		vc_virtq_init(&v->queues[n], v, v->env->mem, n,
		              largest_size(v, config->sizes ? config->sizes[n] : SIZE_DEFAULT));
	}
	r = vc_served_init(v, config->served);
	return r < 0 ? r : make_workers(v, config->worker_threads);
}

int vc_virtio_new(struct vc_env *env, const struct vc_virtio_config *config, uint64_t ring_features,
                  const struct vc_virtio_transport *transport, struct vc_virtio **out)
{
	struct vc_virtio *v = NULL;
	int r = check_config(config);

	if (r >= 0 && !(v = calloc(1, sizeof *v)))
		r = vc_fail(ENOMEM, "no memory for a %s", config->ops->type);
	if (r < 0) {
		config->ops->destroy(config->ctx);
		return r;
	}
	v->env = env;
	v->ops = config->ops;
	v->ctx = config->ctx;
	v->transport = *transport;
	v->ring_features = ring_features | VC_VIRTIO_F_VERSION_1 | (v->ops->in_order ? VC_VIRTIO_F_IN_ORDER : 0);
	if (config->served)
		v->ring_features &= ~(VC_VIRTIO_F_RING_PACKED | VC_VIRTIO_F_IN_ORDER);
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->changed, NULL);
	r = make_parts(v, config);
	if (r < 0)
		vc_virtio_free(v);
	else
		*out = v;
	return r;
}

void vc_virtio_free(struct vc_virtio *v)
{
	vc_virtio_take_turn(v);
	vc_virtio_stop(v);
	vc_virtio_give_turn(v);
	/* the frontend's own threads may ask workers until then */
	v->ops->destroy(v->ctx);
	vc_served_fini(v);
	for (uint32_t i = 0; i < v->worker_count; i++)
		vc_worker_fini(&v->workers[i]);
	for (uint32_t i = 0; i < v->queue_count; i++)
		vc_virtq_fini(&v->queues[i]);
	free(v->workers);
	free(v->queues);
	pthread_cond_destroy(&v->changed);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

/* ---- starting and stopping ---- */

void vc_virtio_take_turn(struct vc_virtio *v)
{
	pthread_mutex_lock(&v->lock);
	while (v->turn)
		pthread_cond_wait(&v->changed, &v->lock);
	v->turn = true;
	pthread_mutex_unlock(&v->lock);
}

void vc_virtio_give_turn(struct vc_virtio *v)
{
	pthread_mutex_lock(&v->lock);
	v->turn = false;
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
}

void vc_virtio_start(struct vc_virtio *v)
{
	for (uint32_t i = 0; i < v->queue_count; i++)
		if (v->queues[i].setup.ready && vc_virtq_activate(&v->queues[i]) < 0)
			vc_virtio_broken(v, "queue %u: no memory for its chains", i);
	atomic_store(&v->started, true);
	if (v->ops->start)
		v->ops->start(v->ctx);
	for (uint32_t i = 0; i < v->worker_count; i++)
		vc_worker_start(&v->workers[i]);
	/* the driver may have rung before */
	for (uint32_t i = 0; i < v->queue_count; i++)
		if (v->queues[i].setup.ready)
			vc_virtio_kick(v, i);
}

void vc_virtio_stop(struct vc_virtio *v)
{
	if (!atomic_load(&v->started))
		return;
	for (uint32_t i = 0; i < v->worker_count; i++)
		vc_worker_stop(&v->workers[i]);
	if (v->ops->stop)
		v->ops->stop(v->ctx);
	vc_served_settle(v);
	for (uint32_t i = 0; i < v->queue_count; i++) {
		if (atomic_load(&v->queues[i].active) && vc_virtio_is_pausing(v))
			vc_virtq_flush(&v->queues[i]);
		vc_virtq_deactivate(&v->queues[i]);
	}
	atomic_store(&v->started, false);
}

bool vc_virtio_pause(struct vc_virtio *v)
{
	if (!atomic_load(&v->started))
		return false;
	atomic_store(&v->pausing, true);
	vc_virtio_stop(v);
	atomic_store(&v->pausing, false);
	return true;
}

void vc_virtio_hold(void *virtio, bool on)
{
	struct vc_virtio *v = virtio;

	vc_virtio_take_turn(v);
	if (on) {
		v->start_later = vc_virtio_pause(v);
	} else if (v->start_later) {
		v->start_later = false;
		vc_virtio_start(v);
	}
	v->held = on;
	vc_virtio_give_turn(v);
}

void vc_virtio_clear(struct vc_virtio *v)
{
	vc_virtio_stop(v);
	v->start_later = false;
	atomic_store(&v->status, 0);
	atomic_store(&v->features, 0);
	atomic_store(&v->driver_features, 0);
	atomic_store(&v->broken, false);
	for (uint32_t i = 0; i < v->queue_count; i++) {
		v->queues[i].setup = (struct vc_virtq_setup){.size = v->queues[i].size_max};
		vc_virtq_rewind(&v->queues[i]);
	}
	if (v->ops->reset)
		v->ops->reset(v->ctx);
}

/* ---- features and status ---- */

uint64_t vc_virtio_features(const struct vc_virtio *v)
{
	return atomic_load_explicit(&v->features, memory_order_relaxed);
}

uint64_t vc_virtio_device_features(const struct vc_virtio *v)
{
	return v->ring_features | (v->ops->features ? v->ops->features(v->ctx) : 0);
}

uint64_t vc_virtio_driver_features(const struct vc_virtio *v)
{
	return atomic_load(&v->driver_features);
}

void vc_virtio_set_driver_features(struct vc_virtio *v, uint64_t features)
{
	if (!(vc_virtio_status(v) & VC_VIRTIO_S_FEATURES_OK))
		atomic_store(&v->driver_features, features);
}

uint32_t vc_virtio_features_half(uint64_t features, uint32_t select)
{
	return select > 1 ? 0 : (uint32_t)(features >> (32 * select));
}

static uint64_t with_half(uint64_t old, bool high, uint32_t value)
{
	return high ? (old & UINT32_MAX) | (uint64_t)value << 32 : (old & ~(uint64_t)UINT32_MAX) | value;
}

void vc_virtio_set_driver_half(struct vc_virtio *v, uint32_t select, uint32_t value)
{
	if (select <= 1)
		vc_virtio_set_driver_features(v, with_half(vc_virtio_driver_features(v), select, value));
}

void vc_virtq_set_half(struct vc_virtq_setup *setup, unsigned which, bool high, uint32_t value)
{
	uint64_t *const addresses[] = {&setup->descriptors, &setup->driver, &setup->device};

	*addresses[which] = with_half(*addresses[which], high, value);
}

/* The driver is done with features: may they be so? */
static bool negotiate(struct vc_virtio *v)
{
	uint64_t features = atomic_load(&v->driver_features), extra = features & ~vc_virtio_device_features(v);

	if (v->ring_features & ~features & VC_VIRTIO_F_ACCESS_PLATFORM) {
		vc_log(v->env->log, VCORE_LOG_WARN,
		       "%s: the driver's features %#llx are refused: behind an IOMMU, expected ACCESS_PLATFORM", v->ops->type,
		       (unsigned long long)features);
		return false;
	}
	if (extra || !(features & VC_VIRTIO_F_VERSION_1 || v->transport.legacy)) {
		vc_log(v->env->log, VCORE_LOG_WARN,
		       "%s: the driver's features %#llx are refused: expected VERSION_1 and not %#llx", v->ops->type,
		       (unsigned long long)features, (unsigned long long)extra);
		return false;
	}
	atomic_store(&v->features, features);
	if (!v->ops->negotiated || v->ops->negotiated(v->ctx, features) >= 0)
		return true;
	atomic_store(&v->features, 0);
	return false;
}

uint8_t vc_virtio_status(const struct vc_virtio *v)
{
	return atomic_load(&v->status);
}

/* Bits that were not set before. Only a reset takes any away (2.1.1). */
static void add_status(struct vc_virtio *v, uint8_t new)
{
	if ((new &VC_VIRTIO_S_FEATURES_OK) && !negotiate(v))
		new &= (uint8_t)~VC_VIRTIO_S_FEATURES_OK;
	if ((new &VC_VIRTIO_S_DRIVER_OK) && !((vc_virtio_status(v) | new) & VC_VIRTIO_S_FEATURES_OK))
		new &= (uint8_t)~VC_VIRTIO_S_DRIVER_OK;
	atomic_fetch_or(&v->status, new);
	if ((new &VC_VIRTIO_S_DRIVER_OK) && !vc_virtio_is_broken(v))
		vc_virtio_start(v);
}

void vc_virtio_set_status(struct vc_virtio *v, uint8_t status)
{
	vc_virtio_take_turn(v);
	if (status)
		add_status(v, (uint8_t)(status & STATUS_BITS & ~vc_virtio_status(v)));
	else
		vc_virtio_clear(v);
	vc_virtio_give_turn(v);
}

void vc_virtio_broken(struct vc_virtio *v, const char *format, ...)
{
	char text[256];
	va_list args;

	if (atomic_exchange(&v->broken, true))
		return;
	atomic_fetch_or(&v->status, VC_VIRTIO_S_NEEDS_RESET);
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	vc_log(v->env->log, VCORE_LOG_WARN, "%s: the driver is broken: %s", v->ops->type, text);
	vc_virtio_config_changed(v);
}

/* ---- configuration ---- */

void vc_virtio_config_changed(struct vc_virtio *v)
{
	atomic_fetch_add(&v->generation, 1);
	if (vc_virtio_status(v) & VC_VIRTIO_S_DRIVER_OK)
		v->transport.config_interrupt(v->transport.ctx);
}

uint32_t vc_virtio_generation(const struct vc_virtio *v)
{
	return atomic_load(&v->generation);
}

/* How much of a range lies in the configuration space. */
static uint32_t config_part(const struct vc_virtio *v, uint32_t offset, uint32_t length)
{
	uint32_t size = v->ops->config_size;

	return offset >= size ? 0 : length < size - offset ? length : size - offset;
}

void vc_virtio_config_read(struct vc_virtio *v, uint32_t offset, void *data, uint32_t length)
{
	uint32_t part = config_part(v, offset, length);

	memset(data, 0, length);
	if (part && v->ops->config_read)
		v->ops->config_read(v->ctx, offset, data, part);
}

void vc_virtio_config_write(struct vc_virtio *v, uint32_t offset, const void *data, uint32_t length)
{
	uint32_t part = config_part(v, offset, length);

	if (part && v->ops->config_write)
		v->ops->config_write(v->ctx, offset, data, part);
}

/* ---- queues ---- */

const struct vc_virtio_ops *vc_virtio_ops(const struct vc_virtio *v)
{
	return v->ops;
}

uint32_t vc_virtio_queues(const struct vc_virtio *v)
{
	return v->queue_count;
}

uint32_t vc_virtq_size_max(const struct vc_virtio *v, unsigned n)
{
	return n < v->queue_count ? v->queues[n].size_max : 0;
}

struct vc_virtq *vc_virtio_queue(struct vc_virtio *v, unsigned n)
{
	return n < v->queue_count && atomic_load(&v->started) && atomic_load(&v->queues[n].active) ? &v->queues[n] : NULL;
}

void vc_virtq_get_setup(struct vc_virtio *v, unsigned n, struct vc_virtq_setup *setup)
{
	*setup = (struct vc_virtq_setup){0};
	if (n >= v->queue_count)
		return;
	vc_virtio_take_turn(v);
	*setup = v->queues[n].setup;
	vc_virtio_give_turn(v);
}

/* Back to what it was before the driver set it up; the others go on. */
static void reset_queue(struct vc_virtio *v, struct vc_virtq *q)
{
	bool was_started = vc_virtio_pause(v);

	q->setup = (struct vc_virtq_setup){.size = q->size_max};
	vc_virtq_rewind(q);
	if (was_started)
		vc_virtio_start(v);
}

static void set_setup(struct vc_virtio *v, struct vc_virtq *q, const struct vc_virtq_setup *setup)
{
	if (q->setup.ready) {
		if (!setup->ready)
			reset_queue(v, q);
		return;
	}
	q->setup = *setup;
	q->setup.ready = setup->ready && (vc_virtio_status(v) & VC_VIRTIO_S_FEATURES_OK) && vc_virtq_setup_valid(q, setup);
	if (q->setup.ready && q->inflight.at && vc_inflight_take_up(q) < 0)
		q->setup.ready = false;
	/* one that comes late, such as after RING_RESET */
	if (q->setup.ready && vc_virtio_pause(v))
		vc_virtio_start(v);
}

void vc_virtq_set_setup(struct vc_virtio *v, unsigned n, const struct vc_virtq_setup *setup)
{
	if (n >= v->queue_count)
		return;
	vc_virtio_take_turn(v);
	set_setup(v, &v->queues[n], setup);
	vc_virtio_give_turn(v);
}

void vc_virtq_reset(struct vc_virtio *v, unsigned n)
{
	if (n >= v->queue_count)
		return;
	vc_virtio_take_turn(v);
	reset_queue(v, &v->queues[n]);
	vc_virtio_give_turn(v);
}

enum { POSITION_WRAP = 1 << 15 };

void vc_virtq_set_position(struct vc_virtio *v, unsigned n, uint32_t position)
{
	struct vc_virtq *q = &v->queues[n];
	bool packed = vc_virtio_has(v, VC_VIRTIO_F_RING_PACKED);

	vc_virtio_take_turn(v);
	if (!q->setup.ready) {
		if (packed)
			q->avail_wrap = q->used_wrap = position & POSITION_WRAP;
		q->avail = q->seen = q->used = q->shown = (uint16_t)(packed ? position & (POSITION_WRAP - 1) : position);
	}
	vc_virtio_give_turn(v);
}

static uint32_t position_of(const struct vc_virtq *q, bool packed)
{
	uint32_t half = q->used | (packed && q->used_wrap ? POSITION_WRAP : 0u);

	return packed ? half | half << 16 : half;
}

uint32_t vc_virtq_take_position(struct vc_virtio *v, unsigned n)
{
	struct vc_virtq *q = &v->queues[n];
	bool was_started;
	uint32_t position;

	vc_virtio_take_turn(v);
	was_started = vc_virtio_pause(v);
	position = position_of(q, vc_virtio_has(v, VC_VIRTIO_F_RING_PACKED));
	q->setup = (struct vc_virtq_setup){.size = q->size_max};
	vc_virtq_rewind(q);
	if (was_started)
		vc_virtio_start(v);
	vc_virtio_give_turn(v);
	return position;
}

void vc_virtio_vm_reset(struct vc_virtio *v)
{
	if (!v->ops->vm_reset)
		return;
	vc_virtio_take_turn(v);
	v->ops->vm_reset(v->ctx);
	vc_virtio_give_turn(v);
}

void vc_virtio_wake(struct vc_virtio *v, unsigned n)
{
	vc_worker_ask(v->worker_count == 1 ? v->workers : &v->workers[n], n);
}

void vc_virtio_kick(struct vc_virtio *v, unsigned n)
{
	if (n >= v->queue_count || vc_virtio_is_broken(v))
		return;
	if (n < v->served_count)
		vc_served_ring(&v->served[n]);
	else
		vc_virtio_wake(v, n);
}

void vc_virtio_interrupt(struct vc_virtio *v, uint32_t n)
{
	v->transport.interrupt(v->transport.ctx, n);
}
