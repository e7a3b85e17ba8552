/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The requests of a vfio-user client, one by one. */
#include <linux/vfio.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"
#include "passthrough/user_priv.h"

enum { REGION_REPLY_MAX = 65536 /* with all capabilities of a region */ };

/* ---- the device ---- */

int vc_vfio_user_get_info(struct vc_vfio_user *u, struct vc_vfio_user_device_info *info)
{
	struct vc_vfio_user_device_info payload = {.argsz = sizeof payload};
	struct vc_vfio_user_request q = {VC_VFIO_USER_GET_INFO, .payload = &payload, .length = sizeof payload};

	return vc_vfio_user_ask_plain(u, &q, info, sizeof *info);
}

int vc_vfio_user_reset(struct vc_vfio_user *u)
{
	struct vc_vfio_user_request q = {VC_VFIO_USER_RESET};

	return vc_vfio_user_ask_plain(u, &q, NULL, 0);
}

/* ---- regions ---- */

/* Of what is in u->in, the areas of a sparse mapping at an offset that has been found to be inside. */
static void read_areas(const struct vc_vfio_user_inbox *in, uint32_t at, struct vc_vfio_user_region *region)
{
	struct vfio_region_info_cap_sparse_mmap sparse;
	uint32_t left;

	if (in->length - at < sizeof sparse)
		return;
	memcpy(&sparse, in->payload + at, sizeof sparse);
	region->sparse = true;
	at += (uint32_t)sizeof sparse;
	left = in->length - at;
	for (uint32_t i = 0; i < sparse.nr_areas && region->area_count < VC_VFIO_USER_AREAS_MAX; i++) {
		struct vfio_region_sparse_mmap_area area;

		if (left < sizeof area)
			return;
		memcpy(&area, in->payload + at, sizeof area);
		region->areas[region->area_count++] = (struct vc_vfio_user_area){area.offset, area.size};
		at += (uint32_t)sizeof area;
		left -= (uint32_t)sizeof area;
	}
}

/* The list goes forward only, so that it ends. */
static void read_region_capabilities(const struct vc_vfio_user_inbox *in, uint32_t at,
                                     struct vc_vfio_user_region *region)
{
	struct vfio_info_cap_header header;
	uint32_t least = sizeof(struct vfio_region_info);

	while (at >= least && at <= in->length && in->length - at >= sizeof header) {
		memcpy(&header, in->payload + at, sizeof header);
		if (header.id == VFIO_REGION_INFO_CAP_SPARSE_MMAP && !region->sparse)
			read_areas(in, at, region);
		least = at + (uint32_t)sizeof header;
		at = header.next;
	}
}

static void read_region(struct vc_vfio_user_inbox *in, struct vc_vfio_user_region *region)
{
	struct vfio_region_info info;

	memcpy(&info, in->payload, sizeof info);
	*region = (struct vc_vfio_user_region){.flags = info.flags, .size = info.size, .fd = -1, .fd_offset = info.offset};
	if (info.flags & VFIO_REGION_INFO_FLAG_CAPS)
		read_region_capabilities(in, info.cap_offset, region);
	if (info.flags & VFIO_REGION_INFO_FLAG_MMAP && in->fd_count)
		region->fd = in->fds[--in->fd_count];
	vc_vfio_user_inbox_close_fds(in);
}

int vc_vfio_user_get_region(struct vc_vfio_user *u, uint32_t index, struct vc_vfio_user_region *region)
{
	struct vfio_region_info payload = {.argsz = REGION_REPLY_MAX, .index = index};
	struct vc_vfio_user_request q = {VC_VFIO_USER_GET_REGION_INFO, .payload = &payload, .length = sizeof payload};
	int r;

	pthread_mutex_lock(&u->lock);
	r = vc_vfio_user_ask(u, &q, sizeof payload);
	if (r >= 0)
		read_region(&u->in, region);
	pthread_mutex_unlock(&u->lock);
	return r;
}

/* The reply repeats what was asked, then the data. */
static int check_access(struct vc_vfio_user *u, const struct vc_vfio_user_region_access *access, uint32_t length)
{
	const struct vc_vfio_user_region_access *reply = (const void *)u->in.payload;

	vc_vfio_user_inbox_close_fds(&u->in);
	if (reply->count == access->count && u->in.length == length)
		return 0;
	return vc_vfio_user_bad_reply(u, u->in.header->command,
	                              vc_fail(EPROTO, "the server replies with %u bytes, %u of data: expected %u, %u",
	                                      u->in.length, reply->count, length, access->count));
}

static int read_chunk(struct vc_vfio_user *u, const struct vc_vfio_user_region_access *access, uint8_t *data)
{
	struct vc_vfio_user_request q = {VC_VFIO_USER_REGION_READ, .payload = access, .length = sizeof *access};
	int r;

	pthread_mutex_lock(&u->lock);
	r = vc_vfio_user_ask(u, &q, sizeof *access);
	if (r >= 0)
		r = check_access(u, access, (uint32_t)sizeof *access + access->count);
	if (r >= 0)
		memcpy(data, u->in.payload + sizeof *access, access->count);
	pthread_mutex_unlock(&u->lock);
	return r;
}

static int write_chunk(struct vc_vfio_user *u, const struct vc_vfio_user_region_access *access, const uint8_t *data)
{
	struct vc_vfio_user_request q = {
	    VC_VFIO_USER_REGION_WRITE,    .payload = access, .length = sizeof *access, .data = data,
	    .data_length = access->count,
	};
	int r;

	pthread_mutex_lock(&u->lock);
	r = vc_vfio_user_ask(u, &q, sizeof *access);
	if (r >= 0)
		r = check_access(u, access, sizeof *access);
	pthread_mutex_unlock(&u->lock);
	return r;
}

static uint32_t chunk_of(const struct vc_vfio_user *u, uint32_t length)
{
	uint32_t most = u->limits.data < VC_VFIO_USER_CHUNK ? (uint32_t)u->limits.data : VC_VFIO_USER_CHUNK;

	return length < most ? length : most;
}

int vc_vfio_user_read(struct vc_vfio_user *u, uint32_t region, uint64_t offset, void *data, uint32_t length)
{
	uint32_t done = 0;
	int r = 0;

	while (r >= 0 && done < length) {
		struct vc_vfio_user_region_access access = {offset + done, region, chunk_of(u, length - done)};

		r = read_chunk(u, &access, (uint8_t *)data + done);
		done += access.count;
	}
	return r;
}

int vc_vfio_user_write(struct vc_vfio_user *u, uint32_t region, uint64_t offset, const void *data, uint32_t length)
{
	uint32_t done = 0;
	int r = 0;

	while (r >= 0 && done < length) {
		struct vc_vfio_user_region_access access = {offset + done, region, chunk_of(u, length - done)};

		r = write_chunk(u, &access, (const uint8_t *)data + done);
		done += access.count;
	}
	return r;
}

/* ---- interrupts ---- */

int vc_vfio_user_get_irqs(struct vc_vfio_user *u, uint32_t index, uint32_t *count)
{
	struct vfio_irq_info info = {.argsz = sizeof info, .index = index};
	struct vc_vfio_user_request q = {VC_VFIO_USER_GET_IRQ_INFO, .payload = &info, .length = sizeof info};
	int r = vc_vfio_user_ask_plain(u, &q, &info, sizeof info);

	if (r >= 0)
		*count = info.flags & VFIO_IRQ_INFO_EVENTFD ? info.count : 0;
	return r;
}

static int set_irqs(struct vc_vfio_user *u, const struct vfio_irq_set *set, const int *fds)
{
	struct vc_vfio_user_request q = {
	    VC_VFIO_USER_SET_IRQS, .payload = set, .length = sizeof *set, .fds = fds, .fd_count = fds ? set->count : 0,
	};

	return vc_vfio_user_ask_plain(u, &q, NULL, 0);
}

int vc_vfio_user_set_irqs(struct vc_vfio_user *u, uint32_t index, uint32_t start, uint32_t count, const int *fds)
{
	struct vfio_irq_set set = {
	    .argsz = sizeof set,
	    .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
	    .index = index,
	    .start = start,
	    .count = count,
	};

	return set_irqs(u, &set, fds);
}

int vc_vfio_user_disable_irqs(struct vc_vfio_user *u, uint32_t index)
{
	struct vfio_irq_set set = {
	    .argsz = sizeof set, .flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, .index = index};

	return set_irqs(u, &set, NULL);
}

int vc_vfio_user_unmask_irq(struct vc_vfio_user *u, uint32_t index)
{
	struct vfio_irq_set set = {
	    .argsz = sizeof set,
	    .flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
	    .index = index,
	    .count = 1,
	};

	return set_irqs(u, &set, NULL);
}

/* ---- memory ---- */

int vc_vfio_user_dma_map(struct vc_vfio_user *u, const struct vc_vfio_user_dma_map *map, int fd)
{
	struct vc_vfio_user_request q = {
	    VC_VFIO_USER_DMA_MAP, .payload = map, .length = sizeof *map, .fds = &fd, .fd_count = fd >= 0,
	};

	return vc_vfio_user_ask_plain(u, &q, NULL, 0);
}

int vc_vfio_user_dma_unmap(struct vc_vfio_user *u, uint64_t address, uint64_t size)
{
	struct vc_vfio_user_dma_unmap payload = {.argsz = sizeof payload, .address = address, .size = size};
	struct vc_vfio_user_request q = {VC_VFIO_USER_DMA_UNMAP, .payload = &payload, .length = sizeof payload};

	return vc_vfio_user_ask_plain(u, &q, NULL, 0);
}
