/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Address spaces of /dev/iommu: one descriptor for the vm, an address space for each group, and devices that are files
 * of their own. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "bus/iommu.h"
#include "core/error.h"
#include "core/util.h"
#include "passthrough/iommufd.h"
#include "passthrough/vfio_space.h"

#define PATH "/dev/iommu"

/* The file that a device is; false: the host's VFIO has no such. */
static bool find_file(const char *address, char path[VC_SYSFS_NAME + 24])
{
	char name[VC_SYSFS_NAME];

	if (vc_sysfs_first("", address, "vfio-dev", name) < 0)
		return false;
	snprintf(path, VC_SYSFS_NAME + 24, "/dev/vfio/devices/%s", name);
	return faccessat(AT_FDCWD, path, F_OK, AT_EACCESS) == 0;
}

bool vc_vfio_iommufd_is_possible(const char *address)
{
	char path[VC_SYSFS_NAME + 24];

	return faccessat(AT_FDCWD, PATH, R_OK | W_OK, AT_EACCESS) == 0 && find_file(address, path) &&
	       faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS) == 0;
}

/* ---- opening ---- */

static int open_iommufd(struct vc_vfio_groups *groups)
{
	if (groups->iommufd < 0)
		groups->iommufd = open(PATH, O_RDWR | O_CLOEXEC);
	if (groups->iommufd < 0 && errno == ENOENT)
		return vc_fail(ENOENT,
		               "there is no " PATH ": expected a host kernel that has it (CONFIG_IOMMUFD), or iommufd=off");
	return groups->iommufd < 0 ? vc_fail_errno(errno, PATH ": expected that this user may read and write it") : 0;
}

static int iommufd_open(struct vc_vfio_group *group, const char *address)
{
	struct vc_iommufd_ioas_alloc alloc = {.size = sizeof alloc};
	char path[VC_SYSFS_NAME + 24];
	int r = open_iommufd(group->groups);

	if (r < 0)
		return r;
	if (!find_file(address, path))
		return vc_fail(ENOENT,
		               "%s: it is no file in /dev/vfio/devices: expected a host kernel that makes such "
		               "(CONFIG_VFIO_DEVICE_CDEV), or iommufd=off",
		               address);
	if (ioctl(group->groups->iommufd, VC_IOMMUFD_IOAS_ALLOC, &alloc) < 0)
		return vc_fail_errno(errno, "%s: an address space of " PATH, address);
	group->ioas = alloc.id;
	return 0;
}

static void iommufd_close(struct vc_vfio_group *group)
{
	struct vc_iommufd_destroy destroy = {.size = sizeof destroy, .id = group->ioas};

	if (group->ioas)
		ioctl(group->groups->iommufd, VC_IOMMUFD_DESTROY, &destroy);
}

static int fail_bind(const struct vc_vfio_group *group, const char *address, int err)
{
	char others[VC_SYSFS_NAME];

	if (err != EBUSY && err != EINVAL)
		return vc_vfio_fail_use(address, err);
	if (vc_sysfs_others("", group->number, address, others, sizeof others) > 0)
		return vc_vfio_fail_others(group, address);
	return vc_fail(EBUSY, "%s: it, or another device of its IOMMU group %u, is in use by another process or vm",
	               address, group->number);
}

static int bind_device(const struct vc_vfio_group *group, const char *address, int fd)
{
	struct vc_vfio_bind bind = {.size = sizeof bind, .iommufd = group->groups->iommufd};
	struct vc_vfio_attach attach = {.size = sizeof attach, .ioas = group->ioas};

	if (ioctl(fd, VC_VFIO_BIND_IOMMUFD, &bind) < 0)
		return fail_bind(group, address, errno);
	if (ioctl(fd, VC_VFIO_ATTACH_IOAS, &attach) < 0)
		return vc_fail_errno(errno, "%s: it takes no address space of " PATH, address);
	return 0;
}

static int iommufd_open_device(struct vc_vfio_group *group, const char *address)
{
	char path[VC_SYSFS_NAME + 24];
	int fd, r;

	if (!find_file(address, path))
		return vc_fail(ENODEV, "%s: it is no file in /dev/vfio/devices any more", address);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return vc_vfio_fail_open(group, address, path, errno);
	r = bind_device(group, address, fd);
	if (r >= 0)
		return fd;
	close(fd);
	return r;
}

/* ---- DMA ---- */

static int iommufd_map(struct vc_vfio_group *group, const struct vc_physical_dma *dma)
{
	struct vc_iommufd_map map = {
	    .size = sizeof map,
	    .flags = VC_IOMMUFD_FIXED | (dma->flags & VC_PHYSICAL_READ ? VC_IOMMUFD_READ : 0u) |
	             (dma->flags & VC_PHYSICAL_WRITE ? VC_IOMMUFD_WRITE : 0u),
	    .ioas = group->ioas,
	    .address = (uintptr_t)dma->hva,
	    .length = dma->length,
	    .iova = dma->iova,
	};

	return ioctl(group->groups->iommufd, VC_IOMMUFD_MAP, &map) < 0 ? -errno : 0;
}

static int iommufd_unmap(struct vc_vfio_group *group, uint64_t iova, uint64_t length)
{
	struct vc_iommufd_unmap unmap = {.size = sizeof unmap, .ioas = group->ioas, .iova = iova, .length = length};

	return ioctl(group->groups->iommufd, VC_IOMMUFD_UNMAP, &unmap) < 0 ? -errno : 0;
}

/* What is beyond the room is left out: addresses that are not used. */
static int iommufd_windows(struct vc_vfio_group *group, const char *address, struct vc_iommu_windows *windows)
{
	struct vc_iommufd_iova_range ranges[VC_IOMMU_WINDOWS_MAX];
	struct vc_iommufd_iova_ranges what = {
	    .size = sizeof what, .ioas = group->ioas, .count = VC_ARRAY_SIZE(ranges), .ranges = (uintptr_t)ranges};

	if (ioctl(group->groups->iommufd, VC_IOMMUFD_IOVA_RANGES, &what) < 0 && errno != EMSGSIZE)
		return vc_fail_errno(errno, "%s: what its IOMMU can do", address);
	if (what.alignment > VC_IOMMU_PAGE)
		return vc_fail(ENOTSUP, "%s: its IOMMU maps pieces of %llu bytes: expected 4096", address,
		               (unsigned long long)what.alignment);
	*windows = (struct vc_iommu_windows){0};
	for (uint32_t i = 0; i < what.count && i < VC_ARRAY_SIZE(ranges); i++)
		windows->at[windows->count++] = (struct vc_iommu_window){ranges[i].first, ranges[i].last};
	return 0;
}

const struct vc_vfio_space_ops vc_vfio_iommufd_ops = {
    .name = "/dev/iommu",
    .open = iommufd_open,
    .close = iommufd_close,
    .open_device = iommufd_open_device,
    .map = iommufd_map,
    .unmap = iommufd_unmap,
    .windows = iommufd_windows,
};
