/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm monitor SOCKET [COMMAND [KEY=VALUE...]]: a prompt on a vm's monitor, or one command for a script. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "microvm.h"
#include "monitor.h"

#define FAILED     1
#define ANSWER_MAX (64 << 20) /* bytes of a line */
#define LABEL      "(vm) "
#define BAR_WIDTH  20

struct link {
	int fd;
	bool quiet;            /* events are not shown */
	struct prompt *prompt; /* NULL: no terminal */
	char *in;
	size_t length, room;
};

/* ---- the terminal: for the signal handler, which has no argument ---- */

static struct termios saved;
static volatile sig_atomic_t is_raw;

static void restore_terminal(void)
{
	if (is_raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	is_raw = 0;
}

static void die(int number)
{
	restore_terminal();
	_exit(128 + number);
}

/* Keys one by one; output is as ever. */
static void raw_terminal(void)
{
	struct termios raw = saved;

	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG | IEXTEN);
	raw.c_iflag &= ~(tcflag_t)(IXON | ICRNL);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	is_raw = 1;
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

/* ---- the connection ---- */

static bool dial(struct link *l, const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	errno = ENAMETOOLONG;
	if (l->fd >= 0 && strlen(path) < sizeof un.sun_path) {
		memcpy(un.sun_path, path, strlen(path) + 1);
		if (connect(l->fd, (struct sockaddr *)&un, sizeof un) == 0)
			return true;
	}
	fprintf(stderr, "microvm: %s: %s\n", path, strerror(errno));
	return false;
}

/* More bytes. False: the connection is over. */
static bool fill(struct link *l)
{
	ssize_t n;

	if (l->length == l->room) {
		size_t room = l->room ? 2 * l->room : 65536;
		char *grown = room <= ANSWER_MAX ? realloc(l->in, room) : NULL;

		if (!grown)
			return false;
		l->in = grown;
		l->room = room;
	}
	n = recv(l->fd, l->in + l->length, l->room - l->length, 0);
	if (n > 0)
		l->length += (size_t)n;
	return n > 0 || (n < 0 && errno == EINTR);
}

/* A whole line that is there; NULL: none. */
static struct json_object *next(struct link *l)
{
	char *end = l->length ? memchr(l->in, '\n', l->length) : NULL;
	struct json_object *object;

	if (!end)
		return NULL;
	*end = '\0';
	object = json_tokener_parse(l->in);
	l->length -= (size_t)(end + 1 - l->in);
	memmove(l->in, end + 1, l->length);
	return object ? object : json_object_new_object();
}

static void show(FILE *out, struct json_object *value, int flags)
{
	if (json_object_is_type(value, json_type_string))
		fputs(json_object_get_string(value), out);
	else
		fputs(json_object_to_json_string_ext(value, flags | JSON_C_TO_STRING_NOSLASHESCAPE), out);
	fputs("\n", out);
}

static uint64_t number_in(struct json_object *data, const char *name)
{
	struct json_object *value;

	return json_object_object_get_ex(data, name, &value) ? json_object_get_uint64(value) : 0;
}

/* A terminal has a bar in the prompt as long as a vm is being moved. True: that is all there is to be shown. */
static bool show_progress(struct prompt *p, const char *event, struct json_object *data)
{
	uint64_t memory = number_in(data, "memory"), remaining = number_in(data, "remaining");
	char bar[40];

	if (!strncmp(event, "MIGRATION", 9))
		snprintf(p->label, sizeof p->label, LABEL);
	if (strcmp(event, "MIGRATION_PROGRESS"))
		return false;
	progress_bar(bar, sizeof bar, BAR_WIDTH, remaining < memory ? memory - remaining : 0, memory);
	snprintf(p->label, sizeof p->label, "(vm %s) ", bar);
	return true;
}

/* True: the object is an event, and was shown. */
static bool show_event(const struct link *l, struct json_object *object)
{
	struct json_object *name, *data = NULL;

	if (!json_object_object_get_ex(object, "event", &name))
		return false;
	json_object_object_get_ex(object, "data", &data);
	if (l->prompt && show_progress(l->prompt, json_object_get_string(name), data))
		return true;
	if (!l->quiet) {
		printf("* %s ", json_object_get_string(name));
		show(stdout, data, JSON_C_TO_STRING_SPACED);
		fflush(stdout);
	}
	return true;
}

/* The events that are there already. */
static void show_events(struct link *l)
{
	struct json_object *object;

	while ((object = next(l))) {
		show_event(l, object);
		json_object_put(object);
	}
}

/* The next object that is no event; NULL: the connection is over. */
static struct json_object *answer(struct link *l)
{
	struct json_object *object;

	for (;;) {
		while (!(object = next(l)))
			if (!fill(l))
				return NULL;
		if (!show_event(l, object))
			return object;
		json_object_put(object);
	}
}

/* Takes the request. The answer, or NULL when the connection is over. */
static struct json_object *ask(struct link *l, struct json_object *request)
{
	const char *text = json_object_to_json_string_ext(request, JSON_C_TO_STRING_PLAIN);
	size_t length = strlen(text), sent = 0;
	bool good = true;

	for (; good && sent <= length; sent++) {
		ssize_t n =
		    sent < length ? send(l->fd, text + sent, length - sent, MSG_NOSIGNAL) : send(l->fd, "\n", 1, MSG_NOSIGNAL);

		good = n > 0;
		sent += good ? (size_t)n - 1 : 0;
	}
	json_object_put(request);
	return good ? answer(l) : NULL;
}

/* What "return" of a command without arguments is; NULL: none. */
static struct json_object *fetch(struct link *l, char *command)
{
	struct json_object *object = ask(l, make_request(&(struct known){0}, &command, 1)), *value = NULL;

	json_object_object_get_ex(object, "return", &value);
	value = json_object_get(value);
	json_object_put(object);
	return value;
}

/* Greeting, negotiation, and what there is to be asked. */
static bool begin(struct link *l, struct known *known)
{
	struct json_object *greeting = answer(l), *ready = NULL;

	if (json_object_object_get_ex(greeting, "QMP", NULL))
		ready = fetch(l, "capabilities");
	json_object_put(greeting);
	json_object_put(ready);
	if (!ready) {
		fprintf(stderr, "microvm: that is no monitor of libvirtcore's, or it has no place for one more client\n");
		return false;
	}
	known->commands = fetch(l, "query-commands");
	known->types = fetch(l, "device-types");
	return true;
}

/* ---- commands ---- */

/* 0; 1 with what was wrong printed; -1 the connection is over. */
static int execute(struct link *l, const struct known *known, char *const *words, int count)
{
	struct json_object *object = ask(l, make_request(known, words, count)), *value;
	int status = FAILED;

	if (!object)
		return -1;
	if (json_object_object_get_ex(object, "return", &value)) {
		status = 0;
		if (!json_object_is_type(value, json_type_object) || json_object_object_length(value))
			show(stdout, value, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED);
		fflush(stdout);
	} else if (json_object_object_get_ex(object, "error", &value) && json_object_object_get_ex(value, "desc", &value)) {
		fprintf(stderr, "microvm: %s\n", json_object_get_string(value));
	}
	json_object_put(object);
	return status;
}

/* One line. As execute(); -1 also to leave. */
static int execute_line(struct link *l, const struct known *known, char *line)
{
	char *words[MAX_WORDS];
	int count = split_words(line, words);

	if (!count)
		return 0;
	return strcmp(words[0], "exit") ? execute(l, known, words, count) : -1;
}

/* Lines of a file or pipe: to its end, or to a command that fails. */
static int serve_input(struct link *l, const struct known *known)
{
	char line[LINE_LENGTH];
	int status = 0;

	while (!status && fgets(line, sizeof line, stdin))
		status = execute_line(l, known, line);
	show_events(l);
	return status == FAILED ? FAILED : 0;
}

/* ---- the prompt ---- */

/* A key. False: the user leaves, or the connection is over. */
static bool serve_key(struct link *l, struct prompt *p)
{
	char key;
	int status;

	if (read(STDIN_FILENO, &key, 1) != 1)
		return false;
	switch (prompt_key(p, key)) {
	case PROMPT_MORE:
		return true;
	case PROMPT_END:
		return false;
	case PROMPT_LINE:
		break;
	}
	/* so that Ctrl-C ends a command that does not come back */
	restore_terminal();
	status = execute_line(l, p->known, p->line);
	if (status < 0)
		return false;
	show_events(l);
	raw_terminal();
	prompt_begin(p);
	return true;
}

/* What comes without having been asked for. */
static bool serve_events(struct link *l, struct prompt *p)
{
	bool more = fill(l);

	prompt_hide();
	show_events(l);
	if (more)
		prompt_show(p);
	else
		printf("the monitor is gone\n");
	return more;
}

static int serve_terminal(struct link *l, const struct known *known)
{
	struct prompt *p = calloc(1, sizeof *p);
	struct pollfd fds[] = {{STDIN_FILENO, POLLIN, 0}, {l->fd, POLLIN, 0}};
	bool more = p != NULL;

	if (!p || tcgetattr(STDIN_FILENO, &saved) < 0) {
		free(p);
		return FAILED;
	}
	signal(SIGTERM, die);
	signal(SIGHUP, die);
	printf("`help` lists the commands, TAB completes, Ctrl-D or `exit` leaves (`quit` ends the vm)\n");
	p->known = known;
	snprintf(p->label, sizeof p->label, LABEL);
	l->prompt = p;
	raw_terminal();
	prompt_begin(p);
	while (more && (poll(fds, 2, -1) > 0 || errno == EINTR)) {
		if (fds[1].revents)
			more = serve_events(l, p);
		if (more && fds[0].revents)
			more = serve_key(l, p);
	}
	restore_terminal();
	l->prompt = NULL;
	free(p);
	return 0;
}

static int serve(struct link *l, char **words, int count)
{
	struct known known = {0};
	int status = FAILED;

	if (begin(l, &known)) {
		if (count)
			status = execute(l, &known, words, count);
		else if (isatty(STDIN_FILENO))
			status = serve_terminal(l, &known);
		else
			status = serve_input(l, &known);
	}
	json_object_put(known.commands);
	json_object_put(known.types);
	/* of one that was asked something and is gone */
	if (status < 0)
		fprintf(stderr, "microvm: the monitor is gone\n");
	return status ? FAILED : 0;
}

int monitor_main(int argc, char **argv)
{
	struct link l = {.fd = -1};
	int status = FAILED;

	if (argc < 2 || !strcmp(argv[1], "--help")) {
		printf("usage: microvm monitor SOCKET [COMMAND [KEY=VALUE...]]\n\n"
		       "Talks to the vm that `microvm --monitor SOCKET` runs: one command, or a prompt. `help` lists the "
		       "commands.\n"
		       "Exit status: 0; %d the command failed or there is no such vm; %d wrong usage.\n",
		       FAILED, STATUS_USAGE);
		return argc < 2 ? STATUS_USAGE : 0;
	}
	l.quiet = argc > 2;
	if (dial(&l, argv[1]))
		status = serve(&l, argv + 2, argc - 2);
	if (l.fd >= 0)
		close(l.fd);
	free(l.in);
	return status;
}
