/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows of vector instructions, and the short words in which table_vec_*.c are written.
 *
 * A row's emu_vec says all that is needed to run the instruction as a host instruction with other registers and another
 * memory operand; interp/ gets from an emu_opdesc to its row with emu_vec_row_of().
 */
#ifndef VC_EMU_VEC_ROWS_H
#define VC_EMU_VEC_ROWS_H

#include "backend/emu/decode/tables.h"
#include "core/util.h"

#define EMU_NO_DIGIT 0xff

struct emu_vec_row {
	uint8_t opcode;
	uint8_t pp;    /* EMU_PP_* */
	uint8_t digit; /* ModRM.reg when it is part of the opcode, otherwise EMU_NO_DIGIT */
	struct emu_opdesc desc;
};

/* Each table is sorted by opcode. */
extern const struct emu_vec_row emu_vec_rows_0f[], emu_vec_rows_0f38[], emu_vec_rows_0f3a[];
extern const unsigned emu_vec_rows_0f_count, emu_vec_rows_0f38_count, emu_vec_rows_0f3a_count;

static inline const struct emu_vec_row *emu_vec_row_of(const struct emu_opdesc *desc)
{
	return VC_CONTAINER_OF(desc, const struct emu_vec_row, desc);
}

/* ---- words for the tables ---- */
/* clang-format off */

/* roles: what is read, written, or both */
#define R_   EMU_V_REG_R
#define RW_  (EMU_V_REG_R | EMU_V_REG_W)
#define W_   EMU_V_REG_W
#define M_   EMU_V_RM_R
#define MW_  EMU_V_RM_W
#define V_   EMU_V_VVVV_R
#define VW_  EMU_V_VVVV_W
#define AL_  EMU_V_ALIGNED
#define FP_  EMU_V_FP
#define FL_  EMU_V_FLAGS
#define MEM_ EMU_V_MEM_ONLY
#define REG_ EMU_V_REG_ONLY
#define MX_  EMU_V_MMX_X87
#define SP_  EMU_V_SPECIAL
#define X0_  EMU_V_XMM0
#define I4_  EMU_V_IS4

/* attributes of VEX rows */
#define L0 EMU_A_VEX_L0
#define L1 EMU_A_VEX_L1
#define W0 EMU_A_VEX_W0
#define W1 EMU_A_VEX_W1

/* The whole row: opcode, prefix, digit, name, feature, roles, file of reg, file of r/m, memory bytes, immediate, attributes. */
#define ROW_(o, p, d, n, f, ro, rf, mf, m, im, at)                                                                     \
	{                                                                                                                  \
		.opcode = (o), .pp = EMU_PP_##p, .digit = (d), .desc = {                                                       \
			.name = (n), .op = EMU_VEC, .enc = EMU_ENC_VEC, .imm = EMU_IMM_##im, .attr = (at) | EMU_A_NO16,            \
			.feature = VC_F_##f, .flags_written = ((ro) & EMU_V_FLAGS) ? EMU_FL_ALL : 0,                               \
			.vec = { .roles = (ro), .reg_file = EMU_VR_##rf, .rm_file = EMU_VR_##mf, .mem = (m) } }                    \
	}
/* Legacy encoding: any register files, and both XMM. */
#define OLD(o, p, n, f, ro, rf, mf, m, im, at) ROW_(o, p, EMU_NO_DIGIT, n, f, ro, rf, mf, m, im, at)
#define SSE(o, p, n, f, ro, m, im)             OLD(o, p, n, f, ro, XMM, XMM, m, im, 0)
/* VEX encoding; vvvv must be 1111b unless the roles name it. */
#define VEXR(o, p, n, f, ro, rf, mf, m, im, at)                                                                        \
	ROW_(o, p, EMU_NO_DIGIT, n, f, ro, rf, mf, m, im,                                                                  \
	     (at) | EMU_A_VEX | (((ro) & (V_ | VW_)) ? 0 : EMU_A_VEX_NOVVVV))
#define VEX(o, p, n, f, ro, m, im, at) VEXR(o, p, n, f, ro, XMM, XMM, m, im, at)
/* 128 bits need feature f, 256 bits g. */
#define VEX2(o, p, n, f, g, ro, im, at) VEX(o, p, n, f, ro, 16, im, (at) | L0), VEX(o, p, n, g, ro, 32, im, (at) | L1)

/* Packed, destination = source (op immediate), no third operand: pshufd, sqrtps. ro: FP_ or 0. */
#define UNARY(o, p, n, f, ro, im) SSE(o, p, n, f, W_ | M_ | AL_ | (ro), 16, im), VEX(o, p, "v" n, AVX, W_ | M_ | (ro), 0, im, 0)
/* Packed, destination = destination op source: addps. */
#define PACKED(o, p, n, f, ro, im)                                                                                     \
	SSE(o, p, n, f, RW_ | M_ | AL_ | (ro), 16, im), VEX(o, p, "v" n, AVX, W_ | V_ | M_ | (ro), 0, im, 0)
/* Scalar: the rest of the destination comes from the first source. */
#define SCALAR(o, p, n, f, ro, m, im)                                                                                  \
	SSE(o, p, n, f, RW_ | M_ | (ro), m, im), VEX(o, p, "v" n, AVX, W_ | V_ | M_ | (ro), m, im, 0)
/* ps pd ss sd */
#define FLOAT4(o, n, im)                                                                                               \
	PACKED(o, NONE, n "ps", SSE, FP_, im), PACKED(o, 66, n "pd", SSE2, FP_, im),                                       \
	SCALAR(o, F3, n "ss", SSE, FP_, 4, im), SCALAR(o, F2, n "sd", SSE2, FP_, 8, im)
/* ps pd */
#define FLOAT2(o, n, ro, im) PACKED(o, NONE, n "ps", SSE, ro, im), PACKED(o, 66, n "pd", SSE2, ro, im)

/* Integer: MMX form with its feature. */
#define MMX(o, n, f, ro, m, im) OLD(o, NONE, n, f, (ro) | MX_, MMX, MMX, m, im, 0)
/* SSE2 or later, AVX, AVX2 forms of a packed integer operation. */
#define INT(o, n, f, im)                                                                                               \
	SSE(o, 66, n, f, RW_ | M_ | AL_, 16, im), VEX2(o, 66, "v" n, AVX, AVX2, W_ | V_ | M_, im, 0)
#define INT1(o, n, f, im) SSE(o, 66, n, f, W_ | M_ | AL_, 16, im), VEX2(o, 66, "v" n, AVX, AVX2, W_ | M_, im, 0)
/* With an MMX form of feature mf. */
#define MINT(o, n, mf, f) MMX(o, n, mf, RW_ | M_, 8, NONE), INT(o, n, f, NONE)
#define MINT1(o, n, mf, f) MMX(o, n, mf, W_ | M_, 8, NONE), INT1(o, n, f, NONE)
/* Shift by a count in an XMM register, which is 128 bits whatever the vector's length. */
#define SHIFT(o, n)                                                                                                    \
	MMX(o, n, MMX, RW_ | M_, 8, NONE), SSE(o, 66, n, SSE2, RW_ | M_ | AL_, 16, NONE),                                  \
	VEX(o, 66, "v" n, AVX, W_ | V_ | M_, 16, NONE, L0), VEX(o, 66, "v" n, AVX2, W_ | V_ | M_, 16, NONE, L1)
/* Shift by an immediate: the operation is in ModRM.reg. */
#define SHIFTI_XMM(o, d, n)                                                                                            \
	ROW_(o, 66, d, n, SSE2, M_ | MW_ | REG_, NONE, XMM, 16, U8, 0),                                                    \
	ROW_(o, 66, d, "v" n, AVX, VW_ | M_ | REG_, NONE, XMM, 16, U8, EMU_A_VEX | L0),                                    \
	ROW_(o, 66, d, "v" n, AVX2, VW_ | M_ | REG_, NONE, XMM, 32, U8, EMU_A_VEX | L1)
#define SHIFTI(o, d, n) ROW_(o, NONE, d, n, MMX, M_ | MW_ | REG_ | MX_, NONE, MMX, 8, U8, 0), SHIFTI_XMM(o, d, n)
/* A pair of rows that differ by W: 4-byte and 8-byte general register or memory. */
#define BYW(M, o, p, n4, n8, f, ro, rf, mf, im, at)                                                                    \
	M(o, p, n4, f, ro, rf, mf, 4, im, (at) | W0), M(o, p, n8, f, ro, rf, mf, 8, im, (at) | W1)
/* clang-format on */

#endif
