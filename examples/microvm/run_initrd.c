/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm run: the initial RAM disk, a cpio archive ("newc") made in memory. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run.h"

/* Where init is, seen from the directory of this program: in the build directory, and installed. */
static const char *const init_paths[] = {"guest-init", GUEST_INIT_PATH};

/* ---- the archive ---- */

/* Room for so many bytes more, zeroed; NULL: no memory. */
static char *extend(struct archive *a, size_t length)
{
	size_t room = a->room ? a->room : 1 << 20;
	char *data;

	while (room - a->length < length)
		room *= 2;
	if (room != a->room) {
		data = realloc(a->data, room);
		if (!data)
			return NULL;
		a->data = data;
		a->room = room;
	}
	data = a->data + a->length;
	memset(data, 0, length);
	a->length += length;
	return data;
}

static bool append(struct archive *a, const void *data, size_t length)
{
	char *to = extend(a, length + (-(a->length + length) & 3));

	if (to)
		memcpy(to, data, length);
	return to;
}

/* The content, to be filled in; NULL: no memory. */
static char *add_file(struct archive *a, const char *name, mode_t mode, size_t length)
{
	char header[6 + 13 * 8 + PATH_MAX + 1];
	int n = snprintf(header, sizeof header, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x%s",
	                 ++a->count, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, strlen(name) + 1, 0, name);

	return append(a, header, (size_t)n + 1) ? extend(a, length + (-(a->length + length) & 3)) : NULL;
}

static int copy_file(struct archive *a, const char *path, const char *name, mode_t mode, struct outcome *o)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;
	struct stat st;
	ssize_t n = 1;
	char *content;

	if (fd < 0 || fstat(fd, &st) < 0) {
		r = not_run(o, RUN_FAILED, "%s: %s", path, strerror(errno));
	} else if (!S_ISREG(st.st_mode) || st.st_size > UINT32_MAX ||
	           !(content = add_file(a, name, mode, (size_t)st.st_size))) {
		r = not_run(o, RUN_FAILED, "%s: not a file that fits the initial RAM disk", path);
	} else {
		for (size_t at = 0; n > 0; at += (size_t)n)
			n = read(fd, content + at, (size_t)st.st_size - at);
		if (n < 0)
			r = not_run(o, RUN_FAILED, "%s: %s", path, strerror(errno));
	}
	if (fd >= 0)
		close(fd);
	return r;
}

/* ---- what is in it ---- */

static int add_init(struct archive *a, struct outcome *o)
{
	char self[PATH_MAX], path[2 * PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	self[n > 0 ? n : 0] = '\0';
	dirname(self);
	for (size_t i = 0; i < sizeof init_paths / sizeof init_paths[0]; i++) {
		snprintf(path, sizeof path, "%s/%s", self, init_paths[i]);
		if (access(path, R_OK) == 0)
			return copy_file(a, path, "init", S_IFREG | 0755, o);
	}
	return not_run(o, RUN_FAILED,
	               "the guest's init is not installed: expected %s (it is built where there is a static libc)", path);
}

static const char *guest_name(const char *path, char *name, size_t length)
{
	const char *slash = strrchr(path, '/');

	snprintf(name, length, "modules/%s", slash ? slash + 1 : path);
	return name;
}

static int add_modules(struct archive *a, const struct guest_kernel *kernel, struct outcome *o)
{
	char name[NAME_MAX + 16];
	int r = 0;

	add_file(a, "modules", S_IFDIR | 0755, 0);
	for (unsigned i = 0; r >= 0 && i < kernel->module_count; i++)
		r = copy_file(a, kernel->modules[i], guest_name(kernel->modules[i], name, sizeof name), S_IFREG | 0644, o);
	return r;
}

static bool has_path(const struct run_settings *s)
{
	for (unsigned i = 0; i < s->variable_count; i++)
		if (!strncmp(s->variables[i], "PATH=", 5))
			return true;
	return false;
}

static void write_terminal(FILE *f, const struct run_settings *s)
{
	struct winsize size = {.ws_row = 24, .ws_col = 80};
	const char *term = getenv("TERM");

	if (!s->tty)
		return;
	ioctl(STDIN_FILENO, TIOCGWINSZ, &size);
	fprintf(f, "tty=%hux%hu%cenv=TERM=%s%c", size.ws_row, size.ws_col, 0, term ? term : "linux", 0);
}

/* As wire.h says. */
static void write_task(FILE *f, const struct run_settings *s, const struct guest_kernel *kernel)
{
	char name[NAME_MAX + 16];

	for (unsigned i = 0; i < kernel->module_count; i++)
		fprintf(f, "module=/%s%c", guest_name(kernel->modules[i], name, sizeof name), 0);
	write_terminal(f, s);
	if (!has_path(s))
		fprintf(f, "env=PATH=" DEFAULT_PATH "%c", 0);
	for (unsigned i = 0; i < s->variable_count; i++)
		fprintf(f, "env=%s%c", s->variables[i], 0);
	for (unsigned i = 0; s->argv[i]; i++)
		fprintf(f, "arg=%s%c", s->argv[i], 0);
	fprintf(f, "cwd=%s%cuser=%s%chostname=%s%c", s->cwd, 0, s->user, 0, s->hostname, 0);
	if (s->writable)
		fprintf(f, "writable=1%c", 0);
	if (s->network)
		fprintf(f, "network=1%c", 0);
}

static int add_task(struct archive *a, const struct run_settings *s, const struct guest_kernel *kernel)
{
	char *text = NULL, *content = NULL;
	size_t length = 0;
	FILE *f = open_memstream(&text, &length);

	if (!f)
		return -1;
	write_task(f, s, kernel);
	if (fclose(f) == 0)
		content = add_file(a, CONFIG_PATH + 1, S_IFREG | 0600, length);
	if (content)
		memcpy(content, text, length);
	free(text);
	return content ? 0 : -1;
}

int make_initrd(const struct run_settings *s, const struct guest_kernel *kernel, struct archive *archive,
                struct outcome *o)
{
	int r;

	*archive = (struct archive){0};
	r = add_init(archive, o);
	if (r >= 0)
		r = add_modules(archive, kernel, o);
	if (r >= 0 && (add_task(archive, s, kernel) < 0 || !add_file(archive, "TRAILER!!!", 0, 0)))
		r = not_run(o, RUN_FAILED, "no memory for the initial RAM disk");
	return r;
}
