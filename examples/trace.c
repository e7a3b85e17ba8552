/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a guest does, told as it does it: the blocks it executes in a range of code, its writes to a range of memory. */
#include <stdio.h>
#include <virtcore/virtcore.h>

static void on_event(void *ctx, const struct vcore_hook_event *event)
{
	struct vcore_regs regs = {.size = sizeof regs};

	vcore_vcpu_get_regs(event->vcpu, &regs);
	if (event->kind == VCORE_HOOK_BLOCK)
		printf("block %#llx, %u bytes, ecx %llu\n", (unsigned long long)event->address, event->length,
		       (unsigned long long)regs.rcx);
	else
		printf("write %#llx: %llu, by the instruction at %#llx\n", (unsigned long long)event->address,
		       (unsigned long long)event->value, (unsigned long long)regs.rip);
}

static int fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, vcore_error_message());
	return 1;
}

int main(void)
{
	static const uint8_t code[] = {
	    0xb9, 0x03, 0x00, 0x00, 0x00,             /*    mov ecx, 3 */
	    0x89, 0x0c, 0x8d, 0x00, 0x20, 0x00, 0x00, /* l: mov [0x2000 + ecx * 4], ecx */
	    0x49, 0x75, 0xf6,                         /*    dec ecx; jnz l */
	    0xf4,                                     /*    hlt */
	};
	struct vcore_options options = {.size = sizeof options, .backend = VCORE_BACKEND_EMU, .memory = 2 << 20};
	struct vcore_hook_options blocks = {
	    .size = sizeof blocks, .kind = VCORE_HOOK_BLOCK, .start = 0x1000, .length = 0x1000, .callback = on_event};
	struct vcore_hook_options writes = {.size = sizeof writes,
	                                    .kind = VCORE_HOOK_MEMORY,
	                                    .start = 0x2000,
	                                    .length = 0x1000,
	                                    .access = VCORE_HOOK_WRITES,
	                                    .callback = on_event};
	struct vcore_regs regs = {.size = sizeof regs, .rip = 0x1000, .rflags = 2};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vcpu *vcpu;
	vcore_vm *vm;

	if (vcore_vm_new(&options, &vm) < 0)
		return fail("vcore_vm_new");
	vcpu = vcore_vm_vcpu(vm, 0);
	if (vcore_memory_write(vm, 0x1000, code, sizeof code) < 0 || vcore_hook_add(vm, &blocks, NULL) < 0 ||
	    vcore_hook_add(vm, &writes, NULL) < 0 || vcore_vcpu_set_mode(vcpu, VCORE_MODE_PROTECTED32, 0) < 0 ||
	    vcore_vcpu_set_regs(vcpu, &regs) < 0 || vcore_vcpu_run(vcpu, -1, &exit) < 0)
		return fail("trace");
	vcore_vm_unref(vm);
	return exit.reason != VCORE_EXIT_HALT;
}
