/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Groups, and what is mapped for the devices of each. */
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/error.h"
#include "passthrough/sysfs.h"
#include "passthrough/vfio_space.h"

struct mapping {
	struct vc_physical_dma dma;
	uint32_t users;
};

void vc_vfio_groups_init(struct vc_vfio_groups *groups)
{
	pthread_mutex_init(&groups->lock, NULL);
	groups->first = NULL;
	groups->iommufd = -1;
	vc_peers_init(&groups->peers);
	vc_vfio_members_init(&groups->members);
}

void vc_vfio_groups_fini(struct vc_vfio_groups *groups)
{
	if (groups->iommufd >= 0)
		close(groups->iommufd);
	vc_vfio_members_fini(&groups->members);
	vc_peers_fini(&groups->peers);
	pthread_mutex_destroy(&groups->lock);
}

/* ---- sentences ---- */

static int fail_driver(const char *address, const char *driver)
{
	return vc_fail(EBUSY,
	               "%s: its driver is %s: expected vfio-pci. Give it to that with \"microvm sriov bind %s\", or the "
	               "property rebind=on",
	               address, driver, address);
}

int vc_vfio_fail_open(const struct vc_vfio_group *group, const char *address, const char *path, int err)
{
	if (err == EBUSY)
		return vc_fail(EBUSY, "%s: its IOMMU group %u is in use by another process or vm", address, group->number);
	if (err == EACCES || err == EPERM)
		return vc_fail(EACCES, "%s: this user may not open %s: \"chown USER %s\" as root lets it", address, path, path);
	return vc_fail_errno(err, "%s: %s", address, path);
}

int vc_vfio_fail_use(const char *address, int err)
{
	return vc_fail_errno(err, "%s: its IOMMU cannot be used%s", address,
	                     err == EPERM ? " (without interrupt remapping the host lets nobody: "
	                                    "vfio_iommu_type1.allow_unsafe_interrupts=1 takes the risk)"
	                                  : "");
}

int vc_vfio_fail_others(const struct vc_vfio_group *group, const char *address)
{
	char others[400];

	vc_sysfs_others("", group->number, address, others, sizeof others);
	return vc_fail(EBUSY,
	               "%s: the IOMMU cannot tell it from the other devices in its group %u, which the host uses: %s. Each "
	               "must be given to vfio-pci, or unbound from its driver",
	               address, group->number, others[0] ? others : "see /sys/kernel/iommu_groups");
}

/* ---- opening, with the lock held ---- */

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
	group->ops->close(group);
	free(group);
}

static int check_driver(const char *address)
{
	char driver[VC_SYSFS_NAME] = "none";

	vc_sysfs_link("", address, "driver", driver);
	return strcmp(driver, "vfio-pci") ? fail_driver(address, driver) : 0;
}

static const struct vc_vfio_space_ops *choose(const char *address, enum vc_vfio_way way)
{
	return way == VC_VFIO_IOMMUFD || (way == VC_VFIO_ANY_WAY && vc_vfio_iommufd_is_possible(address))
	           ? &vc_vfio_iommufd_ops
	           : &vc_vfio_container_ops;
}

/* A group that is open already has what it has. */
static int check_way(const struct vc_vfio_group *group, const char *address, enum vc_vfio_way way)
{
	if (way == VC_VFIO_ANY_WAY || choose(address, way) == group->ops)
		return 0;
	return vc_fail(EBUSY,
	               "%s: iommufd=%s: its IOMMU group %u is in this vm by %s: expected the same for all of a group",
	               address, way == VC_VFIO_IOMMUFD ? "on" : "off", group->number, group->ops->name);
}

static int new_group(struct vc_vfio_groups *groups, const char *address, unsigned number, enum vc_vfio_way way,
                     struct vc_vfio_group **out)
{
	struct vc_vfio_group *group = calloc(1, sizeof *group);
	int r;

	if (!group)
		return vc_fail(ENOMEM, "no memory for an IOMMU group");
	*group = (struct vc_vfio_group){
	    .groups = groups, .ops = choose(address, way), .number = number, .fd = -1, .container = -1};
	r = group->ops->open(group, address);
	if (r < 0) {
		close_group(group);
		return r;
	}
	group->next = groups->first;
	groups->first = group;
	*out = group;
	return 0;
}

int vc_vfio_group_get(struct vc_vfio_groups *groups, const char *address, enum vc_vfio_way way,
                      struct vc_vfio_group **out)
{
	struct vc_vfio_group *group;
	unsigned number;
	int r = vc_sysfs_exists("", address);

	if (r >= 0)
		r = vc_sysfs_group("", address, &number);
	if (r >= 0)
		r = check_driver(address);
	if (r < 0)
		return r;
	pthread_mutex_lock(&groups->lock);
	for (group = groups->first; group && group->number != number;)
		group = group->next;
	r = group ? check_way(group, address, way) : new_group(groups, address, number, way, &group);
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

const char *vc_vfio_group_way(const struct vc_vfio_group *group)
{
	return group->ops->name;
}

int vc_vfio_group_open_device(struct vc_vfio_group *group, const char *address)
{
	return group->ops->open_device(group, address);
}

int vc_vfio_group_windows(struct vc_vfio_group *group, const char *address, struct vc_iommu_windows *windows)
{
	return group->ops->windows(group, address, windows);
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
	if (r < 0) {
		free(m);
		return r;
	}
	r = group->ops->map(group, dma);
	if (r < 0) {
		tdelete(m, &group->mappings, compare);
		free(m);
	}
	return r < 0 ? fail_map(dma, -r) : 0;
}

static int unmap(struct vc_vfio_group *group, uint64_t iova, uint64_t length)
{
	struct mapping *m = find(group, iova, length);
	int r;

	if (!m)
		return vc_fail(ENOENT, "DMA to [%#llx, +%#llx) is not mapped", (unsigned long long)iova,
		               (unsigned long long)length);
	if (--m->users)
		return 0;
	tdelete(m, &group->mappings, compare);
	free(m);
	r = group->ops->unmap(group, iova, length);
	return r < 0 ? vc_fail_errno(-r, "DMA to [%#llx, +%#llx) cannot be unmapped", (unsigned long long)iova,
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
