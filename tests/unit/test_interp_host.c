/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The interpreter against the host CPU: random integer instructions run in both, at the same address on the same
 * memory, and registers, flags, memory and the address they go on at are compared. Flags that the manuals leave
 * undefined (by the decoder's tables) are not.
 *
 * Arguments: [cases [seed]]. A failure names the seed of its case: run it alone with "1 SEED".
 */
#include <asm/prctl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "interp_world.h"

enum {
	STUB = 0x20000000, /* host only: stub code, then the native state */
	STATE = STUB + 0x1000,
	INSN = WORLD_CODE + 0x800,  /* the instruction under test */
	TAKEN = WORLD_CODE + 0xc00, /* where branches go */
	DATA = WORLD_DATA,
	DATA_SIZE = 0x4000,
	MIDDLE = DATA + DATA_SIZE / 2,
	GS_BASE = 0x1230,
};

/* What an instruction works on and leaves. */
struct machine {
	uint64_t gpr[16];
	uint64_t rflags;
	uint64_t rip; /* behind the instruction, or TAKEN; 0: #DE */
	uint8_t data[DATA_SIZE];
};

/* In memory that stubs address with 32 bits. */
struct native {
	uint64_t in[16], out[16];
	uint64_t flags_in, flags_out;
	uint64_t host_rsp, branch;
};
#define NATIVE    ((struct native *)STATE)
#define AT(field) ((uint32_t)(STATE + offsetof(struct native, field)))

/* ---- random ---- */
static uint64_t random_state;
static uint64_t random64(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}
static unsigned below(unsigned n)
{
	return (unsigned)(random64() >> 32) % n;
}
/* Often an edge. */
static uint64_t operand(void)
{
	static const uint64_t edges[] = {0,
	                                 1,
	                                 2,
	                                 0x7f,
	                                 0x80,
	                                 0xff,
	                                 0x7fff,
	                                 0x8000,
	                                 0xffff,
	                                 0x7fffffff,
	                                 0x80000000,
	                                 0xffffffff,
	                                 0x7fffffffffffffff,
	                                 0x8000000000000000,
	                                 ~0ull,
	                                 31,
	                                 32,
	                                 63,
	                                 64,
	                                 0x100,
	                                 9,
	                                 17};
	uint64_t v = below(3) ? random64() : edges[below(VC_ARRAY_SIZE(edges))];
	return below(4) ? v : v >> below(64);
}

/* ---- the native side ---- */
static uint8_t *emit_at;
static void emit(const void *bytes, unsigned n)
{
	memcpy(emit_at, bytes, n);
	emit_at += n;
}
#define EMIT(...) emit((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
static void emit32(uint32_t v)
{
	emit(&v, 4);
}
/* mov reg, [at] (8b) or mov [at], reg (89) */
static void emit_mov(uint8_t opcode, unsigned reg, uint32_t at)
{
	EMIT((uint8_t)(0x48 | (reg & 8) >> 1), opcode, (uint8_t)(4 | (reg & 7) << 3), 0x25);
	emit32(at);
}
static void emit_jump(uint32_t to)
{
	EMIT(0xe9);
	emit32(to - (uint32_t)(uintptr_t)emit_at - 4);
}
/* Store everything and go back to the caller. */
static void emit_leave(uint8_t branch)
{
	for (unsigned r = 0; r < 16; r++)
		emit_mov(0x89, r, AT(out) + r * 8);
	EMIT(0x48, 0xc7, 0xc4); /* mov rsp, imm32 */
	emit32(AT(flags_out) + 8);
	EMIT(0x9c, 0xfc);             /* pushfq; cld */
	EMIT(0x48, 0xc7, 0x04, 0x25); /* mov qword [branch], imm32 */
	emit32(AT(branch));
	emit32(branch);
	emit_mov(0x8b, VC_RSP, AT(host_rsp));
	EMIT(0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5b, 0x5d, 0xc3); /* pop r15 r14 r13 r12 rbx rbp; ret */
}
enum { LEAVE_BEHIND = STUB + 0x400, LEAVE_TAKEN = STUB + 0x800 };
static void make_stubs(void)
{
	void *p = mmap((void *)STUB, 0x3000, PROT_READ | PROT_WRITE | PROT_EXEC,
	               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	WORLD_NEED(p == (void *)STUB);
	emit_at = p;
	EMIT(0x55, 0x53, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57); /* push rbp rbx r12 r13 r14 r15 */
	emit_mov(0x89, VC_RSP, AT(host_rsp));
	EMIT(0x48, 0xc7, 0xc4);
	emit32(AT(flags_in));
	EMIT(0x9d); /* popfq */
	for (unsigned r = 0; r < 16; r++)
		emit_mov(0x8b, r, AT(in) + r * 8);
	emit_jump(INSN);
	emit_at = (uint8_t *)LEAVE_BEHIND;
	emit_leave(0);
	emit_at = (uint8_t *)LEAVE_TAKEN;
	emit_leave(1);
	emit_at = (uint8_t *)TAKEN;
	emit_jump(LEAVE_TAKEN);
}

static sigjmp_buf on_sigfpe;
static void sigfpe(int number)
{
	__asm__ volatile("cld");
	siglongjmp(on_sigfpe, 1);
}
static void catch_sigfpe(void)
{
	static uint8_t stack[65536];
	stack_t s = {.ss_sp = stack, .ss_size = sizeof stack};
	struct sigaction a = {.sa_handler = sigfpe, .sa_flags = SA_ONSTACK};
	WORLD_NEED(sigaltstack(&s, NULL) == 0 && sigaction(SIGFPE, &a, NULL) == 0);
}

/* The instruction and a jump out lie at INSN. */
static void run_natively(struct machine *m, unsigned length)
{
	emit_at = (uint8_t *)INSN + length;
	emit_jump(LEAVE_BEHIND);
	memcpy(NATIVE->in, m->gpr, sizeof m->gpr);
	NATIVE->flags_in = m->rflags | 2;
	memcpy((void *)DATA, m->data, DATA_SIZE);
	if (sigsetjmp(on_sigfpe, 1)) {
		m->rip = 0;
		return;
	}
	((void (*)(void))STUB)();
	memcpy(m->gpr, NATIVE->out, sizeof m->gpr);
	m->rflags = NATIVE->flags_out;
	m->rip = NATIVE->branch ? (uint64_t)TAKEN : (uint64_t)INSN + length;
	memcpy(m->data, (void *)DATA, DATA_SIZE);
}

/* ---- the interpreted side ---- */
/* stepping: alone; otherwise in a cached block that ends with UD2. */
static void run_interpreted(struct world *w, struct machine *m, unsigned length, bool stepping)
{
	static const uint8_t ud2[] = {0x0f, 0x0b};
	struct emu_vcpu *c = w->c;
	enum emu_stop stop;
	uint8_t code[16];

	memcpy(code, (void *)INSN, length);
	world_write(w, INSN, code, length);
	world_write(w, INSN + length, ud2, 2);
	world_write(w, TAKEN, ud2, 2);
	memcpy((void *)DATA, m->data, DATA_SIZE);
	memcpy(c->s.gpr, m->gpr, sizeof m->gpr);
	emu_set_rflags(c, m->rflags);
	c->s.rip = INSN;
	do /* REP and pairs take several steps */
		stop = stepping ? world_step(w) : world_run(w);
	while (stepping && stop == EMU_STOP_EVENTS && c->s.rip >= INSN && c->s.rip < INSN + length);
	memcpy(m->gpr, c->s.gpr, sizeof m->gpr);
	m->rflags = emu_rflags(c);
	m->rip = c->s.rip;
	if (stop == EMU_STOP_EXCEPTION && c->exc.vector == VC_DE)
		m->rip = 0;
	else if (stop != (stepping ? EMU_STOP_EVENTS : EMU_STOP_EXCEPTION) || (!stepping && c->exc.vector != VC_UD))
		m->rip = 0xbad00 + (stop == EMU_STOP_EXCEPTION ? c->exc.vector : 0x100);
	memcpy(m->data, (void *)DATA, DATA_SIZE);
	emit_at = (uint8_t *)TAKEN;
	emit_jump(LEAVE_TAKEN);
}

/* ---- making cases ---- */

/* Instructions that behave the same in ring 3 of the host and need nothing but registers and data. */
static bool testable(const struct emu_insn *n)
{
	switch (n->op) {
	case EMU_ADD ... EMU_POP:
	case EMU_INC ... EMU_XADD:
	case EMU_CMPXCHG ... EMU_JCC:
	case EMU_JMP:
	case EMU_JMP_IND:
	case EMU_CALL:
	case EMU_CALL_IND:
	case EMU_RET:
	case EMU_LOOP ... EMU_LEAVE:
	case EMU_LAHF ... EMU_CMC:
	case EMU_CLD:
	case EMU_STD:
	case EMU_NOP:
	case EMU_MOVS ... EMU_SCAS:
	case EMU_XLAT:
	case EMU_MOVBE ... EMU_ADOX:
	case EMU_MOVNTI:
		return true;
	default:
		return false;
	}
}
static bool is_branch(const struct emu_insn *n)
{
	return (n->op >= EMU_JCC && n->op <= EMU_RET) || (n->op >= EMU_LOOP && n->op <= EMU_JCXZ);
}

static unsigned make_bytes(uint8_t *b)
{
	static const uint8_t prefixes[] = {0x66, 0x66, 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e};
	unsigned n = 0;
	while (!below(3) && n < 3)
		b[n++] = prefixes[below(sizeof prefixes)];
	if (!below(10)) { /* VEX: BMI */
		static const uint8_t opcodes[] = {0xf2, 0xf3, 0xf5, 0xf6, 0xf7};
		bool rorx = !below(8);
		b[n++] = 0xc4;
		b[n++] = (uint8_t)(below(8) << 5 | (rorx ? 3 : 2));
		b[n++] = (uint8_t)((below(2) << 7) | (rorx ? 0x78 : below(16) << 3) | (rorx ? 3 : below(4)));
		b[n++] = rorx ? 0xf0 : opcodes[below(sizeof opcodes)];
	} else {
		if (below(2))
			b[n++] = (uint8_t)(0x40 | below(16));
		switch (below(5)) {
		case 0:
		case 1:
			b[n++] = (uint8_t)below(256);
			break;
		case 2:
		case 3:
			b[n++] = 0x0f;
			b[n++] = (uint8_t)below(256);
			break;
		default:
			b[n++] = 0x0f;
			b[n++] = 0x38;
			b[n++] = (uint8_t)(0xf0 | below(16));
		}
	}
	while (n < 24)
		b[n++] = (uint8_t)(below(4) ? random64() : operand());
	return n;
}

static bool is_string(const struct emu_insn *n)
{
	return n->op >= EMU_MOVS && n->op <= EMU_SCAS;
}
static bool is_bit_string(const struct emu_insn *n)
{
	return n->op >= EMU_BT && n->op <= EMU_BTC && n->desc->enc == EMU_ENC_RM_REG && n->prefixes & EMU_P_MEM;
}

/* What the two sides are known not to agree on, or cannot both do. */
static bool unfit(const struct emu_insn *n)
{
	if (!testable(n) || (is_branch(n) && n->prefixes & EMU_P_66))
		return true;
	if (n->map == 1 && n->opcode == 0x0d && !(n->prefixes & EMU_P_MEM))
		return true; /* a NOP on Intel CPUs, #UD on AMD ones */
	if (n->op >= EMU_LOOPE && n->op <= EMU_LOOPNE && n->prefixes & (EMU_P_REP | EMU_P_REPNE))
		return true; /* AMD CPUs take the condition from the prefix */
	return n->op == EMU_ENTER || n->seg == VC_FS || (n->op == EMU_MOV && n->desc->imm == EMU_IMM_MOFFS);
}

/* Change the 32-bit displacement of a RIP-relative or absolute operand. It ends where the immediate begins. */
static bool patch_displacement(struct emu_insn *n, uint8_t *bytes, int32_t disp)
{
	for (unsigned at = n->len - 4u; at >= 2; at--)
		if ((int32_t)vc_ld32(bytes + at) == n->disp && n->disp > 0xffff) {
			vc_st32(bytes + at, (uint32_t)disp);
			n->disp = disp;
			return true;
		}
	return false;
}

/* Give the memory operand's registers values so that it lies in the data; its address. 0: it cannot be done. */
static uint64_t aim(struct emu_insn *n, struct machine *m, uint8_t *bytes)
{
	uint64_t target = MIDDLE + below(0x200), offset, index = 0;

	if (n->op == EMU_CMPXCHG16B)
		target &= ~15ull;
	offset = target - (n->seg == VC_GS ? GS_BASE : 0);
	if (n->index != EMU_REG_NONE) {
		if (n->index == n->base)
			return 0;
		m->gpr[n->index] = below(0x40);
		index = m->gpr[n->index] << n->scale;
	}
	if (n->base == EMU_REG_RIP)
		return patch_displacement(n, bytes, (int32_t)(offset - INSN - n->len)) ? target : 0;
	if (n->base == EMU_REG_NONE)
		return patch_displacement(n, bytes, (int32_t)(offset - index)) ? target : 0;
	if (n->base == VC_RSP && n->stacksize)
		return 0;
	m->gpr[n->base] = offset - index - (uint64_t)(int64_t)n->disp;
	if (n->addrsize == 4) /* the upper half does not count, and no carry into it */
		m->gpr[n->base] = (uint32_t)m->gpr[n->base] | (n->base == VC_RSP ? 0 : random64() << 32);
	return target;
}

static void make_string(const struct emu_insn *n, struct machine *m)
{
	uint64_t *gpr = m->gpr;

	gpr[VC_RSI] = MIDDLE - 0x800 + below(0x1000) - (n->seg == VC_GS ? GS_BASE : 0);
	gpr[VC_RDI] = below(2) ? gpr[VC_RSI] - 20 + below(40) : (uint64_t)(MIDDLE - 0x800 + below(0x1000));
	gpr[VC_RCX] = below(200);
	m->rflags |= random64() & VC_FLAG_DF;
	if (!below(2)) /* equal elements, for REPE and REPNE to run over */
		memset(m->data + DATA_SIZE / 4, (int)below(2), DATA_SIZE / 2);
}

/* Registers, and whatever an instruction takes from elsewhere. False: not this one. */
static bool make_operands(struct emu_insn *n, struct machine *m, uint8_t *bytes)
{
	uint64_t at = 0;

	for (unsigned r = 0; r < 16; r++)
		m->gpr[r] = operand();
	for (unsigned k = 0; k < DATA_SIZE; k += 8)
		vc_st64(m->data + k, below(8) ? random64() : operand());
	m->gpr[VC_RSP] = MIDDLE + 0x400 + below(64);
	m->rflags = (random64() & VC_FLAGS_ARITH) | 0x202;
	if (n->op == EMU_LEAVE)
		m->gpr[VC_RBP] = MIDDLE + below(64);
	if (n->op == EMU_XLAT)
		m->gpr[VC_RBX] = MIDDLE;
	if (n->op >= EMU_LOOP && n->op <= EMU_JCXZ)
		m->gpr[VC_RCX] = below(3) | (below(2) ? 0 : random64() << 32);
	if (n->op == EMU_DIV || n->op == EMU_IDIV)
		m->gpr[VC_RDX] = below(3) ? m->gpr[VC_RDX] >> below(64) : below(2) ? 0 : ~0ull;
	if (is_string(n))
		make_string(n, m);
	if (n->prefixes & EMU_P_MEM && n->op != EMU_LEA && n->op != EMU_NOP && n->op != EMU_PREFETCH) {
		at = aim(n, m, bytes);
		if (!at)
			return false;
	}
	if (is_bit_string(n)) {
		if (n->reg == VC_RSP || n->reg == n->base || n->reg == n->index)
			return false;
		m->gpr[n->reg] = below(0x2000) - 0x1000ull;
	}
	if (n->op == EMU_RET)
		vc_st64(m->data + (m->gpr[VC_RSP] - DATA), TAKEN);
	if (n->op == EMU_JMP_IND || n->op == EMU_CALL_IND) {
		if (at)
			vc_st64(m->data + (at - DATA), TAKEN);
		else if (n->rm == VC_RSP)
			return false;
		else
			m->gpr[n->rm] = TAKEN;
	}
	return true;
}

/* Short branches go to jumps that lie close behind. */
static void aim_branch(const struct emu_insn *n, uint8_t *bytes)
{
	static const uint8_t close[] = {0x20, 0x40};

	if (n->desc->imm == EMU_IMM_8)
		bytes[n->len - 1] = close[below(2)];
	else
		vc_st32(bytes + n->len - 4, (uint32_t)(TAKEN - INSN) - n->len);
	for (unsigned k = 0; k < 2; k++) {
		emit_at = (uint8_t *)INSN + n->len + close[k];
		emit_jump(TAKEN);
	}
}

/* A case: bytes at INSN, *m filled. Returns their length: a comparison has a conditional jump behind it, which may be
 * fused with it. */
static unsigned make_case(const struct emu_decode_mode *mode, struct machine *m, struct emu_insn *n)
{
	uint8_t bytes[24];
	unsigned length;

	do
		make_bytes(bytes);
	while (emu_decode(bytes, sizeof bytes, mode, n) != EMU_DECODE_OK || unfit(n) || !make_operands(n, m, bytes));
	length = n->len;
	if (n->desc->enc == EMU_ENC_REL)
		aim_branch(n, bytes);
	if (n->op == EMU_CMP || n->op == EMU_TEST) {
		bytes[length++] = (uint8_t)(0x70 | below(16));
		bytes[length++] = 0x30;
		emit_at = (uint8_t *)INSN + length + 0x30;
		emit_jump(TAKEN);
	}
	memcpy((void *)INSN, bytes, length);
	return length;
}

/* ---- comparing ---- */

static uint32_t flag_bits(unsigned fl)
{
	static const uint32_t bit[6] = {VC_FLAG_CF, VC_FLAG_PF, VC_FLAG_AF, VC_FLAG_ZF, VC_FLAG_SF, VC_FLAG_OF};
	uint32_t bits = 0;
	for (unsigned i = 0; i < 6; i++)
		if (fl >> i & 1)
			bits |= bit[i];
	return bits;
}

static bool same(const struct machine *a, const struct machine *b, uint32_t flags)
{
	if (a->rip != b->rip)
		return false;
	if (!a->rip)
		return true; /* #DE: nothing changes; the interpreter's state is checked by its caller */
	return !memcmp(a->gpr, b->gpr, sizeof a->gpr) && !((a->rflags ^ b->rflags) & flags) &&
	       !memcmp(a->data, b->data, DATA_SIZE);
}

static void report(uint64_t seed, const char *how, const struct emu_insn *n, const struct machine *before,
                   const struct machine *native, const struct machine *ours)
{
	static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
	                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
	char text[128];
	printf("seed %llu, %s: %s\n  bytes", (unsigned long long)seed, how, emu_disassemble(n, INSN, text, sizeof text));
	for (unsigned k = 0; k < n->len; k++)
		printf(" %02x", ((uint8_t *)INSN)[k]);
	printf("\n");
	for (unsigned r = 0; r < 16; r++)
		if (native->gpr[r] != ours->gpr[r])
			printf("  %s: %llx -> host %llx, here %llx\n", names[r], (unsigned long long)before->gpr[r],
			       (unsigned long long)native->gpr[r], (unsigned long long)ours->gpr[r]);
	printf("  flags: %llx -> host %llx, here %llx\n", (unsigned long long)before->rflags,
	       (unsigned long long)native->rflags, (unsigned long long)ours->rflags);
	printf("  rip: host %llx, here %llx\n", (unsigned long long)native->rip, (unsigned long long)ours->rip);
	for (unsigned k = 0; k < DATA_SIZE; k++)
		if (native->data[k] != ours->data[k]) {
			printf("  memory %x: %02x -> host %02x, here %02x\n", DATA + k, before->data[k], native->data[k],
			       ours->data[k]);
			break;
		}
}

static bool run_case(struct world *w, const struct emu_decode_mode *mode, uint64_t seed)
{
	static struct machine before, native, alone, block;
	static uint8_t code[VC_PAGE_SIZE];
	struct emu_insn n;
	uint32_t flags;
	unsigned length;

	random_state = seed;
	length = make_case(mode, &before, &n);
	memcpy(code, (void *)WORLD_CODE, sizeof code);
	flags = VC_FLAGS_ARITH & ~flag_bits(n.desc->flags_undefined);
	alone = block = native = before;
	run_interpreted(w, &alone, length, true);
	memcpy((void *)WORLD_CODE, code, sizeof code);
	run_interpreted(w, &block, length, false);
	memcpy((void *)WORLD_CODE, code, sizeof code);
	run_natively(&native, length);
	if (native.rip == TAKEN && alone.rip > INSN + length && alone.rip <= INSN + length + 0x40)
		alone.rip = TAKEN; /* it stopped at the jump there */
	if (!same(&native, &alone, flags | VC_FLAG_DF)) {
		report(seed, "alone", &n, &before, &native, &alone);
		return false;
	}
	if (!same(&native, &block, flags | VC_FLAG_DF)) {
		report(seed, "in a block", &n, &before, &native, &block);
		return false;
	}
	if (!native.rip &&
	    (memcmp(before.gpr, block.gpr, sizeof before.gpr) || memcmp(before.data, block.data, DATA_SIZE))) {
		report(seed, "#DE", &n, &before, &before, &block);
		return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	unsigned long cases = argc > 1 ? strtoul(argv[1], NULL, 0) : 200000;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	struct world *w = world_new();
	struct emu_decode_mode mode = {EMU_MODE_64, true, &w->vcpu.cpuid.features};
	unsigned failed = 0;

	make_stubs();
	catch_sigfpe();
	world_long64(w);
	WORLD_NEED(syscall(SYS_arch_prctl, ARCH_SET_GS, (unsigned long)GS_BASE) == 0);
	w->c->s.seg[VC_GS].base = GS_BASE;
	emu_mode_changed(w->c);
	for (unsigned long k = 0; k < cases && failed < 20; k++)
		failed += !run_case(w, &mode, seed + k);
	printf("%lu cases, %u differ\n", cases, failed);
	world_free(w);
	return failed != 0;
}
