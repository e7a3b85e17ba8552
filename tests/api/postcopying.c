/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "postcopying.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PATTERN       0x400000u
#define PATTERN_PAGES 2048u

vcore_vm *postcopying_guest(int backend)
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

void postcopying_check(vcore_vm *vm)
{
	for (uint32_t page = 0, there = 0; page < PATTERN_PAGES; page++) {
		uint64_t at = PATTERN + page * 4096 + page % 4000;

		ck_assert_uint_eq(api_word(vm, at), page == there ? page : 0);
		ck_assert_uint_eq(api_word(vm, at + 4), page == there ? ~page : 0);
		there += page == there ? 1 + page % 3 : 0;
	}
}

/* ---- a connection that ends, or stands still, at some frame of the source's ---- */

static bool all_of(int fd, uint8_t *buffer, size_t length)
{
	return recv(fd, buffer, length, MSG_WAITALL) == (ssize_t)length;
}

/* The next frame; its length with its head, or 0: there is none. */
static uint32_t take_frame(int from, uint8_t *frame, uint32_t room, uint32_t *kind)
{
	uint32_t length;

	if (!all_of(from, frame, 32))
		return 0;
	memcpy(kind, frame + 4, 4);
	memcpy(&length, frame + 12, 4);
	ck_assert_uint_lt(length, room - 32);
	return length && !all_of(from, frame + 32, length) ? 0 : 32 + length;
}

static bool pass_frame(struct relay *p, unsigned *count)
{
	static _Thread_local uint8_t frame[1 << 20];
	uint32_t kind = 0, length = take_frame(p->in, frame, sizeof frame, &kind);

	p->gone |= length && kind == GO_FRAME;
	if (length && kind == p->kind && (p->gone || p->kind == ABSENT_FRAME) && (*count)++ == p->nth) {
		send(p->out, frame, p->part, MSG_NOSIGNAL);
		return false;
	}
	return length && send(p->out, frame, length, MSG_NOSIGNAL) == (ssize_t)length;
}

static bool pass_frame_back(struct relay *p)
{
	static _Thread_local uint8_t frame[1 << 20];
	uint32_t kind = 0, length = take_frame(p->out, frame, sizeof frame, &kind);

	return length && !(p->mute && kind == p->mute) && send(p->in, frame, length, MSG_NOSIGNAL) == (ssize_t)length;
}

static void *pass_forth(void *ctx)
{
	struct relay *p = ctx;
	unsigned count = 0;

	while (pass_frame(p, &count))
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

	while (pass_frame_back(p))
		;
	shutdown(p->in, SHUT_RDWR);
	shutdown(p->out, SHUT_RDWR);
	return NULL;
}

void relay_start(struct relay *p, int *source, int *destination)
{
	int s[2], d[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, d), 0);
	*source = s[0];
	p->in = s[1];
	p->out = d[0];
	*destination = d[1];
	ck_assert_int_eq(pthread_create(&p->thread, NULL, pass_forth, p), 0);
	ck_assert_int_eq(pthread_create(&p->back, NULL, pass_back, p), 0);
}

void relay_end(struct relay *p)
{
	shutdown(p->in, SHUT_RDWR);
	shutdown(p->out, SHUT_RDWR);
	pthread_join(p->thread, NULL);
	pthread_join(p->back, NULL);
	close(p->in);
	close(p->out);
}

/* ---- both sides ---- */

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

void move_begin(struct move *m, int backend)
{
	m->from = postcopying_guest(backend);
	relay_start(&m->relay, &m->source, &m->destination);
	m->o.size = sizeof m->o;
	m->o.fd = m->source;
	m->o.flags |= VCORE_MIGRATE_BY_POSTCOPY;
	m->o.timeout_ms = 20000;
	m->o.more_fd_count = m->more.count;
	m->o.more_fds = m->more.source;
	ck_assert_int_eq(pthread_create(&m->receiver, NULL, do_receive, m), 0);
	ck_assert_int_eq(pthread_create(&m->sender, NULL, do_send, m), 0);
}

void move_end_sending(struct move *m)
{
	pthread_join(m->sender, NULL);
	relay_end(&m->relay);
}

void move_until_state(vcore_vm *vm, uint32_t state)
{
	for (unsigned n = 0; migrating_info(vm).state != state; n++) {
		ck_assert_uint_lt(n, 20000);
		api_pause_ms(1);
	}
}

int postcopying_main(Suite *suite)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0 && access("/dev/userfaultfd", R_OK | W_OK) < 0) {
		printf("SKIP: no userfaultfd here (%s): vm.unprivileged_userfaultfd=1, or root\n", strerror(errno));
		return 77;
	}
	if (fd >= 0)
		close(fd);
	return api_main(suite);
}
