/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host CPU, in this process. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "core/util.h"
#include "diff.h"

#define HWCAP2_FSGSBASE_BIT 2
#define LINUX_TASK_SIZE_MAX 0x7ffffffff000ull
#define PF_P                1u

/*
 * A case's exception: note it and go on in the epilogue. FS and GS are the case's here, so nothing that uses
 * thread-local storage may be called, and no instrumentation may be compiled in.
 */
__attribute__((no_sanitize("address", "undefined", "thread"), optimize("no-stack-protector"))) static void
on_signal(int number, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	volatile struct diff_record *stage = (struct diff_record *)(uintptr_t)VAR_STAGE;
	uint16_t *cs = (uint16_t *)&regs[REG_CSGSFS];

	if (stage->vector != NO_VECTOR)
		__builtin_trap(); /* the epilogue faulted, or the test itself did */
	stage->vector = (uint16_t)regs[REG_TRAPNO];
	stage->error = (uint32_t)regs[REG_ERR];
	stage->rip = (uint64_t)regs[REG_RIP];
	stage->cr2 = (uint64_t)regs[REG_CR2];
	/* Linux says P of all that is not a process's, whether it is there or not; the guest has nothing there */
	if (stage->vector == 14 && stage->cr2 >= LINUX_TASK_SIZE_MAX)
		stage->error &= ~PF_P;
	regs[REG_RIP] = (greg_t)RUNNER_ADDRESS(diff_runner_epilogue);
	regs[REG_EFL] &= ~(greg_t)VC_FLAG_TF;
	*cs = SEL_USER64;
}

static int map(uint64_t address, size_t length, int protection)
{
	void *wanted = (void *)(uintptr_t)address;

	if (mmap(wanted, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE,
	         -1, 0) != wanted ||
	    mprotect(wanted, length, protection) < 0) {
		fprintf(stderr, "diff-test: mapping %#llx: %s\n", (unsigned long long)address, strerror(errno));
		return -1;
	}
	return 0;
}

static int take_signals(void)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	stack_t stack = {.ss_size = 256 << 10};

	stack.ss_sp = mmap(NULL, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack.ss_sp == MAP_FAILED || sigaltstack(&stack, NULL) < 0)
		return -1;
	for (size_t n = 0; n < VC_ARRAY_SIZE(signals); n++)
		if (sigaction(signals[n], &action, NULL) < 0)
			return -1;
	return 0;
}

int diff_native_open(void)
{
	if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT)) {
		fprintf(stderr, "diff-test: this kernel does not let programs set their FS base\n");
		return -1;
	}
	if (map(DIFF_READONLY, DIFF_REGION, PROT_READ) < 0 || map(DIFF_DATA, DIFF_REGION, PROT_READ | PROT_WRITE) < 0 ||
	    map(DIFF_GUARD, DIFF_REGION, PROT_NONE) < 0 ||
	    map(DIFF_CODE, DIFF_REGION, PROT_READ | PROT_WRITE | PROT_EXEC) < 0 ||
	    map(DIFF_OUT, DIFF_REGION, PROT_READ | PROT_WRITE) < 0)
		return -1;
	memcpy((void *)(uintptr_t)DIFF_RUNNER, diff_runner, (size_t)(diff_runner_end - diff_runner));
	return 0;
}

int diff_native_run(const struct diff_batch *batch, struct diff_record *out)
{
	volatile uint64_t *var = (uint64_t *)(uintptr_t)DIFF_VARS;
	volatile struct diff_record *stage = (struct diff_record *)(uintptr_t)VAR_STAGE;
	void (*run)(void) = (void (*)(void))(uintptr_t)DIFF_RUNNER;
	struct sigaction usual = {.sa_handler = SIG_DFL};

	if (take_signals() < 0)
		return -1;
	memcpy((void *)(uintptr_t)DIFF_SLOTS, batch->slots, sizeof batch->slots);
	memcpy((void *)(uintptr_t)DIFF_IN, batch->in, batch->count * sizeof batch->in[0]);
	var[0] = DIFF_IN;
	var[1] = DIFF_IN + batch->count * sizeof batch->in[0];
	var[2] = DIFF_OUT;
	var[3] = RUNNER_ADDRESS(diff_runner_return);
	run();
	stage->vector = 0;
	memcpy(out, (void *)(uintptr_t)DIFF_OUT, batch->count * sizeof *out);
	for (int number = 1; number < 32; number++)
		if (number == SIGSEGV || number == SIGBUS || number == SIGILL || number == SIGFPE || number == SIGTRAP)
			sigaction(number, &usual, NULL);
	return 0;
}
