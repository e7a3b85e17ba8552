/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm: values of options. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "microvm.h"

const struct word backends[] = {
    {"auto", VCORE_BACKEND_AUTO}, {"kvm", VCORE_BACKEND_KVM}, {"emu", VCORE_BACKEND_EMU}, {0}};
const struct word engines[] = {{"auto", VCORE_ENGINE_AUTO},       {"interp", VCORE_ENGINE_INTERP},
                               {"jit", VCORE_ENGINE_JIT},         {"lockstep", VCORE_ENGINE_LOCKSTEP},
                               {"promote", VCORE_ENGINE_PROMOTE}, {0}};
int bad(const char *option, const char *value, const char *expected)
{
	fprintf(stderr, "microvm: --%s %s: expected %s\n", option, value, expected);
	return STATUS_USAGE;
}

int take_word(const char *option, const char *value, const struct word *words, uint32_t *out)
{
	char expected[160] = "";
	size_t used = 0;

	for (const struct word *w = words; w->name; w++) {
		if (!strcmp(w->name, value)) {
			*out = w->value;
			return -1;
		}
		if (used < sizeof expected)
			used += (size_t)snprintf(expected + used, sizeof expected - used, "%s%s", used ? ", " : "", w->name);
	}
	return bad(option, value, expected);
}

/* Words with commas between them. */
int take_words(const char *option, const char *value, const struct word *words, uint32_t *out)
{
	char word[32];
	int status = -1;

	while (status < 0) {
		size_t length = strcspn(value, ",");
		uint32_t bit = 0;

		snprintf(word, sizeof word, "%.*s", (int)length, value);
		status = take_word(option, word, words, &bit);
		*out |= bit;
		if (!value[length])
			break;
		value += length + 1;
	}
	return status;
}

int take_size(const char *option, const char *value, uint64_t *out)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	unsigned shift = 0;
	char *end;

	errno = 0;
	*out = strtoull(value, &end, 0);
	suffix = *end ? strchr(suffixes, *end) : NULL;
	if (suffix) {
		shift = 10 * (unsigned)(suffix - suffixes + 1);
		end++;
	}
	if (errno || end == value || *end || value[0] == '-' || *out > UINT64_MAX >> shift)
		return bad(option, value, "a number of bytes, such as 512M");
	*out <<= shift;
	return -1;
}

int take_cpus(const char *option, const char *value, uint32_t *out)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (end == value || *end || n < 1 || n > 255)
		return bad(option, value, "a number from 1 to 255");
	*out = (uint32_t)n;
	return -1;
}

int take_timeout(const char *value, double *out)
{
	char *end;

	*out = strtod(value, &end);
	if (end == value || *end || !(*out > 0 && *out < 1e9))
		return bad("timeout", value, "a number of seconds above 0");
	return -1;
}

int take_count(const char *option, const char *value, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(value, &end, 10);
	if (errno || end == value || *end || value[0] == '-' || !*out)
		return bad(option, value, "a number above 0");
	return -1;
}
