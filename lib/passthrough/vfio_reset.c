/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reset of a slot or bus, for a device that has none of its own. It is the reset of all that is there: only where all
 * of that is in groups of ours, and none of our others is in the guest's hands.
 */
#include "passthrough/vfio_reset.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/error.h"
#include "core/util.h"
#include "passthrough/iommufd.h"

/* The buses behind one slot can have so many functions; VFIO tells of no more than there are. */
#define AFFECTED_MAX 4096u

static const struct vc_vfio_member *find_member(const struct vc_vfio_member *members, const char *address)
{
	while (members && strcmp(members->address, address))
		members = members->next;
	return members;
}

/* Names of those for which it is so; how many. */
static unsigned name(char *text, size_t size, const struct vc_vfio_affected *affected, unsigned count,
                     bool (*is_so)(const void *ctx, const struct vc_vfio_affected *a), const void *ctx)
{
	unsigned found = 0;
	size_t used = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < count; i++) {
		if (!is_so(ctx, &affected[i]))
			continue;
		if (used < size)
			used += (size_t)snprintf(text + used, size - used, "%s%s", found ? ", " : "", affected[i].address);
		found++;
	}
	return found;
}

static bool is_foreign(const void *ctx, const struct vc_vfio_affected *a)
{
	return !a->ours;
}

static bool is_other(const void *ctx, const struct vc_vfio_affected *a)
{
	return strcmp(((const struct vc_vfio_member *)ctx)->address, a->address);
}

static bool is_in_use(const void *ctx, const struct vc_vfio_affected *a)
{
	const struct vc_vfio_member *self = ctx, *member = find_member(self->all->first, a->address);

	return member && member != self && !atomic_load(&member->quiet);
}

int vc_vfio_check_affected(const struct vc_vfio_member *self, const struct vc_vfio_affected *affected, unsigned count)
{
	char names[400];

	if (name(names, sizeof names, affected, count, is_foreign, NULL))
		return vc_fail(
		    ENOTSUP,
		    "%s: it has no reset of its own, and that of its slot or bus is the reset of %s as well: expected that "
		    "the IOMMU groups of these are this vm's, too",
		    self->address, names);
	if (name(names, sizeof names, affected, count, is_in_use, self))
		return vc_fail(
		    ENOTSUP,
		    "%s: it has no reset of its own, and that of its slot or bus is the reset of %s as well, which the "
		    "guest uses",
		    self->address, names);
	return 0;
}

/* VFIO_DEVICE_GET_PCI_HOT_RESET_INFO with all devices; freed by the caller. NULL with errno. */
static struct vfio_pci_hot_reset_info *get_info(int fd)
{
	struct vfio_pci_hot_reset_info first = {.argsz = sizeof first}, *info;
	size_t size;

	if (ioctl(fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &first) < 0 && errno != ENOSPC)
		return NULL;
	if (first.count > AFFECTED_MAX) {
		errno = E2BIG;
		return NULL;
	}
	size = sizeof first + first.count * sizeof first.devices[0];
	info = calloc(1, size);
	if (!info)
		return NULL;
	info->argsz = (uint32_t)size;
	if (ioctl(fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info) >= 0 && info->count <= first.count)
		return info;
	free(info);
	return NULL;
}

/* With the lock held, as those below. */
static bool is_our_group(const struct vc_vfio_members *all, uint32_t group)
{
	const struct vc_vfio_member *m = all->first;

	while (m && m->group != group)
		m = m->next;
	return m;
}

static void read_affected(const struct vc_vfio_member *self, const struct vfio_pci_hot_reset_info *info,
                          struct vc_vfio_affected *affected)
{
	for (uint32_t i = 0; i < info->count; i++) {
		const struct vfio_pci_dependent_device *d = &info->devices[i];

		snprintf(affected[i].address, sizeof affected[i].address, "%04x:%02x:%02x.%x", d->segment, d->bus,
		         d->devfn >> 3, d->devfn & 7u);
		affected[i].ours = info->flags & VC_VFIO_RESET_BY_DEVICE ? d->group_id != VC_VFIO_RESET_NOT_OURS
		                                                         : is_our_group(self->all, d->group_id);
	}
}

/* One descriptor for each of the groups that it names; none where the kernel knows what is ours. */
static uint32_t collect_groups(const struct vc_vfio_members *all, const struct vfio_pci_hot_reset_info *info,
                               int32_t *fds)
{
	uint32_t count = 0;

	for (const struct vc_vfio_member *m = all->first; m; m = m->next) {
		bool named = false, before = false;

		for (uint32_t i = 0; i < info->count && !(info->flags & VC_VFIO_RESET_BY_DEVICE); i++)
			named |= info->devices[i].group_id == m->group;
		for (uint32_t i = 0; i < count; i++)
			before |= fds[i] == m->group_fd;
		if (named && !before)
			fds[count++] = m->group_fd;
	}
	return count;
}

static int reset(const struct vc_vfio_member *self, const struct vfio_pci_hot_reset_info *info,
                 const struct vc_vfio_affected *affected, int fd)
{
	struct vfio_pci_hot_reset *request = calloc(1, sizeof *request + (info->count + 1u) * sizeof request->group_fds[0]);
	char names[400];
	int r = 0;

	if (!request)
		return vc_fail(ENOMEM, "%s: no memory for its reset", self->address);
	request->count = collect_groups(self->all, info, request->group_fds);
	request->argsz = (uint32_t)(sizeof *request + request->count * sizeof request->group_fds[0]);
	if (ioctl(fd, VFIO_DEVICE_PCI_HOT_RESET, request) < 0) {
		r = -errno;
		name(names, sizeof names, affected, info->count, is_other, self);
		vc_fail_errno(-r, "%s: its slot or bus cannot be reset (each of %s must be vfio-pci's, too)", self->address,
		              names);
	}
	free(request);
	return r;
}

static int check_and_reset(const struct vc_vfio_member *self, const struct vfio_pci_hot_reset_info *info, int fd)
{
	struct vc_vfio_affected *affected = calloc(info->count + 1u, sizeof *affected);
	int r;

	if (!affected)
		return vc_fail(ENOMEM, "%s: no memory for the devices of its slot", self->address);
	read_affected(self, info, affected);
	r = vc_vfio_check_affected(self, affected, info->count);
	if (r >= 0)
		r = reset(self, info, affected, fd);
	free(affected);
	return r;
}

int vc_vfio_hot_reset(struct vc_vfio_member *self, int fd)
{
	struct vfio_pci_hot_reset_info *info = get_info(fd);
	int r;

	if (!info && errno == ENODEV)
		return vc_fail(ENOTSUP, "%s: neither it nor its slot or bus can be reset", self->address);
	if (!info)
		return vc_fail_errno(errno, "%s: which devices its slot has", self->address);
	pthread_mutex_lock(&self->all->lock);
	r = check_and_reset(self, info, fd);
	pthread_mutex_unlock(&self->all->lock);
	free(info);
	return r;
}

/* ---- who is there ---- */

void vc_vfio_members_init(struct vc_vfio_members *all)
{
	pthread_mutex_init(&all->lock, NULL);
	all->first = NULL;
}

void vc_vfio_members_fini(struct vc_vfio_members *all)
{
	pthread_mutex_destroy(&all->lock);
}

void vc_vfio_join(struct vc_vfio_members *all, struct vc_vfio_member *member)
{
	member->all = all;
	pthread_mutex_lock(&all->lock);
	member->next = all->first;
	all->first = member;
	pthread_mutex_unlock(&all->lock);
}

void vc_vfio_leave(struct vc_vfio_member *member)
{
	struct vc_vfio_member **at;

	if (!member->all)
		return;
	pthread_mutex_lock(&member->all->lock);
	for (at = &member->all->first; *at != member;)
		at = &(*at)->next;
	*at = member->next;
	pthread_mutex_unlock(&member->all->lock);
	member->all = NULL;
}
