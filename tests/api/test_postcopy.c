/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Post-copy: the guest runs on the other side before all of its memory is there, and what happens if that never comes.
 */
#include "postcopying.h"

#include <sys/mman.h>
#include <unistd.h>

/* The guest has stayed where it was. */
static void stayed(struct move *m)
{
	ck_assert_ptr_null(m->to);
	ck_assert_uint_eq(api_state(m->from), VCORE_VM_RUNNING);
	migrating_goes_on(m->from, api_word(m->from, COUNT));
	vcore_vm_unref(m->from);
}

/* ---- it works ---- */

enum way { AT_ONCE, AFTER_ROUNDS, BY_CALL, WAYS };

static void *call_for_it(void *ctx)
{
	vcore_vm *vm = ctx;

	while (migrating_info(vm).rounds < 2)
		api_pause_ms(1);
	OK(vcore_migrate_postcopy(vm));
	return NULL;
}

static void moves(int backend, enum way way)
{
	static const uint32_t rounds[WAYS] = {0, 3, UINT32_MAX};
	/* what it writes cannot be sent in a microsecond, however often it is tried */
	struct move m = {.o = {.downtime_us = 1, .postcopy_rounds = rounds[way]}, .relay = {.kind = UINT32_MAX}};
	struct vcore_exit exit = {.size = sizeof exit};
	uint32_t count;
	pthread_t other;

	if (way != AT_ONCE)
		migrating_connect(&m.more, way);
	m.o.flags = way == AFTER_ROUNDS ? VCORE_MIGRATE_DELTA : 0;
	move_begin(&m, backend);
	if (way == BY_CALL)
		ck_assert_int_eq(pthread_create(&other, NULL, call_for_it, m.from), 0);
	pthread_join(m.receiver, NULL);
	ck_assert_msg(m.received == 0, "%s", m.why_not);
	OK(vcore_vm_start(m.to));
	count = migrating_goes_on(m.to, 0);
	postcopying_check(m.to);
	if (way == BY_CALL)
		pthread_join(other, NULL);
	move_end_sending(&m);
	ck_assert_msg(m.sent == 0, "%s", m.why);
	migrating_close(m.more.source, m.more.count);
	migrating_close(m.more.destination, m.more.count);
	OK(vcore_vm_wait(m.from, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_MIGRATED);
	ck_assert_uint_le(api_word(m.from, COUNT), count);
	ck_assert_uint_eq(migrating_info(m.from).state, VCORE_MIGRATE_COMPLETED);
	ck_assert_uint_ge(migrating_info(m.from).rounds, way == AFTER_ROUNDS ? 3 : 0);
	ck_assert_uint_gt(migrating_info(m.from).downtime_ns, 0);
	/* a guest that wrote nothing for a moment has left nothing behind */
	if (way == AT_ONCE || migrating_info(m.to).state != VCORE_MIGRATE_NONE)
		move_until_state(m.to, VCORE_MIGRATE_COMPLETED);
	ck_assert_uint_eq(migrating_info(m.to).remaining, 0);
	/* and is as any other */
	vcore_vm_unref(m.from);
	migrating_goes_on(m.to, count);
	postcopying_check(m.to);
	vcore_vm_unref(m.to);
}

START_TEST(it_moves)
{
	for (enum way way = 0; way < WAYS; way++)
		moves(_i, way);
}
END_TEST

/* ---- it fails ---- */

/* Before the source gives it up: nothing has happened. */
START_TEST(cut_before)
{
	struct move m = {.relay = {.kind = ABSENT_FRAME}};

	move_begin(&m, _i);
	pthread_join(m.receiver, NULL);
	move_end_sending(&m);
	ck_assert_int_lt(m.sent, 0);
	ck_assert_int_lt(m.received, 0);
	ck_assert_uint_eq(migrating_info(m.from).state, VCORE_MIGRATE_FAILED);
	stayed(&m);
}
END_TEST

/* As it is given up: nobody knows, and nobody runs. */
START_TEST(cut_at_the_switch)
{
	struct move m = {.relay = {.kind = GO_FRAME}};

	move_begin(&m, _i);
	pthread_join(m.receiver, NULL);
	move_end_sending(&m);
	ck_assert_int_eq(m.sent, -ENOTRECOVERABLE);
	ck_assert_ptr_null(m.to);
	ck_assert_uint_eq(migrating_info(m.from).state, VCORE_MIGRATE_UNDECIDED);
	ck_assert_uint_eq(api_state(m.from), VCORE_VM_PAUSED);
	OK(vcore_vm_resume(m.from));
	stayed(&m);
}
END_TEST

/* Behind it: neither has the guest, and nobody wants to take it up again. */
START_TEST(cut_behind)
{
	struct move m = {.relay = {.kind = PAGES_FRAME, .nth = 5}};
	struct vcore_exit exit = {.size = sizeof exit};
	uint32_t word;

	move_begin(&m, _i);
	pthread_join(m.receiver, NULL);
	ck_assert_msg(m.received == 0, "%s", m.why_not);
	OK(vcore_vm_start(m.to));
	move_until_state(m.to, VCORE_MIGRATE_INTERRUPTED);
	ck_assert_str_ne(migrating_info(m.to).error, "");
	OK(vcore_migrate_cancel(m.to));
	OK(vcore_vm_wait(m.to, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_CRASH);
	ck_assert_uint_eq(exit.crash, VCORE_CRASH_MEMORY_LOST);
	ck_assert_msg(strstr(exit.message, "post-copy"), "%s", exit.message);
	move_until_state(m.to, VCORE_MIGRATE_LOST);
	ck_assert_str_ne(migrating_info(m.to).error, "");
	REFUSED(vcore_migrate_cancel(m.to), ENOENT, "not being migrated");
	/* zeroes are not passed off as the guest's */
	REFUSED(vcore_memory_read(m.to, COUNT, &word, sizeof word), EFAULT, "lost");
	move_end_sending(&m);
	ck_assert_int_eq(m.sent, -ENOLINK);
	ck_assert_uint_eq(migrating_info(m.from).state, VCORE_MIGRATE_INTERRUPTED);
	ck_assert_uint_eq(api_state(m.from), VCORE_VM_PAUSED);
	vcore_vm_unref(m.to);
	REFUSED(vcore_vm_resume(m.from), EBUSY, "interrupted");
	REFUSED(vcore_vm_reset(m.from), EBUSY, "");
	REFUSED(vcore_migrate_send(m.from, &m.o), EBUSY, "interrupted");
	OK(vcore_migrate_cancel(m.from));
	ck_assert_uint_eq(migrating_info(m.from).state, VCORE_MIGRATE_LOST);
	REFUSED(vcore_migrate_cancel(m.from), ENOENT, "not being migrated");
	/* all of it is still here, for who knows that it may go on from there */
	OK(vcore_vm_resume(m.from));
	m.to = NULL;
	postcopying_check(m.from);
	stayed(&m);
}
END_TEST

/* What cannot be done meanwhile; and the vm is dropped while its vcpu waits for a page. */
START_TEST(dropped)
{
	struct move m = {.relay = {.kind = PAGES_FRAME, .stands = true}};
	struct vcore_migrate_options back = {.size = sizeof back};
	vcore_snapshot *snapshot;

	move_begin(&m, _i);
	pthread_join(m.receiver, NULL);
	ck_assert_msg(m.received == 0, "%s", m.why_not);
	OK(vcore_vm_start(m.to));
	move_until_state(m.to, VCORE_MIGRATE_POSTCOPY);
	REFUSED(vcore_snapshot_take(m.to, &snapshot), EBUSY, "still coming");
	REFUSED(vcore_migrate_send(m.to, &back), EBUSY, "still coming");
	api_until(&m.relay.reached, 1);
	vcore_vm_unref(m.to);
	m.to = NULL;
	move_end_sending(&m);
	ck_assert_int_eq(m.sent, -ENOLINK);
	ck_assert_uint_eq(migrating_info(m.from).state, VCORE_MIGRATE_INTERRUPTED);
	vcore_vm_unref(m.from);
}
END_TEST

/* One that has ended needs no more: that is no loss. */
START_TEST(ended)
{
	struct move m = {.relay = {.kind = UINT32_MAX}};
	struct vcore_exit exit = {.size = sizeof exit};

	move_begin(&m, _i);
	pthread_join(m.receiver, NULL);
	ck_assert_msg(m.received == 0, "%s", m.why_not);
	OK(vcore_vm_start(m.to));
	OK(vcore_vm_stop(m.to));
	OK(vcore_vm_wait(m.to, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_STOPPED);
	vcore_vm_unref(m.to);
	move_end_sending(&m);
	ck_assert_msg(m.sent == 0, "%s", m.why);
	ck_assert_uint_eq(migrating_info(m.from).state, VCORE_MIGRATE_COMPLETED);
	vcore_vm_unref(m.from);
}
END_TEST

/* ---- it is called off, or cannot be ---- */

static int no(void *ctx, const struct vcore_migrate_info *info)
{
	return 1;
}

static void *call_off(void *ctx)
{
	while (migrating_info(ctx).rounds < 2)
		api_pause_ms(1);
	OK(vcore_migrate_cancel(ctx));
	return NULL;
}

START_TEST(called_off)
{
	for (int way = 0; way < 2; way++) {
		struct move m = {.o = {.downtime_us = 1}, .relay = {.kind = UINT32_MAX}};
		pthread_t other;

		m.o.progress = way ? NULL : no;
		m.o.postcopy_rounds = way ? UINT32_MAX : 0;
		move_begin(&m, _i);
		if (way) {
			ck_assert_int_eq(pthread_create(&other, NULL, call_off, m.from), 0);
			pthread_join(other, NULL);
		}
		pthread_join(m.receiver, NULL);
		move_end_sending(&m);
		ck_assert_int_eq(m.sent, -ECANCELED);
		ck_assert_uint_eq(migrating_info(m.from).state, VCORE_MIGRATE_CANCELED);
		stayed(&m);
	}
}
END_TEST

static uint8_t *own_memory;

static int with_own_memory(void *ctx, vcore_vm *vm)
{
	struct vcore_memory_options o = {.size = sizeof o, .kind = VCORE_MEMORY_POINTER, .pointer = own_memory};

	return vcore_memory_add(vm, MORE, MORE_BYTES, VCORE_MEM_RWX, &o, NULL);
}

START_TEST(refused)
{
	struct move m = {.relay = {.kind = UINT32_MAX}, .clone = {.size = sizeof m.clone, .prepare = with_own_memory}};
	struct vcore_migrate_options o = {.size = sizeof o, .fd = -1, .reserved = 1};

	own_memory = mmap(NULL, MORE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(own_memory, MAP_FAILED);
	move_begin(&m, _i);
	pthread_join(m.receiver, NULL);
	move_end_sending(&m);
	ck_assert_int_eq(m.received, -ENOTSUP);
	ck_assert_msg(strstr(m.why_not, "cannot come by post-copy"), "%s", m.why_not);
	ck_assert_int_eq(m.sent, -EREMOTEIO);
	ck_assert_msg(strstr(m.why, "cannot come by post-copy"), "%s", m.why);
	ck_assert_uint_eq(migrating_info(m.from).pages, 0);
	REFUSED(vcore_migrate_postcopy(m.from), ENOENT, "not being migrated");
	REFUSED(vcore_migrate_send(m.from, &o), EINVAL, "reserved");
	stayed(&m);
	munmap(own_memory, MORE_BYTES);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("postcopy");
	TCase *t = tcase_create("postcopy");

	tcase_set_timeout(t, 60);
	EACH(t, it_moves);
	EACH(t, cut_before);
	EACH(t, cut_at_the_switch);
	EACH(t, cut_behind);
	EACH(t, dropped);
	EACH(t, ended);
	EACH(t, called_off);
	EACH(t, refused);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return postcopying_main(suite());
}
