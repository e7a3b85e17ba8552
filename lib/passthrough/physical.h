/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A PCI device that is not ours, and how it is reached: through the kernel (vfio.c) or through messages to the process
 * that serves it (vfio-user). Regions, interrupts and their numbers are those of VFIO's PCI devices, which both speak;
 * what the guest sees of it is made in pci.c, for both alike.
 *
 * Threads: every operation may be called from any thread, several at once, with locks of the front held, and may wait
 * for the device; never inside the gate's exclusive section. An operation that fails gives -errno and a sentence by
 * vc_fail(), naming the device. What the device says is not to be believed: its owner checks that info is in bounds
 * (sizes, areas inside their region, counts), the front checks what it means.
 */
#ifndef VC_PASSTHROUGH_PHYSICAL_H
#define VC_PASSTHROUGH_PHYSICAL_H

#include <stdbool.h>
#include <stdint.h>

/* Regions: VFIO_PCI_*_REGION_INDEX */
enum {
	VC_PHYSICAL_BAR0 = 0, /* up to 5: each by its register's number, the upper half of a 64-bit one is empty */
	VC_PHYSICAL_ROM = 6,
	VC_PHYSICAL_CONFIG = 7,
	VC_PHYSICAL_REGIONS,
};

enum {
	VC_PHYSICAL_READ = 1u << 0,
	VC_PHYSICAL_WRITE = 1u << 1,
	VC_PHYSICAL_AREAS_MAX = 8,
};

/* A part of a region that can be mapped with mmap(). */
struct vc_physical_area {
	uint64_t offset, length; /* in the region; both multiples of 4096, inside it, ascending, disjoint */
};

struct vc_physical_region {
	uint64_t size;       /* 0: there is none */
	uint32_t flags;      /* VC_PHYSICAL_READ, _WRITE: of accesses and of mappings */
	int fd;              /* area.offset is at fd_offset + area.offset of it; the physical's own, until its destroy */
	uint64_t fd_offset;  /* a multiple of 4096 */
	uint32_t area_count; /* 0: nothing can be mapped, fd means nothing */
	struct vc_physical_area areas[VC_PHYSICAL_AREAS_MAX];
};

/* Interrupts: VFIO_PCI_*_IRQ_INDEX */
enum {
	VC_PHYSICAL_INTX = 0,
	VC_PHYSICAL_MSI = 1,
	VC_PHYSICAL_MSIX = 2,
};

struct vc_slot;
struct vc_iommu_windows;
struct vc_peers;

/* Memory of the guest, or other addresses of the process, that the device may reach at `iova`. */
struct vc_physical_dma {
	uint64_t iova, length; /* multiples of 4096. Mappings do not overlap: iova names one */
	void *hva;
	int fd;          /* a file that others can map for the same bytes; -1: there is none, only hva leads there */
	uint64_t offset; /* in fd */
	/* The slot that hva is in, pinned likewise, and the address there: for who writes through hva in the device's place
	 * (vc_mem_wrote). NULL: not the guest's memory. */
	struct vc_slot *slot;
	uint64_t gpa;
	uint32_t flags; /* VC_PHYSICAL_READ, _WRITE: what the device may do there */
};

/* What the front is told. On any thread but those inside an operation, with no lock of the physical held. */
struct vc_physical_events {
	/* Its owner wants the device back: it is to be let go of. May come again and again. */
	void (*wanted)(void *ctx);
	/* It is gone, or is of no use any more. From now on operations fail, reads give all ones. At most once. */
	void (*gone)(void *ctx, const char *why);
};

struct vc_physical;

struct vc_physical_ops {
	/* Constant as long as the device is there. A region that is not there is one of size 0. */
	int (*region_info)(struct vc_physical *p, unsigned region, struct vc_physical_region *info);
	/*
	 * length: 1, 2, 4 or 8, inside the region, any alignment; little endian; one access of that width where the
	 * device can (8 may be two of 4). Of the configuration space also any other length, byte by byte if need be.
	 */
	int (*region_read)(struct vc_physical *p, unsigned region, uint64_t offset, void *data, uint32_t length);
	int (*region_write)(struct vc_physical *p, unsigned region, uint64_t offset, const void *data, uint32_t length);

	/* How many vectors: INTX 0 or 1, MSI up to 32, MSIX up to 2048. */
	int (*irq_count)(struct vc_physical *p, unsigned irq, uint32_t *count);
	/*
	 * Have vectors 0 to count-1 write to these eventfds, count as of irq_count() or less; -1: to none. In place of
	 * what was before; the descriptors are the caller's and stay open until replaced. count 0: off, the device's MSI,
	 * MSI-X or pin is disabled. At most one of the three is on at a time.
	 */
	int (*irq_set)(struct vc_physical *p, unsigned irq, uint32_t count, const int *fds);
	/*
	 * INTx is level-triggered: once it has written to its eventfd it is masked. Unmask it: if the device asserts it
	 * still, or again, the eventfd is written to again. Allowed when it is not masked, or not on.
	 */
	int (*intx_unmask)(struct vc_physical *p);
	/* The same whenever somebody writes to this eventfd, without a call; -1: not any more. After irq_set(INTX). The
	 * caller's, open until replaced. -ENOTSUP: only by intx_unmask(). May be NULL, which is the same. */
	int (*intx_unmask_by)(struct vc_physical *p, int fd);

	/* To its state after power-on, but for what irq_set and dma_map have made. -ENOTSUP: it cannot. */
	int (*reset)(struct vc_physical *p);

	/* Memory is pinned by its owner until it is unmapped. -ENOMEM, -EPERM: limits; -ENOTSUP. */
	int (*dma_map)(struct vc_physical *p, const struct vc_physical_dma *dma);
	/* What a dma_map of that iova and length made. The device reaches nothing there when this returns. */
	int (*dma_unmap)(struct vc_physical *p, uint64_t iova, uint64_t length);

	/* Where iova can be, and that pages of 4096 bytes can be mapped. NULL: anywhere. */
	int (*dma_windows)(struct vc_physical *p, struct vc_iommu_windows *windows);

	/* From now on; what has happened before is told again. NULL: nothing more, none runs when this returns, unless it
	 * was called from one. */
	void (*listen)(struct vc_physical *p, const struct vc_physical_events *events, void *ctx);

	/* Nobody listens. Interrupts are off and all is unmapped afterwards, whatever was before. */
	void (*destroy)(struct vc_physical *p);
};

/* Embedded in its owner's struct. */
struct vc_physical {
	const struct vc_physical_ops *ops;
	const char *name; /* for messages: "0000:01:00.0", or the path of a socket; lives as long */
	/* Those of the same vm with which it shares buses: what can be mapped of its regions they may reach by DMA; NULL:
	 * it has none. reaches_peers: it may reach theirs. */
	struct vc_peers *peers;
	bool reaches_peers;
};

/*
 * What the guest is given (pci.c). The last that create() of a device type calls: adds the function to env's PCI,
 * with the device's own configuration space, BARs and interrupts, and maps the guest's memory. physical is taken over:
 * on failure its destroy has been called.
 */
#define VC_PASSTHROUGH_PROPERTIES                                                                   \
	"addr         PCI address: device, device.function or port/function (the lowest free device)\n" \
	"reset        off: leave the device as it is when the vm begins and is reset (on)\n"

struct vc_env;
struct vc_props;
struct vc_dev;
int vc_passthrough_add(struct vc_env *env, struct vc_props *props, const char *type, struct vc_physical *physical,
                       struct vc_dev **dev);

#endif
