/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Process 1 of the guest of `microvm run`: see guest.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../pump.h"
#include "guest.h"

#define PORTS_DIRECTORY "/sys/class/virtio-ports"
#define COMPRESSED_FILE 4 /* of finit_module(2): the kernel decompresses */

enum { PATIENCE = 60000 }; /* milliseconds until a port is there */

/* ---- beginning ---- */

static void load_modules(const struct task *task)
{
	for (unsigned i = 0; i < task->module_count; i++) {
		const char *name = task->modules[i], *suffix = strrchr(name, '.');
		int fd = open(name, O_RDONLY | O_CLOEXEC), flags = suffix && strcmp(suffix, ".ko") ? COMPRESSED_FILE : 0;

		if (fd < 0 || (syscall(SYS_finit_module, fd, "", flags) < 0 && errno != EEXIST))
			fail(RUN_FAILED, "cannot load the module %s: %s", name, strerror(errno));
		close(fd);
		unlink(name);
	}
}

static void rest(void)
{
	nanosleep(&(struct timespec){0, 1000000}, NULL);
}

static bool has_name(const char *port, const char *wanted)
{
	char path[300], name[64];
	int fd;
	ssize_t n;

	snprintf(path, sizeof path, PORTS_DIRECTORY "/%s/name", port);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, name, sizeof name - 1);
	close(fd);
	name[n > 0 ? n - 1 : 0] = '\0';
	return !strcmp(name, wanted);
}

/* The device of the port of that name; the kernel learns of names some time after the driver is loaded. */
static bool find_port(const char *wanted, char *device, size_t length)
{
	DIR *directory = opendir(PORTS_DIRECTORY);
	struct dirent *entry = NULL;
	bool found = false;

	while (directory && !found && (entry = readdir(directory)))
		found = entry->d_name[0] != '.' && has_name(entry->d_name, wanted);
	if (found)
		snprintf(device, length, "/dev/%s", entry->d_name);
	if (directory)
		closedir(directory);
	return found;
}

static int open_port(const char *name)
{
	struct pollfd p = {-1, POLLOUT, 0};
	char device[280];

	for (int i = 0; i < PATIENCE; i++) {
		if (p.fd < 0 && find_port(name, device, sizeof device))
			p.fd = open(device, O_RDWR | O_CLOEXEC | O_NONBLOCK);
		/* until the host has said that it listens */
		if (p.fd >= 0 && poll(&p, 1, 0) > 0 && p.revents & POLLOUT)
			return p.fd;
		rest();
	}
	fail(RUN_FAILED, "the console has no port %s", name);
}

static void open_ports(int ports[PORTS])
{
	static const char *const names[PORTS] = PORT_NAMES;

	for (int i = 0; i < PORTS; i++) {
		ports[i] = open_port(names[i]);
		if (i == PORT_CONTROL)
			set_control(ports[i]);
	}
}

/* ---- while it runs ---- */

struct state {
	struct task task;
	struct command command;
	struct pump in, out, err;
	int children; /* signalfd */
	bool ended;
	int status; /* as wait() has it */
};

/* What the task has left running goes with it: it is the guest's only task. */
static void reap(struct state *s)
{
	struct signalfd_siginfo info;
	pid_t pid;
	int status;

	while (read(s->children, &info, sizeof info) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != s->command.pid)
			continue;
		s->ended = true;
		s->status = status;
		kill(-1, SIGKILL);
	}
}

static void take_signal(const struct state *s, int number)
{
	if (!s->ended && number > 0 && number < NSIG)
		kill(-s->command.pid, number);
}

static void take_message(struct state *s, const struct message *m)
{
	struct winsize size = {.ws_row = m->rows, .ws_col = m->columns};
	struct pump *pump = m->value == PORT_OUT ? &s->out : &s->err;

	switch (m->type) {
	case MESSAGE_IN_END:
		s->in.length = m->total;
		break;
	case MESSAGE_SIGNAL:
		take_signal(s, (int)m->value);
		break;
	case MESSAGE_SIZE:
		if (s->task.tty)
			ioctl(s->command.out, TIOCSWINSZ, &size);
		break;
	case MESSAGE_CLOSED:
		/* the command finds its pipe without a reader */
		if (!s->task.tty && pump->from >= 0)
			close(pump->from);
		pump->from = -1;
		pump->closed = true;
		pump->have = 0;
		break;
	}
}

/* The command sees the end of its input; a terminal has none as long as it is there. */
static void end_input(struct state *s)
{
	if (s->task.tty || s->command.in < 0 || !(pump_done(&s->in) || s->in.closed))
		return;
	close(s->command.in);
	s->command.in = s->in.to = -1;
	s->in.closed = true;
}

static bool is_over(const struct state *s)
{
	return s->ended && pump_done(&s->out) && pump_done(&s->err);
}

static void serve(struct state *s, int control)
{
	struct pollfd fds[8] = {{control, POLLIN, 0}, {s->children, POLLIN, 0}};
	struct message m;

	while (!is_over(s)) {
		pump_prepare(&s->in, &fds[2]);
		pump_prepare(&s->out, &fds[4]);
		pump_prepare(&s->err, &fds[6]);
		if (poll(fds, 8, -1) < 0)
			continue;
		if (fds[1].revents)
			reap(s);
		if (fds[0].revents && receive_message(&m))
			take_message(s, &m);
		pump_run(&s->in, &fds[2]);
		pump_run(&s->out, &fds[4]);
		pump_run(&s->err, &fds[6]);
		end_input(s);
	}
}

static void tell_end(const struct state *s)
{
	struct message m = {.out = s->out.taken, .err = s->err.taken};

	if (s->task.writable)
		sync();
	m.type = WIFSIGNALED(s->status) ? MESSAGE_KILLED : MESSAGE_EXITED;
	m.value = (uint32_t)(WIFSIGNALED(s->status) ? WTERMSIG(s->status) : WEXITSTATUS(s->status));
	send_message(&m);
}

static int watch_children(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(void)
{
	static struct state s;
	int ports[PORTS];

	mount_kernel_systems();
	read_task(&s.task);
	load_modules(&s.task);
	open_ports(ports);
	enter_root(&s.task);
	start_network(&s.task);
	s.children = watch_children();
	start_command(&s.task, &s.command);
	send_message(&(struct message){.type = MESSAGE_STARTED});
	pump_init(&s.in, ports[PORT_IN], s.command.in);
	pump_init(&s.out, s.command.out, ports[PORT_OUT]);
	pump_init(&s.err, s.task.tty ? -1 : s.command.err, ports[PORT_ERR]);
	serve(&s, ports[PORT_CONTROL]);
	tell_end(&s);
	for (;;)
		pause();
}
