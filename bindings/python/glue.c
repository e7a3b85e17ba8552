/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between the library's callbacks and Python's: takes structs apart, so that Python gets plain numbers, and remembers
 * which vcpu is at work on this thread. Becomes part of the C source that build_cffi.py makes; the functions declared
 * here without a body are those of virtcore/_callbacks.py.
 */
#include <virtcore/virtcore.h>

static uint64_t vcpy_device_read(void *ctx, uint64_t offset, uint32_t width);
static void vcpy_device_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value);
static uint64_t vcpy_device_call(void *ctx, uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
static void vcpy_device_reset(void *ctx);
static int64_t vcpy_device_save(void *ctx, void *buffer, size_t length);
static int vcpy_device_load(void *ctx, const void *buffer, size_t length);
static void vcpy_hook_code(void *ctx, uint64_t address, uint32_t length);
static void vcpy_hook_access(void *ctx, const struct vcore_hook_event *event);
static void vcpy_log(void *ctx, int level, const char *message);
static void vcpy_destroy(void *ctx);

/* Whose callback runs on this thread; NULL: no vcpu's. */
static __thread vcore_vcpu *current_vcpu;

static vcore_vcpu *vcpy_current(void)
{
	return current_vcpu;
}

static vcore_vcpu *enter(vcore_vcpu *vcpu)
{
	vcore_vcpu *outer = current_vcpu;

	current_vcpu = vcpu;
	return outer;
}

static void on_read(void *ctx, struct vcore_io *io)
{
	vcore_vcpu *outer = enter(io->vcpu);

	io->data = vcpy_device_read(ctx, io->offset, io->width);
	current_vcpu = outer;
}

static void on_write(void *ctx, struct vcore_io *io)
{
	vcore_vcpu *outer = enter(io->vcpu);

	if (io->bus == VCORE_BUS_HYPERCALL)
		io->data = vcpy_device_call(ctx, io->address, io->args[0], io->args[1], io->args[2], io->args[3]);
	else
		vcpy_device_write(ctx, io->offset, io->width, io->data);
	current_vcpu = outer;
}

static void on_code(void *ctx, const struct vcore_hook_event *event)
{
	vcore_vcpu *outer = enter(event->vcpu);

	vcpy_hook_code(ctx, event->address, event->length);
	current_vcpu = outer;
}

static void on_access(void *ctx, const struct vcore_hook_event *event)
{
	vcore_vcpu *outer = enter(event->vcpu);

	vcpy_hook_access(ctx, event);
	current_vcpu = outer;
}

static void on_log(void *ctx, enum vcore_log_level level, const char *message)
{
	vcpy_log(ctx, (int)level, message);
}

static int vcpy_io_add(vcore_vm *vm, int bus, uint64_t start, uint64_t length, void *ctx, vcore_device **device)
{
	const struct vcore_device_ops ops = {.size = sizeof ops,
	                                     .read = on_read,
	                                     .write = on_write,
	                                     .reset = vcpy_device_reset,
	                                     .save = vcpy_device_save,
	                                     .load = vcpy_device_load,
	                                     .destroy = vcpy_destroy};

	return vcore_io_add(vm, (enum vcore_bus)bus, start, length, &ops, ctx, device);
}

static int vcpy_hook_add(vcore_vm *vm, uint32_t kind, uint64_t start, uint64_t length, uint32_t access, void *ctx,
                         vcore_hook **hook)
{
	const int code = kind == VCORE_HOOK_CODE || kind == VCORE_HOOK_BLOCK;
	const struct vcore_hook_options options = {.size = sizeof options,
	                                           .kind = kind,
	                                           .start = start,
	                                           .length = length,
	                                           .access = access,
	                                           .callback = code ? on_code : on_access,
	                                           .ctx = ctx,
	                                           .destroy = vcpy_destroy};

	return vcore_hook_add(vm, &options, hook);
}

static void vcpy_set_log(struct vcore_options *options, void *ctx)
{
	options->log = on_log;
	options->log_ctx = ctx;
}
