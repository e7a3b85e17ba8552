/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The differential test: one case is a few instructions and a whole register and memory state before them. It is run
 * on the host CPU and in guests, and what is left afterwards must be the same.
 */
#ifndef DIFF_H
#define DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/emu/decode/insn.h"
#include "cpu/state.h"
#include "layout.h"

/* ---- random numbers ---- */

struct diff_rng {
	uint64_t state;
};
uint64_t diff_random(struct diff_rng *rng);
/* 0 to n - 1 */
uint32_t diff_below(struct diff_rng *rng, uint32_t n);
bool diff_chance(struct diff_rng *rng, uint32_t percent);

/* ---- records ---- */

struct diff_record {
	uint64_t gpr[16];
	uint64_t rflags;
	uint64_t rip; /* input: far pointer to the code */
	uint64_t cr2;
	uint32_t error;
	uint16_t vector;
	uint16_t landing;
	uint16_t sregs[5]; /* DS ES SS FS GS */
	uint16_t pad[3];
	uint64_t fs_base, gs_base;
	uint8_t xsave[832];
	uint8_t window[DIFF_WINDOW_SIZE];
};
_Static_assert(sizeof(struct diff_record) == DIFF_RECORD, "a record");
_Static_assert(offsetof(struct diff_record, xsave) == REC_XSAVE && offsetof(struct diff_record, window) == REC_WINDOW &&
                   offsetof(struct diff_record, vector) == REC_VECTOR &&
                   offsetof(struct diff_record, gs_base) == REC_GSBASE,
               "runner.S");

/* Offsets in the XSAVE area: SDM vol. 1 tables 10-2 and 13-1. */
enum {
	XS_FCW = 0,
	XS_FSW = 2,
	XS_FTW = 4,
	XS_FOP = 6,
	XS_FIP = 8,
	XS_FDP = 16,
	XS_MXCSR = 24,
	XS_MXCSR_MASK = 28,
	XS_ST = 32,
	XS_XMM = 160,
	XS_BV = 512,
	XS_YMMH = 576
};

/* ---- rows of the decoder's tables, and their encodings ---- */

/* One way to encode a row. */
struct diff_form {
	uint8_t map, opcode, pp;
	bool vex, w, l, has_modrm;
	bool idle_prefix;  /* F2 or F3 that the row does not ask for */
	uint64_t modrm[4]; /* ModRM bytes that give this row */
};

struct diff_row {
	const struct emu_opdesc *desc;
	struct diff_form *forms;
	unsigned count, capacity;
	unsigned hits;
	const char *excluded; /* why it is never run; NULL: it is */
};

struct diff_rows {
	struct diff_row *rows;
	unsigned count, capacity;
	unsigned runnable[4096], runnable_count;
	unsigned simple[4096], simple_count;       /* those that sequences are made of */
	unsigned preferred[1024], preferred_count; /* those that exist in this mode only */
	uint8_t mode;                              /* enum emu_mode */
	const struct vc_feature_set *features;
};

/* All rows that decode in a mode with these features; those that `other` lacks are preferred. */
void diff_rows_find(struct diff_rows *rows, uint8_t mode, const struct vc_feature_set *features,
                    const struct diff_rows *other);
void diff_rows_free(struct diff_rows *rows);

/* ---- cases ---- */

enum { DIFF_MAX_INSNS = 5, DIFF_MAX_BYTES = SLOT_FORWARD - SLOT_CODE };

struct diff_case {
	uint64_t index;
	uint64_t address; /* of the first instruction */
	bool mode32;
	bool no32; /* there is no 32-bit code segment */
	uint8_t bytes[DIFF_MAX_BYTES];
	unsigned length, insns;
	struct diff_row *row[DIFF_MAX_INSNS];
	struct emu_insn insn[DIFF_MAX_INSNS];
	uint64_t target; /* of the first instruction's memory operand; 0: none */
	uint64_t pinned; /* general registers that must keep their values: addresses, counts */
	/* what is not compared */
	uint64_t flags_ignored;
	uint32_t gprs_ignored;
	uint64_t cr2_ignored; /* bits */
	bool rip_ignored;
	bool far; /* may end in code of the other size */
	struct {
		uint16_t from, to;
	} bytes_ignored[4]; /* of the window */
	unsigned ignored;
	struct diff_record in;
};

struct diff_generator {
	uint64_t seed;
	struct vc_feature_set features;
	bool with32;
	struct diff_rows rows64, rows32;
};

void diff_generate(struct diff_generator *g, uint64_t index, struct diff_case *c);

/* operands.c: gives one decoded instruction its operands. False: they contradict each other, try another encoding. */
struct diff_encoding {
	uint8_t bytes[15];
	unsigned length;
	unsigned disp_at, disp_size; /* size 0: none */
	unsigned imm_at;             /* behind everything else */
	bool must_fault;             /* encoded to be #UD */
};
bool diff_place(struct diff_rng *rng, struct diff_case *c, struct diff_encoding *e, const struct emu_insn *insn,
                uint64_t address);
/* encode.c */
bool diff_encode(struct diff_rng *rng, const struct diff_rows *rows, const struct diff_row *row, bool plain,
                 struct diff_encoding *e);
/* state.c: a random state with edge cases. */
void diff_random_state(struct diff_rng *rng, struct diff_record *in);
uint64_t diff_edge(struct diff_rng *rng);

/* ---- running ---- */

/* A batch as the runner wants it. Unused cases at the end are left out by count. */
struct diff_batch {
	unsigned count;
	uint8_t slots[DIFF_CASES * DIFF_SLOT];
	struct diff_record in[DIFF_CASES];
};
void diff_batch_put(struct diff_batch *batch, const struct diff_case *c);

/* On the host CPU. 0; -1 with a sentence on stderr. */
int diff_native_open(void);
int diff_native_run(const struct diff_batch *batch, struct diff_record *out);

struct diff_guest;
/* backend: enum vcore_backend. NULL with a sentence on stderr. */
struct diff_guest *diff_guest_open(uint32_t backend, uint32_t engine);
void diff_guest_close(struct diff_guest *guest);
/* A case that ends the run has DIFF_DERAILED for its vector. 0; -1: the guest cannot be run at all. */
#define DIFF_DERAILED 0x1ff
int diff_guest_run(struct diff_guest *guest, const struct diff_batch *batch, struct diff_record *out);

/* Compare; true when equal. With `print`, say what differs. */
bool diff_compare(const struct diff_case *c, const struct diff_record *want, const struct diff_record *got, bool print);
void diff_print_case(const struct diff_case *c);

/* runner.S */
extern const uint8_t diff_runner[], diff_runner_end[], diff_runner_next[], diff_runner_epilogue[], diff_runner_return[],
    diff_runner_finish[], diff_runner_handlers[];
#define RUNNER_ADDRESS(label) (DIFF_RUNNER + (uint64_t)((label)-diff_runner))

#endif
