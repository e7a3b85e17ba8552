/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a guest is shown of the configuration space of a device that is not ours. Pure: from bytes to bytes.
 */
#ifndef VC_PASSTHROUGH_CONFIG_H
#define VC_PASSTHROUGH_CONFIG_H

#include "bus/pci.h"

/* What the owner of the device has said. */
struct vc_passed_source {
	const char *name;                 /* for messages */
	const uint8_t *bytes;             /* the device's configuration space */
	uint32_t length;                  /* 256 or 4096 */
	uint64_t regions[VCORE_PCI_BARS]; /* sizes; 0: there is none */
	uint32_t intx, msi, msix;         /* how many vectors can be had */
	bool integrated;                  /* it will lie on bus 0, where no endpoint of a link can be */
};

struct vc_passed_config {
	struct vcore_pci_description description; /* but for type and address */
	struct vc_pci_image image;                /* points into this struct */
	uint8_t initial[VC_PCI_CONFIG_SIZE], writable[VC_PCI_CONFIG_SIZE];
	uint8_t bytes[VC_PCI_CONFIG_SIZE]; /* what each is: */
#define VC_PASSED_TAKEN 1u             /* part of a capability that is shown */
#define VC_PASSED_LIVE  2u             /* reads and writes of the guest's go to the device */
};

/* -ENODEV: there is no function, or it is a bridge; -EINVAL: what it says of itself cannot be. */
int vc_passed_config_make(struct vc_passed_config *c, const struct vc_passed_source *source);
/* Whether all bytes of an access go to the device; in a doubleword. */
bool vc_passed_config_is_live(const struct vc_passed_config *c, uint32_t offset, uint32_t width);

#endif
