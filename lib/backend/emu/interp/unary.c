/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* INC DEC NEG NOT, XADD, CMPXCHG, XCHG: operations on one r/m operand that LOCK may precede. */
#include "backend/emu/interp/flags.h"

#define WIDTHS(M, ...) M(__VA_ARGS__, 8) M(__VA_ARGS__, 16) M(__VA_ARGS__, 32) M(__VA_ARGS__, 64)
#define KINDS(M, ...)   \
	M(__VA_ARGS__, ANY) \
	M(__VA_ARGS__, REG) M(__VA_ARGS__, BD) M(__VA_ARGS__, BIS) M(__VA_ARGS__, A32) M(__VA_ARGS__, LOCK)

/* INC and DEC keep CF: it is loaded before, and taken again with the others. NOT keeps all flags. */
#define UNARY_VALUE(op, before, bits)                                                                \
	INTERP_INLINE uint##bits##_t op##_value##bits(struct emu_vcpu *c, uint##bits##_t a)              \
	{                                                                                                \
		uint32_t f;                                                                                  \
		__asm__(before #op " %[a]" FLAGS_TAKE : [a] "+r"(a), "=&a"(f) : [in] "m"(c->aflags) : "cc"); \
		c->aflags = flags_of(f);                                                                     \
		return a;                                                                                    \
	}                                                                                                \
	INTERP_INLINE void op##_locked##bits(struct emu_vcpu *c, void *p)                                \
	{                                                                                                \
		uint32_t f;                                                                                  \
		__asm__ volatile(before "lock " #op UNARY_SUFFIX_##bits " %[m]" FLAGS_TAKE                   \
		                 : [m] "+m"(*(emu_mem##bits *)p), "=&a"(f)                                   \
		                 : [in] "m"(c->aflags)                                                       \
		                 : "cc", "memory");                                                          \
		c->aflags = flags_of(f);                                                                     \
	}
#define UNARY_SUFFIX_8  "b"
#define UNARY_SUFFIX_16 "w"
#define UNARY_SUFFIX_32 "l"
#define UNARY_SUFFIX_64 "q"
WIDTHS(UNARY_VALUE, inc, FLAGS_LOAD_CF)
WIDTHS(UNARY_VALUE, dec, FLAGS_LOAD_CF)
WIDTHS(UNARY_VALUE, neg, "")
#define NOT_VALUE(op, bits)                                                                              \
	INTERP_INLINE uint##bits##_t not_value##bits(struct emu_vcpu *c, uint##bits##_t a)                   \
	{                                                                                                    \
		return (uint##bits##_t) ~a;                                                                      \
	}                                                                                                    \
	INTERP_INLINE void not_locked##bits(struct emu_vcpu *c, void *p)                                     \
	{                                                                                                    \
		__asm__ volatile("lock not" UNARY_SUFFIX_##bits " %0" : "+m"(*(emu_mem##bits *)p) : : "memory"); \
	}
WIDTHS(NOT_VALUE, not )

#define UNARY(op, bits, kind)                                                                   \
	INTERP_HANDLER(op##_##bits##_##kind)                                                        \
	{                                                                                           \
		struct interp_rmw m;                                                                    \
		uint64_t v;                                                                             \
		if (!interp_rmw_begin(c, i, INTERP_##kind, bits, &m, &v))                               \
			return op##_##bits##_ANY(c, i);                                                     \
		if (INTERP_##kind == INTERP_LOCK && m.p)                                                \
			op##_locked##bits(c, m.p);                                                          \
		else                                                                                    \
			interp_rmw_end(c, INTERP_##kind, bits, &m, op##_value##bits(c, (uint##bits##_t)v)); \
		INTERP_NEXT;                                                                            \
	}
#define UNARY_KINDS(op, bits) KINDS(UNARY, op, bits)
WIDTHS(UNARY_KINDS, inc)
WIDTHS(UNARY_KINDS, dec)
WIDTHS(UNARY_KINDS, neg)
WIDTHS(UNARY_KINDS, not )

/*
 * XADD: r/m gets the sum, reg the old r/m. With two registers that are the same one the sum wins: it is written last.
 * XCHG with memory is always atomic.
 */
#define XADD(bits, kind)                                                                              \
	INTERP_HANDLER(xadd_##bits##_##kind)                                                              \
	{                                                                                                 \
		struct interp_rmw m;                                                                          \
		uint64_t old;                                                                                 \
		uint##bits##_t v = (uint##bits##_t)interp_get(c, i->reg, bits);                               \
		uint32_t f;                                                                                   \
		interp_rmw_begin(c, i, INTERP_##kind, bits, &m, &old);                                        \
		if (INTERP_##kind == INTERP_LOCK && m.p) {                                                    \
			__asm__ volatile("lock xadd %[v],%[m]" FLAGS_TAKE                                         \
			                 : [v] "+r"(v), [m] "+m"(*(emu_mem##bits *)m.p), "=&a"(f)                 \
			                 :                                                                        \
			                 : "cc", "memory");                                                       \
			interp_set(c, i->reg, bits, v);                                                           \
		} else {                                                                                      \
			uint##bits##_t sum = (uint##bits##_t)old;                                                 \
			__asm__("xadd %[v],%[sum]" FLAGS_TAKE : [v] "+r"(v), [sum] "+r"(sum), "=&a"(f) : : "cc"); \
			interp_set(c, i->reg, bits, v);                                                           \
			interp_rmw_end(c, INTERP_##kind, bits, &m, sum);                                          \
		}                                                                                             \
		c->aflags = flags_of(f);                                                                      \
		INTERP_NEXT;                                                                                  \
	}
#define XCHG(bits, kind)                                                                        \
	INTERP_HANDLER(xchg_##bits##_##kind)                                                        \
	{                                                                                           \
		struct interp_rmw m;                                                                    \
		uint64_t old;                                                                           \
		uint##bits##_t v = (uint##bits##_t)interp_get(c, i->reg, bits);                         \
		interp_rmw_begin(c, i, INTERP_##kind, bits, &m, &old);                                  \
		if (INTERP_##kind == INTERP_LOCK && m.p)                                                \
			__asm__ volatile("xchg %0,%1" : "+r"(v), "+m"(*(emu_mem##bits *)m.p) : : "memory"); \
		else {                                                                                  \
			interp_rmw_end(c, INTERP_##kind, bits, &m, v);                                      \
			v = (uint##bits##_t)old;                                                            \
		}                                                                                       \
		interp_set(c, i->reg, bits, v);                                                         \
		INTERP_NEXT;                                                                            \
	}
/*
 * CMPXCHG always writes memory (SDM): the old value back when it differs. Of registers only the one that gets a new
 * value is written.
 */
#define CMPXCHG(bits, kind)                                                                                     \
	INTERP_HANDLER(cmpxchg_##bits##_##kind)                                                                     \
	{                                                                                                           \
		struct interp_rmw m;                                                                                    \
		uint64_t old;                                                                                           \
		uint##bits##_t acc = (uint##bits##_t)c->s.gpr[VC_RAX], v = (uint##bits##_t)interp_get(c, i->reg, bits); \
		uint32_t f;                                                                                             \
		interp_rmw_begin(c, i, INTERP_##kind, bits, &m, &old);                                                  \
		if (INTERP_##kind == INTERP_LOCK && m.p) {                                                              \
			CMPXCHG_ASM("lock ", bits, "+m", *(emu_mem##bits *)m.p);                                            \
		} else {                                                                                                \
			uint##bits##_t d = (uint##bits##_t)old;                                                             \
			CMPXCHG_ASM("", bits, "+r", d);                                                                     \
			if (INTERP_##kind != INTERP_REG || f & VC_FLAG_ZF)                                                  \
				interp_rmw_end(c, INTERP_##kind, bits, &m, d);                                                  \
		}                                                                                                       \
		c->aflags = f;                                                                                          \
		if (!(f & VC_FLAG_ZF))                                                                                  \
			interp_set(c, VC_RAX, bits, acc);                                                                   \
		INTERP_NEXT;                                                                                            \
	}
/* RAX is the accumulator, so the flags are taken into it behind a copy. */
#define CMPXCHG_ASM(lock, bits, constraint, destination)                               \
	do {                                                                               \
		uint64_t a_ = acc, kept_;                                                      \
		__asm__ volatile(lock "cmpxchg %[v],%[d]\n\tmovq %%rax,%[kept]" FLAGS_TAKE     \
		                 : "+&a"(a_), [d] constraint(destination), [kept] "=&r"(kept_) \
		                 : [v] "r"(v)                                                  \
		                 : "cc", "memory");                                            \
		acc = (uint##bits##_t)kept_;                                                   \
		f = flags_of((uint32_t)a_);                                                    \
	} while (0)

#define EXCHANGES(M, kind) M(8, kind) M(16, kind) M(32, kind) M(64, kind)
EXCHANGES(XADD, REG)
EXCHANGES(XADD, ANY)
EXCHANGES(XADD, LOCK)
EXCHANGES(XCHG, REG)
EXCHANGES(XCHG, LOCK)
EXCHANGES(CMPXCHG, REG)
EXCHANGES(CMPXCHG, ANY)
EXCHANGES(CMPXCHG, LOCK)

#define UNARY_ROW(op, bits)                                                                                    \
	{                                                                                                          \
		[INTERP_REG] = op##_##bits##_REG, [INTERP_BD] = op##_##bits##_BD, [INTERP_BIS] = op##_##bits##_BIS,    \
		[INTERP_A32] = op##_##bits##_A32, [INTERP_ANY] = op##_##bits##_ANY, [INTERP_LOCK] = op##_##bits##_LOCK \
	}
#define UNARY_ROWS(op)                                                            \
	{                                                                             \
		UNARY_ROW(op, 8), UNARY_ROW(op, 16), UNARY_ROW(op, 32), UNARY_ROW(op, 64) \
	}
#define EXCHANGE_ROW(op, bits, any)                                                                                \
	{                                                                                                              \
		[INTERP_REG] = op##_##bits##_REG, [INTERP_BD] = op##_##bits##_##any, [INTERP_BIS] = op##_##bits##_##any,   \
		[INTERP_A32] = op##_##bits##_##any, [INTERP_ANY] = op##_##bits##_##any, [INTERP_LOCK] = op##_##bits##_LOCK \
	}
#define EXCHANGE_ROWS(op, any)                                                                                    \
	{                                                                                                             \
		EXCHANGE_ROW(op, 8, any), EXCHANGE_ROW(op, 16, any), EXCHANGE_ROW(op, 32, any), EXCHANGE_ROW(op, 64, any) \
	}

interp_fn interp_select_unary(const struct emu_insn *n, enum interp_kind kind)
{
	static const interp_fn inc[4][INTERP_KINDS] = UNARY_ROWS(inc), dec[4][INTERP_KINDS] = UNARY_ROWS(dec),
	                       neg[4][INTERP_KINDS] = UNARY_ROWS(neg), not [4][INTERP_KINDS] = UNARY_ROWS(not ),
	                       xadd[4][INTERP_KINDS] = EXCHANGE_ROWS(xadd, ANY),
	                       cmpxchg[4][INTERP_KINDS] = EXCHANGE_ROWS(cmpxchg, ANY),
	                       xchg[4][INTERP_KINDS] = EXCHANGE_ROWS(xchg, LOCK);
	unsigned width = (unsigned)__builtin_ctz(n->opsize);
	switch (n->op) {
	case EMU_INC:
		return inc[width][kind];
	case EMU_DEC:
		return dec[width][kind];
	case EMU_NEG:
		return neg[width][kind];
	case EMU_NOT:
		return not [width][kind];
	case EMU_XADD:
		return xadd[width][kind];
	case EMU_CMPXCHG:
		return cmpxchg[width][kind];
	case EMU_XCHG:
		return xchg[width][kind];
	default:
		return NULL;
	}
}
