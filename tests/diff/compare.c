/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What must be equal, and how it is told when it is not. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util.h"
#include "diff.h"

static const char *const gpr_names[16] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                          "R8",  "R9",  "R10", "R11", "R12", "R13", "R14", "R15"};

struct comparison {
	const struct diff_case *c;
	bool print, equal;
};

static void number(struct comparison *x, const char *what, uint64_t want, uint64_t got, uint64_t mask)
{
	if (!((want ^ got) & mask))
		return;
	x->equal = false;
	if (x->print)
		printf("    %-10s expected %#18" PRIx64 "  got %#18" PRIx64 "\n", what, want & mask, got & mask);
}

static void bytes(struct comparison *x, const char *what, const uint8_t *want, const uint8_t *got, unsigned length)
{
	if (!memcmp(want, got, length))
		return;
	x->equal = false;
	if (!x->print)
		return;
	printf("    %-10s expected ", what);
	for (unsigned n = length; n-- > 0;)
		printf("%02x", want[n]);
	printf("\n    %-10s      got ", "");
	for (unsigned n = length; n-- > 0;)
		printf("%02x", got[n]);
	printf("\n");
}

static bool is_ignored(const struct diff_case *c, unsigned offset)
{
	for (unsigned n = 0; n < c->ignored; n++)
		if (offset >= c->bytes_ignored[n].from && offset < c->bytes_ignored[n].to)
			return true;
	return false;
}

static void window(struct comparison *x, const struct diff_record *want, const struct diff_record *got)
{
	char name[24];

	if (!memcmp(want->window, got->window, sizeof want->window))
		return;
	for (unsigned n = 0; n < DIFF_WINDOW_SIZE; n++) {
		if (want->window[n] == got->window[n] || is_ignored(x->c, n))
			continue;
		x->equal = false;
		if (!x->print)
			return;
		snprintf(name, sizeof name, "[%#x]", DIFF_WINDOW + n);
		number(x, name, want->window[n], got->window[n], 0xff);
	}
}

static uint64_t get(const uint8_t *p, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, p, size);
	return value;
}

/*
 * FOP, FIP and FDP are left out: AMD's CPUs save them only while an exception is pending (APM vol. 2, 11.4.4.3), and so
 * is MXCSR_MASK: AMD has bit 17 (MISALIGNSSE), which the models with Intel's name have not.
 */
static void fpu(struct comparison *x, const struct diff_record *want_record, const struct diff_record *got_record)
{
	const uint8_t *want = want_record->xsave, *got = got_record->xsave;
	uint64_t mxcsr = 0xffffffff;
	char name[8];

	/*
	 * With an unmasked overflow or underflow PE tells whether the result would be exact with an exponent of any size;
	 * the interpreter takes it from the masked response, where it is set more often (vec.c, run_unmasked).
	 */
	if (want_record->vector == 19 && ~get(want + XS_MXCSR, 4) & 0xc00)
		mxcsr &= ~0x20ull;
	/* nor does it know at which stage of DPPS and DPPD an unmasked exception ends the instruction */
	for (unsigned n = 0; want_record->vector == 19 && n < x->c->insns; n++)
		if (x->c->insn[n].op == EMU_VEC && x->c->insn[n].map == 3 && (x->c->insn[n].opcode & 0xfe) == 0x40)
			mxcsr &= ~0x3full;

	number(x, "FCW", get(want + XS_FCW, 2), get(got + XS_FCW, 2), 0xffff);
	number(x, "FSW", get(want + XS_FSW, 2), get(got + XS_FSW, 2), 0xffff);
	number(x, "FTW", get(want + XS_FTW, 1), get(got + XS_FTW, 1), 0xff);
	number(x, "MXCSR", get(want + XS_MXCSR, 4), get(got + XS_MXCSR, 4), mxcsr);
	for (unsigned n = 0; n < 8; n++) {
		snprintf(name, sizeof name, "ST%u", n);
		bytes(x, name, want + XS_ST + n * 16, got + XS_ST + n * 16, 10);
	}
	for (unsigned n = 0; n < 16; n++) {
		snprintf(name, sizeof name, "XMM%u", n);
		bytes(x, name, want + XS_XMM + n * 16, got + XS_XMM + n * 16, 16);
		snprintf(name, sizeof name, "YMMH%u", n);
		bytes(x, name, want + XS_YMMH + n * 16, got + XS_YMMH + n * 16, 16);
	}
}

static bool has_error_code(unsigned vector)
{
	return vector < 32 && 0x27d00u >> vector & 1;
}

bool diff_compare(const struct diff_case *c, const struct diff_record *want, const struct diff_record *got, bool print)
{
	static const char *const sregs[5] = {"DS", "ES", "SS", "FS", "GS"};
	struct comparison x = {c, print, true};
	bool low = c->mode32 || (c->far && (want->vector != NO_VECTOR || want->landing == LANDED_OTHER));
	uint64_t width = low ? 0xffffffff : ~0ull;

	number(&x, "vector", want->vector, got->vector, 0xffff);
	number(&x, "landing", want->landing, got->landing, 0xffff);
	if (want->vector != got->vector && print)
		printf("    expected: vector %u error %#x CR2 %#" PRIx64 "; got: vector %u error %#x CR2 %#" PRIx64 "\n",
		       want->vector, want->error, want->cr2, got->vector, got->error, got->cr2);
	if (want->vector != NO_VECTOR && got->vector == want->vector) {
		if (!c->rip_ignored)
			number(&x, "fault RIP", want->rip, got->rip, ~0ull);
		if (has_error_code(want->vector))
			number(&x, "error", want->error, got->error, 0xffffffff);
		if (want->vector == 14)
			number(&x, "CR2", want->cr2, got->cr2, ~c->cr2_ignored);
	}
	/* the upper halves, and R8 to R15, are undefined after 32-bit code (SDM vol. 1, 3.4.1.1) */
	for (unsigned n = 0; n < (low ? 8 : 16); n++)
		if (!(c->gprs_ignored >> n & 1))
			number(&x, gpr_names[n], want->gpr[n], got->gpr[n], width);
	number(&x, "RFLAGS", want->rflags, got->rflags, ~c->flags_ignored);
	/* an interrupt of the host that comes in between makes a null selector 0 by its IRET (SDM vol. 2, IRET) */
	for (unsigned n = 0; n < 5; n++)
		number(&x, sregs[n], want->sregs[n], got->sregs[n], want->sregs[n] || got->sregs[n] > 3 ? 0xffff : 0xfffc);
	number(&x, "FS.base", want->fs_base, got->fs_base, ~0ull);
	number(&x, "GS.base", want->gs_base, got->gs_base, ~0ull);
	fpu(&x, want, got);
	window(&x, want, got);
	return x.equal;
}

void diff_print_case(const struct diff_case *c)
{
	uint64_t address = c->address;
	const uint8_t *p = c->bytes;
	char text[160];

	for (unsigned n = 0; n < c->insns; n++) {
		const struct emu_insn *insn = &c->insn[n];

		printf("  %#" PRIx64 "%s ", address, c->mode32 ? " (32-bit)" : "");
		for (unsigned i = 0; i < insn->len; i++)
			printf(" %02x", p[i]);
		printf("   %s\n", insn->op == EMU_INVALID ? "#UD expected" : emu_disassemble(insn, address, text, sizeof text));
		address += insn->len;
		p += insn->len;
	}
	printf("  before: RFLAGS %#" PRIx64, c->in.rflags);
	for (unsigned n = 0; n < 16; n++)
		printf("%s%s %#" PRIx64, n % 4 ? "  " : "\n    ", gpr_names[n], c->in.gpr[n]);
	printf("\n    FCW %#x FSW %#x FTW %#x MXCSR %#x", (unsigned)get(c->in.xsave + XS_FCW, 2),
	       (unsigned)get(c->in.xsave + XS_FSW, 2), c->in.xsave[XS_FTW], (unsigned)get(c->in.xsave + XS_MXCSR, 4));
	for (unsigned n = 0; n < c->insns; n++) {
		const struct emu_insn *insn = &c->insn[n];
		const uint8_t regs[3] = {insn->reg, insn->rm, insn->reg2};

		if (insn->op == EMU_X87) {
			for (unsigned i = 0; i < 8; i++)
				printf("%sST%u %04" PRIx64 " %016" PRIx64, i % 4 ? "  " : "\n    ", i,
				       get(c->in.xsave + XS_ST + i * 16 + 8, 2), get(c->in.xsave + XS_ST + i * 16, 8));
			break;
		}
		for (unsigned i = 0; insn->op == EMU_VEC && i < 3; i++) {
			const uint8_t *low = c->in.xsave + XS_XMM + (regs[i] & 15) * 16,
			              *high = c->in.xsave + XS_YMMH + (regs[i] & 15) * 16;

			printf("\n    YMM%u %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64, regs[i] & 15,
			       get(high + 8, 8), get(high, 8), get(low + 8, 8), get(low, 8));
		}
	}
	if (c->in.gpr[VC_RSP] >= DIFF_WINDOW && c->in.gpr[VC_RSP] <= DIFF_WINDOW + DIFF_WINDOW_SIZE - 40) {
		const uint8_t *stack = c->in.window + (c->in.gpr[VC_RSP] - DIFF_WINDOW);

		printf("\n    stack");
		for (unsigned n = 0; n < 5; n++)
			printf(" %016" PRIx64, get(stack + n * 8, 8));
	}
	if (c->target >= DIFF_WINDOW && c->target < DIFF_WINDOW + DIFF_WINDOW_SIZE - 32) {
		const uint8_t *memory = c->in.window + (c->target - DIFF_WINDOW);

		printf("\n    [%#" PRIx64 "] %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64, c->target,
		       get(memory + 24, 8), get(memory + 16, 8), get(memory + 8, 8), get(memory, 8));
	}
	printf("\n");
}
