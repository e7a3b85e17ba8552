/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hooks from inside: looking up among many, and what decoded blocks look like with and without them. */
#include "backend/emu/hook.h"
#include "backend/emu/interp/interp.h"
#include "backend/emu/jit/jit.h"
#include "interp_guest.h"

static void hooks_setup(void)
{
	setup();
	ck_assert_int_eq(vc_hooks_init(&w->vm.hooks), 0);
}

static void hooks_teardown(void)
{
	vc_hooks_fini(&w->vm);
	teardown();
}

/* ---- looking up, against looking at each ---- */

enum { MANY = 60 };

static struct {
	struct vcore_hook *hook; /* NULL: removed */
	uint64_t start, length;
	uint32_t access;
} many[MANY];
static unsigned called[MANY], order[MANY], calls;

static void count(void *ctx, const struct vcore_hook_event *event)
{
	unsigned n = (unsigned)(uintptr_t)ctx;

	ck_assert(event->hook == many[n].hook);
	called[n]++;
	order[calls++] = n;
}

static struct vcore_hook *add(uint32_t kind, uint64_t start, uint64_t length, uint32_t access, uintptr_t ctx)
{
	struct vcore_hook_options o = {.size = sizeof o,
	                               .kind = kind,
	                               .start = start,
	                               .length = length,
	                               .access = access,
	                               .callback = count,
	                               .ctx = (void *)ctx};
	struct vcore_hook *hook = NULL;

	ck_assert_int_eq(vc_hook_add(&w->vm, &o, &hook), 0);
	return hook;
}

static unsigned below(unsigned n)
{
	static uint64_t state = 1;

	state = state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(state >> 33) % n;
}

static bool touches(unsigned n, uint64_t first, uint64_t last)
{
	return many[n].hook && many[n].start <= last && first < many[n].start + many[n].length;
}

static void compare(uint64_t first, unsigned length, bool write)
{
	struct vcore_hook_event e = {
	    .kind = VCORE_HOOK_MEMORY, .address = first, .length = length, .is_write = write, .data = &e};
	bool any = false;

	calls = 0;
	memset(called, 0, sizeof called);
	vc_gate_enter(&w->vcpu.pass);
	for (unsigned n = 0; n < MANY; n++)
		any |= touches(n, first, first + length - 1);
	ck_assert(vc_hooks_touch(w->vm.hooks.list[VCORE_HOOK_MEMORY], first, first + length - 1) == any);
	ck_assert(vc_hooks_call(&w->vcpu, &e, 0) == (calls != 0));
	vc_gate_leave(&w->vcpu.pass);
	for (unsigned n = 0; n < MANY; n++)
		ck_assert_uint_eq(called[n], touches(n, first, first + length - 1) && (many[n].access & (write ? 2 : 1)));
	for (unsigned k = 1; k < calls; k++)
		ck_assert(many[order[k - 1]].hook->number < many[order[k]].hook->number);
}

START_TEST(many_hooks)
{
	memset(many, 0, sizeof many);
	for (unsigned turn = 0; turn < 1000; turn++) {
		unsigned n = below(MANY);

		if (many[n].hook) {
			ck_assert_int_eq(vc_hook_remove(many[n].hook, true), 0);
			many[n].hook = NULL;
		} else {
			many[n].start = below(200);
			many[n].length = 1 + below(below(4) ? 20 : 150);
			many[n].access = 1 + below(3);
			many[n].hook = add(VCORE_HOOK_MEMORY, many[n].start, many[n].length, many[n].access, n);
		}
		compare(below(250), 1 + below(16), below(2));
	}
}
END_TEST

/* Offsets in the page at which code is instrumented. */
START_TEST(offsets_of_code)
{
	struct vcore_hook *hook = add(VCORE_HOOK_CODE, 0x7ffffffffff8, 16, 0, 0);

	ck_assert(emu_hooks_on(c));
	ck_assert(emu_hooks_code_wanted(c, 0xff8, 1) && emu_hooks_code_wanted(c, 0xfff, 1) &&
	          emu_hooks_code_wanted(c, 7, 1));
	ck_assert(!emu_hooks_code_wanted(c, 8, 1) && !emu_hooks_code_wanted(c, 0xff7, 1));
	ck_assert(emu_hooks_code_wanted(c, 0x800, 0x7f9) && !emu_hooks_code_wanted(c, 8, 0xff0));
	ck_assert(!emu_hooks_block_wanted(c, 0, 4096));
	vc_hook_remove(hook, true);
	ck_assert(!emu_hooks_on(c) && !emu_hooks_code_wanted(c, 0, 4096));
	hook = add(VCORE_HOOK_BLOCK, 3, 5000, 0, 0);
	for (unsigned offset = 0; offset < 4096; offset++)
		ck_assert(emu_hooks_block_wanted(c, offset, 1));
	vc_hook_remove(hook, true);
}
END_TEST

/* ---- decoded blocks ---- */

GUEST(code, "mov ecx, 3\n"
            "1: mov rax, [rip + 2f]\n"
            "add rbx, rax\n"
            "cpuid\n"
            "movups xmm1, [rip + 2f]\n"
            "xor ecx, ecx\n"
            "dec ecx\n"
            "jz 1b\n"
            "cmp ebx, 5\n"
            "jnz 3f\n"
            "ud2\n"
            "3: hlt\n"
            "2: .quad 1, 2");

struct shot {
	unsigned ops, insns, bytes;
	uint32_t key;
	struct interp_op op[16];
};

/* Run in the interpreter, and look at the first block, whose operations name what lies behind them by address. */
static void shoot(struct shot *shot)
{
	struct interp_block *block;

	PUT(code, CODE);
	c->jit = NULL;
	c->s.gpr[VC_RBX] = 0;
	w->exit.reason = 0;
	ck_assert_int_eq(vc_backend_emu.run(&w->vcpu, &w->exit), 0);
	ck_assert_int_eq(w->exit.reason, VCORE_EXIT_HALT);
	block = c->interp->hash[interp_hash(CODE, c->interp_key)];
	while (block && (block->gpa != CODE || block->key != c->interp_key))
		block = block->next;
	ck_assert_ptr_nonnull(block);
	*shot = (struct shot){.ops = block->ops, .insns = block->insns, .bytes = block->bytes, .key = block->key};
	ck_assert_uint_le(shot->ops, 16);
	for (unsigned k = 0; k < shot->ops; k++) {
		shot->op[k] = block->op[k];
		if (block->op[k].imm - (uintptr_t)block < 4096)
			shot->op[k].imm -= (uintptr_t)block;
	}
}

static bool same(const struct shot *x, const struct shot *y)
{
	return x->ops == y->ops && x->insns == y->insns && x->bytes == y->bytes && x->key == y->key &&
	       !memcmp(x->op, y->op, x->ops * sizeof x->op[0]);
}

static unsigned hook_ops(const struct shot *shot)
{
	unsigned n = 0;

	for (unsigned k = 0; k < shot->ops; k++)
		n += shot->op[k].fn == interp_hook;
	return n;
}

/* Without hooks on code a block is the same to the bit, whether there were some before, or are some of other kinds. */
START_TEST(blocks_without_hooks_are_the_same)
{
	static struct shot before, with, after;
	struct vcore_hook *hook, *second;

	shoot(&before);
	ck_assert_uint_eq(hook_ops(&before), 0);

	hook = add(VCORE_HOOK_CODE, 0, 0, 0, 0);
	second = add(VCORE_HOOK_BLOCK, 0, 0, 0, 0);
	calls = 0;
	many[0].hook = hook;
	vc_hook_remove(second, true);
	shoot(&with);
	ck_assert_uint_eq(hook_ops(&with), with.insns);
	ck_assert_uint_eq(with.insns, before.insns);
	vc_hook_remove(hook, true);
	shoot(&after);
	ck_assert(same(&before, &after));

	/* for addresses with other offsets in their pages, nothing is inserted either */
	hook = add(VCORE_HOOK_CODE, CODE + 0x800, 0x700, 0, 0);
	shoot(&with);
	ck_assert_uint_eq(hook_ops(&with), 0);
	ck_assert_uint_eq(with.ops, before.ops);
	ck_assert(!memcmp(with.op, before.op, 3 * sizeof with.op[0]));
	vc_hook_remove(hook, true);

	/* one for the block alone: one operation */
	hook = many[0].hook = add(VCORE_HOOK_BLOCK, CODE, 1, 0, 0);
	shoot(&with);
	ck_assert_uint_eq(hook_ops(&with), 1);
	vc_hook_remove(hook, true);

	hook = add(VCORE_HOOK_PORT, 0, 0, 0, 0);
	second = add(VCORE_HOOK_MEMORY, 0, 0x1000, 0, 0);
	shoot(&after);
	ck_assert(same(&before, &after));
	vc_hook_remove(hook, true);
	vc_hook_remove(second, true);
}
END_TEST

/* Code that hooks are on is translated like any other: it calls them. */
START_TEST(hooked_code_is_translated)
{
	struct vcore_hook *hook;

	PUT(code, CODE);
	vc_gate_enter(&w->vcpu.pass);
	ck_assert_uint_gt(jit_native_insns(c), 0);
	vc_gate_leave(&w->vcpu.pass);
	for (uint32_t kind = VCORE_HOOK_CODE; kind <= VCORE_HOOK_BLOCK; kind++) {
		hook = add(kind, CODE, 1, 0, 0);
		vc_gate_enter(&w->vcpu.pass);
		c->s.rip = CODE;
		ck_assert_uint_gt(jit_native_insns(c), 0);
		c->s.rip = CODE + 5;
		ck_assert_uint_gt(jit_native_insns(c), 0);
		vc_gate_leave(&w->vcpu.pass);
		vc_hook_remove(hook, true);
		vc_gate_enter(&w->vcpu.pass);
		c->s.rip = CODE;
		ck_assert_uint_gt(jit_native_insns(c), 0);
		vc_gate_leave(&w->vcpu.pass);
	}
}
END_TEST

/* A page that a hook watches has no tags; its neighbours have. */
START_TEST(tags_of_hooked_pages)
{
	struct vcore_hook *hook = add(VCORE_HOOK_MEMORY, DATA + 0x1800, 0x1000, 0, 0);

	many[0].hook = hook;
	calls = 0;
	vc_gate_enter(&w->vcpu.pass);
	for (unsigned page = 0; page < 4; page++) {
		emu_st64(c, DATA + page * 0x1000, page);
		ck_assert(emu_tlb_at(c, DATA + page * 0x1000)->write ==
		          (page == 1 || page == 2 ? 0 : emu_tag(c, DATA + page * 0x1000)));
	}
	vc_gate_leave(&w->vcpu.pass);
	ck_assert_uint_eq(calls, 1);
	vc_hook_remove(hook, true);
	vc_gate_enter(&w->vcpu.pass);
	emu_st64(c, DATA + 0x1000, 1);
	ck_assert(emu_tlb_at(c, DATA + 0x1000)->write == emu_tag(c, DATA + 0x1000));
	vc_gate_leave(&w->vcpu.pass);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {many_hooks, offsets_of_code, blocks_without_hooks_are_the_same,
	                              hooked_code_is_translated, tags_of_hooked_pages};
	Suite *s = suite_create("hook");
	TCase *t = tcase_create("hook");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, hooks_setup, hooks_teardown);
	for (size_t k = 0; k < VC_ARRAY_SIZE(tests); k++)
		tcase_add_test(t, tests[k]);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
