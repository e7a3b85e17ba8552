/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The init of `microvm run`'s guest: mounts the root, runs one command in it, and tells the host how that ended. The
 * host ends the vm then. Static, so that it needs nothing of the root.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "../wire.h"

#define MAX_WORDS   32768
#define MAX_MODULES 64

/* What the host wants, out of CONFIG_PATH; pointers are into its text. */
struct task {
	char *argv[MAX_WORDS + 1], *env[MAX_WORDS + 1];
	unsigned argc, env_count;
	const char *modules[MAX_MODULES];
	unsigned module_count;
	const char *cwd, *user, *hostname;
	bool writable, network, tty;
	unsigned short rows, columns;
};

/* Who runs the command. */
struct user {
	uid_t uid;
	gid_t gid, groups[64];
	size_t group_count;
	char home[256];
};

struct command {
	pid_t pid;
	int in, out, err; /* our ends of its streams; with a tty all are its master */
};

/* task.c: fails when it cannot be understood. */
void read_task(struct task *task);

/* report.c: the host hears the sentence and ends the vm; never returns. */
_Noreturn __attribute__((format(printf, 2, 3))) void fail(int status, const char *format, ...);
void set_control(int fd);
void send_message(const struct message *m);
/* The next one that has come; false: none. */
bool receive_message(struct message *m);

/* mount.c */
void mount_kernel_systems(void); /* where we begin: /proc, /sys, /dev */
void enter_root(const struct task *task);

/* net.c */
void start_network(const struct task *task);

/* user.c: out of the root's /etc/passwd and /etc/group. */
void find_user(const char *text, struct user *user);

/* command.c */
void start_command(struct task *task, struct command *command);

#endif
