/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For the tests of the vector part: a vcpu without mmu or event delivery, whose linear addresses are host addresses,
 * and a way to execute the same bytes natively with the same registers.
 */
#ifndef VC_TEST_VEC_HARNESS_H
#define VC_TEST_VEC_HARNESS_H

#include <check.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include "backend/emu/decode/tables.h"
#include "backend/emu/interp/vec.h"

#define MEMORY_SIZE 8192u

/* ---- a reproducible source of random numbers ---- */
static uint64_t seed = 0x243f6a8885a308d3ull;
static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1dull;
}
static unsigned below(unsigned n)
{
	return (unsigned)(rnd() >> 33) % n;
}

/* ---- the vcpu ---- */
static struct emu_vcpu *cpu;
static struct vc_bvcpu bvcpu;
static uint8_t *memory;                /* what instructions access */
static uint8_t *fault_from, *fault_to; /* accesses here raise #PF */
static int raised;                     /* vector, or -1 */
static uint32_t raised_error;
static jmp_buf raise_to;
static enum vc_sreg used_segment;

void emu_raise(struct emu_vcpu *c, enum vc_vector vector)
{
	raised = vector;
	longjmp(raise_to, 1);
}
void emu_raise_error(struct emu_vcpu *c, enum vc_vector vector, uint32_t error)
{
	raised_error = error;
	emu_raise(c, vector);
}
void emu_raise_pf(struct emu_vcpu *c, uint64_t cr2, uint32_t error)
{
	emu_raise_error(c, VC_PF, error);
}

static void access_check(struct emu_vcpu *c, uint64_t linear, unsigned size, bool write)
{
	if (linear < (uintptr_t)fault_to && linear + size > (uintptr_t)fault_from)
		emu_raise_pf(c, linear, write ? 2 : 0);
	if (linear < (uintptr_t)memory || linear + size > (uintptr_t)memory + MEMORY_SIZE)
		ck_abort_msg("access to %#llx outside the test's memory", (unsigned long long)linear);
}
uint64_t emu_load_slow(struct emu_vcpu *c, uint64_t linear, unsigned size)
{
	uint64_t v = 0;
	access_check(c, linear, size, false);
	memcpy(&v, (void *)linear, size);
	return v;
}
void emu_store_slow(struct emu_vcpu *c, uint64_t linear, unsigned size, uint64_t value)
{
	access_check(c, linear, size, true);
	memcpy((void *)linear, &value, size);
}
void emu_ld_bytes(struct emu_vcpu *c, uint64_t linear, void *buffer, unsigned size)
{
	access_check(c, linear, size, false);
	memcpy(buffer, (void *)linear, size);
}
void emu_st_bytes(struct emu_vcpu *c, uint64_t linear, const void *buffer, unsigned size)
{
	access_check(c, linear, size, true);
	memcpy((void *)linear, buffer, size);
}
void emu_check_alignment(struct emu_vcpu *c, uint64_t linear, unsigned alignment) {}
void emu_probe(struct emu_vcpu *c, uint64_t linear, unsigned size, bool write)
{
	access_check(c, linear, size, write);
}
uint64_t emu_seg_linear(struct emu_vcpu *c, enum vc_sreg seg, uint64_t offset, unsigned size, enum vcore_access access)
{
	used_segment = seg;
	return c->s.seg[seg].base + offset;
}
uint64_t emu_effective_address(const struct emu_vcpu *c, const struct emu_insn *i)
{
	uint64_t a = (uint64_t)(int64_t)i->disp;
	if (i->base != EMU_REG_NONE)
		a += i->base == EMU_REG_RIP ? c->s.rip + i->len : c->s.gpr[i->base];
	if (i->index != EMU_REG_NONE)
		a += c->s.gpr[i->index] << i->scale;
	return i->addrsize == 8 ? a : i->addrsize == 4 ? (uint32_t)a : (uint16_t)a;
}

static void harness_setup(void)
{
	cpu = aligned_alloc(64, VC_ALIGN_UP(sizeof *cpu, 64));
	memset(cpu, 0, sizeof *cpu);
	cpu->bvcpu = &bvcpu;
	memset(&bvcpu.cpuid.features, 0xff, sizeof bvcpu.cpuid.features);
	cpu->mode = EMU_MODE_64;
	cpu->protected_mode = true;
	cpu->flat = 0x3f;
	cpu->s.cr0 = VC_CR0_PE | VC_CR0_NE | VC_CR0_MP;
	cpu->s.cr4 = VC_CR4_OSFXSR | VC_CR4_OSXMMEXCPT | VC_CR4_OSXSAVE;
	cpu->s.xcr0 = 7;
	cpu->ctx = 1;
	memset(cpu->tlb, 0xff, sizeof cpu->tlb);
	memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fault_from = fault_to = NULL;
	ck_assert_int_eq(emu_vec_new(cpu), 0);
}

static void harness_teardown(void)
{
	emu_vec_free(cpu);
	free(cpu);
	munmap(memory, MEMORY_SIZE);
}

/* Accesses hit the TLB, or all take the slow path. */
static void set_tlb(bool hit)
{
	for (unsigned page = 0; page < MEMORY_SIZE; page += 4096) {
		uint64_t linear = (uintptr_t)memory + page;
		struct emu_tlb_entry *e = emu_tlb_at(cpu, linear);
		e->read = e->write = hit ? emu_tag(cpu, linear) : ~0ull;
		e->addend = 0;
	}
}

/* Decode and execute one instruction on the vcpu. Returns the vector raised, -1 for none, -2 when the decoder refuses
 * the bytes. */
static int emulate(const uint8_t *bytes, unsigned length)
{
	struct emu_decode_mode mode = {.mode = cpu->mode, .protected_mode = cpu->protected_mode};
	struct emu_insn insn;

	if (emu_decode(bytes, length, &mode, &insn) != EMU_DECODE_OK)
		return -2;
	ck_assert_uint_eq(insn.len, length);
	emu_system_fn fn = emu_vec_handler(cpu, &insn);
	ck_assert_ptr_nonnull(fn);
	raised = -1;
	if (setjmp(raise_to) == 0)
		ck_assert_int_eq(fn(cpu, &insn), EMU_NEXT);
	return raised;
}

/* ---- native execution ---- */

struct native {
	uint8_t code[4096];
	uint8_t in[1024] __attribute__((aligned(64)));
	uint8_t out[1024] __attribute__((aligned(64)));
	uint64_t gpr_in[16], gpr_out[16], flags_in, flags_out;
	uint32_t mxcsr;
};
static struct native *native;
static sigjmp_buf native_jmp;
static volatile int native_signal;
static uint8_t signal_fx[512];

static void on_signal(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	native_signal = sig;
	memcpy(signal_fx, uc->uc_mcontext.fpregs, sizeof signal_fx);
	siglongjmp(native_jmp, 1);
}

static uint8_t *emit_rip(uint8_t *p, const uint8_t *op, unsigned count, unsigned reg, const void *target)
{
	memcpy(p, op, count);
	p += count;
	*p++ = (uint8_t)((reg & 7) << 3 | 5);
	vc_st32(p, (uint32_t)((const uint8_t *)target - (p + 4)));
	return p + 4;
}

static void native_build(const uint8_t *bytes, unsigned length)
{
	static const uint8_t begin[] = {0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41,
	                                0x57, 0xb8, 7,    0,    0,    0,    0x31, 0xd2};
	static const uint8_t after[] = {0xb8, 7, 0, 0, 0, 0x31, 0xd2};
	static const uint8_t end[] = {0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3};
	uint8_t *p = native->code;

	memcpy(p, begin, sizeof begin);
	p += sizeof begin;
	p = emit_rip(p, (const uint8_t[]){0x48, 0x0f, 0xae}, 3, 5, native->in); /* XRSTOR64 */
	p = emit_rip(p, (const uint8_t[]){0xff}, 1, 6, &native->flags_in);      /* PUSH; POPFQ */
	*p++ = 0x9d;
	for (unsigned n = 0; n < 16; n++)
		if (n != VC_RSP)
			p = emit_rip(p, (const uint8_t[]){n < 8 ? 0x48 : 0x4c, 0x8b}, 2, n, &native->gpr_in[n]);
	memcpy(p, bytes, length);
	p += length;
	for (unsigned n = 0; n < 16; n++)
		if (n != VC_RSP)
			p = emit_rip(p, (const uint8_t[]){n < 8 ? 0x48 : 0x4c, 0x89}, 2, n, &native->gpr_out[n]);
	*p++ = 0x9c; /* PUSHFQ; POP */
	p = emit_rip(p, (const uint8_t[]){0x8f}, 1, 0, &native->flags_out);
	memcpy(p, after, sizeof after);
	p += sizeof after;
	p = emit_rip(p, (const uint8_t[]){0x48, 0x0f, 0xae}, 3, 4, native->out); /* XSAVE64 */
	*p++ = 0xdb;                                                             /* FNINIT */
	*p++ = 0xe3;
	p = emit_rip(p, (const uint8_t[]){0x0f, 0xae}, 2, 2, &native->mxcsr);
	memcpy(p, (const uint8_t[]){0xc5, 0xf8, 0x77, 0xfc}, 4); /* VZEROUPPER; CLD */
	memcpy(p + 4, end, sizeof end);
}

static void native_setup(void)
{
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};

	native = mmap(NULL, sizeof *native, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(native, MAP_FAILED);
	sigaction(SIGILL, &action, NULL);
	sigaction(SIGFPE, &action, NULL);
}

/* Execute the bytes with the vcpu's registers; the results are in native->out, gpr_out, flags_out. Returns 0, or the
 * signal it raised. */
static int run_native(const uint8_t *bytes, unsigned length)
{
	native_build(bytes, length);
	memcpy(native->in, &cpu->s.xsave, 832);
	vc_st64(native->in + 512, emu_vec_xinuse(cpu)); /* XSTATE_BV */
	memset(native->in + 520, 0, 56);
	memset(native->out, 0, sizeof native->out);
	memcpy(native->gpr_in, cpu->s.gpr, sizeof native->gpr_in);
	memcpy(native->gpr_out, cpu->s.gpr, sizeof native->gpr_out);
	native->flags_in = cpu->aflags | 2;
	native->mxcsr = MXCSR_DEFAULT;
	native_signal = 0;
	if (sigsetjmp(native_jmp, 1) == 0)
		((void (*)(void))native->code)();
	if (native_signal)
		__asm__ volatile("fninit; ldmxcsr %0" : : "m"(native->mxcsr));
	/* components in their initial configuration were not written */
	struct vc_xsave *out = (struct vc_xsave *)native->out;
	if (!(out->xstate_bv & VC_XSTATE_X87)) {
		memset(native->out, 0, 24);
		memset(out->st, 0, sizeof out->st);
		out->fcw = FCW_DEFAULT;
	}
	return native_signal;
}

/* ---- state ---- */

static uint64_t random_float(void)
{
	static const uint64_t doubles[] = {
	    0,
	    0x8000000000000000ull,
	    0x3ff0000000000000ull,
	    0xbff0000000000000ull,
	    0x7ff0000000000000ull,
	    0xfff0000000000000ull,
	    0x7ff8000000000000ull,
	    0x7ff0000000000001ull,
	    0xfff4000000000000ull,
	    1,
	    0x8000000000000001ull,
	    0x000fffffffffffffull,
	    0x0010000000000000ull,
	    0x7fefffffffffffffull,
	    0x41dfffffffc00000ull,
	    0x43e0000000000000ull,
	    0xc3e0000000000000ull,
	    0x36a0000000000000ull,
	    0x47efffffe0000000ull,
	    0x3fe0000000000000ull,
	    0x4000000000000000ull,
	    0x0170000000000000ull,
	    0x7e70000000000000ull,
	};
	static const uint32_t floats[] = {
	    0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001,
	    0xffa00000, 1,          0x80000001, 0x007fffff, 0x00800000, 0x7f7fffff, 0x4effffff, 0x4f000000,
	    0xcf000000, 0x33000000, 0x477fe000, 0x38800000, 0x3f000000, 0x40400000, 0x20000000, 0x60000000,
	};
	switch (below(4)) {
	case 0:
		return doubles[below(VC_ARRAY_SIZE(doubles))];
	case 1:
		return (uint64_t)floats[below(VC_ARRAY_SIZE(floats))] << 32 | floats[below(VC_ARRAY_SIZE(floats))];
	case 2: /* ordinary sizes */
		return (rnd() & 0x800fffffffffffffull) | (uint64_t)(1023 - 40 + below(80)) << 52;
	default:
		return rnd();
	}
}

static void random_bytes(void *p, unsigned size)
{
	for (unsigned n = 0; n < size; n += 8) {
		uint64_t v = random_float();
		memcpy((uint8_t *)p + n, &v, size - n < 8 ? size - n : 8);
	}
}

static void random_st(uint8_t st[16])
{
	static const uint16_t exponents[] = {0,      0x7fff, 0x3fff, 0x4000, 1,      0x7ffe, 0x3ffe,
	                                     0x401e, 0x403e, 0x3c01, 0x43fe, 0x3f81, 0x407e};
	uint64_t mantissa = below(3) ? rnd() | 1ull << 63 : below(2) ? 1ull << 63 : below(2) ? 0 : rnd();
	uint16_t exponent = below(3) ? (uint16_t)(0x3fff - 30 + below(60)) : exponents[below(VC_ARRAY_SIZE(exponents))];

	memset(st, 0, 16);
	vc_st64(st, mantissa);
	vc_st16(st + 8, exponent | (below(2) ? 0x8000 : 0));
}

/* Every register random; all exceptions masked; no pending one. */
static void random_state(void)
{
	struct vc_xsave *x = &cpu->s.xsave;

	random_bytes(x->xmm, sizeof x->xmm);
	random_bytes(x->ymm_hi, sizeof x->ymm_hi);
	for (unsigned n = 0; n < 8; n++)
		random_st(x->st[n]);
	for (unsigned n = 0; n < 16; n++)
		cpu->s.gpr[n] = below(2) ? rnd() : (uint64_t)(int64_t)(int8_t)rnd();
	x->fcw = (uint16_t)(0x7f | below(16) << 8);
	if ((x->fcw & 0x300) == 0x100)
		x->fcw |= 0x200; /* precision 01 is reserved */
	x->fsw = (uint16_t)(rnd() & (FSW_CC | FSW_TOP | FSW_FLAGS));
	x->ftw = below(3) ? 0xff : (uint8_t)rnd();
	x->fop = 0;
	x->fip = x->fdp = 0;
	x->mxcsr = MXCSR_MASKS | (uint32_t)(rnd() & (MXCSR_VALID & ~MXCSR_MASKS));
	if (below(2))
		x->mxcsr = MXCSR_DEFAULT | below(64);
	x->mxcsr_mask = MXCSR_VALID;
	cpu->aflags = (uint32_t)rnd() & VC_FLAGS_ARITH;
}

/* The first difference between the vcpu and what native execution left, as a sentence; NULL when there is none. */
static const char *difference(uint16_t fsw_mask)
{
	static char text[200];
	const struct vc_xsave *x = &cpu->s.xsave, *n = (const struct vc_xsave *)native->out;

#define DIFFERS(what, a, b)                                                                         \
	do {                                                                                            \
		if ((a) != (b)) {                                                                           \
			snprintf(text, sizeof text, "%s: %#llx, natively %#llx", what, (unsigned long long)(a), \
			         (unsigned long long)(b));                                                      \
			return text;                                                                            \
		}                                                                                           \
	} while (0)
	for (unsigned i = 0; i < 32; i++) {
		DIFFERS("xmm", vc_ld64(x->xmm[i / 2] + i % 2 * 8), vc_ld64(n->xmm[i / 2] + i % 2 * 8));
		DIFFERS("ymm_hi", vc_ld64(x->ymm_hi[i / 2] + i % 2 * 8), vc_ld64(n->ymm_hi[i / 2] + i % 2 * 8));
	}
	DIFFERS("fcw", x->fcw, n->fcw);
	DIFFERS("fsw", x->fsw & fsw_mask, n->fsw & fsw_mask);
	DIFFERS("ftw", x->ftw, n->ftw);
	DIFFERS("mxcsr", x->mxcsr, n->mxcsr);
	for (unsigned i = 0; i < 8; i++) {
		DIFFERS("st mantissa", vc_ld64(x->st[i]), vc_ld64(n->st[i]));
		DIFFERS("st exponent", vc_ld16(x->st[i] + 8), vc_ld16(n->st[i] + 8));
	}
	for (unsigned i = 0; i < 16; i++)
		if (i != VC_RSP)
			DIFFERS("gpr", cpu->s.gpr[i], native->gpr_out[i]);
	DIFFERS("flags", cpu->aflags, native->flags_out & VC_FLAGS_ARITH);
#undef DIFFERS
	return NULL;
}

static inline const char *hex(const uint8_t *bytes, unsigned length)
{
	static char text[64];
	for (unsigned n = 0; n < length; n++)
		sprintf(text + 3 * n, "%02x ", bytes[n]);
	return text;
}

static inline double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

#endif
