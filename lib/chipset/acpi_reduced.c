/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hardware-reduced ACPI: sleep control and status registers (ACPI 6.4, 4.8.3.7) and the reset register (4.8.3.6). */
#include <stdlib.h>

#include "chipset/chip.h"
#include "chipset/dev_state.h"
#include "core/error.h"
#include "core/util.h"

#define STATE_VERSION 1u
#define LENGTH        3u

#define SLEEP_TYPE(v)   ((v) >> 2 & 7)
#define SLEEP_TYPE_MASK 0x1cu
#define SLEEP_ENABLE    0x20u /* reads as 0 */
#define SLEEP_TYPE_S5   5u

struct reduced {
	struct vc_env *env;
	uint64_t base;
	_Atomic uint8_t control;
};

struct reduced_state {
	uint32_t version;
	uint8_t control, pad[3];
};

static uint8_t read8(void *ctx, uint64_t address)
{
	struct reduced *d = ctx;

	/* Nobody sleeps, so the status register never tells of a wake-up; the reset register is for writing. */
	return address - d->base == VC_GED_SLEEP_CONTROL ? atomic_load(&d->control) : 0;
}

static void write_sleep_control(struct reduced *d, uint8_t value)
{
	atomic_store(&d->control, value & SLEEP_TYPE_MASK);
	if (!(value & SLEEP_ENABLE))
		return;
	if (SLEEP_TYPE(value) == SLEEP_TYPE_S5)
		d->env->machine->poweroff(d->env->machine_ctx);
	else
		vc_log(d->env->log, VCORE_LOG_WARN, "the guest asks for sleep type %u, which this machine does not have",
		       SLEEP_TYPE(value));
}

static void write8(void *ctx, uint64_t address, uint8_t value)
{
	struct reduced *d = ctx;
	uint64_t offset = address - d->base;

	if (offset == VC_GED_SLEEP_CONTROL)
		write_sleep_control(d, value);
	else if (offset == VC_GED_RESET && value == VC_GED_RESET_VALUE)
		d->env->machine->reset(d->env->machine_ctx);
}

static void reduced_read(void *ctx, struct vcore_io *io)
{
	vc_chip_read_bytes(io, read8, ctx);
}

static void reduced_write(void *ctx, struct vcore_io *io)
{
	vc_chip_write_bytes(io, write8, ctx);
}

static void reduced_reset(void *ctx)
{
	struct reduced *d = ctx;

	atomic_store(&d->control, 0);
}

static int64_t reduced_save(void *ctx, void *buffer, size_t length)
{
	struct reduced *d = ctx;
	struct reduced_state state = {.version = STATE_VERSION, .control = atomic_load(&d->control)};

	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int reduced_load(void *ctx, const void *buffer, size_t length)
{
	struct reduced *d = ctx;
	struct reduced_state state;
	int r = vc_dev_state_in("acpi-reduced", STATE_VERSION, &state, sizeof state, buffer, length);

	if (r < 0)
		return r;
	if (state.control & ~SLEEP_TYPE_MASK)
		return vc_fail(EINVAL, "acpi-reduced: state has sleep control %#x", state.control);
	atomic_store(&d->control, state.control);
	return 0;
}

static const struct vcore_device_ops reduced_ops = {
    .size = sizeof reduced_ops,
    .read = reduced_read,
    .write = reduced_write,
    .reset = reduced_reset,
    .save = reduced_save,
    .load = reduced_load,
    .destroy = free,
};

int vc_acpi_reduced_new(struct vc_env *env, uint16_t base)
{
	struct reduced *d = calloc(1, sizeof *d);

	if (!d)
		return vc_fail(ENOMEM, "no memory for the sleep registers");
	d->env = env;
	d->base = base;
	return vc_chip_add(env, "acpi-reduced", &reduced_ops, d, &(struct vc_chip_region){VCORE_BUS_PIO, base, LENGTH}, 1);
}
