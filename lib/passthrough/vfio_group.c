/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Groups and their containers (Documentation/driver-api/vfio.rst, type 1 IOMMU, version 2). */
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/error.h"
#include "passthrough/physical.h"
#include "passthrough/sysfs.h"
#include "passthrough/vfio.h"

struct mapping {
	struct vc_physical_dma dma;
	uint32_t users;
	struct mapping *next;
};

struct vc_vfio_group {
	unsigned number;
	uint32_t users;
	int fd, container;
	struct mapping *mappings;
	struct vc_vfio_group *next;
};

void vc_vfio_groups_init(struct vc_vfio_groups *groups)
{
	pthread_mutex_init(&groups->lock, NULL);
	groups->first = NULL;
}

void vc_vfio_groups_fini(struct vc_vfio_groups *groups)
{
	pthread_mutex_destroy(&groups->lock);
}

/* ---- opening, with the lock held ---- */

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

static int fail_driver(const char *address, const char *driver)
{
	return vc_fail(EBUSY,
	               "%s: its driver is %s: expected vfio-pci. Give it to that with \"microvm sriov bind %s\", or the "
	               "property rebind=on",
	               address, driver, address);
}

static int open_group(struct vc_vfio_group *group, const char *address)
{
	char path[40], driver[VC_SYSFS_NAME] = "none";

	vc_sysfs_link("", address, "driver", driver);
	if (strcmp(driver, "vfio-pci"))
		return fail_driver(address, driver);
	snprintf(path, sizeof path, "/dev/vfio/%u", group->number);
	group->fd = open(path, O_RDWR | O_CLOEXEC);
	if (group->fd >= 0)
		return 0;
	if (errno == EBUSY)
		return vc_fail(EBUSY, "%s: its IOMMU group %u is in use by another process or vm", address, group->number);
	if (errno == EACCES || errno == EPERM)
		return vc_fail(EACCES, "%s: this user may not open %s: \"chown USER %s\" as root lets it", address, path, path);
	return vc_fail_errno(errno, "%s: %s", address, path);
}

static int check_viable(const struct vc_vfio_group *group, const char *address)
{
	struct vfio_group_status status = {.argsz = sizeof status};
	char others[400];

	if (ioctl(group->fd, VFIO_GROUP_GET_STATUS, &status) < 0)
		return vc_fail_errno(errno, "%s: the status of IOMMU group %u", address, group->number);
	if (status.flags & VFIO_GROUP_FLAGS_VIABLE)
		return 0;
	vc_sysfs_others("", group->number, address, others, sizeof others);
	return vc_fail(EBUSY,
	               "%s: the IOMMU cannot tell it from the other devices in its group %u, which the host uses: %s. Each "
	               "must be given to vfio-pci, or unbound from its driver",
	               address, group->number, others[0] ? others : "see /sys/kernel/iommu_groups");
}

static int join(struct vc_vfio_group *group, const char *address)
{
	if (ioctl(group->fd, VFIO_GROUP_SET_CONTAINER, &group->container) < 0)
		return vc_fail_errno(errno, "%s: IOMMU group %u takes no container", address, group->number);
	if (ioctl(group->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
		return vc_fail_errno(errno, "%s: its IOMMU cannot be used%s", address,
		                     errno == EPERM ? " (without interrupt remapping the host lets nobody: "
		                                      "vfio_iommu_type1.allow_unsafe_interrupts=1 takes the risk)"
		                                    : "");
	return 0;
}

static void close_group(struct vc_vfio_group *group)
{
	while (group->mappings) {
		struct mapping *m = group->mappings;

		group->mappings = m->next;
		free(m);
	}
	if (group->fd >= 0)
		close(group->fd);
	if (group->container >= 0)
		close(group->container);
	free(group);
}

static int new_group(struct vc_vfio_groups *groups, const char *address, unsigned number, struct vc_vfio_group **out)
{
	struct vc_vfio_group *group = calloc(1, sizeof *group);
	int r;

	if (!group)
		return vc_fail(ENOMEM, "no memory for an IOMMU group");
	*group = (struct vc_vfio_group){.number = number, .fd = -1, .container = -1};
	r = open_container(group);
	if (r >= 0)
		r = open_group(group, address);
	if (r >= 0)
		r = check_viable(group, address);
	if (r >= 0)
		r = join(group, address);
	if (r < 0) {
		close_group(group);
		return r;
	}
	group->next = groups->first;
	groups->first = group;
	*out = group;
	return 0;
}

int vc_vfio_group_get(struct vc_vfio_groups *groups, const char *address, struct vc_vfio_group **out)
{
	struct vc_vfio_group *group;
	unsigned number;
	int r = vc_sysfs_exists("", address);

	if (r >= 0)
		r = vc_sysfs_group("", address, &number);
	if (r < 0)
		return r;
	pthread_mutex_lock(&groups->lock);
	for (group = groups->first; group && group->number != number;)
		group = group->next;
	if (!group)
		r = new_group(groups, address, number, &group);
	if (r >= 0)
		group->users++;
	pthread_mutex_unlock(&groups->lock);
	*out = group;
	return r;
}

void vc_vfio_group_put(struct vc_vfio_groups *groups, struct vc_vfio_group *group)
{
	struct vc_vfio_group **p = &groups->first;

	pthread_mutex_lock(&groups->lock);
	if (--group->users == 0) {
		while (*p != group)
			p = &(*p)->next;
		*p = group->next;
		close_group(group);
	}
	pthread_mutex_unlock(&groups->lock);
}

int vc_vfio_group_open_device(struct vc_vfio_group *group, const char *address)
{
	int fd = ioctl(group->fd, VFIO_GROUP_GET_DEVICE_FD, address);

	if (fd < 0 && errno == EBUSY)
		return vc_fail(EBUSY, "%s: it is in use already", address);
	return fd < 0 ? vc_fail_errno(errno, "%s: VFIO does not give it out", address) : fd;
}

/* ---- DMA ---- */

static int fail_map(const struct vc_physical_dma *dma, int err)
{
	struct rlimit limit = {0};

	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (err == ENOMEM && limit.rlim_cur != RLIM_INFINITY)
		return vc_fail(ENOMEM,
		               "the device's memory [%#llx, +%llu MiB) cannot be kept in place: this user may lock %llu KiB in "
		               "all. More comes with \"ulimit -l\", LimitMEMLOCK= of systemd, or CAP_IPC_LOCK",
		               (unsigned long long)dma->iova, (unsigned long long)dma->length >> 20,
		               (unsigned long long)limit.rlim_cur >> 10);
	return vc_fail_errno(err, "DMA to [%#llx, +%#llx) cannot be mapped", (unsigned long long)dma->iova,
	                     (unsigned long long)dma->length);
}

static struct mapping *find(struct vc_vfio_group *group, uint64_t iova, uint64_t length)
{
	struct mapping *m = group->mappings;

	while (m && (m->dma.iova != iova || m->dma.length != length))
		m = m->next;
	return m;
}

/* With the lock held, as the next. */
static int map(struct vc_vfio_group *group, const struct vc_physical_dma *dma)
{
	struct vfio_iommu_type1_dma_map map = {
	    .argsz = sizeof map,
	    .flags = (dma->flags & VC_PHYSICAL_READ ? VFIO_DMA_MAP_FLAG_READ : 0) |
	             (dma->flags & VC_PHYSICAL_WRITE ? VFIO_DMA_MAP_FLAG_WRITE : 0),
	    .vaddr = (uintptr_t)dma->hva,
	    .iova = dma->iova,
	    .size = dma->length,
	};
	struct mapping *m = find(group, dma->iova, dma->length);

	if (m && m->dma.hva == dma->hva && m->dma.flags == dma->flags) {
		m->users++;
		return 0;
	}
	m = malloc(sizeof *m);
	if (!m)
		return vc_fail(ENOMEM, "no memory for a DMA mapping");
	if (ioctl(group->container, VFIO_IOMMU_MAP_DMA, &map) < 0) {
		int err = errno;

		free(m);
		return fail_map(dma, err);
	}
	*m = (struct mapping){*dma, 1, group->mappings};
	group->mappings = m;
	return 0;
}

static int unmap(struct vc_vfio_group *group, uint64_t iova, uint64_t length)
{
	struct vfio_iommu_type1_dma_unmap unmap = {.argsz = sizeof unmap, .iova = iova, .size = length};
	struct mapping *m = find(group, iova, length), **p = &group->mappings;

	if (!m)
		return vc_fail(ENOENT, "DMA to [%#llx, +%#llx) is not mapped", (unsigned long long)iova,
		               (unsigned long long)length);
	if (--m->users)
		return 0;
	while (*p != m)
		p = &(*p)->next;
	*p = m->next;
	free(m);
	return ioctl(group->container, VFIO_IOMMU_UNMAP_DMA, &unmap) < 0
	           ? vc_fail_errno(errno, "DMA to [%#llx, +%#llx) cannot be unmapped", (unsigned long long)iova,
	                           (unsigned long long)length)
	           : 0;
}

int vc_vfio_group_map(struct vc_vfio_groups *groups, struct vc_vfio_group *group, const struct vc_physical_dma *dma)
{
	int r;

	pthread_mutex_lock(&groups->lock);
	r = map(group, dma);
	pthread_mutex_unlock(&groups->lock);
	return r;
}

int vc_vfio_group_unmap(struct vc_vfio_groups *groups, struct vc_vfio_group *group, uint64_t iova, uint64_t length)
{
	int r;

	pthread_mutex_lock(&groups->lock);
	r = unmap(group, iova, length);
	pthread_mutex_unlock(&groups->lock);
	return r;
}
