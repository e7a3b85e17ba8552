/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* x87, SSE and AVX: CR0.TS/EM/MP, CR4.OSFXSR, unmasked exceptions, FXSAVE, XSAVE with its header, XCR0, XINUSE of AVX. */
#include "catch.h"
#define AREA 0x400000
.macro CR0_SET mask
	movq %cr0, %rax
	orq $\mask, %rax
	movq %rax, %cr0
.endm
.macro CR0_CLEAR mask
	movq %cr0, %rax
	andq $~\mask, %rax
	movq %rax, %cr0
.endm
.macro CR4_SET mask
	movq %cr4, %rax
	orq $\mask, %rax
	movq %rax, %cr4
.endm
.macro CR4_CLEAR mask
	movq %cr4, %rax
	andq $~\mask, %rax
	movq %rax, %cr4
.endm
	.globl _start
_start:
	ENTER_PROTECTED
	ENTER_LONG
	CATCH_ALL64
	CR0_SET 0x20 /* NE */
	fninit
	/* ---- TS: #NM for everything, the state untouched ---- */
	fldpi
	movl $0x12345678, %eax
	movd %eax, %xmm3
	CR0_SET 8
	EXPECT64 7, -1, 1, fld1
	EXPECT64 7, -1, 2, movaps %xmm0, %xmm1
	EXPECT64 7, -1, 3, fwait
	EXPECT64 7, -1, 4, fxsave AREA
	CR0_CLEAR 2 /* MP off: FWAIT does not look at TS */
	fwait
	CR0_SET 2
	clts
	movd %xmm3, %eax
	cmpl $0x12345678, %eax
	REQUIRE e, 5
	fstpl AREA
	movabsq $0x400921fb54442d18, %rax
	cmpq %rax, AREA
	REQUIRE e, 6
	/* ---- EM: #NM for x87, #UD for SSE ---- */
	CR0_SET 4
	EXPECT64 7, -1, 7, fld1
	EXPECT64 6, -1, 8, movaps %xmm0, %xmm1
	CR0_CLEAR 4
	CR4_CLEAR 0x200
	EXPECT64 6, -1, 9, movaps %xmm0, %xmm1
	CR4_SET 0x200
	/* ---- x87 exceptions: told at the next waiting instruction ---- */
	fninit
	movw $0x033b, AREA /* ZM clear */
	fldcw AREA
	fld1
	fldz
	fdivrp %st, %st(1)
	EXPECT64 16, -1, 10, fwait
	fnstsw %ax
	testb $4, %al
	REQUIRE nz, 11
	testb $0x80, %al
	REQUIRE nz, 11
	fnclex
	fwait
	fninit
	/* ---- SSE exceptions: #XM, or #UD without OSXMMEXCPT ---- */
	stmxcsr AREA
	cmpl $0x1f80, AREA
	REQUIRE e, 12
	movl $0x1d80, AREA + 4 /* ZM clear */
	ldmxcsr AREA + 4
	movl $0x3f800000, %eax
	movd %eax, %xmm0
	pxor %xmm1, %xmm1
	SKIP_ON_TCG 1f /* never raises it, nor minds reserved bits of MXCSR */
	EXPECT64 19, -1, 13, divss %xmm1, %xmm0
	movd %xmm0, %eax
	cmpl $0x3f800000, %eax
	REQUIRE e, 14
	CR4_CLEAR 0x400
	EXPECT64 6, -1, 15, divss %xmm1, %xmm0
	CR4_SET 0x400
	movl $0x10000, AREA + 4
	EXPECT64 13, 0, 16, ldmxcsr AREA + 4
1:
	movl $0x1f80, AREA
	ldmxcsr AREA
	divss %xmm1, %xmm0
	movd %xmm0, %eax
	cmpl $0x7f800000, %eax
	REQUIRE e, 17
	stmxcsr AREA
	testl $4, AREA
	REQUIRE nz, 18
	/* alignment */
	EXPECT64 13, 0, 19, movaps AREA + 8, %xmm0
	movups AREA + 8, %xmm0
	/* ---- FXSAVE and back ---- */
	fninit
	fld1
	fldpi
	movl $0xcafe, %eax
	movd %eax, %xmm15
	fxsave64 AREA
	cmpw $0x037f, AREA
	REQUIRE e, 20
	cmpb $0xc0, AREA + 4 /* tags: ST0, ST1 are R6, R7 */
	REQUIRE e, 21
	cmpl $0xcafe, AREA + 160 + 15 * 16
	REQUIRE e, 22
	fninit
	pxor %xmm15, %xmm15
	fxrstor64 AREA
	movd %xmm15, %eax
	cmpl $0xcafe, %eax
	REQUIRE e, 23
	fstpl AREA + 512
	movabsq $0x400921fb54442d18, %rax
	cmpq %rax, AREA + 512
	REQUIRE e, 24
	EXPECT64 13, 0, 25, fxsave AREA + 8

	/* ---- XSAVE ---- */
	movl $1, %eax
	cpuid
	btl $26, %ecx
	jnc no_xsave
	movl %ecx, %r12d
	xorl %ecx, %ecx
	EXPECT64 6, -1, 30, xgetbv
	CR4_SET 0x40000
	movl $1, %eax
	cpuid
	btl $27, %ecx
	REQUIRE c, 31
	xorl %ecx, %ecx
	xgetbv
	testl $1, %eax
	REQUIRE nz, 32
	/* XCR0: x87 may not go, AVX not without SSE, nothing unknown */
	xorl %edx, %edx
	movl $2, %eax
	EXPECT64 13, 0, 33, xsetbv
	SKIP_ON_TCG 1f
	movl $5, %eax
	EXPECT64 13, 0, 34, xsetbv
1:	movl $3, %eax
	movl $0x80000000, %edx
	EXPECT64 13, 0, 35, xsetbv
	xorl %edx, %edx
	movl $1, %ecx
	movl $3, %eax
	EXPECT64 13, 0, 36, xsetbv
	xorl %ecx, %ecx
	movl $3, %eax
	xsetbv
	/* only what is asked for is written; XSTATE_BV tells what is in use */
	movl $AREA, %edi
	xorl %eax, %eax
	movl $1024, %ecx
	rep stosb
	movl $0x77, %eax
	movd %eax, %xmm2
	movl $2, %eax
	xorl %edx, %edx
	movl $-1, AREA
	xsave64 AREA
	cmpl $-1, AREA /* FCW: not asked for */
	REQUIRE e, 37
	cmpl $0x77, AREA + 160 + 2 * 16
	REQUIRE e, 38
	testl $2, AREA + 512
	REQUIRE nz, 39
	/* a component whose bit is clear comes back initialised */
	movq $0, AREA + 512
	movl $2, %eax
	xrstor64 AREA
	movd %xmm2, %eax
	testl %eax, %eax
	REQUIRE z, 40
	/* bad headers */
	xorl %edx, %edx
	movl $3, %eax
	SKIP_ON_TCG 1f
	movl $3, %eax
	movq $8, AREA + 512
	EXPECT64 13, 0, 41, xrstor64 AREA
	movq $0, AREA + 512
	movq $1, AREA + 528
	EXPECT64 13, 0, 42, xrstor64 AREA
	movq $0, AREA + 528
1:	EXPECT64 13, 0, 43, xsave64 AREA + 32

	/* ---- AVX ---- */
	btl $28, %r12d
	jnc no_avx
	EXPECT64 6, -1, 50, vpaddd %ymm0, %ymm1, %ymm2
	xorl %ecx, %ecx
	xorl %edx, %edx
	movl $7, %eax
	xsetbv
	movl $0x55, %eax
	vmovd %eax, %xmm4
	vinsertf128 $1, %xmm4, %ymm4, %ymm4
	vmovups %ymm4, AREA + 0x800
	cmpl $0x55, AREA + 0x810
	REQUIRE e, 51
	/* SSE leaves the upper half, VEX.128 clears it */
	movaps %xmm4, %xmm5
	paddd %xmm4, %xmm4
	vmovups %ymm4, AREA + 0x800
	cmpl $0xaa, AREA + 0x800
	REQUIRE e, 52
	cmpl $0x55, AREA + 0x810
	REQUIRE e, 53
	/* XSAVE puts it behind the header, at 576 */
	movl $7, %eax
	movl $0, AREA + 576 + 4 * 16
	xsave64 AREA
	testl $4, AREA + 512
	REQUIRE nz, 54
	cmpl $0x55, AREA + 576 + 4 * 16
	REQUIRE e, 55
	vzeroall
	xrstor64 AREA
	vmovups %ymm4, AREA + 0x800
	cmpl $0x55, AREA + 0x810
	REQUIRE e, 56
	vpaddd %xmm4, %xmm4, %xmm4
	vmovups %ymm4, AREA + 0x800
	cmpl $0, AREA + 0x810
	REQUIRE e, 57
	/* TS for AVX */
	SKIP_ON_TCG 1f /* forgets it at times */
	CR0_SET 8
	EXPECT64 7, -1, 58, vmovaps %ymm0, %ymm1
	EXPECT64 7, -1, 59, xsave64 AREA
	clts
1:
	/* AVX is off again with XCR0 */
	movl $3, %eax
	xorl %edx, %edx
	xorl %ecx, %ecx
	xsetbv
	EXPECT64 6, -1, 60, vpaddd %xmm0, %xmm1, %xmm2
no_avx:
no_xsave:
	PASS
	CATCHERS64
	TABLES
