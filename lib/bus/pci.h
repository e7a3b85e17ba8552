/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The PCI functions of a vm (PCI Local Bus 3.0, PCI Express 5.0): configuration space, BARs, INTx, MSI and MSI-X.
 *
 * A function is a struct vc_dev whose regions in the buses are its BARs, where and while the guest wants them. Bus
 * regions are changed by the thread that wrote the register, from its callback, outside of the gate.
 */
#ifndef VC_BUS_PCI_H
#define VC_BUS_PCI_H

#include <virtcore/pci.h>

#include "bus/bus.h"
#include "bus/irq.h"

#define VC_PCI_CONFIG_SIZE    4096u
#define VC_PCI_CAPABILITIES   0x40u /* the first one's offset */
#define VC_PCI_DEVFN(dev, fn) ((unsigned)(dev) << 3 | (unsigned)(fn))
#define VC_PCI_LINES          4

struct vc_pci;
struct vc_pci_function;

/* Addresses that BARs are given out of. */
struct vc_pci_window {
	uint64_t start, length;
};

struct vc_pci_config {
	struct vc_buses *buses;
	struct vc_irqs *irqs;
	unsigned gsi; /* of the first of the four interrupt lines */
	struct vc_pci_window io, memory;
	/* The guest has switched off the power of the slot that a device (vc_dev.id) is in. With no lock held. */
	void (*slot_off)(void *ctx, uint32_t id);
	void *ctx;
};

/* irqs and buses outlive it. */
int vc_pci_new(const struct vc_pci_config *config, struct vc_pci **pci);
/* All functions are gone. */
void vc_pci_free(struct vc_pci *pci);
/* Where 64-bit BARs go; before functions are added. Without it they lie in the other window. */
void vc_pci_set_window64(struct vc_pci *pci, struct vc_pci_window window);
struct vc_pci_window vc_pci_window64(const struct vc_pci *pci);

/* As vcore_pci_add(). *dev is set before the first callback. */
int vc_pci_add(struct vc_pci *pci, const struct vcore_pci_description *description, const struct vcore_pci_ops *ops,
               void *ctx, struct vc_dev **dev);
struct vc_iommu_endpoint;
/*
 * What a function is whose configuration space is given whole, as that of another device, made fit: capabilities lie
 * where they are there. Its description says the rest: header, BARs, MSI-X vectors, pin; it has no capabilities.
 * Configuration accesses from VC_PCI_CAPABILITIES on come to config_read, and all of them to config_write.
 */
struct vc_pci_image {
	const uint8_t *initial, *writable; /* VC_PCI_CONFIG_SIZE bytes from VC_PCI_CAPABILITIES on are taken */
	uint8_t first;                     /* offset of the first capability; 0: there is none */
	unsigned msi, msix;                /* offsets of those; 0: none. Whatever layout it has, the library keeps it */
	struct {
		unsigned bar;
		uint32_t at;  /* a multiple of 8 */
	} table, pending; /* of MSI-X: in BARs whose other addresses are the function's */
	/* With the function's ctx once it is whole, before the guest can find it. endpoint: NULL: it is behind no IOMMU. An
	 * error is vc_pci_add_image()'s, the function's destroy has been called then. NULL: nothing is to be done. */
	int (*begin)(void *ctx, struct vc_iommu_endpoint *endpoint);
};
int vc_pci_add_image(struct vc_pci *pci, const struct vcore_pci_description *description,
                     const struct vc_pci_image *image, const struct vcore_pci_ops *ops, void *ctx, struct vc_dev **dev);
/* What a port does besides; called as callbacks are, with its ctx. */
struct vc_pci_port_ops {
	/* The device behind it has come or gone. */
	void (*presence)(void *ctx, bool present);
	/* Somebody presses the slot's button: the device is to go. -EAGAIN: the guest does not look at it. */
	int (*attention)(void *ctx);
};
/* The same of a port, a bridge to a bus with one device. The port goes last: it is not to be removed. */
int vc_pci_add_port(struct vc_pci *pci, const struct vcore_pci_description *description,
                    const struct vcore_pci_ops *ops, void *ctx, const struct vc_pci_port_ops *port,
                    struct vc_dev **dev);
/* The guest switches the power of a port's slot. Without it the device behind is as after a reset. With no lock held.
 */
void vc_pci_port_power(struct vc_pci_function *port, bool on);
bool vc_pci_is_behind_port(const struct vc_pci_function *f);
/* Ask the guest to let go of f, which is behind a port. -ENOTSUP, -EAGAIN */
int vc_pci_unplug(struct vc_pci_function *f);
/*
 * Have f's owner told where a memory or port BAR of its answers, from now on and as it is now; at: all ones: nowhere,
 * told before that is so. Not after its destroy has begun. ctx: its own. moved asks for no change of bus regions.
 */
void vc_pci_on_move(struct vc_pci_function *f, void (*moved)(void *ctx, uint32_t bar, uint64_t at));
/* NULL: dev is no PCI function. */
struct vc_pci_function *vc_pci_function_of(const struct vc_dev *dev);

/*
 * Configuration accesses; of up to 8 bytes, any alignment. Where nobody is, reads give all ones. With no lock held:
 * they call back, and change bus regions.
 */
uint64_t vc_pci_config_read(struct vc_pci *pci, unsigned bus, unsigned devfn, uint32_t offset, unsigned width);
void vc_pci_config_write(struct vc_pci *pci, unsigned bus, unsigned devfn, uint32_t offset, unsigned width,
                         uint64_t data);

/*
 * INTx, as a vc_line: the device sets the level under its own lock, in the right order, and flushes after it has let go
 * of the lock. Any thread. Without an interrupt pin nothing happens.
 */
void vc_pci_irq_set(struct vc_pci_function *f, bool level);
void vc_pci_irq_flush(struct vc_pci_function *f);
/* False: the guest has enabled neither MSI-X nor MSI. A vector that is not there is ignored. */
bool vc_pci_msi_send(struct vc_pci_function *f, uint32_t vector);
/* The message that a vector sends now. False: none, for it is masked, or messages are not enabled. */
bool vc_pci_message(struct vc_pci_function *f, uint32_t vector, uint64_t *address, uint32_t *data);
/* Have f's owner told, with no lock held, whenever that of a vector, or of every vector, may be another one. ctx: its
 * own. Not after its destroy has begun. */
#define VC_PCI_EVERY_VECTOR UINT32_MAX
void vc_pci_on_message(struct vc_pci_function *f, void (*changed)(void *ctx, uint32_t vector));
uint32_t vc_pci_vectors(const struct vc_pci_function *f); /* of MSI-X or MSI, whichever has more */
bool vc_pci_has_pin(const struct vc_pci_function *f);
/* Configuration space as the guest left it, inside the function's own capabilities: for config_read and config_write.
 */
void vc_pci_own_config(struct vc_pci_function *f, uint32_t offset, void *data, uint32_t length);
void vc_pci_get_info(struct vc_pci_function *f, struct vcore_pci_info *info);

#endif
