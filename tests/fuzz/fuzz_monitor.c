/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a client sends to the monitor: lines, and all that the commands in them do to a vm. */
#include <stdlib.h>

#include "vm/monitor.h"

#define INPUTS_A_VM 64 /* devices that were added stay: a new vm after so many */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static vcore_vm *vm;
static unsigned inputs;

static void make(void)
{
	struct vcore_options o = {
	    .size = sizeof o, .machine = VCORE_MACHINE_MICROVM, .backend = VCORE_BACKEND_EMU, .memory = 2 << 20};

	vcore_vm_unref(vm);
	if (vcore_vm_new(&o, &vm) < 0)
		abort();
}

/* Devices open what their properties name: not the host's files. */
static bool names_a_file(const uint8_t *data, size_t length)
{
	return memchr(data, '/', length) || memmem(data, length, "\\u002", 5) || memmem(data, length, "file", 4) ||
	       memmem(data, length, "fd", 2) || memmem(data, length, "std", 3) || memmem(data, length, "pty", 3);
}

static void serve(struct vc_mon_session *session, const uint8_t *line, size_t length)
{
	/* in memory of its own size: a look behind its end is seen */
	char *copy = malloc(length + 1);
	struct json_object *answer;

	if (!copy)
		return;
	memcpy(copy, line, length);
	copy[length] = '\0';
	answer = vc_mon_answer(session, copy, length);
	if (answer && !json_object_object_get(answer, "return") && !json_object_object_get(answer, "error"))
		abort();
	json_object_put(answer);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct vc_mon_session session = {0};

	if (length >= VC_MON_LINE_MAX || !length || names_a_file(data, length))
		return 0;
	if (!vm || ++inputs % INPUTS_A_VM == 0)
		make();
	/* the first byte: whether the negotiation is over */
	session = (struct vc_mon_session){.vm = vm, .ready = data[0] != '!'};
	while (length) {
		const uint8_t *end = memchr(data, '\n', length);
		size_t line = end ? (size_t)(end - data) : length;

		serve(&session, data, line);
		data += line + (end != NULL);
		length -= line + (end != NULL);
	}
	return 0;
}
