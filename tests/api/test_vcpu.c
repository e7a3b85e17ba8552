/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Vcpus as threads of the host, their statistics, and their coming and going as far as no guest is needed. */
#include "api.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPIN CODE_BYTES(0xeb, 0xfe)

/* A vm of vcpus that spin, not started. */
static vcore_vm *spinning(int backend, uint32_t vcpus)
{
	vcore_vm *vm = api_vm(backend, vcpus);

	for (uint32_t i = 0; i < vcpus; i++)
		api_load(vm, i, VCORE_MODE_PROTECTED32, CODE, SPIN);
	return vm;
}

static uint32_t thread_of(vcore_vcpu *v)
{
	struct vcore_vcpu_stats stats = {.size = sizeof stats};

	do
		OK(vcore_vcpu_get_stats(v, &stats));
	while (!stats.thread_id);
	return stats.thread_id;
}

/* A CPU that this process may use; more than one is not needed. */
static int some_cpu(void)
{
	cpu_set_t set;
	int cpu = 0;

	ck_assert_int_eq(sched_getaffinity(0, sizeof set, &set), 0);
	while (!CPU_ISSET(cpu, &set))
		cpu++;
	return cpu;
}

static void is_on(uint32_t thread, int cpu)
{
	cpu_set_t set;

	ck_assert_int_eq(sched_getaffinity((pid_t)thread, sizeof set, &set), 0);
	ck_assert_int_eq(CPU_COUNT(&set), 1);
	ck_assert(CPU_ISSET(cpu, &set));
}

static void place_is(vcore_vcpu *v, const char *expected)
{
	char text[256], small[8];
	int length = vcore_vcpu_get_place(v, text, sizeof text);

	ck_assert_str_eq(text, expected);
	ck_assert_int_eq(length, (int)strlen(expected));
	ck_assert_int_eq(vcore_vcpu_get_place(v, NULL, 0), length);
	ck_assert_int_eq(vcore_vcpu_get_place(v, small, sizeof small), length);
	ck_assert_int_eq(strncmp(small, expected, 7), 0);
}

START_TEST(affinity)
{
	vcore_vm *vm = spinning(_i, 2);
	vcore_vcpu *v = vcore_vm_vcpu(vm, 0);
	int cpu = some_cpu();
	uint8_t mask[128] = {0};
	char text[32];

	mask[cpu / 8] = (uint8_t)(1u << cpu % 8);
	OK(vcore_vcpu_set_affinity(v, mask, sizeof mask));
	OK(vcore_vm_start(vm));
	is_on(thread_of(v), cpu);
	/* while it runs; a refusal changes nothing */
	snprintf(text, sizeof text, "%d", cpu);
	OK(vcore_vcpu_set_cpus(vcore_vm_vcpu(vm, 1), text));
	is_on(thread_of(vcore_vm_vcpu(vm, 1)), cpu);
	REFUSED(vcore_vcpu_set_cpus(v, "8191"), EINVAL, "online");
	is_on(thread_of(v), cpu);
	snprintf(text, sizeof text, "cpus=%d", cpu);
	place_is(v, text);
	OK(vcore_vcpu_set_cpus(v, ""));
	place_is(v, "");
	OK(vcore_vcpu_set_affinity(v, NULL, 0));
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(lists)
{
	static const char *const wrong[] = {
	    "x", "1,", ",1", "1-", "-1", "2-1", "1 2", "8192", "0-8192", "99999999999999999999", "1;2", " 1"};
	vcore_vm *vm = spinning(_i, 1);
	vcore_vcpu *v = vcore_vm_vcpu(vm, 0);
	static const uint8_t none[8];

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		REFUSED(vcore_vcpu_set_cpus(v, wrong[i]), EINVAL, wrong[i]);
	place_is(v, "");
	OK(vcore_vcpu_set_cpus(v, "3,0-1,7-9,8"));
	place_is(v, "cpus=0-1,,3,,7-9");
	OK(vcore_vcpu_set_cpus(v, "8191"));
	place_is(v, "cpus=8191");
	REFUSED(vcore_vcpu_set_affinity(v, none, sizeof none), EINVAL, "no CPU in the mask");
	REFUSED(vcore_vcpu_set_affinity(v, none, 0), EINVAL, "1 to 1024");
	REFUSED(vcore_vcpu_set_affinity(v, none, 1025), EINVAL, "1 to 1024");
	REFUSED(vcore_vcpu_set_affinity(NULL, none, 1), EINVAL, "no vcpu");
	vcore_vm_unref(vm);
}
END_TEST

/* What the host refuses ends the start, and the vm can be started all the same when that is mended. */
START_TEST(refused_at_start)
{
	vcore_vm *vm = spinning(_i, 3);
	struct vcore_exit exit = {.size = sizeof exit};

	OK(vcore_vcpu_set_cpus(vcore_vm_vcpu(vm, 1), "8191"));
	REFUSED(vcore_vm_start(vm), EINVAL, "vcpu 1: none of its CPUs is online");
	ck_assert_uint_eq(api_state(vm), VCORE_VM_CREATED);
	REFUSED(vcore_vm_wait(vm, 0, &exit), EINVAL, "never started");
	OK(vcore_vcpu_set_cpus(vcore_vm_vcpu(vm, 1), ""));
	OK(vcore_vm_start(vm));
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_STOPPED);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(scheduling)
{
	vcore_vm *vm = spinning(_i, 1);
	vcore_vcpu *v = vcore_vm_vcpu(vm, 0);
	struct vcore_schedule s = {.size = sizeof s, .policy = VCORE_SCHED_BATCH, .nice = 5};
	int mine = getpriority(PRIO_PROCESS, 0);
	pid_t thread;

	OK(vcore_vcpu_set_schedule(v, &s));
	place_is(v, "policy=batch,nice=5");
	OK(vcore_vm_start(vm));
	thread = (pid_t)thread_of(v);
	/* it sleeps no more once it has its place, which vcore_vm_start() waits for */
	ck_assert_int_eq(sched_getscheduler(thread), SCHED_BATCH);
	ck_assert_int_eq(getpriority(PRIO_PROCESS, (id_t)thread), 5);
	ck_assert_int_eq(getpriority(PRIO_PROCESS, 0), mine);
	OK(vcore_vcpu_place(v, "policy=idle"));
	ck_assert_int_eq(sched_getscheduler(thread), SCHED_IDLE);
	s = (struct vcore_schedule){.size = sizeof s, .policy = 5};
	REFUSED(vcore_vcpu_set_schedule(v, &s), EINVAL, "policy is 5");
	s = (struct vcore_schedule){.size = sizeof s, .policy = VCORE_SCHED_FIFO};
	REFUSED(vcore_vcpu_set_schedule(v, &s), EINVAL, "expected 1 to 99");
	s = (struct vcore_schedule){.size = sizeof s, .policy = VCORE_SCHED_FIFO, .priority = 1, .nice = 1};
	REFUSED(vcore_vcpu_set_schedule(v, &s), EINVAL, "nice is 1");
	s = (struct vcore_schedule){.size = sizeof s, .priority = 1};
	REFUSED(vcore_vcpu_set_schedule(v, &s), EINVAL, "priority is 1");
	s = (struct vcore_schedule){.size = sizeof s, .nice = 20};
	REFUSED(vcore_vcpu_set_schedule(v, &s), EINVAL, "nice is 20");
	place_is(v, "policy=idle");
	vcore_vm_unref(vm);
}
END_TEST

/* Without the right to it, and with it: under real time a paused vm's thread only sleeps. */
START_TEST(real_time)
{
	vcore_vm *vm = spinning(_i, 1);
	vcore_vcpu *v = vcore_vm_vcpu(vm, 0);
	struct vcore_schedule s = {.size = sizeof s, .policy = VCORE_SCHED_RR, .priority = 1};
	int r;

	OK(vcore_vm_start(vm));
	OK(vcore_vm_pause(vm));
	r = vcore_vcpu_set_schedule(v, &s);
	if (r < 0) {
		ck_assert_int_eq(r, -EPERM);
		ck_assert_ptr_nonnull(strstr(vcore_error_message(), "CAP_SYS_NICE"));
		place_is(v, "");
	} else {
		ck_assert_int_eq(sched_getscheduler((pid_t)thread_of(v)), SCHED_RR);
		place_is(v, "policy=rr,priority=1");
	}
	vcore_vm_unref(vm);
}
END_TEST

/* The mount of cgroup v2; false with a line that says so. */
static bool cgroup_mount(char path[256])
{
	char line[1024], type[64];
	FILE *f = fopen("/proc/mounts", "r");
	bool found = false;

	ck_assert_ptr_nonnull(f);
	while (!found && fgets(line, sizeof line, f))
		found = sscanf(line, "%*s %255s %63s", path, type) == 2 && !strcmp(type, "cgroup2");
	fclose(f);
	if (!found)
		printf("no cgroup v2 is mounted: not tested\n");
	return found;
}

START_TEST(control_group)
{
	vcore_vm *vm = spinning(_i, 1);
	vcore_vcpu *v = vcore_vm_vcpu(vm, 0);
	char mount[256], path[300], name[320];

	REFUSED(vcore_vcpu_set_cgroup(v, "/nowhere/at/all"), ENOENT, "/nowhere/at/all");
	REFUSED(vcore_vcpu_set_cgroup(v, "/tmp"), EINVAL, "cgroup v2");
	OK(vcore_vcpu_set_cgroup(v, NULL));
	if (!cgroup_mount(mount)) {
		vcore_vm_unref(vm);
		return;
	}
	snprintf(path, sizeof path, "%s/virtcore-test-%d", mount, (int)getpid());
	if (mkdir(path, 0755) < 0) {
		printf("%s cannot be made: not tested\n", path);
		vcore_vm_unref(vm);
		return;
	}
	OK(vcore_vm_start(vm));
	/* a domain of its own takes whole processes */
	REFUSED(vcore_vcpu_set_cgroup(v, path), EOPNOTSUPP, "\"domain");
	place_is(v, "");
	snprintf(name, sizeof name, "%s/cgroup.type", path);
	FILE *f = fopen(name, "w");
	bool threaded = f && fputs("threaded", f) >= 0 && fclose(f) == 0;
	if (threaded && vcore_vcpu_set_cgroup(v, path) == 0) {
		snprintf(name, sizeof name, "cgroup=%s", path);
		place_is(v, name);
		snprintf(name, sizeof name, "%s/cgroup.threads", path);
		f = fopen(name, "r");
		unsigned inside = 0;
		ck_assert_int_eq(fscanf(f, "%u", &inside), 1);
		fclose(f);
		ck_assert_uint_eq(inside, thread_of(v));
	} else {
		printf("%s takes no thread: %s\n", path, vcore_error_message());
	}
	vcore_vm_unref(vm);
	ck_assert_int_eq(rmdir(path), 0);
}
END_TEST

START_TEST(places)
{
	static const char *const good[] = {"all,policy=batch,nice=3", "1,cpus=0,,2,policy=other", NULL};
	static const char *const bad[][2] = {{"2,cpus=0"}, {"cpus=0"}, {"0"}, {"-1,cpus=0"}, {"all"}};
	struct vcore_options o = {.size = sizeof o, .backend = api_backend(_i), .vcpus = 2, .vcpu_places = good};
	vcore_vm *vm;

	OK(vcore_vm_new(&o, &vm));
	place_is(vcore_vm_vcpu(vm, 0), "policy=batch,nice=3");
	place_is(vcore_vm_vcpu(vm, 1), "cpus=0,,2,policy=other");
	REFUSED(vcore_vcpu_place(vcore_vm_vcpu(vm, 0), "cpu=1"), EINVAL, "cpu");
	REFUSED(vcore_vcpu_place(vcore_vm_vcpu(vm, 0), "policy=fast"), EINVAL, "expected other, batch");
	REFUSED(vcore_vcpu_place(vcore_vm_vcpu(vm, 0), "nice=much"), EINVAL, "nice=much");
	REFUSED(vcore_vcpu_place(vcore_vm_vcpu(vm, 0), "priority=100"), EINVAL, "priority");
	vcore_vm_unref(vm);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		o.vcpu_places = bad[i];
		REFUSED(vcore_vm_new(&o, &vm), EINVAL, bad[i][0]);
	}
}
END_TEST

START_TEST(statistics)
{
	vcore_vm *vm = api_vm(_i, 2);
	struct vcore_vcpu_stats stats = {.size = sizeof stats}, other = stats;
	struct vcore_exit exit = {.size = sizeof exit};
	uint64_t run;

	/* two ports, a halt */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xe6, 0x10, 0xe4, 0x10, 0xf4));
	api_run(vm, VCORE_EXIT_PIO);
	api_run(vm, VCORE_EXIT_PIO);
	api_run(vm, VCORE_EXIT_HALT);
	OK(vcore_vcpu_get_stats(vcore_vm_vcpu(vm, 0), &stats));
	ck_assert_uint_ge(stats.pio, 2);
	ck_assert_uint_eq(stats.halts, 1);
	ck_assert_uint_ge(stats.exits, 3);
	ck_assert_uint_eq(stats.present, 1);
	ck_assert_uint_eq(stats.thread_id, 0);
	ck_assert_uint_eq(stats.run_ns, 0);
	OK(vcore_vcpu_get_stats(vcore_vm_vcpu(vm, 1), &other));
	ck_assert_uint_eq(other.pio + other.halts + other.exits, 0);
	/* threads: their time is there while they run, and stays when they have ended */
	for (uint32_t i = 0; i < 2; i++)
		api_load(vm, i, VCORE_MODE_PROTECTED32, CODE, SPIN);
	OK(vcore_vm_start(vm));
	do
		OK(vcore_vcpu_get_stats(vcore_vm_vcpu(vm, 1), &other));
	while (other.run_ns < 1000000);
	ck_assert_uint_ne(other.thread_id, 0);
	run = other.run_ns;
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, &exit));
	OK(vcore_vcpu_get_stats(vcore_vm_vcpu(vm, 1), &other));
	ck_assert_uint_ge(other.run_ns, run);
	ck_assert_uint_eq(other.thread_id, 0);
	ck_assert_uint_ge(other.requests, 1);
	REFUSED(vcore_vcpu_get_stats(NULL, &other), EINVAL, "needed");
	other.size = 0;
	REFUSED(vcore_vcpu_get_stats(vcore_vm_vcpu(vm, 1), &other), EINVAL, "needed");
	vcore_vm_unref(vm);
}
END_TEST

static bool present(vcore_vm *vm, uint32_t index)
{
	struct vcore_vcpu_stats stats = {.size = sizeof stats};

	OK(vcore_vcpu_get_stats(vcore_vm_vcpu(vm, index), &stats));
	return stats.present;
}

static vcore_vm *pluggable(int backend, uint32_t vcpus, uint32_t max)
{
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .backend = api_backend(backend),
	                          .memory = 4 * RAM,
	                          .vcpus = vcpus,
	                          .max_vcpus = max};
	vcore_vm *vm;

	OK(vcore_vm_new(&o, &vm));
	return vm;
}

START_TEST(options)
{
	struct vcore_options o = {.size = sizeof o, .backend = api_backend(_i), .vcpus = 2, .max_vcpus = 3};
	struct vcore_vm_info info = {.size = sizeof info};
	vcore_vm *vm;

	REFUSED(vcore_vm_new(&o, &vm), ENOTSUP, "machine none");
	o.max_vcpus = 1;
	REFUSED(vcore_vm_new(&o, &vm), EINVAL, "max_vcpus is 1");
	o.max_vcpus = 256;
	REFUSED(vcore_vm_new(&o, &vm), EINVAL, "max_vcpus is 256");
	o.max_vcpus = 2;
	OK(vcore_vm_new(&o, &vm));
	REFUSED(vcore_vcpu_unplug(vcore_vm_vcpu(vm, 1)), ENOTSUP, "max_vcpus");
	REFUSED(vcore_vcpu_plug(vcore_vm_vcpu(vm, 1)), EEXIST, "vcpu 1");
	vcore_vm_unref(vm);
	vm = pluggable(_i, 1, 4);
	OK(vcore_vm_get_info(vm, &info));
	ck_assert_uint_eq(info.vcpus, 1);
	ck_assert_uint_eq(info.max_vcpus, 4);
	ck_assert_ptr_nonnull(vcore_vm_vcpu(vm, 3));
	ck_assert_ptr_null(vcore_vm_vcpu(vm, 4));
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(before_the_start)
{
	vcore_vm *vm = pluggable(_i, 1, 3);
	vcore_vcpu *v = vcore_vm_vcpu(vm, 2);
	struct vcore_exit exit = {.size = sizeof exit};

	REFUSED(vcore_vcpu_run(v, 0, &exit), ENODEV, "not plugged in");
	REFUSED(vcore_vcpu_unplug(v), ENODEV, "vcpu 2");
	REFUSED(vcore_vcpu_unplug(vcore_vm_vcpu(vm, 0)), EINVAL, "vcpu 0");
	REFUSED(vcore_vcpu_plug(NULL), EINVAL, "no vcpu");
	REFUSED(vcore_vcpu_unplug(NULL), EINVAL, "no vcpu");
	for (int i = 0; i < 3; i++) {
		OK(vcore_vcpu_plug(v));
		ck_assert(present(vm, 2) && !present(vm, 1));
		REFUSED(vcore_vcpu_plug(v), EEXIST, "vcpu 2");
		OK(vcore_vcpu_unplug(v));
		ck_assert(!present(vm, 2));
	}
	vcore_vm_unref(vm);
}
END_TEST

/* A guest of one instruction that ejects: the AML's part is played by the test's code. */
START_TEST(while_running)
{
	/* mov dx, 0xcd8; mov eax, 1; out dx, eax; mov dl, 0xdc; mov al, 8; l: out dx, al; pause; jmp l */
	static const uint8_t eject[] = {0x66, 0xba, 0xd8, 0x0c, 0xb8, 1,    0,    0,    0,   0xef,
	                                0xb2, 0xdc, 0xb0, 8,    0xee, 0xf3, 0x90, 0xeb, 0xfb};
	vcore_vm *vm = pluggable(_i, 1, 2);
	vcore_vcpu *v = vcore_vm_vcpu(vm, 1);
	struct vcore_exit exit = {.size = sizeof exit};

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, eject, sizeof eject);
	OK(vcore_vcpu_place(v, "policy=batch"));
	OK(vcore_vm_start(vm));
	for (int i = 0; i < 20; i++) {
		OK(vcore_vcpu_plug(v));
		while (present(vm, 1))
			;
	}
	OK(vcore_vm_pause(vm));
	OK(vcore_vcpu_plug(v));
	ck_assert(present(vm, 1));
	ck_assert_int_eq(sched_getscheduler((pid_t)thread_of(v)), SCHED_BATCH);
	OK(vcore_vcpu_unplug(v)); /* asked for only */
	ck_assert(present(vm, 1));
	OK(vcore_vm_resume(vm));
	while (present(vm, 1))
		;
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, &exit));
	OK(vcore_vcpu_plug(v));
	OK(vcore_vm_reset(vm));
	ck_assert(present(vm, 1));
	vcore_vm_unref(vm);
}
END_TEST

/* Who is plugged in is part of the machine's state. */
START_TEST(snapshots)
{
	vcore_vm *vm = pluggable(_i, 1, 4), *twin;
	struct vcore_vm_info info = {.size = sizeof info};
	vcore_snapshot *snapshot;

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, SPIN);
	OK(vcore_vcpu_plug(vcore_vm_vcpu(vm, 2)));
	OK(vcore_vm_start(vm));
	if (vcore_snapshot_take(vm, &snapshot) < 0) {
		printf("%s\n", vcore_error_message());
		vcore_vm_unref(vm);
		return;
	}
	OK(vcore_snapshot_clone(snapshot, NULL, &twin));
	OK(vcore_vm_get_info(twin, &info));
	ck_assert(info.vcpus == 2 && info.max_vcpus == 4);
	ck_assert(present(twin, 2) && !present(twin, 1) && !present(twin, 3));
	OK(vcore_vm_start(twin));
	OK(vcore_vcpu_plug(vcore_vm_vcpu(twin, 1)));
	vcore_vm_unref(twin);
	/* back in place: one goes, while its thread stays for later */
	OK(vcore_vcpu_plug(vcore_vm_vcpu(vm, 3)));
	OK(vcore_vm_reset_to(vm, snapshot));
	ck_assert(present(vm, 2) && !present(vm, 3));
	ck_assert_uint_eq(api_state(vm), VCORE_VM_RUNNING);
	OK(vcore_vcpu_plug(vcore_vm_vcpu(vm, 3)));
	vcore_snapshot_unref(snapshot);
	vcore_vm_unref(vm);
}
END_TEST

/* A place that the host refuses keeps the vcpu out. */
START_TEST(misplaced)
{
	vcore_vm *vm = pluggable(_i, 1, 2);
	vcore_vcpu *v = vcore_vm_vcpu(vm, 1);

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, SPIN);
	OK(vcore_vcpu_set_cpus(v, "8191"));
	OK(vcore_vm_start(vm));
	REFUSED(vcore_vcpu_plug(v), EINVAL, "none of its CPUs");
	ck_assert(!present(vm, 1));
	OK(vcore_vcpu_set_cpus(v, ""));
	OK(vcore_vcpu_plug(v));
	ck_assert(present(vm, 1));
	vcore_vm_unref(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vcpu");
	TCase *tc = tcase_create("vcpu");

	tcase_set_timeout(tc, 60);
	EACH(tc, affinity);
	EACH(tc, lists);
	EACH(tc, refused_at_start);
	EACH(tc, scheduling);
	EACH(tc, real_time);
	EACH(tc, control_group);
	EACH(tc, places);
	EACH(tc, statistics);
	EACH(tc, options);
	EACH(tc, before_the_start);
	EACH(tc, while_running);
	EACH(tc, misplaced);
	EACH(tc, snapshots);
	suite_add_tcase(suite, tc);
	return api_main(suite);
}
