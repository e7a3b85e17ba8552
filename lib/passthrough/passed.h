/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The function that a guest is given in place of a device that is not ours: what its files share. */
#ifndef VC_PASSTHROUGH_PASSED_H
#define VC_PASSTHROUGH_PASSED_H

#include "bus/iommu.h"
#include "chipset/chipset.h"
#include "passthrough/config.h"
#include "passthrough/peers.h"
#include "passthrough/physical.h"

/* ---- registers.c: BARs that the guest reaches without a call ---- */

/* Up to an area's number, and the holes for MSI-X split two of them. */
#define VC_PASSED_PIECES_MAX (VC_PHYSICAL_AREAS_MAX + 2)

struct vc_passed_piece {
	uint64_t offset, length;
	void *hva;
	uint64_t at; /* where the guest has it; all ones: not given to it. Under vc_passed_registers.lock */
};

struct vc_passed_bar {
	struct vc_physical_region region;
	uint64_t at; /* where the guest has the BAR; all ones: nowhere. Under vc_passed_registers.lock */
	unsigned count;
	struct vc_passed_piece pieces[VC_PASSED_PIECES_MAX];
};

struct vc_passed_registers {
	pthread_mutex_t lock;
	bool trapped;          /* the guest's accesses are to be seen, under lock */
	bool ended;            /* nothing is anywhere any more, under lock */
	_Atomic bool decoding; /* the device answers at its BARs */
	struct vc_passed_bar bars[VCORE_PCI_BARS];
};

/* ---- interrupts.c ---- */

enum vc_passed_mode { VC_PASSED_OFF, VC_PASSED_INTX, VC_PASSED_MSI, VC_PASSED_MSIX };

struct vc_passed_vector {
	struct vc_passed *passed;
	uint32_t number;
	int fd;                 /* eventfd to which the device writes */
	struct vc_watch *watch; /* the loop reads it; NULL: the kernel does */
	struct vc_irq_route route;
	bool direct; /* ... by that route */
};

struct vc_passed_irqs {
	pthread_mutex_t lock; /* protects all below; taken by no callback of the loop */
	enum vc_passed_mode mode;
	struct vc_passed_vector *vectors;
	uint32_t count;
	int resample;               /* eventfd: the guest is done with INTx; -1: there is none */
	_Atomic bool asserted;      /* INTx, seen by the loop */
	_Atomic uint64_t by_loop;   /* interrupts that came through the loop */
	_Atomic uint64_t by_kernel; /* how often a vector was given to the kernel */
};

/* ---- dma.c ---- */

#define VC_PASSED_MAPPINGS_MAX (1u << 20)
#define VC_PASSED_LOGGED_MAX   8u

/* What there is for the device to reach. */
struct vc_passed_target {
	uint64_t gpa, length;
	void *hva;
	uint32_t flags;       /* VC_PHYSICAL_READ, _WRITE: what is possible there */
	struct vc_slot *slot; /* pinned; and fixed while something of it is mapped. NULL: registers of a peer: */
	const char *peer;     /* its name, that lives as long as they are there */
	uint32_t users;       /* mappings of it */
};

struct vc_passed_mapping {
	struct vc_passed_target *target;
	uint64_t iova, gpa, length;
	uint32_t flags;
};

/* IOVAs by which the device reaches guest-physical addresses, and those of the targets that lie there. */
struct vc_passed_range {
	struct vc_iommu_range range;
	struct vc_passed_range *next, **at; /* list of all */
	uint32_t count;
	struct vc_passed_mapping *mappings;
};

struct vc_passed_dma {
	pthread_mutex_t lock;               /* protects all below but endpoint; never held while watching memory */
	struct vc_iommu_endpoint *endpoint; /* what the guest's IOMMU says of it; NULL: it reaches all. Constant */
	struct vc_mem_watcher watcher;
	bool watching;
	struct vc_peer peer;
	struct vc_passed_target **targets;
	uint32_t target_count;
	uint64_t version, peers;        /* of the memory map and of the peers' registers that they show */
	void *tree;                     /* of ranges, by first IOVA, for tsearch() */
	struct vc_passed_range *ranges; /* the same */
	uint32_t count;                 /* mappings of all ranges */
	_Atomic uint32_t logged;        /* failures, since all was mapped by itself */
	_Atomic uint64_t bytes, mapped; /* mapped: the same as count */
};

/* ---- pci.c ---- */

struct vc_passed {
	struct vc_env *env;
	struct vc_physical *physical;
	struct vc_dev *dev;
	const char *type;
	bool reset; /* where it can */
	bool whole; /* it was added; not before is there anything to end */
	_Atomic bool gone, letting_go;
	_Atomic uint64_t accesses; /* of BARs, that came as a call */
	struct vc_passed_config config;
	struct vc_passed_registers registers;
	struct vc_passed_irqs irqs;
	struct vc_passed_dma dma;
};

int vc_passed_registers_init(struct vc_passed *passed);
void vc_passed_registers_fini(struct vc_passed *passed); /* also where init failed, or was not called */
/* As for vc_pci_on_move(). */
void vc_passed_registers_moved(void *ctx, uint32_t bar, uint64_t at);
/* Have all of the guest's accesses come as calls, or no more. */
void vc_passed_registers_trap(struct vc_passed *passed, bool on);
/* The device decodes its BARs from now on, or no more; on: after it does, off: before it does not. */
void vc_passed_registers_decode(struct vc_passed *passed, bool on);
/* As for vc_peer. */
unsigned vc_passed_registers_list(void *ctx, struct vc_peer_registers registers[VC_PEER_REGISTERS_MAX]);

void vc_passed_irqs_init(struct vc_passed *passed);
void vc_passed_irqs_fini(struct vc_passed *passed);
/* Interrupts go where the guest's registers say. */
void vc_passed_irqs_update(struct vc_passed *passed);
/* As for vc_pci_on_message(). */
void vc_passed_irqs_changed(void *ctx, uint32_t vector);
/* After an access to a BAR: the guest may have served INTx. */
void vc_passed_irqs_accessed(struct vc_passed *passed);

/*
 * Map all memory that the vm has and will have; behind an endpoint of the guest's IOMMU, what that lets it reach of it.
 */
int vc_passed_dma_begin(struct vc_passed *passed, struct vc_iommu_endpoint *endpoint);
void vc_passed_dma_end(struct vc_passed *passed);
/* The device has interrupted, and so may have written: tell who must know of writes that the vcpus did not do. */
void vc_passed_dma_wrote(struct vc_passed *passed);

#endif
