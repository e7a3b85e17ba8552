/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What rows of x87 instructions carry in struct emu_vec: roles says which of ST(0) (REG) and ST(i) or memory (RM) are
 * read and written; reg_file is an enum emu_x87_class, rm_file the number of pops that follow; with opcode D9, ST(i) is
 * ST(1); mem is the size of the memory operand, 0xff where it depends on the operand size.
 */
#ifndef VC_EMU_X87_ROWS_H
#define VC_EMU_X87_ROWS_H

#include "backend/emu/decode/tables.h"

enum emu_x87_class {
	/* numeric: can run on the registers they name alone */
	EMU_X87_ARITH,         /* writes ST(0), ST(i) */
	EMU_X87_COMPARE,       /* writes the condition codes */
	EMU_X87_COMPARE_FLAGS, /* writes EFLAGS */
	EMU_X87_PUSH,          /* pushes a converted memory operand or a constant */
	EMU_X87_STORE,         /* converts ST(0) to memory */
	EMU_X87_WHOLE, /* what is pushed, or which condition codes change, depends on the operands: runs on the whole state
	                */
	/* moves: no arithmetic */
	EMU_X87_LOAD80,
	EMU_X87_STORE80,
	EMU_X87_LOAD_REG,
	EMU_X87_STORE_REG,
	EMU_X87_XCH,
	EMU_X87_CHS,
	EMU_X87_ABS,
	EMU_X87_CMOV,
	EMU_X87_FREE,
	EMU_X87_INCSTP,
	EMU_X87_DECSTP,
	EMU_X87_NOP,
	/* control */
	EMU_X87_LDCW,
	EMU_X87_LDENV,
	EMU_X87_RSTOR,
	/* control, without a look at pending exceptions first */
	EMU_X87_STCW,
	EMU_X87_STSW,
	EMU_X87_STSW_AX,
	EMU_X87_STENV,
	EMU_X87_SAVE,
	EMU_X87_IGNORED,
	EMU_X87_CLEX,
	EMU_X87_INIT,
	EMU_X87_CLASSES
};

#endif
