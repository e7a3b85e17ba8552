/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm monitor: what its parts share. */
#ifndef MICROVM_MONITOR_H
#define MICROVM_MONITOR_H

#include <json.h>
#include <stdbool.h>
#include <stddef.h>

/* ---- words.c: a line of words, and the monitor's own description of its commands ---- */

#define MAX_WORDS 64

struct known {
	struct json_object *commands; /* as query-commands gives them */
	struct json_object *types;    /* as device-types does */
};

/* Cuts the line into words in place; "..." keeps blanks together. How many. */
int split_words(char *line, char **words);
/* {"execute": ...} of a command's name and words: key=value, or values alone for arguments that are needed. */
struct json_object *make_request(const struct known *known, char *const *words, int count);

#define MAX_CANDIDATES 128

/* What could stand in place of the last word of the text: name= with a '=', a command or value without. */
struct candidates {
	size_t start; /* of that word */
	int count;
	char *texts[MAX_CANDIDATES];
};
void complete(const struct known *known, const char *text, struct candidates *out);
void free_candidates(struct candidates *candidates);

/* ---- prompt.c: a line editor ---- */

#define LINE_LENGTH 1024
#define HISTORY     32

struct prompt {
	const struct known *known;
	char label[64]; /* what stands before the line */
	char line[LINE_LENGTH];
	size_t length, cursor;
	int escape; /* bytes of an escape sequence so far */
	char history[HISTORY][LINE_LENGTH];
	unsigned entries, shown; /* lines there were; the one that is shown */
};

enum prompt_result { PROMPT_MORE, PROMPT_LINE, PROMPT_END };

/* A key. PROMPT_LINE: line is whole, and the next key begins a new one after prompt_begin(). */
enum prompt_result prompt_key(struct prompt *prompt, char key);
void prompt_begin(struct prompt *prompt);
/* Take the prompt off the screen, and put it there again. */
void prompt_hide(void);
void prompt_show(const struct prompt *prompt);

#endif
