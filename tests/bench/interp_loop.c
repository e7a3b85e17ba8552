/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How fast the interpreter is: millions of guest instructions a second on a few loops, and the bandwidth of REP string
 * instructions. The guest is in 64-bit mode with paging.
 *
 * Argument: seconds for each (default 1).
 */
#include <time.h>

#include "../unit/interp_world.h"

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct loop {
	const char *name;
	const uint8_t *code; /* runs RCX times, then UD2 */
	size_t length;
	uint64_t count; /* RCX of one run */
	double bytes;   /* moved by one run; 0: count instructions instead */
};
#define CODE(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

/* RSI, RDI: data; RSP: in the data */
/* clang-format off */
static const struct loop loops[] = {
	/* a mix over 4 KiB: loads, stores, ALU, shift, two branches */
	{"integer mix over memory", CODE(
		0x89, 0xc8,                   /* mov eax, ecx */
		0x25, 0xff, 0x01, 0x00, 0x00, /* and eax, 511 */
		0x48, 0x8b, 0x14, 0xc6,       /* mov rdx, [rsi + rax * 8] */
		0x48, 0x01, 0xd3,             /* add rbx, rdx */
		0x48, 0x33, 0x1c, 0xc7,       /* xor rbx, [rdi + rax * 8] */
		0x48, 0x89, 0x1c, 0xc6,       /* mov [rsi + rax * 8], rbx */
		0x48, 0xc1, 0xea, 0x07,       /* shr rdx, 7 */
		0x48, 0x01, 0x17,             /* add [rdi], rdx */
		0xf6, 0xc2, 0x01,             /* test dl, 1 */
		0x74, 0x05,                   /* jz +5 */
		0x4c, 0x8d, 0x44, 0x1a, 0x08, /* lea r8, [rdx + rbx + 8] */
		0x48, 0xff, 0xc9,             /* dec rcx */
		0x75, 0xd4,                   /* jnz */
		0x0f, 0x0b), 1000000, 0},
	{"registers only", CODE(
		0x48, 0x01, 0xd8,             /* add rax, rbx */
		0x48, 0x31, 0xc2,             /* xor rdx, rax */
		0x48, 0xc1, 0xc2, 0x05,       /* rol rdx, 5 */
		0x48, 0x8d, 0x1c, 0x10,       /* lea rbx, [rax + rdx] */
		0x4c, 0x29, 0xc3,             /* sub rbx, r8 */
		0x49, 0x89, 0xc0,             /* mov r8, rax */
		0x48, 0xff, 0xc9,             /* dec rcx */
		0x75, 0xe7,                   /* jnz */
		0x0f, 0x0b), 1000000, 0},
	{"calls", CODE(
		0xe8, 0x07, 0x00, 0x00, 0x00, /* call +7 */
		0x48, 0xff, 0xc9,             /* dec rcx */
		0x75, 0xf6,                   /* jnz */
		0x0f, 0x0b,                   /* ud2 */
		0x55,                         /* push rbp */
		0x48, 0x89, 0xe5,             /* mov rbp, rsp */
		0x48, 0x8b, 0x45, 0x08,       /* mov rax, [rbp + 8] */
		0x5d,                         /* pop rbp */
		0xc3), 1000000, 0},
	{"indirect calls", CODE(
		0x4c, 0x8d, 0x0d, 0x0a, 0x00, 0x00, 0x00, /* lea r9, [rip + 10] */
		0x41, 0xff, 0xd1,             /* call r9 */
		0x48, 0xff, 0xc9,             /* dec rcx */
		0x75, 0xf8,                   /* jnz */
		0x0f, 0x0b,                   /* ud2 */
		0x48, 0x01, 0xc8,             /* add rax, rcx */
		0xc3), 1000000, 0},
	{"rep movsb, 64 KiB", CODE(0xf3, 0xa4, 0x0f, 0x0b), 65536, 65536},
	{"rep stosq, 64 KiB", CODE(0xf3, 0x48, 0xab, 0x0f, 0x0b), 8192, 65536},
	{"rep movsb, 64 bytes", CODE(
		0x48, 0x89, 0xf0,             /* mov rax, rsi */
		0x48, 0x89, 0xfa,             /* mov rdx, rdi */
		0x48, 0x89, 0xcb,             /* mov rbx, rcx */
		0xb9, 0x40, 0x00, 0x00, 0x00, /* mov ecx, 64 */
		0xf3, 0xa4,                   /* rep movsb */
		0x48, 0x89, 0xc6,             /* mov rsi, rax */
		0x48, 0x89, 0xd7,             /* mov rdi, rdx */
		0x48, 0xff, 0xcb,             /* dec rbx */
		0x75, 0xee,                   /* jnz, to mov ecx */
		0x0f, 0x0b), 100000, 6400000},
};
/* clang-format on */

static void measure(struct world *w, const struct loop *l, double seconds)
{
	struct emu_vcpu *c = w->c;
	uint64_t before = c->icount, runs = 0;
	double start, spent;

	world_write(w, WORLD_CODE, l->code, l->length);
	start = now();
	do {
		c->s.rip = WORLD_CODE;
		c->s.gpr[VC_RCX] = l->count;
		c->s.gpr[VC_RSI] = WORLD_DATA;
		c->s.gpr[VC_RDI] = WORLD_DATA + 0x20000;
		c->s.gpr[VC_RSP] = WORLD_DATA + 0x80000;
		if (world_run(w) != EMU_STOP_EXCEPTION || c->exc.vector != VC_UD) {
			printf("%s: stopped at %#llx by vector %u\n", l->name, (unsigned long long)c->s.rip, c->exc.vector);
			return;
		}
		runs++;
		spent = now() - start;
	} while (spent < seconds);
	if (l->bytes != 0)
		printf("%-26s %8.2f GB/s\n", l->name, l->bytes * (double)runs / spent * 1e-9);
	else
		printf("%-26s %8.1f million instructions/s\n", l->name, (double)(c->icount - before) / spent * 1e-6);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 1;
	struct world *w = world_new();

	world_long64(w);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(loops); i++)
		measure(w, &loops[i], seconds);
	world_free(w);
	return 0;
}
