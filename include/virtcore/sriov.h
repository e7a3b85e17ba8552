/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file
 * PCI functions of the host that share one device (SR-IOV), and who drives them. Not of any vm: these work on the host,
 * through /sys, and most take root. Addresses are text: "0000:01:00.0", or "01:00.0" of domain 0.
 *
 * A virtual function is given to a guest by vcore_sriov_assign(), or by a device of type "vfio-pci".
 */
#ifndef VIRTCORE_SRIOV_H
#define VIRTCORE_SRIOV_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

/** A function of the host. */
struct vcore_sriov_function {
	uint32_t size;
	uint32_t class_code; /**< 0xCCSSPP */
	uint16_t vendor;     /**< of a virtual function: its physical one's */
	uint16_t device;     /**< likewise, as the host tells it */
	int32_t group;       /**< its IOMMU group; -1: it is in none */
	uint32_t total;      /**< how many virtual functions it can have; 0 of a virtual one */
	uint32_t count;      /**< how many it has */
	char address[16];
	char driver[32];    /**< of the host; "": none */
	char interface[32]; /**< of its network; "": none */
};

/** The index-th physical function that can have virtual ones, by address. f->size set by the caller.
 *  @return 0; -ENOENT there are no more; -EINVAL */
VCORE_API int vcore_sriov_list(uint32_t index, struct vcore_sriov_function *f);

/** Virtual function `index`, from 0, of a physical one. f->size set by the caller.
 *  @return 0; -ENOENT there is no such function; -ENODEV there is no such physical function; -EINVAL */
VCORE_API int vcore_sriov_list_virtual(const char *physical, uint32_t index, struct vcore_sriov_function *f);

/**
 * Create virtual functions. The host's drivers leave them alone, until they are destroyed.
 * @return 0, also when it has as many; -EBUSY it has another number of them, which must be destroyed first; -EINVAL
 * more than it can have; -ENOTSUP it can have none; -ENODEV; -EACCES; errno of its driver
 */
VCORE_API int vcore_sriov_create(const char *physical, uint32_t count);

/** Destroy all of them. @return 0; -EBUSY one is in use by a vm, or another process; errors as vcore_sriov_create() */
VCORE_API int vcore_sriov_destroy(const char *physical);

/** The MAC address that virtual function `index` of a network card has, from its next reset on. The driver may refuse.
 *  @return 0; -ENODEV the physical function has no network interface; -EPERM without CAP_NET_ADMIN; errno of its driver
 */
VCORE_API int vcore_sriov_set_mac(const char *physical, uint32_t index, const uint8_t mac[6]);

/** The VLAN that frames of it are in, without its knowing; 0: none. priority: 0 to 7. Errors as vcore_sriov_set_mac(),
 *  and -EINVAL */
VCORE_API int vcore_sriov_set_vlan(const char *physical, uint32_t index, uint32_t vlan, uint32_t priority);

/**
 * Give any function of the host to its driver vfio-pci, for programs such as this to have.
 * @param driver out, may be NULL: the driver that it is taken from; "": none
 * @param size   room there
 * @return 1; 0 vfio-pci has it already; -ENODEV no such function, or vfio-pci is not loaded; -EACCES
 */
VCORE_API int vcore_sriov_bind(const char *address, char *driver, size_t size);

/** Take it from vfio-pci and give it to another driver; NULL or "": to none. Waits for whoever has it open.
 *  @return 0; -ENODEV; -EACCES; errno of the driver */
VCORE_API int vcore_sriov_release(const char *address, const char *driver);

/**
 * Give virtual function `index` of a physical one to a vm, in one call: it is created, with those before it, if the
 * physical function has none, and bound to vfio-pci. When the device is removed, or the vm ends, it goes back to the
 * driver that had it.
 *
 * @param properties further ones of device type vfio-pci, as "key=value,key=value"; NULL
 * @param device     out, may be NULL; borrowed
 * @return 0; errors of vcore_sriov_create(), vcore_sriov_bind() and vcore_device_add()
 */
VCORE_API int vcore_sriov_assign(vcore_vm *vm, const char *physical, uint32_t index, const char *properties,
                                 vcore_device **device);

VCORE_END_DECLS
#endif
