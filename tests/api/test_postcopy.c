/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Post-copy: the guest runs on the other side before all of its memory is there, and what happens if that never comes.
 */
#include "migrating.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PATTERN       0x400000u
#define PATTERN_PAGES 2048u
#define MORE          0x400000u
#define MORE_BYTES    (8u << 20)

/* A writer, and 8 MiB that it leaves alone, each page different. */
static vcore_vm *guest(int backend)
{
	vcore_vm *vm = migrating_writer(backend);

	OK(vcore_memory_add(vm, MORE, MORE_BYTES, VCORE_MEM_RWX, NULL, NULL));
	for (uint32_t page = 0; page < PATTERN_PAGES; page += 1 + page % 3) {
		uint32_t words[2] = {page, ~page};

		OK(vcore_memory_write(vm, PATTERN + page * 4096 + page % 4000, words, sizeof words));
	}
	OK(vcore_vm_start(vm));
	migrating_goes_on(vm, 0);
	return vm;
}

static void check_pattern(vcore_vm *vm)
{
	for (uint32_t page = 0, there = 0; page < PATTERN_PAGES; page++) {
		uint64_t at = PATTERN + page * 4096 + page % 4000;

		ck_assert_uint_eq(api_word(vm, at), page == there ? page : 0);
		ck_assert_uint_eq(api_word(vm, at + 4), page == there ? ~page : 0);
		there += page == there ? 1 + page % 3 : 0;
	}
}

/* ---- a connection that ends, or stands still, at some frame of the source's ---- */

/* As in lib/vm/migrate_stream.h. */
enum { PAGES_FRAME = 3, STATE_FRAME = 4, GO_FRAME = 6, ABSENT_FRAME = 11 };

struct relay {
	int in, out;   /* the source's and the destination's side */
	uint32_t kind; /* of the frame that does not pass; UINT32_MAX: all do */
	unsigned nth;  /* after so many of its kind that come behind GO */
	bool stands;   /* the connection stays */
	_Atomic uint32_t reached;
	pthread_t thread, back;
};

static bool all_of(int fd, uint8_t *buffer, size_t length)
{
	return recv(fd, buffer, length, MSG_WAITALL) == (ssize_t)length;
}

static bool pass_frame(struct relay *p, unsigned *count, bool *gone)
{
	static _Thread_local uint8_t frame[1 << 20];
	uint32_t kind, length;

	if (!all_of(p->in, frame, 32))
		return false;
	memcpy(&kind, frame + 4, 4);
	memcpy(&length, frame + 12, 4);
	ck_assert_uint_lt(length, sizeof frame - 32);
	if (length && !all_of(p->in, frame + 32, length))
		return false;
	*gone |= kind == GO_FRAME;
	if (kind == p->kind && (*gone || p->kind == ABSENT_FRAME) && (*count)++ == p->nth)
		return false;
	return send(p->out, frame, 32 + length, MSG_NOSIGNAL) == (ssize_t)(32 + length);
}

static void *pass_forth(void *ctx)
{
	struct relay *p = ctx;
	unsigned count = 0;
	bool gone = false;

	while (pass_frame(p, &count, &gone))
		;
	atomic_store(&p->reached, 1);
	if (!p->stands) {
		shutdown(p->in, SHUT_RDWR);
		shutdown(p->out, SHUT_RDWR);
	}
	return NULL;
}

static void *pass_back(void *ctx)
{
	struct relay *p = ctx;
	uint8_t buffer[4096];
	ssize_t n;

	while ((n = recv(p->out, buffer, sizeof buffer, 0)) > 0)
		if (send(p->in, buffer, (size_t)n, MSG_NOSIGNAL) != n)
			break;
	shutdown(p->in, SHUT_RDWR);
	shutdown(p->out, SHUT_RDWR);
	return NULL;
}

/* ---- both sides ---- */

struct move {
	struct vcore_migrate_options o;
	struct vcore_clone_options clone;
	struct relay relay;
	vcore_vm *from, *to; /* to: NULL, it is not there */
	int source, destination, sent, received;
	struct migrating_sockets more; /* further connections, which nobody cuts */
	char why[256], why_not[256];   /* the sentences of the source and the destination */
	pthread_t sender, receiver;
};

static void *do_send(void *ctx)
{
	struct move *m = ctx;

	m->sent = vcore_migrate_send(m->from, &m->o);
	snprintf(m->why, sizeof m->why, "%s", m->sent < 0 ? vcore_error_message() : "");
	close(m->source);
	return NULL;
}

static void *do_receive(void *ctx)
{
	struct move *m = ctx;
	struct vcore_migrate_receive_options o = {
	    .size = sizeof o, .fd = m->destination, .timeout_ms = 20000, .clone = m->clone.size ? &m->clone : NULL};

	o.more_fd_count = m->more.count;
	o.more_fds = m->more.destination;
	m->received = vcore_migrate_receive(&o, &m->to);
	snprintf(m->why_not, sizeof m->why_not, "%s", m->received < 0 ? vcore_error_message() : "");
	close(m->destination);
	return NULL;
}

static void begin(struct move *m, int backend)
{
	int source[2], destination[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, source), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, destination), 0);
	m->from = guest(backend);
	m->relay.in = source[1];
	m->relay.out = destination[0];
	m->source = source[0];
	m->destination = destination[1];
	m->o.size = sizeof m->o;
	m->o.fd = m->source;
	m->o.flags |= VCORE_MIGRATE_BY_POSTCOPY;
	m->o.timeout_ms = 20000;
	m->o.more_fd_count = m->more.count;
	m->o.more_fds = m->more.source;
	ck_assert_int_eq(pthread_create(&m->relay.thread, NULL, pass_forth, &m->relay), 0);
	ck_assert_int_eq(pthread_create(&m->relay.back, NULL, pass_back, &m->relay), 0);
	ck_assert_int_eq(pthread_create(&m->receiver, NULL, do_receive, m), 0);
	ck_assert_int_eq(pthread_create(&m->sender, NULL, do_send, m), 0);
}

static void end_sending(struct move *m)
{
	pthread_join(m->sender, NULL);
	shutdown(m->relay.in, SHUT_RDWR);
	shutdown(m->relay.out, SHUT_RDWR);
	pthread_join(m->relay.thread, NULL);
	pthread_join(m->relay.back, NULL);
	close(m->relay.in);
	close(m->relay.out);
}

/* The guest has stayed where it was. */
static void stayed(struct move *m)
{
	ck_assert_ptr_null(m->to);
	ck_assert_uint_eq(api_state(m->from), VCORE_VM_RUNNING);
	migrating_goes_on(m->from, api_word(m->from, COUNT));
	vcore_vm_unref(m->from);
}

static void until_state(vcore_vm *vm, uint32_t state)
{
	for (unsigned n = 0; migrating_info(vm).state != state; n++) {
		ck_assert_uint_lt(n, 20000);
		api_pause_ms(1);
	}
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
	begin(&m, backend);
	if (way == BY_CALL)
		ck_assert_int_eq(pthread_create(&other, NULL, call_for_it, m.from), 0);
	pthread_join(m.receiver, NULL);
	ck_assert_msg(m.received == 0, "%s", m.why_not);
	OK(vcore_vm_start(m.to));
	count = migrating_goes_on(m.to, 0);
	check_pattern(m.to);
	if (way == BY_CALL)
		pthread_join(other, NULL);
	end_sending(&m);
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
		until_state(m.to, VCORE_MIGRATE_COMPLETED);
	ck_assert_uint_eq(migrating_info(m.to).remaining, 0);
	/* and is as any other */
	vcore_vm_unref(m.from);
	migrating_goes_on(m.to, count);
	check_pattern(m.to);
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

	begin(&m, _i);
	pthread_join(m.receiver, NULL);
	end_sending(&m);
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

	begin(&m, _i);
	pthread_join(m.receiver, NULL);
	end_sending(&m);
	ck_assert_int_eq(m.sent, -ENOTRECOVERABLE);
	ck_assert_ptr_null(m.to);
	ck_assert_uint_eq(migrating_info(m.from).state, VCORE_MIGRATE_UNDECIDED);
	ck_assert_uint_eq(api_state(m.from), VCORE_VM_PAUSED);
	OK(vcore_vm_resume(m.from));
	stayed(&m);
}
END_TEST

/* Behind it: neither has the guest. */
START_TEST(cut_behind)
{
	struct move m = {.relay = {.kind = PAGES_FRAME, .nth = 5}};
	struct vcore_exit exit = {.size = sizeof exit};
	uint32_t word;

	begin(&m, _i);
	pthread_join(m.receiver, NULL);
	ck_assert_msg(m.received == 0, "%s", m.why_not);
	OK(vcore_vm_start(m.to));
	OK(vcore_vm_wait(m.to, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_CRASH);
	ck_assert_uint_eq(exit.crash, VCORE_CRASH_MEMORY_LOST);
	ck_assert_msg(strstr(exit.message, "post-copy"), "%s", exit.message);
	until_state(m.to, VCORE_MIGRATE_LOST);
	ck_assert_str_ne(migrating_info(m.to).error, "");
	/* zeroes are not passed off as the guest's */
	REFUSED(vcore_memory_read(m.to, COUNT, &word, sizeof word), EFAULT, "lost");
	end_sending(&m);
	ck_assert_int_eq(m.sent, -ENOTRECOVERABLE);
	ck_assert_uint_eq(migrating_info(m.from).state, VCORE_MIGRATE_LOST);
	ck_assert_uint_eq(api_state(m.from), VCORE_VM_PAUSED);
	vcore_vm_unref(m.to);
	/* all of it is still here, for who wants to go on from there */
	OK(vcore_vm_resume(m.from));
	m.to = NULL;
	check_pattern(m.from);
	stayed(&m);
}
END_TEST

/* What cannot be done meanwhile; and the vm is dropped while its vcpu waits for a page. */
START_TEST(dropped)
{
	struct move m = {.relay = {.kind = PAGES_FRAME, .stands = true}};
	struct vcore_migrate_options back = {.size = sizeof back};
	vcore_snapshot *snapshot;

	begin(&m, _i);
	pthread_join(m.receiver, NULL);
	ck_assert_msg(m.received == 0, "%s", m.why_not);
	OK(vcore_vm_start(m.to));
	until_state(m.to, VCORE_MIGRATE_POSTCOPY);
	REFUSED(vcore_snapshot_take(m.to, &snapshot), EBUSY, "still coming");
	REFUSED(vcore_migrate_send(m.to, &back), EBUSY, "still coming");
	api_until(&m.relay.reached, 1);
	vcore_vm_unref(m.to);
	m.to = NULL;
	end_sending(&m);
	ck_assert_int_eq(m.sent, -ENOTRECOVERABLE);
	ck_assert_uint_eq(migrating_info(m.from).state, VCORE_MIGRATE_LOST);
	vcore_vm_unref(m.from);
}
END_TEST

/* One that has ended needs no more: that is no loss. */
START_TEST(ended)
{
	struct move m = {.relay = {.kind = UINT32_MAX}};
	struct vcore_exit exit = {.size = sizeof exit};

	begin(&m, _i);
	pthread_join(m.receiver, NULL);
	ck_assert_msg(m.received == 0, "%s", m.why_not);
	OK(vcore_vm_start(m.to));
	OK(vcore_vm_stop(m.to));
	OK(vcore_vm_wait(m.to, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_STOPPED);
	vcore_vm_unref(m.to);
	end_sending(&m);
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
		begin(&m, _i);
		if (way) {
			ck_assert_int_eq(pthread_create(&other, NULL, call_off, m.from), 0);
			pthread_join(other, NULL);
		}
		pthread_join(m.receiver, NULL);
		end_sending(&m);
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
	begin(&m, _i);
	pthread_join(m.receiver, NULL);
	end_sending(&m);
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
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0 && access("/dev/userfaultfd", R_OK | W_OK) < 0) {
		printf("SKIP: no userfaultfd here (%s): vm.unprivileged_userfaultfd=1, or root\n", strerror(errno));
		return 77;
	}
	if (fd >= 0)
		close(fd);
	return api_main(suite());
}
