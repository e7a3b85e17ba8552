/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "chip_fixture.h"

#define BASE      VC_HPET_BASE
#define CONFIG    (BASE + 0x10)
#define STATUS    (BASE + 0x20)
#define COUNTER   (BASE + 0xf0)
#define TN_CFG(n) (BASE + 0x100 + 0x20 * (n))
#define TN_CMP(n) (BASE + 0x108 + 0x20 * (n))

#define LEVEL    0x002u
#define ENABLE   0x004u
#define PERIODIC 0x008u
#define SETVAL   0x040u
#define MODE32   0x100u
#define ROUTE(n) ((n) << 9)

static void start(void)
{
	ck_assert_int_eq(vc_hpet_new(&fx.env), 0);
	fx_set_time(1000003);
}

static void run(bool legacy)
{
	mmio_write(CONFIG, 8, 1 | legacy << 1);
}

START_TEST(capabilities)
{
	start();
	ck_assert_uint_eq(mmio_read(BASE, 8), 0x009896808086a201);
	ck_assert_uint_eq(mmio_read(BASE + 4, 4), 10000000);
	ck_assert_uint_eq(mmio_read(TN_CFG(0), 8), 0x00f0000000000030);
	ck_assert_uint_eq(mmio_read(TN_CFG(2), 8), 0x00f0000000000030);
	ck_assert_uint_eq(mmio_read(TN_CFG(3), 8), 0);
	ck_assert_uint_eq(mmio_read(TN_CMP(1), 8), UINT64_MAX);
	/* read-only bits, no FSB, no route that is not offered */
	mmio_write(TN_CFG(1), 8, UINT64_MAX & ~(uint64_t)ROUTE(0x1f));
	ck_assert_uint_eq(mmio_read(TN_CFG(1), 8), 0x00f0000000000030 | 0x14e);
	mmio_write(TN_CFG(1), 4, ROUTE(21));
	mmio_write(TN_CFG(1), 4, ROUTE(5));
	ck_assert_uint_eq(mmio_read(TN_CFG(1), 4), 0x30 | ROUTE(21));
	mmio_write(BASE, 8, 0);
	ck_assert_uint_eq(mmio_read(BASE, 4), 0x8086a201);
	mmio_write(CONFIG, 8, UINT64_MAX);
	ck_assert_uint_eq(mmio_read(CONFIG, 8), 3);
	mmio_write(TN_CFG(1), 2, 0xffff); /* not 32 or 64 bits */
	ck_assert_uint_eq(mmio_read(TN_CFG(1), 4), 0x30 | ROUTE(21));
}
END_TEST

START_TEST(main_counter)
{
	start();
	ck_assert_uint_eq(mmio_read(COUNTER, 8), 0);
	mmio_write(COUNTER, 8, 0xfffffffffull);
	run(false);
	fx_set_time(1000003 + 1000);
	ck_assert_uint_eq(mmio_read(COUNTER, 8), 0xfffffffffull + 100);
	ck_assert_uint_eq(mmio_read(COUNTER, 4), (0xfffffffffull + 100) & 0xffffffff);
	ck_assert_uint_eq(mmio_read(COUNTER + 4, 4), 0x10);
	mmio_write(CONFIG, 4, 0);
	fx_set_time(5000000);
	ck_assert_uint_eq(mmio_read(COUNTER, 8), 0xfffffffffull + 100);
	mmio_write(COUNTER + 4, 4, 0);
	ck_assert_uint_eq(mmio_read(COUNTER, 8), 0x63);
	run(false);
	fx_set_time(5000010);
	ck_assert_uint_eq(mmio_read(COUNTER, 8), 0x64);
}
END_TEST

START_TEST(one_shot_edge)
{
	start();
	mmio_write(TN_CFG(2), 4, ENABLE | ROUTE(20));
	mmio_write(TN_CMP(2), 8, 1000);
	fx_set_time(3000003);
	ck_assert_uint_eq(fx.rises[20], 0); /* halted */
	run(false);
	fx_set_time(3000003 + 9999);
	ck_assert_uint_eq(fx.rises[20], 0);
	fx_set_time(3000003 + 10000);
	ck_assert_uint_eq(fx.rises[20], 1);
	ck_assert(!fx.level[20]);
	ck_assert_uint_eq(mmio_read(STATUS, 8), 0); /* edge mode has no status */
	fx_advance(100000000000, 1000000000);
	ck_assert_uint_eq(fx.rises[20], 1);
	/* behind the counter: not before the counter comes round */
	mmio_write(TN_CMP(2), 8, 5);
	fx_advance(1000000000, 1000000000);
	ck_assert_uint_eq(fx.rises[20], 1);
	/* interrupt not enabled */
	mmio_write(TN_CFG(2), 4, ROUTE(20));
	mmio_write(TN_CMP(2), 8, mmio_read(COUNTER, 8) + 10);
	fx_advance(1000, 1000);
	ck_assert_uint_eq(fx.rises[20], 1);
}
END_TEST

START_TEST(level_and_status)
{
	start();
	mmio_write(TN_CFG(0), 4, ENABLE | LEVEL | ROUTE(22));
	mmio_write(TN_CFG(1), 4, ENABLE | LEVEL | ROUTE(22));
	mmio_write(TN_CMP(0), 8, 100);
	mmio_write(TN_CMP(1), 8, 200);
	run(false);
	fx_advance(1000, 1000);
	ck_assert(fx.level[22]);
	ck_assert_uint_eq(mmio_read(STATUS, 4), 1);
	fx_advance(1000, 1000);
	ck_assert_uint_eq(mmio_read(STATUS, 4), 3);
	mmio_write(STATUS, 4, 1);
	ck_assert(fx.level[22]); /* shared */
	mmio_write(STATUS, 4, 4);
	ck_assert(fx.level[22]);
	mmio_write(STATUS, 4, 2);
	ck_assert(!fx.level[22]);
	ck_assert_uint_eq(mmio_read(STATUS, 4), 0);
	/* status is set even when the interrupt is off; enabling it then raises */
	mmio_write(TN_CFG(0), 4, LEVEL | ROUTE(22));
	mmio_write(TN_CMP(0), 8, mmio_read(COUNTER, 8) + 10);
	fx_advance(100, 100);
	ck_assert_uint_eq(mmio_read(STATUS, 4), 1);
	ck_assert(!fx.level[22]);
	mmio_write(TN_CFG(0), 4, ENABLE | LEVEL | ROUTE(23));
	ck_assert(fx.level[23]);
	/* to edge mode */
	mmio_write(TN_CFG(0), 4, ENABLE | ROUTE(23));
	ck_assert(!fx.level[23]);
	ck_assert_uint_eq(mmio_read(STATUS, 4), 0);
}
END_TEST

START_TEST(periodic)
{
	start();
	run(false);
	fx_advance(123450, 123450);
	uint64_t now = mmio_read(COUNTER, 8);
	mmio_write(TN_CFG(0), 4, ENABLE | PERIODIC | SETVAL | ROUTE(20));
	mmio_write(TN_CMP(0), 8, now + 500);
	ck_assert_uint_eq(mmio_read(TN_CFG(0), 4) & SETVAL, 0);
	ck_assert_uint_eq(mmio_read(TN_CMP(0), 8), now + 500);
	mmio_write(TN_CMP(0), 8, 10000); /* without SETVAL: the period */
	ck_assert_uint_eq(mmio_read(TN_CMP(0), 8), now + 500);
	fx_advance(5000, 10);
	ck_assert_uint_eq(fx.rises[20], 1);
	ck_assert_uint_eq(mmio_read(TN_CMP(0), 8), now + 10500);
	for (unsigned i = 2; i < 50; i++) {
		fx_advance(99990, 99990);
		ck_assert_uint_eq(fx.rises[20], i - 1);
		fx_advance(10, 10);
		ck_assert_uint_eq(fx.rises[20], i);
	}
	/* missed periods are one interrupt, and the phase stays */
	fx_advance(1050000, 1050000);
	ck_assert_uint_eq(fx.rises[20], 50);
	ck_assert_uint_eq(mmio_read(TN_CMP(0), 8), now + 500 + 59 * 10000);
}
END_TEST

START_TEST(periodic_by_one_write)
{
	start();
	/* SETVAL and one write: comparator and period */
	mmio_write(TN_CFG(0), 4, ENABLE | PERIODIC | SETVAL | MODE32 | ROUTE(20));
	mmio_write(TN_CMP(0), 4, 5000);
	run(false);
	fx_advance(500000, 10000);
	ck_assert_uint_eq(fx.rises[20], 10);
	mmio_write(CONFIG, 4, 0);
	fx_advance(500000, 10000);
	ck_assert_uint_eq(fx.rises[20], 10);
}
END_TEST

START_TEST(mode_32bit)
{
	start();
	mmio_write(COUNTER, 8, 0x1fffffff0ull);
	mmio_write(TN_CFG(1), 4, ENABLE | MODE32 | ROUTE(21));
	mmio_write(TN_CMP(1), 8, 0xdead00000010ull);
	ck_assert_uint_eq(mmio_read(TN_CMP(1), 8), 0x10);
	run(false);
	fx_advance(310, 10);
	ck_assert_uint_eq(fx.rises[21], 0);
	fx_advance(10, 10);
	ck_assert_uint_eq(fx.rises[21], 1);
	/* comes round */
	fx_advance(10ull << 32, 10ull << 30);
	ck_assert_uint_eq(fx.rises[21], 2);
}
END_TEST

START_TEST(legacy_replacement)
{
	start();
	vc_irq_set(&fx.irqs, 0, true); /* as the PIT left it */
	mmio_write(TN_CFG(0), 4, ENABLE);
	mmio_write(TN_CFG(1), 4, ENABLE);
	mmio_write(TN_CMP(0), 8, 100);
	mmio_write(TN_CMP(1), 8, 200);
	run(true);
	ck_assert(atomic_load(&fx.env.legacy_replaced));
	ck_assert(!fx.level[0]);
	unsigned before = fx.rises[0];
	fx_advance(3000, 10);
	ck_assert_uint_eq(fx.rises[0], before + 1);
	ck_assert_uint_eq(fx.rises[8], 1);
	mmio_write(CONFIG, 4, 1);
	ck_assert(!atomic_load(&fx.env.legacy_replaced));
	run(true);
	vc_buses_reset(&fx.buses);
	ck_assert(!atomic_load(&fx.env.legacy_replaced));
	ck_assert_uint_eq(mmio_read(COUNTER, 8), 0);
}
END_TEST

START_TEST(extremes)
{
	start();
	run(false);
	/* the shortest period does not keep the thread busy */
	mmio_write(TN_CFG(0), 4, ENABLE | PERIODIC | SETVAL | ROUTE(20));
	mmio_write(TN_CMP(0), 8, 1);
	fx_advance(1000000, 1000);
	ck_assert_uint_ge(fx.rises[20], 10);
	ck_assert_uint_le(fx.rises[20], 60);
	/* zero and enormous periods */
	mmio_write(TN_CMP(0), 8, 0);
	fx_advance(100000, 1000);
	mmio_write(TN_CFG(0), 4, ENABLE | PERIODIC | SETVAL | ROUTE(20));
	mmio_write(TN_CMP(0), 8, mmio_read(COUNTER, 8) + 1);
	mmio_write(TN_CMP(0), 8, UINT64_MAX);
	fx_advance(100000, 1000);
	mmio_write(COUNTER, 8, UINT64_MAX - 1);
	fx_advance(1000, 10);
	mmio_write(TN_CFG(0), 4, ENABLE | PERIODIC | SETVAL | MODE32 | ROUTE(20));
	mmio_write(TN_CMP(0), 8, UINT64_MAX);
	fx_advance(100000000000, 10000000000);
}
END_TEST

START_TEST(state)
{
	size_t size;

	start();
	mmio_write(TN_CFG(0), 4, ENABLE | LEVEL | PERIODIC | SETVAL | ROUTE(20));
	mmio_write(TN_CMP(0), 8, 3000);
	run(true);
	fx_advance(5000, 1000);
	uint64_t counter = mmio_read(COUNTER, 8), then = vc_clock_now(&fx.clock);
	uint8_t *saved = fx_save("hpet", &size);
	vc_buses_reset(&fx.buses);
	fx_set_time(then + 1000000);
	ck_assert_uint_eq(fx.rises[0], 0);
	vc_clock_set(&fx.clock, then);
	ck_assert_int_eq(fx_load("hpet", saved, size), 0);
	ck_assert(atomic_load(&fx.env.legacy_replaced));
	ck_assert_uint_eq(mmio_read(COUNTER, 8), counter);
	fx_advance(25000, 1000);
	ck_assert(fx.level[0]);
	ck_assert_uint_eq(mmio_read(STATUS, 4), 1);
	free(saved);
	fx_load_hostile("hpet");
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_test(tc, capabilities);
	tcase_add_test(tc, main_counter);
	tcase_add_test(tc, one_shot_edge);
	tcase_add_test(tc, level_and_status);
	tcase_add_test(tc, periodic);
	tcase_add_test(tc, periodic_by_one_write);
	tcase_add_test(tc, mode_32bit);
	tcase_add_test(tc, legacy_replacement);
	tcase_add_test(tc, extremes);
	tcase_add_test(tc, state);
}

int main(void)
{
	return fx_main("hpet", add_tests);
}
