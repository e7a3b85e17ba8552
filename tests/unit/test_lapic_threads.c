/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* LAPICs, IOAPIC and PIC under delivery from many threads at once; for ThreadSanitizer, and no interrupt may be lost.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "chip_fixture.h"

#define CPUS   3
#define ROUNDS 20000u

static struct vc_clock clock_;
static struct vc_loop *loop;
static struct vc_lapics *lapics;
static struct vc_ioapic *ioapic;
static sem_t wake[CPUS];
static _Atomic unsigned accepted[CPUS][256];
static _Atomic bool stop;
static _Atomic bool level_line;

static void on_event(void *ctx, unsigned vcpu, enum vc_lapic_event event, uint8_t arg)
{
	sem_post(&wake[vcpu]);
}

static void on_eoi(void *ctx, uint8_t vector)
{
	vc_ioapic_eoi(ioapic, vector);
}

static int deliver(void *ctx, uint64_t address, uint32_t data)
{
	return vc_lapics_msi(lapics, address, data);
}

/* A vcpu: takes what is pending, ends it, sends IPIs on, plays with its priority. */
static void *vcpu_thread(void *arg)
{
	unsigned n = (unsigned)(uintptr_t)arg;
	struct vc_lapic *l = vc_lapics_get(lapics, n);
	unsigned turn = 0;

	while (!atomic_load(&stop)) {
		struct timespec until;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec++;
		sem_timedwait(&wake[n], &until);
		while (vc_lapic_pending(l) >= 0) {
			int vector = vc_lapic_accept(l);
			if (vector < 0)
				break;
			if (vector == 0x60) /* the level line: served, so the device lowers it */
				vc_ioapic_set(ioapic, 16, false);
			atomic_fetch_add(&accepted[n][vector], 1);
			vc_lapic_mmio_write(l, 0x80, turn++ % 3 << 4);
			vc_lapic_eoi(l);
			if (vector == 0x60)
				atomic_store(&level_line, false);
		}
		vc_lapic_mmio_write(l, 0x80, 0);
	}
	return NULL;
}

/* Wait until vcpu n has taken `vector` more than `before` times; each wait is one lost-wakeup check. */
static void await(unsigned n, uint8_t vector, unsigned before)
{
	for (unsigned i = 0; atomic_load(&accepted[n][vector]) == before; i++) {
		ck_assert_uint_lt(i, 20000);
		nanosleep(&(struct timespec){.tv_nsec = i < 100 ? 10000 : 1000000}, NULL);
	}
}

static void *msi_thread(void *arg)
{
	unsigned n = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		vc_lapics_msi(lapics, 0xfee00000u | (i % CPUS) << 12, 0x80 + n * 16 + i % 7);
		if (i % 256 == 0) {
			uint8_t vector = (uint8_t)(0xe0 + n);
			unsigned target = i / 256 % CPUS, before = atomic_load(&accepted[target][vector]);
			vc_lapics_msi(lapics, 0xfee00000u | target << 12, vector);
			await(target, vector, before);
		}
	}
	return NULL;
}

static void *level_thread(void *arg)
{
	for (unsigned i = 0; i < 500; i++) {
		atomic_store(&level_line, true);
		vc_ioapic_set(ioapic, 16, true);
		for (unsigned k = 0; atomic_load(&level_line); k++) {
			ck_assert_uint_lt(k, 20000);
			nanosleep(&(struct timespec){.tv_nsec = k < 100 ? 10000 : 1000000}, NULL);
		}
	}
	return NULL;
}

static void start(void)
{
	fx_setup();
	vc_clock_init(&clock_);
	ck_assert_int_eq(vc_loop_new(&clock_, true, &loop), 0);
	struct vc_lapics_config config = {
	    .count = CPUS,
	    .loop = loop,
	    .clock = &clock_,
	    .tsc_khz = 1000000,
	    .notify = on_event,
	    .eoi = on_eoi,
	};
	for (unsigned n = 0; n < CPUS; n++)
		sem_init(&wake[n], 0, 0);
	ck_assert_int_eq(vc_lapics_new(&config, &lapics), 0);
	ck_assert_int_eq(vc_ioapic_new(&fx.env, VC_IOAPIC_BASE, 0, deliver, NULL, &ioapic), 0);
	for (unsigned n = 0; n < CPUS; n++)
		vc_lapic_mmio_write(vc_lapics_get(lapics, n), 0xf0, 0x1ff);
	mmio_write(VC_IOAPIC_BASE, 4, 0x31);
	mmio_write(VC_IOAPIC_BASE + 0x10, 4, 1u << 24);
	mmio_write(VC_IOAPIC_BASE, 4, 0x30);
	mmio_write(VC_IOAPIC_BASE + 0x10, 4, 0x8060);
}

START_TEST(delivery)
{
	pthread_t vcpus[CPUS], senders[3];

	start();
	/* periodic timers from the loop's thread */
	for (unsigned n = 0; n < CPUS; n++) {
		vc_lapic_mmio_write(vc_lapics_get(lapics, n), 0x3e0, 0xb);
		vc_lapic_mmio_write(vc_lapics_get(lapics, n), 0x320, 0x20040);
		vc_lapic_mmio_write(vc_lapics_get(lapics, n), 0x380, 200000);
	}
	for (uintptr_t n = 0; n < CPUS; n++)
		ck_assert_int_eq(pthread_create(&vcpus[n], NULL, vcpu_thread, (void *)n), 0);
	for (uintptr_t n = 0; n < 2; n++)
		ck_assert_int_eq(pthread_create(&senders[n], NULL, msi_thread, (void *)n), 0);
	ck_assert_int_eq(pthread_create(&senders[2], NULL, level_thread, NULL), 0);
	for (unsigned n = 0; n < 3; n++)
		pthread_join(senders[n], NULL);
	/* on a busy host the loop's thread may not have had a CPU yet */
	for (unsigned n = 0; n < CPUS; n++)
		await(n, 0x40, 0);
	atomic_store(&stop, true);
	for (unsigned n = 0; n < CPUS; n++) {
		sem_post(&wake[n]);
		pthread_join(vcpus[n], NULL);
		ck_assert_uint_gt(atomic_load(&accepted[n][0x40]), 0);
	}
	ck_assert_uint_ge(atomic_load(&accepted[1][0x60]), 500);
	vc_lapics_free(lapics);
	vc_loop_free(loop);
	fx_teardown();
}
END_TEST

static struct vc_pic *pic;
static _Atomic bool intr;

static void on_intr(void *ctx, bool level)
{
	atomic_store(&intr, level);
}

static void *pic_thread(void *arg)
{
	unsigned pin = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		vc_pic_set(pic, pin, true);
		vc_pic_set(pic, pin, false);
		if (pin == 1)
			vc_pic_accept(pic);
	}
	return NULL;
}

START_TEST(pic_output)
{
	pthread_t threads[3];

	fx_setup();
	ck_assert_int_eq(vc_pic_new(&fx.env, on_intr, NULL, &pic), 0);
	for (unsigned i = 0; i < 4; i++)
		out8(i ? 0x21 : 0x20, (const uint8_t[]){0x11, 0x30, 4, 3}[i]);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, pic_thread, (void *)(uintptr_t)(i * 5 + 1)), 0);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	/* whatever the interleaving, the last word is true */
	ck_assert(atomic_load(&intr) == vc_pic_pending(pic));
	while (vc_pic_pending(pic))
		vc_pic_accept(pic);
	ck_assert(!atomic_load(&intr));
	fx_teardown();
}
END_TEST

/* The power button from one thread, its acknowledgement from others: the sink ends with the line's level. */
static struct vc_acpi_pm *pm;

static void *button_thread(void *arg)
{
	for (unsigned i = 0; i < ROUNDS; i++)
		vc_acpi_pm_power_button(pm);
	return NULL;
}

static void *acknowledge_thread(void *arg)
{
	for (unsigned i = 0; i < ROUNDS; i++)
		out_wide(VC_PM_BASE, 2, 0x100);
	return NULL;
}

START_TEST(line_order)
{
	pthread_t threads[3];

	fx_setup();
	ck_assert_int_eq(vc_acpi_pm_new(&fx.env, VC_PM_BASE, &pm), 0);
	out_wide(VC_PM_BASE + 2, 2, 0x100);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, i == 0 ? button_thread : acknowledge_thread, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	ck_assert(fx.level[9] == !!(in_wide(VC_PM_BASE, 2) & 0x100));
	vc_acpi_pm_power_button(pm);
	ck_assert(fx.level[9]);
	out_wide(VC_PM_BASE, 2, 0x100);
	ck_assert(!fx.level[9]);
	fx_teardown();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("lapic threads");
	TCase *tc = tcase_create("lapic threads");

	tcase_set_timeout(tc, 110);
	tcase_add_test(tc, delivery);
	tcase_add_test(tc, pic_output);
	tcase_add_test(tc, line_order);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
