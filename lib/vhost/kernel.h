/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Queues that vhost in the host's kernel serves: /dev/vhost-net with a tap, /dev/vhost-vsock.
 *
 * It works on the guest's own rings, by addresses of this process, so that guest memory of every kind will do. What it
 * writes is logged by it while a dirty log is on or translated code has to be found, and fetched from there whenever
 * it counts: before the dirty log is read, before an interrupt that goes through the loop, and when it has stopped.
 * vhost-vsock logs no data: there the buffers on the rings count as written. (On backend emu a guest that polls could
 * run what was received before the interrupt for it, where it had run something else before: none does.)
 * When the memory map changes it is stopped and started anew, which the guest does not see.
 */
#ifndef VC_VHOST_KERNEL_H
#define VC_VHOST_KERNEL_H

#include "memory/memory.h"
#include "virtio/served.h"

extern const struct vc_kernel_ops vc_vhost_kernel;

/* ---- kernel_table.c ---- */

enum { VC_KERNEL_REGIONS_MAX = 64 /* what every kernel takes */ };

struct vhost_memory;

/* The memory that the kernel is given: every slot that the guest may write, pinned. */
struct vc_kernel_table {
	struct vc_slot **slots;
	unsigned count;
	uint64_t version; /* of the memory map that it shows */
	struct vhost_memory *memory;
	/* One bit a page from address 0 on, set by the kernel; NULL: not made yet */
	_Atomic uint64_t *log;
	uint64_t log_bytes;
};

/* As the map is now, in place of what it was; the log is empty, and has to be made. -ENOSPC, -ENOMEM, with a sentence:
 * it is empty then. */
int vc_kernel_table_make(struct vc_kernel_table *t, struct vc_mem *mem);
int vc_kernel_table_make_log(struct vc_kernel_table *t);
void vc_kernel_table_drop(struct vc_kernel_table *t);
/* Whether anybody wants to know what is written there. */
bool vc_kernel_table_is_logged(const struct vc_kernel_table *t);
/* Our address of that many bytes in one slot; NULL: there is no such memory. */
void *vc_kernel_table_find(const struct vc_kernel_table *t, uint64_t gpa, uint64_t length);
/* Have a write told by wrote, if it lies in that slot, or in any (NULL). */
void vc_kernel_table_tell(const struct vc_kernel_table *t, const struct vc_slot *slot, uint64_t gpa, uint64_t length,
                          void (*wrote)(struct vc_slot *slot, uint64_t gpa, uint64_t length));
/* Take what has been logged, of one slot or of all (NULL), and have it told by wrote, a page at a time. */
void vc_kernel_table_fetch(struct vc_kernel_table *t, const struct vc_slot *slot,
                           void (*wrote)(struct vc_slot *slot, uint64_t gpa, uint64_t length));

/* ---- kernel_device.c ---- */

/* A descriptor of /dev/vhost-*: its first queue is `first` of the device. */
struct vc_kernel_device {
	int fd, tap; /* tap: -1: none */
	uint32_t first;
	uint64_t features;
};

struct vc_kernel_ring {
	struct vc_served_queue queue;
	const void *descriptors, *driver, *device;
};

enum { VC_KERNEL_RINGS = 2 /* of each device */ };

/* Opens and takes possession. fd -1 on failure. */
int vc_kernel_open_net(struct vc_kernel_device *d, int tap);
int vc_kernel_open_vsock(struct vc_kernel_device *d, uint64_t cid);
void vc_kernel_close(struct vc_kernel_device *d);
/* All below with a sentence. */
int vc_kernel_set_features(const struct vc_kernel_device *d, uint64_t features);
int vc_kernel_set_memory(const struct vc_kernel_device *d, const struct vc_kernel_table *t);
/* n: 0 or 1 */
int vc_kernel_set_ring(const struct vc_kernel_device *d, unsigned n, const struct vc_kernel_ring *ring);
int vc_kernel_get_base(const struct vc_kernel_device *d, unsigned n, uint16_t *base);
/* Serve ring n of a network card, or both of a socket device. */
int vc_kernel_run(const struct vc_kernel_device *d, unsigned n, bool on);

#endif
