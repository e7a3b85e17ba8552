/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Functions served by clones: the guest is prepared once, and every call has a fresh copy of it, four at a time. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <virtcore/virtcore.h>

enum { WORKERS = 4, CALLS = 1000 };

static vcore_snapshot *prepared;
static _Atomic unsigned next, wrong;

/* One call, in a vm of its own: the argument in EAX, the result there as well. */
static int call(uint32_t argument, uint64_t *result)
{
	struct vcore_regs regs = {.size = sizeof regs};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vcpu *vcpu;
	vcore_vm *vm;
	int r = vcore_snapshot_clone(prepared, NULL, &vm);

	if (r < 0)
		return r;
	vcpu = vcore_vm_vcpu(vm, 0);
	vcore_vcpu_get_regs(vcpu, &regs);
	regs.rax = argument;
	if ((r = vcore_vcpu_set_regs(vcpu, &regs)) >= 0 && (r = vcore_vcpu_run(vcpu, -1, &exit)) >= 0)
		r = vcore_vcpu_get_regs(vcpu, &regs);
	*result = regs.rax;
	vcore_vm_unref(vm);
	return r;
}

static void *serve(void *unused)
{
	uint64_t result;

	for (unsigned n; (n = next++) < CALLS;)
		if (call(n, &result) < 0 || result != n * n + 1)
			wrong++;
	return NULL;
}

static int fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, vcore_error_message());
	return 1;
}

int main(void)
{
	static const uint8_t code[] = {0xf7, 0xe0, 0xff, 0xc0, 0xf4}; /* mul eax; inc eax; hlt */
	struct vcore_options options = {.size = sizeof options, .memory = 64 << 20};
	struct vcore_regs regs = {.size = sizeof regs, .rip = 0x1000, .rflags = 2};
	pthread_t workers[WORKERS];
	vcore_vm *vm;

	if (vcore_vm_new(&options, &vm) < 0)
		return fail("vcore_vm_new");
	if (vcore_memory_write(vm, 0x1000, code, sizeof code) < 0 ||
	    vcore_vcpu_set_mode(vcore_vm_vcpu(vm, 0), VCORE_MODE_PROTECTED32, 0) < 0 ||
	    vcore_vcpu_set_regs(vcore_vm_vcpu(vm, 0), &regs) < 0 || vcore_snapshot_take(vm, &prepared) < 0)
		return fail("clone-pool");
	vcore_vm_unref(vm);
	for (int i = 0; i < WORKERS; i++)
		pthread_create(&workers[i], NULL, serve, NULL);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(workers[i], NULL);
	printf("%d calls, each in a vm of its own, %u of them wrong\n", CALLS, (unsigned)wrong);
	vcore_snapshot_unref(prepared);
	return wrong != 0;
}
