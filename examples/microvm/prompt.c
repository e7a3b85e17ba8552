/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm monitor: a line editor for a terminal in raw mode. */
#include <stdio.h>
#include <string.h>

#include "monitor.h"

#define CTRL(c) ((c)&0x1f)
#define ESC     27
#define DELETE  127

void prompt_hide(void)
{
	printf("\r\033[K");
	fflush(stdout);
}

void prompt_show(const struct prompt *p)
{
	printf("\r\033[K%s%s\r\033[%zuC", p->label, p->line, strlen(p->label) + p->cursor);
	fflush(stdout);
}

void prompt_begin(struct prompt *p)
{
	p->line[0] = '\0';
	p->length = p->cursor = 0;
	p->shown = p->entries;
	prompt_show(p);
}

/* ---- editing ---- */

static void insert(struct prompt *p, const char *text)
{
	size_t n = strlen(text);

	if (p->length + n >= sizeof p->line)
		return;
	memmove(p->line + p->cursor + n, p->line + p->cursor, p->length - p->cursor + 1);
	memcpy(p->line + p->cursor, text, n);
	p->length += n;
	p->cursor += n;
}

static void erase(struct prompt *p, size_t from, size_t to)
{
	memmove(p->line + from, p->line + to, p->length - to + 1);
	p->length -= to - from;
	p->cursor = from;
}

static void left(struct prompt *p)
{
	p->cursor -= p->cursor > 0;
}

static void right(struct prompt *p)
{
	p->cursor += p->cursor < p->length;
}

static void home(struct prompt *p)
{
	p->cursor = 0;
}

static void end(struct prompt *p)
{
	p->cursor = p->length;
}

static void erase_left(struct prompt *p)
{
	if (p->cursor)
		erase(p, p->cursor - 1, p->cursor);
}

static void erase_right(struct prompt *p)
{
	if (p->cursor < p->length)
		erase(p, p->cursor, p->cursor + 1);
}

static void erase_before(struct prompt *p)
{
	erase(p, 0, p->cursor);
}

static void erase_after(struct prompt *p)
{
	erase(p, p->cursor, p->length);
}

static void erase_all(struct prompt *p)
{
	erase(p, 0, p->length);
}

/* ---- history ---- */

static void remember(struct prompt *p)
{
	if (p->length && (!p->entries || strcmp(p->history[(p->entries - 1) % HISTORY], p->line)))
		memcpy(p->history[p->entries++ % HISTORY], p->line, sizeof p->line);
}

static void recall(struct prompt *p, unsigned which)
{
	p->shown = which;
	erase_all(p);
	if (which < p->entries)
		insert(p, p->history[which % HISTORY]);
}

static void older(struct prompt *p)
{
	if (p->shown > 0 && p->entries - p->shown < HISTORY)
		recall(p, p->shown - 1);
}

static void newer(struct prompt *p)
{
	if (p->shown < p->entries)
		recall(p, p->shown + 1);
}

/* ---- completion ---- */

/* How much all candidates have in common. */
static size_t common(const struct candidates *c)
{
	size_t n = strlen(c->texts[0]);

	for (int i = 1; i < c->count; i++)
		while (strncmp(c->texts[0], c->texts[i], n))
			n--;
	return n;
}

static void tab(struct prompt *p)
{
	char before[LINE_LENGTH];
	struct candidates c;
	size_t typed, n;

	snprintf(before, sizeof before, "%.*s", (int)p->cursor, p->line);
	complete(p->known, before, &c);
	typed = p->cursor - c.start;
	n = c.count ? common(&c) : 0;
	if (n > typed) {
		c.texts[0][n] = '\0';
		insert(p, c.texts[0] + typed);
	} else if (c.count > 1) {
		printf("\n");
		for (int i = 0; i < c.count; i++)
			printf("%s%s", c.texts[i], i == c.count - 1 ? "\n" : "  ");
	}
	free_candidates(&c);
}

/* ---- keys ---- */

static const struct {
	char key;
	void (*act)(struct prompt *p);
} keys[] = {
    {CTRL('a'), home},
    {CTRL('e'), end},
    {CTRL('b'), left},
    {CTRL('f'), right},
    {CTRL('p'), older},
    {CTRL('n'), newer},
    {CTRL('u'), erase_before},
    {CTRL('k'), erase_after},
    {CTRL('h'), erase_left},
    {DELETE, erase_left},
    {CTRL('d'), erase_right},
    {CTRL('c'), erase_all},
    {'\t', tab},
};

/* The last byte of ESC [ x. */
static const struct {
	char key;
	void (*act)(struct prompt *p);
} arrows[] = {{'A', older}, {'B', newer}, {'C', right}, {'D', left}, {'H', home}, {'F', end}};

static void escape(struct prompt *p, char key)
{
	if (p->escape++ == 1 && (key == '[' || key == 'O'))
		return;
	/* digits and semicolons stand before the last byte */
	if (key >= '0' && key <= ';')
		return;
	p->escape = 0;
	for (size_t i = 0; i < sizeof arrows / sizeof arrows[0]; i++)
		if (arrows[i].key == key)
			arrows[i].act(p);
}

enum prompt_result prompt_key(struct prompt *p, char key)
{
	char text[2] = {key, '\0'};

	if (p->escape) {
		escape(p, key);
	} else if (key == ESC) {
		p->escape = 1;
	} else if (key == '\r' || key == '\n') {
		remember(p);
		printf("\n");
		return PROMPT_LINE;
	} else if (key == CTRL('d') && !p->length) {
		printf("\n");
		return PROMPT_END;
	} else if ((unsigned char)key >= ' ' && key != DELETE) {
		insert(p, text);
	}
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		if (keys[i].key == key)
			keys[i].act(p);
	prompt_show(p);
	return PROMPT_MORE;
}
