/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm run: a command in a vm of its own, whose root is a directory of the host. */
#ifndef MICROVM_RUN_H
#define MICROVM_RUN_H

#include "microvm.h"
#include "wire.h"

#define MAX_VARIABLES    1024
#define MAX_RUN_MODULES  64
#define DEFAULT_PATH     "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define DEFAULT_HOSTNAME "microvm"

struct run_settings {
	struct vcore_options vm;
	const char *rootfs;
	char **argv;                          /* the command */
	const char *kernel;                   /* NULL: one is looked for */
	const char *modules;                  /* the kernel's directory of modules, "none"; NULL: beside it */
	const char *variables[MAX_VARIABLES]; /* "NAME=VALUE" */
	unsigned variable_count;
	const char *cwd, *user, *hostname, *cmdline;
	double timeout; /* seconds; 0: none */
	int status_fd;  /* how it ended, for a program; -1 */
	bool network, writable, tty, verbose;
};

/* How it ended. */
struct outcome {
	enum { RUN_EXITED, RUN_KILLED, RUN_TIMED_OUT, RUN_NOT_RUN } kind;
	int value;       /* exit status, signal; RUN_NOT_RUN: what to exit with */
	char text[4096]; /* RUN_NOT_RUN: why */
};
/* RUN_NOT_RUN with a sentence. Returns -1. */
int not_run(struct outcome *o, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* run_options.c. Returns -1 to go on, else the exit status. */
int parse_run_options(int argc, char **argv, struct run_settings *s);

/* run_kernel.c */
struct guest_kernel {
	char *image;
	char *modules[MAX_RUN_MODULES]; /* files, in the order in which they load */
	unsigned module_count;
};
/* One that has what the task needs; 0, or -1 with the outcome told. */
int find_kernel(const struct run_settings *s, struct guest_kernel *kernel, struct outcome *o);
void free_kernel(struct guest_kernel *kernel);

/* run_initrd.c: the initial RAM disk in memory: our init, modules, the task. */
struct archive {
	char *data; /* NULL: no memory */
	size_t length, room;
	unsigned count;
};
/* 0, or -1 with the outcome told. The caller frees archive->data. */
int make_initrd(const struct run_settings *s, const struct guest_kernel *kernel, struct archive *archive,
                struct outcome *o);

/* run_serve.c: the host's side while the guest runs. */
struct session;
/* A descriptor for the signals that are the command's. Before there are threads, which would die of them. */
int watch_signals(bool tty);
/* Streams and messages by way of devices of the vm. NULL with the outcome told. */
struct session *session_new(vcore_vm *vm, const struct run_settings *s, int signals, struct outcome *o);
/* Until the command has ended and its output is written. */
void session_run(struct session *session, struct outcome *o);
void session_free(struct session *session); /* NULL is allowed */

#endif
