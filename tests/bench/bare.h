/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The bare ioctls that the library is measured against: a KVM vm with one vcpu and one slot, in 32-bit protected mode.
 */
#ifndef BENCH_BARE_H
#define BENCH_BARE_H

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct bare {
	int kvm, vm, vcpu;
	struct kvm_run *run;
	size_t run_size, memory_size;
	uint8_t *memory;
};

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* 0, or -1 where there is no usable /dev/kvm. What any program must do before its first guest instruction, CPUID
 * included. */
static inline int bare_open(struct bare *b, size_t memory_size, const uint8_t *code, size_t length, uint64_t rip)
{
	struct kvm_userspace_memory_region region = {.memory_size = memory_size};
	struct kvm_segment code_segment = {
	    .limit = 0xffffffff, .selector = 8, .present = 1, .type = 11, .db = 1, .s = 1, .g = 1};
	struct kvm_segment data_segment = code_segment;
	struct kvm_regs regs = {.rip = rip, .rflags = 2};
	struct kvm_cpuid2 *cpuid;
	struct kvm_sregs sregs;

	b->memory_size = memory_size;
	b->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (b->kvm < 0)
		return -1;
	b->vm = ioctl(b->kvm, KVM_CREATE_VM, 0);
	ioctl(b->vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	b->memory = mmap(NULL, memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	region.userspace_addr = (uintptr_t)b->memory;
	ioctl(b->vm, KVM_SET_USER_MEMORY_REGION, &region);
	b->vcpu = ioctl(b->vm, KVM_CREATE_VCPU, 0);
	b->run_size = (size_t)ioctl(b->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	b->run = mmap(NULL, b->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, b->vcpu, 0);
	cpuid = calloc(1, sizeof *cpuid + 128 * sizeof cpuid->entries[0]);
	cpuid->nent = 128;
	ioctl(b->kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
	ioctl(b->vcpu, KVM_SET_CPUID2, cpuid);
	free(cpuid);
	memcpy(b->memory + rip, code, length);
	data_segment.type = 3;
	data_segment.selector = 16;
	ioctl(b->vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs = code_segment;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data_segment;
	sregs.cr0 |= 1;
	ioctl(b->vcpu, KVM_SET_SREGS, &sregs);
	return ioctl(b->vcpu, KVM_SET_REGS, &regs);
}

static inline void bare_close(struct bare *b)
{
	munmap(b->run, b->run_size);
	munmap(b->memory, b->memory_size);
	close(b->vcpu);
	close(b->vm);
	close(b->kvm);
}

#endif
