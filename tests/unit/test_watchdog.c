/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* i6300esb as Linux drives it, its two stages, locks and actions; pvpanic on both buses. */
#include "device/device.h"
#include "pci_fixture.h"

enum { TIMER1 = 0, TIMER2 = 4, STATUS_REG = 8, RELOAD = 12, CONFIG = 0x60, LOCK = 0x68 };
#define SECOND 1000000000ull

static struct vc_dev *dev;
static uint64_t base;

static int create(const struct vc_device_type *type, const char *text)
{
	struct vc_props *props;
	int r;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = type->create(&p.env, props, &dev);
	if (!r)
		r = vc_props_finish(props, type->name);
	vc_props_free(props);
	return r;
}

static void begin(const char *text)
{
	setup();
	vc_clock_stop(&p.clock);
	ck_assert_int_eq(create(&vc_i6300esb_type, text), 0);
	put(1, COMMAND, 2, MEMORY);
	base = bar(1, 0);
}

static void reg(uint32_t at, unsigned width, uint32_t value)
{
	poke(base + RELOAD, 2, 0x80);
	poke(base + RELOAD, 2, 0x86);
	poke(base + at, width, value);
}

static void advance(uint64_t ns)
{
	vc_clock_set(&p.clock, vc_clock_now(&p.clock) + ns);
	vc_loop_clock_changed(p.env.loop);
	platform_settle(&p);
}

/* As Linux does it: so many seconds in all. */
static void arm(unsigned seconds)
{
	put(1, CONFIG, 2, 0x0003);
	put(1, LOCK, 1, 0);
	reg(RELOAD, 2, 0x100);
	reg(TIMER1, 4, seconds << 9);
	reg(TIMER2, 4, seconds << 9);
	reg(RELOAD, 2, 0x100);
	put(1, LOCK, 1, 2);
	ck_assert_uint_eq(get(1, LOCK, 1), 2);
	ck_assert_uint_eq(get(1, CONFIG, 2), 3);
}

static void feed(void)
{
	reg(RELOAD, 2, 0x100);
}

static unsigned bites(void)
{
	return p.resets + p.poweroffs + p.pauses + p.panics;
}

START_TEST(bites_in_time)
{
	begin("");
	ck_assert_uint_eq(get(1, 0, 4), 0x25ab8086);
	advance(1000 * SECOND);
	ck_assert_uint_eq(p.told, 0);
	arm(10);
	for (unsigned i = 0; i < 10; i++) {
		advance(9 * SECOND);
		ck_assert_uint_eq(peek32(base + STATUS_REG), 1);
		poke(base + STATUS_REG, 2, 1);
		feed();
	}
	ck_assert_uint_eq(p.told, 0);
	ck_assert_uint_eq(peek32(base + STATUS_REG), 0);
	advance(5 * SECOND + SECOND / 2);
	advance(5 * SECOND + SECOND / 2);
	ck_assert_uint_eq(p.told, 1);
	ck_assert_uint_eq(p.resets, 1);
	ck_assert_uint_eq(p.last_told.kind, VC_MACHINE_WATCHDOG);
	ck_assert_str_eq(p.last_told.action, "reset");
	/* once; the guest learns of it after the reset, and only then is it forgotten */
	advance(100 * SECOND);
	ck_assert_uint_eq(p.told, 1);
	vc_buses_reset(&p.buses);
	put(1, COMMAND, 2, MEMORY);
	ck_assert_uint_eq(peek32(base + RELOAD), 0x200);
	reg(RELOAD, 2, 0x200);
	ck_assert_uint_eq(peek32(base + RELOAD), 0);
	ck_assert_uint_eq(peek32(base + TIMER1), 0xfffff);
	teardown();
}
END_TEST

START_TEST(what_follows)
{
	static const struct {
		const char *text, *action;
		size_t counter;
	} actions[] = {
	    {"action=reset", "reset", offsetof(struct platform_env, resets)},
	    {"action=poweroff", "poweroff", offsetof(struct platform_env, poweroffs)},
	    {"action=pause", "pause", offsetof(struct platform_env, pauses)},
	    {"action=none", "none", 0},
	};

	begin(actions[_i].text);
	arm(1);
	advance(SECOND * 3 / 4);
	advance(SECOND * 3 / 4);
	ck_assert_uint_eq(p.told, 1);
	ck_assert_str_eq(p.last_told.action, actions[_i].action);
	ck_assert_uint_eq(bites(), actions[_i].counter != 0);
	if (actions[_i].counter)
		ck_assert_uint_eq(*(unsigned *)((char *)&p + actions[_i].counter), 1);
	teardown();
}
END_TEST

START_TEST(registers)
{
	begin("");
	/* locked registers */
	poke(base + TIMER1, 4, 5);
	ck_assert_uint_eq(peek32(base + TIMER1), 0xfffff);
	poke(base + RELOAD, 2, 0x80);
	poke(base + TIMER1, 4, 5);
	poke(base + RELOAD, 2, 0x86);
	poke(base + TIMER1, 4, 5);
	ck_assert_uint_eq(peek32(base + TIMER1), 0xfffff);
	reg(TIMER1, 4, 0xfff00005);
	ck_assert_uint_eq(peek32(base + TIMER1), 5);
	/* one unlocking, one write */
	poke(base + TIMER1, 4, 6);
	ck_assert_uint_eq(peek32(base + TIMER1), 5);
	/* switched off in time */
	arm(1);
	put(1, LOCK, 1, 0);
	advance(10 * SECOND);
	ck_assert_uint_eq(p.told, 0);
	/* without consequences */
	put(1, CONFIG, 2, 0x20);
	put(1, LOCK, 1, 2);
	advance(SECOND);
	advance(SECOND);
	ck_assert_uint_eq(peek32(base + RELOAD), 0x200);
	ck_assert_uint_eq(p.told, 0);
	/* running free: again and again */
	put(1, CONFIG, 2, 0);
	put(1, LOCK, 1, 0);
	put(1, LOCK, 1, 6);
	for (unsigned i = 0; i < 9; i++)
		advance(SECOND);
	ck_assert_uint_eq(p.told, 0);
	/* locked until reset */
	put(1, LOCK, 1, 3);
	put(1, LOCK, 1, 0);
	ck_assert_uint_eq(get(1, LOCK, 1), 3);
	vc_buses_reset(&p.buses);
	ck_assert_uint_eq(get(1, LOCK, 1), 0);
	ck_assert_uint_eq(get(1, CONFIG, 4), 0);
	teardown();
}
END_TEST

START_TEST(state)
{
	uint8_t saved[8192];
	int64_t size;

	begin("");
	arm(10);
	advance(8 * SECOND);
	poke(base + RELOAD, 2, 0x80);
	size = dev->ops.save(dev->ctx, saved, sizeof saved);
	ck_assert_int_gt(size, 0);
	feed();
	ck_assert_int_eq(dev->ops.load(dev->ctx, saved, (size_t)size), 0);
	/* half unlocked, in the second stage, two seconds before its end */
	poke(base + RELOAD, 2, 0x86);
	poke(base + TIMER2, 4, 7);
	ck_assert_uint_eq(peek32(base + TIMER2), 7);
	ck_assert_uint_eq(peek32(base + STATUS_REG), 1);
	advance(SECOND);
	ck_assert_uint_eq(p.told, 0);
	advance(6 * SECOND);
	ck_assert_uint_eq(p.told, 1);
	for (int64_t i = 0; i < size; i++) {
		saved[i] ^= 0xff;
		dev->ops.load(dev->ctx, saved, (size_t)size);
		saved[i] ^= 0xff;
	}
	teardown();
}
END_TEST

START_TEST(pvpanic_isa)
{
	struct vc_dev *isa;

	setup();
	ck_assert_int_eq(create(&vc_pvpanic_type, ""), 0);
	isa = dev;
	ck_assert_str_eq(isa->hid, "QEMU0001");
	ck_assert_uint_eq(isa->base, 0x505);
	ck_assert_uint_eq(isa->bus, VCORE_BUS_PIO);
	ck_assert_uint_eq(platform_in(&p, 0x505, 1), 3);
	platform_out(&p, 0x505, 1, 0xfc);
	ck_assert_uint_eq(p.told, 0);
	platform_out(&p, 0x505, 1, 2);
	ck_assert_uint_eq(p.last_told.kind, VC_MACHINE_CRASH_LOADED);
	ck_assert_uint_eq(bites(), 0);
	platform_out(&p, 0x505, 1, 3);
	ck_assert_uint_eq(p.last_told.kind, VC_MACHINE_PANICKED);
	ck_assert_str_eq(p.last_told.action, "crash");
	ck_assert_uint_eq(p.panics, 1);
	ck_assert_int_eq(create(&vc_pvpanic_type, ""), -EEXIST);
	ck_assert_int_eq(create(&vc_pvpanic_type, "addr=0x506,action=none"), 0);
	platform_out(&p, 0x506, 1, 1);
	ck_assert_uint_eq(bites(), 1);
	ck_assert_uint_eq(p.told, 3);
	ck_assert_int_eq(create(&vc_pvpanic_type, "addr=0x507,action=cry"), -EINVAL);
	ck_assert(strstr(vcore_error_message(), "none, pause, reset, poweroff, crash"));
	ck_assert_int_eq(create(&vc_pvpanic_type, "bus=usb"), -EINVAL);
	teardown();
}
END_TEST

START_TEST(pvpanic_pci)
{
	uint8_t saved[8192];
	uint64_t data;
	int64_t size;

	setup();
	ck_assert_int_eq(create(&vc_pvpanic_type, "bus=pci,addr=5,action=pause"), 0);
	ck_assert_uint_eq(get(5, 0, 4), 0x00111b36);
	put(5, COMMAND, 2, MEMORY);
	base = bar(5, 0);
	ck_assert(peek(base, 1, &data));
	ck_assert_uint_eq(data & 0xff, 3);
	poke(base + 1, 1, 1);
	ck_assert_uint_eq(p.told, 0);
	poke(base, 1, 1);
	ck_assert_uint_eq(p.pauses, 1);
	size = dev->ops.save(dev->ctx, saved, sizeof saved);
	ck_assert_int_gt(size, 0);
	ck_assert_int_eq(dev->ops.load(dev->ctx, saved, (size_t)size), 0);
	teardown();
	platform_init(&p, 0);
	ck_assert_int_eq(create(&vc_pvpanic_type, "bus=pci"), -ENOTSUP);
	ck_assert_int_eq(create(&vc_i6300esb_type, ""), -ENOTSUP);
	ck_assert_int_eq(create(&vc_i6300esb_type, "action=crash"), -EINVAL);
	platform_fini(&p);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("watchdog");

	tcase_add_test(tc, bites_in_time);
	tcase_add_loop_test(tc, what_follows, 0, 4);
	tcase_add_test(tc, registers);
	tcase_add_test(tc, state);
	tcase_add_test(tc, pvpanic_isa);
	tcase_add_test(tc, pvpanic_pci);
	return platform_run("watchdog", tc);
}
