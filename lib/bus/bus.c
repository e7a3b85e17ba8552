/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Regions, devices, dispatch. */
#include "bus/bus.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"

_Static_assert(VC_BUS_COUNT == VC_GATE_COUNTS, "a pass counts the accesses to each bus");
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

static int fail_bus(unsigned bus)
{
	return vc_fail(EINVAL, "bus %u is unknown: expected 0 to %d", bus, VC_BUS_COUNT - 1);
}

static int check_region(enum vcore_bus bus, uint64_t start, uint64_t length)
{
	if ((unsigned)bus >= VC_BUS_COUNT)
		return fail_bus(bus);
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
	if (dev->removing)
		r = vc_fail(ENODEV, "device %s is being removed", dev->type);
	else
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

	if ((unsigned)bus >= VC_BUS_COUNT)
		return fail_bus(bus);
	change_begin(buses, self);
	gone = take_regions(buses, dev, bus, &start);
	change_end(buses, self);
	return gone ? 0
	            : vc_fail(ENOENT, "device %s has no %s region at %#llx", dev->type, bus_names[bus],
	                      (unsigned long long)start);
}

/* ---- devices ---- */

static void append_dev(struct vc_buses *buses, struct vc_dev *dev)
{
	struct vc_dev **end = &buses->devices;

	pthread_mutex_lock(&buses->lock);
	while (*end)
		end = &(*end)->next;
	*end = dev;
	dev->id = ++buses->last_id;
	pthread_mutex_unlock(&buses->lock);
}

int vc_dev_add(struct vc_buses *buses, const char *type, const struct vcore_device_ops *ops, void *ctx,
               struct vc_dev **out)
{
	struct vcore_device_ops copy;
	struct vc_dev *dev;

	if (vc_struct_in(&copy, sizeof copy, ops) < 0)
		return vc_fail(EINVAL, "device %s: ops.size is not set", type);
	dev = calloc(1, sizeof *dev);
	if (!dev) {
		if (copy.destroy)
			copy.destroy(ctx);
		return vc_fail(ENOMEM, "no memory for device %s", type);
	}
	dev->ops = copy;
	dev->ctx = ctx;
	snprintf(dev->type, sizeof dev->type, "%s", type);
	append_dev(buses, dev);
	if (out)
		*out = dev;
	return 0;
}

/* A thread without a pass goes into a callback of dev, and comes back. Caller holds the lock. */
static void visit_begin(struct vc_buses *buses, struct vc_visit *visit, struct vc_dev *dev)
{
	*visit = (struct vc_visit){.dev = dev, .thread = pthread_self(), .next = buses->visits};
	buses->visits = visit;
}

static void visit_end(struct vc_buses *buses, struct vc_visit *visit)
{
	struct vc_visit **p = &buses->visits;

	while (*p != visit)
		p = &(*p)->next;
	*p = visit->next;
	pthread_cond_broadcast(&buses->idle);
}

bool vc_dev_visit(struct vc_buses *buses, struct vc_visit *visit, struct vc_dev *dev)
{
	bool stays;

	pthread_mutex_lock(&buses->lock);
	stays = !dev->removing;
	if (stays)
		visit_begin(buses, visit, dev);
	pthread_mutex_unlock(&buses->lock);
	return stays;
}

struct vc_dev *vc_dev_visit_from(struct vc_buses *buses, struct vc_visit *visit, uint32_t id)
{
	struct vc_dev *dev;

	pthread_mutex_lock(&buses->lock);
	for (dev = buses->devices; dev && (dev->id < id || dev->removing);)
		dev = dev->next;
	if (dev)
		visit_begin(buses, visit, dev);
	pthread_mutex_unlock(&buses->lock);
	return dev;
}

bool vc_dev_visit_type(struct vc_buses *buses, struct vc_visit *visit, uint32_t id, const char *type)
{
	struct vc_dev *dev;

	pthread_mutex_lock(&buses->lock);
	for (dev = buses->devices; dev; dev = dev->next)
		if ((!id || dev->id == id) && !dev->removing && dev->frontend && !strcmp(dev->type, type))
			break;
	if (dev)
		visit_begin(buses, visit, dev);
	pthread_mutex_unlock(&buses->lock);
	return dev != NULL;
}

void vc_dev_leave(struct vc_buses *buses, struct vc_visit *visit)
{
	pthread_mutex_lock(&buses->lock);
	visit_end(buses, visit);
	pthread_mutex_unlock(&buses->lock);
}

/* Does a callback of dev run; mine: on this thread? Caller holds the lock. */
static bool busy(struct vc_buses *buses, const struct vc_dev *dev, bool mine)
{
	for (const struct vc_visit *v = buses->visits; v; v = v->next)
		if (v->dev == dev && (!mine || pthread_equal(v->thread, pthread_self())))
			return true;
	return vc_gate_busy(buses->gate, dev, mine);
}

/*
 * Take dev away, which is marked as being removed. It stays in the list as long as it is visited, so that a visitor may
 * go on to the next. The caller is outside the gate: while it waits here, somebody else may need an exclusive section.
 */
static void take_away(struct vc_buses *buses, struct vc_dev *dev)
{
	struct vc_dev **p = &buses->devices;

	change_begin(buses, NULL);
	for (int b = 0; b < VC_BUS_COUNT; b++)
		take_regions(buses, dev, b, NULL);
	change_end(buses, NULL);
	/* nobody can find it any more; wait for those who had */
	atomic_fetch_add(&buses->waiting, 1);
	vc_gate_fence(buses->gate);
	pthread_mutex_lock(&buses->lock);
	while (busy(buses, dev, false))
		pthread_cond_wait(&buses->idle, &buses->lock);
	while (*p != dev)
		p = &(*p)->next;
	*p = dev->next;
	pthread_mutex_unlock(&buses->lock);
	atomic_fetch_sub(&buses->waiting, 1);
	if (dev->ops.destroy)
		dev->ops.destroy(dev->ctx);
	free(dev->properties);
	free(dev);
}

int vc_dev_remove(struct vc_buses *buses, struct vc_pass *self, struct vc_dev *dev)
{
	bool inside = self && atomic_load(&self->inside);
	bool mine, again;

	if (inside)
		vc_gate_leave(self);
	pthread_mutex_lock(&buses->lock);
	mine = busy(buses, dev, true);
	again = dev->removing;
	dev->removing = again || !mine;
	pthread_mutex_unlock(&buses->lock);
	if (!mine && !again)
		take_away(buses, dev);
	if (inside)
		vc_gate_enter(self);
	if (mine)
		return vc_fail(EDEADLK, "device %s cannot be removed from its own callback", dev->type);
	return again ? vc_fail(EALREADY, "the device is being removed already") : 0;
}

void vc_buses_reset(struct vc_buses *buses)
{
	struct vc_visit visit;

	pthread_mutex_lock(&buses->lock);
	for (struct vc_dev *dev = buses->devices; dev; dev = dev->next) {
		if (!dev->ops.reset || dev->removing)
			continue;
		visit_begin(buses, &visit, dev);
		pthread_mutex_unlock(&buses->lock);
		dev->ops.reset(dev->ctx);
		pthread_mutex_lock(&buses->lock);
		visit_end(buses, &visit);
	}
	pthread_mutex_unlock(&buses->lock);
}

static struct vc_dev *newest(struct vc_buses *buses)
{
	struct vc_dev *dev;

	pthread_mutex_lock(&buses->lock);
	dev = buses->devices;
	while (dev && dev->next)
		dev = dev->next;
	if (dev)
		dev->removing = true;
	pthread_mutex_unlock(&buses->lock);
	return dev;
}

void vc_buses_fini(struct vc_buses *buses)
{
	struct vc_dev *dev;

	/* newest first: a device may use, and remove, what was there before it */
	while ((dev = newest(buses)))
		take_away(buses, dev);
	for (uint32_t i = 0; i < buses->ioeventfd_count; i++)
		close(buses->ioeventfds[i].fd);
	free(buses->ioeventfds);
	for (int b = 0; b < VC_BUS_COUNT; b++)
		free(buses->map[b]);
	pthread_cond_destroy(&buses->idle);
	pthread_mutex_destroy(&buses->lock);
}

/* ---- dispatch ---- */

static void call(struct vc_dev *dev, struct vcore_io *io)
{
	uint64_t mask = vc_width_mask(io->width);

	if (io->is_write || io->bus == VCORE_BUS_HYPERCALL) {
		if (dev->ops.write)
			dev->ops.write(dev->ctx, io);
		return;
	}
	io->data = mask;
	if (dev->ops.read)
		dev->ops.read(dev->ctx, io);
	io->data &= mask;
}

/* Somebody waits for a device: have him look again. He may need the gate, so we are outside while we wait for the lock.
 */
static void wake_removers(struct vc_buses *buses, struct vc_pass *pass)
{
	vc_gate_leave(pass);
	pthread_mutex_lock(&buses->lock);
	pthread_cond_broadcast(&buses->idle);
	pthread_mutex_unlock(&buses->lock);
	vc_gate_enter(pass);
}

/*
 * On a vcpu's thread, inside the gate: step out for the callback. Leaving publishes busy to whoever takes the device
 * away; busy is cleared before we look for removers, who in turn count themselves, have a fence made everywhere, and
 * then look at busy.
 */
static void call_with_pass(struct vc_buses *buses, struct vc_pass *pass, struct vc_dev *dev, struct vcore_io *io)
{
	atomic_store_explicit(&pass->thread, pthread_self(), memory_order_relaxed);
	atomic_store_explicit(&pass->busy, dev, memory_order_release);
	vc_count(&pass->counts[io->bus]);
	vc_gate_leave(pass);
	call(dev, io);
	atomic_store_explicit(&pass->busy, NULL, memory_order_release);
	vc_gate_enter(pass);
	if (vc_unlikely(atomic_load(&buses->waiting)))
		wake_removers(buses, pass);
}

/* Any other thread; called with the lock held, gives it up. */
static void call_without_pass(struct vc_buses *buses, struct vc_dev *dev, struct vcore_io *io)
{
	struct vc_visit visit;

	atomic_fetch_add_explicit(&buses->accesses[io->bus], 1, memory_order_relaxed);
	visit_begin(buses, &visit, dev);
	pthread_mutex_unlock(&buses->lock);
	call(dev, io);
	pthread_mutex_lock(&buses->lock);
	visit_end(buses, &visit);
	pthread_mutex_unlock(&buses->lock);
}

/* Order of the ioeventfds. */
static bool before(const struct vc_ioeventfd *e, uint32_t bus, uint64_t address)
{
	return e->bus != bus ? e->bus < bus : e->address < address;
}

/* Index of the first ioeventfd at or behind an address. */
static uint32_t first_ioeventfd(const struct vc_buses *buses, uint32_t bus, uint64_t address)
{
	uint32_t low = 0, high = buses->ioeventfd_count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (before(&buses->ioeventfds[mid], bus, address))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool match_ioeventfd(const struct vc_buses *buses, const struct vcore_io *io)
{
	const uint64_t one = 1, data = io->data & vc_width_mask(io->width);

	for (uint32_t i = first_ioeventfd(buses, io->bus, io->address); i < buses->ioeventfd_count; i++) {
		const struct vc_ioeventfd *e = &buses->ioeventfds[i];

		if (e->bus != io->bus || e->address != io->address)
			break;
		if ((e->width && e->width != io->width) || (e->has_match && e->match != data))
			continue;
		/* fails only when the counter is full: signalled already */
		while (write(e->fd, &one, sizeof one) < 0 && errno == EINTR)
			;
		return true;
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

/* Does a device answer at any of the bytes? */
static bool anybody_at(const struct vc_bus_map *map, uint64_t address, uint32_t width)
{
	uint32_t i = first_at(map, address);

	return map && i < map->count && (map->regions[i].start <= address || map->regions[i].start - address < width);
}

/* An access that is not in one region. With the lock, which is given up, if there is no pass. */
static __attribute__((noinline)) bool dispatch_odd(struct vc_buses *buses, struct vc_pass *pass, struct vcore_io *io,
                                                   uint32_t width)
{
	bool split = anybody_at(buses->map[io->bus], io->address, width);

	if (!pass)
		pthread_mutex_unlock(&buses->lock);
	return split && dispatch_bytes(buses, pass, io);
}

bool vc_bus_dispatch(struct vc_buses *buses, struct vc_pass *pass, struct vcore_io *io)
{
	uint32_t width = io->bus == VCORE_BUS_HYPERCALL ? 1 : io->width; /* a number has no width */
	const struct vc_region *r;

	if (!pass)
		pthread_mutex_lock(&buses->lock);
	if (vc_unlikely(buses->ioeventfd_count) && io->is_write && match_ioeventfd(buses, io)) {
		if (!pass)
			pthread_mutex_unlock(&buses->lock);
		return true;
	}
	r = find(buses->map[io->bus], io->address);
	if (vc_likely(r && r->length - (io->address - r->start) >= width)) {
		io->size = sizeof *io;
		io->offset = io->address - r->start;
		if (pass)
			call_with_pass(buses, pass, r->dev, io);
		else
			call_without_pass(buses, r->dev, io);
		return true;
	}
	return dispatch_odd(buses, pass, io, width);
}

uint64_t vc_buses_accesses(struct vc_buses *buses, enum vcore_bus bus)
{
	return vc_gate_counted(buses->gate, bus) + atomic_load_explicit(&buses->accesses[bus], memory_order_relaxed);
}

/* ---- ioeventfd ---- */

static int check_ioeventfd(const struct vc_ioeventfd *e)
{
	if (e->bus != VCORE_BUS_PIO && e->bus != VCORE_BUS_MMIO)
		return vc_fail(EINVAL, "ioeventfd: bus %u: expected ports or MMIO", e->bus);
	if (e->width != 0 && e->width != 1 && e->width != 2 && e->width != 4 && (e->width != 8 || e->bus == VCORE_BUS_PIO))
		return vc_fail(EINVAL, "ioeventfd: width %u: expected 0, 1, 2, 4 or, for MMIO, 8", e->width);
	if (e->address > bus_last[e->bus] || (e->width && e->width - 1 > bus_last[e->bus] - e->address))
		return vc_fail(EINVAL, "ioeventfd: %s %#llx: expected at most %#llx", bus_names[e->bus],
		               (unsigned long long)e->address, (unsigned long long)bus_last[e->bus]);
	if (e->has_match && e->width && (e->match & ~vc_width_mask(e->width)))
		return vc_fail(EINVAL, "ioeventfd: value %#llx does not fit into %u bytes", (unsigned long long)e->match,
		               e->width);
	return 0;
}

static bool same_ioeventfd(const struct vc_ioeventfd *a, const struct vc_ioeventfd *b)
{
	return a->bus == b->bus && a->address == b->address && a->width == b->width && a->has_match == b->has_match &&
	       (!a->has_match || a->match == b->match);
}

/* Could one write signal both? Such pairs are refused, as KVM does. */
static bool collide(const struct vc_ioeventfd *a, const struct vc_ioeventfd *b)
{
	return a->bus == b->bus && a->address == b->address && (!a->width || !b->width || a->width == b->width) &&
	       (!a->has_match || !b->has_match || a->match == b->match);
}

/* Caller has everybody kept out. */
static int ioeventfd_insert(struct vc_buses *buses, const struct vc_ioeventfd *e)
{
	uint32_t at = first_ioeventfd(buses, e->bus, e->address);
	struct vc_ioeventfd *grown;

	for (uint32_t i = at; i < buses->ioeventfd_count && buses->ioeventfds[i].address == e->address; i++)
		if (collide(&buses->ioeventfds[i], e))
			return vc_fail(EEXIST, "ioeventfd: %s %#llx has one for the same writes", bus_names[e->bus],
			               (unsigned long long)e->address);
	grown = realloc(buses->ioeventfds, (buses->ioeventfd_count + 1u) * sizeof *grown);
	if (!grown)
		return vc_fail(ENOMEM, "ioeventfd: no memory");
	memmove(grown + at + 1, grown + at, (buses->ioeventfd_count - at) * sizeof *grown);
	grown[at] = *e;
	buses->ioeventfds = grown;
	buses->ioeventfd_count++;
	return 0;
}

int vc_ioeventfd_add(struct vc_buses *buses, struct vc_pass *self, const struct vc_ioeventfd *e)
{
	struct vc_ioeventfd copy = *e;
	int r = check_ioeventfd(e);

	if (r < 0)
		return r;
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

/* Caller has everybody kept out. Returns the descriptor, or -1. */
static int ioeventfd_take(struct vc_buses *buses, const struct vc_ioeventfd *e)
{
	for (uint32_t i = first_ioeventfd(buses, e->bus, e->address); i < buses->ioeventfd_count; i++) {
		struct vc_ioeventfd *k = &buses->ioeventfds[i];
		int fd = k->fd;

		if (!same_ioeventfd(k, e))
			continue;
		buses->ioeventfd_count--;
		memmove(k, k + 1, (buses->ioeventfd_count - i) * sizeof *k);
		return fd;
	}
	return -1;
}

int vc_ioeventfd_remove(struct vc_buses *buses, struct vc_pass *self, const struct vc_ioeventfd *e)
{
	int fd, r = check_ioeventfd(e);

	if (r < 0)
		return r;
	change_begin(buses, self);
	fd = ioeventfd_take(buses, e);
	change_end(buses, self);
	if (fd < 0)
		return vc_fail(ENOENT, "ioeventfd: %s %#llx has none such", bus_names[e->bus], (unsigned long long)e->address);
	close(fd);
	return 0;
}
