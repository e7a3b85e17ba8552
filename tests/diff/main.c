/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * diff-test [--seed N|random] [--cases N] [--only INDEX] [--backend emu|kvm]\n                 [--engine auto|promote]
 * [--verbose]
 *
 * Any case is made again from its seed and index.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <virtcore/virtcore.h>

#include "backend/backend.h"
#include "diff.h"

#define MAX_PRINTED 20

struct options {
	uint64_t seed, cases, only;
	bool has_only, verbose;
	bool gp_emulated;
	uint32_t backend, engine;
};

struct totals {
	uint64_t run, wrong, left_out, faults[33];
};

static int usage(void)
{
	fprintf(stderr, "usage: diff-test [--seed N|random] [--cases N] [--only INDEX] [--backend emu|kvm] [--verbose]\n");
	return 2;
}

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option names[] = {{"seed", 1, 0, 's'},
	                                      {"cases", 1, 0, 'c'},
	                                      {"only", 1, 0, 'o'},
	                                      {"backend", 1, 0, 'b'},
	                                      {"engine", 1, 0, 'e'},
	                                      {"verbose", 0, 0, 'v'},
	                                      {0}};

	for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
		switch (option) {
		case 's':
			if (strcmp(optarg, "random"))
				o->seed = strtoull(optarg, NULL, 0);
			else if (getrandom(&o->seed, sizeof o->seed, 0) != sizeof o->seed)
				return -1;
			break;
		case 'c':
			o->cases = strtoull(optarg, NULL, 0);
			break;
		case 'o':
			o->only = strtoull(optarg, NULL, 0);
			o->has_only = true;
			break;
		case 'b':
			if (strcmp(optarg, "emu") && strcmp(optarg, "kvm"))
				return -1;
			o->backend = !strcmp(optarg, "kvm") ? VCORE_BACKEND_KVM : VCORE_BACKEND_EMU;
			break;
		case 'e':
			if (strcmp(optarg, "auto") && strcmp(optarg, "promote"))
				return -1;
			o->engine = !strcmp(optarg, "promote") ? VCORE_ENGINE_PROMOTE : VCORE_ENGINE_AUTO;
			break;
		case 'v':
			o->verbose = true;
			break;
		default:
			return -1;
		}
	}
	return optind == argc ? 0 : -1;
}

static int skip_without(uint32_t backend)
{
	struct vcore_backend_info info = {.size = sizeof info};

	if (vcore_backend_probe((enum vcore_backend)backend, &info) < 0 || info.available)
		return 0;
	printf("SKIP: backend %s: %s\n", vcore_backend_name(backend), info.reason);
	return 77;
}

/* What the host's CPU and the backend both have. */
static int common_features(uint32_t backend, struct vc_feature_set *features)
{
	const struct vc_backend *b = vc_backend_find((enum vcore_backend)backend);
	struct vc_feature_set host, offered;
	uint32_t bits;

	if (!b || b->cpu_features(&offered, &bits) < 0)
		return -1;
	vc_cpuid_host(&host);
	features->bits[0] = host.bits[0] & offered.bits[0];
	features->bits[1] = host.bits[1] & offered.bits[1];
	return 0;
}

/* One instruction on the guest; the vector it ended with, NO_VECTOR for none, -1 when nothing runs. */
static int try_bytes(struct diff_guest *guest, bool mode32, const uint8_t *bytes, unsigned length)
{
	struct diff_batch *batch = calloc(1, sizeof *batch);
	struct diff_case *c = calloc(1, sizeof *c);
	struct diff_record out = {0};
	int r = -1;

	if (batch && c) {
		c->address = DIFF_SLOTS + SLOT_CODE;
		c->mode32 = mode32;
		memcpy(c->bytes, bytes, length);
		c->length = length;
		c->in.rflags = CASE_RFLAGS_DEFAULT;
		c->in.rip = c->address | (uint64_t)(mode32 ? SEL_USER32 : SEL_USER64) << 32;
		c->in.xsave[XS_MXCSR] = 0x80; /* all exceptions masked */
		c->in.xsave[XS_MXCSR + 1] = 0x1f;
		diff_batch_put(batch, c);
		r = diff_guest_run(guest, batch, &out);
	}
	free(c);
	free(batch);
	return r < 0 ? r : out.vector;
}

/*
 * A KVM without hardware virtualization (PVM) runs 64-bit code of ring 3 on the CPU, but gives 32-bit code, and every
 * instruction that raised #GP or #UD (some others too), to its emulator, which knows few instructions and has #UD for
 * the others. What it answers is the host kernel's, not ours to test. Nor has it a 32-bit code segment at all.
 */
static int find_quirks(struct diff_guest *guest, struct options *o, bool *runs32)
{
	static const uint8_t daa[] = {0x27}, misaligned_paddb[] = {0x66, 0x0f, 0xfc, 0x04, 0x25, 0x01, 0xfd, 0x3f, 0x20};
	int vector = try_bytes(guest, true, daa, sizeof daa);

	if (vector < 0)
		return -1;
	*runs32 = vector == NO_VECTOR;
	if (!*runs32)
		printf("32-bit code does not run in this backend's 64-bit guests: left out\n");
	o->gp_emulated = try_bytes(guest, false, misaligned_paddb, sizeof misaligned_paddb) != 13;
	if (o->gp_emulated)
		printf("#GP is not the CPU's in this backend's guests: nor is #UD: cases that end with them are left out\n");
	return 0;
}

static void judge(const struct options *o, struct diff_case *c, const struct diff_record *want,
                  const struct diff_record *got, struct totals *totals)
{
	if (o->gp_emulated &&
	    (want->vector == 13 || want->vector == 6 || (got->vector != want->vector && got->vector != NO_VECTOR))) {
		totals->left_out++;
		return;
	}
	if (o->gp_emulated)
		/* NT is lost when the host interrupts the guest; its IRET takes VIF and VIP from the image */
		c->flags_ignored |= VC_FLAG_NT | VC_FLAG_VIF | VC_FLAG_VIP;
	totals->run++;
	totals->faults[want->vector < 32 ? want->vector : 32]++;
	if (diff_compare(c, want, got, false)) {
		if (!o->verbose)
			return;
		printf("case %" PRIu64 ": equal\n", c->index);
		diff_print_case(c);
		return;
	}
	if (totals->wrong++ >= MAX_PRINTED && !o->verbose)
		return;
	printf("MISMATCH %s --seed %" PRIu64 " --only %" PRIu64 " --backend %s\n", c->row[c->insns - 1]->desc->name,
	       o->seed, c->index, vcore_backend_name(o->backend));
	diff_print_case(c);
	diff_compare(c, want, got, true);
}

static int run(struct diff_generator *g, const struct options *o, struct diff_guest *guest, struct totals *totals)
{
	struct diff_case *cases = calloc(DIFF_CASES, sizeof *cases);
	struct diff_record *want = calloc(DIFF_CASES, sizeof *want), *got = calloc(DIFF_CASES, sizeof *got);
	struct diff_batch *batch = calloc(1, sizeof *batch);
	uint64_t first = o->has_only ? o->only - o->only % DIFF_CASES : 0,
	         end = o->has_only ? first + DIFF_CASES : o->cases;
	int r = cases && want && got && batch ? 0 : -1;

	for (; r == 0 && first < end; first += DIFF_CASES) {
		batch->count = 0;
		for (uint64_t i = first; i < end && i < first + DIFF_CASES; i++) {
			diff_generate(g, i, &cases[i - first]);
			diff_batch_put(batch, &cases[i - first]);
		}
		r = diff_native_run(batch, want);
		if (r == 0)
			r = diff_guest_run(guest, batch, got);
		for (unsigned n = 0; r == 0 && n < batch->count; n++)
			if (!o->has_only || cases[n].index == o->only)
				judge(o, &cases[n], &want[n], &got[n], totals);
	}
	free(cases);
	free(want);
	free(got);
	free(batch);
	return r;
}

static void report_rows(const struct diff_rows *rows, const struct diff_rows *other, unsigned *hit, unsigned *runnable,
                        unsigned *excluded, bool print)
{
	for (unsigned n = 0; n < rows->count; n++) {
		const struct diff_row *row = &rows->rows[n];
		bool shared = false;

		for (unsigned i = 0; other && i < other->count; i++)
			shared |= other->rows[i].desc == row->desc;
		if (shared)
			continue;
		if (row->excluded) {
			++*excluded;
			continue;
		}
		++*runnable;
		*hit += row->hits > 0;
		if (!row->hits && print)
			printf("not hit: %s (map %u opcode %#x)\n", row->desc->name, row->forms[0].map, row->forms[0].opcode);
	}
}

static void report(const struct diff_generator *g, const struct options *o, const struct totals *t)
{
	unsigned hit = 0, runnable = 0, excluded = 0;

	report_rows(&g->rows64, NULL, &hit, &runnable, &excluded, o->verbose || o->cases >= 100000);
	report_rows(&g->rows32, &g->rows64, &hit, &runnable, &excluded, o->verbose || o->cases >= 100000);
	printf("seed %" PRIu64 ", backend %s: %" PRIu64 " cases, %" PRIu64 " left out, %" PRIu64
	       " wrong; %u of %u rows runnable in ring 3 hit, %u excluded\n",
	       o->seed, vcore_backend_name(o->backend), t->run, t->left_out, t->wrong, hit, runnable, excluded);
	printf("exceptions:");
	for (unsigned n = 0; n < 32; n++)
		if (t->faults[n])
			printf(" %u: %" PRIu64, n, t->faults[n]);
	printf("; none: %" PRIu64 "\n", t->faults[32]);
}

int main(int argc, char **argv)
{
	struct options o = {.seed = 1, .cases = 20000, .backend = VCORE_BACKEND_EMU};
	struct diff_generator *g = calloc(1, sizeof *g);
	struct totals totals = {0};
	struct diff_guest *guest;
	int r;

	if (!g || parse(argc, argv, &o) < 0)
		return usage();
	setvbuf(stdout, NULL, _IOLBF, 0);
	r = skip_without(o.backend);
	if (r)
		return r;
	printf("seed %" PRIu64 "\n", o.seed);
	if (common_features(o.backend, &g->features) < 0 || diff_native_open() < 0)
		return 1;
	guest = diff_guest_open(o.backend, o.engine);
	if (!guest)
		return 1;
	g->seed = o.seed;
	r = find_quirks(guest, &o, &g->with32);
	diff_rows_find(&g->rows64, EMU_MODE_64, &g->features, NULL);
	if (g->with32)
		diff_rows_find(&g->rows32, EMU_MODE_32, &g->features, &g->rows64);
	if (r == 0)
		r = run(g, &o, guest, &totals);
	if (r == 0)
		report(g, &o, &totals);
	diff_guest_close(guest);
	diff_rows_free(&g->rows64);
	diff_rows_free(&g->rows32);
	free(g);
	return r < 0 || totals.wrong;
}
