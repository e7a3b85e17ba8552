/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Slots: one an opcode byte, saying how the row is found. And the short words in which the integer tables are written.
 * For the table_*.c files and decode.c only.
 */
#ifndef VC_EMU_ROWS_H
#define VC_EMU_ROWS_H

#include "backend/emu/decode/tables.h"
#include "cpu/state.h"

enum emu_slot_kind {
	EMU_SLOT_VEC,       /* emu_vec_lookup(); has ModRM. Zero, so that maps name only what is not a vector instruction */
	EMU_SLOT_VEC_PLAIN, /* likewise, without ModRM: 0F 77 */
	EMU_SLOT_ROW,       /* rows[0] */
	EMU_SLOT_GROUP,     /* rows[ModRM.reg] */
	EMU_SLOT_GROUP_MOD, /* rows[ModRM.reg] for memory, rows[8 + ModRM.reg] for registers */
	EMU_SLOT_GROUP_RM,  /* rows[ModRM.reg] for memory, rows[8 + (ModRM & 63)] for registers */
	EMU_SLOT_GROUP_PP,  /* rows[pp * 16 + ...as GROUP_MOD] */
	EMU_SLOT_PP,        /* rows[pp] */
	EMU_SLOT_PP_OLD,    /* rows[pp]; when the CPU lacks that feature, the prefix is ignored: rows[0] */
	EMU_SLOT_MODE,      /* rows[0] outside 64-bit mode, rows[1] in it */
	EMU_SLOT_NOP90,     /* 90: rows[0] NOP, rows[1] with F3, rows[2] with REX.B */
	EMU_SLOT_X87,       /* emu_x87_lookup() */
	EMU_SLOT_PREFIX,    /* prefix, seg */
	EMU_SLOT_0F,        /* another map */
	EMU_SLOT_VEX2,      /* C5: VEX, or rows[0] (LDS) */
	EMU_SLOT_VEX3,      /* C4: VEX, or rows[0] (LES) */
	EMU_SLOT_UD,        /* no such instruction */
};

struct emu_slot {
	const struct emu_opdesc *rows;
	uint8_t kind; /* enum emu_slot_kind */
	bool modrm;
	uint8_t seg;     /* PREFIX with EMU_P_SEG: the segment */
	uint16_t prefix; /* PREFIX: EMU_P_* */
};

extern const struct emu_slot emu_map_one[256];
extern const struct emu_slot emu_map_0f[256];
extern const struct emu_slot emu_map_0f38[256];
extern const struct emu_slot emu_map_vex_0f[256];
extern const struct emu_slot emu_map_vex_0f38[256];
extern const struct emu_slot emu_map_vex_0f3a[256];
extern const struct emu_opdesc emu_row_cmpxchg16b;

/* ---- rows ---- */

/* A row: op, "name", where operands are, immediate, attributes, feature, flags read, written, left undefined. */
#define DESC(o, n, e, i, a, f, r, w, u)                                                                       \
	{                                                                                                         \
		.name = (n), .op = EMU_##o, .enc = EMU_ENC_##e, .imm = EMU_IMM_##i, .attr = (a), .feature = VC_F_##f, \
		.flags_read = (r), .flags_written = (w), .flags_undefined = (u)                                       \
	}
/* The same without feature and flags. */
#define MOVE(o, n, e, i, a) DESC(o, n, e, i, a, NONE, 0, 0, 0)

#define ROW(...)                                                  \
	{                                                             \
		.kind = EMU_SLOT_ROW, .rows = (const struct emu_opdesc[]) \
		{                                                         \
			__VA_ARGS__                                           \
		}                                                         \
	}
#define MODRM(...)                                                               \
	{                                                                            \
		.kind = EMU_SLOT_ROW, .modrm = true, .rows = (const struct emu_opdesc[]) \
		{                                                                        \
			__VA_ARGS__                                                          \
		}                                                                        \
	}
#define TABLE(k, table)                                      \
	{                                                        \
		.kind = EMU_SLOT_##k, .modrm = true, .rows = (table) \
	}
#define UNDEFINED           \
	{                       \
		.kind = EMU_SLOT_UD \
	}

#define BYTE   EMU_A_BYTE
#define RMW    EMU_A_RMW
#define WO     EMU_A_WO
#define RO     EMU_A_RO
#define LOCK   EMU_A_LOCK
#define END    EMU_A_END
#define NO64   EMU_A_NO64
#define D64    EMU_A_D64
#define F64    EMU_A_F64
#define NP     EMU_A_NP
#define CPL0   EMU_A_CPL0
#define PUSHES EMU_A_STACK

/* ---- flags ---- */

#define FC    EMU_FL_C
#define FP    EMU_FL_P
#define FA    EMU_FL_A
#define FZ    EMU_FL_Z
#define FS    EMU_FL_S
#define FO    EMU_FL_O
#define FALL  EMU_FL_ALL
#define FNOTA (FALL & ~FA) /* what logic operations define; AF is undefined after them */
#define FNOTC (FALL & ~FC) /* what INC and DEC write */

/* M(condition code, suffix, flags it reads) for Jcc, SETcc, CMOVcc; SDM vol. 1 appendix B. */
#define FOR_EACH_CONDITION(M)                                                                                    \
	M(0x0, "o", FO)                                                                                              \
	M(0x1, "no", FO)                                                                                             \
	M(0x2, "b", FC)                                                                                              \
	M(0x3, "ae", FC)                                                                                             \
	M(0x4, "e", FZ) M(0x5, "ne", FZ) M(0x6, "be", FC | FZ) M(0x7, "a", FC | FZ) M(0x8, "s", FS) M(0x9, "ns", FS) \
	    M(0xa, "p", FP) M(0xb, "np", FP) M(0xc, "l", FS | FO) M(0xd, "ge", FS | FO) M(0xe, "le", FZ | FS | FO)   \
	        M(0xf, "g", FZ | FS | FO)

#endif
