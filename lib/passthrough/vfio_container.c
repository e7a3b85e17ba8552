/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Address spaces that are containers (Documentation/driver-api/vfio.rst, type 1 IOMMU, version 2). */
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bus/iommu.h"
#include "core/error.h"
#include "core/util.h"
#include "passthrough/vfio_space.h"

#define INFO_MAX VC_KIB(64) /* what the kernel tells of an IOMMU */

static int open_container(struct vc_vfio_group *group)
{
	int version;

	group->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (group->container < 0 && errno == ENOENT)
		return vc_fail(ENOENT, "there is no /dev/vfio/vfio: load the driver with \"modprobe vfio-pci\"");
	if (group->container < 0)
		return vc_fail_errno(errno, "/dev/vfio/vfio: expected that this user may read and write it");
	version = ioctl(group->container, VFIO_GET_API_VERSION);
	if (version != VFIO_API_VERSION)
		return vc_fail(ENOTSUP, "/dev/vfio/vfio speaks version %d, this library knows %d", version, VFIO_API_VERSION);
	if (ioctl(group->container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) <= 0)
		return vc_fail(ENOTSUP, "/dev/vfio/vfio has no type 1 IOMMU of version 2: \"modprobe vfio_iommu_type1\"");
	return 0;
}

static int open_group(struct vc_vfio_group *group, const char *address)
{
	char path[40];

	snprintf(path, sizeof path, "/dev/vfio/%u", group->number);
	group->fd = open(path, O_RDWR | O_CLOEXEC);
	return group->fd < 0 ? vc_vfio_fail_open(group, address, path, errno) : 0;
}

static int check_viable(const struct vc_vfio_group *group, const char *address)
{
	struct vfio_group_status status = {.argsz = sizeof status};

	if (ioctl(group->fd, VFIO_GROUP_GET_STATUS, &status) < 0)
		return vc_fail_errno(errno, "%s: the status of IOMMU group %u", address, group->number);
	return status.flags & VFIO_GROUP_FLAGS_VIABLE ? 0 : vc_vfio_fail_others(group, address);
}

static int join(struct vc_vfio_group *group, const char *address)
{
	if (ioctl(group->fd, VFIO_GROUP_SET_CONTAINER, &group->container) < 0)
		return vc_fail_errno(errno, "%s: IOMMU group %u takes no container", address, group->number);
	return ioctl(group->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0 ? vc_vfio_fail_use(address, errno) : 0;
}

static int container_open(struct vc_vfio_group *group, const char *address)
{
	int r = open_container(group);

	if (r >= 0)
		r = open_group(group, address);
	if (r >= 0)
		r = check_viable(group, address);
	return r < 0 ? r : join(group, address);
}

static void container_close(struct vc_vfio_group *group)
{
	if (group->fd >= 0)
		close(group->fd);
	if (group->container >= 0)
		close(group->container);
}

static int container_open_device(struct vc_vfio_group *group, const char *address)
{
	int fd = ioctl(group->fd, VFIO_GROUP_GET_DEVICE_FD, address);

	if (fd < 0 && errno == EBUSY)
		return vc_fail(EBUSY, "%s: it is in use already", address);
	return fd < 0 ? vc_fail_errno(errno, "%s: VFIO does not give it out", address) : fd;
}

/* ---- DMA ---- */

static int container_map(struct vc_vfio_group *group, const struct vc_physical_dma *dma)
{
	struct vfio_iommu_type1_dma_map map = {
	    .argsz = sizeof map,
	    .flags = (dma->flags & VC_PHYSICAL_READ ? VFIO_DMA_MAP_FLAG_READ : 0) |
	             (dma->flags & VC_PHYSICAL_WRITE ? VFIO_DMA_MAP_FLAG_WRITE : 0),
	    .vaddr = (uintptr_t)dma->hva,
	    .iova = dma->iova,
	    .size = dma->length,
	};

	return ioctl(group->container, VFIO_IOMMU_MAP_DMA, &map) < 0 ? -errno : 0;
}

static int container_unmap(struct vc_vfio_group *group, uint64_t iova, uint64_t length)
{
	struct vfio_iommu_type1_dma_unmap unmap = {.argsz = sizeof unmap, .iova = iova, .size = length};

	return ioctl(group->container, VFIO_IOMMU_UNMAP_DMA, &unmap) < 0 ? -errno : 0;
}

/* ---- what the IOMMU can do ---- */

/* VFIO_IOMMU_GET_INFO with what follows it; freed by the caller. NULL with errno. */
static struct vfio_iommu_type1_info *get_info(int container)
{
	struct vfio_iommu_type1_info first = {.argsz = sizeof first}, *info;

	if (ioctl(container, VFIO_IOMMU_GET_INFO, &first) < 0)
		return NULL;
	if (first.argsz < sizeof *info || first.argsz > INFO_MAX)
		first.argsz = sizeof *info;
	info = calloc(1, first.argsz);
	if (!info)
		return NULL;
	info->argsz = first.argsz;
	if (ioctl(container, VFIO_IOMMU_GET_INFO, info) >= 0 && info->argsz <= first.argsz)
		return info;
	free(info);
	return NULL;
}

/* The capability of that kind; NULL: there is none. */
static const void *find_capability(const struct vfio_iommu_type1_info *info, uint16_t id, size_t least)
{
	uint32_t at = info->flags & VFIO_IOMMU_INFO_CAPS ? info->cap_offset : 0;

	while (at && at <= info->argsz - least) {
		const struct vfio_info_cap_header *head = (const void *)((const uint8_t *)info + at);

		if (head->id == id)
			return head;
		at = head->next > at ? head->next : 0;
	}
	return NULL;
}

static void read_windows(const struct vfio_iommu_type1_info *info, struct vc_iommu_windows *windows)
{
	const struct vfio_iommu_type1_info_cap_iova_range *ranges =
	    find_capability(info, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, sizeof *ranges);

	*windows = (struct vc_iommu_windows){0};
	for (uint32_t i = 0; ranges && i < ranges->nr_iovas && i < VC_IOMMU_WINDOWS_MAX; i++)
		windows->at[windows->count++] =
		    (struct vc_iommu_window){ranges->iova_ranges[i].start, ranges->iova_ranges[i].end};
}

static int container_windows(struct vc_vfio_group *group, const char *address, struct vc_iommu_windows *windows)
{
	struct vfio_iommu_type1_info *info = get_info(group->container);
	int r = 0;

	if (!info)
		return vc_fail_errno(errno, "%s: what its IOMMU can do", address);
	if (info->flags & VFIO_IOMMU_INFO_PGSIZES && !(info->iova_pgsizes & VC_IOMMU_PAGE))
		r = vc_fail(ENOTSUP, "%s: its IOMMU has pages of sizes %#llx: expected that 4096 is among them", address,
		            (unsigned long long)info->iova_pgsizes);
	if (r >= 0)
		read_windows(info, windows);
	free(info);
	return r;
}

const struct vc_vfio_space_ops vc_vfio_container_ops = {
    .name = "a container",
    .open = container_open,
    .close = container_close,
    .open_device = container_open_device,
    .map = container_map,
    .unmap = container_unmap,
    .windows = container_windows,
};
