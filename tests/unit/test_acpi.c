/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ACPI tables: structure and checksums always, the DSDT through iasl's disassembler and compiler when it is there;
 * kvmclock pages. */
#include "platform_env.h"

enum { SIZE = 65536, TABLES = 0xe1000, RSDP = 0xe0000 };

static uint8_t buffer[SIZE], rsdp[36];
static int64_t built;

static const struct vc_acpi_device devices[] = {
    {"LNRO0005", 0, 0xd0000000, 0x200, 5, false},
    {"LNRO0005", 1, 0x1d0000000, 0x200, 6, false},
    {"QEMU0002", 0, 0x510, 12, 10, true},
    {"QEMU0001", 0, 0x505, 1, 0, true},
};

static struct vc_acpi_config config(bool reduced)
{
	return (struct vc_acpi_config){
	    .vcpus = 4,
	    .reduced = reduced,
	    .has_8259 = !reduced,
	    .has_hpet = !reduced,
	    .has_i8042 = !reduced,
	    .has_rtc = !reduced,
	    .has_uart = true,
	    .has_pci = true,
	    .pci_window64 = {0x8000000000, 0x8000000000},
	    .rsdp_gpa = RSDP,
	    .tables_gpa = TABLES,
	    .devices = devices,
	    .device_count = VC_ARRAY_SIZE(devices),
	    .has_vmgenid = true,
	};
}

static void build(const struct vc_acpi_config *c)
{
	memset(buffer, 0xcc, sizeof buffer);
	built = vc_acpi_build(c, buffer, sizeof buffer, rsdp);
	ck_assert_int_gt(built, 0);
}

static unsigned sum(const uint8_t *bytes, size_t length)
{
	unsigned total = 0;

	while (length--)
		total += *bytes++;
	return total & 0xff;
}

static const uint8_t *at(uint64_t gpa)
{
	ck_assert_uint_ge(gpa, TABLES);
	ck_assert_uint_lt(gpa, TABLES + (uint64_t)built);
	return buffer + (gpa - TABLES);
}

static const uint8_t *checked(uint64_t gpa)
{
	const uint8_t *table = at(gpa);
	uint32_t length = vc_ld32(table + 4);

	ck_assert_uint_ge(length, 36);
	ck_assert_uint_le(length, (uint64_t)built - (gpa - TABLES));
	ck_assert_msg(sum(table, length) == 0, "checksum of %.4s", (const char *)table);
	return table;
}

/* The table of that signature in the XSDT; NULL: none. All of them have right checksums. */
static const uint8_t *find(const char *signature)
{
	const uint8_t *xsdt = checked(vc_ld64(rsdp + 24)), *found = NULL;

	ck_assert_mem_eq(xsdt, "XSDT", 4);
	for (uint32_t i = 36; i < vc_ld32(xsdt + 4); i += 8) {
		const uint8_t *table = checked(vc_ld64(xsdt + i));

		if (!memcmp(table, signature, 4))
			found = table;
	}
	return found;
}

START_TEST(root)
{
	struct vc_acpi_config c = config(false);

	build(&c);
	ck_assert_mem_eq(rsdp, "RSD PTR ", 8);
	ck_assert_uint_eq(rsdp[15], 2);
	ck_assert_uint_eq(sum(rsdp, 20), 0);
	ck_assert_uint_eq(sum(rsdp, 36), 0);
	ck_assert_ptr_nonnull(find("FACP"));
	ck_assert_ptr_nonnull(find("APIC"));
	ck_assert_ptr_nonnull(find("HPET"));
	ck_assert_ptr_null(find("SSDT"));
}
END_TEST

START_TEST(mcfg)
{
	struct vc_acpi_config c = config(true);
	const uint8_t *table;

	build(&c);
	table = find("MCFG");
	ck_assert_ptr_nonnull(table);
	ck_assert_uint_eq(vc_ld32(table + 4), 60);
	ck_assert_uint_eq(vc_ld64(table + 44), VC_PCI_ECAM_BASE);
	ck_assert_uint_eq(vc_ld16(table + 52), 0);
	ck_assert_uint_eq(table[54], 0);
	ck_assert_uint_eq(table[55], 255);
	c.has_pci = false;
	build(&c);
	ck_assert_ptr_null(find("MCFG"));
}
END_TEST

START_TEST(fadt_full)
{
	struct vc_acpi_config c = config(false);
	const uint8_t *fadt, *facs;

	build(&c);
	fadt = find("FACP");
	ck_assert_uint_eq(vc_ld32(fadt + 4), 276);
	ck_assert_mem_eq(checked(vc_ld64(fadt + 140)), "DSDT", 4);
	ck_assert_uint_eq(vc_ld32(fadt + 40), vc_ld64(fadt + 140));
	facs = at(vc_ld32(fadt + 36));
	ck_assert_mem_eq(facs, "FACS", 4);
	ck_assert_uint_eq(vc_ld32(fadt + 36) % 64, 0);
	ck_assert_uint_eq(vc_ld16(fadt + 46), 9);
	ck_assert_uint_eq(vc_ld32(fadt + 48), 0);
	ck_assert_uint_eq(vc_ld32(fadt + 56), 0x600);
	ck_assert_uint_eq(vc_ld32(fadt + 64), 0x604);
	ck_assert_uint_eq(vc_ld32(fadt + 76), 0x608);
	ck_assert_uint_eq(vc_ld64(fadt + 208 + 4), 0x608);
	ck_assert_uint_eq(vc_ld64(fadt + 116 + 4), 0xcf9);
	ck_assert_uint_eq(fadt[128], 6);
	ck_assert_uint_eq(vc_ld32(fadt + 112) & (1u << 20), 0);
	ck_assert_uint_eq(vc_ld16(fadt + 109), 0x07); /* legacy devices, 8042, no VGA */
}
END_TEST

START_TEST(fadt_reduced)
{
	struct vc_acpi_config c = config(true);
	const uint8_t *fadt;

	build(&c);
	fadt = find("FACP");
	ck_assert_uint_ne(vc_ld32(fadt + 112) & (1u << 20), 0);
	ck_assert_uint_eq(vc_ld32(fadt + 36), 0);
	ck_assert_uint_eq(vc_ld32(fadt + 56), 0);
	ck_assert_uint_eq(vc_ld32(fadt + 76), 0);
	ck_assert_uint_eq(fadt[244], 1);
	ck_assert_uint_eq(vc_ld64(fadt + 244 + 4), VC_GED_BASE + VC_GED_SLEEP_CONTROL);
	ck_assert_uint_eq(vc_ld64(fadt + 256 + 4), VC_GED_BASE + VC_GED_SLEEP_STATUS);
	ck_assert_uint_eq(vc_ld64(fadt + 116 + 4), VC_GED_BASE + VC_GED_RESET);
	ck_assert_uint_eq(fadt[128], VC_GED_RESET_VALUE);
	ck_assert_uint_eq(vc_ld16(fadt + 109), 0x25); /* a UART, no VGA, no CMOS clock */
	ck_assert_ptr_null(find("HPET"));
}
END_TEST

/* Counts MADT entries of a type; the last one in *entry. */
static unsigned count_madt(uint8_t type, const uint8_t **entry)
{
	const uint8_t *madt = find("APIC");
	unsigned count = 0;

	for (uint32_t i = 44; i < vc_ld32(madt + 4); i += madt[i + 1]) {
		ck_assert_uint_ge(madt[i + 1], 2);
		if (madt[i] == type) {
			*entry = madt + i;
			count++;
		}
	}
	return count;
}

START_TEST(madt)
{
	struct vc_acpi_config c = config(false);
	const uint8_t *entry = NULL;

	build(&c);
	ck_assert_uint_eq(vc_ld32(find("APIC") + 36), 0xfee00000);
	ck_assert_uint_eq(vc_ld32(find("APIC") + 40), 1);
	ck_assert_uint_eq(count_madt(0, &entry), 4);
	ck_assert_uint_eq(entry[3], 3);
	ck_assert_uint_eq(count_madt(1, &entry), 1);
	ck_assert_uint_eq(vc_ld32(entry + 4), 0xfec00000);
	ck_assert_uint_eq(count_madt(2, &entry), 2);
	ck_assert_uint_eq(entry[3], 9);
	ck_assert_uint_eq(vc_ld16(entry + 8), 0x0d);
	ck_assert_uint_eq(count_madt(4, &entry), 1);
	ck_assert_uint_eq(count_madt(9, &entry), 0);
	c.vcpus = 300;
	build(&c);
	ck_assert_uint_eq(count_madt(0, &entry), 255);
	ck_assert_uint_eq(entry[3], 254);
	ck_assert_uint_eq(count_madt(9, &entry), 45);
	ck_assert_uint_eq(vc_ld32(entry + 4), 299);
	c = config(true);
	build(&c);
	ck_assert_uint_eq(vc_ld32(find("APIC") + 40), 0);
	ck_assert_uint_eq(count_madt(2, &entry), 0);
}
END_TEST

/* Only where memory may come and go. */
START_TEST(srat)
{
	static const struct vc_acpi_memory memory[] = {
	    {0, 0xc0000000, false}, {0x100000000, 0x40000000, false}, {0x180000000, 0x80000000, true}};
	struct vc_acpi_config c = config(false);
	const uint8_t *table, *entry;

	c.memory = memory;
	c.memory_count = 2;
	build(&c);
	ck_assert_ptr_null(find("SRAT"));
	c.memory_count = 3;
	build(&c);
	table = find("SRAT");
	ck_assert_ptr_nonnull(table);
	ck_assert_uint_eq(vc_ld32(table + 4), 48 + 4 * 24 + 3 * 40);
	entry = table + 48 + 3 * 24;
	ck_assert_uint_eq(vc_ld16(entry), 0x1802);
	ck_assert_uint_eq(vc_ld32(entry + 8), 3);
	entry = table + 48 + 4 * 24;
	for (unsigned i = 0; i < 3; i++, entry += 40) {
		ck_assert_uint_eq(vc_ld16(entry), 0x2801);
		ck_assert_uint_eq(vc_ld64(entry + 8), memory[i].start);
		ck_assert_uint_eq(vc_ld64(entry + 16), memory[i].length);
		ck_assert_uint_eq(vc_ld32(entry + 28), memory[i].hotplug ? 3 : 1);
	}
}
END_TEST

START_TEST(viot)
{
	struct vc_acpi_config c = config(false);
	const uint8_t *table;

	build(&c);
	ck_assert_ptr_null(find("VIOT"));
	c.has_iommu = true;
	c.iommu_devfn = 3 << 3;
	build(&c);
	table = find("VIOT");
	ck_assert_ptr_nonnull(table);
	ck_assert_uint_eq(vc_ld32(table + 4), 48 + 24 + 16);
	ck_assert_uint_eq(vc_ld32(table + 36), 2 | 48 << 16);
	ck_assert_uint_eq(vc_ld32(table + 48), 1 | 24 << 16);
	ck_assert_uint_eq(vc_ld16(table + 48 + 14), 0xffff);
	ck_assert_uint_eq(vc_ld16(table + 48 + 16), 72);
	ck_assert_uint_eq(vc_ld32(table + 72), 3 | 16 << 16);
	ck_assert_uint_eq(vc_ld16(table + 72 + 6), 3 << 3);
}
END_TEST

/* Those that can be plugged in: not enabled but online capable (5.2.12.2). */
START_TEST(madt_absent)
{
	static const bool absent[] = {false, true, false, true};
	struct vc_acpi_config c = config(false);
	const uint8_t *entry = NULL;

	c.absent = absent;
	c.has_cpu_hotplug = true;
	build(&c);
	ck_assert_uint_eq(count_madt(0, &entry), 4);
	for (unsigned i = 0; i < 4; i++) {
		const uint8_t *one = find("APIC") + 44 + 8 * i;

		ck_assert_uint_eq(one[3], i);
		ck_assert_uint_eq(vc_ld32(one + 4), absent[i] ? 2 : 1);
	}
}
END_TEST

START_TEST(too_small)
{
	struct vc_acpi_config c = config(false);

	build(&c);
	/* every size that is too small is refused, none is overrun (ASan watches) */
	for (int64_t length = 0; length < built; length++) {
		uint8_t *exact = malloc((size_t)length + 1);

		ck_assert_int_eq(vc_acpi_build(&c, exact, (size_t)length, rsdp), -E2BIG);
		free(exact);
	}
	ck_assert_int_eq(vc_acpi_build(&c, buffer, (size_t)built, rsdp), built);
	c.vcpus = 4000;
	ck_assert_int_eq(vc_acpi_build(&c, buffer, sizeof buffer, rsdp), -E2BIG);
}
END_TEST

static void write_dsdt(const char *path)
{
	const uint8_t *dsdt = checked(vc_ld64(find("FACP") + 140));
	FILE *file = fopen(path, "wb");

	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(dsdt, 1, vc_ld32(dsdt + 4), file), vc_ld32(dsdt + 4));
	ck_assert_int_eq(fclose(file), 0);
}

static bool contains(const char *path, const char *text)
{
	static char all[1 << 20];
	FILE *file = fopen(path, "r");
	size_t length;

	ck_assert_ptr_nonnull(file);
	length = fread(all, 1, sizeof all - 1, file);
	fclose(file);
	all[length] = '\0';
	return strstr(all, text) != NULL;
}

/* Disassembles the DSDT, and compiles what came out again: neither may find an error. */
START_TEST(iasl)
{
	static const char *const expected[] = {
	    "Name (_S5",          "EisaId (\"PNP0501\")", "EisaId (\"PNP0A03\")", "\"LNRO0005\"",  "\"ACPI0007\"",
	    "0x00000001D0000000", "0xD0000000",           "IRQNoFlags",           "Device (C003)",
	};
	char directory[] = "/tmp/test_acpi.XXXXXX", path[128], text[512];

	if (system("command -v iasl >/dev/null 2>&1"))
		return;
	ck_assert_ptr_nonnull(mkdtemp(directory));
	for (int turn = 0; turn < 4; turn++) {
		bool reduced = turn & 1;
		struct vc_acpi_config c = config(reduced);

		c.has_cpu_hotplug = turn & 2;
		c.vcpus = reduced ? 300 : 4;
		build(&c);
		snprintf(path, sizeof path, "%s/dsdt.aml", directory);
		write_dsdt(path);
		snprintf(text, sizeof text, "cd %s && iasl -d dsdt.aml >d.log 2>&1 && iasl -p again dsdt.dsl >c.log 2>&1",
		         directory);
		ck_assert_msg(system(text) == 0, "iasl failed, see %s", directory);
		snprintf(path, sizeof path, "%s/c.log", directory);
		ck_assert_msg(contains(path, "0 Errors, 0 Warnings"), "see %s", path);
		snprintf(path, sizeof path, "%s/dsdt.dsl", directory);
		for (unsigned i = 0; i < VC_ARRAY_SIZE(expected); i++)
			ck_assert_msg(contains(path, expected[i]), "no %s in %s", expected[i], path);
		ck_assert(contains(path, "PNP0303") == !reduced);
		ck_assert(contains(path, "Method (_EJ0") == c.has_cpu_hotplug);
		ck_assert(contains(path, "Device (GED)") == (c.has_cpu_hotplug && reduced));
		ck_assert(contains(path, "Method (_E02") == (c.has_cpu_hotplug && !reduced));
		ck_assert(!contains(path, "Unknown"));
	}
	snprintf(text, sizeof text, "rm -r %s", directory);
	ck_assert_int_eq(system(text), 0);
}
END_TEST

START_TEST(pvclock)
{
	static const uint64_t khz[] = {1, 999, 1000, 1000000, 1000001, 2100000, 3999999, 5000000000};
	struct vc_pvclock_time time = {.tsc = 1000, .guest_ns = 77, .wall_ns = 1700000000123456789ull};
	struct platform_env p;
	uint8_t page[64];

	platform_init(&p, 0x2000);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(khz); i++) {
		uint64_t ticks = khz[i] * 1000 * 10, scaled; /* ten seconds */
		int8_t shift;

		time.tsc_khz = khz[i];
		ck_assert_int_eq(vc_pvclock_write_system_time(&p.mem, 0x1000, &time, 1), 0);
		ck_assert_int_eq(vc_mem_read(&p.mem, 0x1000, page, 32), 0);
		ck_assert_uint_eq(vc_ld32(page), 2 * (i + 1)); /* even, and another one each time */
		ck_assert_uint_eq(vc_ld64(page + 8), 1000);
		ck_assert_uint_eq(vc_ld64(page + 16), 77);
		ck_assert_uint_eq(page[29], 1);
		shift = (int8_t)page[28];
		scaled = shift < 0 ? ticks >> -shift : ticks << shift;
		scaled = (uint64_t)(((unsigned __int128)scaled * vc_ld32(page + 24)) >> 32);
		ck_assert_uint_ge(scaled, 10000000000 - 50);
		ck_assert_uint_le(scaled, 10000000000);
	}
	/* a version that the guest has left odd */
	vc_st32(page, 0xffffffff);
	ck_assert_int_eq(vc_mem_write(&p.mem, 0x1000, page, 4), 0);
	ck_assert_int_eq(vc_pvclock_write_wall_clock(&p.mem, 0x1000, &time), 0);
	ck_assert_int_eq(vc_mem_read(&p.mem, 0x1000, page, 12), 0);
	ck_assert_uint_eq(vc_ld32(page) & 1, 0);
	ck_assert_uint_eq(vc_ld32(page + 4), 1700000000);
	ck_assert_uint_eq(vc_ld32(page + 8), 123456789);
	ck_assert_int_eq(vc_pvclock_write_steal(&p.mem, 0x1040, 5000, true), 0);
	ck_assert_int_eq(vc_mem_read(&p.mem, 0x1040, page, 64), 0);
	ck_assert_uint_eq(vc_ld64(page), 5000);
	ck_assert_uint_eq(vc_ld32(page + 8), 2);
	ck_assert_uint_eq(page[16], 1);
	/* not in memory; no TSC */
	ck_assert_int_eq(vc_pvclock_write_steal(&p.mem, 0x1ff8, 5000, true), -EFAULT);
	ck_assert_int_eq(vc_pvclock_write_system_time(&p.mem, UINT64_MAX - 3, &time, 0), -EFAULT);
	time.tsc_khz = 0;
	ck_assert_int_eq(vc_pvclock_write_system_time(&p.mem, 0x1000, &time, 0), -EINVAL);
	platform_fini(&p);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("acpi");

	tcase_set_timeout(cases, 60);
	tcase_add_test(cases, root);
	tcase_add_test(cases, mcfg);
	tcase_add_test(cases, fadt_full);
	tcase_add_test(cases, fadt_reduced);
	tcase_add_test(cases, madt);
	tcase_add_test(cases, srat);
	tcase_add_test(cases, viot);
	tcase_add_test(cases, madt_absent);
	tcase_add_test(cases, too_small);
	tcase_add_test(cases, iasl);
	tcase_add_test(cases, pvclock);
	return platform_run("acpi", cases);
}
