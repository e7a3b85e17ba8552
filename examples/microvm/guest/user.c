/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who runs the command, by the root's /etc/passwd and /etc/group. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"

enum { FIELDS = 7 };

/* Calls fn with the fields of each line of a file that is there; stops when it returns true. */
static bool each_line(const char *path, bool (*fn)(char *fields[FIELDS], void *ctx), void *ctx)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	bool found = false;

	while (file && !found && getline(&line, &room, file) > 0) {
		char *fields[FIELDS], *rest = line;

		line[strcspn(line, "\n")] = '\0';
		for (int i = 0; i < FIELDS; i++)
			fields[i] = rest ? strsep(&rest, ":") : line + strlen(line);
		found = fn(fields, ctx);
	}
	free(line);
	if (file)
		fclose(file);
	return found;
}

static bool parse_id(const char *text, uint32_t *id)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	*id = (uint32_t)n;
	return *text >= '0' && *text <= '9' && !*end && n < UINT32_MAX;
}

struct search {
	const char *name; /* or a number */
	struct user *user;
};

static bool same(const char *wanted, const char *name, const char *number)
{
	uint32_t a, b;

	return !strcmp(wanted, name) || (parse_id(wanted, &a) && parse_id(number, &b) && a == b);
}

static bool take_user(char *fields[FIELDS], void *ctx)
{
	struct search *s = ctx;

	if (!same(s->name, fields[0], fields[2]) || !parse_id(fields[2], &s->user->uid) ||
	    !parse_id(fields[3], &s->user->gid))
		return false;
	snprintf(s->user->home, sizeof s->user->home, "%s", fields[5]);
	/* its name, by which groups know it */
	s->name = strdup(fields[0]);
	return true;
}

static bool take_group(char *fields[FIELDS], void *ctx)
{
	struct search *s = ctx;

	return same(s->name, fields[0], fields[2]) && parse_id(fields[2], &s->user->gid);
}

/* Further groups: those that list the user's name. */
static bool add_group(char *fields[FIELDS], void *ctx)
{
	struct search *s = ctx;
	char *members = fields[3], *member;
	uint32_t gid;

	while ((member = strsep(&members, ",")))
		if (!strcmp(member, s->name) && parse_id(fields[2], &gid) &&
		    s->user->group_count < sizeof s->user->groups / sizeof s->user->groups[0])
			s->user->groups[s->user->group_count++] = gid;
	return false;
}

/* "user" or "user:group", both a name or a number; a number need not be in the files. */
void find_user(const char *text, struct user *user)
{
	struct search s = {.user = user};
	char *copy = strdup(text), *group = copy, *name = strsep(&group, ":");

	*user = (struct user){.home = "/"};
	s.name = name;
	if (each_line("/etc/passwd", take_user, &s))
		each_line("/etc/group", add_group, &s);
	else if (parse_id(name, &user->uid))
		user->gid = user->uid;
	else
		fail(RUN_FAILED, "the root's /etc/passwd has no user %s", name);
	s.name = group;
	if (group && !each_line("/etc/group", take_group, &s) && !parse_id(group, &user->gid))
		fail(RUN_FAILED, "the root's /etc/group has no group %s", group);
	free(copy);
}
