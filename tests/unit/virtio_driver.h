/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A virtio driver in process: plays the guest towards a device. Rings and buffers lie in the vm's memory; the device's
 *registers are reached through the bus. They have the numbers of the MMIO transport; on PCI they are found where that
 *has them. What must not happen aborts with a sentence.
 *
 *	struct vdrv d;
 *	struct vdrv_queue q;
 *
 *	vdrv_attach(&d, &env, VDRV_HEAP);              the newest virtio device
 *	vdrv_negotiate(&d, ~0ull);                     all that it offers
 *	vdrv_queue(&d, &q, 0, 256);
 *	vdrv_start(&d);
 *	gpa = vdrv_alloc(&d, 4096, 16);                memory of the guest, until vdrv_attach() is called again
 *	vdrv_add(&q, &(struct vdrv_buf){gpa, 4096, true}, 1, token);
 *	vdrv_kick(&q);
 *	token = vdrv_wait(&q, &written);               turns the loop meanwhile
 */
#ifndef VIRTIO_DRIVER_H
#define VIRTIO_DRIVER_H

#include "virtio/virtio.h"

#define VDRV_HEAP     0x10000ull /* a good place for rings and buffers in a test's RAM */
#define VDRV_TABLE    64u        /* entries of an indirect table */
#define VDRV_SIZE_MAX 1024u

/* Registers of the MMIO transport, for tests that misuse them. */
enum {
	VDRV_DEVICE_FEATURES = 0x010,
	VDRV_DEVICE_FEATURES_SEL = 0x014,
	VDRV_DRIVER_FEATURES = 0x020,
	VDRV_DRIVER_FEATURES_SEL = 0x024,
	VDRV_QUEUE_SEL = 0x030,
	VDRV_QUEUE_SIZE_MAX = 0x034,
	VDRV_QUEUE_SIZE = 0x038,
	VDRV_QUEUE_READY = 0x044,
	VDRV_QUEUE_NOTIFY = 0x050,
	VDRV_ISR = 0x060,
	VDRV_ACK = 0x064,
	VDRV_STATUS = 0x070,
	VDRV_QUEUE_DESC = 0x080,
	VDRV_QUEUE_DRIVER = 0x090,
	VDRV_QUEUE_DEVICE = 0x0a0,
	VDRV_QUEUE_RESET = 0x0c0,
	VDRV_GENERATION = 0x0fc,
	VDRV_CONFIG = 0x100,
};

struct vdrv {
	struct vc_env *env;
	struct vc_dev *dev;
	uint64_t base, heap;
	uint64_t features; /* negotiated */
	/* PCI: the devfn, and the BAR offsets of the structures that its capabilities name */
	bool pci;
	unsigned devfn;
	uint32_t common, notify, notify_step, isr, config;
};

struct vdrv_buf {
	uint64_t gpa;
	uint32_t length;
	bool write; /* by the device */
};

struct vdrv_queue {
	struct vdrv *d;
	uint32_t index;
	uint16_t size, free; /* descriptors */
	bool packed, event_idx;
	bool use_indirect;                         /* chains of two buffers and more go through a table, where negotiated */
	bool interrupts;                           /* wanted */
	uint64_t desc_gpa, driver_gpa, device_gpa; /* for tests that scribble */
	uint8_t *desc, *driver, *device;           /* host addresses of the same */
	uint64_t tables_gpa;                       /* VDRV_TABLE entries for each ID */
	uint8_t *tables;                           /* NULL: no indirect descriptors */
	uint16_t avail, used, kicked;              /* split: free running; packed: positions */
	uint16_t added;                            /* packed: descriptors since the last kick */
	bool avail_wrap, used_wrap;
	uint16_t free_head; /* of IDs (packed), of descriptors (split) */
	uint16_t next[VDRV_SIZE_MAX], descs[VDRV_SIZE_MAX];
	void *tokens[VDRV_SIZE_MAX];
};

/* The newest device that answers there; reset and acknowledged. heap: where in RAM rings and buffers may go. */
void vdrv_attach(struct vdrv *d, struct vc_env *env, uint64_t heap);
/* What the device offers out of wanted; true: the device agreed (FEATURES_OK). */
bool vdrv_negotiate(struct vdrv *d, uint64_t wanted);
void vdrv_queue(struct vdrv *d, struct vdrv_queue *q, uint32_t index, uint32_t size);
void vdrv_start(struct vdrv *d); /* DRIVER_OK */
void vdrv_reset(struct vdrv *d);
uint8_t vdrv_status(struct vdrv *d);

uint32_t vdrv_read(struct vdrv *d, uint32_t reg);
void vdrv_write(struct vdrv *d, uint32_t reg, uint32_t value);
/* virtio_driver_pci.c: find and enable dev; false: it is no virtio device on PCI. And an access, at MMIO's numbers. */
bool vdrv_pci_attach(struct vdrv *d, struct vc_dev *dev);
uint64_t vdrv_pci_access(struct vdrv *d, uint32_t reg, unsigned width, bool write, uint64_t data);
/* Configuration space; width 1, 2, 4 or 8. */
uint64_t vdrv_config(struct vdrv *d, uint32_t offset, unsigned width);
void vdrv_set_config(struct vdrv *d, uint32_t offset, unsigned width, uint64_t value);

/* Zeroed memory of the guest, and its host address. */
uint64_t vdrv_alloc(struct vdrv *d, uint64_t length, uint64_t align);
void *vdrv_ptr(struct vdrv *d, uint64_t gpa);

/* Make a chain available; false: no room. token comes back from vdrv_get(); not NULL. */
bool vdrv_add(struct vdrv_queue *q, const struct vdrv_buf *bufs, unsigned count, void *token);
/* Ring the doorbell if the device wants that; true: rung. */
bool vdrv_kick(struct vdrv_queue *q);
/* The token of the next used chain, or NULL. written may be NULL. */
void *vdrv_get(struct vdrv_queue *q, uint32_t *written);
/* The same, and turns the loop until there is one; aborts after 20 seconds. */
void *vdrv_wait(struct vdrv_queue *q, uint32_t *written);
/* add, kick and wait; returns the bytes written. */
uint32_t vdrv_do(struct vdrv_queue *q, const struct vdrv_buf *bufs, unsigned count);
/* Turns the loop until it has nothing to do. With worker threads that says little. */
void vdrv_settle(struct vdrv *d);
/* Ask for interrupts, or not; initially on. */
void vdrv_interrupts(struct vdrv_queue *q, bool on);
/* What the device has interrupted for since the last call: bit 0 queues, bit 1 configuration. */
uint32_t vdrv_take_isr(struct vdrv *d);

#endif
