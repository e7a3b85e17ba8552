/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inside backend emu: the vcpu, and what its parts ask of each other.
 *
 *   decode/  bytes -> struct emu_insn; pure
 *   mmu/     linear -> host: page walk, software TLB, slow paths, code pages
 *   interp/  decoded blocks, dispatch, the handlers of all instructions that are not system ones
 *   (here)   vcpu.c: backend contract, run loop, halts; event.c: exceptions, interrupts; system*.c: system
 * instructions; segment.c, task.c
 *
 * Precise state. A handler commits nothing before its last access that can fault. A fault is raised with emu_raise(),
 * which does not return: it unwinds to the innermost run loop, where s.rip is made to point at the faulting
 * instruction.
 */
#ifndef VC_EMU_EMU_H
#define VC_EMU_EMU_H

#include <setjmp.h>
#include <stdatomic.h>

#include "backend/backend.h"
#include "backend/emu/decode/insn.h"
#include "core/error.h"
#include "core/util.h"

#define EMU_TLB_BITS 11
#define EMU_TLB_SIZE (1u << EMU_TLB_BITS)

/*
 * One translation of a 4 KiB page. A tag is (linear page address | context), where a context is a number below 4096
 * that stands for an address space and privilege (see emu_vcpu.ctx); so one compare checks page, address space and
 * right. Tag ~0 never matches.
 */
struct emu_tlb_entry {
	uint64_t read, write; /* tags */
	uintptr_t addend;     /* host address = linear + addend */
	uint64_t gpa;         /* of the page */
};

/* A way into translated code: the jump cache and the shadow stack of return addresses. */
struct emu_jit_jump {
	uint64_t tag; /* linear address ^ emu_vcpu.jit_ctx */
	const uint8_t *code;
};
/* The physical page at a linear one, for direct jumps into it. */
struct emu_jit_page {
	uint64_t tag;
	uint32_t id; /* frame number */
	uint32_t pad;
};
#define EMU_JIT_JUMPS   4096u
#define EMU_JIT_RETURNS 32u
#define EMU_JIT_PAGES   1024u
#define EMU_JIT_ADDENDS 4u
/* Below the vcpu: what signal handlers use as their stack while translated code runs. */
#define EMU_JIT_STACK (256u << 10)

/* Why an engine came back. */
enum emu_stop {
	EMU_STOP_EVENTS,    /* requests, attention or the end of a step: let vcpu.c look */
	EMU_STOP_EXCEPTION, /* emu_vcpu.exc holds it; s.rip is the faulting instruction (trap: the next) */
	EMU_STOP_EXIT,      /* emu_vcpu.exit is filled */
	EMU_STOP_AGAIN,     /* as EVENTS, before the instruction: emu_come_again() */
};

/* How a system instruction's handler ended. */
enum emu_next {
	EMU_NEXT, /* go on behind the instruction (the engine advances s.rip) */
	EMU_JUMP, /* s.rip was set; the block ends */
};

struct emu_exception {
	uint8_t vector;
	bool has_error;
	bool trap;   /* s.rip already points behind the instruction */
	bool soft;   /* INT3, INTO: the gate's DPL is checked, error codes of delivery have EXT clear */
	uint8_t len; /* INT3, INTO, INT1: the return address is s.rip + len; s.rip is the instruction itself */
	uint32_t error;
	uint64_t cr2; /* #PF */
	uint64_t dr6; /* #DB: bits to set */
};

/* How emu_raise() and its like unwind: the value that longjmp(*c->unwind) brings back. */
enum emu_unwind {
	EMU_UNWIND_EXCEPTION = 1, /* c->exc is filled */
	EMU_UNWIND_EXIT,          /* c->exit is filled */
	EMU_UNWIND_RETRY,         /* emu_retry_single() */
	EMU_UNWIND_AGAIN,         /* emu_come_again() */
};

/* What others may know of the operation that the engine executes. */
struct emu_cur {
	uint16_t offset; /* of the instruction in its block */
	uint8_t len;
	uint8_t index; /* of the operation in its block, for the engine */
};

struct emu_vcpu {
	struct vc_cpu_state s; /* gpr at offset 0. s.rflags without the arithmetic flags, see aflags */
	uint32_t aflags;       /* live CF PF AF ZF SF OF at their RFLAGS places */

	/* what decoding and addressing depend on: recomputed by emu_mode_changed() */
	uint8_t mode;        /* enum emu_mode */
	uint8_t cpl;         /* 0-3; 3 in virtual-8086 mode */
	uint8_t stack_size;  /* bytes of the stack pointer in use: 2, 4, 8 */
	bool protected_mode; /* PE and not VM */
	bool long_mode;      /* EFER.LMA */
	uint8_t flat;        /* bit n: segment n has base 0, limit 4 GiB and every right (or 64-bit mode and not FS/GS) */
	uint32_t mode_key;   /* all of the above that blocks depend on, as a number; part of a block's key */

	/* engine; before the TLB, so that a 16-bit offset reaches it */
	const struct emu_cur *cur; /* in a block: the instruction being executed; set when something may look at it */
	uint64_t block_rip;        /* rip of the block's start: rip of cur = block_rip + cur->offset */
	bool in_block;             /* cur and block_rip are valid and s.rip is stale; false while a system handler runs */
	bool stepping;             /* exactly one instruction: the engine must stop behind it */
	bool attention; /* something in this vcpu wants vcpu.c's look before the next block (pending #DB, IF set with
	                   interrupt waiting...) */
	bool once;      /* for the engine: stop at the end of this block */
	bool interrupt_waiting;     /* something can be delivered once IF, TPR or the shadow allow it */
	uint32_t interp_key;        /* for the engine: what its blocks are keyed on besides the address */
	_Atomic uint32_t *requests; /* &bvcpu->requests */
	uint64_t ip_mask;           /* for the engine: emu_ip_mask() of the running block */
	uint64_t zero, k8192;       /* for the engine: constants that stand in for an absent base or index register */

	/* software TLB */
	uint64_t ctx;          /* context of data accesses at the current privilege */
	uint64_t ctx_super[2]; /* ... of implicit supervisor accesses (descriptor tables, TSS), by bit 63 of the address */
	struct emu_tlb_entry tlb[EMU_TLB_SIZE];

	/* engine, colder */
	uint64_t icount; /* instructions executed */
	jmp_buf *unwind; /* innermost catch */
	struct emu_exception exc;
	struct vcore_exit *exit;

	struct vc_bvcpu *bvcpu;
	struct vc_bvm *bvm;
	struct interp *interp;     /* block cache etc. of the interpreter */
	struct emu_mmu *mmu;       /* contexts, walk caches, victim TLB */
	struct emu_sys *sys;       /* private to vcpu.c, event.c, system*.c */
	struct emu_vec_state *vec; /* private to the vector part */

	/* engine jit; NULL: the engine is another one */
	struct jit_vm *jit;
	uint64_t jit_page;  /* linear address of the page that is executed */
	uint64_t jit_ctx;   /* address space and mode, as it stands in tags */
	uint64_t jit_flags; /* arithmetic flags: as LAHF gives them in byte 1, OF in byte 0 */
	uint64_t jit_spill, jit_spill2, jit_host_rsp;
	uint64_t jit_addend[EMU_JIT_ADDENDS]; /* of pages that a block checked */
	uint64_t jit_value, jit_extra;        /* of the thunk by which translated code was left */
	uint64_t jit_missed;                  /* linear address that the TLB did not have; of a group, its first */
	uint32_t jit_left;                    /* enum jit_leave */
	uint32_t jit_host_mxcsr;
	_Atomic uint32_t jit_poll; /* not 0: leave translated code and look at requests */
	uint32_t jit_top;          /* of the shadow stack, in bytes */
	uint32_t jit_mode_key;     /* that jit_key stands for */
	uint32_t jit_dead;         /* lockstep: flags that were not kept */
	uint8_t jit_key;
	uint8_t vec_live; /* the guest's vector registers are in the host's: JIT_VEC_* */
	bool jit_can;     /* code of this mode can be translated */
	bool jit_host_avx;
	/* guest TSC = tsc_guest + ((host TSC - tsc_host) * tsc_ratio >> 32), as long as the difference is at most tsc_span,
	 * by CPL 3; else emu_tsc_look() is asked */
	uint64_t tsc_host, tsc_guest, tsc_ratio, tsc_span[2];
	uint64_t jit_bails, jit_untranslated, jit_called;
	_Atomic uint64_t jit_calls[EMU_OP_COUNT]; /* written by the vcpu's thread */
	bool jit_paths;                           /* something may be in these three */
	struct emu_jit_jump jit_returns[EMU_JIT_RETURNS];
	struct emu_jit_page jit_pages[EMU_JIT_PAGES];
	struct emu_jit_jump jit_jumps[EMU_JIT_JUMPS];
	struct promote *promote;       /* engine jit: address spaces with processes of their own; NULL: none */
	struct emu_lockstep *lockstep; /* engine lockstep; else NULL */
	struct emu_shadow *shadow; /* this is lockstep's second vcpu: stores are logged, devices not touched; else NULL */
};

static inline struct emu_vcpu *emu_of(struct vc_bvcpu *v)
{
	return v->priv;
}

/* ---- flags ---- */
static inline uint64_t emu_rflags(const struct emu_vcpu *c)
{
	return (c->s.rflags & ~(uint64_t)VC_FLAGS_ARITH) | c->aflags | 2;
}
/* Sets all of RFLAGS as they are; callers apply privilege rules. Call emu_mode_changed() after a change of VM, AC. */
static inline void emu_set_rflags(struct emu_vcpu *c, uint64_t v)
{
	c->aflags = v & VC_FLAGS_ARITH;
	c->s.rflags = (v & ~(uint64_t)VC_FLAGS_ARITH) | 2;
}

/* RFLAGS bits of EMU_FL_* ones. */
static inline uint32_t emu_flag_bits(unsigned fl)
{
	return (fl & EMU_FL_C ? VC_FLAG_CF : 0) | (fl & EMU_FL_P ? VC_FLAG_PF : 0) | (fl & EMU_FL_A ? VC_FLAG_AF : 0) |
	       (fl & EMU_FL_Z ? VC_FLAG_ZF : 0) | (fl & EMU_FL_S ? VC_FLAG_SF : 0) | (fl & EMU_FL_O ? VC_FLAG_OF : 0);
}

/* ---- position ---- */
static inline uint64_t emu_rip(const struct emu_vcpu *c)
{
	return c->in_block ? c->block_rip + c->cur->offset : c->s.rip;
}
/* Mask of RIP in the current mode. */
static inline uint64_t emu_ip_mask(const struct emu_vcpu *c)
{
	return c->mode == EMU_MODE_64 ? ~0ull : c->mode == EMU_MODE_32 ? 0xffffffffu : 0xffffu;
}

/* ---- event.c ---- */
/* Raise a fault of the current instruction. */
void emu_raise(struct emu_vcpu *c, enum vc_vector vector) __attribute__((noreturn, cold));
void emu_raise_error(struct emu_vcpu *c, enum vc_vector vector, uint32_t error) __attribute__((noreturn, cold));
void emu_raise_pf(struct emu_vcpu *c, uint64_t cr2, uint32_t error) __attribute__((noreturn, cold));
/* Leave the run loop for the program: exit is filled in; the instruction is executed again at the next run. */
void emu_leave(struct emu_vcpu *c) __attribute__((noreturn, cold));
/* Stop executing this instruction without effect and execute it again as a block of its own (own-code modification). */
void emu_retry_single(struct emu_vcpu *c) __attribute__((noreturn, cold));
/* Leave the engine before this instruction, of which nothing has been done, to look at requests and at code anew. */
void emu_come_again(struct emu_vcpu *c) __attribute__((noreturn, cold));

/* ---- vcpu.c ---- */
/* Recompute mode, cpl, stack_size, flat, mode_key, ctx from s. After any change of segments, CR0, CR3, CR4, EFER,
 * RFLAGS.VM/AC. */
void emu_mode_changed(struct emu_vcpu *c);
uint64_t emu_tsc(struct emu_vcpu *c); /* the guest's TSC now */
/* tsc.c: the same for RDTSC, which translated code then executes by itself for a while. */
uint64_t emu_tsc_look(struct emu_vcpu *c);
/* What it depends on changed: offset, CR4.TSD, the clock. */
static inline void emu_tsc_changed(struct emu_vcpu *c)
{
	c->tsc_span[0] = c->tsc_span[1] = 0;
}

/* ---- segment.c ---- */
/*
 * Linear address of seg:offset for an access of `size` bytes with all checks of limit, type, null, canonical form:
 * #GP(0)/#SS(0). The fast way for flat segments is in interp/. access: enum vcore_access.
 */
uint64_t emu_seg_linear(struct emu_vcpu *c, enum vc_sreg seg, uint64_t offset, unsigned size, enum vcore_access access);
/* Load a segment register with all checks (MOV, POP, LDS); CS is never loaded so. */
void emu_load_sreg(struct emu_vcpu *c, enum vc_sreg seg, uint16_t selector);

/* ---- system*.c: handlers of system instructions; s.rip is the instruction's own address on entry, aflags are live
 * ---- */
typedef enum emu_next (*emu_system_fn)(struct emu_vcpu *c, const struct emu_insn *i);
/*
 * The handler for an op, or NULL when interp/ executes it itself. System ops: RETF JMP_FAR CALL_FAR *_IND, INT3 INT1
 * INT INTO IRET, PUSHF POPF CLI STI, HLT, IN OUT (INS OUTS are interp's, with emu_io), BOUND ARPL, LDS, MOV/PUSH/POP
 * segment, MOV CR/DR, LGDT ... VERW, CLTS ... MWAIT, SWAPGS, XGETBV, XSETBV, SYSCALL ... SYSEXIT, RDFSBASE ..., RDPID,
 * RDRAND, RDSEED, CLAC, STAC, VMCALL, VMMCALL, CLFLUSH, PAUSE, RDPKRU, WRPKRU, UD, RSM.
 */
emu_system_fn emu_system_handler(enum emu_op op);
/* Effective address of i's memory operand (offset in its segment), by addrsize; s.rip as for system handlers. */
uint64_t emu_effective_address(const struct emu_vcpu *c, const struct emu_insn *i);
/*
 * Port access with the IOPL/TSS bitmap check; may leave for the program. width 1, 2, 4; sole: see emu_bus_sole().
 */
uint32_t emu_io_in(struct emu_vcpu *c, uint16_t port, unsigned width, bool sole);
/* Only the check: for what comes before the string operand of INS and OUTS. */
void emu_io_check(struct emu_vcpu *c, uint16_t port, unsigned width);
void emu_io_out(struct emu_vcpu *c, uint16_t port, unsigned width, uint32_t value, bool sole);

/* ---- mmu/ ---- (fast paths: mmu/access.h) */
int emu_mmu_new(struct emu_vcpu *c);
void emu_mmu_free(struct emu_vcpu *c);
void emu_tlb_flush_all(struct emu_vcpu *c);
void emu_tlb_flush_page(struct emu_vcpu *c, uint64_t linear); /* INVLPG: current PCID, and global ones */
void emu_mmu_cr3_written(struct emu_vcpu *c, uint64_t old, bool no_flush);
void emu_mmu_invpcid(struct emu_vcpu *c, uint64_t type, uint64_t pcid, uint64_t linear);

/*
 * Code for decoding: host pointer to the bytes at linear `rip` (CS base already added), at most to the end of the page;
 * raises #PF/#GP as a fetch does. *gpa: guest-physical address of the byte; *page: its page info, NULL when the page is
 * not RAM (then execute nothing from a cache).
 */
const uint8_t *emu_fetch(struct emu_vcpu *c, uint64_t linear, unsigned *available, uint64_t *gpa,
                         struct vc_page_info **page);
/*
 * Before bytes [gpa, gpa+len) of one page are cached as decoded code: marks the chunks and makes sure every vcpu's
 * later writes to them are noticed. Returns the generation to store in the block; the block is valid as long as
 * page->generation is the same. Read the bytes after this call.
 */
uint32_t emu_code_mark(struct emu_vcpu *c, struct vc_page_info *page, uint64_t gpa, unsigned len);

/* ---- interp/ ---- */
int interp_new(struct emu_vcpu *c);
void interp_free(struct emu_vcpu *c);
/* Execute from s.rip until something stops it; installs its own catch. With c->stepping: one instruction (one iteration
 * of a REP). */
enum emu_stop interp_run(struct emu_vcpu *c);
/* One block from s.rip. */
enum emu_stop interp_run_block(struct emu_vcpu *c);
/* The function that executes an instruction which has no operation of its own; NULL: it has one. */
emu_system_fn interp_called(struct emu_vcpu *c, struct emu_insn *n);
/* One instruction by itself, a REP's iterations as far as nothing interrupts them. */
enum emu_stop interp_run_one(struct emu_vcpu *c);
/* Forget all decoded blocks (state loaded from outside, CPUID changed). */
void interp_flush(struct emu_vcpu *c);

/* ---- interp/vec*.c: x87, MMX, SSE, AVX, FXSAVE/XSAVE family, LDMXCSR/STMXCSR, FWAIT; same convention as system
 * handlers ---- */
int emu_vec_new(struct emu_vcpu *c);
void emu_vec_free(struct emu_vcpu *c);
/*
 * Called when an instruction is decoded, in the mode it was decoded for: checks nothing of CR0, CR4 or XCR0, prepares a
 * host stub and keeps a handle of it in insn->stub; returns the handler. NULL: not a vector instruction.
 */
emu_system_fn emu_vec_handler(struct emu_vcpu *c, struct emu_insn *i);
/* The engine begins to run on this thread: notes the thread's MXCSR and x87 control word, which every stub puts back.
 */
void emu_vec_enter(struct emu_vcpu *c);
/*
 * s.xsave is the live state: the data of every component is always valid there, and xstate_bv is not kept up to date
 * while the vcpu runs. emu_vec_state_in() after s was replaced (set_state): components whose xstate_bv bit is clear get
 * their initial values. emu_vec_state_out() before s is handed out (get_state): makes xstate_bv right for XRSTOR or
 * KVM_SET_XSAVE. Reset and INIT need neither.
 */
void emu_vec_state_in(struct emu_vcpu *c);
void emu_vec_state_out(struct emu_vcpu *c);
/* XINUSE (XGETBV with ECX = 1): components that are not in their initial configuration. */
uint64_t emu_vec_xinuse(const struct emu_vcpu *c);

#endif
