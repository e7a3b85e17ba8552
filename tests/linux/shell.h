/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A Linux guest that is a shell or a script on its serial port, asked and answering. What fails ends the program. */
#ifndef SHELL_H
#define SHELL_H

#include <stddef.h>
#include <virtcore/virtcore.h>

struct shell {
	vcore_vm *vm;
	int in, out; /* our ends of its serial port */
	int its_in, its_out;
	char text[65536]; /* what it said since the last question */
	size_t length;
};

void shell_fail(const char *what);
void shell_check(int r, const char *what);
double shell_now_us(void);
unsigned shell_resident_mib(void); /* of this process */
enum vcore_backend shell_backend(const char *name);
void shell_pipes(struct shell *g);
/* Of a serial port at those pipes. */
const char *shell_uart(const struct shell *g);
/* struct vcore_clone_options.properties, ctx: the shell whose pipes the serial port gets. */
const char *shell_properties(void *ctx, uint32_t index, const char *type, const char *properties);
/* argv: ..., kernel, initrd, backend */
void shell_boot(struct shell *g, char **argv, const char *cpu);
void shell_expect(struct shell *g, const char *who, const char *text);
/* The line, whole, in which it says that; in g->text, from there on. */
const char *shell_line(struct shell *g, const char *who, const char *text);
/* It has been told to power off. */
void shell_await_poweroff(struct shell *g);
/* What it said is forgotten. */
void shell_forget(struct shell *g);
/* The answer does not occur in the question, which comes back as an echo. */
void shell_ask(struct shell *g, const char *who, const char *question, const char *answer);
void shell_end(struct shell *g);

#endif
