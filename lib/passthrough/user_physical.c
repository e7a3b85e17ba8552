/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The operations of physical.h, as messages to the server. */
#include <virtcore/error.h>

#include "core/error.h"
#include "core/util.h"
#include "passthrough/user_device.h"

enum { UNKNOWN = -2 /* what the server has of a vector */ };

static struct vc_user_device *device_of(struct vc_physical *p)
{
	return VC_CONTAINER_OF(p, struct vc_user_device, physical);
}

int vc_user_device_check(struct vc_user_device *d, int r)
{
	/* a guest may ask as often as it likes for what is refused, or from a server that is gone */
	if (r < 0 && r != -EREMOTEIO && r != -ENOTCONN && !atomic_load(&d->closing))
		vc_log(d->log, VCORE_LOG_WARN, "%s", vcore_error_message());
	return r;
}

/* ---- regions ---- */

static int region_info(struct vc_physical *p, unsigned region, struct vc_physical_region *info)
{
	if (region >= VC_PHYSICAL_REGIONS)
		return vc_fail(EINVAL, "vfio-user %s: region %u: expected less than %d", p->name, region, VC_PHYSICAL_REGIONS);
	*info = device_of(p)->regions[region];
	return 0;
}

static int region_read(struct vc_physical *p, unsigned region, uint64_t offset, void *data, uint32_t length)
{
	struct vc_user_device *d = device_of(p);
	int r = vc_vfio_user_read(&d->user, region, offset, data, length);

	if (r < 0)
		memset(data, 0xff, length);
	return vc_user_device_check(d, r);
}

static int region_write(struct vc_physical *p, unsigned region, uint64_t offset, const void *data, uint32_t length)
{
	struct vc_user_device *d = device_of(p);

	return vc_user_device_check(d, vc_vfio_user_write(&d->user, region, offset, data, length));
}

/* ---- interrupts ---- */

static int check_irq(const struct vc_user_device *d, unsigned irq, uint32_t count)
{
	uint32_t most = irq < VC_USER_IRQS ? d->irq_counts[irq] : 0;

	return count <= most ? 0
	                     : vc_fail(EINVAL, "vfio-user %s: %u vectors of interrupt %u: expected at most %u",
	                               d->settings.socket, count, irq, most);
}

static int irq_count(struct vc_physical *p, unsigned irq, uint32_t *count)
{
	struct vc_user_device *d = device_of(p);

	*count = irq < VC_USER_IRQS ? d->irq_counts[irq] : 0;
	return 0;
}

/* From `start` on, what goes into one message: vectors that change, all with a descriptor or all without. */
static uint32_t run_of(const struct vc_user_device *d, unsigned irq, uint32_t start, uint32_t count, const int *fds)
{
	uint32_t length = 0;

	while (start + length < count && length < d->user.limits.fds && (fds[start + length] < 0) == (fds[start] < 0) &&
	       fds[start + length] != d->fds[irq][start + length])
		length++;
	return length;
}

/* Descriptors that have not changed are the same: they stay open until they are replaced. */
static int set_vectors(struct vc_user_device *d, unsigned irq, uint32_t count, const int *fds)
{
	int r = 0;

	for (uint32_t i = 0, run; r >= 0 && i < count; i += run ? run : 1) {
		run = run_of(d, irq, i, count, fds);
		if (!run)
			continue;
		r = vc_vfio_user_set_irqs(&d->user, irq, i, run, fds[i] < 0 ? NULL : fds + i);
		if (r >= 0)
			memcpy(d->fds[irq] + i, fds + i, run * sizeof fds[0]);
	}
	return r;
}

static int clear_vectors(struct vc_user_device *d, unsigned irq)
{
	int r = d->vectors[irq] ? vc_vfio_user_disable_irqs(&d->user, irq) : 0;

	for (uint32_t i = 0; i < d->vectors[irq]; i++)
		d->fds[irq][i] = -1;
	d->vectors[irq] = 0;
	return r;
}

/* Vectors beyond count lose theirs one by one: what is disabled as a whole loses interrupts meanwhile. */
static int change_vectors(struct vc_user_device *d, unsigned irq, uint32_t count, const int *fds)
{
	int r = 0;

	for (uint32_t i = count; r >= 0 && i < d->vectors[irq]; i++) {
		if (d->fds[irq][i] != -1)
			r = vc_vfio_user_set_irqs(&d->user, irq, i, 1, NULL);
		d->fds[irq][i] = -1;
	}
	/* some may have been set when others are refused */
	if (d->vectors[irq] < count)
		d->vectors[irq] = count;
	if (r >= 0)
		r = set_vectors(d, irq, count, fds);
	if (r >= 0)
		d->vectors[irq] = count;
	return r;
}

static int irq_set(struct vc_physical *p, unsigned irq, uint32_t count, const int *fds)
{
	struct vc_user_device *d = device_of(p);
	int r = check_irq(d, irq, count);

	if (r < 0)
		return r;
	pthread_mutex_lock(&d->irq_lock);
	r = count ? change_vectors(d, irq, count, fds) : clear_vectors(d, irq);
	for (uint32_t i = 0; r < 0 && i < d->irq_counts[irq]; i++)
		d->fds[irq][i] = UNKNOWN;
	pthread_mutex_unlock(&d->irq_lock);
	return vc_user_device_check(d, r);
}

/* Also where the server does not say that it masks: some raise the interrupt again only then. */
static int intx_unmask(struct vc_physical *p)
{
	struct vc_user_device *d = device_of(p);
	int r = vc_vfio_user_unmask_irq(&d->user, VC_PHYSICAL_INTX);

	return r == -EREMOTEIO ? 0 : vc_user_device_check(d, r);
}

/* ---- the rest ---- */

static int reset(struct vc_physical *p)
{
	struct vc_user_device *d = device_of(p);

	if (!d->can_reset)
		return vc_fail(ENOTSUP, "vfio-user %s: the server's device cannot be reset", d->settings.socket);
	return vc_user_device_check(d, vc_vfio_user_reset(&d->user));
}

/* What the guest can write, but cannot be shared: ROM and the like is read by messages. */
static int check_shared(const struct vc_user_device *d, const struct vc_physical_dma *dma)
{
	if (!d->settings.shares || dma->fd >= 0 || !(dma->flags & VC_PHYSICAL_WRITE))
		return 0;
	return vc_fail(
	    EINVAL,
	    "vfio-user %s: the memory at %#llx is private (its memory_kind is not memfd, or it is from a "
	    "snapshot), so that the server cannot map it: expected memory_kind memfd, or the property dma=messages",
	    d->settings.socket, (unsigned long long)dma->iova);
}

static int dma_map(struct vc_physical *p, const struct vc_physical_dma *dma)
{
	struct vc_user_device *d = device_of(p);
	bool shared = d->settings.shares && dma->fd >= 0 && d->user.limits.fds;
	struct vc_vfio_user_dma_map map = {
	    .argsz = sizeof map,
	    .flags = (dma->flags & VC_PHYSICAL_READ ? VC_VFIO_USER_DMA_READABLE : 0u) |
	             (dma->flags & VC_PHYSICAL_WRITE ? VC_VFIO_USER_DMA_WRITABLE : 0u),
	    .offset = shared ? dma->offset : 0,
	    .address = dma->iova,
	    .size = dma->length,
	};
	int r = check_shared(d, dma);

	if (r < 0)
		return r;
	/* before the server knows: it may ask at once */
	r = vc_vfio_user_maps_add(&d->maps, dma);
	if (r < 0)
		return r;
	r = vc_vfio_user_dma_map(&d->user, &map, shared ? dma->fd : -1);
	if (r < 0)
		vc_vfio_user_maps_remove(&d->maps, dma->iova, dma->length);
	return vc_user_device_check(d, r);
}

static int dma_unmap(struct vc_physical *p, uint64_t iova, uint64_t length)
{
	struct vc_user_device *d = device_of(p);

	if (!vc_vfio_user_maps_remove(&d->maps, iova, length))
		return vc_fail(ENOENT, "vfio-user %s: %#llx bytes at %#llx are not mapped", d->settings.socket,
		               (unsigned long long)length, (unsigned long long)iova);
	return vc_user_device_check(d, vc_vfio_user_dma_unmap(&d->user, iova, length));
}

static int read_memory(void *ctx, uint64_t address, void *data, uint64_t length)
{
	return vc_vfio_user_maps_read(&((struct vc_user_device *)ctx)->maps, address, data, length);
}

static int write_memory(void *ctx, uint64_t address, const void *data, uint64_t length)
{
	return vc_vfio_user_maps_write(&((struct vc_user_device *)ctx)->maps, address, data, length);
}

const struct vc_vfio_user_memory vc_user_device_memory = {read_memory, write_memory};

static void listen_to(struct vc_physical *p, const struct vc_physical_events *events, void *ctx)
{
	struct vc_user_device *d = device_of(p);

	pthread_mutex_lock(&d->events_lock);
	d->events = events;
	d->events_ctx = ctx;
	d->told = false;
	while (!events && d->telling && !vc_loop_is_self(d->loop))
		pthread_cond_wait(&d->told_cond, &d->events_lock);
	if (events && d->gone)
		vc_loop_post(d->loop, vc_user_device_tell, d);
	pthread_mutex_unlock(&d->events_lock);
}

static void destroy(struct vc_physical *p)
{
	vc_user_device_free(device_of(p));
}

const struct vc_physical_ops vc_user_physical_ops = {
    .region_info = region_info,
    .region_read = region_read,
    .region_write = region_write,
    .irq_count = irq_count,
    .irq_set = irq_set,
    .intx_unmask = intx_unmask,
    .reset = reset,
    .dma_map = dma_map,
    .dma_unmap = dma_unmap,
    .listen = listen_to,
    .destroy = destroy,
};
