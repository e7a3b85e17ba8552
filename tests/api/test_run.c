/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Running, in both threading modes: kick, time-out, pause, resume, stop, wait, reset, from wherever the headers allow.
 */
#include "api.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#define VCPUS 3

/* inc dword [0x5000 + 4 * vcpu]; jmp: each vcpu counts in a cell of its own, EBX says which */
static const uint8_t counting[] = {0xff, 0x83, 0x00, 0x50, 0x00, 0x00, 0xeb, 0xf8};
#define CELLS 0x5000

static void load_counting(vcore_vm *vm, uint32_t vcpus)
{
	for (uint32_t i = 0; i < vcpus; i++) {
		struct vcore_regs regs = {.size = sizeof regs};

		api_load(vm, i, VCORE_MODE_PROTECTED32, CODE, counting, sizeof counting);
		OK(vcore_vcpu_get_regs(vcore_vm_vcpu(vm, i), &regs));
		regs.rbx = 4 * i;
		OK(vcore_vcpu_set_regs(vcore_vm_vcpu(vm, i), &regs));
	}
}

static uint32_t cell(vcore_vm *vm, uint32_t i)
{
	uint32_t value = 0;

	OK(vcore_memory_read(vm, CELLS + 4 * i, &value, sizeof value));
	return value;
}

/* Every vcpu makes progress. */
static void all_count(vcore_vm *vm, uint32_t vcpus)
{
	for (uint32_t i = 0; i < vcpus; i++) {
		uint32_t before = cell(vm, i);
		int n = 0;

		while (cell(vm, i) == before && n++ < 20000)
			api_pause_ms(1);
		ck_assert_uint_ne(cell(vm, i), before);
	}
}

/* ---- the program's threads ---- */

START_TEST(halt_and_registers)
{
	vcore_vm *vm = api_vm(_i, 1);

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xb8, 0x78, 0x56, 0x34, 0x12, 0xf4));
	ck_assert_uint_eq(api_run(vm, VCORE_EXIT_HALT).vcpu, 0);
	ck_assert_uint_eq(api_rax(vm), 0x12345678);
	ck_assert_uint_eq(api_rip(vm), CODE + 6);
	ck_assert_uint_eq(api_state(vm), VCORE_VM_CREATED);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(timeouts)
{
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm = api_vm(_i, 1);
	vcore_vcpu *vcpu = vcore_vm_vcpu(vm, 0);

	load_counting(vm, 1);
	OK(vcore_vcpu_run(vcpu, 0, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_TIMEOUT);
	for (int i = 0; i < 3; i++) {
		OK(vcore_vcpu_run(vcpu, 5000000, &exit));
		ck_assert_uint_eq(exit.reason, VCORE_EXIT_TIMEOUT);
	}
	ck_assert_uint_gt(cell(vm, 0), 0);
	/* a time-out that was not needed ends no later run, nor a vm that is started */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xf4, 0xf4));
	vcore_vcpu_kick(vcpu);
	OK(vcore_vcpu_run(vcpu, 0, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_KICKED);
	OK(vcore_vcpu_run(vcpu, -1, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_HALT);
	OK(vcore_vcpu_run(vcpu, INT64_MAX, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_HALT);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(kick_is_sticky)
{
	vcore_vm *vm = api_vm(_i, 1);

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xf4));
	vcore_vcpu_kick(vcore_vm_vcpu(vm, 0));
	vcore_vcpu_kick(vcore_vm_vcpu(vm, 0));
	api_run(vm, VCORE_EXIT_KICKED);
	ck_assert_uint_eq(api_rip(vm), CODE); /* nothing was executed */
	api_run(vm, VCORE_EXIT_HALT);         /* two kicks before a run are one */
	/* a reset is the guest's matter, a kick the program's */
	vcore_vcpu_kick(vcore_vm_vcpu(vm, 0));
	OK(vcore_vm_reset(vm));
	api_run(vm, VCORE_EXIT_KICKED);
	vcore_vcpu_kick(NULL);
	vcore_vm_unref(vm);
}
END_TEST

static void *kick_later(void *vcpu)
{
	api_pause_ms(20);
	vcore_vcpu_kick(vcpu);
	return NULL;
}

START_TEST(kick_from_a_thread)
{
	vcore_vm *vm = api_vm(_i, 1);
	pthread_t thread;

	load_counting(vm, 1);
	for (int i = 0; i < 10; i++) {
		pthread_create(&thread, NULL, kick_later, vcore_vm_vcpu(vm, 0));
		api_run(vm, VCORE_EXIT_KICKED);
		pthread_join(thread, NULL);
	}
	vcore_vm_unref(vm);
}
END_TEST

static vcore_vcpu *kicked_by_signal;

static void on_signal(int signal)
{
	vcore_vcpu_kick(kicked_by_signal);
}

/* The thread sanitizer holds a signal back until the thread next calls libc. A guest that counts never lets it, so that
 * only the end of a run does: a kick that comes with a time-out is told before it. */
#ifdef __SANITIZE_THREAD__
#define SIGNAL_SEEN (SECOND / 20)
#else
#define SIGNAL_SEEN LONG
#endif

/* The handler runs on the very thread that runs the vcpu. */
START_TEST(kick_from_a_signal_handler)
{
	struct vcore_exit exit = {.size = sizeof exit};
	struct itimerspec in_20ms = {.it_value.tv_nsec = 20000000};
	struct sigaction action = {.sa_handler = on_signal};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	vcore_vm *vm = api_vm(_i, 1);
	timer_t timer;

	load_counting(vm, 1);
	kicked_by_signal = vcore_vm_vcpu(vm, 0);
	ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
	ck_assert_int_eq(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	for (int i = 0; i < 5; i++) {
		int runs = 0;

		timer_settime(timer, 0, &in_20ms, NULL);
		do
			OK(vcore_vcpu_run(vcore_vm_vcpu(vm, 0), SIGNAL_SEEN, &exit));
		while (exit.reason == VCORE_EXIT_TIMEOUT && ++runs < LONG / SIGNAL_SEEN);
		ck_assert_uint_eq(exit.reason, VCORE_EXIT_KICKED);
	}
	timer_delete(timer);
	vcore_vm_unref(vm);
}
END_TEST

static void kick_in_callback(struct api_device *d, struct vcore_io *io)
{
	vcore_vcpu_kick(io->vcpu);
}

/* The access is complete when the run returns, and is not made again. How soon after it the kick is seen is the
 * backend's. */
START_TEST(kick_from_a_callback)
{
	struct api_device d = {.value = 7, .hook = kick_in_callback};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm = api_vm(_i, 1);
	int kicks = 0;

	OK(vcore_io_add(vm, VCORE_BUS_MMIO, 0x10000000, 0x1000, &api_device_ops, &d, NULL));
	/* mov eax, [0x10000000]; mov ebx, eax; mov [0x10000004], eax; hlt */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
	         CODE_BYTES(0xa1, 0, 0, 0, 0x10, 0x89, 0xc3, 0xa3, 4, 0, 0, 0x10, 0xf4));
	do {
		OK(vcore_vcpu_run(vcore_vm_vcpu(vm, 0), LONG, &exit));
		kicks += exit.reason == VCORE_EXIT_KICKED;
		/* between instructions: what was read is in its register */
		ck_assert_uint_eq(api_rax(vm), 7);
		ck_assert(api_rip(vm) == CODE + 5 || api_rip(vm) > CODE + 11 || !d.writes);
	} while (exit.reason == VCORE_EXIT_KICKED && kicks < 5);
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_HALT);
	ck_assert(kicks == 1 || kicks == 2);
	ck_assert_uint_eq(d.reads, 1);
	ck_assert_uint_eq(d.writes, 1);
	vcore_vm_unref(vm);
}
END_TEST

struct runner {
	vcore_vcpu *vcpu;
	_Atomic uint32_t inside;
	struct vcore_exit exit;
	int result;
};

static void *run_vcpu(void *arg)
{
	struct runner *r = arg;

	r->exit = (struct vcore_exit){.size = sizeof r->exit};
	atomic_store(&r->inside, 1);
	r->result = vcore_vcpu_run(r->vcpu, -1, &r->exit);
	return NULL;
}

START_TEST(several_program_threads)
{
	vcore_vm *vm = api_vm(_i, VCPUS);
	struct runner r[VCPUS] = {0};
	struct vcore_regs regs = {.size = sizeof regs};
	struct vcore_exit exit = {.size = sizeof exit};
	pthread_t threads[VCPUS];

	load_counting(vm, VCPUS);
	for (int i = 0; i < VCPUS; i++) {
		r[i].vcpu = vcore_vm_vcpu(vm, (uint32_t)i);
		pthread_create(&threads[i], NULL, run_vcpu, &r[i]);
	}
	all_count(vm, VCPUS);
	for (int i = 0; i < VCPUS; i++) {
		REFUSED(vcore_vcpu_run(r[i].vcpu, 0, &exit), EBUSY, "another thread");
		REFUSED(vcore_vcpu_get_regs(r[i].vcpu, &regs), EBUSY, "executing");
	}
	REFUSED(vcore_vm_start(vm), EBUSY, "in use by the program");
	REFUSED(vcore_vm_reset(vm), EBUSY, "in use by the program");
	REFUSED(vcore_boot_linux(vm, "/dev/null", NULL, NULL), EBUSY, "in use by the program");
	for (int i = 0; i < VCPUS; i++) {
		vcore_vcpu_kick(r[i].vcpu);
		pthread_join(threads[i], NULL);
		ck_assert_int_eq(r[i].result, 0);
		ck_assert_uint_eq(r[i].exit.reason, VCORE_EXIT_KICKED);
		ck_assert_uint_eq(r[i].exit.vcpu, i);
		OK(vcore_vcpu_get_regs(r[i].vcpu, &regs));
	}
	vcore_vm_unref(vm);
}
END_TEST

/* A device ends the vm: all vcpus that the program runs come back with it, until a reset. */
START_TEST(final_exit_reaches_all_program_threads)
{
	struct vcore_options o = {.machine = VCORE_MACHINE_NONE, .vcpus = 2, .memory = RAM};
	vcore_vm *vm = api_vm_with(_i, &o);
	struct runner r = {.vcpu = vcore_vm_vcpu(vm, 1)};
	pthread_t thread;

	OK(vcore_device_add(vm, "debug-exit", NULL, NULL));
	load_counting(vm, 2);
	api_load(vm, 0, VCORE_MODE_PROTECTED32, 0x2000, CODE_BYTES(0xb0, 0x2a, 0xe6, 0xf4, 0xf4)); /* out 0xf4, 42 */
	pthread_create(&thread, NULL, run_vcpu, &r);
	api_until(&r.inside, 1);
	ck_assert_uint_eq(api_run(vm, VCORE_EXIT_DEBUG_EXIT).code, 42);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(r.exit.reason, VCORE_EXIT_DEBUG_EXIT);
	ck_assert_uint_eq(r.exit.code, 42);
	api_run(vm, VCORE_EXIT_DEBUG_EXIT);
	OK(vcore_vm_reset(vm));
	api_load(vm, 0, VCORE_MODE_PROTECTED32, 0x2000, CODE_BYTES(0xf4));
	api_run(vm, VCORE_EXIT_HALT);
	vcore_vm_unref(vm);
}
END_TEST

/* Two threads look at a vcpu that does not run: neither is refused. */
static void *look(void *arg)
{
	struct runner *r = arg;
	struct vcore_regs regs = {.size = sizeof regs};

	for (int i = 0; i < 2000 && !r->result; i++)
		r->result = vcore_vcpu_get_regs(r->vcpu, &regs);
	return NULL;
}

START_TEST(readers_do_not_refuse_each_other)
{
	vcore_vm *vm = api_vm(_i, 1);
	struct runner r[3] = {0};
	pthread_t threads[3];

	for (int i = 0; i < 3; i++) {
		r[i].vcpu = vcore_vm_vcpu(vm, 0);
		pthread_create(&threads[i], NULL, look, &r[i]);
	}
	for (int i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_int_eq(r[i].result, 0);
	}
	vcore_vm_unref(vm);
}
END_TEST

/* ---- the library's threads ---- */

static bool readable(int fd)
{
	struct pollfd p = {fd, POLLIN, 0};

	return poll(&p, 1, 0) == 1;
}

START_TEST(start_pause_resume_stop)
{
	struct vcore_exit exit = {.size = sizeof exit};
	struct vcore_regs regs = {.size = sizeof regs};
	struct vcore_vm_info a = {.size = sizeof a}, b = {.size = sizeof b};
	vcore_vm *vm = api_vm(_i, VCPUS);
	uint32_t counts[VCPUS];

	load_counting(vm, VCPUS);
	REFUSED(vcore_vm_pause(vm), EINVAL, "never started");
	REFUSED(vcore_vm_resume(vm), EINVAL, "not paused");
	REFUSED(vcore_vm_stop(vm), EINVAL, "never started");
	REFUSED(vcore_vm_wait(vm, 0, &exit), EINVAL, "never started");
	ck_assert(!readable(vcore_vm_fd(vm)));
	OK(vcore_vm_start(vm));
	REFUSED(vcore_vm_start(vm), EBUSY, "runs already");
	REFUSED(vcore_vm_reset(vm), EBUSY, "runs");
	REFUSED(vcore_vm_resume(vm), EINVAL, "not paused");
	REFUSED(vcore_vcpu_run(vcore_vm_vcpu(vm, 0), 0, &exit), EBUSY, "started");
	REFUSED(vcore_vcpu_get_regs(vcore_vm_vcpu(vm, 0), &regs), EBUSY, "executing");
	REFUSED(vcore_vcpu_set_regs(vcore_vm_vcpu(vm, 0), &regs), EBUSY, "executing");
	all_count(vm, VCPUS);
	REFUSED(vcore_vm_wait(vm, 0, &exit), ETIMEDOUT, "still runs");
	for (int round = 0; round < 5; round++) {
		OK(vcore_vm_pause(vm));
		OK(vcore_vm_pause(vm));
		ck_assert_uint_eq(api_state(vm), VCORE_VM_PAUSED);
		for (uint32_t i = 0; i < VCPUS; i++) {
			counts[i] = cell(vm, i);
			OK(vcore_vcpu_get_regs(vcore_vm_vcpu(vm, i), &regs));
			OK(vcore_vcpu_set_regs(vcore_vm_vcpu(vm, i), &regs));
		}
		OK(vcore_vm_get_info(vm, &a));
		api_pause_ms(5);
		OK(vcore_vm_get_info(vm, &b));
		ck_assert_uint_eq(a.time_ns, b.time_ns); /* guest time stands still */
		for (uint32_t i = 0; i < VCPUS; i++)
			ck_assert_uint_eq(counts[i], cell(vm, i));
		REFUSED(vcore_vm_start(vm), EBUSY, "runs already");
		OK(vcore_vm_resume(vm));
		all_count(vm, VCPUS);
	}
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_STOPPED);
	ck_assert(readable(vcore_vm_fd(vm)));
	ck_assert_uint_eq(api_state(vm), VCORE_VM_EXITED);
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_pause(vm));
	OK(vcore_vm_wait(vm, 0, NULL));
	OK(vcore_vcpu_get_regs(vcore_vm_vcpu(vm, 1), &regs));
	REFUSED(vcore_vm_start(vm), EBUSY, "reset");
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(start_stop_reset_start)
{
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm = api_vm(_i, VCPUS);

	for (int round = 0; round < 30; round++) {
		load_counting(vm, VCPUS);
		OK(vcore_vm_start(vm));
		if (round % 3 == 0)
			all_count(vm, VCPUS);
		if (round % 3 == 1)
			OK(vcore_vm_pause(vm));
		if (round % 6 == 1)
			OK(vcore_vm_reset(vm)); /* allowed while paused */
		OK(vcore_vm_stop(vm));
		OK(vcore_vm_wait(vm, LONG, &exit));
		ck_assert_uint_eq(exit.reason, VCORE_EXIT_STOPPED);
		OK(vcore_vm_reset(vm));
		ck_assert_uint_eq(api_state(vm), VCORE_VM_CREATED);
		ck_assert(!readable(vcore_vm_fd(vm)));
	}
	/* and the other threading mode afterwards */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xf4));
	api_run(vm, VCORE_EXIT_HALT);
	vcore_vm_unref(vm);
}
END_TEST

/* On machine none a halt ends the vm; the vcpu that halted is named. */
START_TEST(halt_is_final)
{
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm = api_vm(_i, 2);

	load_counting(vm, 1);
	api_load(vm, 1, VCORE_MODE_PROTECTED32, 0x2000, CODE_BYTES(0xf4));
	OK(vcore_vm_start(vm));
	OK(vcore_vm_wait(vm, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_HALT);
	ck_assert_uint_eq(exit.vcpu, 1);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(debug_exit_names_its_vcpu)
{
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm = api_vm(_i, 2);

	OK(vcore_device_add(vm, "debug-exit", NULL, NULL));
	load_counting(vm, 1);
	api_load(vm, 1, VCORE_MODE_PROTECTED32, 0x2000, CODE_BYTES(0xb0, 5, 0xe6, 0xf4, 0xf4));
	OK(vcore_vm_start(vm));
	OK(vcore_vm_wait(vm, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_DEBUG_EXIT);
	ck_assert_uint_eq(exit.code, 5);
	ck_assert_uint_eq(exit.vcpu, 1);
	OK(vcore_vm_stop(vm)); /* it already had its final exit */
	OK(vcore_vm_wait(vm, 0, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_DEBUG_EXIT);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(triple_fault_is_a_crash)
{
	struct vcore_sregs sregs = {.size = sizeof sregs};
	vcore_vm *vm = api_vm(_i, 1);
	struct vcore_exit exit;

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0x0f, 0x0b)); /* ud2 */
	OK(vcore_vcpu_get_sregs(vcore_vm_vcpu(vm, 0), &sregs));
	sregs.idtr.limit = 0;
	OK(vcore_vcpu_set_sregs(vcore_vm_vcpu(vm, 0), &sregs));
	exit = api_run(vm, VCORE_EXIT_CRASH);
	ck_assert_uint_eq(exit.crash, VCORE_CRASH_TRIPLE_FAULT);
	ck_assert_str_ne(exit.message, "");
	vcore_vm_unref(vm);
}
END_TEST

struct own_thread {
	vcore_vm *vm;
	int wait, pause, stop, reset, start, set, get, run;
	struct vcore_exit exit;
};

static void from_own_thread(struct api_device *d, struct vcore_io *io)
{
	struct own_thread *o = d->hook_ctx;
	struct vcore_regs regs = {.size = sizeof regs};

	o->wait = vcore_vm_wait(o->vm, -1, NULL);
	o->pause = vcore_vm_pause(o->vm);
	o->reset = vcore_vm_reset(o->vm);
	o->start = vcore_vm_start(o->vm);
	o->get = vcore_vcpu_get_regs(io->vcpu, &regs);
	o->set = vcore_vcpu_set_regs(io->vcpu, &regs);
	o->exit.size = sizeof o->exit;
	o->run = vcore_vcpu_run(io->vcpu, 0, &o->exit);
	o->stop = vcore_vm_stop(o->vm);
}

START_TEST(calls_from_a_callback)
{
	struct own_thread o = {0};
	struct api_device d = {.hook = from_own_thread, .hook_ctx = &o};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm = api_vm(_i, 1);

	o.vm = vm;
	OK(vcore_io_add(vm, VCORE_BUS_PIO, 0x10, 1, &api_device_ops, &d, NULL));
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xe6, 0x10, 0xf4));
	/* the program's thread */
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_int_eq(o.wait, -EDEADLK);
	ck_assert_int_eq(o.pause, -EDEADLK);
	ck_assert_int_eq(o.reset, -EBUSY);
	ck_assert_int_eq(o.start, -EBUSY);
	ck_assert_int_eq(o.get, 0);
	ck_assert_int_eq(o.set, -EBUSY);
	ck_assert_int_eq(o.run, -EBUSY);
	ck_assert_int_eq(o.stop, -EINVAL);
	/* the library's */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xe6, 0x10, 0xeb, 0xfe));
	OK(vcore_vm_start(vm));
	OK(vcore_vm_wait(vm, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_STOPPED);
	ck_assert_int_eq(o.wait, -EDEADLK);
	ck_assert_int_eq(o.pause, -EDEADLK);
	ck_assert_int_eq(o.reset, -EBUSY);
	ck_assert_int_eq(o.start, -EBUSY);
	ck_assert_int_eq(o.get, 0);
	ck_assert_int_eq(o.set, -EBUSY);
	ck_assert_int_eq(o.stop, 0);
	vcore_vm_unref(vm);
}
END_TEST

/* Everybody does everything at once; nothing hangs, and the end is right. */
struct crowd {
	vcore_vm *vm;
	_Atomic uint32_t stop, resets, exits;
	unsigned seed;
};

static void *disturb(void *arg)
{
	struct crowd *c = arg;
	unsigned seed = (unsigned)(uintptr_t)&arg;
	struct vcore_exit exit = {.size = sizeof exit};

	while (!atomic_load(&c->stop)) {
		switch (rand_r(&seed) % 8) {
		case 0:
			vcore_vm_pause(c->vm);
			break;
		case 1:
			vcore_vm_resume(c->vm);
			break;
		case 2:
			vcore_vm_stop(c->vm);
			break;
		case 3:
			vcore_vm_wait(c->vm, 100000, &exit);
			break;
		case 4:
			if (vcore_vm_reset(c->vm) == 0)
				atomic_fetch_add(&c->resets, 1);
			break;
		case 5:
			vcore_vm_start(c->vm);
			break;
		case 6:
			vcore_vcpu_kick(vcore_vm_vcpu(c->vm, 1));
			break;
		case 7:
			api_state(c->vm);
			break;
		}
	}
	return NULL;
}

START_TEST(all_at_once)
{
	struct vcore_exit exit = {.size = sizeof exit};
	struct crowd c = {.vm = api_vm(_i, 2)};
	pthread_t threads[4];

	/* at the reset vector: jmp $ */
	OK(vcore_memory_add(c.vm, 0xfffff000, 0x1000, VCORE_MEM_RX, NULL, NULL));
	OK(vcore_memory_write(c.vm, 0xfffffff0, "\xeb\xfe", 2));
	OK(vcore_vm_reset(c.vm));
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, disturb, &c);
	for (int i = 0; i < 500 && atomic_load(&c.resets) < 40; i++)
		api_pause_ms(5);
	atomic_store(&c.stop, 1);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	if (api_state(c.vm) == VCORE_VM_CREATED)
		OK(vcore_vm_start(c.vm));
	OK(vcore_vm_stop(c.vm));
	OK(vcore_vm_wait(c.vm, LONG, &exit));
	OK(vcore_vm_reset(c.vm));
	ck_assert_uint_eq(api_state(c.vm), VCORE_VM_CREATED);
	vcore_vm_unref(c.vm);
}
END_TEST

static void *wait_for_end(void *arg)
{
	struct runner *r = arg;

	r->exit.size = sizeof r->exit;
	atomic_store(&r->inside, (uint32_t)gettid());
	r->result = vcore_vm_wait(vcore_vcpu_vm(r->vcpu), -1, &r->exit);
	return NULL;
}

static bool sleeps(uint32_t thread)
{
	char name[64], line[256] = "", *end;
	FILE *f;

	snprintf(name, sizeof name, "/proc/self/task/%u/stat", thread);
	f = fopen(name, "r");
	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_nonnull(fgets(line, sizeof line, f));
	fclose(f);
	end = strrchr(line, ')');
	return end && !strncmp(end, ") S", 3);
}

/* They all wait: in the second look none sleeps on a lock that another had in the first. */
static void until_all_sleep(struct runner *r, int count)
{
	int looks = 0;

	for (int n = 0; n < 30000 && looks < 2; n++) {
		looks++;
		for (int i = 0; i < count; i++)
			looks = sleeps(atomic_load(&r[i].inside)) ? looks : 0;
		if (!looks)
			api_pause_ms(1);
	}
	ck_assert_int_eq(looks, 2);
}

/* Whoever waited for an end gets it, even if a reset follows at once. */
START_TEST(reset_does_not_swallow_an_end)
{
	vcore_vm *vm = api_vm(_i, 1);
	struct runner r[3];
	pthread_t threads[3];

	for (int round = 0; round < 8; round++) {
		memset(r, 0, sizeof r);
		load_counting(vm, 1);
		OK(vcore_vm_start(vm));
		for (int i = 0; i < 3; i++) {
			r[i].vcpu = vcore_vm_vcpu(vm, 0);
			pthread_create(&threads[i], NULL, wait_for_end, &r[i]);
		}
		for (int i = 0; i < 3; i++)
			api_until(&r[i].inside, 1);
		until_all_sleep(r, 3);
		OK(vcore_vm_stop(vm));
		OK(vcore_vm_wait(vm, LONG, NULL));
		OK(vcore_vm_reset(vm));
		OK(vcore_vm_start(vm));
		for (int i = 0; i < 3; i++) {
			pthread_join(threads[i], NULL);
			ck_assert_int_eq(r[i].result, 0);
			ck_assert_uint_eq(r[i].exit.reason, VCORE_EXIT_STOPPED);
		}
		OK(vcore_vm_stop(vm));
		OK(vcore_vm_wait(vm, LONG, NULL));
		OK(vcore_vm_reset(vm));
	}
	vcore_vm_unref(vm);
}
END_TEST

/* The last reference takes down a vm in any state. */
START_TEST(unref_in_any_state)
{
	for (int state = 0; state < 4; state++) {
		vcore_vm *vm = api_vm(_i, 2);

		load_counting(vm, 2);
		ck_assert_ptr_eq(vcore_vm_ref(vm), vm);
		vcore_vm_unref(vm);
		if (state > 0)
			OK(vcore_vm_start(vm));
		if (state == 2)
			OK(vcore_vm_pause(vm));
		if (state == 3)
			OK(vcore_vm_stop(vm));
		vcore_vm_unref(vm);
	}
	vcore_vm_unref(NULL);
}
END_TEST

static void *whole_life(void *arg)
{
	int backend = *(int *)arg;

	for (int i = 0; i < 8; i++) {
		struct vcore_exit exit = {.size = sizeof exit};
		vcore_vm *vm = api_vm(backend, 1 + (uint32_t)i % 2);

		load_counting(vm, 1 + (uint32_t)i % 2);
		OK(vcore_vm_start(vm));
		OK(vcore_vm_stop(vm));
		OK(vcore_vm_wait(vm, LONG, &exit));
		ck_assert_uint_eq(exit.reason, VCORE_EXIT_STOPPED);
		vcore_vm_unref(vm);
		REFUSED(vcore_vm_new(&(struct vcore_options){.size = sizeof(struct vcore_options), .memory = 5}, &vm), EINVAL,
		        "options.memory is 0x5");
	}
	return NULL;
}

START_TEST(many_vms_in_parallel)
{
	pthread_t threads[6];
	char before[512];
	int backend[6];

	snprintf(before, sizeof before, "%s", vcore_error_message());
	for (int i = 0; i < 6; i++) {
		backend[i] = i % api_backend_count();
		pthread_create(&threads[i], NULL, whole_life, &backend[i]);
	}
	for (int i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	ck_assert_str_eq(vcore_error_message(), before); /* the threads' errors are theirs */
}
END_TEST

/* ---- the event loop of the program ---- */

START_TEST(program_loop)
{
	struct vcore_options o = {.memory = RAM, .loop = VCORE_LOOP_PROGRAM};
	vcore_vm *vm = api_vm_with(_i, &o), *other = api_vm(_i, 1);

	REFUSED(vcore_vm_loop_fd(other), EINVAL, "own thread");
	REFUSED(vcore_vm_loop_run(other, 0), EINVAL, "own thread");
	ck_assert_int_ge(vcore_vm_loop_fd(vm), 0);
	ck_assert(!readable(vcore_vm_loop_fd(vm)));
	ck_assert_int_eq(vcore_vm_loop_run(vm, 0), 0);
	ck_assert_int_eq(vcore_vm_loop_run(vm, 1000000), 0);
	load_counting(vm, 1);
	OK(vcore_vm_start(vm)); /* vcpu threads need nobody in the loop */
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, NULL));
	vcore_vm_unref(vm);
	vcore_vm_unref(other);
}
END_TEST

START_TEST(bad_arguments)
{
	struct vcore_exit exit = {.size = sizeof exit}, unsized = {0};
	vcore_vm *vm = api_vm(_i, 1);

	REFUSED(vcore_vm_start(NULL), EINVAL, "no vm");
	REFUSED(vcore_vm_stop(NULL), EINVAL, "no vm");
	REFUSED(vcore_vm_pause(NULL), EINVAL, "no vm");
	REFUSED(vcore_vm_resume(NULL), EINVAL, "no vm");
	REFUSED(vcore_vm_reset(NULL), EINVAL, "no vm");
	REFUSED(vcore_vm_fd(NULL), EINVAL, "no vm");
	REFUSED(vcore_vm_loop_run(NULL, 0), EINVAL, "no vm");
	REFUSED(vcore_vm_wait(vm, 0, &unsized), EINVAL, "size");
	REFUSED(vcore_vcpu_run(NULL, 0, &exit), EINVAL, "vcpu");
	REFUSED(vcore_vcpu_run(vcore_vm_vcpu(vm, 0), 0, &unsized), EINVAL, "size");
	REFUSED(vcore_vcpu_run(vcore_vm_vcpu(vm, 0), 0, NULL), EINVAL, "size");
	ck_assert_ptr_null(vcore_vm_vcpu(vm, 1));
	ck_assert_ptr_nonnull(strstr(vcore_error_message(), "no vcpu 1"));
	vcore_vm_unref(vm);
}
END_TEST

/* A caller built with an older, shorter struct. */
START_TEST(shorter_exit)
{
	struct {
		struct vcore_exit exit;
		uint64_t guard;
	} s = {.exit.size = offsetof(struct vcore_exit, dr6), .guard = 0x1122334455667788};
	vcore_vm *vm = api_vm(_i, 1);

	memset(&s.exit.dr6, 0xee, sizeof s.exit - offsetof(struct vcore_exit, dr6));
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xf4));
	OK(vcore_vcpu_run(vcore_vm_vcpu(vm, 0), LONG, &s.exit));
	ck_assert_uint_eq(s.exit.reason, VCORE_EXIT_HALT);
	ck_assert_uint_eq(s.exit.size, offsetof(struct vcore_exit, dr6));
	ck_assert_uint_eq(s.exit.dr6, 0xeeeeeeeeeeeeeeee);
	ck_assert_uint_eq(s.guard, 0x1122334455667788);
	vcore_vm_unref(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("run");
	TCase *program = tcase_create("program"), *library = tcase_create("library");

	tcase_set_timeout(program, 60);
	EACH(program, halt_and_registers);
	EACH(program, timeouts);
	EACH(program, kick_is_sticky);
	EACH(program, kick_from_a_thread);
	EACH(program, kick_from_a_signal_handler);
	EACH(program, kick_from_a_callback);
	EACH(program, several_program_threads);
	EACH(program, final_exit_reaches_all_program_threads);
	EACH(program, readers_do_not_refuse_each_other);
	EACH(program, triple_fault_is_a_crash);
	EACH(program, bad_arguments);
	EACH(program, shorter_exit);
	suite_add_tcase(suite, program);
	tcase_set_timeout(library, 60);
	EACH(library, start_pause_resume_stop);
	EACH(library, start_stop_reset_start);
	EACH(library, halt_is_final);
	EACH(library, debug_exit_names_its_vcpu);
	EACH(library, calls_from_a_callback);
	EACH(library, all_at_once);
	EACH(library, reset_does_not_swallow_an_end);
	EACH(library, unref_in_any_state);
	EACH(library, program_loop);
	tcase_add_test(library, many_vms_in_parallel);
	suite_add_tcase(suite, library);
	return api_main(suite);
}
