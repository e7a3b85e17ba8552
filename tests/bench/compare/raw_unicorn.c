/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The raw code under Unicorn 2, where this build has found it. */
#include "raw.h"

#include <stdio.h>

#ifdef BENCH_HAVE_UNICORN
#include <string.h>
#include <sys/mman.h>
#include <unicorn/unicorn.h>

static uc_err run(uc_engine *uc, struct raw_job *job, uint8_t *memory)
{
	uint64_t stack = RAW_STACK - 8, address = RAW_MEMORY, start;
	uc_err e = uc_mem_map_ptr(uc, 0, RAW_LENGTH, UC_PROT_ALL, memory);

	if (e == UC_ERR_OK)
		e = uc_reg_write(uc, UC_X86_REG_RSP, &stack);
	if (e == UC_ERR_OK)
		e = uc_reg_write(uc, UC_X86_REG_RDI, &job->which);
	if (e == UC_ERR_OK)
		e = uc_reg_write(uc, UC_X86_REG_RSI, &job->n);
	if (e == UC_ERR_OK)
		e = uc_reg_write(uc, UC_X86_REG_RDX, &address);
	if (e != UC_ERR_OK)
		return e;
	start = raw_now_ns();
	e = uc_emu_start(uc, RAW_CODE, RAW_RETURN, 0, 0);
	job->ns = raw_now_ns() - start;
	return e == UC_ERR_OK ? uc_reg_read(uc, UC_X86_REG_RAX, &job->result) : e;
}

int raw_unicorn(struct raw_job *job)
{
	uint8_t *memory = mmap(NULL, RAW_LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	uint64_t back = RAW_RETURN;
	uc_engine *uc;
	uc_err e;

	if (memory == MAP_FAILED)
		return -1;
	memcpy(memory + RAW_CODE, job->image, job->length);
	memcpy(memory + RAW_STACK - 8, &back, sizeof back);
	e = uc_open(UC_ARCH_X86, UC_MODE_64, &uc);
	if (e == UC_ERR_OK) {
		e = run(uc, job, memory);
		uc_close(uc);
	}
	if (e != UC_ERR_OK)
		snprintf(job->error, sizeof job->error, "unicorn: %s", uc_strerror(e));
	munmap(memory, RAW_LENGTH);
	return e == UC_ERR_OK ? 0 : -1;
}
#else
int raw_unicorn(struct raw_job *job)
{
	snprintf(job->error, sizeof job->error, "this build has no Unicorn (Debian: libunicorn-dev)");
	return 77;
}
#endif
