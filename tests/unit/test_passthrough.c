/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A function in place of a device that is not ours: the device is a made-up one, the guest is the test. */
#include <sys/eventfd.h>

#include "passthrough/config.h"
#include "passthrough_fixture.h"

static void fire(unsigned vector)
{
	uint64_t one = 1;

	ck_assert_uint_lt(vector, fake.irq_count);
	ck_assert_int_eq(write(fake.fds[vector], &one, sizeof one), sizeof one);
	platform_settle(&p);
}

/* ---- tests ---- */

START_TEST(configuration)
{
	static const unsigned shown[] = {CAP_PM, CAP_EXPRESS, CAP_MSI, CAP_MSIX, CAP_OWN, 0};
	unsigned at;

	make_device();
	ck_assert_uint_eq(get(1, 0, 4), 0x56781234);
	ck_assert_uint_eq(get(1, 8, 4), 0x02000003);
	at = (unsigned)get(1, 0x34, 1);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(shown); i++) {
		ck_assert_uint_eq(at, shown[i]);
		at = at ? (unsigned)get(1, at + 1, 1) : 0;
	}
	/* power: without PME, and the device never sleeps */
	ck_assert_uint_eq(get(1, CAP_PM + 2, 2), 0x0003);
	put(1, CAP_PM + 4, 2, 3);
	ck_assert_uint_eq(get(1, CAP_PM + 4, 2), 3);
	ck_assert_uint_eq(fake.config[CAP_PM + 4], 0);
	/* an endpoint on bus 0 is an integrated one, without a link */
	ck_assert_uint_eq(get(1, CAP_EXPRESS + 2, 2), 0x92);
	ck_assert_uint_eq(get(1, CAP_EXPRESS + 12, 4), 0);
	/* its registers are the device's: control, and what a vendor has made */
	put(1, CAP_EXPRESS + 8, 2, 0x2810);
	ck_assert_uint_eq(vc_ld16(fake.config + CAP_EXPRESS + 8), 0x2810);
	vc_st32(fake.config + CAP_OWN + 4, 0xbeef);
	ck_assert_uint_eq(get(1, CAP_OWN + 4, 4), 0xbeef);
	ck_assert_uint_eq(get(1, CAP_OWN, 4), 0x00080009);
	put(1, CAP_OWN + 4, 4, 0x77);
	ck_assert_uint_eq(vc_ld32(fake.config + CAP_OWN + 4), 0x77);
	/* SR-IOV is the host's business: what stands there leads on */
	ck_assert_uint_eq(get(1, EXT_HIDDEN, 4), (uint32_t)EXT_AER << 20);
	ck_assert_uint_eq(get(1, EXT_AER, 4), 0x01 | 2 << 16 | (uint32_t)EXT_SERIAL << 20);
	ck_assert_uint_eq(get(1, EXT_SERIAL, 4), 0x03 | 1 << 16);
	ck_assert_uint_eq(get(1, EXT_SERIAL + 4, 4), 0x55);
	/* the command register reaches it */
	put(1, COMMAND, 2, IO | MEMORY | MASTER);
	ck_assert_uint_eq(vc_ld16(fake.config + COMMAND), IO | MEMORY | MASTER);
	vc_buses_reset(&p.buses);
	ck_assert_uint_eq(vc_ld16(fake.config + COMMAND), 0);
	ck_assert_uint_eq(fake.resets, 2);
}
END_TEST

START_TEST(registers)
{
	uint64_t data = 0;

	make_device();
	put(1, COMMAND, 2, IO | MEMORY);
	vc_st32(fake.bar + 0x10, 0x12345678);
	ck_assert_uint_eq(peek32(bar(1, 0) + 0x10), 0x12345678);
	poke(bar(1, 0) + 0x14, 4, 0x9abcdef0);
	ck_assert_uint_eq(vc_ld32(fake.bar + 0x14), 0x9abcdef0);
	/* the table is the library's */
	poke(bar(1, 0) + TABLE, 4, 0xfee00000);
	ck_assert_uint_eq(vc_ld32(fake.bar + TABLE), 0);
	ck_assert_uint_eq(peek32(bar(1, 0) + TABLE), 0xfee00000);
	ck_assert_uint_eq(peek32(bar(1, 0) + TABLE + 12), 1);
	ck_assert(touch(VCORE_BUS_PIO, bar(1, 2) + 4, 2, false, &data));
}
END_TEST

START_TEST(direct_registers)
{
	fake.memory = memfd_create("bar", MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(fake.memory, BAR_SIZE), 0);
	p.env.registers = take_registers;
	make_device();
	ck_assert_uint_eq(given_count, 0);
	/* INTx is on, and only accesses tell when it is served */
	put(1, COMMAND, 2, MEMORY);
	ck_assert_uint_eq(given_count, 0);
	put(1, COMMAND, 2, MEMORY | INTX_OFF);
	ck_assert_uint_eq(given_count, 1);
	ck_assert_uint_eq(given[0].gpa, bar(1, 0));
	ck_assert_uint_eq(given[0].length, TABLE);
	put(1, BAR0, 8, 0x10200000000);
	ck_assert_uint_eq(given_count, 1);
	ck_assert_uint_eq(given[0].gpa, 0x10200000000);
	put(1, COMMAND, 2, INTX_OFF);
	ck_assert_uint_eq(given_count, 0);
	put(1, COMMAND, 2, MEMORY | INTX_OFF);
	ck_assert_uint_eq(given_count, 1);
}
END_TEST

START_TEST(msix_by_loop)
{
	uint64_t table;

	make_device();
	put(1, COMMAND, 2, MEMORY | MASTER);
	table = bar(1, 0) + TABLE;
	put(1, CAP_MSIX + 2, 2, MSIX_ON);
	ck_assert_uint_eq(fake.irq, VC_PHYSICAL_MSIX);
	ck_assert_uint_eq(fake.irq_count, VECTORS);
	fire(2);
	ck_assert_uint_eq(messages, 0);
	ck_assert_uint_eq(peek32(bar(1, 0) + PENDING), 1 << 2);
	put_vector(table, 2, 0xfee01000, 0x42, 0);
	ck_assert_uint_eq(messages, 1);
	fire(2);
	ck_assert_uint_eq(messages, 2);
	ck_assert_uint_eq(message_address, 0xfee01000);
	ck_assert_uint_eq(message_data, 0x42);
	put(1, CAP_MSIX + 2, 2, 0);
	ck_assert_uint_eq(fake.irq, VC_PHYSICAL_INTX);
}
END_TEST

START_TEST(msix_by_kernel)
{
	uint64_t table;

	p.env.irqfd = take_route;
	make_device();
	put(1, COMMAND, 2, MEMORY | MASTER);
	table = bar(1, 0) + TABLE;
	put(1, CAP_MSIX + 2, 2, MSIX_ON);
	ck_assert_uint_eq(route_count, 0);
	put_vector(table, 1, 0xfee02000, 0x51, 0);
	ck_assert_uint_eq(route_count, 1);
	ck_assert_int_eq(routes[0].fd, fake.fds[1]);
	ck_assert_uint_eq(routes[0].address, 0xfee02000);
	ck_assert_uint_eq(routes[0].data, 0x51);
	/* a masked one comes back, and what it counted is kept */
	poke(table + 16 + 12, 4, 1);
	ck_assert_uint_eq(route_count, 0);
	fire(1);
	ck_assert_uint_eq(messages, 0);
	poke(table + 16 + 8, 4, 0x52);
	poke(table + 16 + 12, 4, 0);
	ck_assert_uint_eq(messages, 1);
	ck_assert_uint_eq(route_count, 1);
	ck_assert_uint_eq(routes[0].data, 0x52);
	put(1, CAP_MSIX + 2, 2, MSIX_ON | MSIX_MASK);
	ck_assert_uint_eq(route_count, 0);
	put(1, CAP_MSIX + 2, 2, MSIX_ON);
	ck_assert_uint_eq(route_count, 1);
	put(1, COMMAND, 2, MEMORY);
	ck_assert_uint_eq(route_count, 0);
}
END_TEST

/* 32 bits, without masks. */
START_TEST(msi)
{
	make_device();
	put(1, COMMAND, 2, MEMORY | MASTER);
	put(1, CAP_MSI + 4, 4, 0xfee03000);
	put(1, CAP_MSI + 8, 2, 0x60);
	put(1, CAP_MSI + 12, 4, 0xffffffff);
	ck_assert_uint_eq(get(1, CAP_MSI + 12, 4), 0);
	put(1, CAP_MSI + 2, 2, 1 | 1 << 4);
	ck_assert_uint_eq(fake.irq, VC_PHYSICAL_MSI);
	ck_assert_uint_eq(fake.irq_count, 2);
	fire(1);
	ck_assert_uint_eq(messages, 1);
	ck_assert_uint_eq(message_address, 0xfee03000);
	ck_assert_uint_eq(message_data, 0x61);
}
END_TEST

START_TEST(intx)
{
	make_device();
	put(1, COMMAND, 2, MEMORY);
	ck_assert_uint_eq(fake.irq, VC_PHYSICAL_INTX);
	ck_assert_uint_eq(fake.irq_count, 1);
	fire(0);
	ck_assert(p.level[17]);
	ck_assert_uint_eq(fake.unmasks, 0);
	peek32(bar(1, 0));
	ck_assert(!p.level[17]);
	ck_assert_uint_eq(fake.unmasks, 1);
	peek32(bar(1, 0));
	ck_assert_uint_eq(fake.unmasks, 1);
	fire(0);
	ck_assert(p.level[17]);
	put(1, COMMAND, 2, MEMORY | INTX_OFF);
	ck_assert(!p.level[17]);
	ck_assert_uint_eq(fake.irq_count, 0);
}
END_TEST

START_TEST(news)
{
	make_device();
	put(1, COMMAND, 2, MEMORY);
	fake.events->wanted(fake.events_ctx);
	fake.events->wanted(fake.events_ctx);
	platform_settle(&p);
	ck_assert_uint_eq(wanted_count, 1);
	vc_st32(fake.bar + 0x10, 0x12345678);
	fake.events->gone(fake.events_ctx, "made up");
	ck_assert_uint_eq(peek32(bar(1, 0) + 0x10), 0xffffffff);
	ck_assert_uint_eq(get(1, CAP_OWN + 4, 4), 0xffffffff);
	poke(bar(1, 0) + 0x10, 4, 0);
	ck_assert_uint_eq(vc_ld32(fake.bar + 0x10), 0x12345678);
}
END_TEST

static void refuse_config(int error, const char *text)
{
	struct vc_dev *dev;

	fake.destroys = 0;
	ck_assert_int_eq(try_device(NULL, &dev), -error);
	ck_assert_msg(strstr(vcore_error_message(), text), "'%s' in '%s'", text, vcore_error_message());
	ck_assert_uint_eq(fake.destroys, 1);
}

START_TEST(bad_devices)
{
	vc_st32(fake.config + CAP_MSIX + 4, BAR_SIZE - 16);
	refuse_config(EINVAL, "MSI-X table");
	vc_st32(fake.config + CAP_MSIX + 4, TABLE | 3);
	refuse_config(EINVAL, "MSI-X table");
	vc_st32(fake.config + CAP_MSIX + 4, TABLE);
	vc_st16(fake.config + CAP_MSIX + 2, VECTORS);
	refuse_config(EINVAL, "5 vectors");
	vc_st16(fake.config + CAP_MSIX + 2, VECTORS - 1);
	fake.config[CAP_OWN + 1] = CAP_PM;
	refuse_config(EINVAL, "overlaps");
	fake.config[CAP_OWN + 1] = 0xfc;
	fake.config[0xfc] = 0x11;
	fake.config[CAP_MSIX] = 8;
	refuse_config(EINVAL, "beyond the end");
	fake.config[0x0e] = 1;
	refuse_config(ENODEV, "type 1");
	fake.config[0] = fake.config[1] = 0xff;
	refuse_config(ENODEV, "all ones");
}
END_TEST

/* Whatever a device says of itself, the guest's view of it ends. */
START_TEST(noise)
{
	static struct vc_passed_config c;
	struct vc_passed_source source = {
	    .name = "noise", .bytes = fake.config, .length = 4096, .intx = 1, .msi = 32, .msix = 2048};
	unsigned good = 0;

	make_device();
	srand(1);
	for (unsigned round = 0; round < 20000; round++) {
		unsigned at, n = 0;

		for (unsigned i = 0; i < 8; i++)
			fake.config[0x34 + (unsigned)rand() % 0x120] = (uint8_t)rand();
		if (round % 16 == 0)
			fill_config();
		if (vc_passed_config_make(&c, &source) < 0)
			continue;
		good++;
		for (at = c.image.first; at; at = c.initial[at + 1])
			ck_assert_uint_lt(n++, 48);
		for (at = 0x100, n = 0; at; at = vc_ld32(c.initial + at) >> 20)
			ck_assert_uint_lt(n++, 512);
	}
	ck_assert_uint_gt(good, 100);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("passthrough");

	tcase_set_timeout(cases, 60);
	tcase_add_checked_fixture(cases, begin, end);
	tcase_add_test(cases, configuration);
	tcase_add_test(cases, registers);
	tcase_add_test(cases, direct_registers);
	tcase_add_test(cases, msix_by_loop);
	tcase_add_test(cases, msix_by_kernel);
	tcase_add_test(cases, msi);
	tcase_add_test(cases, intx);
	tcase_add_test(cases, news);
	tcase_add_test(cases, bad_devices);
	tcase_add_test(cases, noise);
	return platform_run("passthrough", cases);
}
