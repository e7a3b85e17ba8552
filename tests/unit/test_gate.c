/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lib/core/gate: exclusion, turns, nesting, and no deadlock. Run it in a -Db_sanitize=thread build too. */
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "core/gate.h"

#define VCPUS  3
#define ROUNDS 2000

struct vcpu {
	struct vc_pass pass;
	struct machine *m;
	_Atomic uint32_t kicks;
	uint64_t runs;
	pthread_t thread;
};

struct machine {
	struct vc_gate gate;
	struct vcpu vcpu[VCPUS];
	uint64_t table; /* not atomic: the gate protects it. Changed in pairs; odd never seen from outside */
	_Atomic uint32_t stop, wrong;
};

static void kick(void *ctx)
{
	struct vcpu *v = ctx;

	atomic_fetch_add(&v->kicks, 1);
}

static void setup(struct machine *m)
{
	memset(m, 0, sizeof *m);
	ck_assert_int_eq(vc_gate_init(&m->gate), 0);
	for (int i = 0; i < VCPUS; i++) {
		m->vcpu[i].m = m;
		vc_gate_add(&m->gate, &m->vcpu[i].pass, kick, &m->vcpu[i]);
	}
}

static void teardown(struct machine *m)
{
	for (int i = 0; i < VCPUS; i++)
		vc_gate_remove(&m->gate, &m->vcpu[i].pass);
	vc_gate_fini(&m->gate);
}

static void change(struct machine *m, struct vc_pass *self)
{
	vc_gate_begin(&m->gate, self);
	m->table++;
	sched_yield();
	vc_gate_begin(&m->gate, self); /* nested */
	m->table++;
	vc_gate_end(&m->gate, self);
	if (m->table & 1)
		atomic_fetch_add(&m->wrong, 1);
	vc_gate_end(&m->gate, self);
}

/* Guest code for a while; now and then a vcpu changes the map itself, from inside or from a callback (outside). */
static void *run_vcpu(void *arg)
{
	struct vcpu *v = arg;
	struct machine *m = v->m;

	vc_gate_enter(&v->pass);
	while (!atomic_load(&m->stop)) {
		if (m->table & 1)
			atomic_fetch_add(&m->wrong, 1);
		v->runs++;
		if (v->runs % 61 == 0)
			change(m, &v->pass);
		if (vc_gate_wanted(&v->pass) || v->runs % 7 == 0) {
			vc_gate_leave(&v->pass);
			if (v->runs % 29 == 0)
				change(m, NULL);
			if (v->runs % 31 == 0)
				change(m, &v->pass); /* its own pass, but outside: stays outside */
			if (atomic_load(&v->pass.inside))
				atomic_fetch_add(&m->wrong, 1);
			vc_gate_enter(&v->pass);
		}
		if (!atomic_load(&v->pass.inside))
			atomic_fetch_add(&m->wrong, 1);
	}
	vc_gate_leave(&v->pass);
	return NULL;
}

static void *run_changer(void *arg)
{
	for (int i = 0; i < ROUNDS; i++)
		change(arg, NULL);
	return NULL;
}

START_TEST(test_many_threads)
{
	struct machine *m = malloc(sizeof *m);
	pthread_t changer[2];

	setup(m);
	for (int i = 0; i < VCPUS; i++)
		ck_assert_int_eq(pthread_create(&m->vcpu[i].thread, NULL, run_vcpu, &m->vcpu[i]), 0);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&changer[i], NULL, run_changer, m), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(changer[i], NULL);
	atomic_store(&m->stop, 1);
	for (int i = 0; i < VCPUS; i++)
		pthread_join(m->vcpu[i].thread, NULL);
	ck_assert_uint_eq(m->wrong, 0);
	ck_assert_uint_ge(m->table, 2 * 2 * ROUNDS);
	ck_assert_uint_eq(m->table % 2, 0);
	teardown(m);
	free(m);
}
END_TEST

START_TEST(test_own_pass)
{
	struct machine m;
	struct vc_pass *self = &m.vcpu[0].pass;

	setup(&m);
	vc_gate_enter(self);
	vc_gate_begin(&m.gate, self);
	ck_assert_uint_eq(self->inside, 0);
	vc_gate_begin(&m.gate, self);
	vc_gate_end(&m.gate, self);
	ck_assert_uint_eq(self->inside, 0);
	vc_gate_end(&m.gate, self);
	ck_assert_uint_eq(self->inside, 1);
	ck_assert_uint_eq(m.vcpu[0].kicks, 0); /* nobody to wait for */
	vc_gate_leave(self);
	vc_gate_begin(&m.gate, self);
	vc_gate_end(&m.gate, self);
	ck_assert_uint_eq(self->inside, 0);
	/* the owner itself may step in while it holds the gate */
	vc_gate_begin(&m.gate, NULL);
	vc_gate_enter(self);
	ck_assert_uint_eq(self->inside, 1);
	vc_gate_leave(self);
	vc_gate_end(&m.gate, NULL);
	teardown(&m);
}
END_TEST

static void *wait_for_kick(void *arg)
{
	struct vcpu *v = arg;

	vc_gate_enter(&v->pass);
	atomic_store(&v->m->stop, 1);
	while (!atomic_load(&v->kicks))
		sched_yield();
	v->m->table = 5;
	vc_gate_leave(&v->pass);
	return NULL;
}

START_TEST(test_kick)
{
	struct machine m;

	setup(&m);
	ck_assert_int_eq(pthread_create(&m.vcpu[1].thread, NULL, wait_for_kick, &m.vcpu[1]), 0);
	while (!atomic_load(&m.stop))
		sched_yield();
	vc_gate_begin(&m.gate, NULL);
	ck_assert_uint_eq(m.table, 5);
	ck_assert(vc_gate_wanted(&m.vcpu[0].pass));
	vc_gate_end(&m.gate, NULL);
	ck_assert(!vc_gate_wanted(&m.vcpu[0].pass));
	pthread_join(m.vcpu[1].thread, NULL);
	ck_assert_uint_eq(m.vcpu[1].kicks, 1);
	ck_assert_uint_eq(m.vcpu[0].kicks, 0); /* outside: left in peace */
	teardown(&m);
}
END_TEST

/* Two threads inside their own passes begin at once, again and again. */
static void *begin_inside(void *arg)
{
	struct vcpu *v = arg;

	vc_gate_enter(&v->pass);
	for (int i = 0; i < ROUNDS; i++)
		change(v->m, &v->pass);
	vc_gate_leave(&v->pass);
	return NULL;
}

START_TEST(test_begin_against_begin)
{
	struct machine m;

	setup(&m);
	for (int i = 0; i < VCPUS; i++)
		ck_assert_int_eq(pthread_create(&m.vcpu[i].thread, NULL, begin_inside, &m.vcpu[i]), 0);
	for (int i = 0; i < VCPUS; i++)
		pthread_join(m.vcpu[i].thread, NULL);
	ck_assert_uint_eq(m.wrong, 0);
	ck_assert_uint_eq(m.table, 2ull * VCPUS * ROUNDS);
	teardown(&m);
}
END_TEST

START_TEST(test_busy)
{
	struct machine m;
	int device, other;

	setup(&m);
	atomic_store(&m.vcpu[2].pass.busy, &device);
	atomic_store(&m.vcpu[2].pass.thread, pthread_self());
	ck_assert(vc_gate_busy(&m.gate, &device, false));
	ck_assert(vc_gate_busy(&m.gate, &device, true));
	ck_assert(!vc_gate_busy(&m.gate, &other, false));
	atomic_store(&m.vcpu[2].pass.thread, (pthread_t)0);
	ck_assert(vc_gate_busy(&m.gate, &device, false));
	ck_assert(!vc_gate_busy(&m.gate, &device, true));
	teardown(&m);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gate");
	TCase *c = tcase_create("gate");

	tcase_set_timeout(c, 60);
	tcase_add_test(c, test_own_pass);
	tcase_add_test(c, test_kick);
	tcase_add_test(c, test_begin_against_begin);
	tcase_add_test(c, test_many_threads);
	tcase_add_test(c, test_busy);
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
