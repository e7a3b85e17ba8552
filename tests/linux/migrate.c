/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A Linux guest moves to another process and back: migrate KERNEL INITRD BACKEND. Its shell is asked sums before and
 * after, and while it moves it writes memory. There it goes as it is, back over two connections and as differences, the
 * last time by post-copy at once.
 * Exit status 0: all answers were right.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shell.h"

#define TURNS   2
#define STREAMS 2

/* Ends of connections. */
struct ends {
	int32_t fd[STREAMS];
	uint32_t count;
};

static void receive(const struct ends *from, struct shell *g)
{
	struct vcore_clone_options clone = {.size = sizeof clone, .properties = shell_properties, .ctx = g};
	struct vcore_migrate_receive_options o = {.size = sizeof o,
	                                          .fd = from->fd[0],
	                                          .more_fds = from->fd + 1,
	                                          .more_fd_count = from->count - 1,
	                                          /* the guest boots meanwhile */
	                                          .timeout_ms = 200000,
	                                          .clone = &clone};

	shell_check(vcore_migrate_receive(&o, &g->vm), "receiving");
	shell_check(vcore_vm_start(g->vm), "start of what was received");
}

/* Post-copy, where this host lets us. */
static uint32_t by_postcopy(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	bool can = fd >= 0 || access("/dev/userfaultfd", R_OK | W_OK) == 0;

	if (fd >= 0)
		close(fd);
	if (!can)
		printf("migrate: no userfaultfd here: all ways by pre-copy\n");
	return can ? VCORE_MIGRATE_BY_POSTCOPY : 0;
}

static void deliver(const struct ends *to, vcore_vm *vm, uint32_t flags)
{
	struct vcore_migrate_options o = {.size = sizeof o,
	                                  .fd = to->fd[0],
	                                  .more_fds = to->fd + 1,
	                                  .more_fd_count = to->count - 1,
	                                  .flags = VCORE_MIGRATE_AUTO_CONVERGE | flags};
	struct vcore_migrate_info info = {.size = sizeof info};

	if (to->count > 1)
		o.flags |= VCORE_MIGRATE_DELTA;
	shell_check(vcore_migrate_send(vm, &o), "sending");
	shell_check(vcore_migrate_get_info(vm, &info), "info");
	printf("migrate: %llu MiB, %llu MiB sent in %u rounds over %u connections, %llu pages of %llu as differences, "
	       "%.1f ms, stopped for %.2f ms\n",
	       (unsigned long long)info.memory >> 20, (unsigned long long)info.sent >> 20, info.rounds, info.streams,
	       (unsigned long long)info.delta_pages, (unsigned long long)info.pages, (double)info.total_ns / 1e6,
	       (double)info.downtime_ns / 1e6);
}

/* It cannot move on, or be dropped, before all of it is here. */
static void until_whole(vcore_vm *vm)
{
	struct vcore_migrate_info info = {.size = sizeof info, .state = VCORE_MIGRATE_POSTCOPY};

	while (info.state == VCORE_MIGRATE_POSTCOPY) {
		usleep(1000);
		shell_check(vcore_migrate_get_info(vm, &info), "info");
	}
}

/* The other process: takes the vm in, and sends it back as soon as it is told. */
static void other_side(const struct ends *there, const struct ends *back, int told, struct shell *g)
{
	char byte;

	for (int n = 0; n < TURNS; n++) {
		receive(there, g);
		if (read(told, &byte, 1) != 1)
			exit(1);
		deliver(back, g->vm, n ? by_postcopy() : 0);
		vcore_vm_unref(g->vm);
	}
	exit(0);
}

static void connect_ends(struct ends *source, struct ends *destination, uint32_t count)
{
	source->count = destination->count = count;
	for (uint32_t i = 0; i < count; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
			shell_fail("sockets");
		source->fd[i] = pair[0];
		destination->fd[i] = pair[1];
	}
}

static void close_ends(const struct ends *ends)
{
	for (uint32_t i = 0; i < ends->count; i++)
		close(ends->fd[i]);
}

int main(int argc, char **argv)
{
	static struct shell here, there;
	struct ends to, arrival, from, departure;
	int tell[2], status;
	vcore_vm *vm;
	pid_t pid;

	if (argc < 4) {
		fprintf(stderr, "usage: migrate KERNEL INITRD BACKEND\n");
		return 64;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	shell_pipes(&there);
	connect_ends(&to, &arrival, 1);
	connect_ends(&departure, &from, STREAMS);
	if (pipe(tell) < 0)
		shell_fail("pipe");
	pid = fork();
	if (pid < 0)
		shell_fail("fork");
	if (!pid) {
		close_ends(&to);
		close_ends(&from);
		close(tell[1]);
		other_side(&arrival, &departure, tell[0], &there);
	}
	close_ends(&arrival);
	close_ends(&departure);
	shell_boot(&here, argv, "x86-64-v2");
	shell_ask(&here, "here", "who=here; n=0; (while :; do n=$((n+1)); echo $n >/m; mv /m /n; done) & echo $((6*7))",
	          "42");
	for (int n = 0; n < TURNS; n++) {
		deliver(&to, here.vm, 0);
		shell_ask(&there, "there", "echo $who-$((11*11)); who=there; date +wee''k%u", "here-121");
		shell_ask(&there, "there: time", "sleep 1; echo slep''t", "slept");
		shell_ask(&there, "there: the writer", "a=$(cat /n); sleep 1; b=$(cat /n); [ $b -gt $a ] && echo mor''e",
		          "more");
		shell_ask(&there, "there: disk", "dd if=/dev/vda bs=4k count=64 iflag=direct 2>/dev/null | wc -c", "262144");
		vm = here.vm;
		if (write(tell[1], "x", 1) != 1)
			shell_fail("telling");
		receive(&from, &here);
		vcore_vm_unref(vm);
		shell_ask(&here, "back", "echo $who+$((13*13)); who=here", "there+169");
		until_whole(here.vm);
	}
	shell_end(&here);
	if (waitpid(pid, &status, 0) != pid || status)
		shell_fail("the other side");
	printf("migrate: all answers were right\n");
	return 0;
}
