/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a vfio-user server says of its device, checked and made fit. */
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"
#include "passthrough/user_device.h"

enum { CONFIG_LEAST = 256 };

#define REGION_MOST (1ull << 40)

static const uint32_t irqs_most[VC_USER_IRQS] = {1, 32, VC_USER_VECTORS_MAX};

/* ---- what can be mapped ---- */

/*
 * Whether reading and writing where the file is said to be can end in nothing but memory. A server that lets us seal
 * the file means that it stays; pages of a huge kind may fail to be there all the same.
 */
static bool is_safe(int fd)
{
	struct statfs fs;
	int seals;

	fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
	seals = fcntl(fd, F_GET_SEALS);
	return seals >= 0 && seals & F_SEAL_SHRINK && fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

static bool can_map(const struct vc_user_device *d, const struct vc_vfio_user_region *region)
{
	int flags = fcntl(region->fd, F_GETFL);

	if (d->settings.map_bars == VC_USER_MAP_NONE || region->fd_offset % VC_PAGE_SIZE)
		return false;
	if (flags < 0 || (flags & O_ACCMODE) != O_RDWR)
		return false;
	return d->settings.map_bars == VC_USER_MAP_ANY || is_safe(region->fd);
}

/* The whole pages of an area that are in the region and in the file; ones that are not in order are left out. */
static void add_area(struct vc_physical_region *to, const struct vc_vfio_user_area *area, uint64_t end)
{
	uint64_t first = to->area_count ? to->areas[to->area_count - 1].offset + to->areas[to->area_count - 1].length : 0;
	uint64_t start, stop;

	if (area->offset >= end || !area->length)
		return;
	stop = area->length < end - area->offset ? area->offset + area->length : end;
	start = VC_ALIGN_UP(area->offset, (uint64_t)VC_PAGE_SIZE);
	stop = VC_ALIGN_DOWN(stop, (uint64_t)VC_PAGE_SIZE);
	if (start >= stop || start < first || to->area_count == VC_PHYSICAL_AREAS_MAX)
		return;
	to->areas[to->area_count++] = (struct vc_physical_area){start, stop - start};
}

/* fd is the region's, then to's or closed. */
static void take_areas(const struct vc_user_device *d, const struct vc_vfio_user_region *region,
                       struct vc_physical_region *to)
{
	struct vc_vfio_user_area whole = {0, region->size};
	struct stat file;
	uint64_t end = 0;

	if (can_map(d, region) && fstat(region->fd, &file) == 0 && (uint64_t)file.st_size > region->fd_offset)
		end = (uint64_t)file.st_size - region->fd_offset;
	if (end > region->size)
		end = region->size;
	if (!region->sparse)
		add_area(to, &whole, end);
	for (unsigned i = 0; region->sparse && i < region->area_count; i++)
		add_area(to, &region->areas[i], end);
	if (to->area_count) {
		to->fd = region->fd;
		to->fd_offset = region->fd_offset;
		return;
	}
	vc_log(d->log, VCORE_LOG_DEBUG, "vfio-user %s: a region of %#llx bytes can be mapped and is not",
	       d->settings.socket, (unsigned long long)region->size);
	close(region->fd);
}

/* ---- regions ---- */

static int check_region(const struct vc_user_device *d, unsigned index, const struct vc_vfio_user_region *region)
{
	uint64_t least = index == VC_PHYSICAL_CONFIG ? CONFIG_LEAST : 0;

	if (region->size < least || region->size > REGION_MOST)
		return vc_fail(EPROTO, "vfio-user %s: region %u has %#llx bytes: expected %#llx to %#llx", d->settings.socket,
		               index, (unsigned long long)region->size, (unsigned long long)least,
		               (unsigned long long)REGION_MOST);
	return 0;
}

static int read_region(struct vc_user_device *d, unsigned index)
{
	struct vc_physical_region *to = &d->regions[index];
	struct vc_vfio_user_region region;
	int r = vc_vfio_user_get_region(&d->user, index, &region);

	/* one that it does not know is not there */
	if (r < 0)
		return r == -EREMOTEIO && index != VC_PHYSICAL_CONFIG ? 0 : r;
	r = check_region(d, index, &region);
	if (r >= 0) {
		to->flags = region.flags & (VC_PHYSICAL_READ | VC_PHYSICAL_WRITE);
		to->size = region.size;
	}
	if (region.fd >= 0 && r >= 0 && index < VC_PHYSICAL_ROM)
		take_areas(d, &region, to);
	else if (region.fd >= 0)
		close(region.fd);
	return r;
}

/* ---- interrupts ---- */

static int read_irqs(struct vc_user_device *d, unsigned index)
{
	uint32_t count = 0;
	int r = vc_vfio_user_get_irqs(&d->user, index, &count);

	if (r < 0 && r != -EREMOTEIO)
		return r;
	/* none without descriptors beside a message */
	if (r < 0 || !d->user.limits.fds)
		count = 0;
	d->irq_counts[index] = count < irqs_most[index] ? count : irqs_most[index];
	d->fds[index] = malloc((d->irq_counts[index] + 1) * sizeof(int));
	if (!d->fds[index])
		return vc_fail(ENOMEM, "vfio-user: no memory for %u vectors", d->irq_counts[index]);
	for (uint32_t i = 0; i < d->irq_counts[index]; i++)
		d->fds[index][i] = -1;
	return 0;
}

/* ---- the device ---- */

int vc_user_device_open(struct vc_user_device *d)
{
	struct vc_vfio_user_device_info info;
	int r = vc_vfio_user_get_info(&d->user, &info);

	if (r < 0)
		return r;
	if (!(info.flags & VFIO_DEVICE_FLAGS_PCI) || info.regions <= VC_PHYSICAL_CONFIG)
		return vc_fail(ENOTSUP, "vfio-user %s: the server's device has flags %#x and %u regions: expected a PCI device",
		               d->settings.socket, info.flags, info.regions);
	d->can_reset = info.flags & VFIO_DEVICE_FLAGS_RESET;
	for (unsigned i = 0; r >= 0 && i < VC_PHYSICAL_REGIONS; i++)
		r = read_region(d, i);
	for (unsigned i = 0; r >= 0 && i < VC_USER_IRQS; i++)
		r = i < info.irqs ? read_irqs(d, i) : 0;
	return r;
}
