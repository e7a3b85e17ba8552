/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "shell.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MS 60000 /* that only a failing test waits for to its end */

void shell_fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, vcore_error_message());
	exit(1);
}

void shell_check(int r, const char *what)
{
	if (r < 0)
		shell_fail(what);
}

void shell_pipes(struct shell *g)
{
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
		shell_fail("pipe");
	*g = (struct shell){.in = to[1], .its_in = to[0], .out = from[0], .its_out = from[1]};
}

const char *shell_uart(const struct shell *g)
{
	static char text[64];

	snprintf(text, sizeof text, "input=fd:%d,output=fd:%d", g->its_in, g->its_out);
	return text;
}

static const char *find(const struct shell *g, const char *text, bool whole)
{
	const char *found = strstr(g->text, text);

	return found && (!whole || strchr(found, '\n')) ? found : NULL;
}

static const char *hear(struct shell *g, const char *who, const char *text, bool whole)
{
	struct pollfd p = {.fd = g->out, .events = POLLIN};
	const char *found;

	while (!(found = find(g, text, whole))) {
		ssize_t n = -1;

		if (g->length < sizeof g->text - 1 && poll(&p, 1, ANSWER_MS) == 1)
			n = read(g->out, g->text + g->length, sizeof g->text - 1 - g->length);
		if (n <= 0) {
			fprintf(stderr, "%s: \"%s\" does not come; there is:\n%s\n", who, text, g->text);
			exit(1);
		}
		g->length += (size_t)n;
	}
	return found;
}

void shell_expect(struct shell *g, const char *who, const char *text)
{
	hear(g, who, text, false);
}

const char *shell_line(struct shell *g, const char *who, const char *text)
{
	return hear(g, who, text, true);
}

void shell_forget(struct shell *g)
{
	g->length = 0;
	memset(g->text, 0, sizeof g->text);
}

void shell_ask(struct shell *g, const char *who, const char *question, const char *answer)
{
	shell_forget(g);
	if (dprintf(g->in, "%s\n", question) < 0)
		shell_fail("asking");
	shell_expect(g, who, answer);
}

const char *shell_properties(void *ctx, uint32_t index, const char *type, const char *properties)
{
	return strcmp(type, "uart") == 0 ? shell_uart(ctx) : NULL;
}

unsigned shell_resident_mib(void)
{
	unsigned long total, pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%lu %lu", &total, &pages) != 2)
		shell_fail("reading /proc/self/statm");
	fclose(f);
	return (unsigned)(pages * (unsigned long)sysconf(_SC_PAGESIZE) >> 20);
}

double shell_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

enum vcore_backend shell_backend(const char *name)
{
	return strcmp(name, "kvm") == 0 ? VCORE_BACKEND_KVM : VCORE_BACKEND_EMU;
}

void shell_boot(struct shell *g, char **argv, const char *cpu)
{
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .backend = shell_backend(argv[3]),
	                          .memory = 256u << 20,
	                          .vcpus = 2,
	                          .cpu = cpu};

	shell_pipes(g);
	shell_check(vcore_vm_new(&o, &g->vm), "vm");
	shell_check(vcore_device_add(g->vm, "uart", shell_uart(g), NULL), "uart");
	shell_check(vcore_device_add(g->vm, "virtio-rng", NULL, NULL), "rng");
	shell_check(vcore_device_add(g->vm, "virtio-blk", "image=null:1M", NULL), "blk");
	shell_check(vcore_boot_linux(g->vm, argv[1], argv[2], "console=ttyS0 quiet panic=-1"), "boot");
	shell_check(vcore_vm_start(g->vm), "start");
	shell_expect(g, "boot", "/ # ");
	shell_ask(g, "boot", "stty -echo; echo rea''dy", "ready");
}

void shell_await_poweroff(struct shell *g)
{
	struct vcore_exit end = {.size = sizeof end};

	if (vcore_vm_wait(g->vm, ANSWER_MS * 1000000ll, &end) < 0 || end.reason != VCORE_EXIT_POWEROFF)
		shell_fail("the guest does not power off");
}

void shell_end(struct shell *g)
{
	vcore_vm_unref(g->vm);
	close(g->in);
	close(g->out);
	close(g->its_in);
	close(g->its_out);
}
