/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ACPI tables (ACPI 6.4, 5.2): RSDP, XSDT, FADT, FACS, MADT, MCFG, HPET, SRAT, VIOT; the DSDT's contents come from
 * dsdt.c. */
#include "chipset/dsdt.h"
#include "core/error.h"
#include "core/util.h"

enum {
	HEADER_LENGTH = 36,
	HEADER_CHECKSUM = 9,

	SCI_GSI = 9,
	FACS_LENGTH = 64,

	/* FADT, 5.2.9 */
	FADT_REVISION = 6,
	FADT_LENGTH = 276,
	FADT_FIRMWARE_CTRL = 36,
	FADT_DSDT = 40,
	FADT_SCI_INT = 46,
	FADT_PM1A_EVT_BLK = 56,
	FADT_PM1A_CNT_BLK = 64,
	FADT_PM_TMR_BLK = 76,
	FADT_GPE0_BLK = 80,
	FADT_PM1_EVT_LEN = 88,
	FADT_PM1_CNT_LEN = 89,
	FADT_PM_TMR_LEN = 91,
	FADT_GPE0_LEN = 92,
	FADT_P_LVL2_LAT = 96,
	FADT_P_LVL3_LAT = 98,
	FADT_BOOT_ARCH = 109,
	FADT_FLAGS = 112,
	FADT_RESET_REG = 116,
	FADT_RESET_VALUE = 128,
	FADT_MINOR = 131,
	FADT_X_DSDT = 140,
	FADT_X_PM1A_EVT = 148,
	FADT_X_PM1A_CNT = 172,
	FADT_X_PM_TMR = 208,
	FADT_X_GPE0 = 220,
	FADT_SLEEP_CONTROL = 244,
	FADT_SLEEP_STATUS = 256,
	FADT_HYPERVISOR = 268,
};

/* FADT flags, table 5.10 */
#define FADT_WBINVD        (1u << 0)
#define FADT_PROC_C1       (1u << 2)
#define FADT_NO_PWR_BUTTON (1u << 4) /* no fixed-feature power button */
#define FADT_NO_SLP_BUTTON (1u << 5)
#define FADT_FIX_RTC       (1u << 6) /* RTC wake status is not in fixed registers */
#define FADT_TMR_VAL_EXT   (1u << 8) /* the PM timer has 32 bits */
#define FADT_RESET_REG_SUP (1u << 10)
#define FADT_HW_REDUCED    (1u << 20)
/* IA-PC boot architecture flags, table 5.11 */
#define BOOT_LEGACY_DEVICES (1u << 0)
#define BOOT_8042           (1u << 1)
#define BOOT_NO_VGA         (1u << 2)
#define BOOT_NO_CMOS_RTC    (1u << 5)

/* The area at tables_gpa while it fills. */
struct build {
	const struct vc_acpi_config *config;
	uint8_t *data;
	size_t length, capacity;
	bool overflow;
};

static void set_checksum(uint8_t *bytes, size_t length, size_t at)
{
	uint8_t sum = 0;

	bytes[at] = 0;
	for (size_t i = 0; i < length; i++)
		sum = (uint8_t)(sum + bytes[i]);
	bytes[at] = (uint8_t)-sum;
}

static uint64_t gpa_of(const struct build *build, const uint8_t *at)
{
	return build->config->tables_gpa + (uint64_t)(at - build->data);
}

/* Zeroed, aligned space; NULL when there is no more. */
static uint8_t *take(struct build *build, size_t length, size_t alignment)
{
	size_t start = (size_t)(VC_ALIGN_UP(build->config->tables_gpa + build->length, (uint64_t)alignment) -
	                        build->config->tables_gpa);

	if (build->overflow || start > build->capacity || length > build->capacity - start) {
		build->overflow = true;
		return NULL;
	}
	memset(build->data + build->length, 0, start + length - build->length);
	build->length = start + length;
	return build->data + start;
}

/* The header that all tables but RSDP and FACS start with (5.2.6), and the checksum. */
static void finish(uint8_t *table, const char *signature, uint8_t revision, size_t length)
{
	memcpy(table, signature, 4);
	vc_st32(table + 4, (uint32_t)length);
	table[8] = revision;
	memcpy(table + 10, "VCORE VCOREVM ", 14);
	vc_st32(table + 24, 1);
	memcpy(table + 28, "VCOR", 4);
	vc_st32(table + 32, 1);
	set_checksum(table, length, HEADER_CHECKSUM);
}

static uint8_t *new_table(struct build *build, size_t length)
{
	return take(build, length, 16);
}

/* Generic Address Structure for a port (5.2.3.2). */
static void put_port(uint8_t *gas, uint16_t port, uint8_t bits)
{
	gas[0] = 1; /* system I/O */
	gas[1] = bits;
	gas[3] = bits == 8 ? 1 : bits == 16 ? 2 : 3; /* access size */
	vc_st64(gas + 4, port);
}

static uint8_t *build_dsdt(struct build *build)
{
	uint8_t *table = new_table(build, HEADER_LENGTH);
	struct vc_aml aml;

	if (!table)
		return NULL;
	aml = (struct vc_aml){.data = build->data + build->length, .capacity = build->capacity - build->length};
	vc_dsdt_write(&aml, build->config);
	build->overflow |= aml.overflow;
	build->length += aml.length;
	if (!build->overflow)
		finish(table, "DSDT", 2, HEADER_LENGTH + aml.length); /* revision 2: integers have 64 bits */
	return table;
}

/* Firmware ACPI Control Structure (5.2.10): OSes look for the waking vector and the global lock here. */
static uint8_t *build_facs(struct build *build)
{
	uint8_t *facs = take(build, FACS_LENGTH, 64);

	if (!facs)
		return NULL;
	memcpy(facs, "FACS", 4);
	vc_st32(facs + 4, FACS_LENGTH);
	facs[32] = 2; /* version */
	return facs;
}

static void put_fixed_hardware(uint8_t *fadt)
{
	vc_st16(fadt + FADT_SCI_INT, SCI_GSI);
	/* SMI_CMD stays 0: there is no legacy mode to switch from */
	vc_st32(fadt + FADT_PM1A_EVT_BLK, VC_PM_BASE);
	vc_st32(fadt + FADT_PM1A_CNT_BLK, VC_PM_BASE + 4);
	vc_st32(fadt + FADT_PM_TMR_BLK, VC_PM_BASE + 8);
	fadt[FADT_PM1_EVT_LEN] = 4;
	fadt[FADT_PM1_CNT_LEN] = 2;
	fadt[FADT_PM_TMR_LEN] = 4;
	vc_st32(fadt + FADT_GPE0_BLK, VC_GPE_BASE);
	fadt[FADT_GPE0_LEN] = VC_GPE_LENGTH;
	put_port(fadt + FADT_X_GPE0, VC_GPE_BASE, 32);
	put_port(fadt + FADT_X_PM1A_EVT, VC_PM_BASE, 32);
	put_port(fadt + FADT_X_PM1A_CNT, VC_PM_BASE + 4, 16);
	put_port(fadt + FADT_X_PM_TMR, VC_PM_BASE + 8, 32);
	put_port(fadt + FADT_RESET_REG, 0xcf9, 8);
	fadt[FADT_RESET_VALUE] = 0x06;
}

static void put_reduced_hardware(uint8_t *fadt)
{
	put_port(fadt + FADT_SLEEP_CONTROL, VC_GED_BASE + VC_GED_SLEEP_CONTROL, 8);
	put_port(fadt + FADT_SLEEP_STATUS, VC_GED_BASE + VC_GED_SLEEP_STATUS, 8);
	put_port(fadt + FADT_RESET_REG, VC_GED_BASE + VC_GED_RESET, 8);
	fadt[FADT_RESET_VALUE] = VC_GED_RESET_VALUE;
}

static uint8_t *build_fadt(struct build *build, const uint8_t *dsdt, const uint8_t *facs)
{
	const struct vc_acpi_config *config = build->config;
	uint8_t *fadt = new_table(build, FADT_LENGTH);
	uint32_t flags = FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLP_BUTTON | FADT_FIX_RTC | FADT_RESET_REG_SUP;
	uint16_t boot = BOOT_NO_VGA;

	if (!fadt)
		return NULL;
	if (facs)
		vc_st32(fadt + FADT_FIRMWARE_CTRL, (uint32_t)gpa_of(build, facs));
	vc_st32(fadt + FADT_DSDT, (uint32_t)gpa_of(build, dsdt));
	vc_st64(fadt + FADT_X_DSDT, gpa_of(build, dsdt));
	/* latencies beyond 100 and 1000 us: there are no C2 and C3 */
	vc_st16(fadt + FADT_P_LVL2_LAT, 0xfff);
	vc_st16(fadt + FADT_P_LVL3_LAT, 0xfff);
	if (config->reduced)
		put_reduced_hardware(fadt);
	else
		put_fixed_hardware(fadt);
	flags |= config->reduced ? FADT_HW_REDUCED | FADT_NO_PWR_BUTTON : FADT_TMR_VAL_EXT;
	boot |= config->has_uart || config->has_8259 ? BOOT_LEGACY_DEVICES : 0;
	boot |= config->has_i8042 ? BOOT_8042 : 0;
	boot |= config->has_rtc ? 0 : BOOT_NO_CMOS_RTC;
	vc_st32(fadt + FADT_FLAGS, flags);
	vc_st16(fadt + FADT_BOOT_ARCH, boot);
	fadt[FADT_MINOR] = 4;
	memcpy(fadt + FADT_HYPERVISOR, "VCORE\0\0", 8);
	finish(fadt, "FACP", FADT_REVISION, FADT_LENGTH);
	return fadt;
}

/* An interrupt source override (5.2.12.5) of ISA interrupt `source`. */
static void put_override(struct build *build, uint8_t source, uint32_t gsi, uint16_t flags)
{
	uint8_t *entry = take(build, 10, 1);

	if (!entry)
		return;
	entry[0] = 2;
	entry[1] = 10;
	entry[3] = source;
	vc_st32(entry + 4, gsi);
	vc_st16(entry + 8, flags);
}

size_t vc_acpi_local_apic(uint32_t id, bool present, uint8_t entry[16])
{
	const uint32_t flags = present ? 1 : 2; /* enabled; online capable */
	bool x2apic = id >= 255;

	memset(entry, 0, 16);
	entry[0] = x2apic ? 9 : 0;
	entry[1] = x2apic ? 16 : 8;
	if (x2apic) {
		vc_st32(entry + 4, id);
		vc_st32(entry + 8, flags);
		vc_st32(entry + 12, id);
	} else {
		entry[2] = entry[3] = (uint8_t)id;
		vc_st32(entry + 4, flags);
	}
	return entry[1];
}

static void put_local_apic(struct build *build, uint32_t id)
{
	uint8_t bytes[16], *entry;
	size_t length = vc_acpi_local_apic(id, !build->config->absent || !build->config->absent[id], bytes);

	entry = take(build, length, 1);
	if (entry)
		memcpy(entry, bytes, length);
}

static void put_io_apic(struct build *build)
{
	uint8_t *entry = take(build, 12, 1);

	if (!entry)
		return;
	entry[0] = 1;
	entry[1] = 12;
	vc_st32(entry + 4, VC_IOAPIC_BASE);
}

/* NMI comes in on LINT1 of every processor (5.2.12.7). */
static void put_local_apic_nmi(struct build *build)
{
	uint8_t *entry = take(build, 6, 1);

	if (!entry)
		return;
	entry[0] = 4;
	entry[1] = 6;
	entry[2] = 0xff;
	entry[5] = 1;
}

static uint8_t *build_madt(struct build *build)
{
	const struct vc_acpi_config *config = build->config;
	uint8_t *madt = new_table(build, HEADER_LENGTH + 8);
	size_t start;

	if (!madt)
		return NULL;
	start = (size_t)(madt - build->data);
	vc_st32(madt + HEADER_LENGTH, VC_LAPIC_BASE);
	vc_st32(madt + HEADER_LENGTH + 4, config->has_8259 ? 1 : 0); /* PCAT_COMPAT */
	for (uint32_t id = 0; id < config->vcpus && !build->overflow; id++)
		put_local_apic(build, id);
	put_io_apic(build);
	if (config->has_8259)
		put_override(build, 0, 2, 0); /* the PIT: pin 2, as ISA has it: edge, active high */
	if (!config->reduced)
		put_override(build, SCI_GSI, SCI_GSI, 0x000d); /* the SCI: level, active high */
	put_local_apic_nmi(build);
	if (!build->overflow)
		finish(madt, "APIC", 5, build->length - start);
	return madt;
}

/* IA-PC HPET specification 1.0a, 3.2.4 */
static uint8_t *build_hpet(struct build *build)
{
	uint8_t *hpet = new_table(build, 56);

	if (!hpet)
		return NULL;
	/* revision 1, 3 comparators, 64-bit counter, legacy replacement, vendor 8086: the low half of the capabilities
	 * register */
	vc_st32(hpet + 36, 0x8086a201);
	hpet[41] = 64; /* at 40: a memory address */
	vc_st64(hpet + 44, VC_HPET_BASE);
	vc_st16(hpet + 53, 100); /* shortest period, in ticks, that loses no interrupt */
	finish(hpet, "HPET", 1, 56);
	return hpet;
}

/* PCI Firmware 3.2, 4.1.2: ECAM of segment 0, all buses */
static uint8_t *build_mcfg(struct build *build)
{
	uint8_t *mcfg = new_table(build, HEADER_LENGTH + 8 + 16);

	if (!mcfg)
		return NULL;
	vc_st64(mcfg + HEADER_LENGTH + 8, VC_PCI_ECAM_BASE);
	mcfg[HEADER_LENGTH + 8 + 11] = 0xff; /* last bus */
	finish(mcfg, "MCFG", 1, HEADER_LENGTH + 8 + 16);
	return mcfg;
}

/* A processor in proximity domain 0 (5.2.16.3: by x2APIC ID, which may be any). */
static void put_processor_affinity(struct build *build, uint32_t id)
{
	uint8_t *entry = take(build, 24, 1);

	if (!entry)
		return;
	entry[0] = 2;
	entry[1] = 24;
	vc_st32(entry + 8, id);
	vc_st32(entry + 12, 1); /* enabled */
}

/* 5.2.16.2 */
static void put_memory_affinity(struct build *build, const struct vc_acpi_memory *memory)
{
	uint8_t *entry = take(build, 40, 1);

	if (!entry)
		return;
	entry[0] = 1;
	entry[1] = 40;
	vc_st64(entry + 8, memory->start);
	vc_st64(entry + 16, memory->length);
	vc_st32(entry + 28, memory->hotplug ? 3 : 1); /* enabled, hot-pluggable */
}

static bool has_hotplug_memory(const struct vc_acpi_config *config)
{
	bool found = false;

	for (uint32_t i = 0; i < config->memory_count; i++)
		found |= config->memory[i].hotplug;
	return found;
}

/* 5.2.16 */
static uint8_t *build_srat(struct build *build)
{
	const struct vc_acpi_config *config = build->config;
	uint8_t *srat = new_table(build, HEADER_LENGTH + 12);
	size_t start;

	if (!srat)
		return NULL;
	start = (size_t)(srat - build->data);
	vc_st32(srat + HEADER_LENGTH, 1); /* to be 1 */
	for (uint32_t id = 0; id < config->vcpus && !build->overflow; id++)
		put_processor_affinity(build, id);
	for (uint32_t i = 0; i < config->memory_count && !build->overflow; i++)
		put_memory_affinity(build, &config->memory[i]);
	if (!build->overflow)
		finish(srat, "SRAT", 3, build->length - start);
	return srat;
}

/*
 * Virtual I/O translation table (the ACPI links page; its revision 0): all functions of PCI segment 0 are behind the
 * virtio-iommu, and their bus, device and function numbers are their endpoint IDs.
 */
static uint8_t *build_viot(struct build *build)
{
	const size_t range = HEADER_LENGTH + 12, iommu = range + 24, length = iommu + 16;
	uint8_t *viot = new_table(build, length);

	if (!viot)
		return NULL;
	vc_st16(viot + HEADER_LENGTH, 2); /* nodes */
	vc_st16(viot + HEADER_LENGTH + 2, (uint16_t)range);
	viot[range] = 1; /* PCI range */
	vc_st16(viot + range + 2, 24);
	vc_st16(viot + range + 14, 0xffff); /* its last function; the others of its numbers are 0 */
	vc_st16(viot + range + 16, (uint16_t)iommu);
	viot[iommu] = 3; /* virtio-iommu on PCI */
	vc_st16(viot + iommu + 2, 16);
	vc_st16(viot + iommu + 6, build->config->iommu_devfn);
	finish(viot, "VIOT", 0, length);
	return viot;
}

static uint8_t *build_xsdt(struct build *build, uint8_t *const *tables, unsigned count)
{
	const size_t length = HEADER_LENGTH + 8 * (size_t)count;
	uint8_t *xsdt = new_table(build, length);

	if (!xsdt)
		return NULL;
	for (unsigned i = 0; i < count; i++)
		vc_st64(xsdt + HEADER_LENGTH + 8 * i, gpa_of(build, tables[i]));
	finish(xsdt, "XSDT", 1, length);
	return xsdt;
}

/* 5.2.5.3 */
static void write_rsdp(uint8_t rsdp[36], uint64_t xsdt)
{
	memset(rsdp, 0, 36);
	memcpy(rsdp, "RSD PTR ", 8);
	memcpy(rsdp + 9, "VCORE ", 6);
	rsdp[15] = 2;
	vc_st32(rsdp + 20, 36);
	vc_st64(rsdp + 24, xsdt);
	set_checksum(rsdp, 20, 8);
	set_checksum(rsdp, 36, 32);
}

int64_t vc_acpi_build(const struct vc_acpi_config *config, uint8_t *buffer, size_t length, uint8_t rsdp[36])
{
	struct build build = {.config = config, .data = buffer, .capacity = length};
	uint8_t *facs = config->reduced ? NULL : build_facs(&build);
	uint8_t *dsdt = build_dsdt(&build);
	uint8_t *tables[6], *xsdt;
	unsigned count = 0;

	if (!build.overflow)
		tables[count++] = build_fadt(&build, dsdt, facs);
	if (!build.overflow)
		tables[count++] = build_madt(&build);
	if (!build.overflow && config->has_hpet)
		tables[count++] = build_hpet(&build);
	if (!build.overflow && config->has_pci)
		tables[count++] = build_mcfg(&build);
	if (!build.overflow && has_hotplug_memory(config))
		tables[count++] = build_srat(&build);
	if (!build.overflow && config->has_iommu)
		tables[count++] = build_viot(&build);
	xsdt = build.overflow ? NULL : build_xsdt(&build, tables, count);
	if (!xsdt)
		return vc_fail(E2BIG, "the ACPI tables for %u vcpus and %u devices take more than %zu bytes", config->vcpus,
		               config->device_count, length);
	write_rsdp(rsdp, gpa_of(&build, xsdt));
	return (int64_t)build.length;
}
