/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A Linux guest moves to another process, and back by post-copy: migrate KERNEL INITRD BACKEND. Its shell is asked sums
 * before and after, and while it moves it writes memory. Exit status 0: all answers were right.
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

#define TURNS 2

static void receive(int fd, struct shell *g)
{
	struct vcore_clone_options clone = {.size = sizeof clone, .properties = shell_properties, .ctx = g};
	struct vcore_migrate_receive_options o = {.size = sizeof o, .fd = fd, .clone = &clone};

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
		printf("migrate: no userfaultfd here: both ways by pre-copy\n");
	return can ? VCORE_MIGRATE_BY_POSTCOPY : 0;
}

static void deliver(int fd, vcore_vm *vm, uint32_t flags)
{
	struct vcore_migrate_options o = {.size = sizeof o, .fd = fd, .flags = VCORE_MIGRATE_AUTO_CONVERGE | flags};
	struct vcore_migrate_info info = {.size = sizeof info};

	shell_check(vcore_migrate_send(vm, &o), "sending");
	shell_check(vcore_migrate_get_info(vm, &info), "info");
	printf("migrate: %llu MiB, %llu MiB sent in %u rounds, %.1f ms, stopped for %.2f ms\n",
	       (unsigned long long)info.memory >> 20, (unsigned long long)info.sent >> 20, info.rounds,
	       (double)info.total_ns / 1e6, (double)info.downtime_ns / 1e6);
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
static void other_side(int there, int back, int told, struct shell *g)
{
	char byte;

	for (int n = 0; n < TURNS; n++) {
		receive(there, g);
		if (read(told, &byte, 1) != 1)
			exit(1);
		deliver(back, g->vm, by_postcopy());
		vcore_vm_unref(g->vm);
	}
	exit(0);
}

int main(int argc, char **argv)
{
	static struct shell here, there;
	int to[2], from[2], tell[2], status;
	vcore_vm *vm;
	pid_t pid;

	if (argc < 4) {
		fprintf(stderr, "usage: migrate KERNEL INITRD BACKEND\n");
		return 64;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	shell_pipes(&there);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, to) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, from) < 0 || pipe(tell) < 0)
		shell_fail("sockets");
	pid = fork();
	if (pid < 0)
		shell_fail("fork");
	if (!pid) {
		close(to[0]);
		close(from[0]);
		close(tell[1]);
		other_side(to[1], from[1], tell[0], &there);
	}
	close(to[1]);
	close(from[1]);
	shell_boot(&here, argv, "x86-64-v2");
	shell_ask(&here, "here", "who=here; n=0; (while :; do n=$((n+1)); echo $n >/m; mv /m /n; done) & echo $((6*7))",
	          "42");
	for (int n = 0; n < TURNS; n++) {
		deliver(to[0], here.vm, 0);
		shell_ask(&there, "there", "echo $who-$((11*11)); who=there; date +wee''k%u", "here-121");
		shell_ask(&there, "there: time", "sleep 1; echo slep''t", "slept");
		shell_ask(&there, "there: the writer", "a=$(cat /n); sleep 1; b=$(cat /n); [ $b -gt $a ] && echo mor''e",
		          "more");
		shell_ask(&there, "there: disk", "dd if=/dev/vda bs=4k count=64 iflag=direct 2>/dev/null | wc -c", "262144");
		vm = here.vm;
		if (write(tell[1], "x", 1) != 1)
			shell_fail("telling");
		receive(from[0], &here);
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
