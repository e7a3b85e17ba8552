/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the files of the PCI transport. */
#ifndef VC_VIRTIO_PCI_PRIV_H
#define VC_VIRTIO_PCI_PRIV_H

#include "bus/pci.h"
#include "virtio/virtio.h"

enum { VC_VIRTIO_PCI_COMMON_LENGTH = 60, VC_VIRTIO_PCI_NO_VECTOR = 0xffff, VC_VIRTIO_PCI_VERSION = 1 };

/* What the transport itself remembers. The vectors of the queues follow it in a saved state. */
struct pci_regs {
	uint32_t version;
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select, config_vector;
	uint32_t isr;
};

struct vc_virtio_pci {
	struct vc_virtio *v;
	struct vc_dev *dev;
	uint32_t queues, vectors;
	bool legacy;          /* the legacy interface is there as well */
	uint32_t window;      /* offset of that capability */
	uint64_t bells_at;    /* where the BAR with the doorbells is; 0: nowhere. Under the bus's lock of mappings */
	pthread_mutex_t lock; /* protects regs, queue_vector and INTx; innermost but for the bus's */
	struct pci_regs regs;
	uint16_t *queue_vector;
};

/* pci_common.c: the common configuration structure. Accesses of a width that a field has not read 0 and change nothing.
 */
uint64_t vc_virtio_pci_read_common(struct vc_virtio_pci *p, uint32_t at, uint32_t width);
void vc_virtio_pci_write_common(struct vc_virtio_pci *p, uint32_t at, uint32_t width, uint64_t value);
struct pci_regs vc_virtio_pci_regs(struct vc_virtio_pci *p);
/* One that is not there is none. */
void vc_virtio_pci_set_vector(struct vc_virtio_pci *p, uint16_t *vector, uint32_t value);
uint16_t vc_virtio_pci_queue_vector(struct vc_virtio_pci *p, uint32_t n);
void vc_virtio_pci_select_queue(struct vc_virtio_pci *p, uint16_t n);
/* As the driver does: device, registers, vectors, interrupt. */
void vc_virtio_pci_reset(struct vc_virtio_pci *p);

/* pci_legacy.c: the legacy interface; the length of its BAR. */
uint32_t vc_virtio_pci_legacy_length(const struct vc_virtio_ops *ops);
uint64_t vc_virtio_pci_read_legacy(struct vc_virtio_pci *p, uint32_t at, uint32_t width);
void vc_virtio_pci_write_legacy(struct vc_virtio_pci *p, uint32_t at, uint32_t width, uint64_t value);

/* pci.c: the interrupt status, which goes away by being read. */
uint32_t vc_virtio_pci_take_isr(struct vc_virtio_pci *p);

#endif
