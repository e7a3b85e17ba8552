/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file Interrupts from devices, and the descriptors that carry doorbells and interrupts. */
#ifndef VIRTCORE_IRQ_H
#define VIRTCORE_IRQ_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

/**
 * Drive an interrupt line.
 * @param gsi   global system interrupt (ACPI 6.4, 5.2.13): 0-15 also reach the PIC pair, 0-23 the IOAPIC
 * @param level true: asserted. An edge-triggered line fires on false -> true
 * @return 0; -EINVAL gsi > 23; -ENOTSUP without an interrupt controller
 */
VCORE_API int vcore_irq_set(vcore_vm *vm, uint32_t gsi, bool level);

/** Send a message-signalled interrupt (SDM 10.11). @return 0; -EINVAL address not 0xfeeXXXXX; -ENOTSUP */
VCORE_API int vcore_msi_send(vcore_vm *vm, uint64_t address, uint32_t data);

/**
 * Signal an eventfd when the guest writes to a port or MMIO address, without calling any device.
 * @param width 0: any width; else 1, 2, 4, 8
 * @param match NULL: any value; else only this one
 * @param fd    an eventfd; duplicated
 * @return 0; -EEXIST when one write could signal both this and another; -EINVAL, also when fd is something else;
 * -EBADF; -ENOSPC
 */
VCORE_API int vcore_ioeventfd_add(vcore_vm *vm, enum vcore_bus bus, uint64_t address, uint32_t width,
                                  const uint64_t *match, int fd);
/** Undo vcore_ioeventfd_add() given the same values. @return 0; -ENOENT */
VCORE_API int vcore_ioeventfd_remove(vcore_vm *vm, enum vcore_bus bus, uint64_t address, uint32_t width,
                                     const uint64_t *match);

/** Raise an edge on a GSI whenever an eventfd is signalled. @return 0; -EEXIST; -EINVAL; -EBADF; -ENOTSUP */
VCORE_API int vcore_irqfd_add(vcore_vm *vm, uint32_t gsi, int fd);
/** Send an MSI whenever an eventfd is signalled. @return 0; -EEXIST; -EINVAL; -EBADF; -ENOTSUP; -ENOSPC */
VCORE_API int vcore_irqfd_add_msi(vcore_vm *vm, uint64_t address, uint32_t data, int fd);
/** Undo either; fd is the caller's descriptor given then. @return 0; -ENOENT */
VCORE_API int vcore_irqfd_remove(vcore_vm *vm, int fd);

VCORE_END_DECLS
#endif
