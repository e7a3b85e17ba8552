/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm: how far a migration is. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "microvm.h"

#define WIDTH   30 /* of the bar */
#define LINE_MS 1000

void progress_bar(char *to, size_t length, int width, uint64_t done, uint64_t total)
{
	char bar[WIDTH];
	int percent = done < total ? (int)(100.0 * (double)done / (double)total) : 100;

	width = width < WIDTH ? width : WIDTH;
	memset(bar, '-', sizeof bar);
	memset(bar, '#', (size_t)(width * percent / 100));
	snprintf(to, length, "[%.*s] %d%%", width, bar, percent);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* "12.5 MiB" and the like. */
static const char *amount(char text[32], uint64_t bytes)
{
	snprintf(text, 32, bytes < 10 << 20 ? "%.1f MiB" : "%.0f MiB", (double)bytes / (1 << 20));
	return text;
}

static bool goes_on(uint32_t state)
{
	return state == VCORE_MIGRATE_SETUP || state == VCORE_MIGRATE_ACTIVE || state == VCORE_MIGRATE_STOPPED;
}

static void show_bar(const struct vcore_migrate_info *info, bool terminal)
{
	char bar[WIDTH + 16], sent[32], rate[32];
	uint64_t done = info->remaining < info->memory && info->rounds ? info->memory - info->remaining : 0;

	progress_bar(bar, sizeof bar, WIDTH, done, info->memory);
	fprintf(stderr, "%smicrovm: migration: %s, round %u, %s, %s/s%s", terminal ? "\r\033[K" : "", bar, info->rounds,
	        amount(sent, info->sent), amount(rate, info->rate), terminal ? "" : "\n");
}

static void show_end(const struct vcore_migrate_info *info, bool terminal)
{
	char sent[32];

	fprintf(stderr, "%smicrovm: migration %s: %s in %u rounds, %.1f ms", terminal ? "\r\033[K" : "",
	        vcore_migrate_state_name(info->state), amount(sent, info->sent), info->rounds,
	        (double)info->total_ns / 1e6);
	if (info->downtime_ns)
		fprintf(stderr, ", stopped for %.1f ms", (double)info->downtime_ns / 1e6);
	/* a terminal in raw mode does not add the carriage return itself */
	fprintf(stderr, "%s%s%s\n", info->error[0] ? ": " : "", info->error, terminal ? "\r" : "");
}

void progress_show(struct progress *p, const struct vcore_migrate_info *info)
{
	bool terminal = isatty(STDERR_FILENO);
	int64_t now = now_ms();

	if (!goes_on(info->state)) {
		/* each end once, also of one that nobody saw going on */
		if (info->state != VCORE_MIGRATE_NONE && (p->state != info->state || p->total_ns != info->total_ns))
			show_end(info, terminal);
	} else if (info->memory && (terminal || now - p->told_ms >= LINE_MS)) {
		show_bar(info, terminal);
		p->told_ms = now;
	}
	p->state = info->state;
	p->total_ns = info->total_ns;
}

void progress_look(struct progress *p, vcore_vm *vm)
{
	struct vcore_migrate_info info = {.size = sizeof info};

	if (vcore_migrate_get_info(vm, &info) >= 0)
		progress_show(p, &info);
}

void progress_finish(struct progress *p, vcore_vm *vm)
{
	struct vcore_migrate_info info = {.size = sizeof info};

	/* the vm has ended, and in a moment its migration has */
	while (vcore_migrate_get_info(vm, &info) >= 0 && goes_on(info.state))
		usleep(1000);
	progress_show(p, &info);
}
