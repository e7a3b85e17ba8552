/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Descriptions: any text is a vm or a refusal with a sentence. Half of the inputs are put behind a head that makes them
 * cheap (backend emu), as most of what is interesting comes behind the first valid key.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <virtcore/virtcore.h>

#define MEMORY_MAX (16u << 20)
#define CPUS_MAX   4

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Descriptions name files: they shall be found, or made, in an empty directory. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static char directory[] = "/tmp/fuzz-json-XXXXXX";
	FILE *file;

	if (!mkdtemp(directory) || chdir(directory) < 0)
		abort();
	file = fopen("k", "w");
	if (!file || fwrite("\x7f\x45LF and more", 1, 13, file) != 13 || fclose(file))
		abort();
	return 0;
}

/* Number, with a suffix for binary multiples. */
static uint64_t number_at(const char *p, const char **end)
{
	static const char suffixes[] = "kmgt";
	char *behind;
	uint64_t value = strtoull(p, &behind, 0);
	const char *suffix = *behind ? strchr(suffixes, tolower((unsigned char)*behind)) : NULL;

	*end = behind;
	return suffix ? value << 10 * (suffix - suffixes + 1) : value;
}

/* Would cost much memory or time, leave the directory, or end at the host's devices. */
static int expensive(const char *text)
{
	const char *cpus = strstr(text, "\"cpus\"");

	if (strchr(text, '/') || strchr(text, '\\') || strstr(text, "kvm") || strstr(text, "auto") ||
	    strstr(text, "prealloc") || strstr(text, "locked") || strstr(text, "huge") || strstr(text, "fd:") ||
	    strstr(text, "stdio") || strstr(text, "pty"))
		return 1;
	for (const char *p = text; *p; p++) {
		if (!isdigit((unsigned char)*p))
			continue;
		uint64_t value = number_at(p, &p);
		if (value > MEMORY_MAX || (cpus && value > CPUS_MAX && value < 1024))
			return 1;
		p--;
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char head[] = "{\"backend\":\"emu\",";
	bool wrapped = size && data[0] == 'x';
	vcore_vm *vm = NULL;
	char *text;

	if (size > 4096)
		return -1;
	text = malloc(size + sizeof head);
	if (!text)
		return 0;
	strcpy(text, wrapped ? head : "");
	memcpy(text + strlen(text), data + wrapped, size - wrapped);
	text[(wrapped ? strlen(head) : 0) + size - wrapped] = '\0';

	/* without a backend it would be `auto`, which measures /dev/kvm each time */
	if (!expensive(text) && (!strchr(text, '{') || strstr(text, "\"emu\""))) {
		int r = vcore_vm_new_from_json(text, &vm);

		if (r < 0 ? !*vcore_error_message() : !vm)
			abort();
		if (r >= 0)
			vcore_vm_unref(vm);
	}
	free(text);
	return 0;
}
