/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a vfio-user server can say: replies and commands of its own, as a stream of bytes that ends anywhere, with
 * descriptors beside them. The first byte chooses: request by request, or the device as a whole, and what the
 * descriptors are.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/util.h"
#include "feed.h"
#include "passthrough/user_device.h"

enum { WHOLE = 1, SEALED = 2, MEMORY = 65536, FILE_LENGTH = 16384 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void check(bool truth)
{
	if (!truth)
		abort();
}

/* ---- the server asks for memory ---- */

static uint8_t memory[MEMORY];

static int read_memory(void *ctx, uint64_t address, void *data, uint64_t length)
{
	check(length <= VC_VFIO_USER_DATA_MAX);
	if (address > MEMORY || length > MEMORY - address)
		return -EFAULT;
	memcpy(data, memory + address, length);
	return 0;
}

static int write_memory(void *ctx, uint64_t address, const void *data, uint64_t length)
{
	check(length <= VC_VFIO_USER_DATA_MAX);
	if (address > MEMORY || length > MEMORY - address)
		return -EFAULT;
	memcpy(memory + address, data, length);
	return 0;
}

/* ---- request by request ---- */

static void ask_regions(struct vc_vfio_user *u)
{
	for (uint32_t i = 0; i < 2; i++) {
		struct vc_vfio_user_region region;

		if (vc_vfio_user_get_region(u, i, &region) < 0)
			continue;
		check(region.area_count <= VC_VFIO_USER_AREAS_MAX);
		if (region.fd >= 0)
			close(region.fd);
	}
}

static void ask_all(struct vc_vfio_user *u, int fd)
{
	struct vc_vfio_user_device_info info;
	struct vc_vfio_user_dma_map map = {.argsz = sizeof map, .flags = 3, .size = MEMORY};
	uint8_t bytes[256];
	uint32_t count;

	vc_vfio_user_get_info(u, &info);
	ask_regions(u);
	vc_vfio_user_get_irqs(u, 2, &count);
	vc_vfio_user_read(u, 0, 0, bytes, 4);
	vc_vfio_user_read(u, 7, 0, bytes, sizeof bytes);
	vc_vfio_user_write(u, 0, 0, bytes, 8);
	vc_vfio_user_dma_map(u, &map, fd);
	vc_vfio_user_set_irqs(u, 2, 0, 1, &fd);
	vc_vfio_user_unmask_irq(u, 0);
	vc_vfio_user_reset(u);
	vc_vfio_user_dma_unmap(u, 0, MEMORY);
}

static void fuzz_requests(int socket, int fd)
{
	static const struct vc_vfio_user_memory callbacks = {read_memory, write_memory};
	struct vc_vfio_user u = {.path = "fuzz", .timeout_ms = 1000, .memory = &callbacks};

	if (vc_vfio_user_begin(&u, socket) < 0)
		return;
	ask_all(&u, fd);
	while (vc_vfio_user_serve(&u) >= 0)
		;
	vc_vfio_user_close(&u);
}

/* ---- the device ---- */

static void check_region(const struct vc_physical_region *region)
{
	uint64_t end = 0;

	check(region->area_count <= VC_PHYSICAL_AREAS_MAX);
	for (unsigned i = 0; i < region->area_count; i++) {
		const struct vc_physical_area *a = &region->areas[i];
		uint8_t *at;

		check(a->length && !((a->offset | a->length) % VC_PAGE_SIZE) && a->offset >= end);
		end = a->offset + a->length;
		check(end > a->offset && end <= region->size && region->fd_offset + end <= FILE_LENGTH);
		at = mmap(NULL, a->length, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd,
		          (off_t)(region->fd_offset + a->offset));
		check(at != MAP_FAILED);
		at[a->length - 1]++;
		munmap(at, a->length);
	}
}

static void fuzz_device(int socket, int fd)
{
	static const struct vc_log log;
	const struct vc_user_settings settings = {"fuzz", 1000, VC_USER_MAP_SEALED, true};
	struct vc_user_device *d;
	struct vc_physical *p;
	uint32_t count;

	if (vc_user_device_new(&log, &settings, socket, &d) < 0)
		return;
	p = &d->physical;
	for (unsigned i = 0; i < VC_PHYSICAL_REGIONS; i++) {
		struct vc_physical_region region;

		check(p->ops->region_info(p, i, &region) == 0);
		check_region(&region);
	}
	for (unsigned i = 0; i < VC_USER_IRQS; i++) {
		check(p->ops->irq_count(p, i, &count) == 0 && count <= VC_USER_VECTORS_MAX);
		if (count)
			p->ops->irq_set(p, i, 1, &fd);
	}
	p->ops->destroy(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	int pair[2], fd;

	if (length < 2)
		return 0;
	fd = *data & SEALED ? memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING) : eventfd(0, EFD_CLOEXEC);
	check(fd >= 0 && (!(*data & SEALED) || ftruncate(fd, FILE_LENGTH) == 0));
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	feed(pair[1], fd, data + 1, length - 1);
	shutdown(pair[1], SHUT_WR);
	if (*data & WHOLE)
		fuzz_device(pair[0], fd);
	else
		fuzz_requests(pair[0], fd);
	close(pair[1]);
	/* where one that was sent is not closed, there are none left soon */
	close(fd);
	return 0;
}
