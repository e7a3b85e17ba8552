/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Live migration: to another process, to another backend, in each way pages can go, and giving up. */
#include "migrating.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the other side: a process, made before there are threads ---- */

struct peer {
	pid_t pid;
	struct migrating_sockets sockets;
	int report; /* what became of it */
};

struct report {
	int result;
	uint32_t before, after; /* the count when it came, and later */
	char error[200];
};

static void receive(int backend, const struct migrating_sockets *s, int to)
{
	struct vcore_clone_options clone = {.size = sizeof clone, .backend = api_backend(backend)};
	struct vcore_migrate_receive_options o = {.size = sizeof o, .timeout_ms = 10000, .clone = &clone};
	struct report report = {0};
	vcore_vm *vm;

	migrating_destination(&o, s);
	report.result = vcore_migrate_receive(&o, &vm);
	snprintf(report.error, sizeof report.error, "%s", report.result < 0 ? vcore_error_message() : "");
	if (report.result >= 0) {
		report.before = api_word(vm, COUNT);
		OK(vcore_vm_start(vm));
		report.after = migrating_goes_on(vm, report.before);
		vcore_vm_unref(vm);
	} else {
		ck_assert_ptr_null(vm);
	}
	if (write(to, &report, sizeof report) < 0)
		_exit(1);
}

static void make_peer(struct peer *p, int backend, uint32_t streams)
{
	struct migrating_sockets *s = &p->sockets;
	int pipes[2];

	migrating_connect(s, streams);
	ck_assert_int_eq(pipe(pipes), 0);
	fflush(stdout);
	p->pid = fork();
	ck_assert_int_ge(p->pid, 0);
	if (!p->pid) {
		migrating_close(s->source, streams);
		close(pipes[0]);
		receive(backend, s, pipes[1]);
		migrating_close(s->destination, streams);
		exit(0); /* where a sanitizer looks for leaks */
	}
	migrating_close(s->destination, streams);
	close(pipes[1]);
	p->report = pipes[0];
}

static struct report end_peer(struct peer *p)
{
	struct report report;
	int status;

	ck_assert_int_eq(read(p->report, &report, sizeof report), sizeof report);
	close(p->report);
	migrating_close(p->sockets.source, p->sockets.count);
	ck_assert_int_eq(waitpid(p->pid, &status, 0), p->pid);
	ck_assert_int_eq(status, 0);
	return report;
}

/* ---- there ---- */

/* So that there is something to be sent again. */
static int let_write(void *ctx, const struct vcore_migrate_info *info)
{
	if (info->state == VCORE_MIGRATE_ACTIVE)
		migrating_turns(ctx);
	return 0;
}

/* The guest, which runs, moves to a peer on that backend. */
static struct vcore_migrate_info moves(vcore_vm *vm, struct peer *peer, struct vcore_migrate_options *o)
{
	struct vcore_exit exit = {.size = sizeof exit};
	struct vcore_migrate_info info;
	struct report report;
	uint32_t count;

	migrating_source(o, &peer->sockets);
	/* the host may be slow */
	o->downtime_us = 10000000;
	o->progress = let_write;
	o->ctx = vm;
	OK(vcore_migrate_send(vm, o));
	OK(vcore_vm_wait(vm, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_MIGRATED);
	count = api_word(vm, COUNT);
	api_pause_ms(5);
	ck_assert_uint_eq(api_word(vm, COUNT), count);
	report = end_peer(peer);
	ck_assert_msg(report.result == 0, "%s", report.error);
	ck_assert_uint_eq(report.before, count);
	ck_assert_uint_ge(report.after, count + 10);
	info = migrating_info(vm);
	ck_assert_uint_eq(info.state, VCORE_MIGRATE_COMPLETED);
	ck_assert_uint_eq(info.streams, peer->sockets.count);
	ck_assert_uint_ge(info.rounds, 2);
	ck_assert_uint_gt(info.downtime_ns, 0);
	ck_assert_uint_le(info.downtime_ns, info.total_ns);
	ck_assert_str_eq(info.error, "");
	vcore_vm_unref(vm);
	return info;
}

/* False: this build has none. */
static bool has_zstd(void)
{
	struct vcore_migrate_options o = {.size = sizeof o, .flags = VCORE_MIGRATE_ZSTD, .fd = -1};
	vcore_vm *vm = api_vm(0, 1);
	int r = vcore_migrate_send(vm, &o);

	vcore_vm_unref(vm);
	if (r == -ENOTSUP)
		printf("%s\n", vcore_error_message());
	return r != -ENOTSUP;
}

static const struct {
	uint32_t flags, streams;
	uint64_t cache;
} ways[] = {
    {0, 1, 0},
    {VCORE_MIGRATE_ZSTD, 1, 0},
    {VCORE_MIGRATE_DELTA, 1, 0},
    /* of some pages only */
    {VCORE_MIGRATE_DELTA, 1, 3 * WRITER_PAGES / 4 * 4096},
    {0, STREAMS_MAX, 0},
    {VCORE_MIGRATE_DELTA | VCORE_MIGRATE_ZSTD, 3, 0},
};
#define WAYS (int)(sizeof ways / sizeof ways[0])

static void to_another_process(int backend, int way)
{
	struct vcore_migrate_options o = {
	    .size = sizeof o, .flags = VCORE_MIGRATE_AUTO_CONVERGE | ways[way].flags, .delta_cache = ways[way].cache};
	struct vcore_migrate_info info;
	struct peer peer;
	vcore_vm *vm;

	make_peer(&peer, backend, ways[way].streams);
	vm = migrating_writer(backend);
	ck_assert_uint_eq(migrating_info(vm).state, VCORE_MIGRATE_NONE);
	OK(vcore_vm_start(vm));
	migrating_goes_on(vm, 0);
	info = moves(vm, &peer, &o);
	ck_assert_uint_eq(info.memory, RAM);
	/* all pages of the buffer were written between the rounds */
	ck_assert_uint_ge(info.pages, 2 * WRITER_PAGES);
	if (o.flags & VCORE_MIGRATE_DELTA)
		ck_assert_uint_ge(info.delta_pages, o.delta_cache ? 1 : WRITER_PAGES);
	else
		ck_assert_uint_eq(info.delta_pages, 0);
	if (ways[way].flags)
		ck_assert_uint_gt(info.saved, 0);
	else
		ck_assert_uint_eq(info.saved, 0);
}

START_TEST(in_each_way)
{
	for (int way = 0; way < WAYS; way++)
		if (!(ways[way].flags & VCORE_MIGRATE_ZSTD) || has_zstd())
			to_another_process(_i, way);
}
END_TEST

/* ---- across backends ---- */

static uint64_t tsc_khz_of(int backend)
{
	struct vcore_vm_info info = {.size = sizeof info};
	vcore_vm *vm = api_vm(backend, 1);

	OK(vcore_vm_get_info(vm, &info));
	vcore_vm_unref(vm);
	return info.tsc_khz;
}

/* With CPU features that both have, and a TSC that KVM can give. */
static vcore_vm *common_vm(int backend, uint64_t tsc_khz)
{
	struct vcore_options o = {
	    .cpu = "qemu64,-vme,-sse3,-kvm-pv-unhalt,-kvm-pv-ipi", .tsc_khz = tsc_khz, .memory = RAM, .vcpus = 1};
	vcore_vm *vm = api_vm_with(backend, &o);

	migrating_load(vm);
	return vm;
}

START_TEST(to_another_backend)
{
	uint64_t tsc_khz = 0;

	if (api_backend_count() < 2) {
		printf("one backend only: no migration between two\n");
		return;
	}
	for (int b = 0; b < 2; b++)
		if (api_backend(b) == VCORE_BACKEND_KVM)
			tsc_khz = tsc_khz_of(b);
	for (int from = 0; from < 2; from++) {
		struct vcore_migrate_options o = {.size = sizeof o, .flags = VCORE_MIGRATE_DELTA | VCORE_MIGRATE_AUTO_CONVERGE};
		struct peer peer;
		vcore_vm *vm;

		make_peer(&peer, !from, 2);
		vm = common_vm(from, tsc_khz);
		OK(vcore_vm_start(vm));
		migrating_goes_on(vm, 0);
		moves(vm, &peer, &o);
	}
}
END_TEST

/* ---- limits ---- */

static void *receive_here(void *ctx)
{
	struct vcore_migrate_receive_options o = {.size = sizeof o};
	vcore_vm *vm = NULL;

	migrating_destination(&o, ctx);
	vcore_migrate_receive(&o, &vm);
	return vm;
}

#define RATE       (1u << 20)
#define DATA_PAGES 160u

/* What was sent is never ahead of the rate by more than a few frames, and what stands before them. */
START_TEST(bandwidth)
{
	struct vcore_migrate_options o = {.size = sizeof o, .bandwidth = RATE};
	struct migrating_sockets s;
	struct proxy p[STREAMS_MAX] = {0};
	const uint32_t streams[] = {1, 3};
	uint32_t count = streams[_i];
	vcore_vm *vm = api_vm(0, 1), *there;
	double ahead = 0;
	uint64_t passed = 0;
	pthread_t receiver;

	for (uint32_t n = 1; n <= DATA_PAGES; n++)
		OK(vcore_memory_write(vm, 0x100000 + n * 4096, &n, sizeof n));
	migrating_connect(&s, count);
	for (uint32_t i = 0; i < count; i++) {
		p[i].at = UINT64_MAX;
		p[i].rate = RATE / count;
		proxy_start(&p[i], &s.destination[i]);
	}
	ck_assert_int_eq(pthread_create(&receiver, NULL, receive_here, &s), 0);
	migrating_source(&o, &s);
	OK(vcore_migrate_send(vm, &o));
	migrating_close(s.source, count);
	pthread_join(receiver, (void **)&there);
	ck_assert_ptr_nonnull(there);
	ck_assert_uint_eq(api_word(there, 0x100000 + DATA_PAGES * 4096), DATA_PAGES);
	migrating_close(s.destination, count);
	for (uint32_t i = 0; i < count; i++) {
		proxy_join(&p[i]);
		ahead += p[i].ahead;
		passed += p[i].passed[0];
	}
	ck_assert_uint_ge(passed, DATA_PAGES * 4096);
	ck_assert_msg(ahead < RATE / 10 + 65536, "%.0f bytes were ahead", ahead);
	vcore_vm_unref(there);
	vcore_vm_unref(vm);
}
END_TEST

/* ---- refused ---- */

START_TEST(wrong_options)
{
	struct vcore_migrate_options o = {.size = sizeof o, .flags = 1u << 31};
	struct vcore_migrate_receive_options in = {.size = sizeof in, .fd = -1};
	const int32_t fds[] = {-1};
	vcore_vm *vm = api_vm(0, 1), *there;

	REFUSED(vcore_migrate_send(vm, &o), EINVAL, "flags are");
	o = (struct vcore_migrate_options){.size = sizeof o, .fd = -1};
	REFUSED(vcore_migrate_send(vm, &o), EINVAL, "neither an address");
	o = (struct vcore_migrate_options){.size = sizeof o, .address = "unix:/nowhere", .streams = 17};
	REFUSED(vcore_migrate_send(vm, &o), EINVAL, "17 connections");
	o = (struct vcore_migrate_options){.size = sizeof o, .more_fd_count = 1};
	REFUSED(vcore_migrate_send(vm, &o), EINVAL, "1 more");
	REFUSED(vcore_migrate_receive(&in, &there), EINVAL, "neither an address");
	in.fd = 0;
	in.more_fd_count = 16;
	in.more_fds = fds;
	REFUSED(vcore_migrate_receive(&in, &there), EINVAL, "16 more");
	vcore_vm_unref(vm);
}
END_TEST

static void *receive_one(void *ctx)
{
	struct vcore_migrate_receive_options o = {.size = sizeof o, .fd = *(int *)ctx};
	vcore_vm *vm = NULL;

	REFUSED(vcore_migrate_receive(&o, &vm), EPROTO, "exactly 1");
	return vm;
}

/* Both sides are told of as many connections, or it is refused with a sentence. */
START_TEST(connections_missing)
{
	struct vcore_migrate_options o = {.size = sizeof o};
	struct migrating_sockets s;
	vcore_vm *vm = migrating_writer(0);
	pthread_t receiver;

	migrating_connect(&s, 2);
	ck_assert_int_eq(pthread_create(&receiver, NULL, receive_one, &s.destination[0]), 0);
	migrating_source(&o, &s);
	REFUSED(vcore_migrate_send(vm, &o), EREMOTEIO, "2 connections: expected exactly 1");
	pthread_join(receiver, NULL);
	migrating_close(s.source, 2);
	migrating_close(s.destination, 2);
	OK(vcore_vm_start(vm));
	migrating_goes_on(vm, 0);
	vcore_vm_unref(vm);
}
END_TEST

/* ---- giving up ---- */

static int no_more(void *ctx, const struct vcore_migrate_info *info)
{
	return info->rounds >= 2;
}

static void *cancel_it(void *ctx)
{
	while (migrating_info(ctx).state != VCORE_MIGRATE_ACTIVE)
		api_pause_ms(1);
	OK(vcore_migrate_cancel(ctx));
	return NULL;
}

/* A writer whose pages cannot be sent in a microsecond, however often it is tried. */
static void give_up(vcore_vm *vm, int way, uint32_t streams)
{
	static const int errors[] = {ECANCELED, ECANCELED, ETIMEDOUT};
	struct vcore_migrate_options o = {.size = sizeof o, .downtime_us = 1};
	struct migrating_sockets s;
	pthread_t receiver, other;
	void *result;

	migrating_connect(&s, streams);
	ck_assert_int_eq(pthread_create(&receiver, NULL, receive_here, &s), 0);
	migrating_source(&o, &s);
	o.progress = way == 0 ? no_more : NULL;
	o.max_time_ms = way == 2 ? 50 : 0;
	if (way == 1)
		ck_assert_int_eq(pthread_create(&other, NULL, cancel_it, vm), 0);
	ck_assert_int_eq(vcore_migrate_send(vm, &o), -errors[way]);
	if (way == 1)
		pthread_join(other, NULL);
	migrating_close(s.source, streams);
	pthread_join(receiver, &result);
	migrating_close(s.destination, streams);
	ck_assert_ptr_null(result);
	ck_assert_uint_eq(migrating_info(vm).state, way == 2 ? VCORE_MIGRATE_FAILED : VCORE_MIGRATE_CANCELED);
	ck_assert_str_ne(migrating_info(vm).error, "");
	migrating_goes_on(vm, api_word(vm, COUNT));
}

START_TEST(given_up)
{
	vcore_vm *vm = migrating_writer(_i);

	REFUSED(vcore_migrate_cancel(vm), ENOENT, "not being migrated");
	OK(vcore_vm_start(vm));
	migrating_goes_on(vm, 0);
	for (int way = 0; way < 3; way++)
		for (uint32_t streams = 1; streams <= 3; streams += 2)
			give_up(vm, way, streams);
	vcore_vm_unref(vm);
}
END_TEST

static int stop_receiving(void *ctx, const struct vcore_migrate_info *info)
{
	ck_assert_uint_eq(info->state, VCORE_MIGRATE_ACTIVE);
	ck_assert_uint_eq(info->memory, RAM);
	return info->rounds == 2;
}

static void *receive_some(void *ctx)
{
	struct vcore_migrate_receive_options o = {.size = sizeof o, .progress = stop_receiving};
	vcore_vm *vm = NULL;

	migrating_destination(&o, ctx);
	REFUSED(vcore_migrate_receive(&o, &vm), ECANCELED, "progress callback");
	return vm;
}

START_TEST(given_up_there)
{
	struct vcore_migrate_options o = {.size = sizeof o, .downtime_us = 1};
	vcore_vm *vm = migrating_writer(0);
	struct migrating_sockets s;
	pthread_t receiver;

	OK(vcore_vm_start(vm));
	migrating_connect(&s, 3);
	ck_assert_int_eq(pthread_create(&receiver, NULL, receive_some, &s), 0);
	migrating_source(&o, &s);
	REFUSED(vcore_migrate_send(vm, &o), EREMOTEIO, "cancelled by the progress callback");
	pthread_join(receiver, NULL);
	migrating_close(s.source, 3);
	migrating_close(s.destination, 3);
	migrating_goes_on(vm, api_word(vm, COUNT));
	vcore_vm_unref(vm);
}
END_TEST

/* A device whose state takes long to be saved, the first time; the second time even a host full of other work is
 * faster. */
#define SLOW_MS 1000
static int64_t save_slowly(void *ctx, void *buffer, size_t length)
{
	_Atomic uint32_t *times = ctx;

	if (atomic_fetch_add(times, 1) == 0)
		api_pause_ms(SLOW_MS);
	return 0;
}

static int load_nothing(void *ctx, const void *buffer, size_t length)
{
	return 0;
}

static const struct vcore_device_ops slow_ops = {.size = sizeof slow_ops, .save = save_slowly, .load = load_nothing};

static int add_slow(void *ctx, vcore_vm *vm)
{
	return vcore_io_add(vm, VCORE_BUS_MMIO, 0xd0000000, 0x1000, &slow_ops, ctx, NULL);
}

struct slow {
	struct migrating_sockets s;
	_Atomic uint32_t times;
};

static void *receive_slow(void *ctx)
{
	struct slow *slow = ctx;
	struct vcore_clone_options clone = {.size = sizeof clone, .prepare = add_slow, .ctx = &slow->times};
	struct vcore_migrate_receive_options o = {.size = sizeof o, .clone = &clone};
	vcore_vm *vm;

	migrating_destination(&o, &slow->s);
	OK(vcore_migrate_receive(&o, &vm));
	return vm;
}

/* A host that was busy when it was first looked at does not keep the guest for ever. */
START_TEST(slow_once)
{
	struct vcore_migrate_options o = {.size = sizeof o, .downtime_us = SLOW_MS * 900, .max_time_ms = 30000};
	vcore_vm *vm = migrating_writer(0);
	struct slow there = {0}, here = {0};
	pthread_t receiver;
	void *result;

	OK(add_slow(&here.times, vm));
	OK(vcore_vm_start(vm));
	migrating_connect(&there.s, 1);
	ck_assert_int_eq(pthread_create(&receiver, NULL, receive_slow, &there), 0);
	migrating_source(&o, &there.s);
	OK(vcore_migrate_send(vm, &o));
	pthread_join(receiver, &result);
	migrating_close(there.s.source, 1);
	migrating_close(there.s.destination, 1);
	vcore_vm_unref(vm);
	vcore_vm_unref(result);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("migrate");
	TCase *t = tcase_create("migrate");

	tcase_set_timeout(t, 60);
	EACH(t, in_each_way);
	tcase_add_test(t, to_another_backend);
	tcase_add_loop_test(t, bandwidth, 0, 2);
	tcase_add_test(t, wrong_options);
	tcase_add_test(t, slow_once);
	tcase_add_test(t, connections_missing);
	EACH(t, given_up);
	tcase_add_test(t, given_up_there);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return api_main(suite());
}
