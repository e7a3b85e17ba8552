/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of hooks share: a vm, and logs of what hooks are told. */
#ifndef API_HOOK_H
#define API_HOOK_H

#include "api.h"

/* Guest code in GNU assembly, 64 bits. */
#define GUEST(name, text)                                                                                              \
	__asm__(".pushsection .rodata\n" #name ":\n.intel_syntax noprefix\n" text "\n.att_syntax prefix\n" #name "_end:\n" \
	        ".popsection");                                                                                            \
	extern const uint8_t name[], name##_end[]

#define LOAD(vm, name) api_load(vm, 0, VCORE_MODE_LONG64, CODE, name, (size_t)(name##_end - name))
#define LOG_MAX        20000
#define DATA           0x6000u

/* What a hook was told. */
struct log {
	uint32_t count, destroyed;
	struct vcore_hook_event event[LOG_MAX];
	uint8_t data[64][64]; /* of the first ones */
	void (*also)(struct log *log, const struct vcore_hook_event *event);
	vcore_hook *hook;
	uint64_t seen;
};

static vcore_vm *vm;
static vcore_vcpu *vcpu;
static struct log logs[2];
static struct log *const a = &logs[0], *const b = &logs[1];

/* What tests run on: every engine of backend emu, then the other backends. */
static const uint32_t engines[] = {VCORE_ENGINE_INTERP, VCORE_ENGINE_JIT, VCORE_ENGINE_LOCKSTEP};
enum { ENGINES = sizeof engines / sizeof engines[0] };

static inline bool have_emu(void)
{
	return api_backend_count() && api_backend(0) == VCORE_BACKEND_EMU;
}
static inline int choices(void)
{
	return api_backend_count() + (have_emu() ? ENGINES - 1 : 0);
}
static inline int backend_of(int choice)
{
	return !have_emu() ? choice : choice < ENGINES ? 0 : choice - ENGINES + 1;
}
static inline bool is_kvm(int choice)
{
	return api_backend(backend_of(choice)) == VCORE_BACKEND_KVM;
}
/* It does one instruction at a time where it does not compare: blocks are of one. */
static inline bool is_lockstep(int choice)
{
	return !is_kvm(choice) && engines[choice] == VCORE_ENGINE_LOCKSTEP;
}
static inline vcore_vm *new_vm(int choice, uint32_t vcpus)
{
	struct vcore_options o = {.vcpus = vcpus, .memory = RAM, .engine = is_kvm(choice) ? 0 : engines[choice]};

	return api_vm_with(backend_of(choice), &o);
}

static inline void start(int choice)
{
	memset(logs, 0, sizeof logs);
	vm = new_vm(choice, 1);
	vcpu = vcore_vm_vcpu(vm, 0);
}

static inline void note(void *ctx, const struct vcore_hook_event *event)
{
	struct log *log = ctx;

	ck_assert_uint_eq(event->size, sizeof *event);
	ck_assert(event->vcpu == vcpu);
	ck_assert_uint_lt(log->count, LOG_MAX);
	if (event->data && log->count < 64)
		memcpy(log->data[log->count], event->data, event->length < 64 ? event->length : 64);
	log->event[log->count++] = *event;
	if (log->also)
		log->also(log, event);
}

static inline void gone(void *ctx)
{
	((struct log *)ctx)->destroyed++;
}

static inline vcore_hook *add(struct log *log, enum vcore_hook_kind kind, uint64_t start, uint64_t length,
                              uint32_t access)
{
	struct vcore_hook_options o = {.size = sizeof o,
	                               .kind = kind,
	                               .start = start,
	                               .length = length,
	                               .access = access,
	                               .callback = note,
	                               .ctx = log,
	                               .destroy = gone};

	OK(vcore_hook_add(vm, &o, &log->hook));
	return log->hook;
}

/* Event n of a log. */
static inline void told(const struct log *log, uint32_t n, uint64_t address, uint32_t length, uint64_t value,
                        bool write)
{
	const struct vcore_hook_event *e = &log->event[n];

	ck_assert_uint_lt(n, log->count);
	ck_assert_msg(e->address == address && e->length == length && e->value == value && e->is_write == write,
	              "event %u: %s of %u bytes at %#llx, value %#llx", n, e->is_write ? "write" : "read", e->length,
	              (unsigned long long)e->address, (unsigned long long)e->value);
}

/* The tests of a program, each on all that there is; its exit status. */
static inline int run_tests(const char *name, const TTest *const *tests, size_t count)
{
	Suite *suite = suite_create(name);
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, 120);
	for (size_t i = 0; i < count; i++)
		tcase_add_loop_test(tcase, tests[i], 0, choices());
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
#define RUN_TESTS(name, ...) \
	run_tests(name, (const TTest *const[]){__VA_ARGS__}, sizeof((const TTest *const[]){__VA_ARGS__}) / sizeof(TTest *))

#endif
