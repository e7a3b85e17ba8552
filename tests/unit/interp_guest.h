/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For tests that run pieces of guest code in the interpreter: the code, memory, and what came of it. */
#ifndef TEST_INTERP_GUEST_H
#define TEST_INTERP_GUEST_H

#include <check.h>
#include <time.h>

#include "interp_world.h"

/* Guest code in GNU assembly: `name` and `name`_end in this program's memory. */
#define GUEST_BITS(bits, name, text)                                                          \
	__asm__(".pushsection .rodata\n.code" #bits "\n" #name ":\n.intel_syntax noprefix\n" text \
	        "\n.att_syntax prefix\n" #name "_end:\n"                                          \
	        ".code64\n.popsection");                                                          \
	extern const uint8_t name[], name##_end[]
#define GUEST(name, text) GUEST_BITS(64, name, text)

enum {
	CODE = WORLD_CODE,
	CODE2 = CODE + 0x1000,
	DATA = WORLD_DATA,
	STACK = WORLD_DATA + 0x80000,
	ABSENT = 0x40000000, /* linear 2 MiB that tests unmap */
};

static struct world *w;
static struct emu_vcpu *c;

static inline void setup(void)
{
	w = world_new();
	c = w->c;
	world_long64(w);
	c->s.gpr[VC_RSP] = STACK;
}
static inline void teardown(void)
{
	world_free(w);
}

static inline uint8_t *bytes(uint64_t at)
{
	return (uint8_t *)at;
}
static inline uint64_t *gpr(enum vc_gpr r)
{
	return &c->s.gpr[r];
}
static inline void put(const uint8_t *code, const uint8_t *end, uint64_t at)
{
	world_write(w, at, code, (size_t)(end - code));
	c->s.rip = at;
}
#define PUT(name, at) put(name, name##_end, at)

/* 4 KiB pages for [at, at + 2 MiB), one to one, so that single ones can be changed. */
static inline uint64_t *small_pages(uint64_t at)
{
	uint64_t *pd = (uint64_t *)WORLD_TABLES + 1024, *pt = (uint64_t *)(WORLD_TABLES + 0x8000);
	for (uint64_t i = 0; i < 512; i++)
		pt[i] = ((at & ~0x1fffffull) + i * 4096) | 0x67;
	pd[at >> 21] = (uintptr_t)pt | 0x67;
	emu_tlb_flush_all(c);
	return &pt[at >> 12 & 511];
}
static inline void unmap(uint64_t at)
{
	*small_pages(at) = 0;
	emu_tlb_flush_all(c);
}

static inline void expect_fault(enum emu_stop stop, unsigned vector, uint64_t rip)
{
	ck_assert_int_eq(stop, EMU_STOP_EXCEPTION);
	ck_assert_uint_eq(c->exc.vector, vector);
	ck_assert_uint_eq(c->s.rip, rip);
	ck_assert(!c->in_block && !c->once);
}
/* Run to a UD2 at rip. */
static inline void run_to(uint64_t rip)
{
	expect_fault(world_run(w), VC_UD, rip);
}

/* A thread that asks the vcpu to stop, in a while. */
static inline void *kick_later(void *arg)
{
	struct timespec t = {0, 20000000};
	nanosleep(&t, NULL);
	atomic_fetch_or(&w->vcpu.requests, VC_REQ_KICK);
	return arg;
}

/* ... once the guest has counted at this place, so that it surely runs. */
static inline void *kick_once_counted(void *place)
{
	struct timespec t = {0, 1000000};

	while (!__atomic_load_n((uint64_t *)place, __ATOMIC_RELAXED))
		nanosleep(&t, NULL);
	atomic_fetch_or(&w->vcpu.requests, VC_REQ_KICK);
	return NULL;
}

/* The program: run these tests; its exit status. */
static inline int run_tests(const char *name, const TTest *const *tests, unsigned count)
{
	Suite *s = suite_create(name);
	TCase *t = tcase_create(name);
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	for (unsigned k = 0; k < count; k++)
		tcase_add_test(t, tests[k]);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}

#endif
