/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm: the description of the machine, read from a file or printed in full. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "microvm.h"

#define CONFIG_MAX (1 << 20)

char *read_config(const char *path)
{
	FILE *f = strcmp(path, "-") ? fopen(path, "r") : stdin;
	char *text = malloc(CONFIG_MAX + 1);
	size_t n;

	if (!f || !text) {
		fprintf(stderr, "microvm: --config %s: %s\n", path, strerror(errno));
		free(text);
		return NULL;
	}
	n = fread(text, 1, CONFIG_MAX, f);
	text[n] = '\0';
	if (f != stdin)
		fclose(f);
	return text;
}

/* The serial port as a description has it; 0, 1 for none, -1 with a message printed. */
static int describe_serial(const char *serial, char *text, size_t length)
{
	static const struct {
		const char *name, *device;
	} rows[] = {{"stdio", "uart,input=stdin,output=stdout"}, {"pty", "uart,pty=on"}, {"none", NULL}};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		if (strcmp(rows[i].name, serial))
			continue;
		snprintf(text, length, "%s", rows[i].device ? rows[i].device : "");
		return !rows[i].device;
	}
	if (!strncmp(serial, "file:", 5) && serial[5] && !strchr(serial, ',')) {
		snprintf(text, length, "uart,output=%s", serial);
		return 0;
	}
	fprintf(stderr, "microvm: --serial %s: expected stdio, file:PATH, pty or none\n", serial);
	return -1;
}

static int print(const struct settings *s, const char *description, const char *const *devices)
{
	const struct vcore_options *options = s->config ? NULL : &s->vm;
	int length = vcore_describe(description, options, &s->boot, devices, NULL, 0);
	char *text = length < 0 ? NULL : malloc((size_t)length + 1);

	if (!text) {
		fprintf(stderr, "microvm: --print-config: %s\n", length < 0 ? vcore_error_message() : strerror(ENOMEM));
		return STATUS_ERROR;
	}
	vcore_describe(description, options, &s->boot, devices, text, (size_t)length + 1);
	fputs(text, stdout);
	free(text);
	return 0;
}

int print_config(const struct settings *s)
{
	const char *devices[MAX_DEVICES + 3], *serial = s->serial ? s->serial : s->config ? "none" : "stdio";
	char uart[4200], debug_exit[80];
	unsigned count = 0;
	char *description = NULL;
	int status;

	switch (describe_serial(serial, uart, sizeof uart)) {
	case 0:
		devices[count++] = uart;
		break;
	case -1:
		return STATUS_USAGE;
	}
	if (s->debug_exit) {
		snprintf(debug_exit, sizeof debug_exit, "debug-exit,addr=%s", s->debug_exit);
		devices[count++] = debug_exit;
	}
	memcpy(devices + count, s->devices, s->device_count * sizeof *devices);
	devices[count + s->device_count] = NULL;
	if (s->config && !(description = read_config(s->config)))
		return STATUS_ERROR;
	status = print(s, description, devices);
	free(description);
	return status;
}
