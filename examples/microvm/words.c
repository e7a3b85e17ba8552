/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm monitor: words to requests, and what a word could become. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "monitor.h"

int split_words(char *line, char **words)
{
	int count = 0;

	while (count < MAX_WORDS) {
		char *to;
		bool quoted = false;

		line += strspn(line, " \t\r\n");
		if (!*line)
			break;
		words[count++] = to = line;
		for (; *line && (quoted || !strchr(" \t\r\n", *line)); line++) {
			if (*line == '"')
				quoted = !quoted;
			else
				*to++ = *line;
		}
		if (*line)
			line++;
		*to = '\0';
	}
	return count;
}

static const char *text_of(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) ? json_object_get_string(value) : "";
}

/* The member of an array of objects with that "name". */
static struct json_object *named(struct json_object *array, const char *name, size_t length)
{
	for (size_t i = 0; array && i < json_object_array_length(array); i++) {
		struct json_object *object = json_object_array_get_idx(array, i);
		const char *text = text_of(object, "name");

		if (strlen(text) == length && !strncmp(text, name, length))
			return object;
	}
	return NULL;
}

static struct json_object *arguments_of(const struct known *known, const char *command, size_t length)
{
	struct json_object *object = named(known->commands, command, length), *arguments;

	return json_object_object_get_ex(object, "arguments", &arguments) ? arguments : NULL;
}

/* The argument that takes what the command itself does not know. */
static struct json_object *object_argument(struct json_object *arguments)
{
	for (size_t i = 0; arguments && i < json_object_array_length(arguments); i++)
		if (!strcmp(text_of(json_object_array_get_idx(arguments, i), "type"), "object"))
			return json_object_array_get_idx(arguments, i);
	return NULL;
}

static const struct {
	const char *word;
	bool value;
} truths[] = {{"on", true}, {"off", false}, {"up", true}, {"down", false}, {"true", true}, {"false", false}};

/* -1: it is neither. */
static int truth(const char *text)
{
	for (size_t i = 0; i < sizeof truths / sizeof truths[0]; i++)
		if (!strcmp(text, truths[i].word))
			return truths[i].value;
	return -1;
}

/* "a,b,c" */
static struct json_object *split_list(const char *text)
{
	struct json_object *array = json_object_new_array();

	while (*text) {
		size_t length = strcspn(text, ",");

		json_object_array_add(array, json_object_new_string_len(text, (int)length));
		text += length + (text[length] == ',');
	}
	return array;
}

/* A number with K, M, G or T behind it; false: it is none. */
static bool number_of(const char *text, uint64_t *number)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 0);
	unit = *end ? strchr(units, *end) : NULL;
	if (*text < '0' || *text > '9' || errno || (unit ? end[1] != '\0' : *end != '\0'))
		return false;
	for (; unit && unit >= units; unit--) {
		if (*number > UINT64_MAX >> 10)
			return false;
		*number <<= 10;
	}
	return true;
}

/* What is no such value goes as a string, for the monitor to refuse. */
static struct json_object *value_of(const char *type, const char *text)
{
	struct json_object *value = NULL;
	uint64_t number;

	if (!strcmp(type, "number") && number_of(text, &number))
		return json_object_new_uint64(number);
	if (!strcmp(type, "boolean") && truth(text) >= 0)
		return json_object_new_boolean(truth(text));
	if (!strcmp(type, "array") && *text != '[')
		return split_list(text);
	if (!strcmp(type, "object") || !strcmp(type, "array"))
		value = json_tokener_parse(text);
	return value ? value : json_object_new_string(text);
}

static void add_pair(struct json_object *to, struct json_object *arguments, const char *word)
{
	size_t length = strcspn(word, "=");
	struct json_object *argument = named(arguments, word, length), *rest = object_argument(arguments), *inner;
	char name[LINE_LENGTH];

	snprintf(name, sizeof name, "%.*s", (int)length, word);
	word += length + (word[length] == '=');
	if (argument || !rest) {
		json_object_object_add(to, name, value_of(argument ? text_of(argument, "type") : "string", word));
		return;
	}
	if (!json_object_object_get_ex(to, text_of(rest, "name"), &inner)) {
		inner = json_object_new_object();
		json_object_object_add(to, text_of(rest, "name"), inner);
	}
	if (json_object_is_type(inner, json_type_object))
		json_object_object_add(inner, name, json_object_new_string(word));
}

/* A value alone belongs to the first argument that has none. */
static void add_value(struct json_object *to, struct json_object *arguments, const char *word)
{
	for (size_t i = 0; arguments && i < json_object_array_length(arguments); i++) {
		struct json_object *argument = json_object_array_get_idx(arguments, i);
		const char *name = text_of(argument, "name");

		if (json_object_object_get_ex(to, name, NULL) || !strcmp(text_of(argument, "type"), "object"))
			continue;
		json_object_object_add(to, name, value_of(text_of(argument, "type"), word));
		return;
	}
	json_object_object_add(to, word, NULL);
}

struct json_object *make_request(const struct known *known, char *const *words, int count)
{
	struct json_object *request = json_object_new_object(), *given = json_object_new_object();
	struct json_object *arguments = arguments_of(known, words[0], strlen(words[0]));

	for (int i = 1; i < count; i++) {
		if (strchr(words[i], '='))
			add_pair(given, arguments, words[i]);
		else
			add_value(given, arguments, words[i]);
	}
	json_object_object_add(request, "execute", json_object_new_string(words[0]));
	json_object_object_add(request, "arguments", given);
	return request;
}

/* ---- completion ---- */

static void offer(struct candidates *out, const char *word, const char *text, const char *suffix)
{
	char whole[LINE_LENGTH];

	snprintf(whole, sizeof whole, "%s%s", text, suffix);
	if (!strncmp(whole, word, strlen(word)) && out->count < MAX_CANDIDATES)
		out->texts[out->count++] = strdup(whole);
}

static void offer_names(struct candidates *out, const char *word, struct json_object *array, const char *before,
                        const char *suffix)
{
	char text[LINE_LENGTH];

	for (size_t i = 0; array && i < json_object_array_length(array); i++) {
		snprintf(text, sizeof text, "%s%s", before, text_of(json_object_array_get_idx(array, i), "name"));
		offer(out, word, text, suffix);
	}
}

/* The properties of the type that the words before have named. */
static void offer_properties(const struct known *known, struct candidates *out, const char *text, const char *word)
{
	for (size_t i = 0; known->types && i < json_object_array_length(known->types); i++) {
		struct json_object *type = json_object_array_get_idx(known->types, i), *properties;
		const char *name = text_of(type, "name"), *at = strstr(text, name);

		if (at && at > text && at < word && strchr(" =", at[-1]) && at[strlen(name)] == ' ' &&
		    json_object_object_get_ex(type, "properties", &properties))
			offer_names(out, word, properties, "", "=");
	}
}

/* Behind "name=" of one that is so or not. */
static void offer_truths(struct candidates *out, const char *word, struct json_object *arguments)
{
	size_t length = strcspn(word, "=");
	struct json_object *argument = word[length] ? named(arguments, word, length) : NULL;
	char before[LINE_LENGTH];

	if (!argument || strcmp(text_of(argument, "type"), "boolean"))
		return;
	snprintf(before, sizeof before, "%.*s=", (int)length, word);
	offer(out, word, before, "on ");
	offer(out, word, before, "off ");
}

void complete(const struct known *known, const char *text, struct candidates *out)
{
	const char *word = strrchr(text, ' ');
	size_t command = strcspn(text, " ");
	struct json_object *arguments;

	*out = (struct candidates){.start = word ? (size_t)(word + 1 - text) : 0};
	word = text + out->start;
	if (!out->start) {
		offer_names(out, word, known->commands, "", " ");
		offer(out, word, "exit", " ");
		return;
	}
	arguments = arguments_of(known, text, command);
	offer_names(out, word, arguments, "", "=");
	offer_truths(out, word, arguments);
	if (named(arguments, "command", 7))
		offer_names(out, word, known->commands, strncmp(word, "command=", 8) ? "" : "command=", " ");
	if (!named(arguments, "type", 4))
		return;
	/* the first word may be the type alone */
	if (!strncmp(word, "type=", 5))
		offer_names(out, word, known->types, "type=", " ");
	else if (out->start == command + 1)
		offer_names(out, word, known->types, "", " ");
	offer_properties(known, out, text, word);
}

void free_candidates(struct candidates *candidates)
{
	for (int i = 0; i < candidates->count; i++)
		free(candidates->texts[i]);
	candidates->count = 0;
}
