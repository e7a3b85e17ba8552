/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Arithmetic flags: the host executes the guest's own instruction and its flags are taken, those that the manuals leave
 * undefined included.
 *
 * LAHF and SETO take them, as they need no stack (PUSHF would write into a leaf function's red zone) and are faster.
 */
#ifndef VC_EMU_INTERP_FLAGS_H
#define VC_EMU_INTERP_FLAGS_H

#include "backend/emu/interp/interp.h"

/* Behind the instruction, in assembly: AL = OF, AH = the others; touches no flag. The register is "=&a". */
#define FLAGS_TAKE "\n\tseto %%al\n\tlahf"
/* Before it: load CF, or all flags, from operand [in] (RFLAGS layout). Loading all destroys EAX. */
#define FLAGS_LOAD_CF  "btl $0,%[in]\n\t"
#define FLAGS_LOAD_ALL "movl %[in],%%eax\n\trolw $8,%%ax\n\taddb $0x78,%%al\n\tsahf\n\t" /* 8 + 0x78 overflows: OF */

/* What FLAGS_TAKE took, in RFLAGS layout. */
INTERP_INLINE uint32_t flags_of(uint32_t taken)
{
	__asm__("shlb $3,%b0\n\trolw $8,%w0\n\tandl $0x8d5,%k0" : "+q"(taken) : : "cc");
	return taken;
}

/* A condition code of Jcc, SETcc, CMOVcc. */
INTERP_INLINE bool flags_test(uint32_t flags, unsigned condition)
{
	uint32_t sign_differs = (flags >> 4 ^ flags) & VC_FLAG_SF; /* OF is bit 11, SF bit 7 */
	bool t;
	switch (condition >> 1) {
	case 0:
		t = flags & VC_FLAG_OF;
		break;
	case 1:
		t = flags & VC_FLAG_CF;
		break;
	case 2:
		t = flags & VC_FLAG_ZF;
		break;
	case 3:
		t = flags & (VC_FLAG_CF | VC_FLAG_ZF);
		break;
	case 4:
		t = flags & VC_FLAG_SF;
		break;
	case 5:
		t = flags & VC_FLAG_PF;
		break;
	case 6:
		t = sign_differs;
		break;
	default:
		t = sign_differs | (flags & VC_FLAG_ZF);
	}
	return t != (condition & 1);
}
INTERP_INLINE bool interp_condition(const struct emu_vcpu *c, unsigned condition)
{
	return flags_test(c->aflags, condition);
}

#endif
