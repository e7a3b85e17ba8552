/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api.h"

#include <poll.h>

static uint32_t backends[2];
static int backend_count = -1;

int api_backend_count(void)
{
	static const uint32_t all[] = {VCORE_BACKEND_EMU, VCORE_BACKEND_KVM};

	if (backend_count >= 0)
		return backend_count;
	backend_count = 0;
	for (int i = 0; i < 2; i++) {
		struct vcore_backend_info info = {.size = sizeof info};

		if (vcore_backend_probe(all[i], &info) == 0 && info.available)
			backends[backend_count++] = all[i];
		else
			printf("without backend %s: %s\n", vcore_backend_name(all[i]), info.reason);
	}
	return backend_count;
}

uint32_t api_backend(int index)
{
	return backends[index];
}

const char *api_backend_word(int index)
{
	return vcore_backend_name(backends[index]);
}

bool api_is_poor_kvm(int index, const char *what)
{
	struct vcore_backend_info info = {.size = sizeof info};

	if (backends[index] != VCORE_BACKEND_KVM || vcore_backend_probe(VCORE_BACKEND_KVM, &info) < 0 ||
	    info.ring0_is_native)
		return false;
	printf("SKIP on kvm: %s (%s)\n", what, info.reason);
	return true;
}

vcore_vm *api_vm_with(int backend, const struct vcore_options *model)
{
	struct vcore_options o = *model;
	vcore_vm *vm = NULL;

	o.size = sizeof o;
	o.backend = api_backend(backend);
	OK(vcore_vm_new(&o, &vm));
	ck_assert_ptr_nonnull(vm);
	return vm;
}

vcore_vm *api_vm(int backend, uint32_t vcpus)
{
	return api_vm_with(backend, &(struct vcore_options){.vcpus = vcpus, .memory = RAM});
}

vcore_vm *api_microvm(int backend, uint32_t irqchip, uint32_t vcpus)
{
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .backend = api_backend(backend),
	                          .irqchip = irqchip,
	                          .memory = 4 * RAM,
	                          .vcpus = vcpus};
	vcore_vm *vm = NULL;
	int r = vcore_vm_new(&o, &vm);

	if (r == -ENOTSUP) {
		printf("%s\n", vcore_error_message());
		return NULL;
	}
	OK(r);
	return vm;
}

void api_load(vcore_vm *vm, uint32_t index, enum vcore_mode mode, uint64_t at, const uint8_t *code, size_t length)
{
	struct vcore_regs regs = {.size = sizeof regs, .rip = at, .rsp = 0x8000, .rflags = 2};
	vcore_vcpu *vcpu = vcore_vm_vcpu(vm, index);

	ck_assert_ptr_nonnull(vcpu);
	OK(vcore_memory_write(vm, at, code, length));
	OK(vcore_vcpu_set_mode(vcpu, mode, TABLES));
	OK(vcore_vcpu_set_regs(vcpu, &regs));
}

#define GDT      0x2800u
#define IDT      0x3000u
#define HANDLERS 0x10000u /* 32 bytes each */

void api_tables(vcore_vm *vm, uint32_t index, bool lapic)
{
	static const uint64_t gdt[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
	struct vcore_sregs s = {.size = sizeof s};
	vcore_vcpu *vcpu = vcore_vm_vcpu(vm, index);

	for (uint32_t v = 0; v < 256; v++) {
		uint32_t at = HANDLERS + 32 * v, cell = API_COUNTS + 4 * v;
		/* inc dword [cell]; iret, or mov dword [0xfee000b0], 0; iret */
		uint8_t code[17] = {0xff, 0x05, 0, 0, 0, 0, 0xc7, 0x05, 0xb0, 0x00, 0xe0, 0xfe, 0, 0, 0, 0, 0xcf};
		uint64_t gate = (at & 0xffff) | 0x08ull << 16 | 0x8eull << 40 | (uint64_t)(at >> 16) << 48;

		memcpy(code + 2, &cell, 4);
		if (!lapic || v == 2)
			code[6] = 0xcf;
		OK(vcore_memory_write(vm, at, code, sizeof code));
		OK(vcore_memory_write(vm, IDT + 8 * v, &gate, sizeof gate));
	}
	OK(vcore_memory_write(vm, GDT, gdt, sizeof gdt));
	OK(vcore_vcpu_get_sregs(vcpu, &s));
	s.gdtr = (struct vcore_table){.base = GDT, .limit = sizeof gdt - 1};
	s.idtr = (struct vcore_table){.base = IDT, .limit = 256 * 8 - 1};
	s.cs.selector = 8;
	s.ds.selector = s.es.selector = s.ss.selector = s.fs.selector = s.gs.selector = 16;
	OK(vcore_vcpu_set_sregs(vcpu, &s));
}

uint32_t api_word(vcore_vm *vm, uint64_t gpa)
{
	uint32_t value = 0;

	OK(vcore_memory_read(vm, gpa, &value, sizeof value));
	return value;
}

uint32_t api_count(vcore_vm *vm, unsigned vector)
{
	return api_word(vm, API_COUNTS + 4 * vector);
}

void api_until_count(vcore_vm *vm, unsigned vector, uint32_t count)
{
	for (int i = 0; i < 10000 && api_count(vm, vector) < count; i++)
		api_pause_ms(1);
	ck_assert_uint_ge(api_count(vm, vector), count);
}

struct vcore_exit api_run_vcpu(vcore_vcpu *vcpu, enum vcore_exit_reason expected)
{
	struct vcore_exit exit = {.size = sizeof exit};

	OK(vcore_vcpu_run(vcpu, LONG, &exit));
	ck_assert_msg(exit.reason == expected, "exit %s (%s) at %#llx, expected %s", vcore_exit_name(exit.reason),
	              exit.message, (unsigned long long)exit.address, vcore_exit_name(expected));
	return exit;
}

struct vcore_exit api_run(vcore_vm *vm, enum vcore_exit_reason expected)
{
	return api_run_vcpu(vcore_vm_vcpu(vm, 0), expected);
}

static struct vcore_regs regs_of(vcore_vm *vm)
{
	struct vcore_regs regs = {.size = sizeof regs};

	OK(vcore_vcpu_get_regs(vcore_vm_vcpu(vm, 0), &regs));
	return regs;
}

uint64_t api_rax(vcore_vm *vm)
{
	return regs_of(vm).rax;
}

uint64_t api_rip(vcore_vm *vm)
{
	return regs_of(vm).rip;
}

void api_pause_ms(unsigned ms)
{
	poll(NULL, 0, (int)ms);
}

void api_until(_Atomic uint32_t *counter, uint32_t value)
{
	for (int i = 0; i < 30000 && atomic_load(counter) < value; i++)
		api_pause_ms(1);
	ck_assert_uint_ge(atomic_load(counter), value);
}

uint32_t api_state(vcore_vm *vm)
{
	struct vcore_vm_info info = {.size = sizeof info};

	OK(vcore_vm_get_info(vm, &info));
	return info.state;
}

static void note(struct api_device *d, struct vcore_io *io)
{
	atomic_store(&d->last_offset, io->offset);
	atomic_store(&d->last_address, io->address);
	atomic_store(&d->last_width, io->width);
	if (d->hook)
		d->hook(d, io);
}

static void device_read(void *ctx, struct vcore_io *io)
{
	struct api_device *d = ctx;

	io->data = d->value;
	note(d, io);
	atomic_fetch_add(&d->reads, 1);
}

static void device_write(void *ctx, struct vcore_io *io)
{
	struct api_device *d = ctx;

	atomic_store(&d->last, io->data);
	note(d, io);
	atomic_fetch_add(&d->writes, 1);
}

static void device_reset(void *ctx)
{
	atomic_fetch_add(&((struct api_device *)ctx)->resets, 1);
}

static void device_destroy(void *ctx)
{
	atomic_fetch_add(&((struct api_device *)ctx)->destroyed, 1);
}

const struct vcore_device_ops api_device_ops = {.size = sizeof api_device_ops,
                                                .read = device_read,
                                                .write = device_write,
                                                .reset = device_reset,
                                                .destroy = device_destroy};

int api_main(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
