/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ACPI controller of vcpus that come and go. Registers, offsets from VC_CPU_HOTPLUG_BASE:
 *
 *	0  write, 4 bytes: select a vcpu
 *	0  read, 4 bytes: the high half of command data; always 0
 *	4  read: of the selected vcpu: bit 0 it is there, 1 it came, 2 it is asked to go
 *	4  write: bits 1 and 2 forget that, bit 3 ejects it
 *	5  write: a command: 0 select the next vcpu with an event, 1 and 2 take _OST's values, 3 tell the APIC's ID
 *	8  4 bytes: the command's data; commands 0 and 3 give the selected vcpu's number
 */
#include <stdlib.h>

#include "chipset/chip.h"
#include "chipset/dev_state.h"
#include "core/error.h"
#include "core/util.h"

#define STATE_VERSION 1u

enum { REG_SELECT = 0, REG_FLAGS = 4, REG_COMMAND = 5, REG_DATA = 8 };
enum { FLAG_PRESENT = 1, FLAG_INSERTED = 2, FLAG_REMOVE = 4, FLAG_EJECT = 8 };
enum { FLAGS_EVENT = FLAG_INSERTED | FLAG_REMOVE, FLAGS_STATE = FLAG_PRESENT | FLAGS_EVENT };
enum { COMMAND_NEXT = 0, COMMAND_OST_EVENT = 1, COMMAND_OST_STATUS = 2, COMMAND_APIC_ID = 3, COMMAND_COUNT };

struct vc_cpu_hotplug {
	struct vc_env *env;
	struct vc_cpu_hotplug_config config;
	struct vc_line line;  /* hardware-reduced */
	pthread_mutex_t lock; /* protects what follows, and orders changes of the line */
	uint32_t selected, command;
	uint8_t flags[VC_CPU_HOTPLUG_MAX]; /* FLAGS_STATE */
};

struct hotplug_state {
	uint32_t version, count;
	uint32_t selected, command;
	uint32_t level, pad;
	uint8_t flags[VC_CPU_HOTPLUG_MAX];
};

/* Under lock; tell() afterwards. */
static void update(struct vc_cpu_hotplug *h)
{
	uint8_t all = 0;

	for (uint32_t i = 0; i < h->config.max; i++)
		all |= h->flags[i];
	vc_line_set(&h->line, all & FLAGS_EVENT);
}

/* A new event. Without locks. */
static void tell(struct vc_cpu_hotplug *h)
{
	if (h->config.pm)
		vc_acpi_pm_gpe(h->config.pm, VC_GPE_CPU);
	else
		vc_line_flush(&h->line);
}

static void set_event(struct vc_cpu_hotplug *h, uint32_t index, uint8_t set, uint8_t clear)
{
	pthread_mutex_lock(&h->lock);
	h->flags[index] = (uint8_t)((h->flags[index] & ~clear) | set);
	update(h);
	pthread_mutex_unlock(&h->lock);
	tell(h);
}

void vc_cpu_hotplug_insert(struct vc_cpu_hotplug *h, uint32_t index)
{
	set_event(h, index, FLAG_PRESENT | FLAG_INSERTED, FLAG_REMOVE);
}

void vc_cpu_hotplug_request(struct vc_cpu_hotplug *h, uint32_t index)
{
	set_event(h, index, FLAG_REMOVE, 0);
}

void vc_cpu_hotplug_take(struct vc_cpu_hotplug *h, uint32_t index)
{
	pthread_mutex_lock(&h->lock);
	h->flags[index] = 0;
	update(h);
	pthread_mutex_unlock(&h->lock);
	vc_line_flush(&h->line);
}

static void select_next(struct vc_cpu_hotplug *h)
{
	for (uint32_t n = 0; n < h->config.max; n++) {
		uint32_t i = (h->selected + n) % h->config.max;

		if (h->flags[i] & FLAGS_EVENT) {
			h->selected = i;
			return;
		}
	}
}

static uint32_t command_data(const struct vc_cpu_hotplug *h)
{
	return h->command == COMMAND_NEXT || h->command == COMMAND_APIC_ID ? h->selected : 0;
}

static uint8_t read8(void *ctx, uint64_t address)
{
	const struct vc_cpu_hotplug *h = ctx;
	uint64_t offset = address - VC_CPU_HOTPLUG_BASE;

	if (h->selected >= h->config.max)
		return 0;
	if (offset == REG_FLAGS)
		return h->flags[h->selected];
	return offset >= REG_DATA ? (uint8_t)(command_data(h) >> (offset - REG_DATA) * 8) : 0;
}

static void hotplug_read(void *ctx, struct vcore_io *io)
{
	struct vc_cpu_hotplug *h = ctx;

	pthread_mutex_lock(&h->lock);
	vc_chip_read_bytes(io, read8, h);
	pthread_mutex_unlock(&h->lock);
}

/* The flags of the selected vcpu; true: it is ejected. Under lock. */
static bool write_flags(struct vc_cpu_hotplug *h, uint8_t value)
{
	uint8_t *flags;

	if (h->selected >= h->config.max)
		return false;
	flags = &h->flags[h->selected];
	*flags &= (uint8_t) ~(value & FLAGS_EVENT);
	/* the first vcpu has no _EJ0 */
	if (!(value & FLAG_EJECT) || !h->selected || !(*flags & FLAG_PRESENT))
		return false;
	*flags = 0;
	return true;
}

/* What AML writes, register by register: other widths are nobody's. */
static void hotplug_write(void *ctx, struct vcore_io *io)
{
	struct vc_cpu_hotplug *h = ctx;
	bool ejected = false;
	uint32_t index;

	pthread_mutex_lock(&h->lock);
	index = h->selected;
	if (io->offset == REG_SELECT && io->width == 4) {
		h->selected = (uint32_t)io->data;
	} else if (io->offset == REG_FLAGS && io->width == 1) {
		ejected = write_flags(h, (uint8_t)io->data);
	} else if (io->offset == REG_COMMAND && io->width == 1 && (uint8_t)io->data < COMMAND_COUNT) {
		h->command = (uint8_t)io->data;
		if (h->command == COMMAND_NEXT)
			select_next(h);
	}
	update(h);
	pthread_mutex_unlock(&h->lock);
	vc_line_flush(&h->line);
	if (ejected)
		h->config.changed(h->config.ctx, index, false);
}

/* Those that are there stay; what the guest has not noticed is in the tables of the next boot. */
static void hotplug_reset(void *ctx)
{
	struct vc_cpu_hotplug *h = ctx;

	pthread_mutex_lock(&h->lock);
	h->selected = h->command = 0;
	for (uint32_t i = 0; i < h->config.max; i++)
		h->flags[i] &= FLAG_PRESENT;
	update(h);
	pthread_mutex_unlock(&h->lock);
	vc_line_flush(&h->line);
}

static int64_t hotplug_save(void *ctx, void *buffer, size_t length)
{
	struct vc_cpu_hotplug *h = ctx;
	struct hotplug_state state = {.version = STATE_VERSION, .count = h->config.max};

	pthread_mutex_lock(&h->lock);
	state.selected = h->selected;
	state.command = h->command;
	state.level = vc_line_level(&h->line);
	memcpy(state.flags, h->flags, sizeof state.flags);
	pthread_mutex_unlock(&h->lock);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int check_state(const struct vc_cpu_hotplug *h, const struct hotplug_state *state)
{
	if (state->count != h->config.max)
		return vc_fail(EINVAL, "acpi-cpu-hotplug: the state is of a vm of at most %u vcpus, this one has %u",
		               state->count, h->config.max);
	if (state->command >= COMMAND_COUNT || state->level > 1)
		return vc_fail(EINVAL, "acpi-cpu-hotplug: state has command %u, level %u", state->command, state->level);
	if (!(state->flags[0] & FLAG_PRESENT))
		return vc_fail(EINVAL, "acpi-cpu-hotplug: state lacks the first vcpu");
	for (uint32_t i = 0; i < VC_CPU_HOTPLUG_MAX; i++)
		if (state->flags[i] & (i < state->count ? ~FLAGS_STATE : 0xff))
			return vc_fail(EINVAL, "acpi-cpu-hotplug: state of vcpu %u is %#x", i, state->flags[i]);
	return 0;
}

static int hotplug_load(void *ctx, const void *buffer, size_t length)
{
	struct vc_cpu_hotplug *h = ctx;
	struct hotplug_state state;
	int r = vc_dev_state_in("acpi-cpu-hotplug", STATE_VERSION, &state, sizeof state, buffer, length);

	if (r < 0 || (r = check_state(h, &state)) < 0)
		return r;
	pthread_mutex_lock(&h->lock);
	h->selected = state.selected;
	h->command = state.command;
	memcpy(h->flags, state.flags, sizeof h->flags);
	vc_line_restore(&h->line, state.level);
	update(h);
	pthread_mutex_unlock(&h->lock);
	vc_line_flush(&h->line);
	for (uint32_t i = 1; i < state.count; i++)
		h->config.changed(h->config.ctx, i, state.flags[i] & FLAG_PRESENT);
	return 0;
}

static void hotplug_destroy(void *ctx)
{
	struct vc_cpu_hotplug *h = ctx;

	pthread_mutex_destroy(&h->lock);
	free(h);
}

static const struct vcore_device_ops hotplug_ops = {
    .size = sizeof hotplug_ops,
    .read = hotplug_read,
    .write = hotplug_write,
    .reset = hotplug_reset,
    .save = hotplug_save,
    .load = hotplug_load,
    .destroy = hotplug_destroy,
};

int vc_cpu_hotplug_new(struct vc_env *env, const struct vc_cpu_hotplug_config *config, struct vc_cpu_hotplug **out)
{
	static const _Atomic bool nowhere = true;
	struct vc_cpu_hotplug *h;
	int r;

	if (config->max > VC_CPU_HOTPLUG_MAX)
		return vc_fail(EINVAL, "acpi-cpu-hotplug: %u vcpus: expected at most %u", config->max, VC_CPU_HOTPLUG_MAX);
	h = calloc(1, sizeof *h);
	if (!h)
		return vc_fail(ENOMEM, "no memory for the CPU hot-plug controller");
	h->env = env;
	h->config = *config;
	for (uint32_t i = 0; i < config->present; i++)
		h->flags[i] = FLAG_PRESENT;
	pthread_mutex_init(&h->lock, NULL);
	vc_line_init(&h->line, env->irqs, VC_GED_GSI, config->pm ? &nowhere : NULL);
	r = vc_chip_add(env, "acpi-cpu-hotplug", &hotplug_ops, h,
	                &(struct vc_chip_region){VCORE_BUS_PIO, VC_CPU_HOTPLUG_BASE, VC_CPU_HOTPLUG_LENGTH}, 1);
	if (r >= 0)
		*out = h;
	return r;
}
