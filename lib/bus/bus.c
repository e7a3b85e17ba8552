/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Regions, devices, dispatch. */
#include "bus/bus.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"

static const char *const bus_names[VC_BUS_COUNT] = {"port", "MMIO", "hypercall"};
/* Highest address of each bus. */
static const uint64_t bus_last[VC_BUS_COUNT] = {0xffff, (1ull << 52) - 1, UINT64_MAX};

int vc_buses_init(struct vc_buses *buses, struct vc_gate *gate)
{
	int r;

	*buses = (struct vc_buses){.gate = gate};
	r = pthread_mutex_init(&buses->lock, NULL);
	if (r)
		return vc_fail_errno(r, "bus: cannot make a lock");
	r = pthread_cond_init(&buses->idle, NULL);
	if (r) {
		pthread_mutex_destroy(&buses->lock);
		return vc_fail_errno(r, "bus: cannot make a condition");
	}
	return 0;
}

static void dev_free(struct vc_dev *dev)
{
	if (dev->ops.destroy)
		dev->ops.destroy(dev->ctx);
	free(dev);
}

void vc_buses_fini(struct vc_buses *buses)
{
	/* newest first: a device may use what was there before it */
	while (buses->devices) {
		struct vc_dev **p = &buses->devices;

		while ((*p)->next)
			p = &(*p)->next;
		dev_free(*p);
		*p = NULL;
	}
	for (uint32_t i = 0; i < buses->ioeventfd_count; i++)
		close(buses->ioeventfds[i].fd);
	free(buses->ioeventfds);
	for (int b = 0; b < VC_BUS_COUNT; b++)
		free(buses->map[b]);
	pthread_cond_destroy(&buses->idle);
	pthread_mutex_destroy(&buses->lock);
}

void vc_buses_reset(struct vc_buses *buses)
{
	struct vc_dev *next;

	/* the list only grows or shrinks through calls that must not run beside a reset */
	for (struct vc_dev *d = buses->devices; d; d = next) {
		next = d->next;
		if (d->ops.reset)
			d->ops.reset(d->ctx);
	}
}

/* ---- look-up ---- */

/* Index of the first region that ends at or above address. */
static uint32_t first_at(const struct vc_bus_map *map, uint64_t address)
{
	uint32_t low = 0, high = map ? map->count : 0;

	while (low < high) {
		uint32_t mid = (low + high) / 2;
		const struct vc_region *r = &map->regions[mid];

		if (r->start + (r->length - 1) < address)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static const struct vc_region *find(const struct vc_bus_map *map, uint64_t address)
{
	uint32_t i = first_at(map, address);

	return map && i < map->count && map->regions[i].start <= address ? &map->regions[i] : NULL;
}

/* ---- changing the maps ---- */

static int check_region(enum vcore_bus bus, uint64_t start, uint64_t length)
{
	if ((unsigned)bus >= VC_BUS_COUNT)
		return vc_fail(EINVAL, "bus %d is unknown: expected 0 to %d", bus, VC_BUS_COUNT - 1);
	if (!length)
		return vc_fail(EINVAL, "the %s region at %#llx is empty", bus_names[bus], (unsigned long long)start);
	if (start > bus_last[bus] || length - 1 > bus_last[bus] - start)
		return vc_fail(EINVAL, "%s region [%#llx, +%#llx): expected an end of at most %#llx", bus_names[bus],
		               (unsigned long long)start, (unsigned long long)length, (unsigned long long)bus_last[bus]);
	return 0;
}

static struct vc_bus_map *map_new(uint32_t count)
{
	struct vc_bus_map *map = malloc(sizeof *map + count * sizeof map->regions[0]);

	if (map)
		map->count = count;
	return map;
}

/* Put a new map in place. Inside the exclusive section; `lock` is held for those who look up without a pass. */
static void map_replace(struct vc_buses *buses, enum vcore_bus bus, struct vc_bus_map *map)
{
	free(buses->map[bus]);
	buses->map[bus] = map;
}

static int insert_region(struct vc_buses *buses, struct vc_dev *dev, enum vcore_bus bus, uint64_t start,
                         uint64_t length)
{
	const struct vc_bus_map *old = buses->map[bus];
	uint32_t count = old ? old->count : 0, at = first_at(old, start);
	struct vc_bus_map *map;

	if (at < count && old->regions[at].start <= start + (length - 1))
		return vc_fail(EEXIST, "%s region [%#llx, +%#llx) of device %s overlaps [%#llx, +%#llx) of device %s",
		               bus_names[bus], (unsigned long long)start, (unsigned long long)length, dev->type,
		               (unsigned long long)old->regions[at].start, (unsigned long long)old->regions[at].length,
		               old->regions[at].dev->type);
	map = map_new(count + 1);
	if (!map)
		return vc_fail(ENOMEM, "bus: no memory for a region");
	if (old) {
		memcpy(map->regions, old->regions, at * sizeof map->regions[0]);
		memcpy(map->regions + at + 1, old->regions + at, (count - at) * sizeof map->regions[0]);
	}
	map->regions[at] = (struct vc_region){.start = start, .length = length, .dev = dev};
	map_replace(buses, bus, map);
	return 0;
}

/* Everybody is kept out: vcpus by the gate, others by the lock. Lock order: gate first. */
static void change_begin(struct vc_buses *buses, struct vc_pass *self)
{
	vc_gate_begin(buses->gate, self);
	pthread_mutex_lock(&buses->lock);
}

static void change_end(struct vc_buses *buses, struct vc_pass *self)
{
	pthread_mutex_unlock(&buses->lock);
	vc_gate_end(buses->gate, self);
}

int vc_dev_add_region(struct vc_buses *buses, struct vc_pass *self, struct vc_dev *dev, enum vcore_bus bus,
                      uint64_t start, uint64_t length)
{
	int r = check_region(bus, start, length);

	if (r < 0)
		return r;
	change_begin(buses, self);
	r = insert_region(buses, dev, bus, start, length);
	change_end(buses, self);
	return r;
}

/* Take out the regions of dev on a bus, all or the one at *start. In place: nobody looks. Returns how many went. */
static uint32_t take_regions(struct vc_buses *buses, const struct vc_dev *dev, enum vcore_bus bus,
                             const uint64_t *start)
{
	struct vc_bus_map *map = buses->map[bus];
	uint32_t kept = 0, count = map ? map->count : 0;

	for (uint32_t i = 0; i < count; i++)
		if (map->regions[i].dev != dev || (start && map->regions[i].start != *start))
			map->regions[kept++] = map->regions[i];
	if (map)
		map->count = kept;
	return count - kept;
}

int vc_dev_remove_region(struct vc_buses *buses, struct vc_pass *self, struct vc_dev *dev, enum vcore_bus bus,
                         uint64_t start)
{
	uint32_t gone;

	change_begin(buses, self);
	gone = take_regions(buses, dev, bus, &start);
	change_end(buses, self);
	return gone ? 0
	            : vc_fail(ENOENT, "device %s has no %s region at %#llx", dev->type, bus_names[bus],
	                      (unsigned long long)start);
}

/* ---- devices ---- */

int vc_dev_add(struct vc_buses *buses, const char *type, const struct vcore_device_ops *ops, void *ctx,
               struct vc_dev **out)
{
	struct vc_dev *dev = calloc(1, sizeof *dev);
	struct vcore_device_ops copy;

	if (vc_struct_in(&copy, sizeof copy, ops) < 0) {
		free(dev);
		return vc_fail(EINVAL, "device %s: ops.size is not set", type);
	}
	if (!dev) {
		if (copy.destroy)
			copy.destroy(ctx);
		return vc_fail(ENOMEM, "no memory for device %s", type);
	}
	dev->ops = copy;
	dev->ctx = ctx;
	snprintf(dev->type, sizeof dev->type, "%s", type);
	pthread_mutex_lock(&buses->lock);
	for (struct vc_dev **p = &buses->devices;; p = &(*p)->next)
		if (!*p) {
			*p = dev;
			break;
		}
	pthread_mutex_unlock(&buses->lock);
	*out = dev;
	return 0;
}

/* Does a callback of dev run; mine: on this thread? Caller holds the lock. */
static bool visited(const struct vc_buses *buses, const struct vc_dev *dev, bool mine)
{
	for (const struct vc_visit *v = buses->visits; v; v = v->next)
		if (v->dev == dev && (!mine || pthread_equal(v->thread, pthread_self())))
			return true;
	return false;
}

static bool busy(struct vc_buses *buses, const struct vc_dev *dev, bool mine)
{
	return vc_gate_busy(buses->gate, dev, mine) || visited(buses, dev, mine);
}

int vc_dev_remove(struct vc_buses *buses, struct vc_pass *self, struct vc_dev *dev)
{
	pthread_mutex_lock(&buses->lock);
	if (busy(buses, dev, true)) {
		pthread_mutex_unlock(&buses->lock);
		return vc_fail(EDEADLK, "device %s cannot be removed from its own callback", dev->type);
	}
	pthread_mutex_unlock(&buses->lock);
	change_begin(buses, self);
	for (int b = 0; b < VC_BUS_COUNT; b++)
		take_regions(buses, dev, b, NULL);
	for (struct vc_dev **p = &buses->devices; *p; p = &(*p)->next)
		if (*p == dev) {
			*p = dev->next;
			break;
		}
	change_end(buses, self);
	/* nobody can find it any more; wait for those who had */
	atomic_fetch_add(&buses->waiting, 1);
	pthread_mutex_lock(&buses->lock);
	while (busy(buses, dev, false))
		pthread_cond_wait(&buses->idle, &buses->lock);
	pthread_mutex_unlock(&buses->lock);
	atomic_fetch_sub(&buses->waiting, 1);
	dev_free(dev);
	return 0;
}

/* ---- dispatch ---- */

static void call(struct vc_dev *dev, struct vcore_io *io)
{
	if (io->is_write) {
		if (dev->ops.write)
			dev->ops.write(dev->ctx, io);
	} else if (dev->ops.read) {
		dev->ops.read(dev->ctx, io);
		io->data &= vc_width_mask(io->width);
	} else {
		io->data = vc_width_mask(io->width);
	}
}

static void callback_ended(struct vc_buses *buses)
{
	if (vc_likely(!atomic_load(&buses->waiting)))
		return;
	pthread_mutex_lock(&buses->lock);
	pthread_cond_broadcast(&buses->idle);
	pthread_mutex_unlock(&buses->lock);
}

/* On a vcpu's thread, inside the gate: step out for the callback. */
static void visit_with_pass(struct vc_buses *buses, struct vc_pass *pass, struct vc_dev *dev, struct vcore_io *io)
{
	atomic_store_explicit(&pass->thread, pthread_self(), memory_order_relaxed);
	atomic_store_explicit(&pass->busy, dev, memory_order_relaxed);
	vc_gate_leave(pass); /* publishes busy */
	call(dev, io);
	atomic_store(&pass->busy, NULL);
	callback_ended(buses);
	vc_gate_enter(pass);
}

/* Any other thread; called with the lock held, gives it up. */
static void visit_without_pass(struct vc_buses *buses, struct vc_dev *dev, struct vcore_io *io)
{
	struct vc_visit visit = {.dev = dev, .thread = pthread_self(), .next = buses->visits};

	buses->visits = &visit;
	pthread_mutex_unlock(&buses->lock);
	call(dev, io);
	pthread_mutex_lock(&buses->lock);
	for (struct vc_visit **p = &buses->visits; *p; p = &(*p)->next)
		if (*p == &visit) {
			*p = visit.next;
			break;
		}
	pthread_cond_broadcast(&buses->idle);
	pthread_mutex_unlock(&buses->lock);
}

static bool match_ioeventfd(const struct vc_buses *buses, const struct vcore_io *io)
{
	const uint64_t one = 1;

	for (uint32_t i = 0; i < buses->ioeventfd_count; i++) {
		const struct vc_ioeventfd *e = &buses->ioeventfds[i];

		if (e->bus != io->bus || e->address != io->address || (e->width && e->width != io->width) ||
		    (e->has_match && e->match != (io->data & vc_width_mask(io->width))))
			continue;
		/* a full counter is signalled already */
		return write(e->fd, &one, sizeof one) == sizeof one || errno == EAGAIN;
	}
	return false;
}

static bool dispatch_bytes(struct vc_buses *buses, struct vc_pass *pass, struct vcore_io *io)
{
	uint64_t data = io->data, result = 0;
	bool taken = false;

	for (unsigned i = 0; i < io->width; i++) {
		struct vcore_io byte = *io;

		byte.address = io->address + i;
		byte.width = 1;
		byte.data = data >> (8 * i) & 0xff;
		if (vc_bus_dispatch(buses, pass, &byte))
			taken = true;
		else
			byte.data = 0xff;
		result |= (byte.data & 0xff) << (8 * i);
	}
	if (!io->is_write)
		io->data = result;
	return taken;
}

bool vc_bus_dispatch(struct vc_buses *buses, struct vc_pass *pass, struct vcore_io *io)
{
	const struct vc_region *r;
	uint64_t left;

	if (!pass)
		pthread_mutex_lock(&buses->lock);
	if (vc_unlikely(buses->ioeventfd_count) && io->is_write && match_ioeventfd(buses, io)) {
		if (!pass)
			pthread_mutex_unlock(&buses->lock);
		return true;
	}
	r = find(buses->map[io->bus], io->address);
	left = r ? r->length - (io->address - r->start) : 0;
	if (vc_unlikely(!r || (left < io->width && io->bus != VCORE_BUS_HYPERCALL))) {
		bool next = false; /* a device that begins in the middle of the access */

		if (!r && io->width > 1 && io->bus != VCORE_BUS_HYPERCALL) {
			uint32_t i = first_at(buses->map[io->bus], io->address);

			next = buses->map[io->bus] && i < buses->map[io->bus]->count &&
			       buses->map[io->bus]->regions[i].start - io->address < io->width;
		}
		if (!pass)
			pthread_mutex_unlock(&buses->lock);
		return (r || next) && dispatch_bytes(buses, pass, io);
	}
	io->size = sizeof *io;
	io->offset = io->address - r->start;
	atomic_fetch_add_explicit(&buses->accesses[io->bus], 1, memory_order_relaxed);
	if (pass)
		visit_with_pass(buses, pass, r->dev, io);
	else
		visit_without_pass(buses, r->dev, io);
	return true;
}

/* ---- ioeventfd ---- */

static bool same_ioeventfd(const struct vc_ioeventfd *a, const struct vc_ioeventfd *b)
{
	return a->bus == b->bus && a->address == b->address && a->width == b->width && a->has_match == b->has_match &&
	       (!a->has_match || a->match == b->match);
}

/* Caller has everybody kept out. */
static int ioeventfd_insert(struct vc_buses *buses, const struct vc_ioeventfd *e)
{
	struct vc_ioeventfd *grown;

	for (uint32_t i = 0; i < buses->ioeventfd_count; i++)
		if (same_ioeventfd(&buses->ioeventfds[i], e))
			return vc_fail(EEXIST, "ioeventfd: %s %#llx has one already", bus_names[e->bus],
			               (unsigned long long)e->address);
	grown = realloc(buses->ioeventfds, (buses->ioeventfd_count + 1) * sizeof *grown);
	if (!grown)
		return vc_fail(ENOMEM, "ioeventfd: no memory");
	grown[buses->ioeventfd_count++] = *e;
	buses->ioeventfds = grown;
	return 0;
}

int vc_ioeventfd_add(struct vc_buses *buses, struct vc_pass *self, const struct vc_ioeventfd *e)
{
	struct vc_ioeventfd copy = *e;
	int r;

	copy.fd = fcntl(e->fd, F_DUPFD_CLOEXEC, 0);
	if (copy.fd < 0)
		return vc_fail_errno(errno, "ioeventfd: descriptor %d", e->fd);
	change_begin(buses, self);
	r = ioeventfd_insert(buses, &copy);
	change_end(buses, self);
	if (r < 0)
		close(copy.fd);
	return r;
}

int vc_ioeventfd_remove(struct vc_buses *buses, struct vc_pass *self, const struct vc_ioeventfd *e)
{
	int fd = -1;

	change_begin(buses, self);
	for (uint32_t i = 0; fd < 0 && i < buses->ioeventfd_count; i++)
		if (same_ioeventfd(&buses->ioeventfds[i], e)) {
			fd = buses->ioeventfds[i].fd;
			buses->ioeventfds[i] = buses->ioeventfds[--buses->ioeventfd_count];
		}
	change_end(buses, self);
	if (fd < 0)
		return vc_fail(ENOENT, "ioeventfd: %s %#llx has none such", bus_names[e->bus], (unsigned long long)e->address);
	close(fd);
	return 0;
}
