/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hooks: refusals, ports, order, removal from anywhere, adding and removing while the guest runs. */
#include "hook.h"

/* ---- refusals, lives and deaths ---- */

static void nothing(void *ctx, const struct vcore_hook_event *event) {}

START_TEST(refusals)
{
	struct vcore_hook_options good = {.size = sizeof good,
	                                  .kind = VCORE_HOOK_PORT,
	                                  .start = 0x10,
	                                  .length = 1,
	                                  .callback = nothing,
	                                  .ctx = a,
	                                  .destroy = gone},
	                          o = good;
	vcore_hook *hook = NULL;

	start(_i);
	REFUSED(vcore_hook_add(NULL, &o, &hook), EINVAL, "vm");
	REFUSED(vcore_hook_add(vm, NULL, &hook), EINVAL, "size");
	o.size = 0;
	REFUSED(vcore_hook_add(vm, &o, &hook), EINVAL, "size");
	ck_assert_uint_eq(a->destroyed, 1);
	o = good;
	o.kind = 4;
	REFUSED(vcore_hook_add(vm, &o, &hook), EINVAL, "kind is 4");
	o = good;
	o.callback = NULL;
	REFUSED(vcore_hook_add(vm, &o, &hook), EINVAL, "callback");
	o = good;
	o.access = 4;
	REFUSED(vcore_hook_add(vm, &o, &hook), EINVAL, "0x4");
	o = good;
	o.start = 0x10000;
	REFUSED(vcore_hook_add(vm, &o, &hook), EINVAL, "0xffff");
	o.start = 0xfff0;
	o.length = 0x11;
	REFUSED(vcore_hook_add(vm, &o, &hook), EINVAL, "0xfff0");
	o.kind = VCORE_HOOK_MEMORY;
	o.start = 1ull << 52;
	REFUSED(vcore_hook_add(vm, &o, &hook), EINVAL, "0xfffffffffffff");
	o.kind = VCORE_HOOK_CODE;
	o.start = UINT64_MAX;
	o.length = 2;
	REFUSED(vcore_hook_add(vm, &o, &hook), EINVAL, "code");
	o.length = 1;
	o.access = VCORE_HOOK_READS;
	REFUSED(vcore_hook_add(vm, &o, &hook), EINVAL, "access is 0x1: expected 0");
	ck_assert_uint_eq(a->destroyed, 9);
	ck_assert_ptr_null(hook);
	for (uint32_t kind = VCORE_HOOK_CODE; kind <= VCORE_HOOK_MEMORY && is_kvm(_i); kind++) {
		o = (struct vcore_hook_options){.size = sizeof o, .kind = kind, .callback = nothing};
		REFUSED(vcore_hook_add(vm, &o, &hook), ENOTSUP, "kvm");
	}
	REFUSED(vcore_hook_remove(NULL), EINVAL, "hook");
	/* an older program's smaller struct; no place for the handle */
	o = good;
	o.size = offsetof(struct vcore_hook_options, destroy);
	OK(vcore_hook_add(vm, &o, NULL));
	vcore_vm_unref(vm);
	ck_assert_uint_eq(a->destroyed, 9);
}
END_TEST

START_TEST(destroyed_with_the_vm)
{
	start(_i);
	for (int i = 0; i < 5; i++)
		add(a, VCORE_HOOK_PORT, (uint64_t)i, 1 + (uint64_t)i * 7, 0);
	OK(vcore_hook_remove(a->hook));
	ck_assert_uint_eq(a->destroyed, 1);
	vcore_vm_unref(vm);
	ck_assert_uint_eq(a->destroyed, 5);
}
END_TEST

/* ---- ports, on every backend ---- */

/* in al, 0x10; out 0x10, al; mov dx, 0xfff; in eax, dx; in ax, 0x11; mov al, 7; out 0x12, al; hlt */
GUEST(ports, "in al, 0x10; out 0x10, al; mov dx, 0xfff; in eax, dx; in ax, 0x11; mov al, 7; out 0x12, al; hlt");

START_TEST(ports_with_devices)
{
	struct api_device d = {.value = 0x55443322};

	start(_i);
	LOAD(vm, ports);
	OK(vcore_io_add(vm, VCORE_BUS_PIO, 0, 0x2000, &api_device_ops, &d, NULL));
	add(a, VCORE_HOOK_PORT, 0, 0, 0);
	add(b, VCORE_HOOK_PORT, 0x12, 0xff1, VCORE_HOOK_READS);
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(a->count, 5);
	told(a, 0, 0x10, 1, 0x22, false);
	told(a, 1, 0x10, 1, 0x22, true);
	told(a, 2, 0xfff, 4, 0x55443322, false);
	told(a, 3, 0x11, 2, 0x3322, false);
	told(a, 4, 0x12, 1, 7, true);
	ck_assert_uint_eq(a->event[0].kind, VCORE_HOOK_PORT);
	ck_assert(a->event[0].hook == a->hook && b->event[0].hook == b->hook && !a->event[0].data);
	/* touched by the last byte only, or by the first */
	ck_assert_uint_eq(b->count, 2);
	told(b, 0, 0xfff, 4, 0x55443322, false);
	told(b, 1, 0x11, 2, 0x3322, false);
	/* one of the two goes */
	OK(vcore_hook_remove(a->hook));
	LOAD(vm, ports);
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(a->count, 5);
	ck_assert_uint_eq(b->count, 4);
	vcore_vm_unref(vm);
}
END_TEST

/* Each access is told once: a write before the program gets it, a read when the program has answered. */
START_TEST(ports_that_the_program_answers)
{
	struct vcore_exit exit = {.size = sizeof exit};

	start(_i);
	LOAD(vm, ports);
	add(a, VCORE_HOOK_PORT, 0, 0, 0);
	for (uint32_t n = 0; n < 5; n++) {
		OK(vcore_vcpu_run(vcpu, LONG, &exit));
		ck_assert_uint_eq(exit.reason, VCORE_EXIT_PIO);
		ck_assert_uint_eq(a->count, n + exit.is_write);
		exit.data = 0x99887766;
	}
	OK(vcore_vcpu_run(vcpu, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_HALT);
	ck_assert_uint_eq(a->count, 5);
	told(a, 0, 0x10, 1, 0x66, false);
	told(a, 1, 0x10, 1, 0x66, true);
	told(a, 2, 0xfff, 4, 0x99887766, false);
	told(a, 3, 0x11, 2, 0x7766, false);
	told(a, 4, 0x12, 1, 7, true);
	vcore_vm_unref(vm);
}
END_TEST

GUEST(port_strings, "mov esi, 0x6000; mov edi, 0x6010; mov dx, 0x20; mov ecx, 3; rep outsw; mov ecx, 2; rep insd; hlt");

START_TEST(ports_of_strings)
{
	struct api_device d = {.value = 0x01020304};

	start(_i);
	LOAD(vm, port_strings);
	OK(vcore_memory_write(vm, DATA, "abcdef", 6));
	OK(vcore_io_add(vm, VCORE_BUS_PIO, 0x20, 4, &api_device_ops, &d, NULL));
	add(a, VCORE_HOOK_PORT, 0x20, 1, 0);
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(a->count, 5);
	told(a, 0, 0x20, 2, 0x6261, true);
	told(a, 2, 0x20, 2, 0x6665, true);
	told(a, 4, 0x20, 4, 0x01020304, false);
	vcore_vm_unref(vm);
}
END_TEST

/* What a callback may do, and may not. */
static void look_around(struct log *log, const struct vcore_hook_event *event)
{
	struct vcore_regs regs = {.size = sizeof regs};
	struct vcore_sregs sregs = {.size = sizeof sregs};
	uint8_t code[2];
	uint64_t gpa;

	OK(vcore_vcpu_get_regs(event->vcpu, &regs));
	OK(vcore_vcpu_get_sregs(event->vcpu, &sregs));
	OK(vcore_vcpu_translate(event->vcpu, CODE, VCORE_ACCESS_FETCH, &gpa));
	ck_assert_uint_eq(gpa, CODE);
	OK(vcore_vcpu_read(event->vcpu, CODE, code, sizeof code));
	OK(vcore_memory_write(vm, DATA, code, sizeof code));
	REFUSED(vcore_vcpu_set_regs(event->vcpu, &regs), EBUSY, "callback");
	log->seen = regs.rax;
	OK(vcore_memory_add(vm, 16 * RAM, 4096, VCORE_MEM_RWX, NULL, NULL));
	vcore_vcpu_kick(event->vcpu);
}

START_TEST(inside_a_callback)
{
	struct api_device d = {.value = 5};

	start(_i);
	LOAD(vm, ports);
	OK(vcore_io_add(vm, VCORE_BUS_PIO, 0, 0x2000, &api_device_ops, &d, NULL));
	add(a, VCORE_HOOK_PORT, 0x12, 1, VCORE_HOOK_WRITES);
	a->also = look_around;
	api_run(vm, VCORE_EXIT_KICKED);
	ck_assert_uint_eq(a->seen & 0xff, 7);
	ck_assert_uint_eq(d.writes, 2);
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(a->count, 1);
	vcore_vm_unref(vm);
}
END_TEST

/* ---- several hooks, and hooks that change hooks ---- */

static char order[16];
static void say(void *ctx, const struct vcore_hook_event *event)
{
	strncat(order, ctx, sizeof order - strlen(order) - 1);
}

/* In the order of adding, wherever their ranges lie. */
START_TEST(order_of_hooks)
{
	static const struct {
		const char *name;
		uint64_t start, length;
	} hooks[] = {{"a", 0x10, 1},    {"b", 0, 0}, {"c", 0x12, 2}, {"d", 0, 0x11},
	             {"e", 0x10, 0x10}, {"f", 8, 8}, {"g", 4, 13}};
	struct vcore_hook_options o = {.size = sizeof o, .kind = VCORE_HOOK_PORT, .callback = say};
	vcore_hook *handle[7];
	struct api_device d = {0};

	start(_i);
	OK(vcore_io_add(vm, VCORE_BUS_PIO, 0, 0x2000, &api_device_ops, &d, NULL));
	for (int i = 0; i < 7; i++) {
		o.ctx = (void *)(uintptr_t)hooks[i].name;
		o.start = hooks[i].start;
		o.length = hooks[i].length;
		OK(vcore_hook_add(vm, &o, &handle[i]));
	}
	order[0] = 0;
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xe4, 0x10, 0xf4)); /* in al, 0x10 */
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_str_eq(order, "abdeg");
	OK(vcore_hook_remove(handle[1]));
	OK(vcore_hook_remove(handle[4]));
	order[0] = 0;
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xe5, 0x0e, 0xf4)); /* in eax, 0x0e */
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_str_eq(order, "adfg");
	vcore_vm_unref(vm);
}
END_TEST

/* A callback that takes its own hook away. */
static void once(struct log *log, const struct vcore_hook_event *event)
{
	OK(vcore_hook_remove(event->hook));
	ck_assert_uint_eq(log->destroyed, log->count - 1);
}

static void once_and_again(struct log *log, const struct vcore_hook_event *event)
{
	once(log, event);
	add(log, event->kind, event->address, 1, 0);
}

/* ... and the other one's, which is then not called. */
static void not_the_other(struct log *log, const struct vcore_hook_event *event)
{
	if (log->count == 1)
		OK(vcore_hook_remove(b->hook));
	ck_assert_uint_eq(b->destroyed, 1);
}

START_TEST(removal_in_callbacks)
{
	struct api_device d = {0};

	start(_i);
	OK(vcore_io_add(vm, VCORE_BUS_PIO, 0, 0x2000, &api_device_ops, &d, NULL));
	/* mov ecx, 5; l: in al, 0x10; dec ecx; jnz l; hlt: port hooks, and on emu code hooks on the `in` */
	for (int kind = is_kvm(_i) ? VCORE_HOOK_PORT : VCORE_HOOK_CODE; kind <= VCORE_HOOK_PORT; kind++) {
		uint64_t at = kind == VCORE_HOOK_PORT ? 0x10 : CODE + 5;

		if (kind == VCORE_HOOK_MEMORY)
			continue;
		for (int way = 0; way < 3; way++) {
			memset(logs, 0, sizeof logs);
			a->also = way == 0 ? once : way == 1 ? once_and_again : not_the_other;
			api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
			         CODE_BYTES(0xb9, 5, 0, 0, 0, 0xe4, 0x10, 0x49, 0x75, 0xfb, 0xf4));
			add(a, kind, at, 1, 0);
			if (way == 2)
				add(b, kind, at, 1, 0);
			api_run(vm, VCORE_EXIT_HALT);
			/* the first block goes on over the loop's head */
			ck_assert_uint_eq(a->count, way == 0 ? 1 : kind == VCORE_HOOK_BLOCK && !is_lockstep(_i) ? 4 : 5);
			ck_assert_uint_eq(b->count, 0);
			ck_assert_uint_eq(a->destroyed, way == 0 ? 1 : way == 1 ? a->count : 0);
			if (way)
				OK(vcore_hook_remove(a->hook));
		}
	}
	vcore_vm_unref(vm);
}
END_TEST

/* ---- while the guest runs ---- */

/* Each vcpu: adds to a cell, moves a string to a place of its own (EBX), calls, reads a port; for ever. 32 bits. */
GUEST(busy, ".code32\n"
            "1: lock inc dword ptr [0x6100]\n"
            "mov esi, 0x6000; lea edi, [ebx + 0x7000]; mov ecx, 0x20; rep movsb\n"
            "call 2f\n"
            "in al, 0x10\n"
            "jmp 1b\n"
            "2: add eax, [0x6000]\n"
            "ret\n"
            ".code64");

#define VCPUS 2

static _Atomic uint32_t calls, in_callback, after_removal;
static _Atomic uint32_t removed;

static void busy_callback(void *ctx, const struct vcore_hook_event *event)
{
	struct vcore_regs regs = {.size = sizeof regs};

	atomic_fetch_add(&in_callback, 1);
	if (atomic_load(&removed))
		atomic_fetch_add(&after_removal, 1);
	if (vcore_vcpu_get_regs(event->vcpu, &regs) < 0 || (event->kind == VCORE_HOOK_CODE && regs.rip != event->address))
		atomic_fetch_add(&after_removal, 1000);
	atomic_fetch_add(&calls, 1);
	atomic_fetch_sub(&in_callback, 1);
}

static void start_busy(int choice, struct api_device *d)
{
	vm = new_vm(choice, VCPUS);
	OK(vcore_io_add(vm, VCORE_BUS_PIO, 0x10, 1, &api_device_ops, d, NULL));
	for (uint32_t i = 0; i < VCPUS; i++) {
		struct vcore_regs regs = {.size = sizeof regs};

		api_load(vm, i, VCORE_MODE_PROTECTED32, CODE, busy, (size_t)(busy_end - busy));
		OK(vcore_vcpu_get_regs(vcore_vm_vcpu(vm, i), &regs));
		regs.rbx = 0x1000 * i;
		regs.rsp -= 0x100 * i;
		OK(vcore_vcpu_set_regs(vcore_vm_vcpu(vm, i), &regs));
	}
	OK(vcore_vm_start(vm));
}

static const struct vcore_hook_options busy_hooks[] = {
    {.kind = VCORE_HOOK_PORT, .start = 0x10, .length = 1},
    {.kind = VCORE_HOOK_MEMORY, .start = 0x6100, .length = 8},
    {.kind = VCORE_HOOK_MEMORY, .start = 0x7010, .length = 0xff8},
    {.kind = VCORE_HOOK_CODE},
    {.kind = VCORE_HOOK_CODE, .start = CODE + 4, .length = 8},
    {.kind = VCORE_HOOK_BLOCK},
    {.kind = VCORE_HOOK_BLOCK, .start = CODE, .length = 0x40},
};

/* On and off from another thread: told while it is on, never after it is off. */
START_TEST(while_running)
{
	struct api_device d = {0};
	uint32_t kinds = is_kvm(_i) ? 1 : sizeof busy_hooks / sizeof busy_hooks[0];

	start_busy(_i, &d);
	for (uint32_t turn = 0; turn < 5 * kinds; turn++) {
		struct vcore_hook_options o = busy_hooks[turn % kinds];
		uint32_t before;
		vcore_hook *hook;

		o.size = sizeof o;
		o.callback = busy_callback;
		atomic_store(&removed, 0);
		before = atomic_load(&calls);
		OK(vcore_hook_add(vm, &o, &hook));
		api_until(&calls, before + 20);
		OK(vcore_hook_remove(hook));
		ck_assert_uint_eq(atomic_load(&in_callback), 0);
		atomic_store(&removed, 1);
		before = atomic_load(&d.reads);
		api_until(&d.reads, before + 3);
		ck_assert_uint_eq(atomic_load(&after_removal), 0);
	}
	vcore_vm_unref(vm);
}
END_TEST

/* Several threads add and remove hooks of all kinds at once, some from callbacks, while vcpus run and memory changes.
 */
static _Atomic uint32_t born, dead;

static void count_dead(void *ctx)
{
	atomic_fetch_add(&dead, 1);
}

static void remove_itself(void *ctx, const struct vcore_hook_event *event)
{
	int r;

	busy_callback(NULL, event);
	r = vcore_hook_remove(event->hook);
	/* the other vcpu's callback of the same hook may have been first */
	if (r < 0 && r != -EALREADY)
		atomic_fetch_add(&after_removal, 1000000);
}

static void *churn(void *arg)
{
	uint32_t seed = (uint32_t)(uintptr_t)arg, kinds = seed >> 16;

	for (int turn = 0; turn < 60; turn++) {
		struct vcore_hook_options o = busy_hooks[(turn + seed) % kinds];
		bool itself = turn % 3 == 0;
		uint32_t before = atomic_load(&calls);
		vcore_hook *hook;

		o.size = sizeof o;
		o.callback = itself ? remove_itself : busy_callback;
		o.destroy = count_dead;
		atomic_fetch_add(&born, 1);
		if (vcore_hook_add(vm, &o, &hook) < 0)
			return "add";
		for (int i = 0; i < 200 && atomic_load(&calls) == before; i++)
			api_pause_ms(1);
		if (!itself && vcore_hook_remove(hook) < 0)
			return "remove";
	}
	return NULL;
}

START_TEST(churned_while_running)
{
	uint32_t kinds = is_kvm(_i) ? 1 : sizeof busy_hooks / sizeof busy_hooks[0];
	struct api_device d = {0};
	pthread_t thread[2];
	vcore_slot *slot;
	void *result;

	atomic_store(&removed, 0);
	atomic_store(&born, 0);
	atomic_store(&dead, 0);
	start_busy(_i, &d);
	for (uintptr_t i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, churn, (void *)(i | kinds << 16)), 0);
	for (int i = 0; i < 30; i++) {
		OK(vcore_memory_add(vm, 16 * RAM, 4096, VCORE_MEM_RWX, NULL, &slot));
		api_pause_ms(1);
		OK(vcore_memory_remove(slot));
	}
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(pthread_join(thread[i], &result), 0);
		ck_assert_msg(!result, "%s", (char *)result);
	}
	OK(vcore_vm_pause(vm));
	vcore_vm_unref(vm);
	ck_assert_uint_eq(atomic_load(&after_removal), 0);
	ck_assert_uint_eq(atomic_load(&born), 120);
	ck_assert_uint_eq(atomic_load(&dead), 120);
}
END_TEST

int main(void)
{
	return RUN_TESTS("hook", refusals, destroyed_with_the_vm, ports_with_devices, ports_that_the_program_answers,
	                 ports_of_strings, inside_a_callback, order_of_hooks, removal_in_callbacks, while_running,
	                 churned_while_running);
}
