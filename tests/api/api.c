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

struct vcore_exit api_run_vcpu(vcore_vcpu *vcpu, enum vcore_exit_reason expected)
{
	struct vcore_exit exit = {.size = sizeof exit};

	OK(vcore_vcpu_run(vcpu, LONG, &exit));
	ck_assert_msg(exit.reason == expected, "exit %s (%s) at %#llx, expected %s", vcore_exit_name(exit.reason), exit.message,
	              (unsigned long long)exit.address, vcore_exit_name(expected));
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
