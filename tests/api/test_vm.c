/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making vms: options, refusals, facts, log, references; the probe; an instruction that KVM leaves to the interpreter.
 */
#include "api.h"

#include <dirent.h>
#include <unistd.h>

#define NEW(...) (&(struct vcore_options){.size = sizeof(struct vcore_options), __VA_ARGS__})

START_TEST(refused_options)
{
	uint32_t backend = api_backend(_i);
	vcore_vm *vm = (vcore_vm *)&backend;

	REFUSED(vcore_vm_new(NULL, NULL), EINVAL, "place");
	REFUSED(vcore_vm_new(&(struct vcore_options){0}, &vm), EINVAL, "size");
	ck_assert_ptr_null(vm);
	REFUSED(vcore_vm_new(NEW(.machine = 7), &vm), EINVAL, "machine is 7");
	REFUSED(vcore_vm_new(NEW(.machine = VCORE_MACHINE_PC), &vm), ENOTSUP, "pc");
	REFUSED(vcore_vm_new(NEW(.backend = 9), &vm), EINVAL, "backend is 9");
	REFUSED(vcore_vm_new(NEW(.backend = backend, .engine = 9), &vm), EINVAL, "engine is 9");
	REFUSED(vcore_vm_new(NEW(.backend = backend, .irqchip = 5), &vm), EINVAL, "irqchip is 5");
	REFUSED(vcore_vm_new(NEW(.backend = backend, .irqchip = VCORE_IRQCHIP_USER), &vm), EINVAL, "irqchip");
	REFUSED(vcore_vm_new(NEW(.backend = backend, .machine = VCORE_MACHINE_MICROVM, .irqchip = VCORE_IRQCHIP_NONE), &vm),
	        EINVAL, "irqchip");
	REFUSED(vcore_vm_new(NEW(.backend = backend, .vcpus = 256), &vm), EINVAL, "vcpus is 256");
	REFUSED(vcore_vm_new(NEW(.backend = backend, .memory = 4097), &vm), EINVAL, "memory is 0x1001");
	REFUSED(vcore_vm_new(NEW(.backend = backend, .memory = 4096, .memory_kind = VCORE_MEMORY_FILE), &vm), EINVAL,
	        "memory_kind is 2");
	REFUSED(vcore_vm_new(NEW(.backend = backend, .memory = 4096, .memory_flags = 1u << 30), &vm), EINVAL, "0x40000007");
	REFUSED(vcore_vm_new(NEW(.backend = backend, .cpu = "pentium"), &vm), EINVAL, "pentium");
	REFUSED(vcore_vm_new(NEW(.backend = backend, .unhandled = 3), &vm), EINVAL, "unhandled is 3");
	REFUSED(vcore_vm_new(NEW(.backend = backend, .loop = 2), &vm), EINVAL, "loop is 2");
	REFUSED(vcore_vm_new(NEW(.backend = backend, .log_level = 6), &vm), EINVAL, "log_level is 6");
	REFUSED(vcore_vm_new(NEW(.backend = backend, .tsc_khz = 1ull << 40), &vm), EINVAL, "tsc_khz is 1099511627776");
	REFUSED(vcore_vm_new(NEW(.backend = backend, .memory = 1ull << 60), &vm), EINVAL, "memory");
	ck_assert_ptr_null(vm);
	if (backend == VCORE_BACKEND_EMU)
		REFUSED(
		    vcore_vm_new(NEW(.backend = backend, .machine = VCORE_MACHINE_MICROVM, .irqchip = VCORE_IRQCHIP_FULL), &vm),
		    ENOTSUP, "irqchip");
}
END_TEST

START_TEST(facts)
{
	struct vcore_vm_info info = {.size = sizeof info}, later = {.size = sizeof later};
	vcore_vm *vm = NULL;

	OK(vcore_vm_new(NEW(.backend = api_backend(_i), .machine = VCORE_MACHINE_MICROVM, .memory = 64u << 20, .vcpus = 3),
	                &vm));
	OK(vcore_vm_get_info(vm, &info));
	ck_assert_uint_eq(info.backend, api_backend(_i));
	ck_assert_uint_eq(info.engine, info.backend == VCORE_BACKEND_EMU ? VCORE_ENGINE_JIT : 0);
	ck_assert_uint_eq(info.irqchip, info.backend == VCORE_BACKEND_EMU ? VCORE_IRQCHIP_USER : VCORE_IRQCHIP_FULL);
	ck_assert_uint_eq(info.machine, VCORE_MACHINE_MICROVM);
	ck_assert_uint_eq(info.vcpus, 3);
	ck_assert_uint_eq(info.state, VCORE_VM_CREATED);
	ck_assert_uint_eq(info.slots, 1);
	ck_assert_uint_eq(info.memory, 64u << 20);
	ck_assert_uint_gt(info.tsc_khz, 0);
	api_pause_ms(1);
	OK(vcore_vm_get_info(vm, &later));
	ck_assert_uint_gt(later.time_ns, info.time_ns);
	for (uint32_t i = 0; i < 3; i++) {
		ck_assert_uint_eq(vcore_vcpu_index(vcore_vm_vcpu(vm, i)), i);
		ck_assert_ptr_eq(vcore_vcpu_vm(vcore_vm_vcpu(vm, i)), vm);
	}
	ck_assert_ptr_null(vcore_vm_vcpu(vm, 3));
	info.size = 0;
	REFUSED(vcore_vm_get_info(vm, &info), EINVAL, "size");
	REFUSED(vcore_vm_get_info(NULL, &later), EINVAL, "vm");
	vcore_vm_unref(vm);
	/* more than 3 GiB leaves room for devices below 4 GiB */
	OK(vcore_vm_new(NEW(.backend = api_backend(_i), .memory = 5ull << 30), &vm));
	OK(vcore_vm_get_info(vm, &later));
	ck_assert_uint_eq(later.slots, 2);
	ck_assert_uint_eq(later.memory, 5ull << 30);
	OK(vcore_memory_write(vm, (6ull << 30) - 1, "x", 1));
	REFUSED(vcore_memory_write(vm, 3ull << 30, "x", 1), EFAULT, "0xc0000000");
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(counters)
{
	struct vcore_vm_info info = {.size = sizeof info};
	struct api_device d = {0};
	vcore_vm *vm = api_vm_with(_i, &(struct vcore_options){.memory = RAM, .engine = VCORE_ENGINE_INTERP});

	OK(vcore_io_add(vm, VCORE_BUS_MMIO, 0x10000000, 0x1000, &api_device_ops, &d, NULL));
	OK(vcore_io_add(vm, VCORE_BUS_PIO, 0x10, 1, &api_device_ops, &d, NULL));
	/* mov ecx, 10; l: mov [0x10000000], eax; out 0x10, al; out 0x10, al; dec ecx; jnz l; hlt */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
	         CODE_BYTES(0xb9, 10, 0, 0, 0, 0xa3, 0, 0, 0, 0x10, 0xe6, 0x10, 0xe6, 0x10, 0x49, 0x75, 0xf4, 0xf4));
	api_run(vm, VCORE_EXIT_HALT);
	OK(vcore_vm_get_info(vm, &info));
	ck_assert_uint_eq(info.mmio, 10);
	ck_assert_uint_eq(info.pio, 20);
	ck_assert_uint_ge(info.exits, 31);
	if (info.backend == VCORE_BACKEND_EMU)
		ck_assert_uint_eq(info.instructions, 1 + 10 * 5 + 1);
	else
		ck_assert_uint_eq(info.instructions, 0);
	vcore_vm_unref(vm);
}
END_TEST

/* What the translator calls C functions for. */
START_TEST(op_counts)
{
	struct vcore_op_count ops[2];
	struct vcore_vm_info info = {.size = sizeof info};
	vcore_vm *vm = api_vm(_i, 1);

	/* mov esi, 10; l: xor eax, eax; cpuid; rdtsc; cpuid; dec esi; jnz l; hlt */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
	         CODE_BYTES(0xbe, 10, 0, 0, 0, 0x31, 0xc0, 0x0f, 0xa2, 0x0f, 0x31, 0x0f, 0xa2, 0x4e, 0x75, 0xf5, 0xf4));
	api_run(vm, VCORE_EXIT_HALT);
	OK(vcore_vm_get_info(vm, &info));
	REFUSED(vcore_vm_get_op_counts(vm, NULL, 2), EINVAL, "room");
	if (info.backend == VCORE_BACKEND_EMU) {
		ck_assert_int_eq(vcore_vm_get_op_counts(vm, ops, 2), 2);
		ck_assert_str_eq(ops[0].name, "CPUID");
		ck_assert_uint_eq(ops[0].count, 20);
		ck_assert_str_eq(ops[1].name, "RDTSC");
		ck_assert_uint_eq(ops[1].count, 10);
		ck_assert_uint_ge(info.calls, 30);
	} else {
		ck_assert_int_eq(vcore_vm_get_op_counts(vm, ops, 2), 0);
	}
	vcore_vm_unref(vm);
}
END_TEST

/* ---- log ---- */

struct lines {
	unsigned count, worst;
	char last[512];
};

static void take_line(void *ctx, enum vcore_log_level level, const char *message)
{
	struct lines *l = ctx;

	l->count++;
	if (level > l->worst)
		l->worst = level;
	snprintf(l->last, sizeof l->last, "%s", message);
	ck_assert_ptr_null(strchr(message, '\n'));
}

/* `auto` says what it took, and why. */
START_TEST(lockstep)
{
	struct vcore_vm_info info = {.size = sizeof info};
	vcore_vm *vm = NULL;

	if (api_backend(_i) == VCORE_BACKEND_KVM) {
		REFUSED(vcore_vm_new(NEW(.backend = VCORE_BACKEND_KVM, .engine = VCORE_ENGINE_LOCKSTEP), &vm), ENOTSUP,
		        "lockstep");
		return;
	}
	vm = api_vm_with(_i, &(struct vcore_options){.engine = VCORE_ENGINE_LOCKSTEP, .memory = RAM});
	/* mov ecx, 10; l: push ecx; pop eax; dec ecx; jnz l; out 0x10, al; inc eax; hlt */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
	         CODE_BYTES(0xb9, 10, 0, 0, 0, 0x51, 0x58, 0x49, 0x75, 0xfb, 0xe6, 0x10, 0x40, 0xf4));
	api_run(vm, VCORE_EXIT_PIO);
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_rax(vm), 2);
	OK(vcore_vm_get_info(vm, &info));
	ck_assert_uint_eq(info.engine, VCORE_ENGINE_LOCKSTEP);
	ck_assert_uint_eq(info.instructions, 1 + 10 * 4 + 3);
	ck_assert_uint_eq(info.compared, 1 + 10 * 4 + 1);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(log_of_auto)
{
	struct vcore_backend_info info = {.size = sizeof info};
	struct vcore_vm_info vm_info = {.size = sizeof vm_info};
	struct lines l = {0};
	vcore_vm *vm = NULL;
	int chosen;

	OK(vcore_vm_new(NEW(.log = take_line, .log_ctx = &l), &vm));
	ck_assert_uint_ge(l.count, 1);
	ck_assert_uint_eq(l.worst, VCORE_LOG_INFO);
	ck_assert_ptr_nonnull(strstr(l.last, "backend "));
	OK(vcore_vm_get_info(vm, &vm_info));
	chosen = vcore_backend_probe(VCORE_BACKEND_AUTO, &info);
	ck_assert_int_eq(chosen, (int)vm_info.backend);
	ck_assert_ptr_nonnull(strstr(l.last, vcore_backend_name(vm_info.backend)));
	vcore_vm_unref(vm);
	l.count = 0;
	OK(vcore_vm_new(NEW(.log = take_line, .log_ctx = &l, .log_level = VCORE_LOG_ERROR), &vm));
	ck_assert_uint_eq(l.count, 0);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(set_log)
{
	struct lines l = {0};
	vcore_vm *vm = api_vm(_i, 1);

	REFUSED(vcore_vm_set_log(NULL, take_line, &l, 0), EINVAL, "no vm");
	REFUSED(vcore_vm_set_log(vm, take_line, &l, 6), EINVAL, "level is 6");
	OK(vcore_vm_set_log(vm, take_line, &l, VCORE_LOG_TRACE));
	OK(vcore_vm_set_log(vm, NULL, NULL, VCORE_LOG_DEFAULT));
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xeb, 0xfe));
	OK(vcore_vm_start(vm));
	REFUSED(vcore_vm_set_log(vm, take_line, &l, 0), EBUSY, "started");
	vcore_vm_unref(vm);
}
END_TEST

/* ---- errors ---- */

static void *other_thread(void *arg)
{
	ck_assert_str_eq(vcore_error_message(), "");
	REFUSED(vcore_vm_start(NULL), EINVAL, "vcore_vm_start");
	return NULL;
}

START_TEST(messages_are_the_threads_own)
{
	pthread_t thread;
	char before[256];

	REFUSED(vcore_vm_pause(NULL), EINVAL, "vcore_vm_pause");
	snprintf(before, sizeof before, "%s", vcore_error_message());
	pthread_create(&thread, NULL, other_thread, NULL);
	pthread_join(thread, NULL);
	ck_assert_str_eq(vcore_error_message(), before);
	ck_assert_str_ne(vcore_version(), "");
	ck_assert_str_eq(vcore_error_message(), before); /* a call that succeeds leaves it */
}
END_TEST

START_TEST(names)
{
	ck_assert_str_eq(vcore_backend_name(VCORE_BACKEND_AUTO), "auto");
	ck_assert_str_eq(vcore_backend_name(VCORE_BACKEND_KVM), "kvm");
	ck_assert_str_eq(vcore_backend_name(VCORE_BACKEND_EMU), "emu");
	ck_assert_str_eq(vcore_backend_name(77), "?");
	ck_assert_str_eq(vcore_exit_name(VCORE_EXIT_HALT), "halt");
	ck_assert_str_eq(vcore_exit_name(VCORE_EXIT_DEBUG_EXIT), "debug-exit");
	ck_assert_str_eq(vcore_exit_name(1000), "?");
	for (uint32_t reason = 0; reason <= VCORE_EXIT_MIGRATED; reason++)
		ck_assert_str_ne(vcore_exit_name(reason), "?");
}
END_TEST

/* ---- nothing is left behind ---- */

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

START_TEST(failures_leave_nothing)
{
	vcore_vm *vm = NULL;
	unsigned before = open_fds();

	for (int i = 0; i < 20; i++) {
		REFUSED(vcore_vm_new(NEW(.backend = api_backend(_i), .machine = VCORE_MACHINE_MICROVM, .cpu = "no"), &vm),
		        EINVAL, "no");
		REFUSED(vcore_vm_new(NEW(.backend = api_backend(_i), .memory = 4096, .memory_flags = 1u << 31), &vm), EINVAL,
		        "flags");
		vm = api_microvm(_i, VCORE_IRQCHIP_AUTO, 2);
		REFUSED(vcore_device_add(vm, "uart", "output=file:/no/such/directory/file", NULL), ENOENT,
		        "/no/such/directory/file");
		vcore_vm_unref(vm);
	}
	ck_assert_uint_eq(open_fds(), before);
}
END_TEST

/* ---- probe ---- */

START_TEST(probe)
{
	struct vcore_backend_info info = {.size = sizeof info};
	struct {
		struct vcore_backend_info info;
		uint64_t newer;
	} longer = {.info.size = sizeof longer, .newer = 5};
	struct vcore_backend_info shorter = {.size = offsetof(struct vcore_backend_info, features), .features = 0x77};

	for (int i = 0; i < api_backend_count(); i++) {
		OK(vcore_backend_probe(api_backend(i), &info));
		ck_assert_uint_eq(info.available, 1);
		ck_assert(info.ring0_ps && info.ring3_ps && info.exit_ns && info.max_vcpus);
		ck_assert_str_ne(info.reason, "");
		OK(vcore_backend_probe(api_backend(i), &longer.info));
		ck_assert_uint_eq(longer.newer, 0);
		OK(vcore_backend_probe(api_backend(i), &shorter));
		ck_assert_uint_eq(shorter.features, 0x77);
		printf("%s: %s; features %#llx\n", api_backend_word(i), info.reason, (unsigned long long)info.features);
	}
	ck_assert_int_gt(vcore_backend_probe(VCORE_BACKEND_AUTO, &info), 0);
	REFUSED(vcore_backend_probe(3, &info), EINVAL, "backend 3");
	REFUSED(vcore_backend_probe(VCORE_BACKEND_EMU, NULL), EINVAL, "info");
	info.size = 0;
	REFUSED(vcore_backend_probe(VCORE_BACKEND_EMU, &info), EINVAL, "size");
}
END_TEST

/* ---- where KVM gives up ---- */

/* LOCK CMPXCHG16B in ring 0: some KVMs end in KVM_EXIT_INTERNAL_ERROR there. The guest must not notice. */
START_TEST(instruction_for_the_interpreter)
{
	static const uint8_t code[] = {0xbe, 0x00, 0x60, 0x00, 0x00, /* mov esi, 0x6000 */
	                               0xf0, 0x48, 0x0f, 0xc7, 0x0e, /* l: lock cmpxchg16b [rsi] */
	                               0x0f, 0x94, 0xc0,             /* setz al */
	                               0xf4};
	struct vcore_vm_info info = {.size = sizeof info};
	struct vcore_regs regs = {.size = sizeof regs};
	uint64_t memory[2] = {5, 6};
	vcore_vm *vm = api_vm(_i, 1);
	vcore_vcpu *vcpu = vcore_vm_vcpu(vm, 0);

	for (int i = 0; i < 3; i++) {
		api_load(vm, 0, VCORE_MODE_LONG64, CODE, code, sizeof code);
		memory[0] = 5;
		OK(vcore_memory_write(vm, 0x6000, memory, sizeof memory));
		OK(vcore_vcpu_get_regs(vcpu, &regs));
		regs.rax = 5;
		regs.rdx = 6;
		regs.rbx = 0x1111;
		regs.rcx = 0x2222;
		OK(vcore_vcpu_set_regs(vcpu, &regs));
		api_run(vm, VCORE_EXIT_HALT);
		OK(vcore_memory_read(vm, 0x6000, memory, sizeof memory));
		ck_assert_uint_eq(memory[0], 0x1111);
		ck_assert_uint_eq(memory[1], 0x2222);
		ck_assert_uint_eq(api_rax(vm) & 0xff, 1);
		memory[1] = 6;
	}
	OK(vcore_vm_get_info(vm, &info));
	if (api_backend(_i) == VCORE_BACKEND_EMU)
		ck_assert_uint_eq(info.emulated, 0);
	else if (!info.emulated)
		printf("SKIP: this KVM executes LOCK CMPXCHG16B in ring 0 itself\n");
	else
		ck_assert_uint_eq(info.emulated, 3);
	vcore_vm_unref(vm);
}
END_TEST

/* Memory goes while a vcpu lives on such instructions: it is held out of guest code like any other. */
START_TEST(interpreter_and_changes)
{
	struct vcore_options o = {.memory = RAM, .unhandled = VCORE_UNHANDLED_IGNORE};
	vcore_vm *vm = api_vm_with(_i, &o);
	struct api_device d[2] = {{0}};

	/* mov esi, 0x6000; l: lock cmpxchg16b [rsi]; mov edi, 0x10000000; mov [rdi], eax; jmp l */
	api_load(
	    vm, 0, VCORE_MODE_LONG64, CODE,
	    CODE_BYTES(0xbe, 0, 0x60, 0, 0, 0xf0, 0x48, 0x0f, 0xc7, 0x0e, 0xbf, 0, 0, 0, 0x10, 0x89, 0x07, 0xeb, 0xf2));
	OK(vcore_vm_start(vm));
	for (int i = 0; i < 100; i++) {
		vcore_device *device;
		vcore_slot *slot;

		OK(vcore_io_add(vm, VCORE_BUS_MMIO, 0x10000000, 4, &api_device_ops, &d[i % 2], &device));
		OK(vcore_memory_add(vm, 1u << 30, 4096, VCORE_MEM_RWX, NULL, &slot));
		OK(vcore_device_remove(device));
		OK(vcore_memory_remove(slot));
	}
	ck_assert_uint_eq(d[0].destroyed + d[1].destroyed, 100);
	vcore_vm_unref(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vm");
	TCase *tcase = tcase_create("vm");

	tcase_set_timeout(tcase, 60);
	EACH(tcase, refused_options);
	EACH(tcase, facts);
	EACH(tcase, counters);
	EACH(tcase, op_counts);
	EACH(tcase, lockstep);
	tcase_add_test(tcase, log_of_auto);
	EACH(tcase, set_log);
	tcase_add_test(tcase, messages_are_the_threads_own);
	tcase_add_test(tcase, names);
	EACH(tcase, failures_leave_nothing);
	tcase_add_test(tcase, probe);
	EACH(tcase, instruction_for_the_interpreter);
	EACH(tcase, interpreter_and_changes);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
