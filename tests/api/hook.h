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

static inline void start(int backend)
{
	memset(logs, 0, sizeof logs);
	vm = api_vm(backend, 1);
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

static inline bool is_kvm(int backend)
{
	return api_backend(backend) == VCORE_BACKEND_KVM;
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

/* The tests of a program, for every backend; its exit status. */
static inline int run_tests(const char *name, const TTest *const *tests, size_t count)
{
	Suite *suite = suite_create(name);
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, 120);
	for (size_t i = 0; i < count; i++)
		EACH(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
#define RUN_TESTS(name, ...) \
	run_tests(name, (const TTest *const[]){__VA_ARGS__}, sizeof((const TTest *const[]){__VA_ARGS__}) / sizeof(TTest *))

#endif
