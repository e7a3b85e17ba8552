/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A vc_env for tests of devices: RAM, buses, an event loop that the test turns, interrupt lines and machine events that
 * are counted. */
#ifndef PLATFORM_ENV_H
#define PLATFORM_ENV_H

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "chipset/chipset.h"
#include "core/util.h"

struct platform_env {
	struct vc_gate gate;
	struct vc_mem mem;
	struct vc_buses buses;
	struct vc_clock clock;
	struct vc_irqs irqs;
	struct vc_env env;
	struct vc_log log;
	bool level[VC_GSI_COUNT];
	unsigned edges[VC_GSI_COUNT]; /* false to true */
	unsigned resets, debug_exits, poweroffs, pauses, panics, told;
	uint32_t debug_code;
	struct vc_machine_event last_told;
	char last_log[256];
};

static void platform_set(void *ctx, unsigned gsi, bool level)
{
	struct platform_env *p = ctx;

	p->edges[gsi] += level && !p->level[gsi];
	p->level[gsi] = level;
}

static void platform_reset(void *ctx)
{
	((struct platform_env *)ctx)->resets++;
}

static void platform_debug_exit(void *ctx, uint32_t code)
{
	struct platform_env *p = ctx;

	p->debug_exits++;
	p->debug_code = code;
}

static void platform_poweroff(void *ctx)
{
	((struct platform_env *)ctx)->poweroffs++;
}

static void platform_pause(void *ctx)
{
	((struct platform_env *)ctx)->pauses++;
}

static void platform_panic(void *ctx, const char *message)
{
	((struct platform_env *)ctx)->panics++;
}

static void platform_tell(void *ctx, const struct vc_machine_event *event)
{
	struct platform_env *p = ctx;

	p->told++;
	p->last_told = *event;
}

static void platform_log(void *ctx, enum vcore_log_level level, const char *message)
{
	struct platform_env *p = ctx;

	(void)level;
	snprintf(p->last_log, sizeof p->last_log, "%s", message);
}

static inline void platform_init(struct platform_env *p, uint64_t ram)
{
	static const struct vc_irq_sink sink = {.set = platform_set};
	static const struct vc_machine_ops machine = {.reset = platform_reset,
	                                              .debug_exit = platform_debug_exit,
	                                              .poweroff = platform_poweroff,
	                                              .pause = platform_pause,
	                                              .panic = platform_panic,
	                                              .tell = platform_tell};

	memset(p, 0, sizeof *p);
	ck_assert_int_eq(vc_gate_init(&p->gate), 0);
	ck_assert_int_eq(vc_mem_init(&p->mem, &p->gate), 0);
	p->mem.gpa_limit = 1ull << 46;
	ck_assert_int_eq(vc_buses_init(&p->buses, &p->gate), 0);
	vc_clock_init(&p->clock);
	p->irqs = (struct vc_irqs){&sink, p};
	p->log = (struct vc_log){platform_log, p, VCORE_LOG_DEBUG};
	p->env = (struct vc_env){.buses = &p->buses,
	                         .mem = &p->mem,
	                         .irqs = &p->irqs,
	                         .clock = &p->clock,
	                         .log = &p->log,
	                         .machine = &machine,
	                         .machine_ctx = p,
	                         .tsc_khz = 1000000,
	                         .vcpus = 1};
	ck_assert_int_eq(vc_loop_new(&p->clock, false, &p->env.loop), 0);
	if (ram)
		ck_assert_int_eq(vc_mem_add(&p->mem, NULL, 0, ram, VCORE_MEM_RWX, NULL, NULL), 0);
}

static inline void platform_fini(struct platform_env *p)
{
	vc_buses_fini(&p->buses);
	vc_loop_free(p->env.loop);
	vc_mem_fini(&p->mem);
	vc_gate_fini(&p->gate);
}

static inline uint64_t platform_in(struct platform_env *p, uint16_t port, unsigned width)
{
	struct vcore_io io = {.size = sizeof io, .bus = VCORE_BUS_PIO, .address = port, .width = width};

	ck_assert_msg(vc_bus_dispatch(&p->buses, NULL, &io), "nobody answers at port %#x", port);
	return io.data & vc_width_mask(width);
}

static inline void platform_out(struct platform_env *p, uint16_t port, unsigned width, uint64_t data)
{
	struct vcore_io io = {
	    .size = sizeof io, .bus = VCORE_BUS_PIO, .address = port, .width = width, .data = data, .is_write = 1};

	ck_assert_msg(vc_bus_dispatch(&p->buses, NULL, &io), "nobody answers at port %#x", port);
}

/* Turns the loop until there is nothing to do. */
static inline void platform_settle(struct platform_env *p)
{
	while (vc_loop_run(p->env.loop, 0) > 0)
		;
}

/* The only device's saved state; returns its length. */
static inline size_t platform_save(struct platform_env *p, uint8_t *buffer, size_t length)
{
	struct vc_dev *dev = p->buses.devices;
	int64_t n = dev->ops.save(dev->ctx, NULL, 0);

	ck_assert_int_gt(n, 4);
	ck_assert_int_le(n, (int64_t)length);
	ck_assert_int_eq(dev->ops.save(dev->ctx, buffer, (size_t)n - 1), -ENOSPC);
	ck_assert_int_eq(dev->ops.save(dev->ctx, buffer, length), n);
	return (size_t)n;
}

static inline int platform_load(struct platform_env *p, const uint8_t *buffer, size_t length)
{
	struct vc_dev *dev = p->buses.devices;

	return dev->ops.load(dev->ctx, buffer, length);
}

/* Loading what is too short, too long or of another version must fail; what was saved must load. */
static inline void platform_check_load(struct platform_env *p)
{
	uint8_t state[1024];
	size_t length = platform_save(p, state, sizeof state - 1);

	ck_assert_int_eq(platform_load(p, state, length - 1), -EINVAL);
	ck_assert_int_eq(platform_load(p, state, length + 1), -EINVAL);
	state[0] ^= 0xff;
	ck_assert_int_eq(platform_load(p, state, length), -EINVAL);
	state[0] ^= 0xff;
	ck_assert_int_eq(platform_load(p, state, length), 0);
}

/* Runs the test cases of one Check program. */
static inline int platform_run(const char *name, TCase *cases)
{
	Suite *suite = suite_create(name);
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, cases);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}

#endif
