/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A device of the host's that VFIO lets us drive. */
#include "passthrough/vfio.h"

#include <linux/vfio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bus/iommu.h"
#include "chipset/chipset.h"
#include <virtcore/error.h>

#include "core/error.h"
#include "core/util.h"
#include "passthrough/bind.h"
#include "passthrough/physical.h"
#include "passthrough/sysfs.h"
#include "passthrough/types.h"

enum { COMMAND = 4, COMMAND_ACTIVE = 1 << 0 | 1 << 1 | 1 << 2 /* I/O, memory, bus master */ };

#define INFO_MAX VC_KIB(64) /* what the kernel tells of a region, with its capabilities */

/* Interrupts that are the host's news of the device. */
struct news {
	unsigned irq;
	int fd; /* -1: it tells no such thing */
	struct vc_watch *watch;
};

struct vfio {
	struct vc_physical physical;
	struct vc_env *env;
	char address[VC_SYSFS_ADDRESS];
	enum vc_vfio_way way;
	struct vc_vfio_group *group;
	int fd;
	struct vc_vfio_member member;
	uint32_t flags; /* VFIO_DEVICE_FLAGS_* */
	bool by_power;  /* the best reset of its own is that of its power states */
	uint64_t offsets[VC_PHYSICAL_REGIONS], sizes[VC_PHYSICAL_REGIONS];
	struct news request, error;
	const struct vc_physical_events *events;
	void *events_ctx;
	bool rebound; /* it is given back afterwards, to: */
	char driver[VC_SYSFS_NAME];
};

static struct vfio *vfio_of(struct vc_physical *p)
{
	return VC_CONTAINER_OF(p, struct vfio, physical);
}

/* ---- regions ---- */

/* VFIO_DEVICE_GET_REGION_INFO with what follows it; freed by the caller. */
static struct vfio_region_info *get_info(struct vfio *v, unsigned region)
{
	size_t size = sizeof(struct vfio_region_info);
	struct vfio_region_info *info = NULL, *grown;

	for (unsigned tries = 0; tries < 2; tries++) {
		grown = realloc(info, size);
		if (!grown)
			break;
		info = grown;
		memset(info, 0, size);
		info->argsz = (uint32_t)size;
		info->index = region;
		if (ioctl(v->fd, VFIO_DEVICE_GET_REGION_INFO, info) < 0)
			break;
		if (info->argsz <= size)
			return info;
		if (info->argsz > INFO_MAX)
			break;
		size = info->argsz;
	}
	free(info);
	return NULL;
}

static void add_area(struct vc_physical_region *region, uint64_t offset, uint64_t length)
{
	uint64_t start = VC_ALIGN_UP(offset, (uint64_t)VC_PAGE_SIZE), end = VC_ALIGN_DOWN(offset + length, VC_PAGE_SIZE);

	if (start < end && end <= region->size && region->area_count < VC_PHYSICAL_AREAS_MAX)
		region->areas[region->area_count++] = (struct vc_physical_area){start, end - start};
}

/* The parts that can be mapped, if it is not the whole. */
static const struct vfio_region_info_cap_sparse_mmap *find_sparse(const struct vfio_region_info *info)
{
	uint32_t at = info->flags & VFIO_REGION_INFO_FLAG_CAPS ? info->cap_offset : 0;

	while (at && at + sizeof(struct vfio_info_cap_header) <= info->argsz) {
		const struct vfio_info_cap_header *head = (const void *)((const uint8_t *)info + at);

		if (head->id == VFIO_REGION_INFO_CAP_SPARSE_MMAP)
			return (const void *)head;
		at = head->next;
	}
	return NULL;
}

static void find_areas(const struct vfio_region_info *info, struct vc_physical_region *region)
{
	const struct vfio_region_info_cap_sparse_mmap *sparse = find_sparse(info);

	if (!sparse)
		add_area(region, 0, region->size);
	for (uint32_t i = 0; sparse && i < sparse->nr_areas; i++)
		add_area(region, sparse->areas[i].offset, sparse->areas[i].size);
}

static int vfio_region_info_of(struct vc_physical *p, unsigned index, struct vc_physical_region *region)
{
	struct vfio *v = vfio_of(p);
	struct vfio_region_info *info = get_info(v, index);

	*region = (struct vc_physical_region){.fd = -1};
	/* of some devices the kernel refuses to speak of regions that they have not */
	if (!info)
		return 0;
	region->size = info->size;
	region->flags = (info->flags & VFIO_REGION_INFO_FLAG_READ ? VC_PHYSICAL_READ : 0) |
	                (info->flags & VFIO_REGION_INFO_FLAG_WRITE ? VC_PHYSICAL_WRITE : 0);
	region->fd = v->fd;
	region->fd_offset = info->offset;
	v->offsets[index] = info->offset;
	v->sizes[index] = info->size;
	if (info->flags & VFIO_REGION_INFO_FLAG_MMAP)
		find_areas(info, region);
	free(info);
	return 0;
}

static int fail_access(const struct vfio *v, const char *what, unsigned region, uint64_t offset, ssize_t done)
{
	return vc_fail_errno(done < 0 ? errno : EIO, "%s: %s at %#llx of region %u", v->address, what,
	                     (unsigned long long)offset, region);
}

static int vfio_region_read(struct vc_physical *p, unsigned region, uint64_t offset, void *data, uint32_t length)
{
	struct vfio *v = vfio_of(p);
	ssize_t n = pread(v->fd, data, length, (off_t)(v->offsets[region] + offset));

	return n == (ssize_t)length ? 0 : fail_access(v, "reading", region, offset, n);
}

static int vfio_region_write(struct vc_physical *p, unsigned region, uint64_t offset, const void *data, uint32_t length)
{
	struct vfio *v = vfio_of(p);
	ssize_t n;

	if (region == VC_PHYSICAL_CONFIG && offset == COMMAND)
		atomic_store(&v->member.quiet, !(*(const uint8_t *)data & COMMAND_ACTIVE));
	n = pwrite(v->fd, data, length, (off_t)(v->offsets[region] + offset));
	return n == (ssize_t)length ? 0 : fail_access(v, "writing", region, offset, n);
}

/* ---- interrupts ---- */

static int vfio_irq_count(struct vc_physical *p, unsigned irq, uint32_t *count)
{
	struct vfio_irq_info info = {.argsz = sizeof info, .index = irq};

	/* an index that the device has not is refused */
	*count = ioctl(vfio_of(p)->fd, VFIO_DEVICE_GET_IRQ_INFO, &info) < 0 ? 0 : info.count;
	return 0;
}

/* fds: NULL: none, the action alone. */
static int set_irqs(struct vfio *v, unsigned irq, uint32_t action, uint32_t count, const int *fds)
{
	size_t size = sizeof(struct vfio_irq_set) + (fds ? count * sizeof *fds : 0);
	struct vfio_irq_set *set = calloc(1, size);
	int r;

	if (!set)
		return vc_fail(ENOMEM, "%s: no memory for %u interrupts", v->address, count);
	*set = (struct vfio_irq_set){
	    .argsz = (uint32_t)size,
	    .flags = action | (fds ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE),
	    .index = irq,
	    .count = count,
	};
	if (fds)
		memcpy(set->data, fds, count * sizeof *fds);
	r = ioctl(v->fd, VFIO_DEVICE_SET_IRQS, set) < 0 ? -errno : 0;
	free(set);
	return r;
}

static int vfio_irq_set(struct vc_physical *p, unsigned irq, uint32_t count, const int *fds)
{
	struct vfio *v = vfio_of(p);
	int r = set_irqs(v, irq, VFIO_IRQ_SET_ACTION_TRIGGER, count, count ? fds : NULL);

	return r < 0 ? vc_fail_errno(-r, "%s: %u interrupts of kind %u", v->address, count, irq) : 0;
}

static int vfio_intx_unmask(struct vc_physical *p)
{
	struct vfio *v = vfio_of(p);
	int r = set_irqs(v, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, 1, NULL);

	/* EINVAL: it is not on */
	return r < 0 && r != -EINVAL ? vc_fail_errno(-r, "%s: INTx stays masked", v->address) : 0;
}

static int vfio_intx_unmask_by(struct vc_physical *p, int fd)
{
	struct vfio *v = vfio_of(p);
	int r = set_irqs(v, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, 1, &fd);

	return r < 0 ? vc_fail_errno(-r, "%s: INTx cannot be unmasked by an eventfd", v->address) : 0;
}

/* ---- the rest ---- */

static int reset_alone(struct vfio *v)
{
	return ioctl(v->fd, VFIO_DEVICE_RESET) < 0 ? vc_fail_errno(errno, "%s: it cannot be reset", v->address) : 0;
}

/* A device that goes through its power states need not forget anything by it: better with its slot, where that can be.
 */
static int vfio_reset(struct vc_physical *p)
{
	struct vfio *v = vfio_of(p);
	bool alone = v->flags & VFIO_DEVICE_FLAGS_RESET;
	int r = alone && !v->by_power ? reset_alone(v) : vc_vfio_hot_reset(&v->member, v->fd);

	return r < 0 && alone && v->by_power ? reset_alone(v) : r;
}

static int vfio_dma_map(struct vc_physical *p, const struct vc_physical_dma *dma)
{
	struct vfio *v = vfio_of(p);

	return vc_vfio_group_map(v->env->vfio, v->group, dma);
}

static int vfio_dma_unmap(struct vc_physical *p, uint64_t iova, uint64_t length)
{
	struct vfio *v = vfio_of(p);

	return vc_vfio_group_unmap(v->env->vfio, v->group, iova, length);
}

static int vfio_dma_windows(struct vc_physical *p, struct vc_iommu_windows *windows)
{
	struct vfio *v = vfio_of(p);

	return vc_vfio_group_windows(v->group, v->address, windows);
}

static bool drain(const struct news *news)
{
	uint64_t count;

	return read(news->fd, &count, sizeof count) == sizeof count;
}

static void requested(void *ctx, uint32_t events)
{
	struct vfio *v = ctx;

	if (drain(&v->request))
		v->events->wanted(v->events_ctx);
}

static void failed(void *ctx, uint32_t events)
{
	struct vfio *v = ctx;

	if (drain(&v->error))
		v->events->gone(v->events_ctx, "it has reported an error that it cannot recover from (AER)");
}

static void stop_news(struct vfio *v, struct news *news)
{
	int none = -1;

	vc_watch_free(news->watch);
	news->watch = NULL;
	if (news->fd < 0)
		return;
	set_irqs(v, news->irq, VFIO_IRQ_SET_ACTION_TRIGGER, 1, &none);
	close(news->fd);
	news->fd = -1;
}

/* What the device, or the kernel, does not tell we do without. */
static void start_news(struct vfio *v, struct news *news, unsigned irq, vc_watch_fn fn)
{
	struct vfio_irq_info info = {.argsz = sizeof info, .index = irq};

	news->irq = irq;
	if (ioctl(v->fd, VFIO_DEVICE_GET_IRQ_INFO, &info) < 0 || !info.count)
		return;
	news->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (news->fd < 0 || vc_watch_new(v->env->loop, news->fd, EPOLLIN, fn, v, &news->watch) < 0 ||
	    set_irqs(v, irq, VFIO_IRQ_SET_ACTION_TRIGGER, 1, &news->fd) < 0)
		stop_news(v, news);
}

static void vfio_listen(struct vc_physical *p, const struct vc_physical_events *events, void *ctx)
{
	struct vfio *v = vfio_of(p);

	stop_news(v, &v->request);
	stop_news(v, &v->error);
	v->events = events;
	v->events_ctx = ctx;
	if (!events)
		return;
	start_news(v, &v->request, VFIO_PCI_REQ_IRQ_INDEX, requested);
	start_news(v, &v->error, VFIO_PCI_ERR_IRQ_INDEX, failed);
}

static void give_back(struct vfio *v)
{
	if (v->rebound && vc_bind_release("", v->address, v->driver[0] ? v->driver : NULL) < 0)
		vc_log(v->env->log, VCORE_LOG_WARN, "%s", vcore_error_message());
}

static void vfio_destroy(struct vc_physical *p)
{
	struct vfio *v = vfio_of(p);

	vc_vfio_leave(&v->member);
	if (v->fd >= 0)
		close(v->fd);
	if (v->group)
		vc_vfio_group_put(v->env->vfio, v->group);
	give_back(v);
	free(v);
}

static const struct vc_physical_ops vfio_ops = {
    .region_info = vfio_region_info_of,
    .region_read = vfio_region_read,
    .region_write = vfio_region_write,
    .irq_count = vfio_irq_count,
    .irq_set = vfio_irq_set,
    .intx_unmask = vfio_intx_unmask,
    .intx_unmask_by = vfio_intx_unmask_by,
    .reset = vfio_reset,
    .dma_map = vfio_dma_map,
    .dma_unmap = vfio_dma_unmap,
    .dma_windows = vfio_dma_windows,
    .listen = vfio_listen,
    .destroy = vfio_destroy,
};

/* ---- making ---- */

static int open_device(struct vfio *v)
{
	struct vfio_device_info info = {.argsz = sizeof info};
	char methods[64];
	int r = vc_vfio_group_get(v->env->vfio, v->address, v->way, &v->group);

	if (r >= 0 && v->env->pci && vc_pci_iommu(v->env->pci))
		r = vc_vfio_group_check_alone(v->env->vfio, v->group, v->address);
	if (r < 0)
		return r;
	v->fd = vc_vfio_group_open_device(v->group, v->address);
	if (v->fd < 0)
		return v->fd;
	if (ioctl(v->fd, VFIO_DEVICE_GET_INFO, &info) < 0)
		return vc_fail_errno(errno, "%s: VFIO tells nothing of it", v->address);
	if (!(info.flags & VFIO_DEVICE_FLAGS_PCI))
		return vc_fail(ENOTSUP, "%s: it is no PCI device to VFIO (flags %#x)", v->address, info.flags);
	v->flags = info.flags;
	v->by_power =
	    vc_sysfs_read("", v->address, "reset_method", methods, sizeof methods) >= 0 && !strncmp(methods, "pm", 2);
	v->member.group = vc_vfio_group_number(v->group);
	vc_log(v->env->log, VCORE_LOG_INFO, "%s: IOMMU group %u by %s", v->address, v->member.group,
	       vc_vfio_group_way(v->group));
	v->member.group_fd = vc_vfio_group_fd(v->group);
	vc_vfio_join(&v->env->vfio->members, &v->member);
	return 0;
}

/* Registers of others are memory to a container alone. */
static int read_way(struct vc_props *props, struct vfio *v)
{
	static const struct {
		const char *name;
		enum vc_vfio_way way;
	} ways[] = {{"auto", VC_VFIO_ANY_WAY}, {"on", VC_VFIO_IOMMUFD}, {"off", VC_VFIO_CONTAINER}};
	const char *text = vc_props_string(props, "iommufd", ways[0].name);
	unsigned i = 0;

	while (i < VC_ARRAY_SIZE(ways) && strcmp(text, ways[i].name))
		i++;
	if (i == VC_ARRAY_SIZE(ways))
		return vc_fail(EINVAL, "vfio-pci: property iommufd=%s: expected auto, on or off", text);
	v->way = ways[i].way;
	if (v->way == VC_VFIO_ANY_WAY && v->physical.reaches_peers && access("/dev/vfio/vfio", F_OK) == 0)
		v->way = VC_VFIO_CONTAINER;
	return 0;
}

static int vfio_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	const char *host = vc_props_string(props, "host", NULL);
	struct vfio *v = calloc(1, sizeof *v);
	bool rebind = false;
	int r;

	if (!v)
		return vc_fail(ENOMEM, "no memory for a vfio-pci");
	v->env = env;
	v->member.address = v->address;
	v->member.quiet = true;
	v->fd = v->request.fd = v->error.fd = -1;
	v->physical = (struct vc_physical){.ops = &vfio_ops, .name = v->address, .peers = &env->vfio->peers};
	if (!host)
		r = vc_fail(EINVAL, "vfio-pci: property host is missing: expected the device's address, like 0000:01:00.0");
	else
		r = vc_sysfs_address(host, v->address);
	if (r >= 0)
		r = vc_props_bool(props, "rebind", false, &rebind);
	if (r >= 0)
		r = vc_props_bool(props, "p2p", false, &v->physical.reaches_peers);
	if (r >= 0)
		r = read_way(props, v);
	if (r >= 0 && rebind) {
		r = vc_bind_to_vfio("", v->address, v->driver);
		v->rebound = r > 0;
	}
	if (r >= 0)
		r = open_device(v);
	if (r < 0) {
		vfio_destroy(&v->physical);
		return r;
	}
	return vc_passthrough_add(env, props, "vfio-pci", &v->physical, dev);
}

const struct vc_device_type vc_vfio_pci_type = {
    .name = "vfio-pci",
    .summary = "a PCI device of the host's, given to the guest by VFIO; needs an IOMMU",
    .properties =
        "host         its address there: 0000:01:00.0 or 01:00.0; bound to driver vfio-pci\n"
        "rebind       on: bind it to vfio-pci first, and give it back to its driver afterwards "
        "(off)\n"
        "p2p          on: it may reach the BARs of the vm's other vfio-pci devices by DMA "
        "(off)\n"
        "iommufd      auto: its address space is one of /dev/iommu where the host has that, but with p2p=on; on, "
        "off (auto)\n" VC_PASSTHROUGH_PROPERTIES,
    .create = vfio_create,
};
