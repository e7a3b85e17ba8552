/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fw_cfg: items, files, the data port, DMA, and a guest that does it wrong. */
#include <endian.h>
#include <virtcore/error.h>

#include "platform_env.h"

enum { ERROR = 1, READ = 2, SKIP = 4, SELECT = 8, WRITE = 16 };

static struct platform_env p;
static struct vc_fw_cfg *fw;

static void setup(void)
{
	platform_init(&p, VC_MIB(1));
	ck_assert_int_eq(vc_fw_cfg_new(&p.env, &fw), 0);
}

static void teardown(void)
{
	platform_fini(&p);
}

static void select_item(uint16_t key)
{
	platform_out(&p, 0x510, 2, key);
}

static void take(void *buffer, size_t length)
{
	for (size_t i = 0; i < length; i++)
		((uint8_t *)buffer)[i] = (uint8_t)platform_in(&p, 0x511, 1);
}

static uint32_t take_be32(void)
{
	uint32_t value;

	take(&value, sizeof value);
	return be32toh(value);
}

/* Runs a DMA request that lies at 0x1000; the control word it leaves. */
static uint32_t dma(uint32_t control, uint32_t length, uint64_t gpa)
{
	uint8_t request[16];
	uint32_t result;

	vc_st32(request, htobe32(control));
	vc_st32(request + 4, htobe32(length));
	vc_st64(request + 8, htobe64(gpa));
	ck_assert_int_eq(vc_mem_write(&p.mem, 0x1000, request, sizeof request), 0);
	platform_out(&p, 0x514, 4, 0);
	platform_out(&p, 0x518, 4, htobe32(0x1000));
	ck_assert_int_eq(vc_mem_read(&p.mem, 0x1000, &result, sizeof result), 0);
	return be32toh(result);
}

START_TEST(signature)
{
	char text[6] = "";
	uint32_t id;

	select_item(0);
	take(text, 5);
	ck_assert_mem_eq(text, "QEMU\0", 5); /* zeros behind the end */
	select_item(1);
	take(&id, sizeof id);
	ck_assert_uint_eq(id, 3);
	ck_assert_uint_eq(be64toh(platform_in(&p, 0x514, 8)), 0x51454d5520434647ull);
	ck_assert_uint_eq(be32toh((uint32_t)platform_in(&p, 0x514, 4)), 0x51454d55);
	ck_assert_uint_eq(be32toh((uint32_t)platform_in(&p, 0x518, 4)), 0x20434647);
}
END_TEST

START_TEST(items)
{
	uint16_t cpus = 4;
	uint8_t bytes[4];

	ck_assert_int_eq(vc_fw_cfg_add(fw, 5, &cpus, sizeof cpus), 0);
	ck_assert_int_eq(vc_fw_cfg_add(fw, 0x8003, "abc", 3), 0);
	select_item(5);
	take(bytes, 3);
	ck_assert_mem_eq(bytes, "\4\0\0", 3);
	select_item(0x8003);
	take(bytes, 3);
	ck_assert_mem_eq(bytes, "abc", 3);
	/* the bit that once meant writing is ignored */
	select_item(0x4005);
	take(bytes, 1);
	ck_assert_uint_eq(bytes[0], 4);
	/* replaced */
	cpus = 2;
	ck_assert_int_eq(vc_fw_cfg_add(fw, 5, &cpus, sizeof cpus), 0);
	select_item(5);
	take(bytes, 1);
	ck_assert_uint_eq(bytes[0], 2);
	/* nothing there */
	select_item(0x77);
	take(bytes, 4);
	ck_assert_mem_eq(bytes, "\0\0\0\0", 4);
	/* the directory and its files are not to be taken */
	ck_assert_int_eq(vc_fw_cfg_add(fw, 0x19, "", 0), -EINVAL);
	ck_assert_int_eq(vc_fw_cfg_add(fw, 0x20, "", 0), -EINVAL);
	ck_assert_int_eq(vc_fw_cfg_add(fw, 0x4005, "", 0), -EINVAL);
	ck_assert_int_eq(vc_fw_cfg_add(fw, 6, NULL, 0), 0);
}
END_TEST

struct entry {
	uint32_t size;
	uint16_t select, reserved;
	char name[56];
};

static uint16_t check_file(const char *name, const void *data, size_t length)
{
	uint8_t bytes[64];
	uint32_t count;

	select_item(0x19);
	count = take_be32();
	for (uint32_t i = 0; i < count; i++) {
		struct entry entry;

		take(&entry, sizeof entry);
		if (strcmp(entry.name, name))
			continue;
		ck_assert_uint_eq(be32toh(entry.size), length);
		ck_assert_uint_eq(entry.reserved, 0);
		select_item(be16toh(entry.select));
		take(bytes, length);
		ck_assert_mem_eq(bytes, data, length);
		return be16toh(entry.select);
	}
	ck_abort_msg("no file %s", name);
}

START_TEST(files)
{
	struct entry entries[3];
	uint16_t key;

	select_item(0x19);
	ck_assert_uint_eq(take_be32(), 0);
	ck_assert_int_eq(vc_fw_cfg_add_file(fw, "etc/system", "one", 3), 0);
	ck_assert_int_eq(vc_fw_cfg_add_file(fw, "bootorder", "second", 6), 0);
	ck_assert_int_eq(vc_fw_cfg_add_file(fw, "etc/acpi/rsdp", "3", 1), 0);
	select_item(0x19);
	ck_assert_uint_eq(take_be32(), 3);
	take(entries, sizeof entries);
	ck_assert_str_eq(entries[0].name, "bootorder");
	ck_assert_str_eq(entries[1].name, "etc/acpi/rsdp");
	ck_assert_str_eq(entries[2].name, "etc/system");
	key = check_file("etc/system", "one", 3);
	check_file("bootorder", "second", 6);
	check_file("etc/acpi/rsdp", "3", 1);
	/* replaced in place: whoever holds the key still finds it */
	ck_assert_int_eq(vc_fw_cfg_add_file(fw, "etc/system", "longer", 6), 0);
	ck_assert_uint_eq(check_file("etc/system", "longer", 6), key);
	select_item(0x19);
	ck_assert_uint_eq(take_be32(), 3);
}
END_TEST

START_TEST(bad_files)
{
	char name[57];
	int r = 0;

	memset(name, 'x', sizeof name);
	name[56] = '\0';
	ck_assert_int_eq(vc_fw_cfg_add_file(fw, name, "", 0), -EINVAL);
	name[55] = '\0';
	ck_assert_int_eq(vc_fw_cfg_add_file(fw, name, "", 0), 0);
	ck_assert_int_eq(vc_fw_cfg_add_file(fw, "", "", 0), -EINVAL);
	for (unsigned i = 0; !r && i < 1000; i++) {
		snprintf(name, sizeof name, "file%u", i);
		r = vc_fw_cfg_add_file(fw, name, "", 0);
	}
	ck_assert_int_eq(r, -ENOSPC);
	check_file("file100", "", 0);
}
END_TEST

START_TEST(dma_read)
{
	uint8_t bytes[8];

	ck_assert_int_eq(vc_fw_cfg_add(fw, 5, "abcdef", 6), 0);
	ck_assert_int_eq(vc_mem_fill(&p.mem, 0x2000, 0xee, 8), 0);
	ck_assert_uint_eq(dma(5 << 16 | SELECT | READ, 2, 0x2000), 0);
	ck_assert_uint_eq(dma(SKIP, 1, 0), 0);
	ck_assert_uint_eq(dma(READ, 5, 0x2002), 0); /* two bytes behind the end: zeros */
	ck_assert_int_eq(vc_mem_read(&p.mem, 0x2000, bytes, sizeof bytes), 0);
	ck_assert_mem_eq(bytes, "abdef\0\0\xee", 8);
	/* all at once, and by a 64-bit write */
	platform_out(&p, 0x514, 8, htobe64(0x1000));
}
END_TEST

START_TEST(dma_errors)
{
	uint8_t byte;

	ck_assert_int_eq(vc_fw_cfg_add(fw, 5, "abcdef", 6), 0);
	ck_assert_uint_eq(dma(5 << 16 | SELECT | WRITE, 2, 0x2000), ERROR);
	ck_assert_uint_eq(dma(5 << 16 | SELECT | READ, 2, VC_MIB(16)), ERROR);
	ck_assert_uint_eq(dma(5 << 16 | SELECT | READ, 2, UINT64_MAX), ERROR);
	ck_assert_uint_eq(dma(5 << 16 | SELECT | READ, UINT32_MAX, 0x2000), ERROR);
	ck_assert_uint_eq(dma(5 << 16 | SELECT | READ, 6, VC_MIB(1) - 3), ERROR);
	/* a request that is not in memory: said in the log, else nothing */
	platform_out(&p, 0x514, 4, htobe32(0xffffffff));
	platform_out(&p, 0x518, 4, htobe32(0xfffffff8));
	ck_assert_ptr_nonnull(strstr(p.last_log, "not in memory"));
	/* skipping for ever does not come back to the start */
	for (unsigned i = 0; i < 10; i++)
		ck_assert_uint_eq(dma(SKIP, UINT32_MAX, 0), 0);
	take(&byte, 1);
	ck_assert_uint_eq(byte, 0);
}
END_TEST

START_TEST(odd_accesses)
{
	uint8_t byte;

	select_item(0);
	platform_out(&p, 0x510, 1, 5); /* not 16 bits: not a selector */
	platform_out(&p, 0x511, 1, 5); /* data is read-only */
	ck_assert_uint_eq(platform_in(&p, 0x510, 2), 0xffff);
	platform_out(&p, 0x516, 2, 0xffff);
	platform_out(&p, 0x51b, 1, 0xff);
	take(&byte, 1);
	ck_assert_uint_eq(byte, 'Q');
	ck_assert_uint_eq(platform_in(&p, 0x51b, 1), 'G');
}
END_TEST

START_TEST(state)
{
	uint8_t saved[64], bytes[2];
	size_t length;

	platform_check_load(&p);
	select_item(0);
	take(bytes, 2);
	length = platform_save(&p, saved, sizeof saved);
	vc_buses_reset(&p.buses);
	take(bytes, 1);
	ck_assert_uint_eq(bytes[0], 'Q');
	ck_assert_int_eq(platform_load(&p, saved, length), 0);
	take(bytes, 2);
	ck_assert_mem_eq(bytes, "MU", 2);
	memset(saved + 8, 0xff, 8); /* an offset far behind the end */
	ck_assert_int_eq(platform_load(&p, saved, length), 0);
	take(bytes, 2);
	ck_assert_mem_eq(bytes, "\0\0", 2);
	saved[5] = 0x40;
	ck_assert_int_eq(platform_load(&p, saved, length), -EINVAL);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("fw_cfg");

	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, signature);
	tcase_add_test(cases, items);
	tcase_add_test(cases, files);
	tcase_add_test(cases, bad_files);
	tcase_add_test(cases, dma_read);
	tcase_add_test(cases, dma_errors);
	tcase_add_test(cases, odd_accesses);
	tcase_add_test(cases, state);
	return platform_run("fw_cfg", cases);
}
