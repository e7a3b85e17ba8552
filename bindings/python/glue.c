/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between the library's callbacks and Python's: takes structs apart, so that Python gets plain numbers, and remembers
 * which vcpu is at work on this thread. Becomes part of the C source that build_cffi.py makes.
 *
 * Reads, writes and instructions come often. They call the Python function from here, at half the price of a cffi
 * callback. All else is a cffi callback: the functions declared here without a body, which are in
 * virtcore/_callbacks.py.
 */
#include <virtcore/virtcore.h>

/* Of each device and hook. A Binding of Python's owns it and what it points to, until vcpy_destroy(). */
struct vcpy_ctx {
	void *handle;
	PyObject *read, *write, *code; /* called from here */
	PyObject *failed;              /* is given what they raise */
};

static void vcpy_meet_thread(void);
static uint64_t vcpy_device_call(void *ctx, uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
static void vcpy_device_reset(void *ctx);
static int64_t vcpy_device_save(void *ctx, void *buffer, size_t length);
static int vcpy_device_load(void *ctx, const void *buffer, size_t length);
static void vcpy_hook_access(void *ctx, const struct vcore_hook_event *event);
static void vcpy_log(void *ctx, int level, const char *message);
static const char *vcpy_clone_properties(void *ctx, uint32_t index, const char *type, const char *properties);
static int vcpy_clone_prepare(void *ctx, vcore_vm *vm);
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

/* What was raised goes to Python, which ends the run. */
static void fail(const struct vcpy_ctx *ctx)
{
	PyObject *type, *value, *traceback, *result;

	PyErr_Fetch(&type, &value, &traceback);
	PyErr_NormalizeException(&type, &value, &traceback);
	if (traceback)
		PyException_SetTraceback(value, traceback);
	result = PyObject_CallOneArg(ctx->failed, value);
	if (!result)
		PyErr_WriteUnraisable(ctx->failed);
	Py_XDECREF(result);
	Py_XDECREF(type);
	Py_XDECREF(value);
	Py_XDECREF(traceback);
}

/* Calls a function with at most four numbers. With `answer` it gets what the function returns. */
static void call(const struct vcpy_ctx *ctx, PyObject *function, const uint64_t *numbers, size_t count,
                 uint64_t *answer)
{
	PyObject *args[5] = {NULL}; /* the first is the callee's to use */
	PyGILState_STATE state;
	PyObject *result = NULL;
	size_t made;

	/* The interpreter would make its record of a thread of the library's for each call anew; cffi keeps it. */
	if (!PyGILState_GetThisThreadState())
		vcpy_meet_thread();
	state = PyGILState_Ensure();
	for (made = 0; made < count; made++)
		if (!(args[made + 1] = PyLong_FromUnsignedLongLong(numbers[made])))
			break;
	if (made == count)
		result = PyObject_Vectorcall(function, args + 1, count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
	if (result && answer)
		*answer = PyLong_AsUnsignedLongLongMask(result);
	if (PyErr_Occurred())
		fail(ctx);
	Py_XDECREF(result);
	while (made)
		Py_DECREF(args[made--]);
	PyGILState_Release(state);
}

static void on_read(void *opaque, struct vcore_io *io)
{
	const struct vcpy_ctx *ctx = opaque;
	vcore_vcpu *outer = enter(io->vcpu);

	io->data = UINT64_MAX;
	call(ctx, ctx->read, (const uint64_t[]){io->offset, io->width}, 2, &io->data);
	current_vcpu = outer;
}

static void on_write(void *opaque, struct vcore_io *io)
{
	const struct vcpy_ctx *ctx = opaque;
	vcore_vcpu *outer = enter(io->vcpu);

	if (io->bus == VCORE_BUS_HYPERCALL)
		io->data = vcpy_device_call(ctx->handle, io->address, io->args[0], io->args[1], io->args[2], io->args[3]);
	else
		call(ctx, ctx->write, (const uint64_t[]){io->offset, io->width, io->data}, 3, NULL);
	current_vcpu = outer;
}

static void on_pci_read(void *opaque, uint32_t bar, struct vcore_io *io)
{
	const struct vcpy_ctx *ctx = opaque;
	vcore_vcpu *outer = enter(io->vcpu);

	io->data = UINT64_MAX;
	call(ctx, ctx->read, (const uint64_t[]){bar, io->offset, io->width}, 3, &io->data);
	current_vcpu = outer;
}

static void on_pci_write(void *opaque, uint32_t bar, struct vcore_io *io)
{
	const struct vcpy_ctx *ctx = opaque;
	vcore_vcpu *outer = enter(io->vcpu);

	call(ctx, ctx->write, (const uint64_t[]){bar, io->offset, io->width, io->data}, 4, NULL);
	current_vcpu = outer;
}

static void on_reset(void *opaque)
{
	const struct vcpy_ctx *ctx = opaque;

	vcpy_device_reset(ctx->handle);
}

static int64_t on_save(void *opaque, void *buffer, size_t length)
{
	const struct vcpy_ctx *ctx = opaque;

	return vcpy_device_save(ctx->handle, buffer, length);
}

static int on_load(void *opaque, const void *buffer, size_t length)
{
	const struct vcpy_ctx *ctx = opaque;

	return vcpy_device_load(ctx->handle, buffer, length);
}

static void on_code(void *opaque, const struct vcore_hook_event *event)
{
	const struct vcpy_ctx *ctx = opaque;
	vcore_vcpu *outer = enter(event->vcpu);

	call(ctx, ctx->code, (const uint64_t[]){event->address, event->length}, 2, NULL);
	current_vcpu = outer;
}

static void on_access(void *opaque, const struct vcore_hook_event *event)
{
	const struct vcpy_ctx *ctx = opaque;
	vcore_vcpu *outer = enter(event->vcpu);

	vcpy_hook_access(ctx->handle, event);
	current_vcpu = outer;
}

static void on_destroy(void *opaque)
{
	const struct vcpy_ctx *ctx = opaque;

	vcpy_destroy(ctx->handle);
}

/* `read` and the others are addresses of Python objects, as id() gives them. */
static void vcpy_fill(struct vcpy_ctx *ctx, void *handle, uintptr_t read, uintptr_t write, uintptr_t code,
                      uintptr_t failed)
{
	*ctx = (struct vcpy_ctx){.handle = handle,
	                         .read = (PyObject *)read,
	                         .write = (PyObject *)write,
	                         .code = (PyObject *)code,
	                         .failed = (PyObject *)failed};
}

static void on_log(void *ctx, enum vcore_log_level level, const char *message)
{
	vcpy_log(((const struct vcpy_ctx *)ctx)->handle, (int)level, message);
}

static int vcpy_io_add(vcore_vm *vm, int bus, uint64_t start, uint64_t length, void *ctx, vcore_device **device)
{
	const struct vcore_device_ops ops = {.size = sizeof ops,
	                                     .read = on_read,
	                                     .write = on_write,
	                                     .reset = on_reset,
	                                     .save = on_save,
	                                     .load = on_load,
	                                     .destroy = on_destroy};

	return vcore_io_add(vm, (enum vcore_bus)bus, start, length, &ops, ctx, device);
}

static int vcpy_pci_add(vcore_vm *vm, const struct vcore_pci_description *description, void *ctx, vcore_device **device)
{
	const struct vcore_pci_ops ops = {.size = sizeof ops,
	                                  .read = on_pci_read,
	                                  .write = on_pci_write,
	                                  .reset = on_reset,
	                                  .save = on_save,
	                                  .load = on_load,
	                                  .destroy = on_destroy};

	return vcore_pci_add(vm, description, &ops, ctx, device);
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
	                                           .destroy = on_destroy};

	return vcore_hook_add(vm, &options, hook);
}

static void vcpy_set_log(struct vcore_options *options, void *ctx)
{
	options->log = on_log;
	options->log_ctx = ctx;
}

static int vcpy_clone(vcore_snapshot *snapshot, struct vcore_clone_options *options, void *ctx, void *log_ctx,
                      vcore_vm **vm)
{
	options->log = log_ctx ? on_log : NULL;
	options->log_ctx = log_ctx;
	options->ctx = ctx;
	options->properties = vcpy_clone_properties;
	options->prepare = vcpy_clone_prepare;
	return vcore_snapshot_clone(snapshot, options, vm);
}
