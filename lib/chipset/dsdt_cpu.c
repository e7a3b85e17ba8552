/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The DSDT's processors, and the methods by which they come and go (ACPI 6.4, 8.4 and 5.6.6). In ASL:
 *
 *	Scope (\_SB) {
 *		OperationRegion (CPRG, SystemIO, VC_CPU_HOTPLUG_BASE, 12)
 *		Field (CPRG, ByteAcc, NoLock, WriteAsZeros) { Offset (4), CPEN, 1, CINS, 1, CRMV, 1, CEJT, 1, Offset (5), CCMD,
 *			8 }
 *		Field (CPRG, DWordAcc, NoLock, Preserve) { CSEL, 32, Offset (8), CDAT, 32 }
 *		Mutex (CPLK, 0)
 *		Method (CSTA, 1, Serialized) { Acquire, select, CPEN ? 0xf : 0, Release }
 *		Method (CEJC, 1, Serialized) { Acquire, select, CEJT = 1, Release }
 *		Method (CNTF, 2) { If (Arg0 == n) { Notify (Cn, Arg1) } ... }
 *		Method (CSCN, 0, Serialized) { for every vcpu with an event: Notify, clear the event }
 *		Device (Cn) { _HID, _UID, _STA, _MAT, _EJ0 }
 *	}
 */
#include "chipset/dsdt.h"

#include "core/util.h"

/* Opcodes and arguments (ACPI 6.4, 20.2.5). */
enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_LOCAL0 = 0x60,
	OP_LOCAL1 = 0x61,
	OP_ARG0 = 0x68,
	OP_ARG1 = 0x69,
	OP_STORE = 0x70,
	OP_NOTIFY = 0x86,
	OP_LEQUAL = 0x93,
	OP_RETURN = 0xa4,
	OP_EXT = 0x5b, /* in front of the next four */
	EXT_MUTEX = 0x01,
	EXT_ACQUIRE = 0x23,
	EXT_RELEASE = 0x27,
	EXT_OP_REGION = 0x80,
};

enum { REGION_SYSTEM_IO = 1 };
enum { NOTIFY_DEVICE_CHECK = 1, NOTIFY_EJECT = 3 };
enum { STA_PRESENT = 0x0f };
enum { METHOD_SERIALIZED = 8 };
/* Field flags: access width, and what bits that are not named are written as */
enum { ACCESS_BYTE_ZEROS = 0x01 | 2 << 5, ACCESS_DWORD = 0x03 };

static void put_name(struct vc_aml *aml, const char *name)
{
	vc_aml_bytes(aml, name, 4);
}

static void put_bytes(struct vc_aml *aml, uint8_t first, uint8_t second)
{
	vc_aml_byte(aml, first);
	vc_aml_byte(aml, second);
}

static size_t open_method(struct vc_aml *aml, const char *name, uint8_t flags)
{
	size_t start = vc_aml_open(aml, VC_AML_METHOD);

	put_name(aml, name);
	vc_aml_byte(aml, flags);
	return start;
}

/* Store (value, name): the value is one byte of AML. */
static void store(struct vc_aml *aml, uint8_t value, const char *name)
{
	put_bytes(aml, OP_STORE, value);
	put_name(aml, name);
}

static void acquire(struct vc_aml *aml)
{
	put_bytes(aml, OP_EXT, EXT_ACQUIRE);
	put_name(aml, "CPLK");
	put_bytes(aml, 0xff, 0xff); /* for as long as it takes */
}

static void release(struct vc_aml *aml)
{
	put_bytes(aml, OP_EXT, EXT_RELEASE);
	put_name(aml, "CPLK");
}

/* A named field of so many bits, or with a name of NULL room between fields; at most 63 bits. */
static void put_field(struct vc_aml *aml, const char *name, uint8_t bits)
{
	if (name)
		put_name(aml, name);
	else
		vc_aml_byte(aml, OP_ZERO);
	vc_aml_byte(aml, bits);
}

static void write_registers(struct vc_aml *aml)
{
	size_t field;

	put_bytes(aml, OP_EXT, EXT_OP_REGION);
	put_name(aml, "CPRG");
	vc_aml_byte(aml, REGION_SYSTEM_IO);
	vc_aml_integer(aml, VC_CPU_HOTPLUG_BASE);
	vc_aml_integer(aml, VC_CPU_HOTPLUG_LENGTH);

	field = vc_aml_open(aml, VC_AML_FIELD);
	put_name(aml, "CPRG");
	vc_aml_byte(aml, ACCESS_BYTE_ZEROS);
	put_field(aml, NULL, 32);
	put_field(aml, "CPEN", 1);
	put_field(aml, "CINS", 1);
	put_field(aml, "CRMV", 1);
	put_field(aml, "CEJT", 1);
	put_field(aml, NULL, 4);
	put_field(aml, "CCMD", 8);
	vc_aml_close(aml, field);

	field = vc_aml_open(aml, VC_AML_FIELD);
	put_name(aml, "CPRG");
	vc_aml_byte(aml, ACCESS_DWORD);
	put_field(aml, "CSEL", 32);
	put_field(aml, NULL, 32);
	put_field(aml, "CDAT", 32);
	vc_aml_close(aml, field);

	put_bytes(aml, OP_EXT, EXT_MUTEX);
	put_name(aml, "CPLK");
	vc_aml_byte(aml, 0); /* sync level */
}

static void write_status_method(struct vc_aml *aml)
{
	size_t method = open_method(aml, "CSTA", 1 | METHOD_SERIALIZED), condition;

	acquire(aml);
	store(aml, OP_ARG0, "CSEL");
	put_bytes(aml, OP_STORE, OP_ZERO);
	vc_aml_byte(aml, OP_LOCAL0);
	condition = vc_aml_open(aml, VC_AML_IF);
	put_name(aml, "CPEN");
	vc_aml_byte(aml, OP_STORE);
	vc_aml_integer(aml, STA_PRESENT);
	vc_aml_byte(aml, OP_LOCAL0);
	vc_aml_close(aml, condition);
	release(aml);
	put_bytes(aml, OP_RETURN, OP_LOCAL0);
	vc_aml_close(aml, method);
}

static void write_eject_method(struct vc_aml *aml)
{
	size_t method = open_method(aml, "CEJC", 1 | METHOD_SERIALIZED);

	acquire(aml);
	store(aml, OP_ARG0, "CSEL");
	store(aml, OP_ONE, "CEJT");
	release(aml);
	vc_aml_close(aml, method);
}

static void write_notify_method(struct vc_aml *aml, uint32_t count)
{
	size_t method = open_method(aml, "CNTF", 2);

	for (uint32_t i = 0; i < count; i++) {
		size_t condition = vc_aml_open(aml, VC_AML_IF);

		put_bytes(aml, OP_LEQUAL, OP_ARG0);
		vc_aml_integer(aml, i);
		vc_aml_byte(aml, OP_NOTIFY);
		vc_dsdt_write_numbered(aml, 'C', i);
		vc_aml_byte(aml, OP_ARG1);
		vc_aml_close(aml, condition);
	}
	vc_aml_close(aml, method);
}

/* If (event) { CNTF (CDAT, notification); event = 1, which clears it; Local0 = 1 } */
static void write_event(struct vc_aml *aml, const char *event, uint8_t notification)
{
	size_t condition = vc_aml_open(aml, VC_AML_IF);

	put_name(aml, event);
	put_name(aml, "CNTF");
	put_name(aml, "CDAT");
	vc_aml_integer(aml, notification);
	store(aml, OP_ONE, event);
	put_bytes(aml, OP_STORE, OP_ONE);
	vc_aml_byte(aml, OP_LOCAL0);
	vc_aml_close(aml, condition);
}

/* Command 0 selects the next vcpu with an event, if there is one; a turn that finds none is the last. */
static void write_scan_method(struct vc_aml *aml)
{
	size_t method = open_method(aml, "CSCN", METHOD_SERIALIZED), loop;

	acquire(aml);
	store(aml, OP_ZERO, "CSEL");
	put_bytes(aml, OP_STORE, OP_ONE);
	vc_aml_byte(aml, OP_LOCAL0);
	loop = vc_aml_open(aml, VC_AML_WHILE);
	vc_aml_byte(aml, OP_LOCAL0);
	put_bytes(aml, OP_STORE, OP_ZERO);
	vc_aml_byte(aml, OP_LOCAL0);
	store(aml, OP_ZERO, "CCMD");
	write_event(aml, "CINS", NOTIFY_DEVICE_CHECK);
	write_event(aml, "CRMV", NOTIFY_EJECT);
	vc_aml_close(aml, loop);
	release(aml);
	vc_aml_close(aml, method);
}

/* Name (_MAT, Buffer () {...}): the entry that the MADT would have, were the processor there at the start. */
static void write_mat(struct vc_aml *aml, uint32_t index)
{
	uint8_t entry[16];
	size_t length = vc_acpi_local_apic(index, true, entry), buffer;

	vc_aml_name(aml, "_MAT");
	buffer = vc_aml_open(aml, VC_AML_BUFFER);
	vc_aml_integer(aml, length);
	vc_aml_bytes(aml, entry, length);
	vc_aml_close(aml, buffer);
}

/* Method (_STA) { Return (CSTA (index)) } */
static void write_sta(struct vc_aml *aml, uint32_t index)
{
	size_t method = open_method(aml, "_STA", 0);

	vc_aml_byte(aml, OP_RETURN);
	put_name(aml, "CSTA");
	vc_aml_integer(aml, index);
	vc_aml_close(aml, method);
}

/* Method (_EJ0, 1) { CEJC (index) } */
static void write_ej0(struct vc_aml *aml, uint32_t index)
{
	size_t method = open_method(aml, "_EJ0", 1);

	put_name(aml, "CEJC");
	vc_aml_integer(aml, index);
	vc_aml_close(aml, method);
}

static void write_processor(struct vc_aml *aml, uint32_t index, bool pluggable)
{
	size_t start = vc_aml_open(aml, VC_AML_DEVICE);

	vc_dsdt_write_numbered(aml, 'C', index);
	vc_aml_hid(aml, "ACPI0007");
	vc_aml_name(aml, "_UID");
	vc_aml_integer(aml, index);
	if (pluggable) {
		write_sta(aml, index);
		write_mat(aml, index);
	}
	if (pluggable && index) /* the first stays */
		write_ej0(aml, index);
	vc_aml_close(aml, start);
}

/* What the event's interrupt makes the guest do: a generic event device (5.6.9), or a handler of the GPE block. */
static void write_ged(struct vc_aml *aml)
{
	struct vc_aml_resources res = {0};
	size_t device = vc_aml_open(aml, VC_AML_DEVICE), method;

	put_name(aml, "GED_");
	vc_aml_hid(aml, "ACPI0013");
	vc_aml_name(aml, "_UID");
	vc_aml_integer(aml, 0);
	vc_aml_interrupt(&res, VC_GED_GSI);
	vc_aml_crs(aml, &res);
	method = open_method(aml, "_EVT", 1 | METHOD_SERIALIZED);
	put_name(aml, "CSCN");
	vc_aml_close(aml, method);
	vc_aml_close(aml, device);
}

static void write_gpe(struct vc_aml *aml)
{
	size_t scope = vc_aml_open(aml, VC_AML_SCOPE), method;

	vc_aml_bytes(aml, "\\_GPE", 5);
	method = open_method(aml, "_E02", 0);
	vc_aml_bytes(aml, "\\._SB_CSCN", 10);
	vc_aml_close(aml, method);
	vc_aml_close(aml, scope);
}

void vc_dsdt_write_cpus(struct vc_aml *aml, const struct vc_acpi_config *config)
{
	size_t scope = vc_aml_open(aml, VC_AML_SCOPE);

	vc_aml_bytes(aml, "\\_SB_", 5);
	if (config->has_cpu_hotplug) {
		write_registers(aml);
		write_status_method(aml);
		write_eject_method(aml);
	}
	for (uint32_t i = 0; i < config->vcpus; i++)
		write_processor(aml, i, config->has_cpu_hotplug);
	if (config->has_cpu_hotplug) {
		write_notify_method(aml, config->vcpus);
		write_scan_method(aml);
	}
	if (config->has_cpu_hotplug && config->reduced)
		write_ged(aml);
	vc_aml_close(aml, scope);
	if (config->has_cpu_hotplug && !config->reduced)
		write_gpe(aml);
}
