/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Watchdog of the Intel 6300ESB (datasheet 300641, chapter 16): two timers, one after the other; the second one's end
 * is what the property "action" says. Its registers are behind a sequence of two writes each.
 */
#include <stdlib.h>

#include "chipset/chip.h"
#include "chipset/dev_state.h"
#include "device/action.h"
#include "device/device.h"

#define PCI_VENDOR 0x8086u
#define PCI_DEVICE 0x25abu
#define PCI_CLASS  0x088000u
#define PCI_HZ     33000000u

/* Configuration space, as far as it is the watchdog's own. */
#define CONFIG_AT    0x60u
#define CONFIG_FREQ  0x04u /* 1: the timers count 1 MHz, else 1 kHz */
#define CONFIG_QUIET 0x20u /* the second timer's end has no consequence */
#define CONFIG_MASK  0x27u
#define LOCK_AT      0x68u
#define LOCK_LOCKED  0x01u /* until reset */
#define LOCK_ENABLE  0x02u
#define LOCK_FREE    0x04u /* the timers run again and again, and nothing follows */
#define LOCK_MASK    0x07u
#define OWN_AT       0x40u /* a vendor-specific capability from here on holds both */
#define OWN_LENGTH   44u

/* Memory registers */
enum { TIMER1 = 0x0, TIMER2 = 0x4, STATUS = 0x8, RELOAD = 0xc };
#define TIMER_MASK     0xfffffu
#define STATUS_EXPIRED 0x01u /* the first timer has ended; ones clear */
#define RELOAD_NOW     0x100u
#define RELOAD_TIMEOUT 0x200u /* the second timer has ended; ones clear */
#define UNLOCK_FIRST   0x80u
#define UNLOCK_SECOND  0x86u

#define STATE_VERSION 1u

struct esb_state {
	uint32_t version;
	uint32_t preload[2];
	uint16_t config;
	uint8_t lock;
	uint8_t unlocking; /* how much of the sequence has been written: 0 to 2 */
	uint8_t stage;     /* which timer runs: 0, 1, or none: 2 */
	uint8_t expired, timed_out, pad[5];
	uint64_t deadline; /* of that timer, in guest time */
};

struct esb {
	struct vc_env *env;
	enum vc_action action;
	struct vc_timer *timer;
	pthread_mutex_t lock; /* protects state */
	struct esb_state state;
};

static const struct esb_state power_on = {.version = STATE_VERSION, .preload = {TIMER_MASK, TIMER_MASK}, .stage = 2};

/* ---- time. With the lock. ---- */

static uint64_t stage_ns(const struct esb_state *s)
{
	uint64_t ticks = (uint64_t)(s->preload[s->stage] + 1) << (s->config & CONFIG_FREQ ? 5 : 15);

	return vc_ticks_to_ns(ticks, PCI_HZ);
}

static void begin_stage(struct esb *esb, uint8_t stage)
{
	esb->state.stage = stage;
	esb->state.deadline = vc_clock_now(esb->env->clock) + stage_ns(&esb->state);
	vc_timer_arm(esb->timer, esb->state.deadline);
}

/* What is armed finds that there is nothing to end: cancelling would wait for it. */
static void stop(struct esb *esb)
{
	esb->state.stage = 2;
}

/* True: it bites. */
static bool stage_ends(struct esb *esb)
{
	struct esb_state *s = &esb->state;
	bool last = s->stage == 1;

	if (s->stage > 1 || vc_clock_now(esb->env->clock) < s->deadline)
		return false;
	if (!last) {
		s->expired = 1;
		begin_stage(esb, 1);
		return false;
	}
	s->timed_out = 1;
	if (s->lock & LOCK_FREE) {
		begin_stage(esb, 0);
		return false;
	}
	s->stage = 2;
	return !(s->config & CONFIG_QUIET);
}

static void on_timer(void *ctx)
{
	struct esb *esb = ctx;
	bool bites;

	pthread_mutex_lock(&esb->lock);
	bites = stage_ends(esb);
	pthread_mutex_unlock(&esb->lock);
	if (bites)
		vc_action_do(esb->env, VC_MACHINE_WATCHDOG, esb->action, "the watchdog was not fed");
}

/* ---- registers ---- */

static uint32_t read_register(const struct esb_state *s, uint32_t at)
{
	switch (at) {
	case TIMER1:
	case TIMER2:
		return s->preload[at / TIMER2];
	case STATUS:
		return s->expired ? STATUS_EXPIRED : 0;
	case RELOAD:
		return s->timed_out ? RELOAD_TIMEOUT : 0;
	default:
		return 0;
	}
}

static void esb_read(void *ctx, uint32_t bar, struct vcore_io *io)
{
	struct esb *esb = ctx;
	uint32_t at = (uint32_t)io->offset;

	pthread_mutex_lock(&esb->lock);
	io->data = read_register(&esb->state, at & ~3u) >> (at & 3) * 8;
	pthread_mutex_unlock(&esb->lock);
}

/* One register, once it is unlocked. */
static void write_register(struct esb *esb, uint32_t at, uint32_t value)
{
	struct esb_state *s = &esb->state;

	if (at == TIMER1 || at == TIMER2)
		s->preload[at / TIMER2] = value & TIMER_MASK;
	else if (at == STATUS && value & STATUS_EXPIRED)
		s->expired = 0;
	else if (at == RELOAD && value & RELOAD_TIMEOUT)
		s->timed_out = 0;
	if (at == RELOAD && value & RELOAD_NOW && s->lock & LOCK_ENABLE)
		begin_stage(esb, 0);
}

static void esb_write(void *ctx, uint32_t bar, struct vcore_io *io)
{
	struct esb *esb = ctx;
	struct esb_state *s = &esb->state;
	uint32_t at = (uint32_t)io->offset, value = (uint32_t)io->data;

	pthread_mutex_lock(&esb->lock);
	if (at == RELOAD && !s->unlocking && value == UNLOCK_FIRST) {
		s->unlocking = 1;
	} else if (at == RELOAD && s->unlocking == 1 && value == UNLOCK_SECOND) {
		s->unlocking = 2;
	} else {
		if (s->unlocking == 2 || at == STATUS)
			write_register(esb, at, value);
		s->unlocking = 0;
	}
	pthread_mutex_unlock(&esb->lock);
}

static void write_lock(struct esb *esb, uint8_t value)
{
	struct esb_state *s = &esb->state;
	bool was = s->lock & LOCK_ENABLE;

	if (s->lock & LOCK_LOCKED)
		return;
	s->lock = value & LOCK_MASK;
	if (!was && s->lock & LOCK_ENABLE)
		begin_stage(esb, 0);
	else if (was && !(s->lock & LOCK_ENABLE))
		stop(esb);
}

static void config_write(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
	struct esb *esb = ctx;

	pthread_mutex_lock(&esb->lock);
	for (uint32_t i = 0; i < width; i++, value >>= 8) {
		if (offset + i == CONFIG_AT)
			esb->state.config = value & CONFIG_MASK;
		else if (offset + i == LOCK_AT)
			write_lock(esb, (uint8_t)value);
	}
	pthread_mutex_unlock(&esb->lock);
}

static void config_read(void *ctx, uint32_t offset, uint32_t width, uint32_t *value)
{
	struct esb *esb = ctx;

	pthread_mutex_lock(&esb->lock);
	for (uint32_t i = 0; i < width; i++) {
		uint32_t own = offset + i == CONFIG_AT ? esb->state.config : offset + i == LOCK_AT ? esb->state.lock : 0;

		if (offset + i == CONFIG_AT || offset + i == LOCK_AT)
			*value = (*value & ~(0xffu << 8 * i)) | own << 8 * i;
	}
	pthread_mutex_unlock(&esb->lock);
}

/* ---- the device ---- */

/* A reset stops it, but the guest is to learn that it has bitten. */
static void esb_reset(void *ctx)
{
	struct esb *esb = ctx;
	uint8_t timed_out;

	pthread_mutex_lock(&esb->lock);
	stop(esb);
	timed_out = esb->state.timed_out;
	esb->state = power_on;
	esb->state.timed_out = timed_out;
	pthread_mutex_unlock(&esb->lock);
}

static int64_t esb_save(void *ctx, void *buffer, size_t length)
{
	struct esb *esb = ctx;
	struct esb_state state;

	pthread_mutex_lock(&esb->lock);
	state = esb->state;
	pthread_mutex_unlock(&esb->lock);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int esb_load(void *ctx, const void *buffer, size_t length)
{
	struct esb *esb = ctx;
	struct esb_state s;
	int r = vc_dev_state_in("i6300esb", STATE_VERSION, &s, sizeof s, buffer, length);

	if (r < 0)
		return r;
	if (((s.preload[0] | s.preload[1]) & ~TIMER_MASK) || (s.config & ~CONFIG_MASK) || (s.lock & ~LOCK_MASK) ||
	    s.unlocking > 2 || s.stage > 2 || s.expired > 1 || s.timed_out > 1)
		return vc_fail(EINVAL, "i6300esb: state has config %#x, lock %#x, stage %u", s.config, s.lock, s.stage);
	pthread_mutex_lock(&esb->lock);
	esb->state = s;
	if (s.stage < 2)
		vc_timer_arm(esb->timer, s.deadline);
	else
		stop(esb);
	pthread_mutex_unlock(&esb->lock);
	return 0;
}

static void esb_destroy(void *ctx)
{
	struct esb *esb = ctx;

	vc_timer_free(esb->timer);
	pthread_mutex_destroy(&esb->lock);
	free(esb);
}

static const struct vcore_pci_ops esb_ops = {
    .size = sizeof esb_ops,
    .read = esb_read,
    .write = esb_write,
    .config_read = config_read,
    .config_write = config_write,
    .reset = esb_reset,
    .save = esb_save,
    .load = esb_load,
    .destroy = esb_destroy,
};

static int esb_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	static const uint8_t own[OWN_LENGTH - 2] = {OWN_LENGTH};
	static const struct vcore_pci_capability vendor_specific = {.id = 9, .length = sizeof own, .data = own};
	struct vcore_pci_description d = {
	    .size = sizeof d,
	    .vendor = PCI_VENDOR,
	    .device = PCI_DEVICE,
	    .class_code = PCI_CLASS,
	    .capabilities = &vendor_specific,
	    .capability_count = 1,
	    .bars[0].size = 16,
	    .type = "i6300esb",
	    .address = vc_props_string(props, "addr", NULL),
	};
	const uint32_t allowed =
	    1u << VC_ACTION_NONE | 1u << VC_ACTION_PAUSE | 1u << VC_ACTION_RESET | 1u << VC_ACTION_POWEROFF;
	enum vc_action action;
	struct esb *esb;
	int r = vc_action_read(props, VC_ACTION_RESET, allowed, &action);

	_Static_assert(OWN_AT == VC_PCI_CAPABILITIES && LOCK_AT < OWN_AT + OWN_LENGTH,
	               "the capability holds the registers");
	if (r < 0)
		return r;
	if (!env->pci)
		return vc_fail(ENOTSUP, "i6300esb: this machine has no PCI");
	esb = calloc(1, sizeof *esb);
	if (!esb)
		return vc_fail(ENOMEM, "no memory for an i6300esb");
	esb->env = env;
	esb->action = action;
	esb->state = power_on;
	pthread_mutex_init(&esb->lock, NULL);
	r = vc_timer_new(env->loop, on_timer, esb, &esb->timer);
	if (r < 0) {
		esb_destroy(esb);
		return r;
	}
	return vc_pci_add(env->pci, &d, &esb_ops, esb, dev);
}

const struct vc_device_type vc_i6300esb_type = {
    .name = "i6300esb",
    .summary = "watchdog: the guest comes in time, or else",
    .properties = "action  what follows when it does not: reset, poweroff, pause or none (reset)\n"
                  "addr    device or device.function (the lowest free device)\n",
    .create = esb_create,
};
