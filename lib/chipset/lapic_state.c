/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* LAPICs come, are reset, saved, loaded, and go. */
#include <stdlib.h>

#include "chipset/lapic_priv.h"
#include "core/error.h"
#include "core/util.h"

#define MAX_LAPICS 4096u

int vc_lapics_new(const struct vc_lapics_config *config, struct vc_lapics **lapics)
{
	if (!config->count || config->count > MAX_LAPICS || !config->tsc_khz || !config->notify)
		return vc_fail(EINVAL, "%u LAPICs with a TSC of %llu kHz cannot be made (1 to %u, not 0)", config->count,
		               (unsigned long long)config->tsc_khz, MAX_LAPICS);
	struct vc_lapics *all = calloc(1, sizeof *all);
	if (all)
		all->lapic = calloc(config->count, sizeof *all->lapic);
	if (!all || !all->lapic) {
		free(all);
		return vc_fail(ENOMEM, "no memory for %u LAPICs", config->count);
	}
	all->config = *config;
	for (unsigned i = 0; i < config->count; i++) {
		struct vc_lapic *l = &all->lapic[i];
		l->all = all;
		l->index = i;
		pthread_mutex_init(&l->lock, NULL);
		int r = lapic_timer_init(l);
		if (r < 0) {
			all->config.count = i + 1;
			vc_lapics_free(all);
			return r;
		}
		vc_lapic_reset(l, false);
	}
	*lapics = all;
	return 0;
}

void vc_lapics_free(struct vc_lapics *lapics)
{
	if (!lapics)
		return;
	for (unsigned i = 0; i < lapics->config.count; i++) {
		vc_timer_free(lapics->lapic[i].timer);
		pthread_mutex_destroy(&lapics->lapic[i].lock);
	}
	free(lapics->lapic);
	free(lapics);
}

struct vc_lapic *vc_lapics_get(struct vc_lapics *lapics, unsigned index)
{
	return index < lapics->config.count ? &lapics->lapic[index] : NULL;
}

/*
 * SDM vol. 3, 10.4.7.1 and 10.4.7.3. The first vcpu is the bootstrap processor: it powers on with the 8259 wired
 * through LINT0, as a PC's firmware leaves it and as KVM's own LAPIC does, since a machine may boot without firmware.
 */
void vc_lapic_reset(struct vc_lapic *lapic, bool keep_base)
{
	lapic_timer_stop(lapic);
	for (unsigned reg = 0; reg < APIC_REG_COUNT; reg++)
		lapic_put(lapic, reg, 0);
	for (unsigned reg = APIC_LVT_TIMER; reg <= APIC_LVT_ERROR; reg++)
		lapic_put(lapic, reg, LVT_MASKED);
	lapic_put(lapic, APIC_DFR, 0xffffffff);
	lapic_put(lapic, APIC_SVR, 0xff);
	atomic_store(&lapic->irr_words, 0);
	atomic_store(&lapic->errors, 0);
	atomic_fetch_and(&lapic->pins, ~PIN_EXTINT_MESSAGE);
	if (keep_base)
		return;
	atomic_store(&lapic->base, VC_LAPIC_BASE | APIC_BASE_EN | (lapic->index ? 0 : APIC_BASE_BSP));
	if (lapic->index == 0)
		lapic_put(lapic, APIC_LVT_LINT0, DM_EXTINT << 8);
}

void vc_lapic_save(struct vc_lapic *lapic, struct vc_lapic_state *state)
{
	memset(state, 0, sizeof *state);
	state->version = VC_LAPIC_STATE_VERSION;
	state->base = lapic_base(lapic);
	state->errors = atomic_load(&lapic->errors);
	state->tsc_deadline = lapic_timer_get_deadline(lapic);
	for (unsigned reg = 0; reg < APIC_REG_COUNT; reg++)
		vc_st32(state->regs + reg * 16, lapic_get(lapic, reg));
	vc_st32(state->regs + APIC_ID * 16, lapic_id_register(lapic));
	vc_st32(state->regs + APIC_LDR * 16, lapic_ldr(lapic));
	vc_st32(state->regs + APIC_PPR * 16, lapic_ppr(lapic));
	vc_st32(state->regs + APIC_TMCCT * 16, lapic_timer_to_come(lapic));
}

/* ISR, TMR, IRR: vectors below 16 cannot be there. */
static void load_vectors(struct vc_lapic *l, const uint8_t *regs)
{
	uint32_t words = 0;

	for (unsigned reg = APIC_ISR; reg < APIC_IRR + 8; reg++) {
		uint32_t value = vc_ld32(regs + reg * 16);
		if (reg % 8 == 0)
			value &= 0xffff0000;
		lapic_put(l, reg, value);
		if (reg >= APIC_IRR && value)
			words |= 1u << (reg - APIC_IRR);
	}
	atomic_store(&l->irr_words, words);
}

int vc_lapic_load(struct vc_lapic *lapic, const struct vc_lapic_state *state)
{
	bool x2apic = state->base & APIC_BASE_EXTD;

	if (state->version != VC_LAPIC_STATE_VERSION)
		return vc_fail(EINVAL, "LAPIC state has version %u, not %u", state->version, VC_LAPIC_STATE_VERSION);
	if ((state->base & 0xfff00000000002ffull) || (x2apic && !(state->base & APIC_BASE_EN)))
		return vc_fail(EINVAL, "LAPIC state has the impossible IA32_APIC_BASE %#llx", (unsigned long long)state->base);

	vc_lapic_reset(lapic, false);
	atomic_store(&lapic->base, state->base);
	atomic_store(&lapic->errors, state->errors & 0xff);
	load_vectors(lapic, state->regs);
	for (unsigned reg = 0; reg < APIC_REG_COUNT; reg++)
		if (lapic_writable[reg])
			lapic_put(lapic, reg, vc_ld32(state->regs + reg * 16) & lapic_writable[reg]);
	lapic_put(lapic, APIC_SELF_IPI, 0);
	lapic_put(lapic, APIC_DFR, lapic_get(lapic, APIC_DFR) | 0x0fffffff);
	lapic_put(lapic, APIC_ESR, vc_ld32(state->regs + APIC_ESR * 16) & 0xff);
	if (x2apic)
		lapic_put(lapic, APIC_ICR2, vc_ld32(state->regs + APIC_ICR2 * 16));
	if (vc_ld32(state->regs + APIC_LVT_LINT0 * 16) & LVT_REMOTE_IRR)
		lapic_put(lapic, APIC_LVT_LINT0, lapic_get(lapic, APIC_LVT_LINT0) | LVT_REMOTE_IRR);
	if (!(lapic_get(lapic, APIC_SVR) & SVR_ENABLED))
		for (unsigned reg = APIC_LVT_TIMER; reg <= APIC_LVT_ERROR; reg++)
			if (reg != APIC_LVT_LINT0) /* at power-on open for the 8259 */
				lapic_put(lapic, reg, lapic_get(lapic, reg) | LVT_MASKED);
	lapic_timer_resume(lapic, vc_ld32(state->regs + APIC_TMCCT * 16), state->tsc_deadline);
	lapic_priority_lowered(lapic);
	return 0;
}
