/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Groups and their containers (Documentation/driver-api/vfio.rst, type 1 IOMMU, version 2). */
#include <fcntl.h>
#include <linux/vfio.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bus/iommu.h"
#include "core/error.h"
#include "core/util.h"
#include "passthrough/physical.h"
#include "passthrough/sysfs.h"
#include "passthrough/vfio.h"

#define INFO_MAX VC_KIB(64) /* what the kernel tells of an IOMMU */

struct mapping {
	struct vc_physical_dma dma;
	uint32_t users;
};

struct vc_vfio_group {
	unsigned number;
	uint32_t users;
	int fd, container;
	void *mappings; /* a tree for tsearch(): they do not overlap */
	struct vc_vfio_group *next;
};

void vc_vfio_groups_init(struct vc_vfio_groups *groups)
{
	pthread_mutex_init(&groups->lock, NULL);
	groups->first = NULL;
	vc_peers_init(&groups->peers);
	vc_vfio_members_init(&groups->members);
}

void vc_vfio_groups_fini(struct vc_vfio_groups *groups)
{
	vc_vfio_members_fini(&groups->members);
	vc_peers_fini(&groups->peers);
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

static int compare(const void *a, const void *b)
{
	const struct mapping *one = a, *other = b;

	return (one->dma.iova > other->dma.iova) - (one->dma.iova < other->dma.iova);
}

static void close_group(struct vc_vfio_group *group)
{
	while (group->mappings) {
		struct mapping *m = *(struct mapping **)group->mappings;

		tdelete(m, &group->mappings, compare);
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

int vc_vfio_group_check_alone(struct vc_vfio_groups *groups, struct vc_vfio_group *group, const char *address)
{
	bool alone;

	pthread_mutex_lock(&groups->lock);
	alone = group->users == 1;
	pthread_mutex_unlock(&groups->lock);
	return alone
	           ? 0
	           : vc_fail(EBUSY,
	                     "%s: another device of its IOMMU group %u is in this vm: what the guest's IOMMU lets one of "
	                     "them reach, the other would reach as well. Expected one of a group, or a vm without such an "
	                     "IOMMU",
	                     address, group->number);
}

unsigned vc_vfio_group_number(const struct vc_vfio_group *group)
{
	return group->number;
}

int vc_vfio_group_fd(const struct vc_vfio_group *group)
{
	return group->fd;
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
	const struct mapping key = {.dma.iova = iova};
	struct mapping **found = tfind(&key, &group->mappings, compare);

	return found && (*found)->dma.length == length ? *found : NULL;
}

static int add(struct vc_vfio_group *group, struct mapping *m)
{
	struct mapping **at = tsearch(m, &group->mappings, compare);

	if (!at)
		return vc_fail(ENOMEM, "no memory for a DMA mapping");
	return *at == m
	           ? 0
	           : vc_fail(EEXIST, "DMA to [%#llx, +%#llx): something else is mapped there for a device of its group",
	                     (unsigned long long)m->dma.iova, (unsigned long long)m->dma.length);
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
	int r;

	if (m && m->dma.hva == dma->hva && m->dma.flags == dma->flags) {
		m->users++;
		return 0;
	}
	m = malloc(sizeof *m);
	if (!m)
		return vc_fail(ENOMEM, "no memory for a DMA mapping");
	*m = (struct mapping){*dma, 1};
	r = add(group, m);
	if (r >= 0 && ioctl(group->container, VFIO_IOMMU_MAP_DMA, &map) < 0) {
		r = fail_map(dma, errno);
		tdelete(m, &group->mappings, compare);
	}
	if (r < 0)
		free(m);
	return r;
}

static int unmap(struct vc_vfio_group *group, uint64_t iova, uint64_t length)
{
	struct vfio_iommu_type1_dma_unmap unmap = {.argsz = sizeof unmap, .iova = iova, .size = length};
	struct mapping *m = find(group, iova, length);

	if (!m)
		return vc_fail(ENOENT, "DMA to [%#llx, +%#llx) is not mapped", (unsigned long long)iova,
		               (unsigned long long)length);
	if (--m->users)
		return 0;
	tdelete(m, &group->mappings, compare);
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

int vc_vfio_group_windows(struct vc_vfio_group *group, const char *address, struct vc_iommu_windows *windows)
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
