/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdatomic.h>

#include "chip_fixture.h"
#include "core/util.h"

#define CPUS    20
#define TSC_KHZ 2500000u /* 2.5 ticks a nanosecond */

#define ID    0x20
#define VER   0x30
#define TPR   0x80
#define APR   0x90
#define PPR   0xa0
#define EOI   0xb0
#define LDR   0xd0
#define DFR   0xe0
#define SVR   0xf0
#define ISR   0x100
#define TMR   0x180
#define IRR   0x200
#define ESR   0x280
#define ICR   0x300
#define ICR2  0x310
#define LVTT  0x320
#define LINT0 0x350
#define LINT1 0x360
#define LVTE  0x370
#define TMICT 0x380
#define TMCCT 0x390
#define TDCR  0x3e0

static struct vc_lapics *all;
static unsigned events[CPUS][8];
static uint8_t last_arg;
static unsigned eois;
static uint8_t last_eoi;

static void on_event(void *ctx, unsigned vcpu, enum vc_lapic_event event, uint8_t arg)
{
	events[vcpu][event]++;
	last_arg = arg;
	/* no lock is held: every function may be called from here */
	vc_lapic_mmio_read(vc_lapics_get(all, vcpu), TMCCT);
}

static void on_eoi(void *ctx, uint8_t vector)
{
	eois++;
	last_eoi = vector;
}

static void setup(void)
{
	fx_setup();
	memset(events, 0, sizeof events);
	eois = 0;
	struct vc_lapics_config config = {
	    .count = CPUS,
	    .loop = fx.loop,
	    .clock = &fx.clock,
	    .tsc_khz = TSC_KHZ,
	    .notify = on_event,
	    .eoi = on_eoi,
	};
	ck_assert_int_eq(vc_lapics_new(&config, &all), 0);
}

static void teardown(void)
{
	vc_lapics_free(all);
	fx_teardown();
}

static struct vc_lapic *cpu(unsigned n)
{
	return vc_lapics_get(all, n);
}

static uint32_t rd(unsigned n, uint32_t reg)
{
	return vc_lapic_mmio_read(cpu(n), reg);
}

static void wr(unsigned n, uint32_t reg, uint32_t value)
{
	vc_lapic_mmio_write(cpu(n), reg, value);
}

static uint64_t msr(unsigned n, uint32_t index)
{
	uint64_t value = 0xdeadbeef;

	ck_assert_int_eq(vc_lapic_msr_read(cpu(n), index, &value), 0);
	return value;
}

static void enable_all(void)
{
	for (unsigned n = 0; n < CPUS; n++)
		wr(n, SVR, 0x1ff);
}

static void to_x2apic(unsigned n)
{
	ck_assert_int_eq(vc_lapic_msr_write(cpu(n), 0x1b, vc_lapic_base(cpu(n)) | 0x400), 0);
}

static void fixed(unsigned n, uint8_t vector, bool level)
{
	struct vc_lapic_message m = {.dest = n, .vector = vector, .level_triggered = level, .assert = 1, .source = -1};

	ck_assert_int_eq(vc_lapics_deliver(all, &m), 0);
}

START_TEST(after_reset)
{
	for (unsigned n = 0; n < 2; n++) {
		ck_assert_uint_eq(vc_lapic_base(cpu(n)), 0xfee00800 | (n ? 0 : 0x100));
		ck_assert_uint_eq(rd(n, ID), n << 24);
		ck_assert_uint_eq(rd(n, VER), 0x01050014);
		ck_assert_uint_eq(rd(n, SVR), 0xff);
		ck_assert_uint_eq(rd(n, DFR), 0xffffffff);
		for (uint32_t lvt = LVTT; lvt <= LVTE; lvt += 0x10)
			ck_assert_uint_eq(rd(n, lvt), lvt == LINT0 && n == 0 ? 0x700 : 0x10000);
		ck_assert_uint_eq(rd(n, TMICT), 0);
		ck_assert_int_eq(vc_lapic_pending(cpu(n)), -1);
		ck_assert_int_eq(vc_lapic_accept(cpu(n)), -1);
	}
	/* the 8259 reaches the first vcpu until software or an INIT decides otherwise */
	ck_assert(vc_lapic_accepts_pic(cpu(0)) && !vc_lapic_accepts_pic(cpu(1)));
	vc_lapic_reset(cpu(0), true);
	ck_assert_uint_eq(rd(0, LINT0), 0x10000);
	ck_assert_ptr_null(vc_lapics_get(all, CPUS));
	struct vc_lapics_config none = {.count = 0};
	struct vc_lapics *nothing;
	ck_assert_int_eq(vc_lapics_new(&none, &nothing), -EINVAL);
}
END_TEST

START_TEST(register_masks)
{
	wr(0, SVR, 0xffffffff);
	ck_assert_uint_eq(rd(0, SVR), 0x13ff);
	wr(0, TPR, 0xffffffff);
	ck_assert_uint_eq(rd(0, TPR), 0xff);
	wr(0, TPR, 0);
	wr(0, LVTT, 0xffffffff);
	ck_assert_uint_eq(rd(0, LVTT), 0x700ff);
	wr(0, LINT0, 0xffffffff);
	ck_assert_uint_eq(rd(0, LINT0), 0x1a7ff);
	wr(0, LVTE, 0xffffffff);
	ck_assert_uint_eq(rd(0, LVTE), 0x100ff);
	wr(0, TDCR, 0xffffffff);
	ck_assert_uint_eq(rd(0, TDCR), 0xb);
	wr(0, DFR, 0);
	ck_assert_uint_eq(rd(0, DFR), 0x0fffffff);
	wr(0, LDR, 0xffffffff);
	ck_assert_uint_eq(rd(0, LDR), 0xff000000);
	wr(0, ID, 0x55000000);
	ck_assert_uint_eq(rd(0, ID), 0);
	wr(0, VER, 0);
	ck_assert_uint_eq(rd(0, VER), 0x01050014);
	wr(0, ICR2, 0xffffffff);
	ck_assert_uint_eq(rd(0, ICR2), 0xff000000);
	/* parts of a register, and between registers */
	ck_assert_uint_eq(rd(0, ICR2 + 3), 0xff);
	ck_assert_uint_eq(rd(0, ICR2 + 4), 0);
	wr(0, ICR2 + 4, 0);
	ck_assert_uint_eq(rd(0, ICR2), 0xff000000);
}
END_TEST

START_TEST(priorities)
{
	enable_all();
	fixed(0, 0x31, false);
	fixed(0, 0x52, false);
	fixed(0, 0x35, false);
	ck_assert_uint_eq(events[0][VC_LAPIC_IRQ], 3);
	ck_assert_uint_eq(rd(0, IRR + 0x10), 1u << 0x11 | 1u << 0x15);
	ck_assert_uint_eq(rd(0, IRR + 0x20), 1u << 0x12);
	ck_assert_int_eq(vc_lapic_pending(cpu(0)), 0x52);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x52);
	ck_assert_uint_eq(rd(0, PPR), 0x50);
	ck_assert_uint_eq(rd(0, ISR + 0x20), 1u << 0x12);
	ck_assert_int_eq(vc_lapic_pending(cpu(0)), -1);
	fixed(0, 0x5f, false); /* the same class waits */
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), -1);
	fixed(0, 0x60, false);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x60);
	ck_assert_uint_eq(rd(0, PPR), 0x60);
	wr(0, EOI, 0);
	ck_assert_uint_eq(rd(0, PPR), 0x50);
	unsigned before = events[0][VC_LAPIC_IRQ];
	wr(0, EOI, 0);
	ck_assert_uint_eq(events[0][VC_LAPIC_IRQ], before + 1); /* 0x5f may come now */
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x5f);
	vc_lapic_eoi(cpu(0));
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x35);
	wr(0, EOI, 0);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x31);
	wr(0, EOI, 0);
	wr(0, EOI, 0); /* end of nothing */
	ck_assert_uint_eq(rd(0, PPR), 0);
	ck_assert_uint_eq(eois, 0); /* all were edges */
}
END_TEST

START_TEST(task_priority)
{
	enable_all();
	wr(0, TPR, 0x4f);
	ck_assert_uint_eq(rd(0, PPR), 0x4f);
	ck_assert_uint_eq(vc_lapic_get_cr8(cpu(0)), 4);
	fixed(0, 0x45, false);
	ck_assert_int_eq(vc_lapic_pending(cpu(0)), -1);
	ck_assert_uint_eq(rd(0, APR), 0x4f);
	unsigned before = events[0][VC_LAPIC_IRQ];
	vc_lapic_set_cr8(cpu(0), 3);
	ck_assert_uint_eq(events[0][VC_LAPIC_IRQ], before + 1);
	ck_assert_uint_eq(rd(0, TPR), 0x30);
	ck_assert_uint_eq(rd(0, APR), 0x40);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x45);
	ck_assert_uint_eq(rd(0, PPR), 0x40);
	vc_lapic_set_cr8(cpu(0), 15);
	fixed(0, 0xff, false);
	ck_assert_int_eq(vc_lapic_pending(cpu(0)), -1);
	ck_assert_uint_eq(rd(0, PPR), 0xf0);
}
END_TEST

START_TEST(level_and_eoi_broadcast)
{
	enable_all();
	fixed(1, 0x41, true);
	ck_assert_uint_eq(rd(1, TMR + 0x20), 2);
	ck_assert_int_eq(vc_lapic_accept(cpu(1)), 0x41);
	wr(1, EOI, 0);
	ck_assert_uint_eq(eois, 1);
	ck_assert_uint_eq(last_eoi, 0x41);
	fixed(1, 0x41, false); /* now an edge */
	ck_assert_uint_eq(rd(1, TMR + 0x20), 0);
	vc_lapic_accept(cpu(1));
	wr(1, EOI, 0);
	ck_assert_uint_eq(eois, 1);
	/* suppressed */
	wr(1, SVR, 0x11ff);
	fixed(1, 0x41, true);
	vc_lapic_accept(cpu(1));
	wr(1, EOI, 0);
	ck_assert_uint_eq(eois, 1);
}
END_TEST

START_TEST(pv_eoi)
{
	enable_all();
	ck_assert(!vc_lapic_pv_eoi_allowed(cpu(0)));
	fixed(0, 0x41, false);
	vc_lapic_accept(cpu(0));
	ck_assert(vc_lapic_pv_eoi_allowed(cpu(0)));
	fixed(0, 0x31, false);
	ck_assert(!vc_lapic_pv_eoi_allowed(cpu(0)));
	fixed(0, 0x91, false);
	vc_lapic_accept(cpu(0));
	wr(0, EOI, 0);
	wr(0, EOI, 0);
	vc_lapic_accept(cpu(0));
	ck_assert(vc_lapic_pv_eoi_allowed(cpu(0)));
	fixed(0, 0x91, true);
	vc_lapic_accept(cpu(0));
	ck_assert(!vc_lapic_pv_eoi_allowed(cpu(0))); /* level, and two in service */
}
END_TEST

START_TEST(software_disabled)
{
	wr(0, LVTT, 0x30);
	ck_assert_uint_eq(rd(0, LVTT), 0x10030); /* the mask cannot be cleared */
	fixed(0, 0x41, false);
	ck_assert_int_eq(vc_lapic_pending(cpu(0)), -1);
	wr(0, SVR, 0x1ff);
	wr(0, LVTT, 0x30);
	ck_assert_uint_eq(rd(0, LVTT), 0x30);
	fixed(0, 0x41, false);
	wr(0, SVR, 0xff);
	ck_assert_uint_eq(rd(0, LVTT), 0x10030);
	ck_assert_int_eq(vc_lapic_pending(cpu(0)), 0x41); /* what came before is held */
	/* NMI, INIT, SIPI are always answered */
	for (unsigned delivery = 4; delivery <= 6; delivery++) {
		struct vc_lapic_message m = {.dest = 0, .delivery = (uint8_t)delivery, .vector = 0x9a, .source = -1};
		vc_lapics_deliver(all, &m);
	}
	ck_assert_uint_eq(events[0][VC_LAPIC_NMI], 1);
	ck_assert_uint_eq(events[0][VC_LAPIC_INIT], 1);
	ck_assert_uint_eq(events[0][VC_LAPIC_SIPI], 1);
	ck_assert_uint_eq(last_arg, 0x9a);
}
END_TEST

static void icr(unsigned from, uint32_t dest, uint32_t low)
{
	wr(from, ICR2, dest << 24);
	wr(from, ICR, low);
}

static uint32_t irq_mask(void)
{
	uint32_t mask = 0;

	for (unsigned n = 0; n < CPUS; n++) {
		if (vc_lapic_accept(cpu(n)) >= 0) {
			mask |= 1u << n;
			vc_lapic_eoi(cpu(n));
		}
	}
	return mask;
}

START_TEST(icr_physical_and_shorthands)
{
	const uint32_t everybody = (1u << CPUS) - 1;

	enable_all();
	icr(0, 3, 0x40);
	ck_assert_uint_eq(rd(0, ICR), 0x40);
	ck_assert_uint_eq(irq_mask(), 1u << 3);
	icr(0, 0xff, 0x40);
	ck_assert_uint_eq(irq_mask(), everybody);
	icr(0, 77, 0x40);
	ck_assert_uint_eq(irq_mask(), 0);
	icr(5, 0, 0x40040);
	ck_assert_uint_eq(irq_mask(), 1u << 5);
	icr(5, 0, 0x80040);
	ck_assert_uint_eq(irq_mask(), everybody);
	icr(5, 0, 0xc0040);
	ck_assert_uint_eq(irq_mask(), everybody & ~(1u << 5));
	/* the trigger mode of an IPI does not count */
	icr(0, 3, 0xc040);
	ck_assert_uint_eq(rd(3, TMR + 0x20), 0);
	irq_mask();
	/* NMI, SMI */
	icr(0, 3, 0x400);
	ck_assert_uint_eq(events[3][VC_LAPIC_NMI], 1);
	icr(0, 3, 0x200);
	ck_assert_uint_eq(events[3][VC_LAPIC_SMI], 1);
	/* INIT, de-assert, two SIPIs as a PC wakes its processors */
	icr(0, 0, 0xc4500);
	icr(0, 0, 0xc8500);
	icr(0, 0, 0xc4608);
	icr(0, 0, 0xc4608);
	ck_assert_uint_eq(events[0][VC_LAPIC_INIT] + events[0][VC_LAPIC_SIPI], 0);
	ck_assert_uint_eq(events[7][VC_LAPIC_INIT], 1);
	ck_assert_uint_eq(events[7][VC_LAPIC_SIPI], 2);
	ck_assert_uint_eq(last_arg, 8);
	icr(0, 4, 0xc500); /* level-triggered INIT, asserted */
	icr(0, 4, 0x8500);
	ck_assert_uint_eq(events[4][VC_LAPIC_INIT], 2);
	/* INIT and SIPI cannot include the sender; reserved and ExtINT modes do nothing */
	icr(0, 0, 0x44500);
	icr(0, 0, 0x84600);
	icr(0, 4, 0x340);
	icr(0, 4, 0x740);
	ck_assert_uint_eq(events[0][VC_LAPIC_INIT] + events[0][VC_LAPIC_SIPI], 0);
	ck_assert_uint_eq(events[4][VC_LAPIC_EXTINT], 0);
	ck_assert_uint_eq(irq_mask(), 0);
}
END_TEST

START_TEST(logical_flat_and_cluster)
{
	enable_all();
	for (unsigned n = 0; n < 8; n++)
		wr(n, LDR, 1u << (24 + n));
	icr(0, 0x85, 0x840);
	ck_assert_uint_eq(irq_mask(), 0x85);
	icr(0, 0, 0x840);
	ck_assert_uint_eq(irq_mask(), 0);
	/* cluster: 4 members each */
	for (unsigned n = 0; n < 8; n++) {
		wr(n, DFR, 0x0fffffff);
		wr(n, LDR, (n / 4 << 4 | 1u << n % 4) << 24);
	}
	icr(0, 0x1a, 0x840);
	ck_assert_uint_eq(irq_mask(), 0xa0);
	icr(0, 0x05, 0x840);
	ck_assert_uint_eq(irq_mask(), 0x05);
	icr(0, 0x2f, 0x840);
	ck_assert_uint_eq(irq_mask(), 0);
	icr(0, 0xf2, 0x840); /* in every cluster */
	ck_assert_uint_eq(irq_mask(), 0x22);
	icr(0, 0xff, 0x840);
	ck_assert_uint_eq(irq_mask() & 0xff, 0xff);
}
END_TEST

START_TEST(lowest_priority)
{
	enable_all();
	for (unsigned n = 0; n < 4; n++)
		wr(n, LDR, 1u << (24 + n));
	wr(0, TPR, 0x40);
	wr(1, TPR, 0x20);
	wr(2, TPR, 0x30);
	wr(3, SVR, 0xff); /* disabled: takes nothing */
	icr(0, 0x0f, 0x950);
	ck_assert_uint_eq(irq_mask(), 2);
	/* in service counts too */
	fixed(1, 0x90, false);
	vc_lapic_accept(cpu(1));
	icr(0, 0x0f, 0x950);
	ck_assert_uint_eq(irq_mask(), 4);
	vc_lapic_eoi(cpu(1));
	/* equals take turns */
	wr(2, TPR, 0x20);
	uint32_t seen = 0;
	for (unsigned i = 0; i < CPUS; i++) {
		icr(0, 0x0f, 0x950);
		seen |= irq_mask();
	}
	ck_assert_uint_eq(seen, 6);
	icr(0, 0x80, 0x950); /* nobody */
	ck_assert_uint_eq(irq_mask(), 0);
}
END_TEST

START_TEST(msi)
{
	enable_all();
	ck_assert_int_eq(vc_lapics_msi(all, 0xfee02000, 0x41), 0);
	ck_assert_uint_eq(irq_mask(), 4);
	ck_assert_int_eq(vc_lapics_msi(all, 0xfeeff000, 0x41), 0); /* broadcast */
	ck_assert_uint_eq(irq_mask(), (1u << CPUS) - 1);
	ck_assert_int_eq(vc_lapics_msi(all, 0xfed02000, 0x41), -EINVAL);
	ck_assert_int_eq(vc_lapics_msi(all, 0x1fee02000, 0x41), -EINVAL);
	ck_assert_int_eq(vc_lapics_msi(all, 0xfee02000, 0x341), 0); /* reserved delivery */
	ck_assert_uint_eq(irq_mask(), 0);
	/* level: asserted counts, released does not */
	ck_assert_int_eq(vc_lapics_msi(all, 0xfee02000, 0xc041), 0);
	ck_assert_uint_eq(rd(2, TMR + 0x20), 2);
	ck_assert_uint_eq(irq_mask(), 4);
	ck_assert_int_eq(vc_lapics_msi(all, 0xfee02000, 0x8041), 0);
	ck_assert_uint_eq(irq_mask(), 0);
	/* logical with redirection hint: one of them */
	for (unsigned n = 0; n < 4; n++)
		wr(n, LDR, 1u << (24 + n));
	ck_assert_int_eq(vc_lapics_msi(all, 0xfee0f00c, 0x41), 0);
	ck_assert_int_eq(__builtin_popcount(irq_mask()), 1);
	ck_assert_int_eq(vc_lapics_msi(all, 0xfee0f004, 0x41), 0);
	ck_assert_uint_eq(irq_mask(), 0xf);
	/* NMI, and bad messages */
	ck_assert_int_eq(vc_lapics_msi(all, 0xfee01000, 0x400), 0);
	ck_assert_uint_eq(events[1][VC_LAPIC_NMI], 1);
	struct vc_lapic_message m = {.delivery = 8, .source = -1};
	ck_assert_int_eq(vc_lapics_deliver(all, &m), -EINVAL);
	m = (struct vc_lapic_message){.shorthand = 4, .source = -1};
	ck_assert_int_eq(vc_lapics_deliver(all, &m), -EINVAL);
	m = (struct vc_lapic_message){.shorthand = 1, .source = CPUS};
	ck_assert_int_eq(vc_lapics_deliver(all, &m), -EINVAL);
}
END_TEST

START_TEST(base_transitions)
{
	static const struct {
		uint64_t from, to;
		int result;
	} moves[] = {
	    {0x800, 0x800, 0},       {0x800, 0xc00, 0},       {0x800, 0, 0},       {0xc00, 0xc00, 0},
	    {0xc00, 0, 0},           {0, 0x800, 0},           {0, 0, 0},           {0xc00, 0x800, -EINVAL},
	    {0xc00, 0x400, -EINVAL}, {0x800, 0x400, -EINVAL}, {0, 0xc00, -EINVAL}, {0, 0x400, -EINVAL},
	};

	for (unsigned i = 0; i < VC_ARRAY_SIZE(moves); i++) {
		vc_lapic_reset(cpu(1), false);
		if (moves[i].from != 0x800)
			ck_assert_int_eq(vc_lapic_msr_write(cpu(1), 0x1b, VC_LAPIC_BASE | moves[i].from), 0);
		ck_assert_int_eq(vc_lapic_msr_write(cpu(1), 0x1b, VC_LAPIC_BASE | moves[i].to), moves[i].result);
		ck_assert_uint_eq(vc_lapic_base(cpu(1)) & 0xc00, moves[i].result ? moves[i].from : moves[i].to);
	}
	vc_lapic_reset(cpu(1), false);
	ck_assert_int_eq(vc_lapic_msr_write(cpu(1), 0x1b, VC_LAPIC_BASE | 0x801), -EINVAL);
	ck_assert_int_eq(vc_lapic_msr_write(cpu(1), 0x1b, VC_LAPIC_BASE | 0xa00), -EINVAL);
	ck_assert_int_eq(vc_lapic_msr_write(cpu(1), 0x1b, 1ull << 63 | 0x800), -EINVAL);
	/* moved elsewhere */
	ck_assert_int_eq(vc_lapic_msr_write(cpu(1), 0x1b, 0x12345800), 0);
	ck_assert_uint_eq(msr(1, 0x1b), 0x12345800);
	/* disabled: the page is not there, messages do not arrive, and all is forgotten */
	wr(1, SVR, 0x1ff);
	fixed(1, 0x41, false);
	vc_lapic_msr_write(cpu(1), 0x1b, 0x12345000);
	ck_assert_int_eq(vc_lapic_pending(cpu(1)), -1);
	ck_assert_uint_eq(rd(1, ID), 0xffffffff);
	icr(0, 1, 0x400);
	ck_assert_uint_eq(events[1][VC_LAPIC_NMI], 0);
	ck_assert(vc_lapic_accepts_pic(cpu(1)));
	vc_lapic_msr_write(cpu(1), 0x1b, 0x12345800);
	ck_assert_uint_eq(rd(1, SVR), 0xff);
	ck_assert_int_eq(vc_lapic_pending(cpu(1)), -1);
	/* INIT keeps the mode */
	to_x2apic(1);
	vc_lapic_reset(cpu(1), true);
	ck_assert_uint_eq(vc_lapic_base(cpu(1)), 0x12345c00);
}
END_TEST

START_TEST(x2apic_registers)
{
	uint64_t value;

	ck_assert_int_eq(vc_lapic_msr_read(cpu(17), 0x802, &value), -EINVAL); /* still xAPIC */
	ck_assert_int_eq(vc_lapic_msr_write(cpu(17), 0x80b, 0), -EINVAL);
	to_x2apic(17);
	ck_assert_uint_eq(msr(17, 0x802), 17);
	ck_assert_uint_eq(msr(17, 0x80d), 0x10002);
	ck_assert_uint_eq(rd(17, ID), 0xffffffff); /* no page */
	wr(17, SVR, 0x1ff);
	ck_assert_uint_eq(msr(17, 0x80f), 0xff);

	static const struct {
		uint32_t msr;
		uint64_t value;
		int read, write;
	} accesses[] = {
	    {0x800, 0, -EINVAL, -EINVAL},
	    {0x802, 0, 0, -EINVAL},
	    {0x803, 0, 0, -EINVAL},
	    {0x808, 0x20, 0, 0},
	    {0x808, 0x120, 0, -EINVAL},
	    {0x809, 0, -EINVAL, -EINVAL},
	    {0x80a, 0, 0, -EINVAL},
	    {0x80b, 0, -EINVAL, 0},
	    {0x80b, 1, -EINVAL, -EINVAL},
	    {0x80c, 0, -EINVAL, -EINVAL},
	    {0x80d, 0, 0, -EINVAL},
	    {0x80e, 0, -EINVAL, -EINVAL},
	    {0x80f, 0x1ff, 0, 0},
	    {0x80f, 0x11ff, 0, 0},
	    {0x80f, 0x21ff, 0, -EINVAL},
	    {0x80f, 1ull << 32 | 0x1ff, 0, -EINVAL},
	    {0x810, 0, 0, -EINVAL},
	    {0x827, 0, 0, -EINVAL},
	    {0x828, 0, 0, 0},
	    {0x828, 1, 0, -EINVAL},
	    {0x829, 0, -EINVAL, -EINVAL},
	    {0x82f, 0, -EINVAL, -EINVAL},
	    {0x830, 0x100000, 0, -EINVAL},
	    {0x830, 0x2000, 0, -EINVAL},
	    {0x831, 0, -EINVAL, -EINVAL},
	    {0x832, 0x10030, 0, 0},
	    {0x832, 0x11030, 0, 0},
	    {0x832, 0x10130, 0, -EINVAL},
	    {0x835, 0x1e7ff, 0, 0},
	    {0x835, 0x20000, 0, -EINVAL},
	    {0x838, 0xffffffff, 0, 0},
	    {0x838, 1ull << 32, 0, -EINVAL},
	    {0x839, 0, 0, -EINVAL},
	    {0x83e, 0xb, 0, 0},
	    {0x83e, 0x4, 0, -EINVAL},
	    {0x83f, 0x41, -EINVAL, 0},
	    {0x83f, 0x141, -EINVAL, -EINVAL},
	    {0x840, 0, -EINVAL, -EINVAL},
	    {0x8ff, 0, -EINVAL, -EINVAL},
	    {0x900, 0, -EINVAL, -EINVAL},
	};
	for (unsigned i = 0; i < VC_ARRAY_SIZE(accesses); i++) {
		int r = vc_lapic_msr_read(cpu(17), accesses[i].msr, &value);
		ck_assert_msg(r == accesses[i].read, "read of %#x gives %d", accesses[i].msr, r);
		r = vc_lapic_msr_write(cpu(17), accesses[i].msr, accesses[i].value);
		ck_assert_msg(r == accesses[i].write, "write %u of %#x gives %d", i, accesses[i].msr, r);
	}
	ck_assert_int_eq(vc_lapic_accept(cpu(17)), 0x41); /* the self-IPI */
}
END_TEST

START_TEST(x2apic_messages)
{
	enable_all();
	for (unsigned n = 0; n < CPUS; n++)
		to_x2apic(n);
	vc_lapic_msr_write(cpu(0), 0x830, 18ull << 32 | 0x40);
	ck_assert_uint_eq(irq_mask(), 1u << 18);
	ck_assert_uint_eq(msr(0, 0x830), 18ull << 32 | 0x40);
	vc_lapic_msr_write(cpu(0), 0x830, 0xffull << 32 | 0x40); /* an ID like any other */
	ck_assert_uint_eq(irq_mask(), 0);
	vc_lapic_msr_write(cpu(0), 0x830, 0xffffffffull << 32 | 0x40);
	ck_assert_uint_eq(irq_mask(), (1u << CPUS) - 1);
	vc_lapic_msr_write(cpu(0), 0x830, 0x10005ull << 32 | 0x840); /* cluster 1, members 0 and 2 */
	ck_assert_uint_eq(irq_mask(), 1u << 16 | 1u << 18);
	vc_lapic_msr_write(cpu(0), 0x830, 0x8003ull << 32 | 0x840); /* cluster 0 */
	ck_assert_uint_eq(irq_mask(), 0x8003);
	vc_lapic_msr_write(cpu(0), 0x830, 0x2ffffull << 32 | 0x840); /* an empty one */
	ck_assert_uint_eq(irq_mask(), 0);
	vc_lapic_msr_write(cpu(0), 0x830, 0xffffffffull << 32 | 0x840);
	ck_assert_uint_eq(irq_mask(), (1u << CPUS) - 1);
	vc_lapic_msr_write(cpu(0), 0x830, 0xc0040);
	ck_assert_uint_eq(irq_mask(), ((1u << CPUS) - 1) & ~1u);
	/* MSIs have 8-bit destinations: 0xff is everybody */
	vc_lapics_msi(all, 0xfeeff000, 0x41);
	ck_assert_uint_eq(irq_mask(), (1u << CPUS) - 1);
	vc_lapics_msi(all, 0xfee06004, 0x41);
	ck_assert_uint_eq(irq_mask(), 6);
	/* a mixed machine: physical IDs reach both kinds */
	vc_lapic_reset(cpu(3), false);
	wr(3, SVR, 0x1ff);
	vc_lapic_msr_write(cpu(0), 0x830, 3ull << 32 | 0x40);
	ck_assert_uint_eq(irq_mask(), 8);
	icr(3, 0xff, 0x40);
	ck_assert_uint_eq(irq_mask(), (1u << CPUS) - 1);
}
END_TEST

START_TEST(errors)
{
	enable_all();
	wr(0, LVTE, 0xfe);
	icr(0, 1, 0x0f);                  /* send illegal vector */
	ck_assert_uint_eq(rd(0, ESR), 0); /* a write comes first */
	wr(0, ESR, 0);
	ck_assert_uint_eq(rd(0, ESR), 0x20);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0xfe);
	wr(0, EOI, 0);
	wr(0, ESR, 0);
	ck_assert_uint_eq(rd(0, ESR), 0);
	fixed(0, 0x05, false); /* receive illegal vector */
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0xfe);
	wr(0, EOI, 0);
	wr(0, ESR, 0);
	ck_assert_uint_eq(rd(0, ESR), 0x40);
	wr(0, 0x3f0, 0x41); /* the self-IPI register is one of x2APIC */
	ck_assert_uint_eq(rd(0, 0x40), 0);
	wr(0, ESR, 0);
	ck_assert_uint_eq(rd(0, ESR), 0x80);
	ck_assert_uint_eq(rd(0, 0xff0), 0);
	/* an LVT with an illegal vector; the error interrupt itself too */
	wr(0, LVTE, 0x0e);
	wr(0, LVTT, 0x0f);
	wr(0, TMICT, 10);
	fx_advance(100, 100);
	wr(0, ESR, 0);
	ck_assert_uint_eq(rd(0, ESR), 0xc0);
	to_x2apic(0);
	ck_assert_int_eq(vc_lapic_msr_write(cpu(0), 0x83f, 3), 0);
	ck_assert_int_eq(vc_lapic_msr_write(cpu(0), 0x828, 0), 0);
	ck_assert_uint_eq(msr(0, 0x828), 0x60); /* 0x40: the error vector is illegal still */
}
END_TEST

START_TEST(lint_pins)
{
	enable_all();
	wr(0, LINT0, 0x10000);
	ck_assert(!vc_lapic_accepts_pic(cpu(0)));
	vc_lapics_set_lint(all, 0, true); /* masked */
	ck_assert_uint_eq(events[0][VC_LAPIC_EXTINT], 0);
	wr(0, LINT0, 0x700); /* INTR is up already */
	ck_assert_uint_eq(events[0][VC_LAPIC_EXTINT], 1);
	ck_assert(vc_lapic_accepts_pic(cpu(0)));
	ck_assert(!vc_lapic_accepts_pic(cpu(1)));
	vc_lapics_set_lint(all, 0, true);
	ck_assert_uint_eq(events[0][VC_LAPIC_EXTINT], 1);
	vc_lapics_set_lint(all, 0, false);
	vc_lapics_set_lint(all, 0, true);
	ck_assert_uint_eq(events[0][VC_LAPIC_EXTINT], 2);
	vc_lapics_set_lint(all, 0, false);
	/* NMI button */
	wr(0, LINT1, 0x400);
	vc_lapics_set_lint(all, 1, true);
	ck_assert_uint_eq(events[0][VC_LAPIC_NMI], 1);
	ck_assert_uint_eq(events[1][VC_LAPIC_NMI], 0);
	vc_lapics_set_lint(all, 1, false);
	wr(0, LINT1, 0x200);
	vc_lapics_set_lint(all, 1, true);
	ck_assert_uint_eq(events[0][VC_LAPIC_SMI], 1);
	vc_lapics_set_lint(all, 2, true);
	/* fixed, edge */
	wr(0, LINT0, 0x61);
	vc_lapics_set_lint(all, 0, true);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x61);
	wr(0, EOI, 0);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), -1);
	/* fixed, level: again after EOI while the pin is up */
	wr(0, LINT0, 0x8061);
	ck_assert_uint_eq(rd(0, LINT0), 0xc061);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x61);
	wr(0, EOI, 0);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x61);
	vc_lapics_set_lint(all, 0, false);
	wr(0, EOI, 0);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), -1);
	ck_assert_uint_eq(rd(0, LINT0), 0x8061);
	/* an ExtINT message from the IOAPIC counts until INTR drops */
	wr(0, LINT0, 0x10700);
	vc_lapics_set_lint(all, 0, true);
	vc_lapics_msi(all, 0xfee00000, 0x700);
	ck_assert(vc_lapic_accepts_pic(cpu(0)));
	vc_lapics_set_lint(all, 0, false);
	ck_assert(!vc_lapic_accepts_pic(cpu(0)));
	/* without an APIC the pins are INTR and NMI */
	vc_lapic_msr_write(cpu(1), 0x1b, VC_LAPIC_BASE);
	unsigned before = events[1][VC_LAPIC_EXTINT];
	vc_lapics_set_lint(all, 0, true);
	ck_assert_uint_eq(events[1][VC_LAPIC_EXTINT], before + 1);
	vc_lapics_set_lint(all, 1, false);
	vc_lapics_set_lint(all, 1, true);
	ck_assert_uint_eq(events[1][VC_LAPIC_NMI], 1);
}
END_TEST

START_TEST(timer_one_shot)
{
	enable_all();
	fx_set_time(1000);
	wr(0, LVTT, 0x40);
	wr(0, TDCR, 0xb); /* by 1 */
	wr(0, TMICT, 1000000);
	ck_assert_uint_eq(rd(0, TMCCT), 1000000);
	fx_set_time(1000 + 400000);
	ck_assert_uint_eq(rd(0, TMCCT), 600000);
	fx_set_time(1000 + 999999);
	ck_assert_uint_eq(rd(0, TMCCT), 1);
	ck_assert_int_eq(vc_lapic_pending(cpu(0)), -1);
	fx_set_time(1000 + 1000000);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x40);
	wr(0, EOI, 0);
	ck_assert_uint_eq(rd(0, TMCCT), 0);
	fx_advance(10000000, 1000000);
	ck_assert_int_eq(vc_lapic_pending(cpu(0)), -1);
	/* stopped by zero; masked it counts on without an interrupt */
	wr(0, TMICT, 1000);
	wr(0, TMICT, 0);
	fx_advance(10000, 1000);
	ck_assert_int_eq(vc_lapic_pending(cpu(0)), -1);
	wr(0, LVTT, 0x10040);
	wr(0, TMICT, 1000);
	fx_advance(500, 500);
	ck_assert_uint_eq(rd(0, TMCCT), 500);
	fx_advance(500, 500);
	ck_assert_int_eq(vc_lapic_pending(cpu(0)), -1);
}
END_TEST

START_TEST(timer_divide)
{
	static const struct {
		uint32_t tdcr, divisor;
	} divides[] = {{0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {0xa, 128}, {0xb, 1}};

	enable_all();
	wr(0, LVTT, 0x40);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(divides); i++) {
		uint64_t now = vc_clock_now(&fx.clock);
		wr(0, TDCR, divides[i].tdcr);
		wr(0, TMICT, 1000);
		fx_set_time(now + 300 * divides[i].divisor);
		ck_assert_uint_eq(rd(0, TMCCT), 700);
		fx_set_time(now + 1000 * divides[i].divisor);
		ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x40);
		wr(0, EOI, 0);
	}
	/* a change on the way keeps what is left */
	wr(0, TDCR, 0xb);
	wr(0, TMICT, 1000);
	fx_advance(400, 400);
	wr(0, TDCR, 0);
	ck_assert_uint_eq(rd(0, TMCCT), 600);
	fx_advance(1199, 1199);
	ck_assert_int_eq(vc_lapic_pending(cpu(0)), -1);
	fx_advance(1, 1);
	ck_assert_int_eq(vc_lapic_pending(cpu(0)), 0x40);
	/* the longest count */
	wr(0, TDCR, 0xa);
	wr(0, TMICT, 0xffffffff);
	fx_advance(128000000000, 32000000000);
	ck_assert_uint_eq(rd(0, TMCCT), 0xffffffff - 1000000000u);
}
END_TEST

START_TEST(timer_periodic)
{
	enable_all();
	wr(0, TDCR, 0xb);
	wr(0, LVTT, 0x20040);
	wr(0, TMICT, 1000000);
	for (unsigned i = 1; i <= 100; i++) {
		fx_set_time(i * 1000000ull - 1);
		ck_assert_int_eq(vc_lapic_accept(cpu(0)), -1);
		ck_assert_uint_eq(rd(0, TMCCT), 1);
		fx_set_time(i * 1000000ull);
		ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x40);
		wr(0, EOI, 0);
		ck_assert_uint_eq(rd(0, TMCCT), 1000000);
	}
	/* late by three and a half periods: one interrupt, in phase */
	fx_set_time(103500000);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x40);
	wr(0, EOI, 0);
	ck_assert_uint_eq(rd(0, TMCCT), 500000);
	fx_set_time(103999999);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), -1);
	fx_set_time(104000000);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x40);
	wr(0, EOI, 0);
	/* a period of one nanosecond does not keep the loop busy */
	unsigned before = events[0][VC_LAPIC_IRQ];
	wr(0, TMICT, 1);
	fx_advance(1000000, 1000);
	ck_assert_uint_le(events[0][VC_LAPIC_IRQ] - before, 110);
	/* to one-shot: the period that runs is the last */
	wr(0, TMICT, 1000000);
	wr(0, LVTT, 0x40);
	fx_advance(2000000, 500000);
	vc_lapic_accept(cpu(0));
	wr(0, EOI, 0);
	fx_advance(5000000, 500000);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), -1);
}
END_TEST

START_TEST(timer_tsc_deadline)
{
	enable_all();
	fx_set_time(1000);
	/* not in that mode: ignored */
	ck_assert_int_eq(vc_lapic_msr_write(cpu(0), 0x6e0, 10000), 0);
	ck_assert_uint_eq(msr(0, 0x6e0), 0);
	wr(0, LVTT, 0x40040);
	ck_assert_int_eq(vc_lapic_msr_write(cpu(0), 0x6e0, 10001), 0); /* 4000.4 ns */
	ck_assert_uint_eq(msr(0, 0x6e0), 10001);
	wr(0, TMICT, 5); /* ignored */
	ck_assert_uint_eq(rd(0, TMICT), 0);
	ck_assert_uint_eq(rd(0, TMCCT), 0);
	fx_set_time(4000);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), -1);
	fx_set_time(4001);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x40);
	wr(0, EOI, 0);
	ck_assert_uint_eq(msr(0, 0x6e0), 0);
	/* in the past: at once; zero disarms */
	vc_lapic_msr_write(cpu(0), 0x6e0, 1);
	fx_run();
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x40);
	wr(0, EOI, 0);
	vc_lapic_msr_write(cpu(0), 0x6e0, 20000);
	vc_lapic_msr_write(cpu(0), 0x6e0, 0);
	fx_set_time(10000);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), -1);
	/* another mode disarms */
	vc_lapic_msr_write(cpu(0), 0x6e0, 50000);
	wr(0, LVTT, 0x40);
	ck_assert_uint_eq(msr(0, 0x6e0), 0);
	wr(0, LVTT, 0x40040);
	fx_set_time(30000);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), -1);
	/* offsets, also negative ones, move the deadline */
	vc_lapic_set_tsc_offset(cpu(0), 25000);
	vc_lapic_msr_write(cpu(0), 0x6e0, 25000 + 100000); /* 40000 ns */
	vc_lapic_set_tsc_offset(cpu(0), (uint64_t)-25000); /* 60000 ns */
	fx_set_time(59999);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), -1);
	fx_set_time(60000);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x40);
	wr(0, EOI, 0);
	vc_lapic_msr_write(cpu(0), 0x6e0, 200000); /* 90000 ns */
	vc_lapic_set_tsc_offset(cpu(0), 60000);    /* makes it past */
	fx_run();
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), 0x40);
	wr(0, EOI, 0);
	/* never */
	vc_lapic_msr_write(cpu(0), 0x6e0, UINT64_MAX);
	fx_advance(1000000000000, 100000000000);
	ck_assert_int_eq(vc_lapic_accept(cpu(0)), -1);
}
END_TEST

START_TEST(save_and_load)
{
	struct vc_lapic_state s, t;

	enable_all();
	wr(2, TPR, 0x20);
	wr(2, LDR, 0x04000000);
	wr(2, TDCR, 0xb);
	wr(2, LVTT, 0x20040);
	wr(2, TMICT, 1000000);
	fixed(2, 0x55, true);
	fixed(2, 0x75, false);
	ck_assert_int_eq(vc_lapic_accept(cpu(2)), 0x75);
	icr(2, 2, 0x05); /* an error, not yet readable */
	fx_advance(300000, 300000);
	vc_lapic_save(cpu(2), &s);
	ck_assert_uint_eq(vc_ld32(s.regs + ID), 2u << 24);
	ck_assert_uint_eq(vc_ld32(s.regs + TMCCT), 700000);
	vc_lapic_reset(cpu(2), false);
	ck_assert_int_eq(vc_lapic_load(cpu(2), &s), 0);
	vc_lapic_save(cpu(2), &t);
	ck_assert_mem_eq(&s, &t, sizeof s);
	ck_assert_uint_eq(rd(2, PPR), 0x70);
	wr(2, ESR, 0);
	ck_assert_uint_eq(rd(2, ESR), 0x20);
	wr(2, EOI, 0);
	ck_assert_int_eq(vc_lapic_accept(cpu(2)), 0x55);
	wr(2, EOI, 0);
	ck_assert_uint_eq(last_eoi, 0x55);
	fx_advance(700000, 700000);
	ck_assert_int_eq(vc_lapic_accept(cpu(2)), 0x40);
	fx_advance(1000000, 1000000);
	ck_assert_int_eq(vc_lapic_pending(cpu(2)), -1);
	wr(2, EOI, 0);
	ck_assert_int_eq(vc_lapic_accept(cpu(2)), 0x40);

	/* TSC deadline, x2APIC */
	to_x2apic(1);
	vc_lapic_msr_write(cpu(1), 0x832, 0x40041);
	vc_lapic_msr_write(cpu(1), 0x830, 0x12345678ull << 32 | 0x40);
	uint64_t now = vc_clock_now(&fx.clock);
	vc_lapic_msr_write(cpu(1), 0x6e0, (now + 1000) * 5 / 2);
	vc_lapic_save(cpu(1), &s);
	vc_lapic_reset(cpu(1), false);
	ck_assert_int_eq(vc_lapic_load(cpu(1), &s), 0);
	ck_assert_uint_eq(msr(1, 0x830), 0x12345678ull << 32 | 0x40);
	ck_assert_uint_eq(msr(1, 0x6e0), (now + 1000) * 5 / 2);
	fx_advance(1000, 1000);
	ck_assert_int_eq(vc_lapic_accept(cpu(1)), 0x41);
}
END_TEST

START_TEST(hostile_load)
{
	struct vc_lapic_state good, s;
	uint32_t seed = 7;

	enable_all();
	vc_lapic_save(cpu(0), &good);
	s = good;
	s.version = 2;
	ck_assert_int_eq(vc_lapic_load(cpu(0), &s), -EINVAL);
	s = good;
	s.base = VC_LAPIC_BASE | 0x400;
	ck_assert_int_eq(vc_lapic_load(cpu(0), &s), -EINVAL);
	s.base = 1ull << 60 | 0x800;
	ck_assert_int_eq(vc_lapic_load(cpu(0), &s), -EINVAL);
	for (unsigned i = 0; i < 500; i++) {
		s = good;
		for (unsigned n = 0; n < sizeof s.regs; n++) {
			seed = seed * 1664525 + 1013904223;
			s.regs[n] = (uint8_t)(seed >> 24);
		}
		s.tsc_deadline = (uint64_t)seed << 32 | seed;
		s.errors = seed;
		ck_assert_int_eq(vc_lapic_load(cpu(0), &s), 0);
		fx_advance(100000, 10000);
		int vector = vc_lapic_accept(cpu(0));
		ck_assert(vector == -1 || vector >= 16);
		for (uint32_t reg = 0; reg < 0x400; reg += 0x10)
			rd(0, reg);
		vc_lapic_eoi(cpu(0));
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("lapic");
	TCase *tc = tcase_create("lapic");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, after_reset);
	tcase_add_test(tc, register_masks);
	tcase_add_test(tc, priorities);
	tcase_add_test(tc, task_priority);
	tcase_add_test(tc, level_and_eoi_broadcast);
	tcase_add_test(tc, pv_eoi);
	tcase_add_test(tc, software_disabled);
	tcase_add_test(tc, icr_physical_and_shorthands);
	tcase_add_test(tc, logical_flat_and_cluster);
	tcase_add_test(tc, lowest_priority);
	tcase_add_test(tc, msi);
	tcase_add_test(tc, base_transitions);
	tcase_add_test(tc, x2apic_registers);
	tcase_add_test(tc, x2apic_messages);
	tcase_add_test(tc, errors);
	tcase_add_test(tc, lint_pins);
	tcase_add_test(tc, timer_one_shot);
	tcase_add_test(tc, timer_divide);
	tcase_add_test(tc, timer_periodic);
	tcase_add_test(tc, timer_tsc_deadline);
	tcase_add_test(tc, save_and_load);
	tcase_add_test(tc, hostile_load);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
