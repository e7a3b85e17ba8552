/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Live migration over connections of which somebody spoils one: exactly one side has the guest, which goes on. */
#include "migrating.h"

#include <unistd.h>

/* In which way pages go, and which of the connections is spoilt. */
struct way {
	uint32_t flags, streams, which;
};

/* What has to be waited for to its end, and what has not, however slow the host is. */
#define SHORT_MS 500
#define LONG_MS  20000

struct destination {
	const struct migrating_sockets *sockets;
	uint32_t timeout_ms;
};

static void *receive_here(void *ctx)
{
	const struct destination *d = ctx;
	struct vcore_migrate_receive_options o = {.size = sizeof o, .timeout_ms = d->timeout_ms};
	vcore_vm *vm = NULL;

	migrating_destination(&o, d->sockets);
	vcore_migrate_receive(&o, &vm);
	return vm;
}

/* r: what the source was told. The one that has the guest. */
static vcore_vm *who_has_it(int r, vcore_vm *here, vcore_vm *there, uint64_t at)
{
	if (r == -ENOTRECOVERABLE) {
		/* the test knows what the connection cannot tell */
		ck_assert_uint_eq(api_state(here), VCORE_VM_PAUSED);
		ck_assert_uint_eq(migrating_info(here).state, VCORE_MIGRATE_UNDECIDED);
		if (!there)
			OK(vcore_vm_resume(here));
	} else {
		ck_assert_msg((r == 0) == (there != NULL), "source %d (%s), destination %p at %llu", r,
		              migrating_info(here).error, (void *)there, (unsigned long long)at);
	}
	if (!there) {
		ck_assert_uint_eq(api_state(here), VCORE_VM_RUNNING);
		return here;
	}
	ck_assert_uint_eq(api_word(there, COUNT), api_word(here, COUNT));
	vcore_vm_unref(here);
	OK(vcore_vm_start(there));
	return there;
}

/* True: the other side has it. */
static bool spoilt(int backend, struct way way, enum spoil how, bool backwards, uint64_t at)
{
	/* however slow the host is */
	struct vcore_migrate_options o = {
	    .size = sizeof o, .downtime_us = 10000000, .flags = VCORE_MIGRATE_AUTO_CONVERGE | way.flags};
	struct destination d = {.timeout_ms = how == STALL ? SHORT_MS : LONG_MS};
	struct proxy p = {.how = how, .backwards = backwards, .at = at};
	vcore_vm *vm = migrating_writer(backend);
	struct migrating_sockets s;
	pthread_t receiver;
	void *result;
	uint32_t count;
	int r;

	o.timeout_ms = d.timeout_ms;
	d.sockets = &s;
	migrating_connect(&s, way.streams);
	proxy_start(&p, &s.destination[way.which]);
	OK(vcore_vm_start(vm));
	migrating_goes_on(vm, 0);
	ck_assert_int_eq(pthread_create(&receiver, NULL, receive_here, &d), 0);
	migrating_source(&o, &s);
	r = vcore_migrate_send(vm, &o);
	migrating_close(s.source, s.count);
	pthread_join(receiver, &result);
	migrating_close(s.destination, s.count);
	proxy_join(&p);
	count = api_word(vm, COUNT);
	vm = who_has_it(r, vm, result, at);
	migrating_goes_on(vm, count);
	vcore_vm_unref(vm);
	return result != NULL;
}

static const struct way plain = {0, 1, 0};

/* Heads, contents, and what lies between, from the first byte to behind the last. */
START_TEST(cut_and_altered)
{
	static const uint64_t forth[] = {0,   3,    31,   32,   47,    48,     60,     80,
	                                 200, 1500, 5000, 9000, 40000, 150000, 270000, 300000};
	/* READY, LOADED and RUNS are 32 bytes each */
	static const uint64_t back[] = {0, 20, 31, 32, 50, 63, 64, 80, 95};

	for (int how = CUT; how <= ALTER; how += ALTER - CUT) {
		for (unsigned n = 0; n < sizeof forth / sizeof forth[0]; n++)
			spoilt(_i, plain, how, false, forth[n]);
		for (unsigned n = 0; n < sizeof back / sizeof back[0]; n++)
			ck_assert_int_eq(spoilt(_i, plain, how, true, back[n]), back[n] >= 64);
	}
	/* nothing was spoilt */
	ck_assert(spoilt(_i, plain, CUT, false, UINT64_MAX));
}
END_TEST

START_TEST(stalled)
{
	spoilt(_i, plain, STALL, false, 20);
	spoilt(_i, plain, STALL, false, 20000);
	ck_assert(!spoilt(_i, plain, STALL, true, 10));
	ck_assert(!spoilt(_i, plain, STALL, true, 40));
	ck_assert(spoilt(_i, plain, STALL, true, 70));
}
END_TEST

/* ---- several connections, compressed, and deltas ---- */

static const struct way ways[] = {
    {VCORE_MIGRATE_DELTA, 1, 0},
    {VCORE_MIGRATE_DELTA | VCORE_MIGRATE_ZSTD, 1, 0},
    {0, 3, 0},
    {0, 3, 2},
    {VCORE_MIGRATE_DELTA | VCORE_MIGRATE_ZSTD, 2, 1},
};
#define WAYS (int)(sizeof ways / sizeof ways[0])

/* A build without zstd goes the way without it. */
static struct way way_of(int i)
{
	struct vcore_migrate_options o = {.size = sizeof o, .flags = VCORE_MIGRATE_ZSTD, .fd = -1};
	struct way way = ways[i];
	vcore_vm *vm = api_vm(0, 1);

	if (vcore_migrate_send(vm, &o) == -ENOTSUP)
		way.flags &= ~(uint32_t)VCORE_MIGRATE_ZSTD;
	vcore_vm_unref(vm);
	return way;
}

START_TEST(in_each_way)
{
	/* HELLO, on the first connection MACHINE, else ROUND, and pages */
	static const uint64_t forth[] = {0, 40, 60, 92, 110, 5000, 9000, 12000};
	struct way way = way_of(_i);

	for (int how = CUT; how <= ALTER; how += ALTER - CUT)
		for (unsigned n = 0; n < sizeof forth / sizeof forth[0]; n++)
			spoilt(0, way, how, false, forth[n]);
	spoilt(0, way, STALL, false, 61);
	ck_assert(spoilt(0, way, CUT, false, UINT64_MAX));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("migrate_spoilt");
	TCase *t = tcase_create("spoilt");

	tcase_set_timeout(t, 60);
	EACH(t, cut_and_altered);
	EACH(t, stalled);
	tcase_add_loop_test(t, in_each_way, 0, WAYS);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return api_main(suite());
}
