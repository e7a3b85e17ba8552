/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a destination could say to a source that takes post-copy up again: each is refused with a sentence, and nothing
 * is lost by it. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

#include "core/util.h"
#include "vm/migrate_stream.h"

#define PAGES  16u
#define MEMORY (PAGES << 12)

struct source {
	vcore_vm *vm;
	struct vc_mig_stream stream; /* of who is the destination */
	int fd;
	bool again;
	pthread_t thread;
	int result;
	char message[300];
	uint8_t number[VC_MIG_NUMBER_BYTES];
};

static void *send_vm(void *ctx)
{
	struct source *s = ctx;
	struct vcore_migrate_options o = {.size = sizeof o, .fd = s->fd, .flags = VCORE_MIGRATE_BY_POSTCOPY};
	struct vcore_migrate_recover_options again = {.size = sizeof again, .fd = s->fd};

	s->result = s->again ? vcore_migrate_recover(s->vm, &again) : vcore_migrate_send(s->vm, &o);
	snprintf(s->message, sizeof s->message, "%s", s->result < 0 ? vcore_error_message() : "");
	close(s->fd);
	return NULL;
}

static void begin(struct source *s, bool again)
{
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	ck_assert_int_eq(vc_mig_stream_open(&s->stream, pair[0], 10000), 0);
	close(pair[0]);
	s->fd = pair[1];
	s->again = again;
	ck_assert_int_eq(pthread_create(&s->thread, NULL, send_vm, s), 0);
}

static void end(struct source *s)
{
	vc_mig_stream_shutdown(&s->stream);
	pthread_join(s->thread, NULL);
	vc_mig_stream_close(&s->stream);
}

/* The frames up to that kind; its payload begins with what is kept. */
static void until(struct source *s, enum vc_mig_kind kind, void *kept, uint32_t length)
{
	struct vc_mig_frame f;

	do {
		ck_assert_msg(vc_mig_receive(&s->stream, &f) >= 0, "%s", vcore_error_message());
		if (f.kind == kind && kept)
			ck_assert_uint_ge(f.length, length);
		if (f.kind == kind && kept)
			memcpy(kept, f.payload, length);
		free(f.payload);
	} while (f.kind != kind);
}

static void say(struct source *s, enum vc_mig_kind kind)
{
	vc_mig_send(&s->stream, kind, 0, NULL, 0);
}

static uint32_t state_of(const struct source *s)
{
	struct vcore_migrate_info info = {.size = sizeof info};

	ck_assert_int_eq(vcore_migrate_get_info(s->vm, &info), 0);
	return info.state;
}

/* Handed over, of which nothing has arrived. */
static void interrupted(struct source *s)
{
	struct vcore_options o = {.size = sizeof o, .memory = MEMORY};

	ck_assert_int_eq(vcore_vm_new(&o, &s->vm), 0);
	for (uint32_t page = 0; page < PAGES; page++)
		ck_assert_int_eq(vcore_memory_write(s->vm, page * 4096, &(uint32_t){page + 1}, 4), 0);
	begin(s, false);
	until(s, VC_MIG_HELLO, s->number, sizeof s->number);
	say(s, VC_MIG_READY);
	until(s, VC_MIG_STATE, NULL, 0);
	say(s, VC_MIG_LOADED);
	until(s, VC_MIG_GO, NULL, 0);
	say(s, VC_MIG_RUNS_FRAME);
	end(s);
	ck_assert_msg(s->result == -ENOLINK, "%d: %s", s->result, s->message);
	ck_assert_uint_eq(state_of(s), VCORE_MIGRATE_INTERRUPTED);
}

static void greeted(struct source *s)
{
	uint8_t number[VC_MIG_NUMBER_BYTES];

	begin(s, true);
	until(s, VC_MIG_RECOVER, number, sizeof number);
	ck_assert_mem_eq(number, s->number, sizeof number);
}

static void absent(struct source *s, uint32_t slot, uint64_t first, uint64_t bits, uint32_t length)
{
	uint8_t payload[32] = {0};

	vc_st64(payload, first);
	vc_st64(payload + 8, bits);
	vc_mig_send(&s->stream, VC_MIG_ABSENT, slot, payload, length);
}

static void refused(struct source *s, int error, const char *sentence)
{
	end(s);
	ck_assert_msg(s->result == -error, "%d: %s", s->result, s->message);
	ck_assert_msg(strstr(s->message, sentence), "\"%s\" does not say \"%s\"", s->message, sentence);
	ck_assert_uint_eq(state_of(s), VCORE_MIGRATE_INTERRUPTED);
}

/* All of what is asked for, and nothing else; each page with its number. */
static void served(struct source *s, uint64_t bits)
{
	uint64_t came = 0;
	struct vc_mig_frame f;

	greeted(s);
	absent(s, 0, 0, bits, 16);
	say(s, VC_MIG_READY);
	for (;;) {
		const uint8_t *data;

		ck_assert_msg(vc_mig_receive(&s->stream, &f) >= 0, "%s", vcore_error_message());
		if (f.kind == VC_MIG_END)
			break;
		ck_assert_uint_eq(f.kind, VC_MIG_PAGES_FRAME);
		data = f.payload + f.argument * VC_MIG_RUN_BYTES;
		for (uint32_t i = 0; i < f.argument; i++) {
			const uint8_t *run = f.payload + i * VC_MIG_RUN_BYTES;

			ck_assert_uint_eq(vc_ld32(run), 0);
			for (uint64_t page = vc_ld64(run + 8), n = vc_ld32(run + 4); n; n--, page++, data += 4096) {
				ck_assert_uint_lt(page, PAGES);
				ck_assert_uint_eq(vc_ld32(data), page + 1);
				ck_assert(!(came >> page & 1));
				came |= 1ull << page;
			}
		}
		free(f.payload);
	}
	ck_assert_uint_eq(came, bits);
	say(s, VC_MIG_WHOLE);
	/* its answer is read before the end */
	pthread_join(s->thread, NULL);
	vc_mig_stream_close(&s->stream);
	ck_assert_msg(s->result == 0, "%d: %s", s->result, s->message);
	ck_assert_uint_eq(state_of(s), VCORE_MIGRATE_COMPLETED);
}

START_TEST(test_absent)
{
	static const struct {
		uint32_t slot;
		uint64_t first, bits;
		uint32_t length;
		const char *sentence;
	} wrong[] = {
	    {1, 0, 1, 16, "slot 1 of 1"},     {UINT32_MAX, 0, 1, 16, "of 1"},    {0, 1, 1, 16, "from 1 on"},
	    {0, 64, 1, 16, "from 64 on"},     {0, UINT64_MAX - 63, 1, 16, "in"}, {0, 0, 1, 12, "in 12 bytes"},
	    {0, 0, 1, 0, "in 0 bytes"},       {0, 0, 1, 24, "in 24 bytes"},      {0, 0, 1 << 16, 16, "behind"},
	    {0, 0, UINT64_MAX, 16, "behind"},
	};
	struct source s;

	interrupted(&s);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(wrong); i++) {
		greeted(&s);
		absent(&s, wrong[i].slot, wrong[i].first, wrong[i].bits, wrong[i].length);
		refused(&s, EPROTO, wrong[i].sentence);
	}
	/* twice: they could come for ever */
	greeted(&s);
	absent(&s, 0, 0, 1, 16);
	absent(&s, 0, 0, 1, 16);
	refused(&s, EPROTO, "too late");
	/* which has changed nothing */
	served(&s, 0xa5a5);
	vcore_vm_unref(s.vm);
}
END_TEST

START_TEST(test_out_of_turn)
{
	struct source s;

	interrupted(&s);
	for (enum vc_mig_kind kind = 0; kind < VC_MIG_KINDS; kind++) {
		if (kind == VC_MIG_ABSENT || kind == VC_MIG_READY || kind == VC_MIG_FAILED)
			continue;
		greeted(&s);
		say(&s, kind);
		refused(&s, EPROTO, "absent pages were expected");
	}
	greeted(&s);
	vc_mig_send(&s.stream, VC_MIG_READY, 1, NULL, 0);
	refused(&s, EPROTO, "absent pages were expected");
	greeted(&s);
	vc_mig_send(&s.stream, VC_MIG_FAILED, 0, "for no reason", 13);
	refused(&s, EREMOTEIO, "for no reason");
	served(&s, 0);
	vcore_vm_unref(s.vm);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("migrate_recover");
	TCase *t = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_test(t, test_absent);
	tcase_add_test(t, test_out_of_turn);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
