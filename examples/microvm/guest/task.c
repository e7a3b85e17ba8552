/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The task that the host has left in the initial RAM disk. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest.h"

/* The whole file, which ends with a zero byte and stays in memory. */
static char *read_all(const char *path, size_t *length)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *text;

	if (fd < 0 || fstat(fd, &st) < 0)
		fail(RUN_FAILED, "%s: %s", path, strerror(errno));
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		fail(RUN_FAILED, "no memory for %s", path);
	*length = 0;
	for (ssize_t n = 1; n > 0; *length += (size_t)n) {
		n = read(fd, text + *length, (size_t)st.st_size - *length);
		if (n < 0)
			fail(RUN_FAILED, "%s: %s", path, strerror(errno));
	}
	text[*length] = '\0';
	close(fd);
	return text;
}

static void append(char **words, unsigned *count, char *word)
{
	if (*count == MAX_WORDS)
		fail(RUN_FAILED, "more than %d arguments or environment variables", MAX_WORDS);
	words[(*count)++] = word;
}

static void append_module(struct task *task, const char *name)
{
	if (task->module_count == MAX_MODULES)
		fail(RUN_FAILED, "more than %d modules", MAX_MODULES);
	task->modules[task->module_count++] = name;
}

static void take(struct task *task, const char *key, char *value)
{
	if (!strcmp(key, "arg"))
		append(task->argv, &task->argc, value);
	else if (!strcmp(key, "env"))
		append(task->env, &task->env_count, value);
	else if (!strcmp(key, "module"))
		append_module(task, value);
	else if (!strcmp(key, "cwd"))
		task->cwd = value;
	else if (!strcmp(key, "user"))
		task->user = value;
	else if (!strcmp(key, "hostname"))
		task->hostname = value;
	else if (!strcmp(key, "writable"))
		task->writable = true;
	else if (!strcmp(key, "network"))
		task->network = true;
	else if (!strcmp(key, "tty"))
		task->tty = sscanf(value, "%hux%hu", &task->rows, &task->columns) == 2;
	else
		fail(RUN_FAILED, "the task has an unknown key %s: microvm and its init are of different versions", key);
}

void read_task(struct task *task)
{
	size_t length;
	char *text = read_all(CONFIG_PATH, &length), *end = text + length;

	while (text < end) {
		char *next = text + strlen(text) + 1, *value = strchr(text, '=');

		if (!value)
			fail(RUN_FAILED, "the task has %s without a value", text);
		*value++ = '\0';
		take(task, text, value);
		text = next;
	}
}
