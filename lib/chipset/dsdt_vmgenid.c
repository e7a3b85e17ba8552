/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The VM generation ID in the DSDT, and a generic event device (ACPI 6.4, 5.6.9) for its event, which serves machines
 * with a PM block as well. In ASL:
 *
 *	Device (VGEN) { _HID "VCOR0001", _CID, _DDN "VM_Gen_Counter", Name (ADDR, Package () { low, high }) }
 *	Device (VGED) { _HID "ACPI0013", _UID 1, _CRS the interrupt, Method (_EVT, 1) { Notify (VGEN, 0x80) } }
 */
#include "chipset/dsdt.h"
#include "core/util.h"

enum { OP_NOTIFY = 0x86, NOTIFY_CHANGED = 0x80, ARGUMENTS = 1 };

static const char generation[] = "VGEN";

/* The specification's name, and those that Linux knows. */
static void write_compatible(struct vc_aml *aml)
{
	static const char *const ids[] = {"VM_Gen_Counter", "VMGENCTR", "VM_GEN_COUNTER"};
	size_t package;

	vc_aml_name(aml, "_CID");
	package = vc_aml_open(aml, VC_AML_PACKAGE);
	vc_aml_byte(aml, VC_ARRAY_SIZE(ids));
	for (unsigned i = 0; i < VC_ARRAY_SIZE(ids); i++)
		vc_aml_string(aml, ids[i]);
	vc_aml_close(aml, package);
}

static void write_generation(struct vc_aml *aml)
{
	size_t device = vc_aml_open(aml, VC_AML_DEVICE), package;

	vc_aml_bytes(aml, generation, 4);
	vc_aml_hid(aml, "VCOR0001");
	write_compatible(aml);
	vc_aml_name(aml, "_DDN");
	vc_aml_string(aml, "VM_Gen_Counter");
	vc_aml_name(aml, "ADDR");
	package = vc_aml_open(aml, VC_AML_PACKAGE);
	vc_aml_byte(aml, 2);
	vc_aml_integer(aml, VC_VMGENID_GPA);
	vc_aml_integer(aml, 0);
	vc_aml_close(aml, package);
	vc_aml_close(aml, device);
}

void vc_dsdt_write_vmgenid(struct vc_aml *aml)
{
	struct vc_aml_resources res = {0};
	size_t device, method;

	write_generation(aml);
	device = vc_aml_open(aml, VC_AML_DEVICE);
	vc_aml_bytes(aml, "VGED", 4);
	vc_aml_hid(aml, "ACPI0013");
	vc_aml_name(aml, "_UID");
	vc_aml_integer(aml, 1);
	vc_aml_interrupt_edge(&res, VC_VMGENID_GSI);
	vc_aml_crs(aml, &res);
	method = vc_aml_open(aml, VC_AML_METHOD);
	vc_aml_bytes(aml, "_EVT", 4);
	vc_aml_byte(aml, ARGUMENTS);
	vc_aml_byte(aml, OP_NOTIFY);
	vc_aml_bytes(aml, generation, 4);
	vc_aml_integer(aml, NOTIFY_CHANGED);
	vc_aml_close(aml, method);
	vc_aml_close(aml, device);
}
