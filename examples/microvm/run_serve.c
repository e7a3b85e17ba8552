/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * microvm run: streams, signals and messages while the guest runs. The guest is not trusted: what it says is looked at,
 * and it can make us keep no more than the buffers here.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "pump.h"
#include "run.h"

#define CTRL_A 1

enum { TAIL = 2048, SHOWN = 1000 };

/* Entries for poll(). */
enum { FD_VM, FD_SIGNALS, FD_CONTROL, FD_CONSOLE, FD_IN, FD_OUT = FD_IN + 2, FD_ERR = FD_OUT + 2, FDS = FD_ERR + 2 };

struct session {
	const struct run_settings *settings;
	vcore_vm *vm;
	int signals;
	int ports[PORTS]; /* our ends */
	int console;      /* the kernel's messages */
	struct pump in, out, err;
	char message[sizeof(struct message)]; /* as far as it has come */
	size_t message_length;
	char tail[TAIL]; /* a ring: what the console has said last */
	size_t tail_end;
	bool started, exited, raw, escape, in_told, out_told, err_told;
	bool over;
	struct outcome *outcome;
};

/* ---- messages ---- */

/* One that finds no room is lost: such a guest does not listen. */
static bool send_message(struct session *s, const struct message *m)
{
	return send(s->ports[PORT_CONTROL], m, sizeof *m, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof *m;
}

static void end_with(struct session *s, int kind, int value)
{
	s->outcome->kind = kind;
	s->outcome->value = value;
}

/* The command has ended; its output is on its way. */
static void take_exit(struct session *s, const struct message *m)
{
	bool killed = m->type == MESSAGE_KILLED;

	s->exited = true;
	s->out.length = m->out;
	s->err.length = m->err;
	end_with(s, killed ? RUN_KILLED : RUN_EXITED, (int)(m->value & (killed ? 0x7f : 0xff)));
}

/* A sentence of the guest's goes to a terminal. */
static void take_failure(struct session *s, struct message *m)
{
	m->text[sizeof m->text - 1] = '\0';
	for (char *c = m->text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	not_run(s->outcome, m->value && m->value <= 255 ? (int)m->value : RUN_FAILED, "%s", m->text);
	s->over = true;
}

static void take_message(struct session *s, struct message *m)
{
	if (m->type == MESSAGE_STARTED && !s->started) {
		s->started = true;
	} else if ((m->type == MESSAGE_EXITED || m->type == MESSAGE_KILLED) && s->started && !s->exited) {
		take_exit(s, m);
	} else if (m->type == MESSAGE_FAILED && !s->started) {
		take_failure(s, m);
	} else {
		not_run(s->outcome, RUN_FAILED, "the guest's init says what it should not (message %u)", m->type);
		s->over = true;
	}
}

static void receive_messages(struct session *s)
{
	struct message m;
	ssize_t n;

	while (!s->over && (n = recv(s->ports[PORT_CONTROL], s->message + s->message_length,
	                             sizeof s->message - s->message_length, MSG_DONTWAIT)) > 0) {
		s->message_length += (size_t)n;
		if (s->message_length < sizeof m)
			continue;
		memcpy(&m, s->message, sizeof m);
		s->message_length = 0;
		take_message(s, &m);
	}
}

/* ---- the kernel's console ---- */

static void receive_console(struct session *s)
{
	char text[512];
	ssize_t n;

	while ((n = recv(s->console, text, sizeof text, MSG_DONTWAIT)) > 0) {
		if (s->settings->verbose)
			fprintf(stderr, "%.*s", (int)n, text);
		for (ssize_t i = 0; i < n; i++)
			s->tail[s->tail_end++ % TAIL] = text[i];
	}
}

/* The last of it, for a sentence. */
static void copy_tail(const struct session *s, char *to, size_t room)
{
	size_t length = s->tail_end < SHOWN ? s->tail_end : SHOWN, used = 0;

	for (size_t i = s->tail_end - length; i < s->tail_end && used + 1 < room; i++) {
		char c = s->tail[i % TAIL];

		if (c == '\n' || (c >= ' ' && c < 0x7f))
			to[used++] = c;
	}
	to[used] = '\0';
}

/* ---- streams ---- */

/* What was typed with the escape key is taken out. Returns true when the user asked to quit. */
static bool take_keys(struct session *s)
{
	struct pump *in = &s->in;
	size_t used = 0;

	for (size_t i = 0; i < in->have; i++) {
		char c = in->buffer[i];

		if (c == CTRL_A && !s->escape) {
			s->escape = true;
			continue;
		}
		if (c == 'x' && s->escape)
			return true;
		s->escape = false;
		in->buffer[used++] = c;
	}
	in->taken -= in->have - used;
	in->have = used;
	return false;
}

static void serve_input(struct session *s, const struct pollfd fds[2])
{
	bool had = s->in.have;

	pump_run(&s->in, fds);
	if (s->raw && !had && take_keys(s)) {
		end_with(s, RUN_KILLED, SIGKILL);
		s->over = true;
	}
	if (pump_ended(&s->in) && !s->in_told)
		s->in_told = send_message(s, &(struct message){.type = MESSAGE_IN_END, .total = s->in.taken});
}

/* Of the command's output: whoever reads ours may go away. */
static void serve_output(struct session *s, struct pump *pump, const struct pollfd fds[2], uint32_t port, bool *told)
{
	pump_run(pump, fds);
	if (pump->closed && !*told)
		*told = send_message(s, &(struct message){.type = MESSAGE_CLOSED, .value = port});
}

static bool is_written(const struct pump *pump)
{
	return pump->closed || pump_done(pump);
}

/* ---- signals and time ---- */

static void send_size(struct session *s)
{
	struct winsize size;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
		send_message(s, &(struct message){.type = MESSAGE_SIZE, .rows = size.ws_row, .columns = size.ws_col});
}

static void take_signal(struct session *s)
{
	struct signalfd_siginfo info;

	if (read(s->signals, &info, sizeof info) != sizeof info)
		return;
	if (info.ssi_signo == SIGWINCH) {
		send_size(s);
	} else if (s->started) {
		send_message(s, &(struct message){.type = MESSAGE_SIGNAL, .value = info.ssi_signo});
	} else {
		/* there is no command yet that could do anything with it */
		end_with(s, RUN_KILLED, (int)info.ssi_signo);
		s->over = true;
	}
}

int watch_signals(bool tty)
{
	static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof forwarded / sizeof forwarded[0]; i++)
		sigaddset(&set, forwarded[i]);
	if (tty)
		sigaddset(&set, SIGWINCH);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* For poll(); ends the session when the time is up. */
static int time_left(struct session *s, int64_t end)
{
	int64_t left = end - now_ms();

	if (end == INT64_MAX)
		return -1;
	if (left <= 0) {
		end_with(s, RUN_TIMED_OUT, 0);
		s->over = true;
	}
	return left < 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
}

/* ---- */

/* The guest is gone, unless it is only that we have not read its last words. */
static void take_end(struct session *s)
{
	struct vcore_exit exit = {.size = sizeof exit};
	char tail[SHOWN + 1];

	receive_messages(s);
	receive_console(s);
	if (s->over)
		return;
	vcore_vm_wait(s->vm, 0, &exit);
	copy_tail(s, tail, sizeof tail);
	not_run(s->outcome, RUN_FAILED, "the guest ended by itself (%s%s%s)%s%s", vcore_exit_name(exit.reason),
	        exit.reason == VCORE_EXIT_CRASH ? ": " : "", exit.reason == VCORE_EXIT_CRASH ? exit.message : "",
	        *tail ? ", after: " : "", tail);
	s->over = true;
}

static void serve(struct session *s, const struct pollfd fds[FDS])
{
	if (fds[FD_SIGNALS].revents)
		take_signal(s);
	if (fds[FD_CONTROL].revents)
		receive_messages(s);
	if (fds[FD_CONSOLE].revents)
		receive_console(s);
	serve_input(s, &fds[FD_IN]);
	serve_output(s, &s->out, &fds[FD_OUT], PORT_OUT, &s->out_told);
	serve_output(s, &s->err, &fds[FD_ERR], PORT_ERR, &s->err_told);
	if (s->exited && is_written(&s->out) && is_written(&s->err))
		s->over = true;
	else if (fds[FD_VM].revents && !s->over)
		take_end(s);
}

void session_run(struct session *s, struct outcome *o)
{
	int64_t end = s->settings->timeout > 0 ? now_ms() + (int64_t)(s->settings->timeout * 1000) : INT64_MAX;
	struct pollfd fds[FDS] = {[FD_VM] = {vcore_vm_fd(s->vm), POLLIN, 0},
	                          [FD_SIGNALS] = {s->signals, POLLIN, 0},
	                          [FD_CONTROL] = {s->ports[PORT_CONTROL], POLLIN, 0},
	                          [FD_CONSOLE] = {s->console, POLLIN, 0}};

	s->outcome = o;
	while (!s->over) {
		int left = time_left(s, end);

		pump_prepare(&s->in, &fds[FD_IN]);
		pump_prepare(&s->out, &fds[FD_OUT]);
		pump_prepare(&s->err, &fds[FD_ERR]);
		if (!s->over && poll(fds, FDS, left) > 0)
			serve(s, fds);
	}
}

/* ---- making ---- */

/* A socket whose other end is the device's. */
static int open_pair(int *ours, int *guests)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	*ours = pair[0];
	*guests = pair[1];
	return 0;
}

static int add_console(struct session *s)
{
	char text[64];
	int guests, r;

	if (open_pair(&s->console, &guests) < 0)
		return -1;
	snprintf(text, sizeof text, "output=fd:%d", guests);
	r = vcore_device_add(s->vm, "uart", text, NULL);
	close(guests);
	return r;
}

static int add_ports(struct session *s)
{
	static const char *const names[PORTS] = PORT_NAMES;
	char text[512] = "transport=mmio";
	int guests[PORTS], count = 0, r = 0;
	size_t used = strlen(text);

	for (; r >= 0 && count < PORTS; count++) {
		r = open_pair(&s->ports[count], &guests[count]);
		if (r < 0)
			break;
		used += (size_t)snprintf(text + used, sizeof text - used, ",port%d=%s,port%d_input=fd:%d,port%d_output=fd:%d",
		                         count + 1, names[count], count + 1, guests[count], count + 1, guests[count]);
	}
	if (r >= 0)
		r = vcore_device_add(s->vm, "virtio-console", text, NULL);
	while (count > 0)
		close(guests[--count]);
	return r;
}

struct session *session_new(vcore_vm *vm, const struct run_settings *settings, int signals, struct outcome *o)
{
	struct session *s = calloc(1, sizeof *s);

	if (!s) {
		not_run(o, RUN_FAILED, "no memory");
		return NULL;
	}
	s->settings = settings;
	s->vm = vm;
	s->console = -1;
	s->signals = signals;
	for (int i = 0; i < PORTS; i++)
		s->ports[i] = -1;
	if (add_console(s) < 0 || add_ports(s) < 0) {
		not_run(o, RUN_FAILED, "cannot make the guest's streams: %s", vcore_error_message());
		session_free(s);
		return NULL;
	}
	s->raw = settings->tty && begin_raw();
	pump_init(&s->in, STDIN_FILENO, s->ports[PORT_IN]);
	pump_init(&s->out, s->ports[PORT_OUT], STDOUT_FILENO);
	pump_init(&s->err, s->ports[PORT_ERR], STDERR_FILENO);
	return s;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	if (s->raw)
		end_raw();
	for (int i = 0; i < PORTS; i++)
		if (s->ports[i] >= 0)
			close(s->ports[i]);
	if (s->console >= 0)
		close(s->console);
	free(s);
}
