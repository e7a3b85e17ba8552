/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm: command lines by tables. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "microvm.h"

/* What getopt_long() calls the first row; above all letters. */
#define FIRST_ROW 256

void print_options(const struct option_row *rows, size_t count)
{
	bool letters = false;

	for (size_t i = 0; i < count; i++)
		letters |= rows[i].letter != 0;
	for (size_t i = 0; i < count; i++) {
		const struct option_row *r = &rows[i];
		char left[48], letter[5] = "    ";

		if (r->letter)
			snprintf(letter, sizeof letter, "-%c, ", r->letter);
		snprintf(left, sizeof left, "%s--%s %s", letters ? letter : "", r->name, r->argument ? r->argument : "");
		printf("  %-*s %s\n", letters ? 26 : 22, left, r->help);
	}
}

static const struct option_row *find_row(const struct option_row *rows, size_t count, int found)
{
	if (found >= FIRST_ROW)
		return &rows[found - FIRST_ROW];
	for (size_t i = 0; i < count; i++)
		if (rows[i].letter == found)
			return &rows[i];
	return NULL;
}

static int take_row(const struct option_row *r, const char *value, take_option *take, void *settings)
{
	if (r->flag)
		*(bool *)((char *)settings + r->flag) = true;
	if (r->text)
		*(const char **)((char *)settings + r->text) = value;
	return r->id ? take(r->id, value, settings) : -1;
}

int read_options(int argc, char **argv, const struct option_row *rows, size_t count, take_option *take, void *settings)
{
	struct option *options = calloc(count + 1, sizeof *options);
	char letters[64] = "+";
	size_t used = 1;
	int found, status = options ? -1 : STATUS_ERROR;

	for (size_t i = 0; options && i < count; i++) {
		const char *argument = rows[i].argument;

		options[i].name = rows[i].name;
		options[i].has_arg = !argument ? no_argument : argument[0] == '[' ? optional_argument : required_argument;
		options[i].val = FIRST_ROW + (int)i;
		if (rows[i].letter && used + 3 < sizeof letters)
			used +=
			    (size_t)snprintf(letters + used, sizeof letters - used, "%c%s", rows[i].letter, argument ? ":" : "");
	}
	while (status < 0 && (found = getopt_long(argc, argv, letters, options, NULL)) != -1) {
		const struct option_row *row = find_row(rows, count, found);

		status = row ? take_row(row, optarg, take, settings) : STATUS_USAGE;
	}
	free(options);
	return status;
}
