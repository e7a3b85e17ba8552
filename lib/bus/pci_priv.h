/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the PCI bus share. */
#ifndef VC_BUS_PCI_PRIV_H
#define VC_BUS_PCI_PRIV_H

#include "bus/line.h"
#include "bus/pci.h"

/* Configuration space header, type 0 (PCI Local Bus 3.0, 6.1) */
enum {
	PCI_VENDOR = 0x00,
	PCI_DEVICE = 0x02,
	PCI_COMMAND = 0x04,
	PCI_STATUS = 0x06,
	PCI_REVISION = 0x08, /* and the class code's three bytes */
	PCI_CACHE_LINE = 0x0c,
	PCI_HEADER_TYPE = 0x0e,
	PCI_BAR = 0x10,
	PCI_BARS_END = 0x28,
	PCI_SECONDARY_BUS = 0x19, /* of a bridge (type 1) */
	PCI_SUBSYSTEM_VENDOR = 0x2c,
	PCI_SUBSYSTEM = 0x2e,
	PCI_CAPABILITY_LIST = 0x34,
	PCI_INTERRUPT_LINE = 0x3c,
	PCI_INTERRUPT_PIN = 0x3d,
	PCI_LEGACY_END = 0x100,

	PCI_COMMAND_IO = 1u << 0,
	PCI_COMMAND_MEMORY = 1u << 1,
	PCI_COMMAND_MASTER = 1u << 2,
	PCI_COMMAND_INTX_OFF = 1u << 10,

	PCI_STATUS_INTERRUPT = 1u << 3,
	PCI_STATUS_CAPABILITIES = 1u << 4,

	PCI_HEADER_MULTI = 0x80,

	PCI_CAP_MSI = 0x05,
	PCI_CAP_MSIX = 0x11,
};

#define PCI_UNMAPPED UINT64_MAX

struct pci_bar {
	uint64_t size; /* 0: there is none */
	uint32_t flags;
	/* Where the bus has it. Written under vc_pci.mapping; read by accesses, which the bus found by it, without. */
	_Atomic uint64_t mapped;
};

struct pci_vector {
	uint64_t address;
	uint32_t data;
	uint32_t control; /* bit 0: masked */
};

struct vc_pci_function {
	struct vc_pci *pci;
	struct vc_dev *dev;
	struct vcore_pci_ops ops;
	void *ctx;
	struct pci_bus *bus;          /* where it is; NULL: not placed */
	struct pci_bus *child;        /* a port: the bus behind it */
	struct vc_pci_function *next; /* list of all; under vc_pci.lock, and taken out only under mapping too */
	const struct vc_pci_port_ops *port_ops;
	struct vc_iommu_endpoint *endpoint; /* NULL: behind no IOMMU; constant once the function is placed */
	_Atomic bool slot_off;              /* a port: the guest has switched the slot's power off */
	void (*moved)(void *ctx, uint32_t bar, uint64_t at);           /* NULL: nobody is told; under vc_pci.mapping */
	_Atomic(void (*)(void *ctx, uint32_t vector)) message_changed; /* NULL: nobody is told */
	unsigned devfn;
	unsigned line;      /* of vc_pci.lines */
	uint32_t own_end;   /* end of the function's own capabilities */
	unsigned msi, msix; /* offsets of capabilities; 0: none */
	uint32_t vectors;   /* of MSI-X */
	/* Where their table and the pending bits are, by vc_pci_image; else the BAR is theirs alone. */
	unsigned table_bar, pba_bar;
	uint32_t table_at, pba;
	bool whole; /* by vc_pci_image */
	struct pci_bar bars[VCORE_PCI_BARS];
	/* Protects all below; held while a message is sent, so that none follows a write that masked it. */
	pthread_mutex_t lock;
	bool intx;     /* the device asserts it */
	bool intx_out; /* the line counts it */
	uint8_t config[VC_PCI_CONFIG_SIZE];
	uint8_t writable[VC_PCI_CONFIG_SIZE]; /* constant once the function is placed, as is: */
	uint8_t initial[VC_PCI_CONFIG_SIZE];
	struct pci_vector *table;
	uint64_t *pending;
};

struct pci_bus {
	struct vc_pci_function *port;           /* behind which it lies; NULL: bus 0 */
	struct vc_pci_function *functions[256]; /* by devfn; protected by vc_pci.lock */
};

/* Lock order: mapping, the gate, vc_pci.lock, the IOMMU's, a function's, lines_lock. */
struct vc_pci {
	struct vc_pci_config config;
	struct vc_pci_window window64;
	pthread_mutex_t mapping; /* serializes changes of functions' bus regions */
	pthread_mutex_t lock;    /* protects all, and who is on the buses */
	struct pci_bus root;
	struct vc_pci_function *all;
	struct vc_iommu *iommu;     /* NULL: none; made once */
	pthread_mutex_t lines_lock; /* protects asserted, and lines' levels */
	uint32_t asserted[VC_PCI_LINES];
	struct vc_line lines[VC_PCI_LINES];
};

/* pci_describe.c: a function's initial configuration space, BARs and vectors from its description, and image, if it has
 * one. -EINVAL, -ENOMEM */
int pci_describe(struct vc_pci_function *f, const struct vcore_pci_description *d, const struct vc_pci_image *image);

/* pci_function.c: the device that a function is. */
extern const struct vcore_device_ops pci_function_ops;
void pci_function_to_initial(struct vc_pci_function *f); /* with the function's lock held */

/* pci_state.c: for save and load of its device. */
int64_t pci_function_save(void *ctx, void *buffer, size_t length);
int pci_function_load(void *ctx, const void *buffer, size_t length);
/* pci.c: take f out, if it is in. */
void pci_forget(struct vc_pci *pci, struct vc_pci_function *f);

/* pci_port.c: make a described function a bridge. -ENOMEM */
int pci_make_port(struct vc_pci_function *f, const struct vc_pci_port_ops *ops);
/* Its bus number at first. Caller holds pci->lock, as for the next. */
void pci_number_port(struct vc_pci *pci, struct vc_pci_function *f);
/* NULL: there is none of that number. */
struct pci_bus *pci_find_bus(struct vc_pci *pci, unsigned number);
/* Whether accesses to that range of addresses, or of ports, reach the bus behind. */
bool pci_port_passes(struct vc_pci_function *port, bool io, uint64_t start, uint64_t size);
/* Something came or went behind a port. With no lock held; the port stays until what lies behind it is gone. */
void pci_tell_port(struct vc_pci *pci, struct vc_pci_function *port);

/* pci_iommu.c: make f an endpoint, where the bus has an IOMMU, before it is placed; and once nothing uses it. -ENOMEM
 */
int pci_join_iommu(struct vc_pci *pci, struct vc_pci_function *f);
void pci_leave_iommu(struct vc_pci_function *f);

/* pci_bar.c */
/* The address in the BAR's register, whatever COMMAND says. Caller holds the function's lock, or is alone. */
uint64_t pci_bar_address(const struct vc_pci_function *f, const uint8_t *config, unsigned bar);
/* Give every BAR of f an address that no other function has. Caller holds pci->lock. -ENOSPC */
int pci_bars_place(struct vc_pci *pci, struct vc_pci_function *f);
/* Bring the regions of all functions in line with their registers. Caller holds no lock. */
void pci_bars_sync(struct vc_pci *pci);
/* Which BAR an access was found by; -1: it was moved away meanwhile. */
int pci_bar_find(const struct vc_pci_function *f, const struct vcore_io *io);

/* pci_irq.c. All with the function's lock held. */
/* After a change of intx, COMMAND, or the MSI capabilities; the line is to be flushed after unlocking. */
void pci_line_update(struct vc_pci_function *f);
/* Messages that had to wait and may go now. */
void pci_send_pending(struct vc_pci_function *f);
bool pci_msix_enabled(const struct vc_pci_function *f);
bool pci_msi_enabled(const struct vc_pci_function *f);
/* That vector's message may be another one now, or every one's (VC_PCI_EVERY_VECTOR). With no lock held. */
void pci_tell_message(struct vc_pci_function *f, uint32_t vector);
/* Where MSI's registers are, from its capability on: of 32 or 64 bits, with masks or (0) without (6.8.1). */
unsigned pci_msi_data(const struct vc_pci_function *f);
unsigned pci_msi_mask(const struct vc_pci_function *f);
/* Whether an access is to the MSI-X table or the pending bits. */
bool pci_msix_has(const struct vc_pci_function *f, unsigned bar, const struct vcore_io *io);
/* Those accesses. Without the lock held. */
void pci_msix_read(struct vc_pci_function *f, unsigned bar, struct vcore_io *io);
void pci_msix_write(struct vc_pci_function *f, unsigned bar, const struct vcore_io *io);

#endif
