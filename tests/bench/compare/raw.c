/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * raw IMAGE RUNNER ENGINE WHICH N
 * Runs raw_code.c's image once with RUNNER (native, libvirtcore, unicorn) and prints nanoseconds, result and, where
 * there is one, the engine. What is measured is the run alone: memory is there and touched before. ENGINE: auto,
 * interp, jit, lockstep, promote, of libvirtcore. Exit status 77: no such runner in this build.
 */
#include "raw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <virtcore/virtcore.h>

static const struct {
	const char *name;
	int (*run)(struct raw_job *job);
} runners[] = {{"native", raw_native}, {"libvirtcore", raw_virtcore}, {"unicorn", raw_unicorn}};

uint64_t raw_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int raw_native(struct raw_job *job)
{
	uint8_t *memory = mmap(NULL, RAW_LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	uint64_t (*run)(uint64_t which, uint64_t n, void *memory);
	uint64_t start;

	if (memory == MAP_FAILED)
		return -1;
	memcpy(memory + RAW_CODE, job->image, job->length);
	if (mprotect(memory + RAW_CODE, RAW_MEMORY - RAW_CODE, PROT_READ | PROT_EXEC) < 0)
		return -1;
	*(void **)&run = memory + RAW_CODE;
	start = raw_now_ns();
	job->result = run(job->which, job->n, memory + RAW_MEMORY);
	job->ns = raw_now_ns() - start;
	return munmap(memory, RAW_LENGTH);
}

static const char *const engines[] = {"auto", "interp", "jit", "lockstep", "promote"};

static int fill(vcore_vm *vm, const struct raw_job *job)
{
	static const uint8_t hlt = 0xf4;
	static const uint64_t back = RAW_RETURN;

	if (vcore_memory_add(vm, 0, RAW_LENGTH, VCORE_MEM_RWX | VCORE_MEM_PREALLOC, NULL, NULL) < 0 ||
	    vcore_memory_write(vm, RAW_RETURN, &hlt, 1) < 0 ||
	    vcore_memory_write(vm, RAW_STACK - 8, &back, sizeof back) < 0)
		return -1;
	return vcore_memory_write(vm, RAW_CODE, job->image, job->length);
}

/* 64-bit mode with SSE, about to enter raw_run as the System V ABI wants it. */
static int enter(vcore_vcpu *vcpu, const struct raw_job *job)
{
	struct vcore_regs regs = {.size = sizeof regs,
	                          .rip = RAW_CODE,
	                          .rsp = RAW_STACK - 8,
	                          .rdi = job->which,
	                          .rsi = job->n,
	                          .rdx = RAW_MEMORY,
	                          .rflags = 2};
	struct vcore_sregs sregs = {.size = sizeof sregs};

	if (vcore_vcpu_set_mode(vcpu, VCORE_MODE_LONG64, RAW_TABLES) < 0 || vcore_vcpu_get_sregs(vcpu, &sregs) < 0)
		return -1;
	sregs.cr0 = (sregs.cr0 | 1u << 1) & ~(uint64_t)(1u << 2 | 1u << 3); /* MP; not EM, TS */
	sregs.cr4 |= 3u << 9;                                               /* OSFXSR, OSXMMEXCPT */
	if (vcore_vcpu_set_sregs(vcpu, &sregs) < 0)
		return -1;
	return vcore_vcpu_set_regs(vcpu, &regs);
}

static int finish(vcore_vcpu *vcpu, struct raw_job *job)
{
	struct vcore_regs regs = {.size = sizeof regs};
	struct vcore_exit exit = {.size = sizeof exit};
	uint64_t start = raw_now_ns();

	if (vcore_vcpu_run(vcpu, -1, &exit) < 0)
		return -1;
	job->ns = raw_now_ns() - start;
	if (exit.reason != VCORE_EXIT_HALT) {
		snprintf(job->error, sizeof job->error, "the guest ended with %s %s", vcore_exit_name(exit.reason),
		         exit.message);
		return -1;
	}
	if (vcore_vcpu_get_regs(vcpu, &regs) < 0)
		return -1;
	job->result = regs.rax;
	return 0;
}

int raw_virtcore(struct raw_job *job)
{
	struct vcore_vm_info info = {.size = sizeof info};
	struct vcore_options options = {.size = sizeof options, .backend = VCORE_BACKEND_EMU};
	vcore_vcpu *vcpu;
	vcore_vm *vm = NULL;
	int r;

	while (options.engine < sizeof engines / sizeof engines[0] - 1 && strcmp(engines[options.engine], job->engine) != 0)
		options.engine++;
	r = vcore_vm_new(&options, &vm);
	if (r >= 0) {
		vcpu = vcore_vm_vcpu(vm, 0);
		vcore_vm_get_info(vm, &info);
		job->engine = engines[info.engine % (sizeof engines / sizeof engines[0])];
		if (fill(vm, job) < 0 || enter(vcpu, job) < 0 || finish(vcpu, job) < 0)
			r = -1;
	}
	if (r < 0 && job->error[0] == 0)
		snprintf(job->error, sizeof job->error, "%s", vcore_error_message());
	if (vm)
		vcore_vm_unref(vm);
	return r < 0 ? -1 : 0;
}

static void *load(const char *path, size_t *length)
{
	FILE *f = fopen(path, "rb");
	void *data = malloc(RAW_STACK - RAW_CODE);

	*length = f && data ? fread(data, 1, RAW_STACK - RAW_CODE, f) : 0;
	if (f)
		fclose(f);
	return data;
}

int main(int argc, char **argv)
{
	struct raw_job job = {0};
	int status = 64;
	void *image;

	if (argc != 6) {
		fprintf(stderr, "usage: raw IMAGE native|libvirtcore|unicorn auto|interp|jit|promote WHICH N\n");
		return status;
	}
	image = load(argv[1], &job.length);
	if (job.length == 0) {
		perror(argv[1]);
		return 66;
	}
	job.image = image;
	job.engine = argv[3];
	job.which = strtoull(argv[4], NULL, 0);
	job.n = strtoull(argv[5], NULL, 0);
	for (unsigned i = 0; i < sizeof runners / sizeof runners[0]; i++)
		if (strcmp(runners[i].name, argv[2]) == 0)
			status = runners[i].run(&job);
	if (status == 0)
		printf("%llu %016llx %s\n", (unsigned long long)job.ns, (unsigned long long)job.result, job.engine);
	else
		fprintf(stderr, "%s\n", job.error[0] ? job.error : "failed");
	free(image);
	return status < 0 ? 1 : status;
}
