/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Map 0F38: SSSE3, SSE4, AES, SHA, GFNI, AVX2, F16C and FMA: SDM vol. 2, appendix A, table A-4. */
#include "backend/emu/decode/vec_rows.h"

/* clang-format off */

/* Sign and zero extension; m: bytes that the 128-bit form reads. */
#define EXTEND(o, n, m)                                                                                                \
	SSE(o, 66, n, SSE41, W_ | M_, m, NONE), VEX(o, 66, "v" n, AVX, W_ | M_, m, NONE, L0),                              \
	VEX(o, 66, "v" n, AVX2, W_ | M_, (m) * 2, NONE, L1)
/* Blends by XMM0. */
#define BLENDV(o, n) SSE(o, 66, n, SSE41, RW_ | M_ | X0_ | AL_, 16, NONE)
/* Both from an element in memory and from a register, whose features may differ. */
#define BROADCAST(o, n, fm, fr, m, at)                                                                                 \
	VEX(o, 66, n, fm, W_ | M_ | MEM_, m, NONE, (at) | W0), VEX(o, 66, n, fr, W_ | M_ | REG_, m, NONE, (at) | W0)
/* A pair that W tells apart, in both lengths. */
#define VEXW(o, n0, n1, f, ro) VEX(o, 66, n0, f, ro, 0, NONE, W0), VEX(o, 66, n1, f, ro, 0, NONE, W1)
/* Executed by code of its own. */
#define GATHER(o, n0, n1) VEXW(o, n0, n1, AVX2, RW_ | V_ | VW_ | M_ | MEM_ | SP_)
#define MASKED_LOAD(o, n, f, at) VEX(o, 66, n, f, W_ | V_ | M_ | MEM_ | SP_, 0, NONE, at)
#define MASKED_STORE(o, n, f, at) VEX(o, 66, n, f, R_ | V_ | MW_ | MEM_ | SP_, 0, NONE, at)
#define FMA_PACKED(o, n)                                                                                               \
	VEX(o, 66, n "ps", FMA, RW_ | V_ | M_ | FP_, 0, NONE, W0), VEX(o, 66, n "pd", FMA, RW_ | V_ | M_ | FP_, 0, NONE, W1)
#define FMA_SCALAR(o, n)                                                                                               \
	VEX(o, 66, n "ss", FMA, RW_ | V_ | M_ | FP_, 4, NONE, W0), VEX(o, 66, n "sd", FMA, RW_ | V_ | M_ | FP_, 8, NONE, W1)
#define FMA(o, order)                                                                                                  \
	FMA_PACKED((o) + 0x6, "vfmaddsub" order), FMA_PACKED((o) + 0x7, "vfmsubadd" order),                                \
	FMA_PACKED((o) + 0x8, "vfmadd" order), FMA_SCALAR((o) + 0x9, "vfmadd" order),                                      \
	FMA_PACKED((o) + 0xa, "vfmsub" order), FMA_SCALAR((o) + 0xb, "vfmsub" order),                                      \
	FMA_PACKED((o) + 0xc, "vfnmadd" order), FMA_SCALAR((o) + 0xd, "vfnmadd" order),                                    \
	FMA_PACKED((o) + 0xe, "vfnmsub" order), FMA_SCALAR((o) + 0xf, "vfnmsub" order)
#define SHA(o, n, ro) SSE(o, NONE, n, SHA, RW_ | M_ | AL_ | (ro), 16, NONE)
#define AESR(o, n) SSE(o, 66, n, AES, RW_ | M_ | AL_, 16, NONE), VEX2(o, 66, "v" n, AES, VAES, W_ | V_ | M_, NONE, 0)

const struct emu_vec_row emu_vec_rows_0f38[] = {
	MINT(0x00, "pshufb", SSSE3, SSSE3), MINT(0x01, "phaddw", SSSE3, SSSE3), MINT(0x02, "phaddd", SSSE3, SSSE3),
	MINT(0x03, "phaddsw", SSSE3, SSSE3), MINT(0x04, "pmaddubsw", SSSE3, SSSE3), MINT(0x05, "phsubw", SSSE3, SSSE3),
	MINT(0x06, "phsubd", SSSE3, SSSE3), MINT(0x07, "phsubsw", SSSE3, SSSE3), MINT(0x08, "psignb", SSSE3, SSSE3),
	MINT(0x09, "psignw", SSSE3, SSSE3), MINT(0x0a, "psignd", SSSE3, SSSE3), MINT(0x0b, "pmulhrsw", SSSE3, SSSE3),
	VEX(0x0c, 66, "vpermilps", AVX, W_ | V_ | M_, 0, NONE, W0), VEX(0x0d, 66, "vpermilpd", AVX, W_ | V_ | M_, 0, NONE, W0),
	VEX(0x0e, 66, "vtestps", AVX, R_ | M_ | FL_, 0, NONE, W0), VEX(0x0f, 66, "vtestpd", AVX, R_ | M_ | FL_, 0, NONE, W0),
	BLENDV(0x10, "pblendvb"),
	VEX(0x13, 66, "vcvtph2ps", F16C, W_ | M_ | FP_, 8, NONE, W0 | L0), VEX(0x13, 66, "vcvtph2ps", F16C, W_ | M_ | FP_, 16, NONE, W0 | L1),
	BLENDV(0x14, "blendvps"), BLENDV(0x15, "blendvpd"),
	VEX(0x16, 66, "vpermps", AVX2, W_ | V_ | M_, 32, NONE, W0 | L1),
	SSE(0x17, 66, "ptest", SSE41, R_ | M_ | FL_ | AL_, 16, NONE), VEX(0x17, 66, "vptest", AVX, R_ | M_ | FL_, 0, NONE, 0),
	BROADCAST(0x18, "vbroadcastss", AVX, AVX2, 4, L0), BROADCAST(0x18, "vbroadcastss", AVX, AVX2, 4, L1),
	BROADCAST(0x19, "vbroadcastsd", AVX, AVX2, 8, L1),
	VEX(0x1a, 66, "vbroadcastf128", AVX, W_ | M_ | MEM_, 16, NONE, W0 | L1),
	MINT1(0x1c, "pabsb", SSSE3, SSSE3), MINT1(0x1d, "pabsw", SSSE3, SSSE3), MINT1(0x1e, "pabsd", SSSE3, SSSE3),
	EXTEND(0x20, "pmovsxbw", 8), EXTEND(0x21, "pmovsxbd", 4), EXTEND(0x22, "pmovsxbq", 2),
	EXTEND(0x23, "pmovsxwd", 8), EXTEND(0x24, "pmovsxwq", 4), EXTEND(0x25, "pmovsxdq", 8),
	INT(0x28, "pmuldq", SSE41, NONE), INT(0x29, "pcmpeqq", SSE41, NONE),
	SSE(0x2a, 66, "movntdqa", SSE41, W_ | M_ | AL_ | MEM_, 16, NONE), VEX2(0x2a, 66, "vmovntdqa", AVX, AVX2, W_ | M_ | AL_ | MEM_, NONE, 0),
	INT(0x2b, "packusdw", SSE41, NONE),
	MASKED_LOAD(0x2c, "vmaskmovps", AVX, W0), MASKED_LOAD(0x2d, "vmaskmovpd", AVX, W0),
	MASKED_STORE(0x2e, "vmaskmovps", AVX, W0), MASKED_STORE(0x2f, "vmaskmovpd", AVX, W0),
	EXTEND(0x30, "pmovzxbw", 8), EXTEND(0x31, "pmovzxbd", 4), EXTEND(0x32, "pmovzxbq", 2),
	EXTEND(0x33, "pmovzxwd", 8), EXTEND(0x34, "pmovzxwq", 4), EXTEND(0x35, "pmovzxdq", 8),
	VEX(0x36, 66, "vpermd", AVX2, W_ | V_ | M_, 32, NONE, W0 | L1),
	INT(0x37, "pcmpgtq", SSE42, NONE),
	INT(0x38, "pminsb", SSE41, NONE), INT(0x39, "pminsd", SSE41, NONE), INT(0x3a, "pminuw", SSE41, NONE), INT(0x3b, "pminud", SSE41, NONE),
	INT(0x3c, "pmaxsb", SSE41, NONE), INT(0x3d, "pmaxsd", SSE41, NONE), INT(0x3e, "pmaxuw", SSE41, NONE), INT(0x3f, "pmaxud", SSE41, NONE),
	INT(0x40, "pmulld", SSE41, NONE),
	SSE(0x41, 66, "phminposuw", SSE41, W_ | M_ | AL_, 16, NONE), VEX(0x41, 66, "vphminposuw", AVX, W_ | M_, 16, NONE, L0),
	VEXW(0x45, "vpsrlvd", "vpsrlvq", AVX2, W_ | V_ | M_), VEX(0x46, 66, "vpsravd", AVX2, W_ | V_ | M_, 0, NONE, W0),
	VEXW(0x47, "vpsllvd", "vpsllvq", AVX2, W_ | V_ | M_),
	BROADCAST(0x58, "vpbroadcastd", AVX2, AVX2, 4, L0), BROADCAST(0x58, "vpbroadcastd", AVX2, AVX2, 4, L1),
	BROADCAST(0x59, "vpbroadcastq", AVX2, AVX2, 8, L0), BROADCAST(0x59, "vpbroadcastq", AVX2, AVX2, 8, L1),
	VEX(0x5a, 66, "vbroadcasti128", AVX2, W_ | M_ | MEM_, 16, NONE, W0 | L1),
	BROADCAST(0x78, "vpbroadcastb", AVX2, AVX2, 1, L0), BROADCAST(0x78, "vpbroadcastb", AVX2, AVX2, 1, L1),
	BROADCAST(0x79, "vpbroadcastw", AVX2, AVX2, 2, L0), BROADCAST(0x79, "vpbroadcastw", AVX2, AVX2, 2, L1),
	MASKED_LOAD(0x8c, "vpmaskmovd", AVX2, W0), MASKED_LOAD(0x8c, "vpmaskmovq", AVX2, W1),
	MASKED_STORE(0x8e, "vpmaskmovd", AVX2, W0), MASKED_STORE(0x8e, "vpmaskmovq", AVX2, W1),
	GATHER(0x90, "vpgatherdd", "vpgatherdq"), GATHER(0x91, "vpgatherqd", "vpgatherqq"),
	GATHER(0x92, "vgatherdps", "vgatherdpd"), GATHER(0x93, "vgatherqps", "vgatherqpd"),
	FMA(0x90, "132"), FMA(0xa0, "213"), FMA(0xb0, "231"),
	SHA(0xc8, "sha1nexte", 0), SHA(0xc9, "sha1msg1", 0), SHA(0xca, "sha1msg2", 0), SHA(0xcb, "sha256rnds2", X0_),
	SHA(0xcc, "sha256msg1", 0), SHA(0xcd, "sha256msg2", 0),
	SSE(0xcf, 66, "gf2p8mulb", GFNI, RW_ | M_ | AL_, 16, NONE), VEX(0xcf, 66, "vgf2p8mulb", GFNI, W_ | V_ | M_, 0, NONE, W0),
	SSE(0xdb, 66, "aesimc", AES, W_ | M_ | AL_, 16, NONE), VEX(0xdb, 66, "vaesimc", AES, W_ | M_, 16, NONE, L0),
	AESR(0xdc, "aesenc"), AESR(0xdd, "aesenclast"), AESR(0xde, "aesdec"), AESR(0xdf, "aesdeclast"),
};
const unsigned emu_vec_rows_0f38_count = VC_ARRAY_SIZE(emu_vec_rows_0f38);
