/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file PCI functions of the program's own, on a machine that has a PCI bus (microvm). */
#ifndef VIRTCORE_PCI_H
#define VIRTCORE_PCI_H

#include <virtcore/device.h>

VCORE_BEGIN_DECLS

#define VCORE_PCI_BARS 6

/** Of a base address register. Without VCORE_PCI_BAR_IO it is memory. */
enum vcore_pci_bar_flags {
	VCORE_PCI_BAR_IO = 1u << 0,       /**< I/O ports */
	VCORE_PCI_BAR_64 = 1u << 1,       /**< a 64-bit address: takes the next register too */
	VCORE_PCI_BAR_PREFETCH = 1u << 2, /**< reads have no side effects */
	VCORE_PCI_BAR_MSIX = 1u << 3,     /**< holds the MSI-X table, which the library keeps; size 0: as large as needed */
};

/** What a base address register decodes. */
struct vcore_pci_bar {
	uint64_t size;  /**< a power of 2: memory from 16, ports 4 to 256; 0: no such BAR */
	uint32_t flags; /**< enum vcore_pci_bar_flags */
	uint32_t pad;
};

/** A capability of the function's own (PCI Local Bus 3.0, 6.7). */
struct vcore_pci_capability {
	uint8_t id;
	uint8_t length; /**< bytes behind the two of ID and link */
	uint8_t pad[6];
	const uint8_t *data;     /**< `length` bytes: the value after reset */
	const uint8_t *writable; /**< `length` bytes: bits that the guest may change; NULL: none */
};

/** What a function is. */
struct vcore_pci_description {
	uint32_t size;
	uint16_t vendor, device; /**< vendor 0xffff is refused */
	uint32_t class_code;     /**< 0xCCSSPP: base class, sub-class, programming interface */
	uint16_t subsystem_vendor, subsystem;
	uint8_t revision;
	uint8_t interrupt_pin; /**< 0: no INTx; 1 to 4: INTA# to INTD# */
	uint16_t msix_vectors; /**< 0: no MSI-X; at most 2048 */
	uint16_t msi_vectors;  /**< 0: no MSI; else 1, 2, 4, 8, 16 or 32 */
	uint16_t capability_count;
	const struct vcore_pci_capability
	    *capabilities;                         /**< lie from offset 0x40 on, in this order, each at a multiple of 4 */
	struct vcore_pci_bar bars[VCORE_PCI_BARS]; /**< MSI-X without a BAR of its own gets the last that is free */
	const char *type;                          /**< the device's type name; NULL: "custom-pci" */
	/** "device" or "device.function" on bus 0, decimal or 0x...; "port/function" behind the pci-root-port at an address
	 * of the first kinds, where it may come and go while the guest runs; NULL: the lowest free device of bus 0 */
	const char *address;
};

/**
 * What a function does. Every callback may be NULL. Callbacks run with no library lock held, possibly on several
 * threads at once; those of the guest's accesses on the thread of the vcpu that made them.
 */
struct vcore_pci_ops {
	uint32_t size;
	uint32_t pad;
	/** A read of BAR `bar`; io->offset counts from the BAR's start. NULL: reads give all ones. */
	void (*read)(void *ctx, uint32_t bar, struct vcore_io *io);
	/** A write to BAR `bar`. NULL: writes vanish. */
	void (*write)(void *ctx, uint32_t bar, struct vcore_io *io);
	/** A read inside the function's own capabilities; *value is what configuration space holds, and may be replaced. */
	void (*config_read)(void *ctx, uint32_t offset, uint32_t width, uint32_t *value);
	/** A write inside the function's own capabilities; the writable bits have been stored. */
	void (*config_write)(void *ctx, uint32_t offset, uint32_t width, uint32_t value);
	/** The vm is reset; configuration space has been. INTx is no longer asserted. */
	void (*reset)(void *ctx);
	/** Save the state beyond configuration space, BARs, MSI and MSI-X, as vcore_device_ops.save. */
	int64_t (*save)(void *ctx, void *buffer, size_t length);
	/** Load what save wrote. 0 or negative errno. */
	int (*load)(void *ctx, const void *buffer, size_t length);
	/** The device goes away. Exactly once, also when adding it failed. */
	void (*destroy)(void *ctx);
};

/** Where a function is, and what the guest made of it. */
struct vcore_pci_info {
	uint32_t size;
	uint32_t bus, device, function;
	uint32_t command; /**< command register */
	uint32_t msi;     /**< how interrupts are signalled: 0 INTx, 1 MSI, 2 MSI-X */
	uint32_t gsi;     /**< where INTx goes; meaningless without an interrupt pin */
	uint32_t
	    slot_off; /**< behind a root port: 1 while the guest has the slot's power off: the function may be removed */
	uint64_t bars[VCORE_PCI_BARS]; /**< port or GPA where each BAR answers now; all ones: nowhere */
};

/**
 * Add a PCI function of the program's own. Its BARs have addresses from the start; the guest enables and moves them.
 *
 * @param description copied, all that it points to included
 * @param ops         copied
 * @param ctx         given to every callback
 * @param device      out, may be NULL; borrowed. vcore_device_remove() takes the function away
 * @return 0; -EINVAL the message says what is wrong; -EEXIST the address is taken; -ENOENT there is no such port;
 * -ENOSPC no free device number or no room for a BAR; -ENOTSUP the vm's machine type has no PCI; -ENOMEM. On failure
 * ops->destroy has been called.
 */
VCORE_API int vcore_pci_add(vcore_vm *vm, const struct vcore_pci_description *description,
                            const struct vcore_pci_ops *ops, void *ctx, vcore_device **device);

/** Assert or release the function's INTx. It reaches the guest unless that has disabled INTx or enabled MSI or MSI-X;
 *  functions that share a line do not disturb each other. @return 0; -EINVAL not a PCI function, or one without a pin
 */
VCORE_API int vcore_pci_irq_set(vcore_device *device, bool level);

/** Send the interrupt message of a vector: MSI-X, or MSI where the guest chose that. While it is masked it is pending,
 *  and sent once unmasked. @return 0; -EAGAIN the guest has enabled neither: use INTx; -EINVAL no such vector */
VCORE_API int vcore_pci_msix_send(vcore_device *device, uint32_t vector);

/**
 * Ask the guest to let go of a function behind a root port, by the slot's attention button. Some seconds later it
 * switches the slot's power off: vcore_pci_get_info() tells slot_off, and vcore_device_remove() takes the function
 * away. Removing it at once is a surprise that guests may not survive in their drivers (Linux 6.1's for virtio hang).
 * @return 0; -EAGAIN the guest does not look at the button; -ENOTSUP the function is not behind a port; -EINVAL
 */
VCORE_API int vcore_pci_unplug(vcore_device *device);

/**
 * Read memory as the function does, by direct memory access: at an address that the guest's driver gave it. Behind an
 * IOMMU (device type virtio-iommu) the guest decides what that is, and what the function reaches at all; without one it
 * is a guest-physical address. Any thread, callbacks of the function included; not once its destroy has begun.
 * @return 0; -EFAULT the IOMMU blocks it, which the guest is told of, or there is no memory: what lies before that may
 * have been read; -EINVAL not a PCI function
 */
VCORE_API int vcore_pci_dma_read(vcore_device *device, uint64_t address, void *buffer, uint64_t length);

/** The same to write. @return as vcore_pci_dma_read(); -EFAULT also where the memory cannot be written */
VCORE_API int vcore_pci_dma_write(vcore_device *device, uint64_t address, const void *buffer, uint64_t length);

/** Address and state of a function. @return 0; -EINVAL not a PCI function, or info->size not set */
VCORE_API int vcore_pci_get_info(vcore_device *device, struct vcore_pci_info *info);

VCORE_END_DECLS
#endif
