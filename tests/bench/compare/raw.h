/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How the raw code is laid out in a guest, and who runs it. */
#ifndef BENCH_RAW_H
#define BENCH_RAW_H

#include <stddef.h>
#include <stdint.h>

enum {
	RAW_TABLES = 0x1000,   /* page tables, where the runner needs any */
	RAW_RETURN = 0x10000,  /* a HLT: where raw_run returns to */
	RAW_CODE = 0x100000,   /* the image */
	RAW_STACK = 0x400000,  /* grows down from here */
	RAW_MEMORY = 0x400000, /* raw_run's third argument */
	RAW_LENGTH = 64 << 20, /* of all of it */
};

struct raw_job {
	const void *image;
	size_t length;
	uint64_t which, n;
	const char *engine; /* in: wanted, of libvirtcore; out: the one in use */
	/* out */
	uint64_t result, ns;
	char error[256];
};

/* 0; -1 with job->error; 77 when this build or host has no such runner */
int raw_native(struct raw_job *job);
int raw_virtcore(struct raw_job *job);
int raw_unicorn(struct raw_job *job);

uint64_t raw_now_ns(void);

#endif
