/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Queues that the host's kernel serves in our stead, on the guest's own rings: between a frontend and lib/vhost.
 *
 * Such a queue has two descriptors. The guest's doorbell rings one, by KVM's ioeventfd where there is one and else in
 * vc_virtio_kick(). The other is signalled when the driver is to be interrupted, and is sent as a message by KVM's
 * irqfd where the queue has one, and else served by the vm's loop. No chain of it is ever popped here.
 */
#ifndef VC_VIRTIO_SERVED_H
#define VC_VIRTIO_SERVED_H

#include "virtio/virtio.h"

struct vc_kernel;

/* vc_env.kernel: lib/vhost. Functions of one vc_kernel may be called from any thread. */
struct vc_kernel_ops {
	/*
	 * For pairs of queues of a network card: a tap each, whose frames begin with a virtio_net_hdr of 12 bytes if
	 * has_header; borrowed. On failure, here and below, a sentence says what is missing.
	 */
	int (*net)(struct vc_env *env, const int *taps, uint32_t pairs, bool has_header, struct vc_kernel **out);
	/* For the first two queues of a socket device. */
	int (*vsock)(struct vc_env *env, uint64_t cid, struct vc_kernel **out);
	/* Feature bits that it knows: what is not of the device type's work alone is not to be offered without. */
	uint64_t (*features)(const struct vc_kernel *kernel);
	/* For start and stop of a frontend. A start that fails leaves it stopped. */
	int (*start)(struct vc_kernel *kernel, struct vc_virtio *v);
	void (*stop)(struct vc_kernel *kernel);
	/* While the link is down nothing is served. */
	void (*set_link)(struct vc_kernel *kernel, bool up);
	/* For called of a frontend. */
	void (*called)(struct vc_kernel *kernel);
	void (*free)(struct vc_kernel *kernel); /* NULL is allowed */
};

/* Property vhost: on, off, or auto. */
enum vc_kernel_wish { VC_KERNEL_OFF, VC_KERNEL_AUTO, VC_KERNEL_ON };
int vc_kernel_read_wish(struct vc_props *props, enum vc_kernel_wish *wish);
/*
 * Making a vc_kernel has failed with r, and a sentence: 0 where the library's own code does as well, which is logged,
 * else r.
 */
int vc_kernel_fall_back(const struct vc_env *env, const char *type, enum vc_kernel_wish wish, int r);
/* Whether the kernel can have the rings as the properties want them. -ENOTSUP with a sentence. */
int vc_kernel_check_rings(const struct vc_env *env, struct vc_props *props);

/* The help of every device type that reads it. */
#define VC_KERNEL_PROPERTIES \
	"vhost       on: the host's kernel serves the queues, net=tap or socket device; auto: where it can (off)\n"

/* A served queue that the driver has set up. */
struct vc_served_queue {
	uint32_t size;
	uint64_t descriptors, driver, device; /* GPAs */
	uint16_t base;                        /* available entries that are done with; free running */
	int bell, call;                       /* eventfds */
};

/* False: the driver has not set it up. Between start and stop of the frontend. */
bool vc_served_get(struct vc_virtio *v, unsigned n, struct vc_served_queue *queue);
/* Nobody serves it any more: so many entries are done with. */
void vc_served_set_base(struct vc_virtio *v, unsigned n, uint16_t base);
/* What a frontend with served queues counts: that it is one, and the interrupts that did not go past us. */
unsigned vc_served_statistics(const struct vc_virtio *v, struct vc_stat stats[VC_STATS_MAX]);

#endif
