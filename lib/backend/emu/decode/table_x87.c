/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * x87 instructions: SDM vol. 2, appendix A.5, tables. Encodings that the manual leaves empty but that
 * processors execute as another instruction (FCOM2, FXCH4, FSTP9, FFREEP...: AMD APM vol. 5) are aliases here too.
 */
#include "backend/emu/decode/x87_rows.h"

/* clang-format off */
#define S0  EMU_V_REG_R
#define D0  EMU_V_REG_W
#define SI  EMU_V_RM_R
#define DI  EMU_V_RM_W
#define MEM EMU_V_MEM_ONLY
#define REG EMU_V_REG_ONLY

#define X(n, class, ro, pops, m, f, rd, wr)                                                                            \
	{                                                                                                                  \
		.name = (n), .op = EMU_X87, .enc = EMU_ENC_X87, .feature = VC_F_##f, .attr = EMU_A_NOW, .flags_read = (rd),     \
		.flags_written = (wr),                                                                                         \
		.vec = { .roles = (ro), .reg_file = EMU_X87_##class, .rm_file = (pops), .mem = (m) }                            \
	}
#define NONE_ { 0 }

/* The six arithmetic operations and two comparisons with memory. */
#define MEMORY_ARITH(p, m)                                                                                             \
	X("f" p "add", ARITH, S0 | D0 | SI | MEM, 0, m, FPU, 0, 0), X("f" p "mul", ARITH, S0 | D0 | SI | MEM, 0, m, FPU, 0, 0),   \
	X("f" p "com", COMPARE, S0 | SI | MEM, 0, m, FPU, 0, 0), X("f" p "comp", COMPARE, S0 | SI | MEM, 1, m, FPU, 0, 0),       \
	X("f" p "sub", ARITH, S0 | D0 | SI | MEM, 0, m, FPU, 0, 0), X("f" p "subr", ARITH, S0 | D0 | SI | MEM, 0, m, FPU, 0, 0), \
	X("f" p "div", ARITH, S0 | D0 | SI | MEM, 0, m, FPU, 0, 0), X("f" p "divr", ARITH, S0 | D0 | SI | MEM, 0, m, FPU, 0, 0)
#define LOAD(n, m)        X(n, PUSH, SI | MEM, 0, m, FPU, 0, 0)
#define STORE(n, p, m, f) X(n, STORE, S0 | DI | MEM, p, m, f, 0, 0)
#define ENV(n, class, ro, m) X(n, class, (ro) | MEM, 0, m, FPU, 0, 0)

/* Memory forms by opcode - 0xd8 and ModRM.reg. */
static const struct emu_opdesc memory_rows[8][8] = {
	{ MEMORY_ARITH("", 4) },
	{ LOAD("fld", 4), NONE_, STORE("fst", 0, 4, FPU), STORE("fstp", 1, 4, FPU),
	  ENV("fldenv", LDENV, SI, 0xff), ENV("fldcw", LDCW, SI, 2), ENV("fnstenv", STENV, DI, 0xff), ENV("fnstcw", STCW, DI, 2) },
	{ MEMORY_ARITH("i", 4) },
	{ LOAD("fild", 4), STORE("fisttp", 1, 4, SSE3), STORE("fist", 0, 4, FPU), STORE("fistp", 1, 4, FPU),
	  NONE_, X("fld", LOAD80, SI | MEM, 0, 10, FPU, 0, 0), NONE_, X("fstp", STORE80, S0 | DI | MEM, 1, 10, FPU, 0, 0) },
	{ MEMORY_ARITH("", 8) },
	{ LOAD("fld", 8), STORE("fisttp", 1, 8, SSE3), STORE("fst", 0, 8, FPU), STORE("fstp", 1, 8, FPU),
	  ENV("frstor", RSTOR, SI, 0xff), NONE_, ENV("fnsave", SAVE, DI, 0xff), ENV("fnstsw", STSW, DI, 2) },
	{ MEMORY_ARITH("i", 2) },
	{ LOAD("fild", 2), STORE("fisttp", 1, 2, SSE3), STORE("fist", 0, 2, FPU), STORE("fistp", 1, 2, FPU),
	  LOAD("fbld", 10), LOAD("fild", 8), STORE("fbstp", 1, 10, FPU), STORE("fistp", 1, 8, FPU) },
};

/* To ST(0); to ST(i), popping or not. */
#define ARITH0(n)    X(n, ARITH, S0 | SI | D0 | REG, 0, 0, FPU, 0, 0)
#define ARITHI(n, p) X(n, ARITH, S0 | SI | DI | REG, p, 0, FPU, 0, 0)
#define COM(n, p)    X(n, COMPARE, S0 | SI | REG, p, 0, FPU, 0, 0)
#define COMI(n, p)   X(n, COMPARE_FLAGS, S0 | SI | REG, p, 0, CMOV, 0, EMU_FL_ALL)
#define CMOV(n, fl)  X(n, CMOV, S0 | SI | D0 | REG, 0, 0, CMOV, fl, 0)
#define XCH(n)       X(n, XCH, S0 | SI | D0 | DI | REG, 0, 0, FPU, 0, 0)
#define STREG(n, p)  X(n, STORE_REG, S0 | DI | REG, p, 0, FPU, 0, 0)
#define ON0(n, class) X(n, class, S0 | D0 | REG, 0, 0, FPU, 0, 0)
#define CONST(n)     X(n, PUSH, REG, 0, 0, FPU, 0, 0)
#define CTL(n, class) X(n, class, REG, 0, 0, FPU, 0, 0)
/* ST(0) and ST(1): to ST(0); to ST(1), popping */
#define WITH1(n, class) X(n, class, S0 | SI | D0 | REG, 0, 0, FPU, 0, 0)
#define INTO1(n)     X(n, ARITH, S0 | SI | DI | REG, 1, 0, FPU, 0, 0)

/* Register forms where all eight ST(i) are alike. */
static const struct emu_opdesc register_rows[8][8] = {
	{ ARITH0("fadd"), ARITH0("fmul"), COM("fcom", 0), COM("fcomp", 1), ARITH0("fsub"), ARITH0("fsubr"), ARITH0("fdiv"), ARITH0("fdivr") },
	{ X("fld", LOAD_REG, SI | REG, 0, 0, FPU, 0, 0), XCH("fxch"), NONE_, STREG("fstp", 1), NONE_, NONE_, NONE_, NONE_ },
	{ CMOV("fcmovb", EMU_FL_C), CMOV("fcmove", EMU_FL_Z), CMOV("fcmovbe", EMU_FL_C | EMU_FL_Z), CMOV("fcmovu", EMU_FL_P),
	  NONE_, NONE_, NONE_, NONE_ },
	{ CMOV("fcmovnb", EMU_FL_C), CMOV("fcmovne", EMU_FL_Z), CMOV("fcmovnbe", EMU_FL_C | EMU_FL_Z), CMOV("fcmovnu", EMU_FL_P),
	  NONE_, COMI("fucomi", 0), COMI("fcomi", 0), NONE_ },
	{ ARITHI("fadd", 0), ARITHI("fmul", 0), COM("fcom", 0), COM("fcomp", 1), ARITHI("fsubr", 0), ARITHI("fsub", 0), ARITHI("fdivr", 0),
	  ARITHI("fdiv", 0) },
	{ X("ffree", FREE, REG, 0, 0, FPU, 0, 0), XCH("fxch"), STREG("fst", 0), STREG("fstp", 1), COM("fucom", 0), COM("fucomp", 1), NONE_, NONE_ },
	{ ARITHI("faddp", 1), ARITHI("fmulp", 1), COM("fcomp", 1), NONE_, ARITHI("fsubrp", 1), ARITHI("fsubp", 1), ARITHI("fdivrp", 1),
	  ARITHI("fdivp", 1) },
	{ X("ffreep", FREE, REG, 1, 0, FPU, 0, 0), XCH("fxch"), STREG("fstp", 1), STREG("fstp", 1), NONE_, COMI("fucomip", 1), COMI("fcomip", 1),
	  NONE_ },
};

/* D9 E0-FF: one instruction each. */
static const struct emu_opdesc d9_rows[32] = {
	ON0("fchs", CHS), ON0("fabs", ABS), NONE_, NONE_,
	X("ftst", COMPARE, S0 | REG, 0, 0, FPU, 0, 0), X("fxam", WHOLE, S0 | REG, 0, 0, FPU, 0, 0), NONE_, NONE_,
	CONST("fld1"), CONST("fldl2t"), CONST("fldl2e"), CONST("fldpi"), CONST("fldlg2"), CONST("fldln2"), CONST("fldz"), NONE_,
	ON0("f2xm1", ARITH), INTO1("fyl2x"), CTL("fptan", WHOLE), INTO1("fpatan"),
	CTL("fxtract", WHOLE), WITH1("fprem1", WHOLE), CTL("fdecstp", DECSTP), CTL("fincstp", INCSTP),
	WITH1("fprem", WHOLE), INTO1("fyl2xp1"), ON0("fsqrt", ARITH), CTL("fsincos", WHOLE),
	ON0("frndint", ARITH), WITH1("fscale", ARITH), ON0("fsin", WHOLE), ON0("fcos", WHOLE),
};

static const struct emu_opdesc fnop = CTL("fnop", NOP);
static const struct emu_opdesc fucompp = COM("fucompp", 2);
static const struct emu_opdesc fcompp = COM("fcompp", 2);
static const struct emu_opdesc fnstsw_ax = CTL("fnstsw", STSW_AX);
/* DB E0-E4: FENI, FDISI and FSETPM of older coprocessors do nothing. */
static const struct emu_opdesc db_rows[5] = { CTL("fneni", IGNORED), CTL("fndisi", IGNORED), CTL("fnclex", CLEX), CTL("fninit", INIT), CTL("fnsetpm", IGNORED) };
/* clang-format on */

static const struct emu_opdesc *register_row(uint8_t opcode, uint8_t modrm)
{
	if (opcode == 0xd9 && modrm >= 0xe0)
		return &d9_rows[modrm & 31];
	switch (opcode << 8 | modrm) {
	case 0xd9d0:
		return &fnop;
	case 0xdae9:
		return &fucompp;
	case 0xded9:
		return &fcompp;
	case 0xdfe0:
		return &fnstsw_ax;
	}
	if (opcode == 0xdb && modrm >= 0xe0 && modrm <= 0xe4)
		return &db_rows[modrm & 7];
	return &register_rows[opcode & 7][modrm >> 3 & 7];
}

const struct emu_opdesc *emu_x87_lookup(uint8_t opcode, uint8_t modrm)
{
	const struct emu_opdesc *row =
	    modrm < 0xc0 ? &memory_rows[opcode & 7][modrm >> 3 & 7] : register_row(opcode, modrm);

	return row->name ? row : NULL;
}
