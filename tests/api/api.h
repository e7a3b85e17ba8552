/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of the public API share. They know nothing of the library but <virtcore/virtcore.h>. */
#ifndef API_H
#define API_H

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <virtcore/virtcore.h>

#define SECOND 1000000000ll
#define LONG   (30 * SECOND) /* a wait that only a failing test waits for to its end */
#define RAM    (2u << 20)
#define CODE   0x1000u
#define TABLES 0x100000u /* page tables of LONG64 */

/* Backends that work here; loop tests get an index into them. */
int api_backend_count(void);
uint32_t api_backend(int index);
const char *api_backend_word(int index);

/*
 * Some hosts offer a KVM that emulates guest kernels in software, and not all of it: no 32-bit paging, no breakpoints,
 * CPUID of its own. True, with a line that says so, when this is such a one; what a test checks of that is then left
 * out.
 */
bool api_is_poor_kvm(int index, const char *what);

/* The call succeeds. */
#define OK(call)                                                                                             \
	do {                                                                                                     \
		int64_t ok_result_ = (call);                                                                         \
		ck_assert_msg(ok_result_ >= 0, "%s: %lld, %s", #call, (long long)ok_result_, vcore_error_message()); \
	} while (0)

/* The call is refused with this errno, and the sentence contains the text. */
#define REFUSED(call, error, text)                                                                                     \
	do {                                                                                                               \
		int64_t refused_result_ = (call);                                                                              \
		ck_assert_msg(refused_result_ == -(error), "%s: %lld (%s), expected %d", #call, (long long)refused_result_,    \
		              vcore_error_message(), -(error));                                                                \
		ck_assert_msg(strstr(vcore_error_message(), text), "\"%s\" does not say \"%s\"", vcore_error_message(), text); \
	} while (0)

#define CODE_BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

/* A vm of machine none with RAM at 0. */
vcore_vm *api_vm(int backend, uint32_t vcpus);
vcore_vm *api_vm_with(int backend, const struct vcore_options *model);
/* A microvm; irqchip as enum vcore_irqchip. NULL: this host's KVM does not have that (a line on stdout says so). */
vcore_vm *api_microvm(int backend, uint32_t irqchip, uint32_t vcpus);
/* Put code at an address and the vcpu there, in a flat mode with all other registers zero but RSP. */
void api_load(vcore_vm *vm, uint32_t vcpu, enum vcore_mode mode, uint64_t at, const uint8_t *code, size_t length);
/*
 * Give a vcpu in PROTECTED32 a GDT (0x08 code, 0x10 data) and an IDT whose handlers count their vector at
 * API_COUNTS + 4 * vector; with a local APIC they send it an EOI.
 */
#define API_COUNTS 0x5000u
void api_tables(vcore_vm *vm, uint32_t vcpu, bool lapic);
uint32_t api_count(vcore_vm *vm, unsigned vector);
/* What the guest has there. */
uint32_t api_word(vcore_vm *vm, uint64_t gpa);
/* Wait until a vector was counted that often. */
void api_until_count(vcore_vm *vm, unsigned vector, uint32_t count);
/* Run vcpu 0, which must end in time and for that reason. Returns the exit. */
struct vcore_exit api_run(vcore_vm *vm, enum vcore_exit_reason expected);
struct vcore_exit api_run_vcpu(vcore_vcpu *vcpu, enum vcore_exit_reason expected);
uint64_t api_rax(vcore_vm *vm);
uint64_t api_rip(vcore_vm *vm);
void api_pause_ms(unsigned ms);
/* Wait until a counter that another thread changes has at least that value. */
void api_until(_Atomic uint32_t *counter, uint32_t value);
uint32_t api_state(vcore_vm *vm);
/* An MMIO device that counts: reads give `value`, writes are remembered. */
struct api_device {
	_Atomic uint32_t reads, writes, destroyed, resets;
	_Atomic uint64_t last, last_offset, last_address;
	_Atomic uint32_t last_width;
	uint64_t value;
	void (*hook)(struct api_device *device, struct vcore_io *io); /* also on each access */
	void *hook_ctx;
};
extern const struct vcore_device_ops api_device_ops;

/* main() of a test program: runs the suite, each test in a process of its own unless CK_FORK=no. */
int api_main(Suite *suite);
/* Add a test for every backend. */
#define EACH(tcase, test) tcase_add_loop_test(tcase, test, 0, api_backend_count())

#endif
