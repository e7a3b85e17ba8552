/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between the library's callbacks and Python's: takes structs apart, so that Python gets plain numbers, and remembers
 * which vcpu is at work on this thread. Becomes part of the C source that build_cffi.py makes.
 *
 * What a guest does by itself (accesses, hypercalls, hooks) comes often. Python's function is called from here, with
 * nothing between. All else is a cffi callback: the functions declared here without a body, which are in
 * virtcore/_callbacks.py.
 */
#include <linux/membarrier.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

/* A function of Python's, and what it was called with last: what nobody else has kept is filled anew. */
struct callee {
	PyObject *function, *self; /* self: of a bound method, else NULL. Borrowed from the Binding */
	PyObject *tuple;           /* an event, or arguments of a hypercall; NULL: none yet */
};

/* Of each device and hook. A Binding of Python's owns it and what it points to, until vcpy_destroy(). */
struct vcpy_ctx {
	void *handle;
	struct callee read, write, call, hook;
	PyTypeObject *event; /* of a memory or port hook; NULL: numbers are passed */
	PyObject *failed;    /* is given what they raise */
};

static void vcpy_meet_thread(void);
static void vcpy_device_reset(void *ctx);
static int64_t vcpy_device_save(void *ctx, void *buffer, size_t length);
static int vcpy_device_load(void *ctx, const void *buffer, size_t length);
static void vcpy_log(void *ctx, int level, const char *message);
static const char *vcpy_clone_properties(void *ctx, uint32_t index, const char *type, const char *properties);
static int vcpy_clone_prepare(void *ctx, vcore_vm *vm);
static void vcpy_destroy(void *ctx);

/* Of this thread. */
static __thread struct {
	vcore_vcpu *vcpu;     /* whose callback runs; NULL: no vcpu's */
	PyThreadState *state; /* as long as it is sure to stay: in vcpy_run(), and on a thread of the library; else NULL */
	uint64_t last_ns;     /* when the lock was taken last */
	unsigned burst;       /* ... and how often in a row soon after the time before */
} me __attribute__((tls_model("initial-exec")));

static vcore_vcpu *vcpy_current(void)
{
	return me.vcpu;
}

static vcore_vcpu *enter(vcore_vcpu *vcpu)
{
	vcore_vcpu *outer = me.vcpu;

	me.vcpu = vcpu;
	return outer;
}

/* ---- the interpreter's lock ---- */

/*
 * To take the lock and to give it back costs as much as a short function does. A thread that calls Python again and
 * again keeps it when it goes back to the guest, as a loan: `lent` says so. Whoever clears `lent` has the lock: the
 * thread itself, when it calls the next time; another thread of ours that wants it; or the watch, within two
 * milliseconds, so that a guest that has stopped calling, or waits, holds up nobody. A thread that goes on calling
 * gives the lock back for real once a millisecond.
 *
 * Another thread than the borrower can only give it back as long as the interpreter keeps the current thread in one
 * place for all: from Python 3.12 on there are no loans.
 */
#define LOANS      (PY_VERSION_HEX < 0x030c0000)
#define TICK_NS    1000000
#define BURST_NS   20000 /* calls are close together ... */
#define BURST_LONG 8     /* ... and have been so often */

static _Atomic(PyThreadState *) lent;
static atomic_uint calls_lent; /* written by the borrower */
static atomic_bool call_in;    /* the borrower is to give the lock back next time */

/* Of the calling thread, if it is lent to it. */
static bool take_back(PyThreadState *mine)
{
	PyThreadState *expected = mine;

	return mine && atomic_compare_exchange_strong(&lent, &expected, NULL);
}

/* Whoever has borrowed the lock and is not in Python. */
static void recall(void)
{
	if (take_back(atomic_load(&lent)))
		PyEval_SaveThread();
}

/* Before cffi takes the lock by itself, or the thread's state may go. */
static void end_loan(void)
{
	if (take_back(me.state))
		PyEval_SaveThread();
}

static struct {
	pthread_once_t once;
	atomic_bool started;
	atomic_bool awake; /* it looks after loans; who lends while it sleeps wakes it */
	sem_t wanted;
} watch = {.once = PTHREAD_ONCE_INIT};

/* It may sleep: a loan that began before `awake` was cleared is seen here, of a later one the lender wakes it. */
static bool nothing_to_watch(void)
{
	atomic_store(&watch.awake, false);
	/* a barrier in every thread, so that give() needs none between its store and its load */
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) < 0 || atomic_load(&lent))
		return atomic_exchange(&watch.awake, true);
	return true;
}

static void *run_watch(void *unused)
{
	unsigned seen = atomic_load(&calls_lent);

	for (;;) {
		unsigned calls;

		nanosleep(&(struct timespec){.tv_nsec = TICK_NS}, NULL);
		calls = atomic_load(&calls_lent);
		if (calls != seen) {
			atomic_store(&call_in, true);
		} else {
			recall();
			if (nothing_to_watch())
				while (sem_wait(&watch.wanted) < 0)
					;
		}
		seen = calls;
	}
	return unused;
}

/* The child of a fork has one thread, which is in Python. */
static void forget_watch(void)
{
	atomic_store(&watch.started, false);
}

static void prepare_watch(void)
{
	pthread_atfork(NULL, NULL, forget_watch);
}

/* With the lock, so one thread at a time. Signals are for Python's own threads. False: there cannot be loans. */
static bool start_watch(void)
{
	sigset_t all, before;
	pthread_t thread;

	pthread_once(&watch.once, prepare_watch);
	sem_init(&watch.wanted, 0, 0);
	atomic_store(&watch.awake, true);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (!pthread_create(&thread, NULL, run_watch, NULL)) {
		pthread_detach(thread);
		atomic_store(&watch.started, true);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return atomic_load(&watch.started);
}

static void note_burst(void)
{
	struct timespec t;
	uint64_t now;

	clock_gettime(CLOCK_MONOTONIC, &t);
	now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	me.burst = now - me.last_ns < BURST_NS ? me.burst + 1 : 0;
	me.last_ns = now;
}

/* The state to give the lock back with. */
static PyThreadState *take_slowly(void)
{
	PyThreadState *state = me.state;

	recall();
	if (!state) {
		state = PyGILState_GetThisThreadState();
		/* the interpreter would make its record of a thread of the library's for each call anew; cffi keeps it */
		if (!state) {
			vcpy_meet_thread();
			state = me.state = PyGILState_GetThisThreadState();
		}
	}
	PyEval_RestoreThread(state);
	if (LOANS && me.state)
		note_burst();
	return state;
}

static void take(void)
{
	if (!take_back(me.state))
		take_slowly();
}

static bool may_lend(void)
{
	return LOANS && me.state && me.burst >= BURST_LONG && !atomic_load_explicit(&call_in, memory_order_relaxed) &&
	       (atomic_load_explicit(&watch.started, memory_order_relaxed) || start_watch());
}

static void give(void)
{
	if (may_lend()) {
		atomic_store_explicit(&calls_lent, atomic_load_explicit(&calls_lent, memory_order_relaxed) + 1,
		                      memory_order_relaxed);
		atomic_store_explicit(&lent, me.state, memory_order_release);
		atomic_signal_fence(memory_order_seq_cst);
		if (!atomic_load_explicit(&watch.awake, memory_order_relaxed) && !atomic_exchange(&watch.awake, true))
			sem_post(&watch.wanted);
		return;
	}
	atomic_store_explicit(&call_in, false, memory_order_relaxed);
	PyEval_SaveThread();
}

static int vcpy_run(vcore_vcpu *vcpu, int64_t timeout_ns, struct vcore_exit *exit)
{
	PyThreadState *outer = me.state;
	int result;

	/* the caller's, which has given up the lock and stays for as long as this takes */
	me.state = PyGILState_GetThisThreadState();
	result = vcore_vcpu_run(vcpu, timeout_ns, exit);
	end_loan();
	me.state = outer;
	return result;
}

/* ---- arguments ---- */

/* Numbers that come again and again, like addresses: with the lock. */
#define BOXES 256
static struct {
	uint64_t number;
	PyObject *object;
} boxes[BOXES];

static PyObject *box(uint64_t number)
{
	unsigned at = (unsigned)(number ^ number >> 8 ^ number >> 20) % BOXES;
	PyObject *object = boxes[at].object, *old;

	if (!object || boxes[at].number != number) {
		object = PyLong_FromUnsignedLongLong(number);
		if (!object)
			return NULL;
		old = boxes[at].object;
		boxes[at].number = number;
		boxes[at].object = object;
		Py_XDECREF(old);
	}
	Py_INCREF(object);
	return object;
}

/* Puts a new reference in place. */
static bool put(PyObject *tuple, Py_ssize_t at, PyObject *object)
{
	PyObject *old = PyTuple_GET_ITEM(tuple, at);

	if (!object)
		return false;
	PyTuple_SET_ITEM(tuple, at, object);
	Py_XDECREF(old);
	return true;
}

/* A tuple for the callee that nobody else sees, of a subclass or of tuple itself; new reference. */
static PyObject *fresh_tuple(struct callee *callee, PyTypeObject *type, Py_ssize_t length)
{
	PyObject *tuple = callee->tuple;

	/* from 3.14 on tuples remember their hash */
	if (!tuple || Py_REFCNT(tuple) != 1 || PY_VERSION_HEX >= 0x030e0000) {
		tuple = type ? type->tp_alloc(type, length) : PyTuple_New(length);
		if (!tuple)
			return NULL;
		Py_XDECREF(callee->tuple);
		callee->tuple = tuple;
	}
	Py_INCREF(tuple);
	return tuple;
}

static bool put_data(PyObject *tuple, Py_ssize_t at, const void *data, size_t length)
{
	PyObject *old = PyTuple_GET_ITEM(tuple, at);

	if (old && (size_t)PyBytes_GET_SIZE(old) == length && !memcmp(PyBytes_AS_STRING(old), data, length))
		return true;
	return put(tuple, at, PyBytes_FromStringAndSize(data, (Py_ssize_t)length));
}

static PyObject *make_event(struct vcpy_ctx *ctx, const struct vcore_hook_event *e)
{
	const bool memory = e->kind == VCORE_HOOK_MEMORY;
	PyObject *event = fresh_tuple(&ctx->hook, ctx->event, memory ? 6 : 4), *is_write = e->is_write ? Py_True : Py_False;
	bool made;

	if (!event)
		return NULL;
	Py_INCREF(is_write);
	made = memory ? put(event, 3, is_write) && put(event, 0, box(e->address)) && put(event, 1, box(e->linear)) &&
	                    put(event, 2, box(e->length)) && put(event, 4, box(e->value)) &&
	                    put_data(event, 5, e->data, e->length)
	              : put(event, 2, is_write) && put(event, 0, box(e->address)) && put(event, 1, box(e->length)) &&
	                    put(event, 3, box(e->value));
	if (!made)
		Py_CLEAR(ctx->hook.tuple); /* not whole */
	if (!made)
		Py_CLEAR(event);
	return event;
}

/* ---- calling ---- */

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

/* args[0] and args[1] are free: the callee's own use, and self. Takes over the references behind them. */
static PyObject *call(const struct callee *callee, PyObject **args, size_t count)
{
	PyObject *result = NULL;
	bool whole = true;

	for (size_t k = 2; k < count + 2; k++)
		whole = whole && args[k];
	args[1] = callee->self;
	if (whole && callee->self)
		result = PyObject_Vectorcall(callee->function, args + 1, (count + 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
	else if (whole)
		result = PyObject_Vectorcall(callee->function, args + 2, count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
	for (size_t k = 2; k < count + 2; k++)
		Py_XDECREF(args[k]);
	return result;
}

/* With what a function has returned: whether it raised. */
static void finish(const struct vcpy_ctx *ctx, PyObject *result)
{
	if (!result)
		fail(ctx);
	Py_XDECREF(result);
}

/* ... or what it has returned is no number. */
static void finish_with(const struct vcpy_ctx *ctx, PyObject *result, uint64_t *answer)
{
	uint64_t value = result ? PyLong_AsUnsignedLongLongMask(result) : 0;

	if (!result || (value == UINT64_MAX && PyErr_Occurred()))
		fail(ctx);
	else
		*answer = value;
	Py_XDECREF(result);
}

/* ---- what the library calls ---- */

static void on_read(void *opaque, struct vcore_io *io)
{
	const struct vcpy_ctx *ctx = opaque;
	vcore_vcpu *outer = enter(io->vcpu);

	io->data = UINT64_MAX;
	take();
	finish_with(ctx, call(&ctx->read, (PyObject *[]){NULL, NULL, box(io->offset), box(io->width)}, 2), &io->data);
	give();
	me.vcpu = outer;
}

/* RAX and four registers; None for 0. */
static void hypercall(struct vcpy_ctx *ctx, struct vcore_io *io)
{
	PyObject *args = fresh_tuple(&ctx->call, NULL, 4), *result;
	bool made = args;

	for (Py_ssize_t k = 0; made && k < 4; k++)
		made = put(args, k, box(io->args[k]));
	if (!made)
		Py_CLEAR(ctx->call.tuple);
	if (!made)
		Py_CLEAR(args);
	io->data = UINT64_MAX;
	result = call(&ctx->call, (PyObject *[]){NULL, NULL, box(io->address), args}, 2);
	if (result == Py_None) {
		io->data = 0;
		Py_DECREF(result);
	} else {
		finish_with(ctx, result, &io->data);
	}
}

static void on_write(void *opaque, struct vcore_io *io)
{
	struct vcpy_ctx *ctx = opaque;
	vcore_vcpu *outer = enter(io->vcpu);

	take();
	if (io->bus == VCORE_BUS_HYPERCALL)
		hypercall(ctx, io);
	else
		finish(ctx, call(&ctx->write, (PyObject *[]){NULL, NULL, box(io->offset), box(io->width), box(io->data)}, 3));
	give();
	me.vcpu = outer;
}

static void on_pci_read(void *opaque, uint32_t bar, struct vcore_io *io)
{
	const struct vcpy_ctx *ctx = opaque;
	vcore_vcpu *outer = enter(io->vcpu);

	io->data = UINT64_MAX;
	take();
	finish_with(ctx, call(&ctx->read, (PyObject *[]){NULL, NULL, box(bar), box(io->offset), box(io->width)}, 3),
	            &io->data);
	give();
	me.vcpu = outer;
}

static void on_pci_write(void *opaque, uint32_t bar, struct vcore_io *io)
{
	const struct vcpy_ctx *ctx = opaque;
	vcore_vcpu *outer = enter(io->vcpu);

	take();
	finish(ctx,
	       call(&ctx->write, (PyObject *[]){NULL, NULL, box(bar), box(io->offset), box(io->width), box(io->data)}, 4));
	give();
	me.vcpu = outer;
}

static void on_hook(void *opaque, const struct vcore_hook_event *event)
{
	struct vcpy_ctx *ctx = opaque;
	vcore_vcpu *outer = enter(event->vcpu);

	take();
	if (ctx->event)
		finish(ctx, call(&ctx->hook, (PyObject *[]){NULL, NULL, make_event(ctx, event)}, 1));
	else
		finish(ctx, call(&ctx->hook, (PyObject *[]){NULL, NULL, box(event->address), box(event->length)}, 2));
	give();
	me.vcpu = outer;
}

static void on_reset(void *opaque)
{
	const struct vcpy_ctx *ctx = opaque;

	end_loan();
	vcpy_device_reset(ctx->handle);
}

static int64_t on_save(void *opaque, void *buffer, size_t length)
{
	const struct vcpy_ctx *ctx = opaque;

	end_loan();
	return vcpy_device_save(ctx->handle, buffer, length);
}

static int on_load(void *opaque, const void *buffer, size_t length)
{
	const struct vcpy_ctx *ctx = opaque;

	end_loan();
	return vcpy_device_load(ctx->handle, buffer, length);
}

static void on_destroy(void *opaque)
{
	struct vcpy_ctx *ctx = opaque;

	if (ctx->call.tuple || ctx->hook.tuple) {
		take();
		Py_CLEAR(ctx->call.tuple);
		Py_CLEAR(ctx->hook.tuple);
		give();
	}
	end_loan();
	vcpy_destroy(ctx->handle);
}

static struct callee callee_of(PyObject *function)
{
	if (function && PyMethod_Check(function))
		return (struct callee){.function = PyMethod_GET_FUNCTION(function), .self = PyMethod_GET_SELF(function)};
	return (struct callee){.function = function};
}

/* Addresses of Python objects, as id() gives them; event: a type, 0 for numbers. */
static void vcpy_fill(struct vcpy_ctx *ctx, void *handle, uintptr_t read, uintptr_t write, uintptr_t call,
                      uintptr_t hook, uintptr_t event, uintptr_t failed)
{
	*ctx = (struct vcpy_ctx){.handle = handle,
	                         .read = callee_of((PyObject *)read),
	                         .write = callee_of((PyObject *)write),
	                         .call = callee_of((PyObject *)call),
	                         .hook = callee_of((PyObject *)hook),
	                         .event = (PyTypeObject *)event,
	                         .failed = (PyObject *)failed};
}

static void on_log(void *ctx, enum vcore_log_level level, const char *message)
{
	end_loan();
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
	const struct vcore_hook_options options = {.size = sizeof options,
	                                           .kind = kind,
	                                           .start = start,
	                                           .length = length,
	                                           .access = access,
	                                           .callback = on_hook,
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
