/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "talk.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

int talk_fail(const struct talk *t, const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", t->name, what, vcore_error_message());
	return 1;
}

static int listen_to(struct talk *t, FILE *console)
{
	char line[512];

	while (fgets(line, sizeof line, console)) {
		fputs(line, stdout);
		if (t->answer(t, line) < 0)
			return talk_fail(t, line);
		if (!strncmp(line, t->end, strlen(t->end)))
			return 0;
	}
	return 1;
}

int talk_run(struct talk *t, const char *kernel, const char *initrd)
{
	struct vcore_exit exit = {.size = sizeof exit};
	char properties[64];
	FILE *console;
	int ends[2], r;

	if (pipe(ends) < 0 || !(console = fdopen(ends[0], "r")))
		return talk_fail(t, "a pipe");
	snprintf(properties, sizeof properties, "input=null,output=fd:%d", ends[1]);
	r = vcore_device_add(t->vm, "uart", properties, NULL) < 0 ||
	            vcore_boot_linux(t->vm, kernel, initrd, "console=ttyS0 quiet panic=-1") < 0 || vcore_vm_start(t->vm) < 0
	        ? talk_fail(t, "starting")
	        : listen_to(t, console);
	if (!r && (vcore_vm_wait(t->vm, 60000000000ll, &exit) < 0 || exit.reason != VCORE_EXIT_POWEROFF))
		r = talk_fail(t, "the guest does not power off");
	fclose(console);
	close(ends[1]);
	return r;
}
