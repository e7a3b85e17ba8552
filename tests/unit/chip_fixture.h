/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A chipset without a vm: buses, a clock that only the test moves, a loop that the test drives, and a record of the
 * interrupt lines. */
#ifndef CHIP_FIXTURE_H
#define CHIP_FIXTURE_H

#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "chipset/chipset.h"

struct fixture {
	struct vc_gate gate;
	struct vc_buses buses;
	struct vc_clock clock;
	struct vc_loop *loop;
	struct vc_irqs irqs;
	struct vc_env env;
	bool level[VC_GSI_COUNT];
	unsigned rises[VC_GSI_COUNT];
	uint64_t rose_at[VC_GSI_COUNT]; /* guest ns of the last one */
	unsigned poweroffs, resets;
};

static struct fixture fx;

static inline void fx_irq_set(void *ctx, unsigned gsi, bool level)
{
	struct fixture *f = ctx;

	if (level && !f->level[gsi]) {
		f->rises[gsi]++;
		f->rose_at[gsi] = vc_clock_now(&f->clock);
	}
	f->level[gsi] = level;
}

static inline int fx_irq_msi(void *ctx, uint64_t address, uint32_t data)
{
	return 0;
}

static inline void fx_poweroff(void *ctx)
{
	((struct fixture *)ctx)->poweroffs++;
}

static inline void fx_machine_reset(void *ctx)
{
	((struct fixture *)ctx)->resets++;
}

static const struct vc_irq_sink fx_sink = {fx_irq_set, fx_irq_msi};
static const struct vc_machine_ops fx_machine = {.poweroff = fx_poweroff, .reset = fx_machine_reset};

static inline void fx_setup(void)
{
	memset(&fx, 0, sizeof fx);
	ck_assert_int_eq(vc_gate_init(&fx.gate), 0);
	ck_assert_int_eq(vc_buses_init(&fx.buses, &fx.gate), 0);
	vc_clock_init(&fx.clock);
	vc_clock_stop(&fx.clock);
	vc_clock_set(&fx.clock, 0);
	ck_assert_int_eq(vc_loop_new(&fx.clock, false, &fx.loop), 0);
	fx.irqs = (struct vc_irqs){&fx_sink, &fx};
	fx.env.buses = &fx.buses;
	fx.env.irqs = &fx.irqs;
	fx.env.loop = fx.loop;
	fx.env.clock = &fx.clock;
	fx.env.machine = &fx_machine;
	fx.env.machine_ctx = &fx;
	fx.env.vcpus = fx.env.vcpus_present = 4;
	fx.env.tsc_khz = 2000000;
}

static inline void fx_teardown(void)
{
	vc_buses_fini(&fx.buses);
	vc_loop_free(fx.loop);
	vc_gate_fini(&fx.gate);
}

/* Runs the timers that are due, also those that these arm for now. */
static inline void fx_run(void)
{
	while (vc_loop_run(fx.loop, 0) > 0)
		;
}

/* Moves the clock, and only then runs the timers. */
static inline void fx_set_time(uint64_t ns)
{
	vc_clock_set(&fx.clock, ns);
	fx_run();
}

static inline void fx_advance(uint64_t ns, uint64_t step)
{
	uint64_t now = vc_clock_now(&fx.clock), end = now + ns;

	while (now < end) {
		now = end - now < step ? end : now + step;
		fx_set_time(now);
	}
}

static inline uint64_t fx_access(enum vcore_bus bus, uint64_t address, unsigned width, bool is_write, uint64_t data)
{
	struct vcore_io io = {
	    .size = sizeof io, .bus = bus, .address = address, .width = width, .is_write = is_write, .data = data};

	ck_assert(vc_bus_dispatch(&fx.buses, NULL, &io));
	return width == 8 ? io.data : io.data & ((1ull << width * 8) - 1);
}

static inline uint8_t in8(uint16_t port)
{
	return (uint8_t)fx_access(VCORE_BUS_PIO, port, 1, false, 0);
}

static inline void out8(uint16_t port, uint8_t value)
{
	fx_access(VCORE_BUS_PIO, port, 1, true, value);
}

static inline uint32_t in_wide(uint16_t port, unsigned width)
{
	return (uint32_t)fx_access(VCORE_BUS_PIO, port, width, false, 0);
}

static inline void out_wide(uint16_t port, unsigned width, uint32_t value)
{
	fx_access(VCORE_BUS_PIO, port, width, true, value);
}

static inline uint64_t mmio_read(uint64_t address, unsigned width)
{
	return fx_access(VCORE_BUS_MMIO, address, width, false, 0);
}

static inline void mmio_write(uint64_t address, unsigned width, uint64_t value)
{
	fx_access(VCORE_BUS_MMIO, address, width, true, value);
}

static inline struct vc_dev *fx_dev(const char *type)
{
	struct vc_dev *dev = fx.buses.devices;

	while (dev && strcmp(dev->type, type))
		dev = dev->next;
	ck_assert_ptr_nonnull(dev);
	return dev;
}

/* Saves a device; the caller frees. */
static inline uint8_t *fx_save(const char *type, size_t *size)
{
	struct vc_dev *dev = fx_dev(type);
	int64_t need = dev->ops.save(dev->ctx, NULL, 0);
	uint8_t *state;

	ck_assert_int_gt(need, 4);
	state = malloc((size_t)need);
	ck_assert_ptr_nonnull(state);
	ck_assert_int_eq(dev->ops.save(dev->ctx, state, (size_t)need - 1), -ENOSPC);
	ck_assert_int_eq(dev->ops.save(dev->ctx, state, (size_t)need), need);
	*size = (size_t)need;
	return state;
}

static inline int fx_load(const char *type, const void *state, size_t size)
{
	struct vc_dev *dev = fx_dev(type);

	return dev->ops.load(dev->ctx, state, size);
}

/* Another size and another version are refused; flipped bits are refused or taken, and the device lives on. */
static inline void fx_load_hostile(const char *type)
{
	size_t size;
	uint8_t *good = fx_save(type, &size), *bad = malloc(size + 1);
	uint32_t seed = 1;

	ck_assert_ptr_nonnull(bad);
	memcpy(bad, good, size);
	bad[size] = 0;
	ck_assert_int_eq(fx_load(type, bad, size + 1), -EINVAL);
	ck_assert_int_eq(fx_load(type, bad, size - 1), -EINVAL);
	ck_assert_int_eq(fx_load(type, bad, 0), -EINVAL);
	bad[0] ^= 0x80;
	ck_assert_int_eq(fx_load(type, bad, size), -EINVAL);
	for (unsigned i = 0; i < 2000; i++) {
		memcpy(bad, good, size);
		for (unsigned n = 0; n < 1 + i % 8; n++) {
			seed = seed * 1664525 + 1013904223;
			bad[4 + (seed >> 8) % (size - 4)] = (uint8_t)(seed >> 24);
		}
		fx_load(type, bad, size);
		vc_loop_run(fx.loop, 0);
		size_t again;
		free(fx_save(type, &again));
		ck_assert_uint_eq(again, size);
	}
	ck_assert_int_eq(fx_load(type, good, size), 0);
	free(good);
	free(bad);
}

static inline int fx_main(const char *name, void (*add_tests)(TCase *))
{
	Suite *suite = suite_create(name);
	TCase *tc = tcase_create(name);

	tcase_add_checked_fixture(tc, fx_setup, fx_teardown);
	tcase_set_timeout(tc, 60);
	add_tests(tc);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
