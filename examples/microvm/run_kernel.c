/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm run: a kernel on this host, and the modules that the guest needs of it. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run.h"

#define GET_ONE                                                                                                    \
	"install Debian's linux-image-amd64 (as root: apt-get install linux-image-amd64), or unpack it without root: " \
	"sh tests/tools/get-kernel.sh ~/.local/share/virtcore amd64, or name one with --kernel"

/* ---- modules ---- */

/* A file's text; NULL: it cannot be read. */
static char *read_text(const char *directory, const char *name)
{
	char path[PATH_MAX], *text = NULL;
	struct stat st;
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof path, "%s/%s", directory, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && (text = malloc((size_t)st.st_size + 1)))
		n = read(fd, text, (size_t)st.st_size);
	if (fd >= 0)
		close(fd);
	if (n < 0) {
		free(text);
		return NULL;
	}
	text[n] = '\0';
	return text;
}

/* Is the module at path called so? There - and _ are the same. */
static bool is_called(const char *path, size_t length, const char *name)
{
	const char *slash = memrchr(path, '/', length), *base = slash ? slash + 1 : path;
	size_t n = strlen(name);

	if ((size_t)(path + length - base) < n + 3 || memcmp(base + n, ".ko", 3))
		return false;
	for (size_t i = 0; i < n; i++)
		if (base[i] != name[i] && !(base[i] == '-' && name[i] == '_'))
			return false;
	return true;
}

/* The line whose path is that module's; NULL: none. */
static const char *find_line(const char *text, const char *name)
{
	for (; text && *text; text += strcspn(text, "\n"), text += *text == '\n')
		if (is_called(text, strcspn(text, ":\n"), name))
			return text;
	return NULL;
}

static int append_module(struct guest_kernel *kernel, const char *directory, const char *path, size_t length)
{
	char *whole;

	if (asprintf(&whole, "%s/%.*s", directory, (int)length, path) < 0)
		return -1;
	for (unsigned i = 0; i < kernel->module_count; i++) {
		if (!strcmp(kernel->modules[i], whole)) {
			free(whole);
			return 0;
		}
	}
	if (kernel->module_count == MAX_RUN_MODULES) {
		free(whole);
		return -1;
	}
	kernel->modules[kernel->module_count++] = whole;
	return 0;
}

/* A line of modules.dep, "path: what it needs": that comes first, from the last to the first. */
static int append_line(struct guest_kernel *kernel, const char *directory, const char *line)
{
	size_t length = strcspn(line, ":\n"), end = strcspn(line, "\n");
	int r = 0;

	while (r >= 0 && end > length + 1) {
		size_t start = end;

		while (line[start - 1] != ' ' && line[start - 1] != ':')
			start--;
		if (start < end)
			r = append_module(kernel, directory, line + start, end - start);
		end = start - 1;
	}
	return r < 0 ? r : append_module(kernel, directory, line, length);
}

static int collect_modules(const struct run_settings *s, const char *directory, struct guest_kernel *kernel,
                           struct outcome *o)
{
	const struct {
		const char *name;
		bool needed;
	} rows[] = {
	    {"virtio_mmio", true}, {"virtio_console", true},  {"9pnet_virtio", true},
	    {"9p", true},          {"overlay", !s->writable}, {"virtio_net", s->network},
	};
	char *dep = read_text(directory, "modules.dep"), *builtin = read_text(directory, "modules.builtin");
	int r =
	    dep ? 0
	        : not_run(o, RUN_FAILED, "the kernel %s has no %s/modules.dep (depmod makes it)", kernel->image, directory);

	for (size_t i = 0; r >= 0 && i < sizeof rows / sizeof rows[0]; i++) {
		const char *line = rows[i].needed ? find_line(dep, rows[i].name) : NULL;

		if (line && append_line(kernel, directory, line) < 0)
			r = not_run(o, RUN_FAILED, "the kernel %s needs too many modules", kernel->image);
		else if (rows[i].needed && !line && !find_line(builtin, rows[i].name))
			r = not_run(o, RUN_FAILED, "the kernel %s has no %s in %s: " GET_ONE, kernel->image, rows[i].name,
			            directory);
	}
	free(dep);
	free(builtin);
	return r;
}

/* ---- kernels ---- */

static bool is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Of DIR/vmlinuz-VERSION: DIR/../lib/modules/VERSION, or this host's. */
static bool find_modules(const char *image, char directory[PATH_MAX])
{
	const char *slash = strrchr(image, '/'), *dash = strchr(slash ? slash : image, '-');
	char beside[PATH_MAX];

	if (!dash)
		return false;
	snprintf(beside, sizeof beside, "%.*s../lib/modules/%s", slash ? (int)(slash + 1 - image) : 0, image, dash + 1);
	if (realpath(beside, directory))
		return is_directory(directory);
	snprintf(directory, PATH_MAX, "/lib/modules/%s", dash + 1);
	return is_directory(directory);
}

static int try_kernel(const struct run_settings *s, const char *image, struct guest_kernel *kernel, struct outcome *o)
{
	char directory[PATH_MAX];
	int r = 0;

	*kernel = (struct guest_kernel){.image = strdup(image)};
	if (s->modules && !strcmp(s->modules, "none"))
		return 0;
	if (s->modules)
		snprintf(directory, sizeof directory, "%s", s->modules);
	else if (!find_modules(image, directory))
		r = not_run(o, RUN_FAILED,
		            "no modules are known for the kernel %s: expected lib/modules/VERSION beside the directory of "
		            "vmlinuz-VERSION, or --modules DIR, or --modules none when all it needs is built in",
		            image);
	if (r >= 0)
		r = collect_modules(s, directory, kernel, o);
	if (r < 0)
		free_kernel(kernel);
	return r;
}

static int by_version(const void *a, const void *b)
{
	return strverscmp(strrchr(*(char *const *)b, '/'), strrchr(*(char *const *)a, '/'));
}

/* The newest that has all that is needed. */
static int search(const struct run_settings *s, struct guest_kernel *kernel, struct outcome *o)
{
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	char own[PATH_MAX];
	struct outcome older;
	glob_t found;
	int r = -1;

	if (data && *data)
		snprintf(own, sizeof own, "%s/virtcore/boot/vmlinuz-*", data);
	else
		snprintf(own, sizeof own, "%s/.local/share/virtcore/boot/vmlinuz-*", home ? home : "");
	glob(own, GLOB_NOSORT, NULL, &found);
	glob("/boot/vmlinuz-*", GLOB_NOSORT | GLOB_APPEND, NULL, &found);
	qsort(found.gl_pathv, found.gl_pathc, sizeof *found.gl_pathv, by_version);
	for (size_t i = 0; r < 0 && i < found.gl_pathc; i++)
		r = try_kernel(s, found.gl_pathv[i], kernel, i ? &older : o);
	if (!found.gl_pathc)
		not_run(o, RUN_FAILED, "there is no kernel in /boot: " GET_ONE);
	globfree(&found);
	return r;
}

int find_kernel(const struct run_settings *s, struct guest_kernel *kernel, struct outcome *o)
{
	const char *image = s->kernel ? s->kernel : getenv("VIRTCORE_KERNEL");

	return image && *image ? try_kernel(s, image, kernel, o) : search(s, kernel, o);
}

void free_kernel(struct guest_kernel *kernel)
{
	for (unsigned i = 0; i < kernel->module_count; i++)
		free(kernel->modules[i]);
	free(kernel->image);
	*kernel = (struct guest_kernel){0};
}
