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
	uint64_t before[4];  /* numbers that the tuple was made from */
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

struct thread {
	vcore_vcpu *vcpu;     /* whose callback runs; NULL: no vcpu's */
	PyThreadState *state; /* as long as it is sure to stay: in vcpy_run(), and on a thread of the library; else NULL */
	unsigned depth;       /* callbacks that have begun and not ended */
	uint64_t last_ns;     /* when the lock was taken last */
	unsigned burst;       /* ... and how often in a row soon after the time before */
	atomic_bool inside;   /* of the borrower of the lock: it is in Python */
};
static __thread struct thread me __attribute__((tls_model("initial-exec")));

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
 * again keeps it, as a loan, while it is back in the guest. Whoever else needs the lock recalls it: another thread of
 * ours before it waits for the lock; for all others the watch, every millisecond, so that a guest that has stopped
 * calling, or waits, holds up nobody.
 *
 * Of borrower and recaller each stores first and then loads what the other has stored: `inside` and `recalled`. The
 * recaller, who comes seldom, has a barrier made in both. Where both have seen each other the mutex decides.
 *
 * A thread can give the lock back in another's name as long as the interpreter keeps the current thread in one place
 * for all: from Python 3.12 on there are no loans.
 */
#define LOANS      (PY_VERSION_HEX < 0x030c0000)
#define TICK_NS    1000000
#define BURST_NS   20000 /* calls are close together ... */
#define BURST_LONG 8     /* ... and have been so often */

static pthread_mutex_t loans = PTHREAD_MUTEX_INITIALIZER; /* who clears `borrower` holds it */
static _Atomic(struct thread *) borrower;                 /* NULL: none. It has the lock but for what it does inside */
static atomic_bool recalled;                              /* the borrower is to give the lock back */

static bool barrier_everywhere(void)
{
	return !syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

/* With the mutex. The caller has the lock for good then. */
static void clear_loan(void)
{
	atomic_store(&borrower, NULL);
	atomic_store(&recalled, false);
}

/* The borrower keeps the lock as long as it is in Python, and is told. */
static void recall(void)
{
	struct thread *whose;

	if (!atomic_load(&borrower))
		return;
	pthread_mutex_lock(&loans);
	whose = atomic_load(&borrower);
	atomic_store(&recalled, whose != NULL);
	if (whose && barrier_everywhere() && !atomic_load(&whose->inside)) {
		clear_loan();
		PyEval_SaveThread();
	}
	pthread_mutex_unlock(&loans);
}

/* The loan of this thread, which is not in Python, is over. False: it was before. */
static bool cancel(void)
{
	bool mine;

	pthread_mutex_lock(&loans);
	mine = atomic_load(&borrower) == &me;
	if (mine)
		clear_loan();
	pthread_mutex_unlock(&loans);
	return mine;
}

/* Before cffi takes the lock by itself, or the thread's state may go. */
static void end_loan(void)
{
	if (atomic_load(&borrower) == &me && !atomic_load(&me.inside) && cancel())
		PyEval_SaveThread();
}

/* The watch: sleeps while nothing is on loan. */
static struct {
	pthread_once_t once;
	bool started;      /* with the interpreter's lock */
	atomic_bool awake; /* who borrows while it is not wakes it */
	sem_t wanted;
	pthread_key_t leaving; /* threads of the library */
} watch = {.once = PTHREAD_ONCE_INIT};

static void *run_watch(void *unused)
{
	pthread_setname_np(pthread_self(), "virtcore-lock");
	for (;;) {
		nanosleep(&(struct timespec){.tv_nsec = TICK_NS}, NULL);
		if (atomic_load(&borrower)) {
			recall();
			continue;
		}
		atomic_store(&watch.awake, false);
		/* who has borrowed since has either found it awake, and is seen here, or wakes it */
		if (atomic_load(&borrower) && !atomic_exchange(&watch.awake, true))
			continue;
		while (sem_wait(&watch.wanted) < 0)
			;
	}
	return unused;
}

/* The child of a fork has one thread, which is in Python. */
static void forget_watch(void)
{
	watch.started = false;
	pthread_mutex_init(&loans, NULL);
	if (atomic_load(&borrower) != &me)
		atomic_store(&borrower, NULL);
	atomic_store(&recalled, atomic_load(&borrower) != NULL);
}

static void thread_leaves(void *unused)
{
	(void)unused;
	end_loan();
}

static void prepare_watch(void)
{
	pthread_atfork(NULL, NULL, forget_watch);
	pthread_key_create(&watch.leaving, thread_leaves);
	syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
}

/* With the interpreter's lock. Signals are for Python's own threads. False: there cannot be loans. */
static bool start_watch(void)
{
	sigset_t all, before;
	pthread_t thread;

	if (watch.started || !barrier_everywhere())
		return watch.started;
	sem_init(&watch.wanted, 0, 0);
	atomic_store(&watch.awake, true);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	watch.started = !pthread_create(&thread, NULL, run_watch, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (watch.started)
		pthread_detach(thread);
	return watch.started;
}

/* From now on, to the end of callbacks. */
static void borrow(void)
{
	atomic_store(&me.inside, false);
	atomic_store(&borrower, &me);
	if (!atomic_exchange(&watch.awake, true))
		sem_post(&watch.wanted);
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

/* The interpreter would make its record of a thread of the library's for each call anew; cffi keeps it. */
static PyThreadState *meet_thread(void)
{
	vcpy_meet_thread();
	pthread_once(&watch.once, prepare_watch);
	pthread_setspecific(watch.leaving, &me);
	return me.state = PyGILState_GetThisThreadState();
}

static void take_slowly(void)
{
	PyThreadState *state = me.state ? me.state : PyGILState_GetThisThreadState();

	recall();
	PyEval_RestoreThread(state ? state : meet_thread());
	if (LOANS && me.state)
		note_burst();
}

/* The borrower, which is out of Python, goes in. False: the loan is over. */
static inline bool come_in(void)
{
	bool mine;

	atomic_store_explicit(&me.inside, true, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	if (!atomic_load_explicit(&recalled, memory_order_acquire) &&
	    atomic_load_explicit(&borrower, memory_order_relaxed) == &me)
		return true;
	pthread_mutex_lock(&loans);
	mine = atomic_load(&borrower) == &me;
	pthread_mutex_unlock(&loans);
	if (!mine)
		atomic_store(&me.inside, false);
	return mine;
}

/* Whether on loan. */
static inline bool take(void)
{
	me.depth++;
	if (atomic_load_explicit(&borrower, memory_order_relaxed) == &me && me.depth == 1 && come_in())
		return true;
	take_slowly();
	return false;
}

/* Another borrower may be in Python and have given the lock up there, as functions that wait do: it stays that. */
static bool may_borrow(void)
{
	return LOANS && me.state && !me.depth && me.burst >= BURST_LONG && !atomic_load(&borrower) && start_watch();
}

static inline void give(bool on_loan)
{
	me.depth--;
	if (on_loan) {
		atomic_store_explicit(&me.inside, false, memory_order_release);
		atomic_signal_fence(memory_order_seq_cst);
		if (!atomic_load_explicit(&recalled, memory_order_relaxed) || !cancel())
			return;
		me.burst = 0;
	} else if (may_borrow()) {
		borrow();
		return;
	}
	PyEval_SaveThread();
}

static int vcpy_run(vcore_vcpu *vcpu, int64_t timeout_ns, struct vcore_exit *exit)
{
	PyThreadState *outer = me.state;
	int result;

	pthread_once(&watch.once, prepare_watch);
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
static inline PyObject *fresh_tuple(struct callee *callee, PyTypeObject *type, Py_ssize_t length)
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

static inline bool put_data(PyObject *tuple, Py_ssize_t at, const void *data, size_t length)
{
	PyObject *old = PyTuple_GET_ITEM(tuple, at);

	if (old && (size_t)PyBytes_GET_SIZE(old) == length && !memcmp(PyBytes_AS_STRING(old), data, length))
		return true;
	return put(tuple, at, PyBytes_FromStringAndSize(data, (Py_ssize_t)length));
}

/* What differs from that from which the tuple was filled before, if it was. */
static inline bool put_changed(PyObject *tuple, Py_ssize_t at, uint64_t *before, uint64_t now)
{
	if (PyTuple_GET_ITEM(tuple, at) && *before == now)
		return true;
	*before = now;
	return put(tuple, at, box(now));
}

static inline bool put_is_write(PyObject *tuple, Py_ssize_t at, bool is_write)
{
	PyObject *object = is_write ? Py_True : Py_False;

	if (PyTuple_GET_ITEM(tuple, at) == object)
		return true;
	Py_INCREF(object);
	return put(tuple, at, object);
}

/* Numbers in the order of the tuple's. */
static inline bool fill_event(PyObject *event, uint64_t before[4], const struct vcore_hook_event *e)
{
	if (e->kind == VCORE_HOOK_PORT)
		return put_changed(event, 0, &before[0], e->address) && put_changed(event, 1, &before[1], e->length) &&
		       put_is_write(event, 2, e->is_write) && put_changed(event, 3, &before[2], e->value);
	return put_changed(event, 0, &before[0], e->address) && put_changed(event, 1, &before[1], e->linear) &&
	       put_changed(event, 2, &before[2], e->length) && put_is_write(event, 3, e->is_write) &&
	       put_changed(event, 4, &before[3], e->value) && put_data(event, 5, e->data, e->length);
}

/* New reference. */
static inline PyObject *make_event(struct vcpy_ctx *ctx, const struct vcore_hook_event *e)
{
	PyObject *event = fresh_tuple(&ctx->hook, ctx->event, e->kind == VCORE_HOOK_MEMORY ? 6 : 4);

	if (event && !fill_event(event, ctx->before, e)) {
		Py_CLEAR(ctx->hook.tuple); /* not whole */
		Py_CLEAR(event);
	}
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
static inline PyObject *call(const struct callee *callee, PyObject **args, size_t count)
{
	/* PyObject_Vectorcall() does the same, and looks at what has come out */
	vectorcallfunc function = PyVectorcall_Function(callee->function);
	size_t first = callee->self ? 1 : 2;
	PyObject *result = NULL;
	bool whole = true;

	for (size_t k = 2; k < count + 2; k++)
		whole = whole && args[k];
	args[1] = callee->self;
	if (whole)
		result = (function ? function : PyObject_Vectorcall)(
		    callee->function, args + first, (count + 2 - first) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
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
	bool on_loan;

	io->data = UINT64_MAX;
	on_loan = take();
	finish_with(ctx, call(&ctx->read, (PyObject *[]){NULL, NULL, box(io->offset), box(io->width)}, 2), &io->data);
	give(on_loan);
	me.vcpu = outer;
}

/* RAX and four registers; None for 0. */
static void hypercall(struct vcpy_ctx *ctx, struct vcore_io *io)
{
	PyObject *args = fresh_tuple(&ctx->call, NULL, 4), *result;
	bool made = args;

	for (Py_ssize_t k = 0; made && k < 4; k++) {
		if (PyTuple_GET_ITEM(args, k) && ctx->before[k] == io->args[k])
			continue;
		ctx->before[k] = io->args[k];
		made = put(args, k, PyLong_FromUnsignedLongLong(io->args[k]));
	}
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
	bool on_loan = take();

	if (io->bus == VCORE_BUS_HYPERCALL)
		hypercall(ctx, io);
	else
		finish(ctx, call(&ctx->write, (PyObject *[]){NULL, NULL, box(io->offset), box(io->width), box(io->data)}, 3));
	give(on_loan);
	me.vcpu = outer;
}

static void on_pci_read(void *opaque, uint32_t bar, struct vcore_io *io)
{
	const struct vcpy_ctx *ctx = opaque;
	vcore_vcpu *outer = enter(io->vcpu);
	bool on_loan;

	io->data = UINT64_MAX;
	on_loan = take();
	finish_with(ctx, call(&ctx->read, (PyObject *[]){NULL, NULL, box(bar), box(io->offset), box(io->width)}, 3),
	            &io->data);
	give(on_loan);
	me.vcpu = outer;
}

static void on_pci_write(void *opaque, uint32_t bar, struct vcore_io *io)
{
	const struct vcpy_ctx *ctx = opaque;
	vcore_vcpu *outer = enter(io->vcpu);
	bool on_loan = take();

	finish(ctx,
	       call(&ctx->write, (PyObject *[]){NULL, NULL, box(bar), box(io->offset), box(io->width), box(io->data)}, 4));
	give(on_loan);
	me.vcpu = outer;
}

static void on_hook(void *opaque, const struct vcore_hook_event *event)
{
	struct vcpy_ctx *ctx = opaque;
	vcore_vcpu *outer = enter(event->vcpu);
	bool on_loan = take();

	if (ctx->event)
		finish(ctx, call(&ctx->hook, (PyObject *[]){NULL, NULL, make_event(ctx, event)}, 1));
	else
		finish(ctx, call(&ctx->hook, (PyObject *[]){NULL, NULL, box(event->address), box(event->length)}, 2));
	give(on_loan);
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
		bool on_loan = take();

		Py_CLEAR(ctx->call.tuple);
		Py_CLEAR(ctx->hook.tuple);
		give(on_loan);
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
