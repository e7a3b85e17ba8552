/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Engine lockstep: the translator against the interpreter, block by block. A testing aid.
 *
 * Each block that the translator can run natively is first interpreted, one instruction at a time, by a second vcpu
 * (the shadow) that has the registers of the first one, translations of its own, and no effect: what it stores is
 * logged and taken back, and it stops before an instruction that faults or touches a device. Then the first vcpu runs
 * the block natively, and where it stopped, its registers and what it stored must be what the interpreter had there.
 * What is not native, the first vcpu interprets, unchecked.
 *
 *   lockstep.c         the engine
 *   lockstep_shadow.c  the shadow's run: its registers before each instruction, its stores
 *   lockstep_jit.c     the translator
 *   lockstep_compare.c is it the same, and the report when it is not
 *
 * Only the vcpu may write the guest's memory between the two runs. Other vcpus are held outside the gate; a device that
 * writes memory from another thread would show as a difference.
 */
#ifndef VC_EMU_LOCKSTEP_H
#define VC_EMU_LOCKSTEP_H

#include "backend/emu/emu.h"

/* What is held against the interpreter. */
struct emu_translator {
	/* How many leading instructions of the block at s.rip it runs natively. 0: not the first one, nor can one be
	 * fetched. */
	unsigned (*native)(struct emu_vcpu *c);
	/* Run these once. True: by a branch or at the end it has left them; false: s.rip is one that native code cannot do
	 * now, and nothing of it has happened. */
	bool (*run)(struct emu_vcpu *c);
	/* Behind run(): arithmetic flags (VC_FLAG_*) that are overwritten before any use, and therefore were not kept. */
	uint32_t (*dead_flags)(struct emu_vcpu *c);
};

/* The one of engine jit. */
const struct emu_translator *emu_lockstep_translator(void);

int emu_lockstep_new(struct emu_vcpu *c, const struct emu_translator *translator);
void emu_lockstep_free(struct emu_vcpu *c);
/* As interp_run(). A difference is logged, and ends the run with a crash. */
enum emu_stop emu_lockstep_run(struct emu_vcpu *c);

/* ---- between the parts ---- */

#define EMU_LOCKSTEP_INSNS  512u /* of a block; a longer one is interpreted unchecked */
#define EMU_LOCKSTEP_STORES 4096u
#define EMU_STORE_MAX       32u

/* One store of the shadow's, or a piece of it. */
struct emu_shadow_store {
	uint64_t gpa;
	uint8_t *host;
	uint8_t size;
	bool marks; /* it sets A and D in a page-table entry, which is the MMU's affair */
	uint8_t before[EMU_STORE_MAX], after[EMU_STORE_MAX], found[EMU_STORE_MAX];
};

struct emu_shadow {
	struct emu_vcpu *c;
	struct emu_shadow_store store[EMU_LOCKSTEP_STORES];
	unsigned count;
	bool incomplete; /* nothing can be said about this block */
};

/* What vectors and x87 have, without what no native instruction changes behind ymm_hi. */
#define EMU_IMAGE_SIZE (offsetof(struct vc_xsave, ymm_hi) + sizeof(((struct vc_xsave *)0)->ymm_hi))
struct emu_image {
	uint8_t bytes[EMU_IMAGE_SIZE];
};

/* An instruction of the block, and what the interpreter had before it; behind the last one, only that. */
struct emu_lockstep_insn {
	uint64_t gpr[16], rip, rflags;
	uint32_t aflags;
	/* arithmetic flags as the instructions of the block before this one leave them: set whatever the operands; without
	 * a defined value */
	uint32_t flags_set, flags_undefined;
	unsigned stores; /* that the block has made so far */
	unsigned image;  /* of the vector state */
	bool decoded;
	struct emu_insn insn;
};

struct emu_lockstep {
	const struct emu_translator *translator;
	struct emu_vcpu *c;
	struct emu_vcpu *second; /* the shadow's vcpu */
	struct emu_shadow shadow;
	uint64_t followed; /* c->mmu->changes that the shadow's translations are good for; ~0: none */

	/* the block being compared */
	struct emu_lockstep_insn insn[EMU_LOCKSTEP_INSNS + 1];
	struct emu_image image[EMU_LOCKSTEP_INSNS + 1];
	unsigned native;   /* instructions that the translator runs natively */
	unsigned done;     /* ... that the interpreter could complete */
	enum emu_stop why; /* EMU_STOP_EVENTS: to the end or a branch; else why instruction `done` could not: it faults, or
	                      reaches a device */
	unsigned stopped_at; /* the instruction before which the translator stopped */
	uint32_t dead;       /* flags that the translator did not keep in this block */

	/*
	 * Flags that the translator did not keep, in this block or one before. c->aflags has them inverted: a use of one is
	 * a difference. Their right values are in `right`, and come back as soon as anything but native code may look.
	 */
	uint32_t unkept, right;
	uint64_t compared; /* instructions */
	char difference[160];
};

/* ---- lockstep_shadow.c ---- */
/* Store by the shadow's vcpu: logs and does it. */
void emu_shadow_store(struct emu_vcpu *c, uint64_t gpa, uint8_t *host, const void *bytes, unsigned size);
/* Make the shadow's vcpu like the first one. */
void emu_lockstep_follow(struct emu_lockstep *ls);
/* Interpret the ls->native instructions at s.rip, and take the stores back. False: the block cannot be compared. */
bool emu_lockstep_interpret(struct emu_lockstep *ls);

/* ---- lockstep_compare.c ---- */
/*
 * The translator has run the block; left: not stopped by an instruction that it could not do. True: it did what the
 * interpreter did; ls->stopped_at says how far. False: ls->difference is a sentence about the first difference.
 */
bool emu_lockstep_compare(struct emu_lockstep *ls, bool left);
/* Log block, registers and stores. */
void emu_lockstep_report(const struct emu_lockstep *ls);

#endif
