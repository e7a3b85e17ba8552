/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VC_CHIPSET_DSDT_H
#define VC_CHIPSET_DSDT_H

#include "chipset/aml.h"
#include "chipset/chipset.h"

/* The definition block of the DSDT: what follows the table header. */
void vc_dsdt_write(struct vc_aml *aml, const struct vc_acpi_config *config);

/* The PCI host bridge, and what reserves its configuration space. Inside the scope \\_SB. */
void vc_dsdt_write_pci(struct vc_aml *aml, const struct vc_acpi_config *config);

/* The VM generation ID and its event device. Inside the scope \\_SB. */
void vc_dsdt_write_vmgenid(struct vc_aml *aml);

#endif
