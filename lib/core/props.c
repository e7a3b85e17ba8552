/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Properties of a device as text: "k=v,k=v" or a JSON object. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "config.h"
#include "core/error.h"
#include "core/props.h"
#include "core/props_priv.h"
#include "core/util.h"

enum { MAX_ASKED = 64 };

struct entry {
	char *key, *value;
	bool used;
};

struct vc_props {
	struct entry *entries;
	unsigned count;
	const char *asked[MAX_ASKED]; /* keys the getters were called with: string constants of the device */
	unsigned asked_count;
};

static struct entry *find(struct vc_props *props, const char *key)
{
	for (unsigned i = 0; i < props->count; i++) {
		if (!strcmp(props->entries[i].key, key))
			return &props->entries[i];
	}
	return NULL;
}

static bool valid_key(const char *key)
{
	for (const char *c = key; *c; c++) {
		if (!isalnum((unsigned char)*c) && !strchr("_-.", *c))
			return false;
	}
	return *key != '\0';
}

int vc_props_put(struct vc_props *props, const char *key, const char *value)
{
	struct entry *entries, entry;

	if (!valid_key(key))
		return vc_fail(EINVAL, "property name '%s' is not made of letters, digits, '_', '-' and '.'", key);
	if (find(props, key))
		return vc_fail(EINVAL, "property '%s' is given twice", key);
	entries = realloc(props->entries, (props->count + 1) * sizeof *entries);
	if (entries)
		props->entries = entries;
	entry = (struct entry){.key = strdup(key), .value = strdup(value)};
	if (!entries || !entry.key || !entry.value) {
		free(entry.key);
		free(entry.value);
		return vc_fail(ENOMEM, "no memory for property '%s'", key);
	}
	props->entries[props->count++] = entry;
	return 0;
}

/* Copies one "k=v" item without its ",," doubling into item; returns where the next one starts, NULL at the end. */
static const char *next_item(const char *text, char *item)
{
	for (; *text; text++) {
		if (*text == ',') {
			if (text[1] != ',')
				break;
			text++;
		}
		*item++ = *text;
	}
	*item = '\0';
	return *text ? text + 1 : NULL;
}

static int parse_text(struct vc_props *props, const char *text)
{
	char *item = malloc(strlen(text) + 1);
	int r = item ? 0 : vc_fail(ENOMEM, "no memory for properties");

	while (!r && text) {
		char *equals;

		text = next_item(text, item);
		equals = strchr(item, '=');
		if (equals)
			*equals = '\0';
		r = vc_props_put(props, item, equals ? equals + 1 : "on");
	}
	free(item);
	return r;
}

static int parse(struct vc_props *props, const char *text)
{
	const char *start = text;

	while (isspace((unsigned char)*start))
		start++;
	if (!*start)
		return 0;
	if (*start != '{')
		return parse_text(props, text);
#ifdef VC_HAVE_JSON
	return vc_props_parse_json(props, start);
#else
	return vc_fail(ENOTSUP, "properties as JSON need a build with json-c");
#endif
}

int vc_props_parse(const char *text, struct vc_props **out)
{
	struct vc_props *props = calloc(1, sizeof *props);
	int r;

	if (!props)
		return vc_fail(ENOMEM, "no memory for properties");
	r = parse(props, text ? text : "");
	if (r) {
		vc_props_free(props);
		return r;
	}
	*out = props;
	return 0;
}

void vc_props_free(struct vc_props *props)
{
	if (!props)
		return;
	for (unsigned i = 0; i < props->count; i++) {
		free(props->entries[i].key);
		free(props->entries[i].value);
	}
	free(props->entries);
	free(props);
}

bool vc_props_at(const struct vc_props *props, unsigned index, struct vc_prop *property)
{
	if (index >= props->count)
		return false;
	*property = (struct vc_prop){.key = props->entries[index].key, .value = props->entries[index].value};
	return true;
}

const char *vc_props_string(struct vc_props *props, const char *key, const char *fallback)
{
	struct entry *entry = find(props, key);

	if (props->asked_count < MAX_ASKED)
		props->asked[props->asked_count++] = key;
	if (!entry)
		return fallback;
	entry->used = true;
	return entry->value;
}

/* The power of two behind a number: "" 0, "K" 10, "M" 20, "G" 30; -1 for anything else. */
static int suffix_shift(const char *suffix)
{
	static const char letters[] = "KMG";
	const char *found;

	if (!*suffix)
		return 0;
	found = strchr(letters, toupper((unsigned char)*suffix));
	return found && *found && !suffix[1] ? 10 * (int)(found - letters + 1) : -1;
}

static bool parse_number(const char *text, uint64_t *value)
{
	char *end;
	int shift;

	if (!isdigit((unsigned char)*text)) /* strtoull() would take blanks and signs */
		return false;
	errno = 0;
	*value = strtoull(text, &end, text[0] == '0' && (text[1] | 0x20) == 'x' ? 16 : 10);
	shift = suffix_shift(end);
	if (errno || shift < 0 || *value > UINT64_MAX >> shift)
		return false;
	*value <<= shift;
	return true;
}

int vc_props_u64(struct vc_props *props, const char *key, uint64_t fallback, uint64_t min, uint64_t max,
                 uint64_t *value)
{
	const char *text = vc_props_string(props, key, NULL);

	*value = fallback;
	if (!text)
		return 0;
	if (!parse_number(text, value))
		return vc_fail(EINVAL, "property %s=%s is not a number (decimal or 0x hexadecimal, with K, M or G behind it)",
		               key, text);
	if (*value < min || *value > max)
		return vc_fail(EINVAL, "property %s=%s is out of range: %llu (%#llx) to %llu (%#llx)", key, text,
		               (unsigned long long)min, (unsigned long long)min, (unsigned long long)max,
		               (unsigned long long)max);
	return 0;
}

int vc_props_bool(struct vc_props *props, const char *key, bool fallback, bool *value)
{
	static const struct {
		const char *word;
		bool value;
	} words[] = {{"on", true},   {"yes", true}, {"true", true},   {"1", true},
	             {"off", false}, {"no", false}, {"false", false}, {"0", false}};
	const char *text = vc_props_string(props, key, NULL);

	*value = fallback;
	if (!text)
		return 0;
	for (unsigned i = 0; i < VC_ARRAY_SIZE(words); i++) {
		if (!strcmp(text, words[i].word)) {
			*value = words[i].value;
			return 0;
		}
	}
	return vc_fail(EINVAL, "property %s=%s is neither on nor off", key, text);
}

/* "a, b, c", cut to length. */
static void list_asked(const struct vc_props *props, char *list, size_t length)
{
	size_t at = 0;

	list[0] = '\0';
	for (unsigned i = 0; i < props->asked_count && at < length; i++) {
		int n = snprintf(list + at, length - at, "%s%s", i ? ", " : "", props->asked[i]);

		at += n > 0 ? (size_t)n : 0;
	}
}

int vc_props_finish(struct vc_props *props, const char *type)
{
	char known[256];

	for (unsigned i = 0; i < props->count; i++) {
		if (props->entries[i].used)
			continue;
		list_asked(props, known, sizeof known);
		return vc_fail(EINVAL, "device '%s' has no property '%s'; it has: %s", type, props->entries[i].key,
		               *known ? known : "none");
	}
	return 0;
}
