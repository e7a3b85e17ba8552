/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots of machines whose timers and interrupts are at work, on each kind of interrupt controllers and across. */
#include "api.h"

/* mov dword [address], value */
#define STORE(address, value)                                                                                        \
	0xc7, 0x05, (address)&0xff, (address) >> 8 & 0xff, (address) >> 16 & 0xff, (address) >> 24 & 0xff, (value)&0xff, \
	    (value) >> 8 & 0xff, (value) >> 16 & 0xff, (value) >> 24 & 0xff
#define IOAPIC_SET(reg, value)  STORE(0xfec00000u, reg), STORE(0xfec00010u, value)
#define IOAPIC_PIN(pin, vector) IOAPIC_SET(0x11 + 2 * (pin), 0), IOAPIC_SET(0x10 + 2 * (pin), vector)
#define OUT(port, value)        0xb0, value, 0xe6, port
#define FOR_EVER                0xfb, 0xf4, 0xeb, 0xfd /* sti; hlt; jmp to the hlt */

enum { PIT_VECTOR = 0x42, EDGE_VECTOR = 0x45, LEVEL_VECTOR = 0x4a, TIMER_VECTOR = 0x50, PIC_VECTOR = 0x60 };
enum { EDGE_PIN = 5, LEVEL_PIN = 10 };

#define APIC_ON STORE(0xfee000f0u, 0x1ff)
/*
 * The PIT at 1 kHz through IOAPIC pin 2, two lines, and the LAPIC's timer: every 20 ms, for its vector has the highest
 * priority, and under a sanitizer on a busy host the guest may need more than 1 ms for one interrupt.
 */
static const uint8_t timers_on[] = {APIC_ON,
                                    IOAPIC_PIN(EDGE_PIN, EDGE_VECTOR),
                                    IOAPIC_PIN(LEVEL_PIN, 0x8000 | LEVEL_VECTOR),
                                    IOAPIC_PIN(2, PIT_VECTOR),
                                    OUT(0x43, 0x34),
                                    OUT(0x40, 0xa9),
                                    OUT(0x40, 0x04),
                                    STORE(0xfee003e0u, 0xb),
                                    STORE(0xfee00320u, 0x20000 | TIMER_VECTOR),
                                    STORE(0xfee00380u, 20000000),
                                    FOR_EVER};

/* The PIT through the 8259s, in automatic EOI mode. */
static const uint8_t pic_on[] = {OUT(0x20, 0x11), OUT(0x21, PIC_VECTOR), OUT(0x21, 4),    OUT(0x21, 3), OUT(0x21, 0xfe),
                                 OUT(0x43, 0x34), OUT(0x40, 0xa9),       OUT(0x40, 0x04), FOR_EVER};

/* The LAPIC's timer in TSC-deadline mode, anew in its handler's place: 2^20 ticks from now, for ever. */
static const uint8_t deadline_on[] = {APIC_ON, STORE(0xfee00320u, 0x40000 | TIMER_VECTOR),
                                      0x0f,    0x31, /* rdtsc */
                                      0x05,    0x00,
                                      0x00,    0x10,
                                      0x00,    0x83,
                                      0xd2,    0x00, /* + 2^20 */
                                      0xb9,    0xe0,
                                      0x06,    0x00,
                                      0x00,    0x0f,
                                      0x30, /* wrmsr 0x6e0 */
                                      0xfb,    0xf4,
                                      0xfa,    0xeb,
                                      0xea /* sti; hlt; cli; jmp to rdtsc */};

static const struct kind {
	uint32_t backend, irqchip;
} kinds[] = {{VCORE_BACKEND_EMU, VCORE_IRQCHIP_USER},
             {VCORE_BACKEND_KVM, VCORE_IRQCHIP_FULL},
             {VCORE_BACKEND_KVM, VCORE_IRQCHIP_SPLIT},
             {VCORE_BACKEND_KVM, VCORE_IRQCHIP_USER}};
#define KINDS ((int)(sizeof kinds / sizeof kinds[0]))

static bool has_backend(uint32_t backend)
{
	for (int b = 0; b < api_backend_count(); b++)
		if (api_backend(b) == backend)
			return true;
	return false;
}

/* Not every host can give a guest another TSC frequency than its own; emu can give any. */
static uint64_t tsc_khz(void)
{
	struct vcore_vm_info info = {.size = sizeof info};
	vcore_vm *vm;

	if (!has_backend(VCORE_BACKEND_KVM))
		return 0;
	OK(vcore_vm_new(&(struct vcore_options){.size = sizeof(struct vcore_options), .backend = VCORE_BACKEND_KVM}, &vm));
	OK(vcore_vm_get_info(vm, &info));
	vcore_vm_unref(vm);
	return info.tsc_khz;
}

/* A microvm with CPU features that both backends have. NULL: not here. */
static vcore_vm *machine(int kind)
{
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .backend = kinds[kind].backend,
	                          .irqchip = kinds[kind].irqchip,
	                          .cpu = "qemu64,-vme,-sse3,+tsc-deadline,-kvm-pv-unhalt,-kvm-pv-ipi",
	                          .memory = 4 * RAM,
	                          .tsc_khz = tsc_khz(),
	                          .vcpus = 1};
	vcore_vm *vm = NULL;
	int r;

	if (!has_backend(o.backend))
		return NULL;
	r = vcore_vm_new(&o, &vm);
	if (r == -ENOTSUP) {
		printf("%s\n", vcore_error_message());
		return NULL;
	}
	OK(r);
	return vm;
}

static vcore_vm *running(int kind, const uint8_t *code, size_t length, bool lapic)
{
	vcore_vm *vm = machine(kind);

	if (!vm)
		return NULL;
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, code, length);
	api_tables(vm, 0, lapic);
	OK(vcore_vm_start(vm));
	return vm;
}

static void more(vcore_vm *vm, unsigned vector)
{
	api_until_count(vm, vector, api_count(vm, vector) + 3);
}

static void pulse(vcore_vm *vm, uint32_t gsi, unsigned vector)
{
	uint32_t before = api_count(vm, vector);

	OK(vcore_irq_set(vm, gsi, true));
	OK(vcore_irq_set(vm, gsi, false));
	api_until_count(vm, vector, before + 1);
}

static void all_at_work(vcore_vm *vm)
{
	more(vm, PIT_VECTOR);
	more(vm, TIMER_VECTOR);
	pulse(vm, EDGE_PIN, EDGE_VECTOR);
	pulse(vm, LEVEL_PIN, LEVEL_VECTOR);
}

static void pic_at_work(vcore_vm *vm)
{
	more(vm, PIC_VECTOR);
}

static void deadlines_at_work(vcore_vm *vm)
{
	more(vm, TIMER_VECTOR);
}

static vcore_vm *clone_on(vcore_snapshot *s, uint32_t backend)
{
	struct vcore_clone_options o = {.size = sizeof o, .backend = backend};
	vcore_vm *vm = NULL;

	OK(vcore_snapshot_clone(s, &o, &vm));
	OK(vcore_vm_start(vm));
	return vm;
}

static void end(vcore_vm *vm)
{
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, NULL));
	vcore_vm_unref(vm);
}

/* Clones on the same backend and on the other one, from there back, and going back. */
static void there_and_back(vcore_vm *vm, int kind, void (*at_work)(vcore_vm *vm))
{
	uint32_t here = kinds[kind].backend, there = here == VCORE_BACKEND_EMU ? VCORE_BACKEND_KVM : VCORE_BACKEND_EMU;
	vcore_snapshot *first, *second;
	vcore_vm *twin;

	at_work(vm);
	OK(vcore_snapshot_take(vm, &first));
	at_work(vm);
	twin = clone_on(first, here);
	at_work(twin);
	for (unsigned n = 0; n < 3; n++) {
		OK(vcore_vm_reset_to(twin, first));
		at_work(twin);
		OK(vcore_vm_reset_to(vm, first));
		at_work(vm);
	}
	end(twin);
	if (has_backend(there)) {
		twin = clone_on(first, there);
		at_work(twin);
		OK(vcore_snapshot_take(twin, &second));
		OK(vcore_vm_reset_to(twin, first));
		at_work(twin);
		end(twin);
		twin = clone_on(second, here);
		at_work(twin);
		OK(vcore_vm_reset_to(twin, second));
		at_work(twin);
		end(twin);
		vcore_snapshot_unref(second);
	}
	vcore_snapshot_unref(first);
	end(vm);
}

START_TEST(timers_and_lines)
{
	vcore_vm *vm = running(_i, timers_on, sizeof timers_on, true);

	if (vm)
		there_and_back(vm, _i, all_at_work);
}
END_TEST

START_TEST(through_the_8259)
{
	vcore_vm *vm = running(_i, pic_on, sizeof pic_on, false);

	if (vm)
		there_and_back(vm, _i, pic_at_work);
}
END_TEST

START_TEST(tsc_deadlines)
{
	vcore_vm *vm = kinds[_i].irqchip == VCORE_IRQCHIP_USER && kinds[_i].backend == VCORE_BACKEND_KVM
	                   ? NULL /* has none */
	                   : running(_i, deadline_on, sizeof deadline_on, true);

	if (vm)
		there_and_back(vm, _i, deadlines_at_work);
}
END_TEST

/* A line that is asserted while the snapshot is taken is asserted in the clone, until it is let go. */
START_TEST(asserted_line)
{
	vcore_vm *vm = running(_i, timers_on, sizeof timers_on, true), *twin;
	vcore_snapshot *s;
	uint32_t before;

	if (!vm)
		return;
	more(vm, PIT_VECTOR);
	OK(vcore_irq_set(vm, LEVEL_PIN, true));
	more(vm, LEVEL_VECTOR);
	OK(vcore_snapshot_take(vm, &s));
	for (int b = 0; b < api_backend_count(); b++) {
		twin = clone_on(s, api_backend(b));
		more(twin, LEVEL_VECTOR);
		OK(vcore_irq_set(twin, LEVEL_PIN, false));
		more(twin, PIT_VECTOR); /* one that was on its way is of higher priority */
		before = api_count(twin, LEVEL_VECTOR);
		more(twin, PIT_VECTOR);
		ck_assert_uint_eq(api_count(twin, LEVEL_VECTOR), before);
		pulse(twin, LEVEL_PIN, LEVEL_VECTOR);
		end(twin);
	}
	vcore_snapshot_unref(s);
	end(vm);
}
END_TEST

/* ---- an EOI by the paravirtual flag ---- */

enum { HANDLER = 0x1200, EOI_FLAG = 0x8010, TIMER_GATE = 0x3000 + 8 * TIMER_VECTOR /* in api_tables()' IDT */ };
#define COUNT_CELL (API_COUNTS + 4 * TIMER_VECTOR)

/* clang-format off */
static const uint8_t flag_on[] = {
	APIC_ON, STORE(0xfee00320u, TIMER_VECTOR), STORE(0xfee003e0u, 0xb),
	0xb9, 0x04, 0x4d, 0x56, 0x4b, /* mov ecx, MSR_KVM_PV_EOI_EN */
	0xb8, (EOI_FLAG | 1) & 0xff, EOI_FLAG >> 8, 0, 0, 0x31, 0xd2, 0x0f, 0x30, /* wrmsr */
	STORE(0xfee00380u, 30000), FOR_EVER};

/* Ends its interrupt as Linux does, and asks for the next one. */
static const uint8_t flag_handler[] = {
	0xff, 0x05, COUNT_CELL & 0xff, COUNT_CELL >> 8, 0, 0, /* inc */
	0xf0, 0x0f, 0xba, 0x35, EOI_FLAG & 0xff, EOI_FLAG >> 8, 0, 0, 0, /* lock btr dword [EOI_FLAG], 0 */
	0x72, 10, /* jc: that was enough */
	STORE(0xfee000b0u, 0),
	STORE(0xfee00380u, 30000), 0xcf};
/* clang-format on */

/* At some time the snapshot is taken between the interrupt's delivery and its handler's first instruction. */
START_TEST(eoi_by_flag)
{
	const uint16_t offset = HANDLER;
	vcore_vm *vm = machine(0);
	vcore_snapshot *s;

	if (!vm)
		return;
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, flag_on, sizeof flag_on);
	api_tables(vm, 0, true);
	OK(vcore_memory_write(vm, HANDLER, flag_handler, sizeof flag_handler));
	OK(vcore_memory_write(vm, TIMER_GATE, &offset, sizeof offset));
	OK(vcore_memory_write(vm, TIMER_GATE + 6, (uint16_t[]){0}, 2));
	OK(vcore_vm_start(vm));
	for (unsigned n = 0; n < 300; n++) {
		OK(vcore_snapshot_take(vm, &s));
		OK(vcore_vm_reset_to(vm, s));
		more(vm, TIMER_VECTOR);
		vcore_snapshot_unref(s);
	}
	end(vm);
}
END_TEST

/* ---- the TSC ---- */

static struct vcore_vm_info info_of(vcore_vm *vm)
{
	struct vcore_vm_info info = {.size = sizeof info};

	OK(vcore_vm_get_info(vm, &info));
	return info;
}

/* How far the guest's TSC is ahead of its time, in ticks: between these, for it is read some time in between. */
struct ahead {
	int64_t least, most;
};

static struct ahead ahead_of(vcore_vm *vm)
{
	struct vcore_vm_info before = info_of(vm), after;
	double per_ns = (double)before.tsc_khz / 1e6;
	int64_t tsc;

	api_run(vm, VCORE_EXIT_HALT);
	after = info_of(vm);
	tsc = (int64_t)api_rax(vm);
	return (struct ahead){tsc - (int64_t)((double)after.time_ns * per_ns),
	                      tsc - (int64_t)((double)before.time_ns * per_ns)};
}

static void same(struct ahead a, struct ahead b, uint64_t tsc_khz)
{
	int64_t slack = (int64_t)tsc_khz * 20; /* 20 ms: between stopping one and the other on a busy host */

	ck_assert_int_le(a.least, b.most + slack);
	ck_assert_int_le(b.least, a.most + slack);
}

/* It stands and goes on with guest time: in a clone, after going back, after a pause. */
START_TEST(tsc_goes_on)
{
	/* rdtsc; shl $32, %rdx; or %rdx, %rax; hlt; jmp back */
	static const uint8_t code[] = {0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0, 0xf4, 0xeb, 0xf4};
	vcore_vm *vm = api_vm(_i, 1), *twin = NULL;
	uint64_t khz = info_of(vm).tsc_khz;
	struct ahead first;
	vcore_snapshot *s;

	if (api_is_poor_kvm(_i, "a TSC of the guest's own")) {
		vcore_vm_unref(vm);
		return;
	}
	api_load(vm, 0, VCORE_MODE_LONG64, CODE, code, sizeof code);
	first = ahead_of(vm);
	OK(vcore_snapshot_take(vm, &s));
	api_pause_ms(100);
	same(first, ahead_of(vm), khz);
	OK(vcore_snapshot_clone(s, NULL, &twin));
	api_pause_ms(100);
	same(first, ahead_of(twin), khz);
	for (unsigned n = 0; n < 5; n++) {
		OK(vcore_vm_reset_to(vm, s));
		api_pause_ms(50);
		same(first, ahead_of(vm), khz);
	}
	vcore_snapshot_unref(s);
	vcore_vm_unref(twin);
	vcore_vm_unref(vm);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("snapshot_irq");
	TCase *tc = tcase_create("all");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, timers_and_lines, 0, KINDS);
	tcase_add_loop_test(tc, through_the_8259, 0, KINDS);
	tcase_add_loop_test(tc, tsc_deadlines, 0, KINDS);
	tcase_add_loop_test(tc, asserted_line, 0, KINDS);
	tcase_add_test(tc, eoi_by_flag);
	EACH(tc, tsc_goes_on);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	return api_main(suite());
}
