/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "migrating.h"

#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/*
 *   turn: inc dword [COUNT]; mov eax, [COUNT]; mov edi, BUFFER; mov ecx, WRITER_PAGES
 *   page: mov [edi], eax; add edi, 4096; loop page; mov [MIRROR], eax; jmp turn
 */
static const uint8_t writer[] = {0xff, 0x05, 0x00, 0x50, 0x00,         0x00, 0xa1, 0x00, 0x50, 0x00, 0x00, 0xbf, 0x00,
                                 0x00, 0x04, 0x00, 0xb9, WRITER_PAGES, 0x00, 0x00, 0x00, 0x89, 0x07, 0x81, 0xc7, 0x00,
                                 0x10, 0x00, 0x00, 0xe2, 0xf6,         0xa3, 0x04, 0x50, 0x00, 0x00, 0xeb, 0xda};

void migrating_load(vcore_vm *vm)
{
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, writer, sizeof writer);
}

vcore_vm *migrating_writer(int backend)
{
	vcore_vm *vm = api_vm(backend, 1);

	migrating_load(vm);
	return vm;
}

static void until_mirror(vcore_vm *vm, uint32_t value)
{
	for (unsigned n = 0; api_word(vm, MIRROR) < value; n++) {
		ck_assert_uint_lt(n, 20000);
		api_pause_ms(1);
	}
}

uint32_t migrating_goes_on(vcore_vm *vm, uint32_t from)
{
	uint32_t count, mirror;

	until_mirror(vm, from + 10);
	OK(vcore_vm_pause(vm));
	count = api_word(vm, COUNT);
	mirror = api_word(vm, MIRROR);
	ck_assert(mirror == count || mirror == count - 1);
	for (uint32_t page = 0; page < WRITER_PAGES; page++) {
		uint32_t value = api_word(vm, BUFFER + page * 4096);

		ck_assert_msg(value == count || value == count - 1, "page %u: %u, count %u", page, value, count);
	}
	OK(vcore_vm_resume(vm));
	return count;
}

void migrating_turns(vcore_vm *vm)
{
	until_mirror(vm, api_word(vm, MIRROR) + 2);
}

struct vcore_migrate_info migrating_info(vcore_vm *vm)
{
	struct vcore_migrate_info info = {.size = sizeof info};

	OK(vcore_migrate_get_info(vm, &info));
	return info;
}

/* ---- connections ---- */

void migrating_connect(struct migrating_sockets *s, uint32_t count)
{
	s->count = count;
	for (uint32_t i = 0; i < count; i++) {
		int pair[2];

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		s->source[i] = pair[0];
		s->destination[i] = pair[1];
	}
}

void migrating_close(int *fds, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		close(fds[i]);
}

void migrating_source(struct vcore_migrate_options *options, const struct migrating_sockets *s)
{
	options->fd = s->source[0];
	options->more_fd_count = s->count - 1;
	options->more_fds = s->source + 1;
}

void migrating_destination(struct vcore_migrate_receive_options *options, const struct migrating_sockets *s)
{
	options->fd = s->destination[0];
	options->more_fd_count = s->count - 1;
	options->more_fds = s->destination + 1;
}

/* ---- somebody in between ---- */

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* What one direction has; false: it has ended, or is to. */
static bool pass(struct proxy *p, bool backwards)
{
	int from = backwards ? p->out : p->in, to = backwards ? p->in : p->out;
	uint64_t passed = p->passed[backwards];
	uint8_t buffer[4096];
	ssize_t n = recv(from, buffer, sizeof buffer, 0);
	bool here = p->backwards == backwards && n > 0 && p->at < passed + (uint64_t)n && p->at >= passed;

	if (n <= 0)
		return false;
	if (here && p->how == ALTER)
		buffer[p->at - passed] ^= 0x10;
	if (here && p->how != ALTER)
		n = (ssize_t)(p->at - passed);
	p->passed[backwards] += (uint64_t)n;
	for (ssize_t done = 0, k; done < n; done += k)
		if ((k = send(to, buffer + done, (size_t)(n - done), MSG_NOSIGNAL)) <= 0)
			return false;
	/* one that stalls keeps both sides connected until they have had enough */
	return !here || p->how == ALTER || p->how == STALL;
}

static void *run_proxy(void *ctx)
{
	struct proxy *p = ctx;
	double from = seconds(), ahead;
	bool stalled = false;

	for (bool on = true; on;) {
		struct pollfd fds[] = {{p->in, stalled ? 0 : POLLIN, 0}, {p->out, stalled ? 0 : POLLIN, 0}};

		poll(fds, 2, 100);
		if (stalled) {
			on = !((fds[0].revents | fds[1].revents) & POLLHUP);
			continue;
		}
		if (fds[0].revents)
			on = pass(p, false);
		if (on && fds[1].revents)
			on = pass(p, true);
		stalled = p->how == STALL && p->passed[p->backwards] == p->at;
		ahead = (double)p->passed[0] - (seconds() - from) * (double)p->rate;
		p->ahead = ahead > p->ahead ? ahead : p->ahead;
	}
	close(p->in);
	close(p->out);
	return NULL;
}

void proxy_start(struct proxy *p, int *destination)
{
	int s[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	/* it has the end that was the destination's, which has a new one */
	p->in = *destination;
	p->out = s[0];
	*destination = s[1];
	ck_assert_int_eq(pthread_create(&p->thread, NULL, run_proxy, p), 0);
}

void proxy_join(struct proxy *p)
{
	pthread_join(p->thread, NULL);
}
