/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Live migration: to another process, and over a connection that somebody spoils. */
#include "api.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT  0x5000u
#define MIRROR 0x5004u
#define BUFFER 0x40000u
#define PAGES  64u

/*
 * A writer that never rests: each turn, the count goes up, and is written into every page of a buffer; at the end of a
 * turn, into MIRROR.
 *   turn: inc dword [COUNT]; mov eax, [COUNT]; mov edi, BUFFER; mov ecx, PAGES
 *   page: mov [edi], eax; add edi, 4096; loop page; mov [MIRROR], eax; jmp turn
 */
static const uint8_t writer[] = {0xff, 0x05, 0x00, 0x50, 0x00,  0x00, 0xa1, 0x00, 0x50, 0x00, 0x00, 0xbf, 0x00,
                                 0x00, 0x04, 0x00, 0xb9, PAGES, 0x00, 0x00, 0x00, 0x89, 0x07, 0x81, 0xc7, 0x00,
                                 0x10, 0x00, 0x00, 0xe2, 0xf6,  0xa3, 0x04, 0x50, 0x00, 0x00, 0xeb, 0xda};

static vcore_vm *writing(int backend)
{
	vcore_vm *vm = api_vm(backend, 1);

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, writer, sizeof writer);
	return vm;
}

static uint32_t word(vcore_vm *vm, uint64_t gpa)
{
	uint32_t value;

	OK(vcore_memory_read(vm, gpa, &value, sizeof value));
	return value;
}

/* The guest runs, and what it wrote is all there. */
static uint32_t goes_on(vcore_vm *vm, uint32_t from)
{
	uint32_t count, mirror;

	for (unsigned n = 0; word(vm, MIRROR) < from + 10; n++) {
		ck_assert_uint_lt(n, 20000);
		api_pause_ms(1);
	}
	OK(vcore_vm_pause(vm));
	count = word(vm, COUNT);
	mirror = word(vm, MIRROR);
	ck_assert(mirror == count || mirror == count - 1);
	for (uint32_t page = 0; page < PAGES; page++) {
		uint32_t value = word(vm, BUFFER + page * 4096);

		ck_assert_msg(value == count || value == count - 1, "page %u: %u, count %u", page, value, count);
	}
	OK(vcore_vm_resume(vm));
	return count;
}

/* ---- the other side: a process, made before there are threads ---- */

struct peer {
	pid_t pid;
	int fd;     /* ours */
	int its_fd; /* in the parent only until it is given away */
	int report; /* what became of it */
};

struct report {
	int result;
	uint32_t before, after; /* the count when it came, and later */
	char error[200];
};

static void receive(int backend, int fd, int to)
{
	struct vcore_migrate_receive_options o = {.size = sizeof o, .fd = fd, .timeout_ms = 10000};
	struct report report = {0};
	vcore_vm *vm;

	report.result = vcore_migrate_receive(&o, &vm);
	snprintf(report.error, sizeof report.error, "%s", report.result < 0 ? vcore_error_message() : "");
	close(fd);
	if (report.result >= 0) {
		report.before = word(vm, COUNT);
		OK(vcore_vm_start(vm));
		report.after = goes_on(vm, report.before);
		vcore_vm_unref(vm);
	} else {
		ck_assert_ptr_null(vm);
	}
	if (write(to, &report, sizeof report) < 0)
		_exit(1);
}

static void make_peer(struct peer *p, int backend)
{
	int s[2], pipes[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	ck_assert_int_eq(pipe(pipes), 0);
	fflush(stdout);
	p->pid = fork();
	ck_assert_int_ge(p->pid, 0);
	if (!p->pid) {
		close(s[0]);
		close(pipes[0]);
		receive(backend, s[1], pipes[1]);
		exit(0); /* where a sanitizer looks for leaks */
	}
	close(s[1]);
	close(pipes[1]);
	p->fd = s[0];
	p->report = pipes[0];
}

static struct report end_peer(struct peer *p)
{
	struct report report;
	int status;

	ck_assert_int_eq(read(p->report, &report, sizeof report), sizeof report);
	close(p->report);
	close(p->fd);
	ck_assert_int_eq(waitpid(p->pid, &status, 0), p->pid);
	ck_assert_int_eq(status, 0);
	return report;
}

static struct vcore_migrate_info info_of(vcore_vm *vm)
{
	struct vcore_migrate_info info = {.size = sizeof info};

	OK(vcore_migrate_get_info(vm, &info));
	return info;
}

START_TEST(to_another_process)
{
	struct vcore_migrate_options o = {.size = sizeof o, .flags = VCORE_MIGRATE_AUTO_CONVERGE};
	struct vcore_exit exit = {.size = sizeof exit};
	struct vcore_migrate_info info;
	struct report report;
	struct peer peer;
	uint32_t count;
	vcore_vm *vm;

	make_peer(&peer, _i);
	vm = writing(_i);
	ck_assert_uint_eq(info_of(vm).state, VCORE_MIGRATE_NONE);
	OK(vcore_vm_start(vm));
	goes_on(vm, 0);
	o.fd = peer.fd;
	OK(vcore_migrate_send(vm, &o));
	OK(vcore_vm_wait(vm, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_MIGRATED);
	count = word(vm, COUNT);
	api_pause_ms(5);
	ck_assert_uint_eq(word(vm, COUNT), count);
	report = end_peer(&peer);
	ck_assert_msg(report.result == 0, "%s", report.error);
	ck_assert_uint_eq(report.before, count);
	ck_assert_uint_ge(report.after, count + 10);
	info = info_of(vm);
	ck_assert_uint_eq(info.state, VCORE_MIGRATE_COMPLETED);
	ck_assert_uint_eq(info.memory, RAM);
	ck_assert_uint_ge(info.rounds, 2);
	ck_assert_uint_gt(info.downtime_ns, 0);
	ck_assert_uint_le(info.downtime_ns, info.total_ns);
	ck_assert_str_eq(info.error, "");
	vcore_vm_unref(vm);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("migrate");
	TCase *t = tcase_create("migrate");

	tcase_set_timeout(t, 60);
	EACH(t, to_another_process);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return api_main(suite());
}
