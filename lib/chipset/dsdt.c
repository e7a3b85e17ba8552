/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The DSDT: power-off, and the devices that no bus can enumerate. */
#include "chipset/dsdt.h"

#include <stdio.h>

#include "core/util.h"

/* Parts of a PC at ports everybody knows. */
struct legacy_device {
	size_t present; /* offset of the flag in vc_acpi_config */
	char name[5];
	const char *hid;
	struct {
		uint16_t base;
		uint8_t length;
	} ports[3];
	int irq; /* -1: none */
};

#define PRESENT(flag) offsetof(struct vc_acpi_config, flag)
/* clang-format off */
static const struct legacy_device legacy_devices[] = {
	{PRESENT(has_uart),  "COM1", "PNP0501", {{0x3f8, 8}}, 4},
	{PRESENT(has_rtc),   "RTC_", "PNP0B00", {{0x70, 2}}, 8},
	{PRESENT(has_8259),  "PIC_", "PNP0000", {{0x20, 2}, {0xa0, 2}, {0x4d0, 2}}, 2},
	{PRESENT(has_8259),  "PIT_", "PNP0100", {{0x40, 4}}, 0},
	{PRESENT(has_i8042), "KBD_", "PNP0303", {{0x60, 1}, {0x64, 1}}, 1},
};
/* clang-format on */

static void write_legacy(struct vc_aml *aml, const struct legacy_device *device)
{
	struct vc_aml_resources res = {0};
	size_t start = vc_aml_open(aml, VC_AML_DEVICE);

	vc_aml_bytes(aml, device->name, 4);
	vc_aml_hid(aml, device->hid);
	vc_aml_name(aml, "_UID");
	vc_aml_integer(aml, 0);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(device->ports) && device->ports[i].length; i++)
		vc_aml_io(&res, device->ports[i].base, device->ports[i].length);
	if (device->irq >= 0)
		vc_aml_irq(&res, (unsigned)device->irq);
	vc_aml_crs(aml, &res);
	vc_aml_close(aml, start);
}

static void write_hpet(struct vc_aml *aml)
{
	struct vc_aml_resources res = {0};
	size_t start = vc_aml_open(aml, VC_AML_DEVICE);

	vc_aml_bytes(aml, "HPET", 4);
	vc_aml_hid(aml, "PNP0103");
	vc_aml_name(aml, "_UID");
	vc_aml_integer(aml, 0);
	vc_aml_memory(&res, VC_HPET_BASE, 0x400);
	vc_aml_crs(aml, &res);
	vc_aml_close(aml, start);
}

void vc_dsdt_write_numbered(struct vc_aml *aml, char prefix, uint32_t number)
{
	char name[16];

	snprintf(name, sizeof name, "%c%03X", prefix, number & 0xfff);
	vc_aml_bytes(aml, name, 4);
}

static void write_device(struct vc_aml *aml, const struct vc_acpi_device *device, uint32_t index)
{
	struct vc_aml_resources res = {0};
	size_t start = vc_aml_open(aml, VC_AML_DEVICE);

	vc_dsdt_write_numbered(aml, 'D', index);
	vc_aml_hid(aml, device->hid);
	vc_aml_name(aml, "_UID");
	vc_aml_integer(aml, device->uid);
	vc_aml_name(aml, "_CCA"); /* DMA is coherent */
	vc_aml_integer(aml, 1);
	if (device->io)
		vc_aml_io(&res, (uint16_t)device->base, (uint8_t)device->length);
	else
		vc_aml_memory(&res, device->base, device->length);
	if (device->gsi)
		vc_aml_interrupt(&res, device->gsi);
	vc_aml_crs(aml, &res);
	vc_aml_close(aml, start);
}

/* Name (_S5, Package () { 5, 5, 0, 0 }): SLP_TYP values of PM1a and PM1b, or of the sleep control register. */
static void write_s5(struct vc_aml *aml)
{
	const uint8_t values[4] = {5, 5, 0, 0};
	size_t start;

	vc_aml_name(aml, "_S5_");
	start = vc_aml_open(aml, VC_AML_PACKAGE);
	vc_aml_byte(aml, sizeof values);
	for (unsigned i = 0; i < sizeof values; i++)
		vc_aml_integer(aml, values[i]);
	vc_aml_close(aml, start);
}

void vc_dsdt_write(struct vc_aml *aml, const struct vc_acpi_config *config)
{
	size_t scope;

	write_s5(aml);
	vc_dsdt_write_cpus(aml, config);
	scope = vc_aml_open(aml, VC_AML_SCOPE);
	vc_aml_bytes(aml, "\\_SB_", 5);
	if (config->has_pci)
		vc_dsdt_write_pci(aml, config);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(legacy_devices); i++) {
		if (*(const bool *)((const uint8_t *)config + legacy_devices[i].present))
			write_legacy(aml, &legacy_devices[i]);
	}
	if (config->has_hpet)
		write_hpet(aml);
	if (config->has_vmgenid)
		vc_dsdt_write_vmgenid(aml);
	for (uint32_t i = 0; i < config->device_count; i++)
		write_device(aml, &config->devices[i], i);
	vc_aml_close(aml, scope);
}
