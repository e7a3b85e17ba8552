/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Map 0F3A: vector instructions with an immediate: SDM vol. 2, appendix A, table A-5. */
#include "backend/emu/decode/vec_rows.h"

/* clang-format off */

/* 128 bits of a 256-bit register: from and to a register or memory. */
#define INSERT128(o, n, f)  VEX(o, 66, n, f, W_ | V_ | M_, 16, U8, W0 | L1)
#define EXTRACT128(o, n, f) VEX(o, 66, n, f, R_ | MW_, 16, U8, W0 | L1)
/* An element to or from a general register or memory; m: bytes in memory. */
#define EXTRACT(o, n, m)                                                                                               \
	OLD(o, 66, n, SSE41, R_ | MW_, XMM, GPR, m, U8, 0), VEXR(o, 66, "v" n, AVX, R_ | MW_, XMM, GPR, m, U8, L0)
#define STRING(o, n)                                                                                                   \
	SSE(o, 66, n, SSE42, R_ | M_ | FL_ | SP_, 16, U8), VEX(o, 66, "v" n, AVX, R_ | M_ | FL_ | SP_, 16, U8, L0)
#define BLEND4(o, n, f, g) VEX2(o, 66, n, f, g, W_ | V_ | M_ | I4_, U8, W0)

const struct emu_vec_row emu_vec_rows_0f3a[] = {
	VEX(0x00, 66, "vpermq", AVX2, W_ | M_, 32, U8, W1 | L1), VEX(0x01, 66, "vpermpd", AVX2, W_ | M_, 32, U8, W1 | L1),
	VEX(0x02, 66, "vpblendd", AVX2, W_ | V_ | M_, 0, U8, W0),
	VEX(0x04, 66, "vpermilps", AVX, W_ | M_, 0, U8, W0), VEX(0x05, 66, "vpermilpd", AVX, W_ | M_, 0, U8, W0),
	VEX(0x06, 66, "vperm2f128", AVX, W_ | V_ | M_, 32, U8, W0 | L1),
	UNARY(0x08, 66, "roundps", SSE41, FP_, U8), UNARY(0x09, 66, "roundpd", SSE41, FP_, U8),
	SCALAR(0x0a, 66, "roundss", SSE41, FP_, 4, U8), SCALAR(0x0b, 66, "roundsd", SSE41, FP_, 8, U8),
	PACKED(0x0c, 66, "blendps", SSE41, 0, U8), PACKED(0x0d, 66, "blendpd", SSE41, 0, U8), INT(0x0e, "pblendw", SSE41, U8),
	MMX(0x0f, "palignr", SSSE3, RW_ | M_, 8, U8), INT(0x0f, "palignr", SSSE3, U8),
	EXTRACT(0x14, "pextrb", 1), EXTRACT(0x15, "pextrw", 2),
	BYW(OLD, 0x16, 66, "pextrd", "pextrq", SSE41, R_ | MW_, XMM, GPR, U8, 0),
	BYW(VEXR, 0x16, 66, "vpextrd", "vpextrq", AVX, R_ | MW_, XMM, GPR, U8, L0),
	EXTRACT(0x17, "extractps", 4),
	INSERT128(0x18, "vinsertf128", AVX), EXTRACT128(0x19, "vextractf128", AVX),
	VEX(0x1d, 66, "vcvtps2ph", F16C, R_ | MW_ | FP_, 8, U8, W0 | L0), VEX(0x1d, 66, "vcvtps2ph", F16C, R_ | MW_ | FP_, 16, U8, W0 | L1),
	OLD(0x20, 66, "pinsrb", SSE41, RW_ | M_, XMM, GPR, 1, U8, 0), VEXR(0x20, 66, "vpinsrb", AVX, W_ | V_ | M_, XMM, GPR, 1, U8, L0),
	SSE(0x21, 66, "insertps", SSE41, RW_ | M_, 4, U8), VEX(0x21, 66, "vinsertps", AVX, W_ | V_ | M_, 4, U8, L0),
	BYW(OLD, 0x22, 66, "pinsrd", "pinsrq", SSE41, RW_ | M_, XMM, GPR, U8, 0),
	BYW(VEXR, 0x22, 66, "vpinsrd", "vpinsrq", AVX, W_ | V_ | M_, XMM, GPR, U8, L0),
	INSERT128(0x38, "vinserti128", AVX2), EXTRACT128(0x39, "vextracti128", AVX2),
	PACKED(0x40, 66, "dpps", SSE41, FP_, U8),
	SSE(0x41, 66, "dppd", SSE41, RW_ | M_ | AL_ | FP_, 16, U8), VEX(0x41, 66, "vdppd", AVX, W_ | V_ | M_ | FP_, 16, U8, L0),
	INT(0x42, "mpsadbw", SSE41, U8),
	SSE(0x44, 66, "pclmulqdq", PCLMUL, RW_ | M_ | AL_, 16, U8), VEX2(0x44, 66, "vpclmulqdq", PCLMUL, VPCLMUL, W_ | V_ | M_, U8, 0),
	VEX(0x46, 66, "vperm2i128", AVX2, W_ | V_ | M_, 32, U8, W0 | L1),
	BLEND4(0x4a, "vblendvps", AVX, AVX), BLEND4(0x4b, "vblendvpd", AVX, AVX), BLEND4(0x4c, "vpblendvb", AVX, AVX2),
	STRING(0x60, "pcmpestrm"), STRING(0x61, "pcmpestri"), STRING(0x62, "pcmpistrm"), STRING(0x63, "pcmpistri"),
	SSE(0xcc, NONE, "sha1rnds4", SHA, RW_ | M_ | AL_, 16, U8),
	SSE(0xce, 66, "gf2p8affineqb", GFNI, RW_ | M_ | AL_, 16, U8), VEX(0xce, 66, "vgf2p8affineqb", GFNI, W_ | V_ | M_, 0, U8, W1),
	SSE(0xcf, 66, "gf2p8affineinvqb", GFNI, RW_ | M_ | AL_, 16, U8), VEX(0xcf, 66, "vgf2p8affineinvqb", GFNI, W_ | V_ | M_, 0, U8, W1),
	SSE(0xdf, 66, "aeskeygenassist", AES, W_ | M_ | AL_, 16, U8), VEX(0xdf, 66, "vaeskeygenassist", AES, W_ | M_, 16, U8, L0),
};
const unsigned emu_vec_rows_0f3a_count = VC_ARRAY_SIZE(emu_vec_rows_0f3a);
