/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* MMX, SSE and AVX instructions of map 0F: SDM vol. 2, appendix A, table A-3; SSE4A: AMD APM vol. 4. */
#include "backend/emu/decode/vec_rows.h"

/* clang-format off */

/* Loads and stores of a whole register, o and o + 1 or the like. */
#define LOAD(o, p, n, f, ro)  SSE(o, p, n, f, W_ | M_ | (ro), 16, NONE), VEX(o, p, "v" n, AVX, W_ | M_ | (ro), 0, NONE, 0)
#define STORE(o, p, n, f, ro) SSE(o, p, n, f, R_ | MW_ | (ro), 16, NONE), VEX(o, p, "v" n, AVX, R_ | MW_ | (ro), 0, NONE, 0)
/* Half of a register from memory, to memory. */
#define HALF_LOAD(o, p, n, f)                                                                                          \
	SSE(o, p, n, f, RW_ | M_ | MEM_, 8, NONE), VEX(o, p, "v" n, AVX, W_ | V_ | M_ | MEM_, 8, NONE, L0)
#define HALF_STORE(o, p, n, f)                                                                                         \
	SSE(o, p, n, f, R_ | MW_ | MEM_, 8, NONE), VEX(o, p, "v" n, AVX, R_ | MW_ | MEM_, 8, NONE, L0)
/* Scalar moves: memory forms clear or leave the rest, register forms merge. */
#define SCALAR_LOAD(o, p, n, f, m)                                                                                     \
	SSE(o, p, n, f, W_ | M_ | MEM_, m, NONE), SSE(o, p, n, f, RW_ | M_ | REG_, m, NONE),                               \
	VEX(o, p, "v" n, AVX, W_ | M_ | MEM_, m, NONE, 0), VEX(o, p, "v" n, AVX, W_ | V_ | M_ | REG_, m, NONE, 0)
#define SCALAR_STORE(o, p, n, f, m)                                                                                    \
	SSE(o, p, n, f, R_ | MW_ | MEM_, m, NONE), SSE(o, p, n, f, R_ | M_ | MW_ | REG_, m, NONE),                         \
	VEX(o, p, "v" n, AVX, R_ | MW_ | MEM_, m, NONE, 0), VEX(o, p, "v" n, AVX, R_ | V_ | MW_ | REG_, m, NONE, 0)
/* Sum of comparison flags: ucomiss. */
#define COMPARE(o, p, n, f, m)                                                                                         \
	SSE(o, p, n, f, R_ | M_ | FL_ | FP_, m, NONE), VEX(o, p, "v" n, AVX, R_ | M_ | FL_ | FP_, m, NONE, 0)
/* Memory of half the vector's length: cvtps2pd, cvtdq2pd. */
#define WIDEN(o, p, n, f, ro)                                                                                          \
	SSE(o, p, n, f, W_ | M_ | (ro), 8, NONE), VEX(o, p, "v" n, AVX, W_ | M_ | (ro), 8, NONE, L0),                      \
	VEX(o, p, "v" n, AVX, W_ | M_ | (ro), 16, NONE, L1)
/* General register from scalar, by W: cvttss2si. */
#define TO_GPR(o, p, n, f, m)                                                                                          \
	OLD(o, p, n, f, W_ | M_ | FP_, GPR, XMM, m, NONE, 0), VEXR(o, p, "v" n, AVX, W_ | M_ | FP_, GPR, XMM, m, NONE, 0)

const struct emu_vec_row emu_vec_rows_0f[] = {
	LOAD(0x10, NONE, "movups", SSE, 0), LOAD(0x10, 66, "movupd", SSE2, 0),
	SCALAR_LOAD(0x10, F3, "movss", SSE, 4), SCALAR_LOAD(0x10, F2, "movsd", SSE2, 8),
	STORE(0x11, NONE, "movups", SSE, 0), STORE(0x11, 66, "movupd", SSE2, 0),
	SCALAR_STORE(0x11, F3, "movss", SSE, 4), SCALAR_STORE(0x11, F2, "movsd", SSE2, 8),
	HALF_LOAD(0x12, NONE, "movlps", SSE), HALF_LOAD(0x12, 66, "movlpd", SSE2),
	SSE(0x12, NONE, "movhlps", SSE, RW_ | M_ | REG_, 16, NONE),
	VEX(0x12, NONE, "vmovhlps", AVX, W_ | V_ | M_ | REG_, 16, NONE, L0),
	UNARY(0x12, F3, "movsldup", SSE3, 0, NONE),
	SSE(0x12, F2, "movddup", SSE3, W_ | M_, 8, NONE),
	VEX(0x12, F2, "vmovddup", AVX, W_ | M_, 8, NONE, L0), VEX(0x12, F2, "vmovddup", AVX, W_ | M_, 32, NONE, L1),
	HALF_STORE(0x13, NONE, "movlps", SSE), HALF_STORE(0x13, 66, "movlpd", SSE2),
	FLOAT2(0x14, "unpckl", 0, NONE), FLOAT2(0x15, "unpckh", 0, NONE),
	HALF_LOAD(0x16, NONE, "movhps", SSE), HALF_LOAD(0x16, 66, "movhpd", SSE2),
	SSE(0x16, NONE, "movlhps", SSE, RW_ | M_ | REG_, 16, NONE),
	VEX(0x16, NONE, "vmovlhps", AVX, W_ | V_ | M_ | REG_, 16, NONE, L0),
	UNARY(0x16, F3, "movshdup", SSE3, 0, NONE),
	HALF_STORE(0x17, NONE, "movhps", SSE), HALF_STORE(0x17, 66, "movhpd", SSE2),
	LOAD(0x28, NONE, "movaps", SSE, AL_), LOAD(0x28, 66, "movapd", SSE2, AL_),
	STORE(0x29, NONE, "movaps", SSE, AL_), STORE(0x29, 66, "movapd", SSE2, AL_),
	/* only the register forms enter MMX state */
	OLD(0x2a, NONE, "cvtpi2ps", SSE, RW_ | M_ | FP_ | REG_ | MX_, XMM, MMX, 8, NONE, 0),
	OLD(0x2a, NONE, "cvtpi2ps", SSE, RW_ | M_ | FP_ | MEM_, XMM, XMM, 8, NONE, 0),
	OLD(0x2a, 66, "cvtpi2pd", SSE2, W_ | M_ | REG_ | MX_, XMM, MMX, 8, NONE, 0),
	OLD(0x2a, 66, "cvtpi2pd", SSE2, W_ | M_ | MEM_, XMM, XMM, 8, NONE, 0),
	BYW(OLD, 0x2a, F3, "cvtsi2ss", "cvtsi2ss", SSE, RW_ | M_ | FP_, XMM, GPR, NONE, 0),
	BYW(OLD, 0x2a, F2, "cvtsi2sd", "cvtsi2sd", SSE2, RW_ | M_ | FP_, XMM, GPR, NONE, 0),
	BYW(VEXR, 0x2a, F3, "vcvtsi2ss", "vcvtsi2ss", AVX, W_ | V_ | M_ | FP_, XMM, GPR, NONE, 0),
	BYW(VEXR, 0x2a, F2, "vcvtsi2sd", "vcvtsi2sd", AVX, W_ | V_ | M_ | FP_, XMM, GPR, NONE, 0),
	STORE(0x2b, NONE, "movntps", SSE, AL_ | MEM_), STORE(0x2b, 66, "movntpd", SSE2, AL_ | MEM_),
	SSE(0x2b, F3, "movntss", SSE4A, R_ | MW_ | MEM_, 4, NONE), SSE(0x2b, F2, "movntsd", SSE4A, R_ | MW_ | MEM_, 8, NONE),
	OLD(0x2c, NONE, "cvttps2pi", SSE, W_ | M_ | FP_ | MX_, MMX, XMM, 8, NONE, 0),
	OLD(0x2c, 66, "cvttpd2pi", SSE2, W_ | M_ | FP_ | MX_ | AL_, MMX, XMM, 16, NONE, 0),
	TO_GPR(0x2c, F3, "cvttss2si", SSE, 4), TO_GPR(0x2c, F2, "cvttsd2si", SSE2, 8),
	OLD(0x2d, NONE, "cvtps2pi", SSE, W_ | M_ | FP_ | MX_, MMX, XMM, 8, NONE, 0),
	OLD(0x2d, 66, "cvtpd2pi", SSE2, W_ | M_ | FP_ | MX_ | AL_, MMX, XMM, 16, NONE, 0),
	TO_GPR(0x2d, F3, "cvtss2si", SSE, 4), TO_GPR(0x2d, F2, "cvtsd2si", SSE2, 8),
	COMPARE(0x2e, NONE, "ucomiss", SSE, 4), COMPARE(0x2e, 66, "ucomisd", SSE2, 8),
	COMPARE(0x2f, NONE, "comiss", SSE, 4), COMPARE(0x2f, 66, "comisd", SSE2, 8),
	OLD(0x50, NONE, "movmskps", SSE, W_ | M_ | REG_, GPR, XMM, 0, NONE, 0),
	OLD(0x50, 66, "movmskpd", SSE2, W_ | M_ | REG_, GPR, XMM, 0, NONE, 0),
	VEXR(0x50, NONE, "vmovmskps", AVX, W_ | M_ | REG_, GPR, XMM, 0, NONE, 0),
	VEXR(0x50, 66, "vmovmskpd", AVX, W_ | M_ | REG_, GPR, XMM, 0, NONE, 0),
	UNARY(0x51, NONE, "sqrtps", SSE, FP_, NONE), UNARY(0x51, 66, "sqrtpd", SSE2, FP_, NONE),
	SCALAR(0x51, F3, "sqrtss", SSE, FP_, 4, NONE), SCALAR(0x51, F2, "sqrtsd", SSE2, FP_, 8, NONE),
	UNARY(0x52, NONE, "rsqrtps", SSE, 0, NONE), SCALAR(0x52, F3, "rsqrtss", SSE, 0, 4, NONE),
	UNARY(0x53, NONE, "rcpps", SSE, 0, NONE), SCALAR(0x53, F3, "rcpss", SSE, 0, 4, NONE),
	FLOAT2(0x54, "and", 0, NONE), FLOAT2(0x55, "andn", 0, NONE), FLOAT2(0x56, "or", 0, NONE), FLOAT2(0x57, "xor", 0, NONE),
	FLOAT4(0x58, "add", NONE), FLOAT4(0x59, "mul", NONE),
	WIDEN(0x5a, NONE, "cvtps2pd", SSE2, FP_), UNARY(0x5a, 66, "cvtpd2ps", SSE2, FP_, NONE),
	SCALAR(0x5a, F3, "cvtss2sd", SSE2, FP_, 4, NONE), SCALAR(0x5a, F2, "cvtsd2ss", SSE2, FP_, 8, NONE),
	UNARY(0x5b, NONE, "cvtdq2ps", SSE2, FP_, NONE), UNARY(0x5b, 66, "cvtps2dq", SSE2, FP_, NONE),
	UNARY(0x5b, F3, "cvttps2dq", SSE2, FP_, NONE),
	FLOAT4(0x5c, "sub", NONE), FLOAT4(0x5d, "min", NONE), FLOAT4(0x5e, "div", NONE), FLOAT4(0x5f, "max", NONE),
	/* the low unpacks of MMX read 32 bits of memory */
	MMX(0x60, "punpcklbw", MMX, RW_ | M_, 4, NONE), INT(0x60, "punpcklbw", SSE2, NONE),
	MMX(0x61, "punpcklwd", MMX, RW_ | M_, 4, NONE), INT(0x61, "punpcklwd", SSE2, NONE),
	MMX(0x62, "punpckldq", MMX, RW_ | M_, 4, NONE), INT(0x62, "punpckldq", SSE2, NONE),
	MINT(0x63, "packsswb", MMX, SSE2), MINT(0x64, "pcmpgtb", MMX, SSE2), MINT(0x65, "pcmpgtw", MMX, SSE2),
	MINT(0x66, "pcmpgtd", MMX, SSE2), MINT(0x67, "packuswb", MMX, SSE2), MINT(0x68, "punpckhbw", MMX, SSE2),
	MINT(0x69, "punpckhwd", MMX, SSE2), MINT(0x6a, "punpckhdq", MMX, SSE2), MINT(0x6b, "packssdw", MMX, SSE2),
	INT(0x6c, "punpcklqdq", SSE2, NONE), INT(0x6d, "punpckhqdq", SSE2, NONE),
	BYW(OLD, 0x6e, NONE, "movd", "movq", MMX, W_ | M_ | MX_, MMX, GPR, NONE, 0),
	BYW(OLD, 0x6e, 66, "movd", "movq", SSE2, W_ | M_, XMM, GPR, NONE, 0),
	BYW(VEXR, 0x6e, 66, "vmovd", "vmovq", AVX, W_ | M_, XMM, GPR, NONE, L0),
	MMX(0x6f, "movq", MMX, W_ | M_, 8, NONE),
	LOAD(0x6f, 66, "movdqa", SSE2, AL_), LOAD(0x6f, F3, "movdqu", SSE2, 0),
	MMX(0x70, "pshufw", SSE, W_ | M_, 8, U8), INT1(0x70, "pshufd", SSE2, U8),
	SSE(0x70, F3, "pshufhw", SSE2, W_ | M_ | AL_, 16, U8), VEX2(0x70, F3, "vpshufhw", AVX, AVX2, W_ | M_, U8, 0),
	SSE(0x70, F2, "pshuflw", SSE2, W_ | M_ | AL_, 16, U8), VEX2(0x70, F2, "vpshuflw", AVX, AVX2, W_ | M_, U8, 0),
	SHIFTI(0x71, 2, "psrlw"), SHIFTI(0x71, 4, "psraw"), SHIFTI(0x71, 6, "psllw"),
	SHIFTI(0x72, 2, "psrld"), SHIFTI(0x72, 4, "psrad"), SHIFTI(0x72, 6, "pslld"),
	SHIFTI(0x73, 2, "psrlq"), SHIFTI_XMM(0x73, 3, "psrldq"), SHIFTI(0x73, 6, "psllq"), SHIFTI_XMM(0x73, 7, "pslldq"),
	MINT(0x74, "pcmpeqb", MMX, SSE2), MINT(0x75, "pcmpeqw", MMX, SSE2), MINT(0x76, "pcmpeqd", MMX, SSE2),
	OLD(0x77, NONE, "emms", MMX, SP_ | REG_, NONE, NONE, 0, NONE, 0),
	VEXR(0x77, NONE, "vzeroupper", AVX, SP_ | REG_, NONE, NONE, 0, NONE, L0),
	VEXR(0x77, NONE, "vzeroall", AVX, SP_ | REG_, NONE, NONE, 0, NONE, L1),
	ROW_(0x78, 66, 0, "extrq", SSE4A, M_ | MW_ | REG_, NONE, XMM, 16, 8_8, 0),
	SSE(0x78, F2, "insertq", SSE4A, RW_ | M_ | REG_, 16, 8_8),
	SSE(0x79, 66, "extrq", SSE4A, RW_ | M_ | REG_, 16, NONE), SSE(0x79, F2, "insertq", SSE4A, RW_ | M_ | REG_, 16, NONE),
	PACKED(0x7c, 66, "haddpd", SSE3, FP_, NONE), PACKED(0x7c, F2, "haddps", SSE3, FP_, NONE),
	PACKED(0x7d, 66, "hsubpd", SSE3, FP_, NONE), PACKED(0x7d, F2, "hsubps", SSE3, FP_, NONE),
	BYW(OLD, 0x7e, NONE, "movd", "movq", MMX, R_ | MW_ | MX_, MMX, GPR, NONE, 0),
	BYW(OLD, 0x7e, 66, "movd", "movq", SSE2, R_ | MW_, XMM, GPR, NONE, 0),
	BYW(VEXR, 0x7e, 66, "vmovd", "vmovq", AVX, R_ | MW_, XMM, GPR, NONE, L0),
	SSE(0x7e, F3, "movq", SSE2, W_ | M_, 8, NONE), VEX(0x7e, F3, "vmovq", AVX, W_ | M_, 8, NONE, L0),
	MMX(0x7f, "movq", MMX, R_ | MW_, 8, NONE),
	STORE(0x7f, 66, "movdqa", SSE2, AL_), STORE(0x7f, F3, "movdqu", SSE2, 0),
	/* the only VEX rows of group 15 */
	{ .opcode = 0xae, .pp = EMU_PP_NONE, .digit = 2, .desc = { .name = "vldmxcsr", .op = EMU_LDMXCSR, .enc = EMU_ENC_M, .feature = VC_F_AVX,
		.attr = EMU_A_VEX | L0 | EMU_A_VEX_NOVVVV | EMU_A_NO16, .vec = { .roles = M_ | MEM_, .mem = 4 } } },
	{ .opcode = 0xae, .pp = EMU_PP_NONE, .digit = 3, .desc = { .name = "vstmxcsr", .op = EMU_STMXCSR, .enc = EMU_ENC_M, .feature = VC_F_AVX,
		.attr = EMU_A_VEX | L0 | EMU_A_VEX_NOVVVV | EMU_A_NO16, .vec = { .roles = MW_ | MEM_, .mem = 4 } } },
	FLOAT4(0xc2, "cmp", U8),
	OLD(0xc4, NONE, "pinsrw", SSE, RW_ | M_ | MX_, MMX, GPR, 2, U8, 0), OLD(0xc4, 66, "pinsrw", SSE2, RW_ | M_, XMM, GPR, 2, U8, 0),
	VEXR(0xc4, 66, "vpinsrw", AVX, W_ | V_ | M_, XMM, GPR, 2, U8, L0),
	OLD(0xc5, NONE, "pextrw", SSE, W_ | M_ | REG_ | MX_, GPR, MMX, 8, U8, 0),
	OLD(0xc5, 66, "pextrw", SSE2, W_ | M_ | REG_, GPR, XMM, 16, U8, 0),
	VEXR(0xc5, 66, "vpextrw", AVX, W_ | M_ | REG_, GPR, XMM, 16, U8, L0),
	FLOAT2(0xc6, "shuf", 0, U8),
	PACKED(0xd0, 66, "addsubpd", SSE3, FP_, NONE), PACKED(0xd0, F2, "addsubps", SSE3, FP_, NONE),
	SHIFT(0xd1, "psrlw"), SHIFT(0xd2, "psrld"), SHIFT(0xd3, "psrlq"),
	MINT(0xd4, "paddq", SSE2, SSE2), MINT(0xd5, "pmullw", MMX, SSE2),
	SSE(0xd6, 66, "movq", SSE2, R_ | MW_, 8, NONE), VEX(0xd6, 66, "vmovq", AVX, R_ | MW_, 8, NONE, L0),
	OLD(0xd6, F3, "movq2dq", SSE2, W_ | M_ | REG_ | MX_, XMM, MMX, 8, NONE, 0),
	OLD(0xd6, F2, "movdq2q", SSE2, W_ | M_ | REG_ | MX_, MMX, XMM, 8, NONE, 0),
	OLD(0xd7, NONE, "pmovmskb", SSE, W_ | M_ | REG_ | MX_, GPR, MMX, 8, NONE, 0),
	OLD(0xd7, 66, "pmovmskb", SSE2, W_ | M_ | REG_, GPR, XMM, 16, NONE, 0),
	VEXR(0xd7, 66, "vpmovmskb", AVX, W_ | M_ | REG_, GPR, XMM, 16, NONE, L0),
	VEXR(0xd7, 66, "vpmovmskb", AVX2, W_ | M_ | REG_, GPR, XMM, 32, NONE, L1),
	MINT(0xd8, "psubusb", MMX, SSE2), MINT(0xd9, "psubusw", MMX, SSE2), MINT(0xda, "pminub", SSE, SSE2), MINT(0xdb, "pand", MMX, SSE2),
	MINT(0xdc, "paddusb", MMX, SSE2), MINT(0xdd, "paddusw", MMX, SSE2), MINT(0xde, "pmaxub", SSE, SSE2), MINT(0xdf, "pandn", MMX, SSE2),
	MINT(0xe0, "pavgb", SSE, SSE2), SHIFT(0xe1, "psraw"), SHIFT(0xe2, "psrad"), MINT(0xe3, "pavgw", SSE, SSE2),
	MINT(0xe4, "pmulhuw", SSE, SSE2), MINT(0xe5, "pmulhw", MMX, SSE2),
	UNARY(0xe6, 66, "cvttpd2dq", SSE2, FP_, NONE), WIDEN(0xe6, F3, "cvtdq2pd", SSE2, 0), UNARY(0xe6, F2, "cvtpd2dq", SSE2, FP_, NONE),
	MMX(0xe7, "movntq", SSE, R_ | MW_ | MEM_, 8, NONE), STORE(0xe7, 66, "movntdq", SSE2, AL_ | MEM_),
	MINT(0xe8, "psubsb", MMX, SSE2), MINT(0xe9, "psubsw", MMX, SSE2), MINT(0xea, "pminsw", SSE, SSE2), MINT(0xeb, "por", MMX, SSE2),
	MINT(0xec, "paddsb", MMX, SSE2), MINT(0xed, "paddsw", MMX, SSE2), MINT(0xee, "pmaxsw", SSE, SSE2), MINT(0xef, "pxor", MMX, SSE2),
	SSE(0xf0, F2, "lddqu", SSE3, W_ | M_ | MEM_, 16, NONE), VEX(0xf0, F2, "vlddqu", AVX, W_ | M_ | MEM_, 0, NONE, 0),
	SHIFT(0xf1, "psllw"), SHIFT(0xf2, "pslld"), SHIFT(0xf3, "psllq"),
	MINT(0xf4, "pmuludq", SSE2, SSE2), MINT(0xf5, "pmaddwd", MMX, SSE2), MINT(0xf6, "psadbw", SSE, SSE2),
	OLD(0xf7, NONE, "maskmovq", SSE, R_ | M_ | REG_ | MX_ | SP_, MMX, MMX, 8, NONE, 0),
	OLD(0xf7, 66, "maskmovdqu", SSE2, R_ | M_ | REG_ | SP_, XMM, XMM, 16, NONE, 0),
	VEX(0xf7, 66, "vmaskmovdqu", AVX, R_ | M_ | REG_ | SP_, 16, NONE, L0),
	MINT(0xf8, "psubb", MMX, SSE2), MINT(0xf9, "psubw", MMX, SSE2), MINT(0xfa, "psubd", MMX, SSE2), MINT(0xfb, "psubq", SSE2, SSE2),
	MINT(0xfc, "paddb", MMX, SSE2), MINT(0xfd, "paddw", MMX, SSE2), MINT(0xfe, "paddd", MMX, SSE2),
};
const unsigned emu_vec_rows_0f_count = VC_ARRAY_SIZE(emu_vec_rows_0f);
