/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One case from seed and index; and what of its outcome no manual defines. */
#include <string.h>

#include "core/util.h"
#include "diff.h"

/* ---- what is not compared ---- */

static uint64_t rflags_of(unsigned fl)
{
	static const uint64_t bits[6] = {VC_FLAG_CF, VC_FLAG_PF, VC_FLAG_AF, VC_FLAG_ZF, VC_FLAG_SF, VC_FLAG_OF};
	uint64_t flags = 0;

	for (unsigned n = 0; n < 6; n++)
		flags |= fl >> n & 1 ? bits[n] : 0;
	return flags;
}

static void ignore_bytes(struct diff_case *c, uint64_t address, unsigned from, unsigned to)
{
	if (address < DIFF_WINDOW || address >= DIFF_WINDOW + DIFF_WINDOW_SIZE ||
	    c->ignored == VC_ARRAY_SIZE(c->bytes_ignored))
		return;
	from += (unsigned)(address - DIFF_WINDOW);
	to += (unsigned)(address - DIFF_WINDOW);
	c->bytes_ignored[c->ignored].from = (uint16_t)from;
	c->bytes_ignored[c->ignored++].to = (uint16_t)(to > DIFF_WINDOW_SIZE ? DIFF_WINDOW_SIZE : to);
}

/* r/m, register or memory */
static void ignore_rm(struct diff_case *c, const struct emu_insn *insn, uint64_t target)
{
	if (insn->prefixes & EMU_P_MEM)
		ignore_bytes(c, target, 0, insn->opsize);
	else
		c->gprs_ignored |= 1u << insn->rm;
}

static bool is_shift(const struct emu_insn *insn)
{
	return insn->op >= EMU_ROL && insn->op <= EMU_SHRD;
}

static unsigned shift_count(const struct diff_case *c, const struct emu_insn *insn)
{
	unsigned mask = insn->opsize == 8 ? 63 : 31;

	switch (insn->desc->enc) {
	case EMU_ENC_RM_1:
		return 1;
	case EMU_ENC_RM_CL:
	case EMU_ENC_RM_REG_CL:
		return (unsigned)c->in.gpr[VC_RCX] & mask;
	default:
		return (unsigned)insn->imm & mask;
	}
}

/*
 * Flags that the instruction leaves undefined, with the state before it known. SDM vol. 2: OF is defined for a count of
 * one only, nothing changes with a count of zero; SHL and SHR by the operand's size or more leave CF undefined.
 */
static unsigned undefined_flags(const struct diff_case *c, const struct emu_insn *insn)
{
	unsigned count, undefined = insn->desc->flags_undefined;

	if (!is_shift(insn))
		return undefined;
	if (c->insns > 0)
		return undefined | EMU_FL_C; /* the count may have changed */
	count = shift_count(c, insn);
	if (count == 0)
		return 0;
	if (count == 1)
		return undefined & (insn->op >= EMU_SHL ? EMU_FL_A : 0);
	if (insn->op >= EMU_SHL && count >= insn->opsize * 8u)
		undefined |= EMU_FL_C;
	if (insn->op >= EMU_SHLD && count > insn->opsize * 8u)
		undefined = EMU_FL_ALL;
	return undefined;
}

/* Results that are undefined, or another one each time. */
static void ignore_results(struct diff_case *c, const struct emu_insn *insn)
{
	switch (insn->op) {
	case EMU_SHLD:
	case EMU_SHRD: /* SDM vol. 2: undefined when the count is greater than the operand size */
		if (shift_count(c, insn) > insn->opsize * 8u)
			ignore_rm(c, insn, c->target);
		break;
	case EMU_BSWAP: /* SDM vol. 2: of a 16-bit register undefined */
		if (insn->opsize == 2)
			c->gprs_ignored |= 1u << insn->reg;
		break;
	case EMU_RDTSC:
		c->gprs_ignored |= 1u << VC_RAX | 1u << VC_RDX;
		break;
	case EMU_RDTSCP:
		c->gprs_ignored |= 1u << VC_RAX | 1u << VC_RDX | 1u << VC_RCX;
		break;
	case EMU_CPUID:
		c->gprs_ignored |= 1u << VC_RAX | 1u << VC_RBX | 1u << VC_RCX | 1u << VC_RDX;
		break;
	case EMU_RDRAND:
	case EMU_RDSEED:
	case EMU_RDPID:
		ignore_rm(c, insn, 0);
		break;
	case EMU_X87:
		/*
		 * FNSTENV and FNSAVE show the last instruction's pointers: processors differ in which instructions set
		 * them, and natively those of the last process's state may show (AMD APM vol. 2, 11.4.4.3)
		 */
		if (insn->desc->vec.reg_file == 0 || !(insn->prefixes & EMU_P_MEM))
			break;
		if (!strcmp(insn->desc->name, "fnstenv") || !strcmp(insn->desc->name, "fnsave"))
			ignore_bytes(c, c->target, insn->opsize == 2 ? 6 : 12, insn->opsize == 2 ? 14 : 28);
		break;
	case EMU_INT1: /* a hypervisor on AMD that intercepts #DB shows the address before it */
		c->rip_ignored = true;
		break;
	case EMU_PUSH_SREG: /* SDM vol. 2: the upper bytes are zeros (AMD) or not written (Intel) */
		ignore_bytes(c, c->in.gpr[VC_RSP] - insn->opsize, 2, insn->opsize);
		break;
	case EMU_FXSAVE:
	case EMU_XSAVE:
	case EMU_XSAVEOPT:
	case EMU_XSAVEC:
		ignore_bytes(c, c->target, XS_FOP, XS_MXCSR);
		ignore_bytes(c, c->target, XS_MXCSR_MASK, XS_ST);
		/* XINUSE is the processor's own business (SDM vol. 1, 13.6) */
		if (insn->op != EMU_FXSAVE)
			ignore_bytes(c, c->target, XS_BV, XS_BV + 1);
		break;
	default:
		break;
	}
	switch (insn->op) {
	case EMU_JMP_FAR:
	case EMU_JMP_FAR_IND:
	case EMU_CALL_FAR:
	case EMU_CALL_FAR_IND:
		c->far = true;
		break;
	case EMU_RETF:
	case EMU_IRET:
		c->far = true;
		/* fall through */
	case EMU_X87:
	case EMU_FXSAVE:
	case EMU_FXRSTOR:
	case EMU_XSAVE:
	case EMU_XSAVEC:
	case EMU_XSAVEOPT:
	case EMU_XRSTOR: /* which byte of a long operand is touched first is the processor's own business */
		c->cr2_ignored = DIFF_REGION - 1;
		break;
	default:
		break;
	}
}

/* ---- choosing ---- */

static struct diff_row *pick_row(struct diff_rng *rng, struct diff_rows *rows, bool simple, bool last)
{
	struct diff_row *row;

	for (;;) {
		if (simple)
			row = &rows->rows[rows->simple[diff_below(rng, rows->simple_count)]];
		else if (rows->preferred_count && diff_chance(rng, 60))
			row = &rows->rows[rows->preferred[diff_below(rng, rows->preferred_count)]];
		else
			row = &rows->rows[rows->runnable[diff_below(rng, rows->runnable_count)]];
		if (!simple || row->desc->op != EMU_JCC || last)
			return row;
	}
}

static bool add_insn(struct diff_rng *rng, const struct diff_rows *rows, struct diff_row *row, struct diff_case *c,
                     bool plain, unsigned *undefined)
{
	const struct emu_decode_mode mode = {.mode = rows->mode, .protected_mode = true, .features = rows->features};
	uint64_t address = c->address + c->length;
	struct diff_encoding e;
	struct emu_insn insn;
	int status;

	if (row->desc->flags_read & *undefined || !diff_encode(rng, rows, row, plain, &e))
		return false;
	status = emu_decode(e.bytes, e.length, &mode, &insn);
	if (e.must_fault ? status != EMU_DECODE_UD : status != EMU_DECODE_OK || insn.desc != row->desc)
		return false;
	if (e.must_fault) {
		insn.len = (uint8_t)e.length;
	} else {
		if (!diff_place(rng, c, &e, &insn, address))
			return false;
		emu_decode(e.bytes, e.length, &mode, &insn);
	}
	if (c->length + insn.len > sizeof c->bytes - 16)
		return false;
	if (!e.must_fault) {
		/* shifts may leave all flags as they are */
		if (!is_shift(&insn))
			*undefined &= ~(unsigned)insn.desc->flags_written;
		*undefined |= undefined_flags(c, &insn);
		c->flags_ignored |= rflags_of(*undefined);
		ignore_results(c, &insn);
	}
	memcpy(c->bytes + c->length, e.bytes, insn.len);
	c->length += insn.len;
	c->row[c->insns] = row;
	c->insn[c->insns++] = insn;
	return true;
}

void diff_generate(struct diff_generator *g, uint64_t index, struct diff_case *c)
{
	struct diff_rng rng = {g->seed * 0x9e3779b97f4a7c15ull ^ index * 0xd1342543de82ef95ull};
	unsigned wanted = 1, undefined = 0;
	struct diff_rows *rows;
	bool sequence;

	diff_random(&rng);
	*c = (struct diff_case){.index = index, .address = DIFF_SLOTS + index % DIFF_CASES * DIFF_SLOT + SLOT_CODE};
	c->mode32 = g->with32 && diff_chance(&rng, 15);
	c->no32 = !g->with32;
	rows = c->mode32 ? &g->rows32 : &g->rows64;
	diff_random_state(&rng, &c->in);
	if (c->mode32)
		for (unsigned n = 0; n < 16; n++)
			c->in.gpr[n] = (uint32_t)c->in.gpr[n];
	sequence = diff_chance(&rng, 25);
	if (sequence)
		wanted = 2 + diff_below(&rng, DIFF_MAX_INSNS - 1);

	while (c->insns < wanted) {
		struct diff_row *row = pick_row(&rng, rows, sequence, c->insns + 1 == wanted);

		for (unsigned n = 0; n < 40; n++) {
			struct diff_record before = c->in;
			uint64_t pinned = c->pinned;

			if (add_insn(&rng, rows, row, c, sequence, &undefined)) {
				row->hits++;
				break;
			}
			c->in = before;
			c->pinned = pinned;
		}
	}
	/* the same flags, whichever instruction faults */
	if (sequence)
		c->flags_ignored |= rflags_of(undefined);
	else
		c->flags_ignored = rflags_of(undefined);
	c->in.rip = c->address | (uint64_t)(c->mode32 ? SEL_USER32 : SEL_USER64) << 32;
}

/* ---- as bytes ---- */

/* Note where the code came out, and go to the epilogue. */
static void put_landing(uint8_t *slot, unsigned at, uint64_t slot_address, bool code32, uint8_t number)
{
	const uint32_t landing = VAR_STAGE + REC_LANDING, epilogue = (uint32_t)RUNNER_ADDRESS(diff_runner_epilogue);
	uint8_t code64[13] = {0xc6, 0x04, 0x25, 0, 0, 0, 0, number, 0xe9}; /* movb $number, landing; jmp epilogue */
	uint8_t code[14] = {0xc6, 0x05, 0, 0, 0, 0, number, 0xea, 0, 0, 0, 0, SEL_USER64, 0}; /* ... ljmp */
	uint32_t relative = epilogue - (uint32_t)(slot_address + at + sizeof code64);

	memcpy(code64 + 3, &landing, 4);
	memcpy(code64 + 9, &relative, 4);
	memcpy(code + 2, &landing, 4);
	memcpy(code + 8, &epilogue, 4);
	if (code32)
		memcpy(slot + at, code, sizeof code);
	else
		memcpy(slot + at, code64, sizeof code64);
}

void diff_batch_put(struct diff_batch *batch, const struct diff_case *c)
{
	unsigned place = (unsigned)(c->index % DIFF_CASES);
	uint8_t *slot = batch->slots + place * DIFF_SLOT;
	uint64_t address = c->address - SLOT_CODE;

	memset(slot, 0xcc, DIFF_SLOT);
	put_landing(slot, SLOT_BACK, address, c->mode32, LANDED_BACK);
	put_landing(slot, SLOT_OTHER, address, !c->mode32, LANDED_OTHER);
	put_landing(slot, SLOT_FORWARD, address, c->mode32, LANDED_FORWARD);
	memcpy(slot + SLOT_CODE, c->bytes, c->length);
	put_landing(slot, SLOT_CODE + c->length, address, c->mode32, LANDED_NEXT);
	batch->in[batch->count++] = c->in;
}
