/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a source could send that is none: each is refused with a sentence, which the source is told. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

#include "config.h"
#include "core/util.h"
#include "memory/missing.h"
#include "vm/migrate_stream.h"
#include "vm/snapshot_codec.h"

#define MEMORY (16u << 12)

/* ---- a source that says anything ---- */

struct source {
	struct vc_mig_stream stream;
	int fd;
	pthread_t thread;
	int result;
	char message[300];
};

static void *receive(void *ctx)
{
	struct source *s = ctx;
	struct vcore_migrate_receive_options o = {
	    .size = sizeof o, .fd = s->fd, .timeout_ms = 10000, .memory_limit = 1 << 20};
	vcore_vm *vm;

	s->result = vcore_migrate_receive(&o, &vm);
	snprintf(s->message, sizeof s->message, "%s", vcore_error_message());
	ck_assert_ptr_null(vm);
	close(s->fd);
	return NULL;
}

static void begin(struct source *s)
{
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	ck_assert_int_eq(vc_mig_stream_open(&s->stream, pair[0], 10000), 0);
	close(pair[0]);
	s->fd = pair[1];
	ck_assert_int_eq(pthread_create(&s->thread, NULL, receive, s), 0);
}

/* The other side has refused it, and says why. */
static void refused(struct source *s, int error, const char *sentence)
{
	struct vc_mig_frame frame;
	int r;

	do {
		r = vc_mig_receive(&s->stream, &frame);
		if (r >= 0)
			free(frame.payload);
	} while (r >= 0);
	ck_assert_int_eq(r, -EREMOTEIO);
	ck_assert_msg(strstr(vcore_error_message(), sentence), "\"%s\" does not say \"%s\"", vcore_error_message(),
	              sentence);
	pthread_join(s->thread, NULL);
	ck_assert_msg(s->result == -error, "%d (%s)", s->result, s->message);
	ck_assert_ptr_nonnull(strstr(s->message, sentence));
	vc_mig_stream_close(&s->stream);
}

static void hello(struct source *s, uint32_t features, uint32_t count, uint32_t index)
{
	uint8_t payload[VC_MIG_HELLO_BYTES + 8] = {1, 2, 3};

	vc_st32(payload + VC_MIG_HELLO_FEATURES, features);
	vc_st32(payload + VC_MIG_HELLO_COUNT, count);
	vc_st32(payload + VC_MIG_HELLO_INDEX, index);
	/* a later version may have more to say */
	ck_assert_int_eq(vc_mig_send(&s->stream, VC_MIG_HELLO, VC_MIG_VERSION, payload, sizeof payload), 0);
}

static void send_states(struct source *s, enum vc_mig_kind kind)
{
	struct vcore_snapshot *snapshot;
	struct vc_still still;
	uint8_t *data;
	size_t length;
	vcore_vm *vm;

	ck_assert_int_eq(vcore_vm_new(NULL, &vm), 0);
	ck_assert_int_ge(vcore_memory_add(vm, 0, MEMORY, VCORE_MEM_RWX, NULL, NULL), 0);
	ck_assert_int_eq(vc_still_begin(vm, "test", false, &still), 0);
	ck_assert_int_eq(vc_snapshot_of_states(vm, &snapshot), 0);
	vc_still_end(&still);
	ck_assert_int_eq(vc_snapshot_encode(snapshot, &data, &length), 0);
	vcore_snapshot_unref(snapshot);
	ck_assert_int_eq(vc_mig_send(&s->stream, kind, 0, data, (uint32_t)length), 0);
	free(data);
	vcore_vm_unref(vm);
}

static void machine(struct source *s)
{
	send_states(s, VC_MIG_MACHINE);
	ck_assert_int_eq(vc_mig_expect(&s->stream, VC_MIG_READY), 0);
}

/* ---- greetings ---- */

START_TEST(test_features)
{
	struct source s;

	begin(&s);
	hello(&s, 1u << 30, 1, 0);
	refused(&s, ENOTSUP, "features 0x40000000");
#ifndef VC_HAVE_ZSTD
	begin(&s);
	hello(&s, VC_MIG_ZSTD, 1, 0);
	refused(&s, ENOTSUP, "zstd, which this build of libvirtcore does not have");
#endif
}
END_TEST

START_TEST(test_greetings)
{
	static const uint8_t zeroes[VC_MIG_HELLO_BYTES];
	struct source s;

	begin(&s);
	vc_mig_send(&s.stream, VC_MIG_HELLO, VC_MIG_VERSION + 1, zeroes, sizeof zeroes);
	refused(&s, EPROTO, "a greeting of version 3");
	begin(&s);
	vc_mig_send(&s.stream, VC_MIG_HELLO, VC_MIG_VERSION, zeroes, sizeof zeroes - 1);
	refused(&s, EPROTO, "(27 bytes)");
	for (uint32_t count = 0; count < 3; count += 2) {
		begin(&s);
		hello(&s, 0, count, 0);
		refused(&s, EPROTO, "expected exactly 1");
	}
	begin(&s);
	hello(&s, 0, 1, 1);
	refused(&s, EPROTO, "connection 1 of 1");
	begin(&s);
	vc_mig_send(&s.stream, VC_MIG_GO, 0, NULL, 0);
	refused(&s, EPROTO, "GO came out of turn");
}
END_TEST

/* ---- pages ---- */

struct frame {
	enum vc_mig_kind kind;
	uint32_t features, runs;
	uint32_t slot, pages; /* of the one run */
	uint64_t first;
	uint32_t length; /* of the contents */
	uint8_t contents[16];
	const char *sentence;
};

static const struct frame frames[] = {
    {VC_MIG_PAGES_FRAME, 0, 0, 0, 0, 0, 0, {0}, "0 runs"},
    {VC_MIG_PAGES_FRAME, 0, VC_MIG_RUNS + 1, 0, 0, 0, 0, {0}, "65 runs"},
    {VC_MIG_PAGES_FRAME, 0, 2, 0, 1, 0, 0, {0}, "2 runs of pages in 16 bytes"},
    {VC_MIG_PAGES_FRAME, 0, 1, 1, 1, 0, 4096, {0}, "slot 1 of 1"},
    {VC_MIG_PAGES_FRAME, 0, 1, 0, 0, 0, 0, {0}, "0 pages of kind 0"},
    {VC_MIG_PAGES_FRAME, 0, 1, 0, 1, 16, 4096, {0}, "slot 0 has 16"},
    {VC_MIG_PAGES_FRAME, 0, 1, 0, 2, 15, 8192, {0}, "slot 0 has 16"},
    {VC_MIG_PAGES_FRAME, 0, 1, 0, 1, UINT64_MAX, 4096, {0}, "slot 0 has 16"},
    {VC_MIG_PAGES_FRAME, 0, 1, 0, 1u << 31 | 1u << 30 | 1, 0, 0, {0}, "of kind 3"},
    {VC_MIG_PAGES_FRAME, 0, 1, 0, 1, 0, 4095, {0}, "4095 bytes are left"},
    {VC_MIG_PAGES_FRAME, 0, 1, 0, 2, 0, 4096, {0}, "0 bytes are left"},
    {VC_MIG_PAGES_FRAME, 0, 1, 0, 1, 0, 4097, {0}, "1 bytes that no run has"},
    {VC_MIG_PAGES_FRAME, 0, 1, 0, VC_MIG_ZEROES | 1, 0, 1, {0}, "1 bytes that no run has"},
    {VC_MIG_PAGES_FRAME, VC_MIG_DELTA, 1, 0, VC_MIG_DELTAS | 1, 0, 0, {0}, "a delta of 0 bytes where 0 are left"},
    {VC_MIG_PAGES_FRAME, VC_MIG_DELTA, 1, 0, VC_MIG_DELTAS | 1, 0, 1, {0}, "where 1 are left"},
    {VC_MIG_PAGES_FRAME, VC_MIG_DELTA, 1, 0, VC_MIG_DELTAS | 1, 0, 11, {10}, "a delta of 10 bytes where 11 are left"},
    {VC_MIG_PAGES_FRAME, VC_MIG_DELTA, 1, 0, VC_MIG_DELTAS | 1, 0, 4, {2, 0, 0, 1}, "with 0 bytes left"},
    {VC_MIG_PAGES_FRAME, VC_MIG_DELTA, 1, 0, VC_MIG_DELTAS | 1, 0, 3, {1, 0, 9}, "a byte too many"},
    {VC_MIG_PACKED, 0, 1, 0, 1, 0, 8, {0}, "did not tell"},
#ifdef VC_HAVE_ZSTD
    {VC_MIG_PACKED, VC_MIG_ZSTD, 1, 0, 1, 0, 8, {1, 2, 3}, "cannot be unpacked"},
    /* an empty frame of zstd's, and one that would be 2^40 bytes long */
    {VC_MIG_PACKED,
     VC_MIG_ZSTD,
     1,
     0,
     1,
     0,
     9,
     {0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00},
     "0 bytes are left"},
    {VC_MIG_PACKED,
     VC_MIG_ZSTD,
     1,
     0,
     1,
     0,
     16,
     {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0, 0x03, 0x00, 0x10},
     "cannot be unpacked"},
#endif
};

START_TEST(test_pages)
{
	const struct frame *f = &frames[_i];
	uint32_t length = 16 + f->length;
	uint8_t *payload = calloc(1, length), round[8] = {1};
	struct source s;

	ck_assert_ptr_nonnull(payload);
	vc_st32(payload, f->slot);
	vc_st32(payload + 4, f->pages);
	vc_st64(payload + 8, f->first);
	memcpy(payload + 16, f->contents, f->length < sizeof f->contents ? f->length : sizeof f->contents);
	begin(&s);
	hello(&s, f->features, 1, 0);
	machine(&s);
	ck_assert_int_eq(vc_mig_send(&s.stream, VC_MIG_ROUND, 1, round, sizeof round), 0);
	ck_assert_int_eq(vc_mig_send(&s.stream, f->kind, f->runs, payload, length), 0);
	refused(&s, EPROTO, f->sentence);
	free(payload);
}
END_TEST

START_TEST(test_out_of_turn)
{
	static const uint8_t zeroes[12];
	struct source s;

	begin(&s);
	hello(&s, 0, 1, 0);
	machine(&s);
	vc_mig_send(&s.stream, VC_MIG_ROUND, 1, zeroes, 7);
	refused(&s, EPROTO, "a round in 7 bytes");
	begin(&s);
	hello(&s, 0, 1, 0);
	machine(&s);
	vc_mig_send(&s.stream, VC_MIG_STATE, 0, zeroes, sizeof zeroes);
	refused(&s, EPROTO, "came where memory was expected");
	begin(&s);
	hello(&s, 0, 1, 0);
	vc_mig_send(&s.stream, VC_MIG_ROUND, 0, zeroes, 8);
	refused(&s, EPROTO, "where the machine was expected");
}
END_TEST

/* ---- post-copy ---- */

/* False, with a line that says why: not on this host. */
static bool has_postcopy(void)
{
	int fd = vc_missing_open();

	if (fd >= 0)
		close(fd);
	else
		printf("left out: %s\n", vcore_error_message());
	return fd >= 0;
}

/* Up to where absent pages are told. */
static void begin_postcopy(struct source *s)
{
	static const uint8_t none[8];

	begin(s);
	hello(s, VC_MIG_POSTCOPY, 1, 0);
	machine(s);
	ck_assert_int_eq(vc_mig_send(&s->stream, VC_MIG_ROUND, VC_MIG_NO_ROUND, none, sizeof none), 0);
}

static void absent(struct source *s, uint32_t slot, uint64_t first, uint64_t bits, uint32_t length)
{
	uint8_t payload[32] = {0};

	vc_st64(payload, first);
	vc_st64(payload + 8, bits);
	ck_assert_int_eq(vc_mig_send(&s->stream, VC_MIG_ABSENT, slot, payload, length), 0);
}

START_TEST(test_absent)
{
	static const struct {
		uint32_t slot;
		uint64_t first, bits;
		uint32_t length;
		const char *sentence;
	} wrong[] = {
	    {1, 0, 1, 16, "slot 1 of 1"},
	    {0, 1, 1, 16, "from 1 on"},
	    {0, 64, 1, 16, "from 64 on"},
	    {0, UINT64_MAX - 63, 1, 16, "in 16"},
	    {0, 0, 1, 12, "in 12 bytes"},
	    {0, 0, 1, 0, "in 0 bytes"},
	    {0, 0, 1, 24, "in 24 bytes"},
	    {0, 0, 1 << 16, 16, "behind the end"},
	    {0, 0, UINT64_MAX, 16, "behind the end"},
	};
	struct source s;

	if (!has_postcopy())
		return;
	for (unsigned i = 0; i < VC_ARRAY_SIZE(wrong); i++) {
		begin_postcopy(&s);
		absent(&s, wrong[i].slot, wrong[i].first, wrong[i].bits, wrong[i].length);
		refused(&s, EPROTO, wrong[i].sentence);
	}
	begin(&s);
	hello(&s, 0, 1, 0);
	machine(&s);
	ck_assert_int_eq(vc_mig_send(&s.stream, VC_MIG_ROUND, VC_MIG_NO_ROUND, wrong, 8), 0);
	absent(&s, 0, 0, 1, 16);
	refused(&s, EPROTO, "where the state was expected");
}
END_TEST

static void follow(struct source *s, uint32_t slot, uint32_t pages, uint64_t first, uint32_t length)
{
	static uint8_t payload[16 + 4 * 4096];

	vc_st32(payload, slot);
	vc_st32(payload + 4, pages);
	vc_st64(payload + 8, first);
	vc_mig_send(&s->stream, VC_MIG_PAGES_FRAME, 1, payload, 16 + length);
}

#define NONE UINT64_MAX

START_TEST(test_following)
{
	/* of 16 pages, 0 to 3 are absent; what follows the states */
	static const struct {
		uint32_t slot, pages;
		uint64_t first;
		uint32_t length;
		uint64_t again; /* then that page; NONE: nothing */
		const char *sentence;
	} wrong[] = {
	    {1, 1, 0, 4096, NONE, "not awaited"},
	    {0, 1, 4, 4096, NONE, "not awaited"},
	    {0, 2, 3, 8192, NONE, "not awaited"},
	    {0, 1, UINT64_MAX, 4096, NONE, "not awaited"},
	    {0, VC_MIG_DELTAS | 1, 0, 4096, NONE, "not awaited"},
	    {0, 0, 0, 0, NONE, "not awaited"},
	    {0, 2, 0, 4096, NONE, "not awaited"},
	    {0, 1, 0, 8192, NONE, "1 pages that no run has"},
	    {0, 1, 0, 4095, NONE, "in 4111 bytes"},
	    /* each page comes once */
	    {0, 2, 1, 8192, 2, "not awaited"},
	    {0, VC_MIG_ZEROES | 4, 0, 0, 3, "not awaited"},
	};
	struct source s;

	if (!has_postcopy())
		return;
	for (unsigned i = 0; i < VC_ARRAY_SIZE(wrong); i++) {
		begin_postcopy(&s);
		absent(&s, 0, 0, 15, 16);
		send_states(&s, VC_MIG_STATE);
		follow(&s, wrong[i].slot, wrong[i].pages, wrong[i].first, wrong[i].length);
		if (wrong[i].again != NONE)
			follow(&s, 0, 1, wrong[i].again, 4096);
		refused(&s, EPROTO, wrong[i].sentence);
	}
	for (enum vc_mig_kind kind = VC_MIG_END; kind <= VC_MIG_WHOLE; kind++) {
		begin_postcopy(&s);
		absent(&s, 0, 0, 15, 16);
		send_states(&s, VC_MIG_STATE);
		vc_mig_send(&s.stream, kind, 0, NULL, 0);
		refused(&s, EPROTO, kind == VC_MIG_END ? "where 4 pages are to come" : "where pages were expected");
	}
	/* states that are none, while a thread waits for pages already */
	begin_postcopy(&s);
	absent(&s, 0, 0, 15, 16);
	vc_mig_send(&s.stream, VC_MIG_STATE, 0, wrong, 64);
	refused(&s, EINVAL, "");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("migrate_frames");
	TCase *t = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_test(t, test_features);
	tcase_add_test(t, test_greetings);
	tcase_add_loop_test(t, test_pages, 0, VC_ARRAY_SIZE(frames));
	tcase_add_test(t, test_out_of_turn);
	tcase_add_test(t, test_absent);
	tcase_add_test(t, test_following);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
