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
/* The processors, and where they can be plugged their controller and its events. At the root. */
void vc_dsdt_write_cpus(struct vc_aml *aml, const struct vc_acpi_config *config);
/* The MADT's entry for a processor's local APIC (ACPI 6.4, 5.2.12.2, or 5.2.12.12 where its ID has more than 8 bits).
 * Its length. */
size_t vc_acpi_local_apic(uint32_t id, bool present, uint8_t entry[16]);
/* A name of prefix and number, in hexadecimal: prefix 'C' and 10 make C00A. */
void vc_dsdt_write_numbered(struct vc_aml *aml, char prefix, uint32_t number);

#endif
