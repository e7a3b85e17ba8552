/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Engine lockstep with a translator that is none: it interprets as well, with errors at will. Each error must be found
 * and named; without one, nothing may be.
 */
#include "backend/emu/lockstep.h"

#include "interp_guest.h"

enum { DEVICE = 0xd0000000, NATIVE_MAX = 32 };

/* ---- the translator ---- */

static struct fake {
	void (*spoil)(void);  /* behind the block: the error */
	unsigned spoil_block; /* of which block, counted from 0 */
	unsigned bail_at;     /* stop before that instruction of each block; 0: never */
	bool overshoots;      /* what has happened is one instruction more than it says */
	bool blind;           /* takes no notice of exceptions: goes on behind the instruction */
	bool sees_devices;    /* stops before accesses to devices */
	uint32_t dead;
	unsigned blocks, native; /* blocks begun; instructions of the last one */
	uint8_t length[NATIVE_MAX];
} fake;

static bool fake_can(const struct emu_insn *n)
{
	return !emu_system_handler(n->op) && !(n->op >= EMU_MOVS && n->op <= EMU_SCAS) && n->op != EMU_X87 &&
	       n->op != EMU_UD;
}

static unsigned fake_native(struct emu_vcpu *v)
{
	const struct emu_decode_mode mode = {v->mode, v->protected_mode, NULL};
	uint64_t at = v->s.rip;
	struct emu_insn n;
	unsigned k = 0;

	if (v->mode != EMU_MODE_64)
		return 0;
	while (k < NATIVE_MAX && (!k || (at & 0xfff) < 0xff0)) {
		if (emu_decode((const uint8_t *)at, 15, &mode, &n) != EMU_DECODE_OK || !fake_can(&n))
			break;
		fake.length[k++] = n.len;
		at += n.len;
		if (n.desc->attr & EMU_A_END)
			break;
	}
	return fake.native = k;
}

static enum emu_stop fake_one(struct emu_vcpu *v)
{
	static struct emu_shadow shadow;
	enum emu_stop stop;

	shadow.c = v;
	shadow.count = 0;
	v->shadow = fake.sees_devices ? &shadow : NULL;
	stop = interp_run_one(v);
	v->shadow = NULL;
	v->attention = false;
	return stop;
}

static bool fake_run(struct emu_vcpu *v)
{
	unsigned block = fake.blocks++;
	bool left = true;

	for (unsigned k = 0; left && k < fake.native; k++) {
		uint64_t rip = v->s.rip;

		left = !fake.bail_at || k != fake.bail_at;
		if (!left && fake.overshoots) {
			fake_one(v);
			v->s.rip = rip;
		} else if (left && fake_one(v) != EMU_STOP_EVENTS) {
			left = fake.blind;
			v->s.rip += fake.blind ? fake.length[k] : 0;
		} else if (left && v->s.rip != rip + fake.length[k]) {
			break;
		}
	}
	if (fake.spoil && block == fake.spoil_block)
		fake.spoil();
	return left;
}

static uint32_t fake_dead(struct emu_vcpu *v)
{
	return fake.dead;
}

static const struct emu_translator translator = {fake_native, fake_run, fake_dead};

/* ---- running ---- */

static char logged[16384];

static void take_line(void *ctx, enum vcore_log_level level, const char *line)
{
	size_t used = strlen(logged);

	snprintf(logged + used, sizeof logged - used, "%s\n", line);
}

static struct vc_log log_here = {.fn = take_line, .level = VCORE_LOG_ERROR};

static void lockstep_setup(void)
{
	setup();
	w->vm.env.log = &log_here;
	logged[0] = '\0';
	fake = (struct fake){0};
	ck_assert_int_eq(emu_lockstep_new(c, &translator), 0);
}

static enum emu_stop run(void)
{
	enum emu_stop stop;

	vc_gate_enter(&w->vcpu.pass);
	atomic_store(&w->vcpu.requests, 0);
	c->attention = false;
	emu_vec_enter(c);
	stop = emu_lockstep_run(c);
	vc_gate_leave(&w->vcpu.pass);
	return stop;
}

/* To a UD2, without a difference. */
static void run_equal(uint64_t to)
{
	enum emu_stop stop = run();

	ck_assert_msg(stop == EMU_STOP_EXCEPTION, "%s", logged);
	expect_fault(stop, VC_UD, to);
	ck_assert_str_eq(logged, "");
}

/* The difference is found, and both texts say so. */
static void run_different(const char *text)
{
	ck_assert_int_eq(run(), EMU_STOP_EXIT);
	ck_assert_uint_eq(c->exit->reason, VCORE_EXIT_CRASH);
	ck_assert_uint_eq(c->exit->crash, VCORE_CRASH_INTERNAL);
	ck_assert_msg(strstr(c->exit->message, text) != NULL, "\"%s\" is not in \"%s\"", text, c->exit->message);
	ck_assert_msg(strstr(logged, text) != NULL, "\"%s\" is not in:\n%s", text, logged);
}

/* ---- equal runs ---- */

GUEST(work, "mov rcx, 100; xor eax, eax; 1: add rax, rcx; mov [rdi + rcx * 8], rax; adc dword ptr [rdi], 3;"
            "push rax; lock xadd [rdi + 8], rbx; pop rdx; imul rbx, rdx; dec rcx; jnz 1b; call 2f; ud2; 2: ret");
static void put_work(void)
{
	PUT(work, CODE);
	*gpr(VC_RDI) = DATA;
	*gpr(VC_RBX) = 7;
	memset(bytes(DATA), 0, 0x1000);
}

START_TEST(test_equal)
{
	static uint8_t memory[0x1000];
	const uint64_t end = CODE + (uint64_t)(work_end - work) - 3;
	const unsigned instructions = 2 + 100 * 9 + 2;
	struct vc_cpu_state *state = malloc(sizeof *state);
	uint64_t icount = c->icount;
	uint32_t aflags;

	ck_assert_ptr_nonnull(state);
	put_work();
	run_to(end);
	ck_assert_uint_eq(c->icount - icount, instructions);
	memcpy(memory, bytes(DATA), sizeof memory);
	*state = c->s;
	aflags = c->aflags;

	world_long64(w);
	*gpr(VC_RSP) = STACK;
	put_work();
	icount = c->icount;
	run_equal(end);
	ck_assert_uint_eq(c->icount - icount, instructions);
	ck_assert_uint_eq(atomic_load(&w->vcpu.compared), instructions);
	ck_assert_mem_eq(memory, bytes(DATA), sizeof memory);
	ck_assert_mem_eq(state->gpr, c->s.gpr, sizeof c->s.gpr);
	ck_assert_uint_eq(aflags, c->aflags);
	free(state);
}
END_TEST

GUEST(vectors, "movdqu xmm3, [rdi]; paddd xmm3, xmm3; movdqu [rdi + 16], xmm3; sqrtpd xmm4, xmm3; ptest xmm3, xmm4;"
               "movd mm1, eax; paddw mm1, mm1; emms; ud2");
static void put_vectors(void)
{
	PUT(vectors, CODE);
	c->s.cr4 |= VC_CR4_OSFXSR | VC_CR4_OSXMMEXCPT;
	*gpr(VC_RDI) = DATA;
	for (unsigned k = 0; k < 16; k++)
		bytes(DATA)[k] = (uint8_t)(3 * k);
}

START_TEST(test_equal_vectors)
{
	put_vectors();
	run_equal(CODE + (uint64_t)(vectors_end - vectors) - 2);
	ck_assert_uint_eq(bytes(DATA)[16 + 5], 30);
	ck_assert_uint_eq(atomic_load(&w->vcpu.compared), 8);
}
END_TEST

/* It stops before a fault, and the fault is the first vcpu's. */
GUEST(faults, "mov rax, 1; mov [rdi], rax; mov rbx, 2; mov [rsi], rbx; mov rcx, 3; ud2");
START_TEST(test_fault)
{
	unmap(ABSENT);
	PUT(faults, CODE);
	*gpr(VC_RDI) = DATA;
	*gpr(VC_RSI) = ABSENT + 8;
	expect_fault(run(), VC_PF, CODE + 17);
	ck_assert_str_eq(logged, "");
	ck_assert_uint_eq(c->exc.cr2, ABSENT + 8);
	ck_assert_uint_eq(*gpr(VC_RBX), 2);
	ck_assert_uint_eq(*gpr(VC_RCX), 0);
	ck_assert_uint_eq(*bytes(DATA), 1);
	ck_assert_uint_eq(atomic_load(&w->vcpu.compared), 3);
}
END_TEST

/* Stops of the translator that are its right. */
START_TEST(test_stops_early)
{
	put_work();
	fake.bail_at = 2;
	run_equal(CODE + (uint64_t)(work_end - work) - 3);
}
END_TEST

static unsigned accesses;
static void device_access(void *ctx, struct vcore_io *io)
{
	accesses++;
	if (!io->is_write)
		io->data = 0x100 + accesses;
}

/* A device sees each access once. */
GUEST(device,
      "mov [rdi], rax; mov rax, [rsi]; mov rbx, rax; mov [rsi], rbx; mov [rdi], rax; add dword ptr [rsi], 1; ud2");
START_TEST(test_device)
{
	const struct vcore_device_ops ops = {.size = sizeof ops, .read = device_access, .write = device_access};
	struct vc_dev *dev;

	ck_assert_int_eq(vc_dev_add(&w->buses, "device", &ops, NULL, &dev), 0);
	ck_assert_int_eq(vc_dev_add_region(&w->buses, NULL, dev, VCORE_BUS_MMIO, DEVICE, 0x1000), 0);
	PUT(device, CODE);
	*gpr(VC_RDI) = DATA;
	*gpr(VC_RSI) = DEVICE;
	fake.sees_devices = true;
	accesses = 0;
	run_equal(CODE + (uint64_t)(device_end - device) - 2);
	ck_assert_uint_eq(accesses, 4);
	ck_assert_uint_eq(*gpr(VC_RBX), 0x101);
	ck_assert_uint_eq(*bytes(DATA), 1);
	ck_assert_uint_eq(atomic_load(&w->vcpu.compared), 3);
}
END_TEST

GUEST(forever, "1: inc rax; mov [rdi], rax; jmp 1b");
START_TEST(test_request)
{
	pthread_t thread;

	PUT(forever, CODE);
	*gpr(VC_RDI) = DATA;
	ck_assert_int_eq(pthread_create(&thread, NULL, kick_once_counted, bytes(DATA)), 0);
	ck_assert_int_eq(run(), EMU_STOP_EVENTS);
	pthread_join(thread, NULL);
	ck_assert_str_eq(logged, "");
	ck_assert_uint_gt(*gpr(VC_RAX), 0);
	ck_assert_uint_eq(atomic_load(&w->vcpu.compared), 3 * *gpr(VC_RAX));
}
END_TEST

/* Bits that walks set in page tables are no stores, and a block may look at them at any place. */
GUEST(marks,
      "mov rax, [rdi]; mov [rsi], rax; mov rbx, [rdi]; and qword ptr [rdi], 0xffffffffffffff9f; mov rcx, [rdi]; ud2");
START_TEST(test_accessed_and_dirty)
{
	uint64_t *pte = small_pages(ABSENT);

	*pte = DATA | 7;
	emu_tlb_flush_all(c);
	PUT(marks, CODE);
	*gpr(VC_RDI) = (uintptr_t)pte;
	*gpr(VC_RSI) = ABSENT;
	run_equal(CODE + (uint64_t)(marks_end - marks) - 2);
	ck_assert_uint_eq(*gpr(VC_RAX), DATA | 7);
	ck_assert_uint_eq(*gpr(VC_RBX), DATA | 0x67);
	ck_assert_uint_eq(*gpr(VC_RCX), DATA | 7);
	ck_assert_uint_eq(*(uint64_t *)bytes(DATA), DATA | 7);
}
END_TEST

/* Page tables change in the block that uses them, and behind INVLPG. */
GUEST(remaps, "mov [rdi], rax; mov rbx, [rsi]; mov [rdi], rcx; invlpg [rsi]; mov rdx, [rsi]; mov [rsi], rbx; ud2");
START_TEST(test_remapping)
{
	uint64_t *pte = small_pages(ABSENT);

	*pte = 0;
	emu_tlb_flush_all(c);
	PUT(remaps, CODE);
	*gpr(VC_RDI) = (uintptr_t)pte;
	*gpr(VC_RSI) = ABSENT;
	*gpr(VC_RAX) = DATA | 7;
	*gpr(VC_RCX) = (DATA + 0x1000) | 7;
	*(uint64_t *)bytes(DATA) = 11;
	*(uint64_t *)bytes(DATA + 0x1000) = 22;
	run_equal(CODE + (uint64_t)(remaps_end - remaps) - 2);
	ck_assert_uint_eq(*gpr(VC_RBX), 11);
	ck_assert_uint_eq(*gpr(VC_RDX), 22);
	ck_assert_uint_eq(*(uint64_t *)bytes(DATA), 11);
	ck_assert_uint_eq(*(uint64_t *)bytes(DATA + 0x1000), 11);
}
END_TEST

/* Code that changes itself: the next instruction, in the block that is running. */
GUEST(changes, "mov byte ptr [rip + 1f + 1], 5; 1: mov al, 1; mov bl, al; ud2");
START_TEST(test_changing_code)
{
	PUT(changes, CODE);
	fake.bail_at = 1;
	run_equal(CODE + (uint64_t)(changes_end - changes) - 2);
	ck_assert_uint_eq(*gpr(VC_RBX) & 0xff, 5);
}
END_TEST

GUEST_BITS(16, real_code, "mov ax, 0xffff; mov ds, ax; inc word ptr [bx]; push ax; pop cx; .byte 0x0f, 0x0b");
START_TEST(test_not_native)
{
	world_real(w);
	PUT(real_code, 0x1000);
	*gpr(VC_RSP) = 0x2000;
	*gpr(VC_RBX) = 0x2010; /* linear 0x102000, where nothing is */
	run_equal(0x1000 + (uint64_t)(real_code_end - real_code) - 2);
	ck_assert_uint_eq(*gpr(VC_RCX) & 0xffff, 0xffff);
	ck_assert_uint_eq(atomic_load(&w->vcpu.compared), 0);
}
END_TEST

/* ---- errors ---- */

static void wrong_register(void)
{
	*gpr(VC_R9) ^= 0x10;
}
static void wrong_flag(void)
{
	c->aflags ^= VC_FLAG_CF;
}
static void wrong_direction(void)
{
	c->s.rflags ^= VC_FLAG_DF;
}
static void wrong_rip(void)
{
	c->s.rip++;
}
static void wrong_segment(void)
{
	c->s.seg[VC_FS].base = 1;
}
static void missing_store(void)
{
	memset(bytes(DATA + 8), 0, 8);
}
static void wrong_byte(void)
{
	bytes(STACK - 8)[7] ^= 0x80;
}
static void wrong_lane(void)
{
	c->s.xsave.xmm[3][13] ^= 1;
}
static void wrong_high_lane(void)
{
	c->s.xsave.ymm_hi[15][0] ^= 1;
}
static void wrong_mmx(void)
{
	c->s.xsave.st[1][1] ^= 1;
}
static void wrong_mxcsr(void)
{
	c->s.xsave.mxcsr ^= 0x20;
}

static const struct {
	void (*spoil)(void);
	const char *text;
} errors[] = {
    {wrong_register, "R9 is 0x10, not 0"},
    {wrong_flag, "flags are 0x"},
    {wrong_direction, "RFLAGS without arithmetic flags is 0x402, not 0x2"},
    {wrong_rip, "RIP is 0x"},
    {wrong_segment, "struct vc_cpu_state"},
    {missing_store, "memory at GPA 0x10100008 is 0, not "},
    {wrong_byte, "memory at GPA 0x1017fff8 is 0x800000000000"},
};

START_TEST(test_error)
{
	put_work();
	fake.spoil = errors[_i].spoil;
	fake.spoil_block = 2;
	run_different(errors[_i].text);
	ck_assert_msg(strstr(logged, "lock xadd") && strstr(logged, "<- the translator is here"), "%s", logged);
	ck_assert_msg(strstr(logged, "vcpu 0, after "), "%s", logged);
}
END_TEST

static const struct {
	void (*spoil)(void);
	const char *text;
} vector_errors[] = {{wrong_lane, "XMM3 from byte 8 on is 0x"},
                     {wrong_high_lane, "YMM_HI15 from byte 0 on is 0x1, not 0"},
                     {wrong_mmx, "ST1 from byte 0 on is 0x100, not 0"},
                     {wrong_mxcsr, "MXCSR is 0x"}};

START_TEST(test_vector_error)
{
	put_vectors();
	fake.spoil = vector_errors[_i].spoil;
	run_different(vector_errors[_i].text);
	ck_assert_msg(strstr(logged, "paddd xmm3,xmm3"), "%s", logged);
}
END_TEST

/* A vector register is wrong after a block without vector instructions, too. */
START_TEST(test_lost_vector)
{
	put_work();
	fake.spoil = wrong_lane;
	run_different("XMM3 from byte 8 on is 0x");
}
END_TEST

/* It says that it stopped before an instruction that it has executed. */
START_TEST(test_stops_too_late)
{
	put_work();
	fake.bail_at = 1;
	fake.overshoots = true;
	run_different("flags are 0x44, not 0");
}
END_TEST

START_TEST(test_stops_elsewhere)
{
	put_work();
	fake.bail_at = 1;
	fake.spoil = wrong_rip;
	run_different("where the interpreter has not been");
}
END_TEST

/* A store of an instruction before which it says it stopped. */
GUEST(stores, "inc rax; mov [rdi], rax; inc rax; ud2");
START_TEST(test_store_too_early)
{
	PUT(stores, CODE);
	*gpr(VC_RDI) = DATA;
	*bytes(DATA) = 0;
	fake.bail_at = 1;
	fake.overshoots = true;
	run_different("memory at GPA 0x10100000 is 0x1, not 0");
}
END_TEST

START_TEST(test_goes_over_fault)
{
	unmap(ABSENT);
	PUT(faults, CODE);
	*gpr(VC_RDI) = DATA;
	*gpr(VC_RSI) = ABSENT;
	fake.blind = true;
	run_different("over an instruction that raises exception 14");
	ck_assert_msg(strstr(logged, "(faults)"), "%s", logged);
}
END_TEST

START_TEST(test_goes_over_device)
{
	PUT(device, CODE);
	*gpr(VC_RDI) = DATA;
	*gpr(VC_RSI) = DEVICE;
	run_different("over an instruction that accesses a device");
}
END_TEST

/* ---- flags ---- */

static void change_auxiliary(void)
{
	c->aflags ^= VC_FLAG_AF;
}

/* AF is undefined behind AND, until the next instruction that sets it. */
GUEST(undefined, "and eax, ebx; inc rcx; ud2");
GUEST(undefined_last, "inc rcx; and eax, ebx; ud2");
START_TEST(test_undefined_flags)
{
	PUT(undefined_last, CODE);
	fake.spoil = change_auxiliary;
	run_equal(CODE + (uint64_t)(undefined_last_end - undefined_last) - 2);

	PUT(undefined, CODE2);
	fake.blocks = 0;
	run_different("flags are 0x");
}
END_TEST

/* Flags that the first block does not keep, as the second one sets them: not even with a wrong value does it show. */
static void invert_dead(void)
{
	c->aflags ^= fake.dead;
}
GUEST(dead, "add rax, rbx; jmp 1f; 1: test rcx, rcx; sets dl; ud2");
GUEST(dead_but_used, "add rax, rbx; jmp 1f; 1: setz dl; test rcx, rcx; ud2");
GUEST(dead_shift,
      "add rax, rbx; jmp 1f; 1: xor ecx, ecx; jmp 2f; 2: add rax, rbx; jmp 3f; 3: shl rax, cl; sets dl; ud2");
START_TEST(test_dead_flags)
{
	PUT(dead, CODE);
	fake.spoil = invert_dead;
	fake.dead = VC_FLAGS_ARITH;
	ck_assert_int_eq(run(), EMU_STOP_EXCEPTION);
	ck_assert_str_eq(logged, "");

	PUT(dead_but_used, CODE2);
	fake.spoil = NULL;
	fake.dead = VC_FLAG_ZF;
	run_different("RDX is 0x");
	ck_assert_msg(strstr(logged, "are undefined or dead (of these 0x40 since a block before"), "%s", logged);
}
END_TEST

START_TEST(test_dead_flag_behind_shift_by_zero)
{
	PUT(dead_shift, CODE);
	fake.dead = VC_FLAG_SF;
	run_different("RDX is 0x");
}
END_TEST

/* What is not native sees the right flags: PUSHF. */
GUEST(dead_pushed, "add rax, rbx; stc; jmp 1f; 1: pushf; pop rdx; ud2");
START_TEST(test_dead_flags_pushed)
{
	PUT(dead_pushed, CODE);
	fake.dead = VC_FLAGS_ARITH;
	run_equal(CODE + (uint64_t)(dead_pushed_end - dead_pushed) - 2);
	ck_assert_uint_eq(*gpr(VC_RDX) & VC_FLAGS_ARITH, VC_FLAG_CF | VC_FLAG_PF | VC_FLAG_ZF);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {test_equal,
	                              test_equal_vectors,
	                              test_fault,
	                              test_stops_early,
	                              test_device,
	                              test_request,
	                              test_accessed_and_dirty,
	                              test_remapping,
	                              test_changing_code,
	                              test_not_native,
	                              test_lost_vector,
	                              test_stops_too_late,
	                              test_stops_elsewhere,
	                              test_store_too_early,
	                              test_goes_over_fault,
	                              test_goes_over_device,
	                              test_undefined_flags,
	                              test_dead_flags,
	                              test_dead_flag_behind_shift_by_zero,
	                              test_dead_flags_pushed};
	Suite *suite = suite_create("lockstep");
	TCase *tcase = tcase_create("lockstep");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, lockstep_setup, teardown);
	for (unsigned n = 0; n < VC_ARRAY_SIZE(tests); n++)
		tcase_add_test(tcase, tests[n]);
	tcase_add_loop_test(tcase, test_error, 0, VC_ARRAY_SIZE(errors));
	tcase_add_loop_test(tcase, test_vector_error, 0, VC_ARRAY_SIZE(vector_errors));
	tcase_set_timeout(tcase, 60);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
