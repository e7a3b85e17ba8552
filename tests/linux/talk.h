/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A Linux guest whose init script says line by line how far it is, and a program that does something then. */
#ifndef TALK_H
#define TALK_H

#include <virtcore/virtcore.h>

struct talk {
	const char *name; /* of the program */
	const char *end;  /* how its last line begins */
	/* It says a line: 0 or an error of the library. */
	int (*answer)(struct talk *t, const char *line);
	vcore_vm *vm;
	vcore_device *card; /* answer's own */
};

/* 1, and it is said why. */
int talk_fail(const struct talk *t, const char *what);
/* Boots t->vm and answers until the guest powers off. 0: after its last line; anything else is said. */
int talk_run(struct talk *t, const char *kernel, const char *initrd);

#endif
