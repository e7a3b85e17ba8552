/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "debug/regs.h"

#include "core/error.h"
#include "core/util.h"

enum kind {
	PLAIN,    /* bytes of the state */
	SELECTOR, /* of a segment register */
	X87,      /* PLAIN, of the x87 component of the XSAVE area */
	X87_TAGS, /* two bits a register; the area has one */
	XMM,      /* PLAIN, of the SSE component */
	YMM_HIGH, /* PLAIN, of the AVX component */
};

/* clang-format off */
#define AT(field) offsetof(struct vc_cpu_state, field)
#define GENERAL(name, number, type) {name, type, VC_GDB_CORE, PLAIN, 8, 8, AT(gpr) + 8 * (number)}
#define SEGMENT(name, number) {name, "int32", VC_GDB_CORE, SELECTOR, 4, 2, AT(seg) + (number) * sizeof(struct vc_segment)}
#define STACK(n) {"st" #n, "i387_ext", VC_GDB_CORE, X87, 10, 10, AT(xsave.st) + 16 * (n)}
#define CONTROL(name, kind, stored, at) {name, "int", VC_GDB_CORE, kind, 4, stored, at}
#define VECTOR(n) {"xmm" #n, "vec128", VC_GDB_SSE, XMM, 16, 16, AT(xsave.xmm) + 16 * (n)}
#define HIGH(n) {"ymm" #n "h", "uint128", VC_GDB_AVX, YMM_HIGH, 16, 16, AT(xsave.ymm_hi) + 16 * (n)}
#define WIDE(name, feature, field) {name, "int64", feature, PLAIN, 8, 8, AT(field)}

/* gdb's names; within a feature in gdb's order. A number is an index: AVX, which not every CPU has, comes last. */
const struct vc_gdb_reg vc_gdb_regs[] = {
	GENERAL("rax", VC_RAX, "int64"), GENERAL("rbx", VC_RBX, "int64"), GENERAL("rcx", VC_RCX, "int64"), GENERAL("rdx", VC_RDX, "int64"),
	GENERAL("rsi", VC_RSI, "int64"), GENERAL("rdi", VC_RDI, "int64"), GENERAL("rbp", VC_RBP, "data_ptr"), GENERAL("rsp", VC_RSP, "data_ptr"),
	GENERAL("r8", VC_R8, "int64"), GENERAL("r9", VC_R9, "int64"), GENERAL("r10", VC_R10, "int64"), GENERAL("r11", VC_R11, "int64"),
	GENERAL("r12", VC_R12, "int64"), GENERAL("r13", VC_R13, "int64"), GENERAL("r14", VC_R14, "int64"), GENERAL("r15", VC_R15, "int64"),
	{"rip", "code_ptr", VC_GDB_CORE, PLAIN, 8, 8, AT(rip)},
	{"eflags", "i386_eflags", VC_GDB_CORE, PLAIN, 4, 4, AT(rflags)},
	SEGMENT("cs", VC_CS), SEGMENT("ss", VC_SS), SEGMENT("ds", VC_DS), SEGMENT("es", VC_ES), SEGMENT("fs", VC_FS), SEGMENT("gs", VC_GS),
	STACK(0), STACK(1), STACK(2), STACK(3), STACK(4), STACK(5), STACK(6), STACK(7),
	CONTROL("fctrl", X87, 2, AT(xsave.fcw)), CONTROL("fstat", X87, 2, AT(xsave.fsw)), CONTROL("ftag", X87_TAGS, 1, AT(xsave.ftw)),
	/* the 64-bit instruction and data pointers, in the halves that gdb calls selector and offset */
	CONTROL("fiseg", X87, 2, AT(xsave.fip) + 4), CONTROL("fioff", X87, 4, AT(xsave.fip)),
	CONTROL("foseg", X87, 2, AT(xsave.fdp) + 4), CONTROL("fooff", X87, 4, AT(xsave.fdp)), CONTROL("fop", X87, 2, AT(xsave.fop)),
	VECTOR(0), VECTOR(1), VECTOR(2), VECTOR(3), VECTOR(4), VECTOR(5), VECTOR(6), VECTOR(7),
	VECTOR(8), VECTOR(9), VECTOR(10), VECTOR(11), VECTOR(12), VECTOR(13), VECTOR(14), VECTOR(15),
	{"mxcsr", "i386_mxcsr", VC_GDB_SSE, PLAIN, 4, 4, AT(xsave.mxcsr)},
	WIDE("fs_base", VC_GDB_SEGMENTS, seg[VC_FS].base), WIDE("gs_base", VC_GDB_SEGMENTS, seg[VC_GS].base),
	WIDE("k_gs_base", VC_GDB_SYSTEM, kernel_gs_base), WIDE("cr0", VC_GDB_SYSTEM, cr0), WIDE("cr2", VC_GDB_SYSTEM, cr2),
	WIDE("cr3", VC_GDB_SYSTEM, cr3), WIDE("cr4", VC_GDB_SYSTEM, cr4), WIDE("cr8", VC_GDB_SYSTEM, cr8), WIDE("efer", VC_GDB_SYSTEM, efer),
	HIGH(0), HIGH(1), HIGH(2), HIGH(3), HIGH(4), HIGH(5), HIGH(6), HIGH(7),
	HIGH(8), HIGH(9), HIGH(10), HIGH(11), HIGH(12), HIGH(13), HIGH(14), HIGH(15),
};
/* clang-format on */
#define COUNT (unsigned)VC_ARRAY_SIZE(vc_gdb_regs)

unsigned vc_gdb_reg_count(bool avx)
{
	unsigned n = COUNT;

	while (!avx && vc_gdb_regs[n - 1].feature == VC_GDB_AVX)
		n--;
	return n;
}

unsigned vc_gdb_reg_size(unsigned number)
{
	return number < COUNT ? vc_gdb_regs[number].bytes : 0;
}

/* ---- the XSAVE area ---- */

/* A component whose XSTATE_BV bit is clear has its initial values, whatever its bytes say (SDM vol. 1, 13.6). */
static void write_out(struct vc_xsave *x, enum kind kind)
{
	uint64_t component = kind == X87 || kind == X87_TAGS ? VC_XSTATE_X87
	                     : kind == XMM                   ? VC_XSTATE_SSE
	                     : kind == YMM_HIGH              ? VC_XSTATE_AVX
	                                                     : 0;

	if (x->xstate_bv & component || !component)
		return;
	x->xstate_bv |= component;
	if (component == VC_XSTATE_SSE) {
		memset(x->xmm, 0, sizeof x->xmm);
	} else if (component == VC_XSTATE_AVX) {
		memset(x->ymm_hi, 0, sizeof x->ymm_hi);
	} else {
		x->fcw = 0x37f;
		x->fsw = x->fop = 0;
		x->ftw = 0;
		x->fip = x->fdp = 0;
		memset(x->st, 0, sizeof x->st);
	}
}

enum { TAG_VALID = 0, TAG_ZERO = 1, TAG_SPECIAL = 2, TAG_EMPTY = 3 };

/* SDM vol. 1, 8.1.7 */
static unsigned tag_of(const uint8_t st[10])
{
	uint64_t significand = vc_ld64(st);
	uint16_t exponent = vc_ld16(st + 8) & 0x7fff;

	if (!exponent && !significand)
		return TAG_ZERO;
	return exponent && exponent != 0x7fff && significand >> 63 ? TAG_VALID : TAG_SPECIAL;
}

/* The tag word counts physical registers, the area holds them from the top of the stack on. */
static uint16_t full_tags(const struct vc_xsave *x)
{
	unsigned top = x->fsw >> 11 & 7;
	uint16_t tags = 0;

	for (unsigned i = 0; i < 8; i++) {
		unsigned tag = x->ftw >> i & 1 ? tag_of(x->st[(i - top) & 7]) : TAG_EMPTY;

		tags |= (uint16_t)(tag << 2 * i);
	}
	return tags;
}

static uint8_t short_tags(uint16_t tags)
{
	uint8_t valid = 0;

	for (unsigned i = 0; i < 8; i++)
		valid |= (uint8_t)(((tags >> 2 * i & 3) != TAG_EMPTY) << i);
	return valid;
}

/* ---- values ---- */

/* The first field of a segment register's row is its base: see SEGMENT. */
static struct vc_segment *segment_of(struct vc_cpu_state *s, const struct vc_gdb_reg *reg)
{
	return (struct vc_segment *)((char *)s + reg->offset);
}

void vc_gdb_reg_get(struct vc_cpu_state *s, unsigned number, uint8_t value[VC_GDB_REG_BYTES_MAX])
{
	const struct vc_gdb_reg *reg = &vc_gdb_regs[number];

	write_out(&s->xsave, reg->kind);
	memset(value, 0, VC_GDB_REG_BYTES_MAX);
	if (reg->kind == SELECTOR)
		vc_st16(value, segment_of(s, reg)->selector);
	else if (reg->kind == X87_TAGS)
		vc_st16(value, full_tags(&s->xsave));
	else
		memcpy(value, (const char *)s + reg->offset, reg->stored);
}

static int set_selector(struct vc_cpu_state *s, const struct vc_gdb_reg *reg, uint16_t selector)
{
	struct vc_segment *segment = segment_of(s, reg);

	if (segment->selector == selector)
		return 0;
	if ((s->cr0 & VC_CR0_PE) && !(s->rflags & VC_FLAG_VM))
		return vc_fail(EINVAL, "%s cannot be set to %#x in protected mode", reg->name, selector);
	segment->selector = selector;
	segment->base = (uint32_t)selector << 4;
	return 0;
}

int vc_gdb_reg_set(struct vc_cpu_state *s, unsigned number, const uint8_t value[VC_GDB_REG_BYTES_MAX], bool *general)
{
	const struct vc_gdb_reg *reg = &vc_gdb_regs[number];
	char *at = (char *)s + reg->offset;

	if (reg->offset >= AT(seg)) {
		uint8_t now[VC_GDB_REG_BYTES_MAX];

		vc_gdb_reg_get(s, number, now);
		if (!memcmp(now, value, reg->bytes))
			return 0;
		*general = false;
	}
	if (reg->kind == SELECTOR)
		return set_selector(s, reg, vc_ld16(value));
	if (reg->kind == X87_TAGS)
		*at = (char)short_tags(vc_ld16(value));
	else
		memcpy(at, value, reg->stored);
	return 0;
}
