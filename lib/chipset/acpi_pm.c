/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ACPI fixed hardware (ACPI 6.4, 4.8.3): PM1 event and control registers, the 32-bit PM timer, the power button; the
 * general-purpose events of block 0 (4.8.4.1).
 *
 * There is no SMI and no legacy mode: SCI_EN is always set, and the FADT has no SMI command port.
 */
#include <stdlib.h>

#include "chipset/chip.h"
#include "chipset/dev_state.h"
#include "core/error.h"
#include "core/util.h"

#define SCI_GSI       9u
#define PM_TIMER_HZ   3579545u
#define STATE_VERSION 2u

/* Offsets from base; all of the block is 12 bytes. */
#define PM1_STATUS  0u
#define PM1_ENABLE  2u
#define PM1_CONTROL 4u
#define PM_TIMER    8u
#define PM_LENGTH   12u
#define GPE_STATUS  (VC_GPE_BASE - VC_PM_BASE)
#define GPE_ENABLE  (GPE_STATUS + 2u)

/* PM1 status; the enable bits are at the same places. */
#define PM1_TMR     0x0001u
#define PM1_GBL     0x0020u
#define PM1_PWRBTN  0x0100u
#define PM1_SLPBTN  0x0200u
#define PM1_RTC     0x0400u
#define PM1_WAK     0x8000u
#define PM1_SOURCES (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC)

/* PM1 control */
#define CNT_SCI_EN       0x0001u
#define CNT_BM_RLD       0x0002u
#define CNT_SLP_TYP(cnt) ((cnt) >> 10 & 7)
#define CNT_SLP_TYP_MASK 0x1c00u
#define CNT_SLP_EN       0x2000u /* reads as 0 */
#define SLP_TYP_S5       5u

struct vc_acpi_pm {
	struct vc_env *env;
	uint64_t base;
	struct vc_timer *timer; /* the next carry of the PM timer, while that may interrupt */
	struct vc_line sci;
	pthread_mutex_t lock; /* protects what follows, and orders changes of the line */
	uint16_t status, enable, control;
	uint16_t gpe_status, gpe_enable;
	uint64_t carries; /* changes of the timer's top bit that TMR_STS has been told of */
};

struct pm_state {
	uint32_t version;
	uint16_t status, enable, control, pad;
	uint32_t level;
	uint64_t carries;
	uint16_t gpe_status, gpe_enable, pad2[2];
};

static uint64_t ticks_now(const struct vc_acpi_pm *pm)
{
	return vc_ns_to_ticks(vc_clock_now(pm->env->clock), PM_TIMER_HZ);
}

/* TMR_STS is set whenever the top bit of the timer changes (4.8.3.1.1). Under lock; flush afterwards. */
static void update(struct vc_acpi_pm *pm)
{
	uint64_t carries = ticks_now(pm) >> 31;

	if (carries != pm->carries)
		pm->status |= PM1_TMR;
	pm->carries = carries;
	vc_line_set(&pm->sci, (pm->status & pm->enable & PM1_SOURCES) || (pm->gpe_status & pm->gpe_enable));
	if ((pm->enable & PM1_TMR) && !(pm->status & PM1_TMR))
		vc_timer_arm(pm->timer, vc_ticks_to_ns((carries + 1) << 31, PM_TIMER_HZ));
}

static void on_timer(void *ctx)
{
	struct vc_acpi_pm *pm = ctx;

	pthread_mutex_lock(&pm->lock);
	update(pm);
	pthread_mutex_unlock(&pm->lock);
	vc_line_flush(&pm->sci);
}

void vc_acpi_pm_power_button(struct vc_acpi_pm *pm)
{
	pthread_mutex_lock(&pm->lock);
	pm->status |= PM1_PWRBTN;
	update(pm);
	pthread_mutex_unlock(&pm->lock);
	vc_line_flush(&pm->sci);
}

void vc_acpi_pm_gpe(struct vc_acpi_pm *pm, unsigned event)
{
	pthread_mutex_lock(&pm->lock);
	pm->gpe_status |= (uint16_t)(1u << event);
	update(pm);
	pthread_mutex_unlock(&pm->lock);
	vc_line_flush(&pm->sci);
}

static uint8_t read8(void *ctx, uint64_t address)
{
	struct vc_acpi_pm *pm = ctx;
	unsigned offset = (unsigned)(address - pm->base), shift = (offset & 1) * 8;

	switch (offset & ~1u) {
	case PM1_STATUS:
		return (uint8_t)(pm->status >> shift);
	case PM1_ENABLE:
		return (uint8_t)(pm->enable >> shift);
	case PM1_CONTROL:
		return (uint8_t)(pm->control >> shift);
	case GPE_STATUS:
		return (uint8_t)(pm->gpe_status >> shift);
	case GPE_ENABLE:
		return (uint8_t)(pm->gpe_enable >> shift);
	default:
		return 0;
	}
}

static void merge(uint16_t *reg, unsigned shift, uint8_t value, uint16_t writable)
{
	uint16_t mask = (uint16_t)(0xff << shift) & writable;

	*reg = (uint16_t)((*reg & ~mask) | (value << shift & mask));
}

static void write8(void *ctx, uint64_t address, uint8_t value)
{
	struct vc_acpi_pm *pm = ctx;
	unsigned offset = (unsigned)(address - pm->base), shift = (offset & 1) * 8;

	switch (offset & ~1u) {
	case PM1_STATUS: /* ones clear */
		pm->status &= (uint16_t) ~(value << shift);
		break;
	case PM1_ENABLE:
		merge(&pm->enable, shift, value, PM1_SOURCES);
		break;
	case PM1_CONTROL:
		merge(&pm->control, shift, value, CNT_BM_RLD | CNT_SLP_TYP_MASK | CNT_SLP_EN);
		break;
	case GPE_STATUS: /* ones clear */
		pm->gpe_status &= (uint16_t) ~(value << shift);
		break;
	case GPE_ENABLE:
		merge(&pm->gpe_enable, shift, value, UINT16_MAX);
		break;
	}
}

static void pm_read(void *ctx, struct vcore_io *io)
{
	struct vc_acpi_pm *pm = ctx;

	pthread_mutex_lock(&pm->lock);
	uint64_t offset = io->address - pm->base;
	if (offset >= PM_TIMER && offset < PM_LENGTH) {
		io->data = (uint32_t)ticks_now(pm) >> (offset - PM_TIMER) * 8;
	} else {
		update(pm);
		vc_chip_read_bytes(io, read8, pm);
	}
	pthread_mutex_unlock(&pm->lock);
	vc_line_flush(&pm->sci);
}

static void pm_write(void *ctx, struct vcore_io *io)
{
	struct vc_acpi_pm *pm = ctx;

	pthread_mutex_lock(&pm->lock);
	update(pm);
	vc_chip_write_bytes(io, write8, pm);
	bool sleeps = pm->control & CNT_SLP_EN;
	unsigned type = CNT_SLP_TYP(pm->control);
	pm->control &= ~CNT_SLP_EN;
	update(pm);
	pthread_mutex_unlock(&pm->lock);
	vc_line_flush(&pm->sci);

	if (!sleeps)
		return;
	if (type == SLP_TYP_S5)
		pm->env->machine->poweroff(pm->env->machine_ctx);
	else
		vc_log(pm->env->log, VCORE_LOG_WARN, "the guest asks for sleep type %u, which this machine does not have",
		       type);
}

static void pm_reset(void *ctx)
{
	struct vc_acpi_pm *pm = ctx;

	pthread_mutex_lock(&pm->lock);
	pm->enable = 0;
	pm->control = CNT_SCI_EN;
	pm->carries = ticks_now(pm) >> 31;
	pm->status = 0;
	pm->gpe_status = pm->gpe_enable = 0;
	update(pm);
	pthread_mutex_unlock(&pm->lock);
	vc_line_flush(&pm->sci);
}

static int64_t pm_save(void *ctx, void *buffer, size_t length)
{
	struct vc_acpi_pm *pm = ctx;
	struct pm_state state = {.version = STATE_VERSION};

	pthread_mutex_lock(&pm->lock);
	state.status = pm->status;
	state.enable = pm->enable;
	state.control = pm->control;
	state.level = vc_line_level(&pm->sci);
	state.carries = pm->carries;
	state.gpe_status = pm->gpe_status;
	state.gpe_enable = pm->gpe_enable;
	pthread_mutex_unlock(&pm->lock);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int pm_load(void *ctx, const void *buffer, size_t length)
{
	struct vc_acpi_pm *pm = ctx;
	struct pm_state state;
	int r = vc_dev_state_in("acpi-pm", STATE_VERSION, &state, sizeof state, buffer, length);

	if (r < 0)
		return r;
	if ((state.status & ~(PM1_SOURCES | PM1_WAK)) || (state.enable & ~PM1_SOURCES) || state.level > 1 ||
	    (state.control & ~(CNT_SCI_EN | CNT_BM_RLD | CNT_SLP_TYP_MASK)) || !(state.control & CNT_SCI_EN))
		return vc_fail(EINVAL, "acpi-pm: state has status %#x, enable %#x, control %#x", state.status, state.enable,
		               state.control);
	pthread_mutex_lock(&pm->lock);
	pm->status = state.status;
	pm->enable = state.enable;
	pm->control = state.control;
	pm->carries = state.carries;
	pm->gpe_status = state.gpe_status;
	pm->gpe_enable = state.gpe_enable;
	vc_line_restore(&pm->sci, state.level);
	update(pm);
	pthread_mutex_unlock(&pm->lock);
	vc_line_flush(&pm->sci);
	return 0;
}

static void pm_destroy(void *ctx)
{
	struct vc_acpi_pm *pm = ctx;

	vc_timer_free(pm->timer);
	pthread_mutex_destroy(&pm->lock);
	free(pm);
}

static const struct vcore_device_ops pm_ops = {
    .size = sizeof pm_ops,
    .read = pm_read,
    .write = pm_write,
    .reset = pm_reset,
    .save = pm_save,
    .load = pm_load,
    .destroy = pm_destroy,
};

int vc_acpi_pm_new(struct vc_env *env, uint16_t base, struct vc_acpi_pm **pm)
{
	struct vc_acpi_pm *p = calloc(1, sizeof *p);

	if (!p)
		return vc_fail(ENOMEM, "no memory for the ACPI PM block");
	p->env = env;
	p->base = base;
	p->control = CNT_SCI_EN;
	pthread_mutex_init(&p->lock, NULL);
	vc_line_init(&p->sci, env->irqs, SCI_GSI, NULL);
	int r = vc_timer_new(env->loop, on_timer, p, &p->timer);
	if (r < 0) {
		pm_destroy(p);
		return r;
	}
	p->carries = ticks_now(p) >> 31;
	const struct vc_chip_region regions[] = {{VCORE_BUS_PIO, base, PM_LENGTH},
	                                         {VCORE_BUS_PIO, (uint64_t)base + GPE_STATUS, VC_GPE_LENGTH}};
	r = vc_chip_add(env, "acpi-pm", &pm_ops, p, regions, VC_ARRAY_SIZE(regions));
	if (r == 0 && pm)
		*pm = p;
	return r;
}
