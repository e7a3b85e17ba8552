/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The part of the DSDT that is about PCI: the host bridge, its windows, interrupt routing, and who controls what. */
#include "chipset/dsdt.h"
#include "core/util.h"

/* Opcodes (ACPI 6.4, 20.2) without a package length. */
enum {
	OP_ZERO = 0x00,
	OP_LOCAL0 = 0x60,
	OP_ARG0 = 0x68,
	OP_ARG1 = 0x69,
	OP_ARG3 = 0x6b,
	OP_STORE = 0x70,
	OP_AND = 0x7b,
	OP_OR = 0x7d,
	OP_CREATE_DWORD = 0x8a,
	OP_NOT = 0x92,
	OP_EQUAL = 0x93,
	OP_RETURN = 0xa4,
};

/* _OSC (PCI Firmware 3.2, 4.5.1) */
enum {
	OSC_ARGUMENTS = 4,
	OSC_UNKNOWN_UUID = 1 << 2,
	OSC_UNKNOWN_REVISION = 1 << 3,
	OSC_MASKED = 1 << 4,
	OSC_GRANTED = 0x1d, /* native hot plug, PME, AER, the capability structure; all but SHPC */
};

static const char status[] = "CDW1", control[] = "CDW3";

static void op(struct vc_aml *aml, unsigned opcode)
{
	vc_aml_byte(aml, (uint8_t)opcode);
}

static void name(struct vc_aml *aml, const char *four)
{
	vc_aml_bytes(aml, four, 4);
}

/* CreateDWordField (Arg3, offset, name) */
static void create_field(struct vc_aml *aml, unsigned offset, const char *field)
{
	op(aml, OP_CREATE_DWORD);
	op(aml, OP_ARG3);
	vc_aml_integer(aml, offset);
	name(aml, field);
}

/* field = field <opcode> value */
static void change_field(struct vc_aml *aml, unsigned opcode, const char *field, uint64_t value)
{
	op(aml, opcode);
	name(aml, field);
	vc_aml_integer(aml, value);
	name(aml, field);
}

/* Arg0 == ToUUID ("33DB4D5B-1FF7-401C-9657-7441C03DD766") */
static void is_pci_uuid(struct vc_aml *aml)
{
	static const uint8_t uuid[16] = {0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40,
	                                 0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66};
	size_t start;

	op(aml, OP_EQUAL);
	op(aml, OP_ARG0);
	start = vc_aml_open(aml, VC_AML_BUFFER);
	vc_aml_integer(aml, sizeof uuid);
	vc_aml_bytes(aml, uuid, sizeof uuid);
	vc_aml_close(aml, start);
}

/* Grants what we have, and says so when more was asked for. */
static void write_grant(struct vc_aml *aml)
{
	size_t branch;

	create_field(aml, 8, control);
	op(aml, OP_STORE);
	name(aml, control);
	op(aml, OP_LOCAL0);
	change_field(aml, OP_AND, control, OSC_GRANTED);
	branch = vc_aml_open(aml, VC_AML_IF);
	op(aml, OP_NOT);
	op(aml, OP_EQUAL);
	name(aml, control);
	op(aml, OP_LOCAL0);
	change_field(aml, OP_OR, status, OSC_MASKED);
	vc_aml_close(aml, branch);
	branch = vc_aml_open(aml, VC_AML_IF);
	op(aml, OP_NOT);
	op(aml, OP_EQUAL);
	op(aml, OP_ARG1);
	vc_aml_integer(aml, 1);
	change_field(aml, OP_OR, status, OSC_UNKNOWN_REVISION);
	vc_aml_close(aml, branch);
}

static void write_osc(struct vc_aml *aml)
{
	size_t method = vc_aml_open(aml, VC_AML_METHOD), branch;

	name(aml, "_OSC");
	vc_aml_byte(aml, OSC_ARGUMENTS | 1 << 3 /* serialized: it creates names */);
	create_field(aml, 0, status);
	branch = vc_aml_open(aml, VC_AML_IF);
	is_pci_uuid(aml);
	write_grant(aml);
	vc_aml_close(aml, branch);
	branch = vc_aml_open(aml, VC_AML_ELSE);
	change_field(aml, OP_OR, status, OSC_UNKNOWN_UUID);
	vc_aml_close(aml, branch);
	op(aml, OP_RETURN);
	op(aml, OP_ARG3);
	vc_aml_close(aml, method);
}

/* Package () { device and any function, pin, 0: a GSI, not a link device, GSI } */
static void write_route(struct vc_aml *aml, unsigned device, unsigned pin)
{
	size_t start = vc_aml_open(aml, VC_AML_PACKAGE);

	vc_aml_byte(aml, 4);
	vc_aml_integer(aml, device << 16 | 0xffff);
	vc_aml_integer(aml, pin);
	op(aml, OP_ZERO);
	vc_aml_integer(aml, VC_PCI_GSI + (device + pin) % VC_PCI_LINES);
	vc_aml_close(aml, start);
}

static void write_prt(struct vc_aml *aml)
{
	size_t start;

	vc_aml_name(aml, "_PRT");
	start = vc_aml_open(aml, VC_AML_PACKAGE);
	vc_aml_byte(aml, 32 * VC_PCI_LINES);
	for (unsigned device = 0; device < 32; device++)
		for (unsigned pin = 0; pin < VC_PCI_LINES; pin++)
			write_route(aml, device, pin);
	vc_aml_close(aml, start);
}

static void write_windows(struct vc_aml *aml, const struct vc_pci_window *window64)
{
	struct vc_aml_resources res = {0};

	vc_aml_bus_window(&res, 0, 255);
	vc_aml_io(&res, 0xcf8, 8);
	vc_aml_io_window(&res, 0, 0xcf7);
	vc_aml_io_window(&res, 0xd00, 0xffff);
	vc_aml_memory_window(&res, VC_PCI_MEMORY_BASE, VC_PCI_MEMORY_END - 1);
	if (window64->length)
		vc_aml_memory_window(&res, window64->start, window64->start + window64->length - 1);
	vc_aml_crs(aml, &res);
}

static void write_bridge(struct vc_aml *aml, const struct vc_acpi_config *config)
{
	size_t start = vc_aml_open(aml, VC_AML_DEVICE);

	name(aml, "PCI0");
	vc_aml_hid(aml, "PNP0A08");
	vc_aml_name(aml, "_CID");
	vc_aml_eisa_id(aml, "PNP0A03");
	vc_aml_name(aml, "_UID");
	vc_aml_integer(aml, 0);
	vc_aml_name(aml, "_SEG");
	vc_aml_integer(aml, 0);
	vc_aml_name(aml, "_BBN");
	vc_aml_integer(aml, 0);
	vc_aml_name(aml, "_CCA"); /* DMA is coherent */
	vc_aml_integer(aml, 1);
	write_windows(aml, &config->pci_window64);
	write_prt(aml);
	write_osc(aml);
	vc_aml_close(aml, start);
}

/* OSes use ECAM only where a motherboard resource covers it. */
static void write_ecam(struct vc_aml *aml)
{
	struct vc_aml_resources res = {0};
	size_t start = vc_aml_open(aml, VC_AML_DEVICE);

	name(aml, "ECAM");
	vc_aml_hid(aml, "PNP0C02");
	vc_aml_name(aml, "_UID");
	vc_aml_integer(aml, 0);
	vc_aml_memory(&res, VC_PCI_ECAM_BASE, VC_PCI_ECAM_SIZE);
	vc_aml_crs(aml, &res);
	vc_aml_close(aml, start);
}

void vc_dsdt_write_pci(struct vc_aml *aml, const struct vc_acpi_config *config)
{
	write_ecam(aml);
	write_bridge(aml, config);
}
