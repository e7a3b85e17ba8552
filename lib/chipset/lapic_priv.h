/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by the lapic*.c files. Section numbers: Intel SDM volume 3, chapter 10. */
#ifndef VC_CHIPSET_LAPIC_PRIV_H
#define VC_CHIPSET_LAPIC_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "chipset/lapic.h"

/* Registers by number: the xAPIC offset divided by 16, the x2APIC MSR minus 0x800 (tables 10-1 and 10-6). */
enum {
	APIC_ID = 0x02,
	APIC_VERSION = 0x03,
	APIC_TPR = 0x08,
	APIC_APR = 0x09,
	APIC_PPR = 0x0a,
	APIC_EOI = 0x0b,
	APIC_RRD = 0x0c,
	APIC_LDR = 0x0d,
	APIC_DFR = 0x0e,
	APIC_SVR = 0x0f,
	APIC_ISR = 0x10, /* 8 registers each */
	APIC_TMR = 0x18,
	APIC_IRR = 0x20,
	APIC_ESR = 0x28,
	APIC_ICR = 0x30,
	APIC_ICR2 = 0x31,
	APIC_LVT_TIMER = 0x32,
	APIC_LVT_THERMAL = 0x33,
	APIC_LVT_PMC = 0x34,
	APIC_LVT_LINT0 = 0x35,
	APIC_LVT_LINT1 = 0x36,
	APIC_LVT_ERROR = 0x37,
	APIC_TMICT = 0x38,
	APIC_TMCCT = 0x39,
	APIC_TDCR = 0x3e,
	APIC_SELF_IPI = 0x3f,
	APIC_REG_COUNT = 0x40,
};

/* IA32_APIC_BASE */
#define APIC_BASE_BSP  0x100u
#define APIC_BASE_EXTD 0x400u
#define APIC_BASE_EN   0x800u

/* SVR */
#define SVR_ENABLED      0x100u
#define SVR_SUPPRESS_EOI 0x1000u

/* LVT */
#define LVT_VECTOR          0xffu
#define LVT_DELIVERY(lvt)   (((lvt) >> 8) & 7)
#define LVT_REMOTE_IRR      0x4000u
#define LVT_LEVEL           0x8000u
#define LVT_MASKED          0x10000u
#define LVT_TIMER_MODE(lvt) (((lvt) >> 17) & 3)

enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE };

/* Delivery modes (10.6.1) */
enum { DM_FIXED, DM_LOWEST, DM_SMI, DM_RESERVED, DM_NMI, DM_INIT, DM_SIPI, DM_EXTINT };

/* ESR (10.5.3) */
#define ESR_SEND_ILLEGAL_VECTOR    0x20u
#define ESR_RECEIVE_ILLEGAL_VECTOR 0x40u
#define ESR_ILLEGAL_REGISTER       0x80u

/* vc_lapic.pins */
#define PIN_LINT(n)        (1u << (n))
#define PIN_EXTINT_MESSAGE 4u /* an ExtINT message came; INTR has not dropped since */

#define LAPIC_NEVER UINT64_MAX

struct vc_lapic {
	struct vc_lapics *all;
	unsigned index; /* is the APIC ID too */
	_Atomic uint64_t base;
	_Atomic uint32_t reg[APIC_REG_COUNT]; /* ID, PPR, APR, LDR of x2APIC and TMCCT are computed instead */
	_Atomic uint32_t irr_words;           /* bit n: IRR register n may be non-zero; lets vc_lapic_pending() end early */
	_Atomic uint32_t errors;              /* collected since the last write of ESR */
	_Atomic uint32_t pins;

	/* protects everything below, TMICT, TDCR and the timer mode in the LVT */
	pthread_mutex_t lock;
	struct vc_timer *timer;
	uint64_t deadline;     /* guest ns of the next expiry; LAPIC_NEVER */
	uint64_t tsc_deadline; /* IA32_TSC_DEADLINE */
	uint64_t tsc_offset;
};

struct vc_lapics {
	struct vc_lapics_config config;
	_Atomic uint32_t turn;  /* where the search for the lowest priority begins, so that equals take turns */
	struct vc_lapic *lapic; /* config.count of them */
};

static inline uint32_t lapic_get(const struct vc_lapic *l, unsigned reg)
{
	return atomic_load_explicit(&l->reg[reg], memory_order_relaxed);
}
static inline void lapic_put(struct vc_lapic *l, unsigned reg, uint32_t value)
{
	atomic_store_explicit(&l->reg[reg], value, memory_order_relaxed);
}
static inline uint64_t lapic_base(const struct vc_lapic *l)
{
	return atomic_load_explicit(&l->base, memory_order_relaxed);
}
static inline bool lapic_is_on(const struct vc_lapic *l)
{
	return lapic_base(l) & APIC_BASE_EN;
}
static inline bool lapic_is_x2apic(const struct vc_lapic *l)
{
	return lapic_base(l) & APIC_BASE_EXTD;
}
static inline void lapic_notify(struct vc_lapic *l, enum vc_lapic_event event, uint8_t arg)
{
	l->all->config.notify(l->all->config.ctx, l->index, event, arg);
}

/* lapic.c */
uint32_t lapic_id_register(const struct vc_lapic *l);
uint32_t lapic_ldr(const struct vc_lapic *l);
/* What a write may change in each register; also filters what is loaded. */
extern const uint32_t lapic_writable[APIC_REG_COUNT];

/* lapic_irq.c */
uint32_t lapic_ppr(const struct vc_lapic *l);
uint32_t lapic_apr(const struct vc_lapic *l);
/* Put a legal vector in the IRR and tell the vcpu. */
void lapic_request(struct vc_lapic *l, uint8_t vector, bool level_triggered);
void lapic_error(struct vc_lapic *l, uint32_t bit);
/* An event of one of the local sources: deliver what its LVT register says. */
void lapic_local_event(struct vc_lapic *l, unsigned lvt);
/* A LINT register was written: the pin may be waiting for it. */
void lapic_lint_changed(struct vc_lapic *l, unsigned pin);
void lapic_priority_lowered(struct vc_lapic *l);

/* lapic_ipi.c */
void lapic_send_icr(struct vc_lapic *l, uint32_t low, uint32_t dest);
void lapic_send_self(struct vc_lapic *l, uint8_t vector);

/* lapic_timer.c */
int lapic_timer_init(struct vc_lapic *l);
uint32_t lapic_timer_count(struct vc_lapic *l);
/* Likewise for who saves it: not 0 while the interrupt of a count that is over is still to come. */
uint32_t lapic_timer_to_come(struct vc_lapic *l);
void lapic_timer_set_count(struct vc_lapic *l, uint32_t count);
void lapic_timer_set_divide(struct vc_lapic *l, uint32_t divide);
void lapic_timer_set_lvt(struct vc_lapic *l, uint32_t lvt);
void lapic_timer_stop(struct vc_lapic *l);
uint64_t lapic_timer_get_deadline(struct vc_lapic *l);
void lapic_timer_set_deadline(struct vc_lapic *l, uint64_t tsc);
/* Go on with `count` left, or towards the TSC deadline, by the mode in the registers. */
void lapic_timer_resume(struct vc_lapic *l, uint32_t count, uint64_t tsc_deadline);

#endif
