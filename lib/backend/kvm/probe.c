/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What /dev/kvm can do here, and how fast it really is: some hosts offer one that emulates guest kernel code. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/kvm/kvm.h"
#include "core/clock.h"

/* Above this, ring 0 is not running on the CPU. Emulators of kernels take hundreds of ns an instruction, a nested CPU
 * some. */
#define NATIVE_LIMIT_PS 50000u

int kvm_ioctl(int fd, unsigned long request, unsigned long arg)
{
	int r;

	do
		r = ioctl(fd, request, arg);
	while (r < 0 && errno == EINTR);
	return r;
}

int kvm_open(void)
{
	int version, fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT
		           ? vc_fail(ENODEV,
		                     "/dev/kvm does not exist: no KVM module is loaded, or the container does not pass it on")
		       : errno == EACCES
		           ? vc_fail(EACCES, "/dev/kvm may not be opened: this user is not in its group (often \"kvm\")")
		           : vc_fail_errno(errno, "/dev/kvm");
	version = kvm_ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version == KVM_API_VERSION)
		return fd;
	close(fd);
	return vc_fail(ENODEV, "/dev/kvm has API version %d: expected %d", version, KVM_API_VERSION);
}

uint64_t kvm_features(int fd)
{
	static const struct {
		long capability;
		uint64_t feature;
	} map[] = {
	    {KVM_CAP_IRQCHIP, VCORE_FEATURE_IRQCHIP_FULL},
	    {KVM_CAP_SPLIT_IRQCHIP, VCORE_FEATURE_IRQCHIP_SPLIT},
	    {KVM_CAP_PIT2, VCORE_FEATURE_PIT},
	    {KVM_CAP_IOEVENTFD, VCORE_FEATURE_IOEVENTFD},
	    {KVM_CAP_IRQFD, VCORE_FEATURE_IRQFD},
	    {KVM_CAP_SIGNAL_MSI, VCORE_FEATURE_MSI},
	    {KVM_CAP_USER_MEMORY, VCORE_FEATURE_DIRTY_LOG},
	    {KVM_CAP_DIRTY_LOG_RING, VCORE_FEATURE_DIRTY_RING},
	    {KVM_CAP_COALESCED_MMIO, VCORE_FEATURE_COALESCED_MMIO},
	    {KVM_CAP_IMMEDIATE_EXIT, VCORE_FEATURE_IMMEDIATE_EXIT},
	    {KVM_CAP_READONLY_MEM, VCORE_FEATURE_READONLY_MEM},
	    {KVM_CAP_SYNC_REGS, VCORE_FEATURE_SYNC_REGS},
	    {KVM_CAP_XSAVE, VCORE_FEATURE_XSAVE},
	    {KVM_CAP_SET_GUEST_DEBUG, VCORE_FEATURE_DEBUG},
	    {KVM_CAP_TSC_DEADLINE_TIMER, VCORE_FEATURE_TSC_DEADLINE},
	    {KVM_CAP_X2APIC_API, VCORE_FEATURE_X2APIC},
	};
	uint64_t features = 0;

	for (size_t i = 0; i < VC_ARRAY_SIZE(map); i++)
		if (kvm_has(fd, map[i].capability))
			features |= map[i].feature;
	return features;
}

/* ---- CPU features ---- */

static struct kvm_cpuid2 *supported_cpuid(int fd)
{
	for (uint32_t n = 128; n <= 1024; n *= 2) {
		struct kvm_cpuid2 *c = calloc(1, sizeof *c + n * sizeof c->entries[0]);

		if (!c)
			return NULL;
		c->nent = n;
		if (kvm_ioctl_p(fd, KVM_GET_SUPPORTED_CPUID, c) == 0)
			return c;
		free(c);
	}
	return NULL;
}

static uint32_t register_of(const struct kvm_cpuid2 *c, uint32_t leaf, uint32_t subleaf, enum vc_cpuid_reg reg)
{
	for (uint32_t i = 0; i < c->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &c->entries[i];

		if (e->function == leaf && (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == subleaf))
			return (const uint32_t[]){e->eax, e->ebx, e->ecx, e->edx}[reg];
	}
	return 0;
}

static const struct {
	uint32_t leaf, subleaf;
	enum vc_cpuid_reg reg;
	uint32_t bit;
} feature_bits[] = {[VC_F_NONE] = {0, 0, VC_EAX, 0},
#define X(id, name, leaf, sub, reg, bit) [VC_F_##id] = {leaf, sub, reg, bit},
                    VC_FEATURES(X)
#undef X
};

int kvm_cpu_features(struct vc_feature_set *features, uint32_t *phys_bits)
{
	struct kvm_cpuid2 *c;
	int fd = kvm_open();

	if (fd < 0)
		return fd;
	c = supported_cpuid(fd);
	*features = (struct vc_feature_set){0};
	if (c) {
		for (int f = VC_F_NONE + 1; f < VC_F_COUNT; f++)
			vc_feature_put(features, f,
			               register_of(c, feature_bits[f].leaf, feature_bits[f].subleaf, feature_bits[f].reg) >>
			                       feature_bits[f].bit &
			                   1);
		*phys_bits = register_of(c, 0x80000008, 0, VC_EAX) & 0xff;
		if (*phys_bits < 36 || *phys_bits > 52)
			*phys_bits = 36;
	}
	free(c);
	vc_feature_put(features, VC_F_HYPERVISOR, true);
	vc_feature_put(features, VC_F_TSC_DEADLINE, kvm_has(fd, KVM_CAP_TSC_DEADLINE_TIMER));
	vc_feature_put(features, VC_F_X2APIC, kvm_has(fd, KVM_CAP_X2APIC_API));
	vc_feature_put(features, VC_F_HTT, true);
	/* MONITOR needs KVM_CAP_X86_DISABLE_EXITS; and hypercalls must be free to go to devices of the program */
	vc_feature_put(features, VC_F_MONITOR, false);
	vc_feature_put(features, VC_F_KVM_PV_UNHALT, false);
	vc_feature_put(features, VC_F_KVM_PV_SEND_IPI, false);
	close(fd);
	return c ? 0 : vc_fail(EIO, "KVM_GET_SUPPORTED_CPUID failed");
}

/* ---- speed ---- */

/* A vm of one page and one vcpu, without any of the library's machinery. */
struct bench {
	int vm, vcpu;
	struct kvm_run *run;
	size_t run_size;
	uint8_t *page;
	struct kvm_sregs initial;
};

#define BENCH_PAGES 4

static void bench_close(struct bench *b)
{
	if (b->run)
		munmap(b->run, b->run_size);
	if (b->page)
		munmap(b->page, BENCH_PAGES * VC_PAGE_SIZE);
	if (b->vcpu >= 0)
		close(b->vcpu);
	if (b->vm >= 0)
		close(b->vm);
}

static int bench_open(struct bench *b, int kvm)
{
	struct kvm_userspace_memory_region region = {.memory_size = BENCH_PAGES * VC_PAGE_SIZE};
	void *p;

	*b = (struct bench){.vm = kvm_ioctl(kvm, KVM_CREATE_VM, 0), .vcpu = -1};
	if (b->vm < 0)
		return -errno;
	kvm_ioctl(b->vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	p = mmap(NULL, BENCH_PAGES * VC_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	b->page = p;
	region.userspace_addr = (uintptr_t)p;
	if (kvm_ioctl_p(b->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return -errno;
	b->vcpu = kvm_ioctl(b->vm, KVM_CREATE_VCPU, 0);
	b->run_size = (size_t)kvm_ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (b->vcpu < 0)
		return -errno;
	p = mmap(NULL, b->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, b->vcpu, 0);
	if (p == MAP_FAILED)
		return -errno;
	b->run = p;
	return kvm_ioctl_p(b->vcpu, KVM_GET_SREGS, &b->initial) < 0 ? -errno : 0;
}

/* Flat 32-bit protected mode at a privilege level, without paging. */
static void bench_flat(struct bench *b, unsigned cpl)
{
	struct kvm_sregs s = b->initial;
	struct kvm_segment code = {.limit = 0xffffffff,
	                           .selector = (uint16_t)(8 | cpl),
	                           .present = 1,
	                           .type = 11,
	                           .dpl = (uint8_t)cpl,
	                           .db = 1,
	                           .s = 1,
	                           .g = 1};
	struct kvm_segment data = code;

	data.type = 3;
	data.selector = (uint16_t)(16 | cpl);
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cr0 |= 1;
	kvm_ioctl_p(b->vcpu, KVM_SET_SREGS, &s);
}

/* Nanoseconds until the guest's OUT behind a loop of `count` turns (two instructions each). 0: it did not get there. */
static uint64_t bench_loop(struct bench *b, unsigned cpl, uint32_t count)
{
	static const uint8_t code[] = {0x49, 0x75, 0xfd, 0xe6,
	                               0x10, 0xeb, 0xfc}; /* l: dec ecx; jnz l; o: out 0x10, al; jmp o */
	struct kvm_regs regs = {.rip = 0x1000, .rcx = count, .rflags = 0x3002};
	uint64_t start;

	memcpy(b->page + 0x1000, code, sizeof code);
	bench_flat(b, cpl);
	kvm_ioctl_p(b->vcpu, KVM_SET_REGS, &regs);
	start = vc_host_ns();
	if (kvm_ioctl(b->vcpu, KVM_RUN, 0) < 0 || b->run->exit_reason != KVM_EXIT_IO)
		return 0;
	return vc_host_ns() - start;
}

/* The best of some runs: what else happens on the host meanwhile can only make it slower. 0: it did not get there. */
static uint64_t bench_best(struct bench *b, unsigned cpl, uint32_t count)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 3; i++) {
		uint64_t ns = bench_loop(b, cpl, count);

		if (!ns)
			return 0;
		best = ns < best ? ns : best;
	}
	return best;
}

/* Picoseconds an instruction: a short loop first, a long one when that was fast. */
static uint32_t bench_speed(struct bench *b, unsigned cpl)
{
	uint64_t empty = bench_best(b, cpl, 1), ns = bench_best(b, cpl, 500);
	uint32_t count = 500;

	if (!empty || !ns)
		return 0;
	if (ns < 500 * 2 * 100) {
		count = 100000;
		ns = bench_best(b, cpl, count);
	}
	ns = ns > empty ? ns - empty : 1;
	return (uint32_t)(ns * 1000 / (2 * count)) + 1;
}

static uint32_t bench_exit(struct bench *b)
{
	enum { TURNS = 50 };
	uint64_t start;

	if (!bench_loop(b, 0, 1))
		return 0;
	start = vc_host_ns();
	for (int i = 0; i < TURNS; i++)
		kvm_ioctl(b->vcpu, KVM_RUN, 0);
	return (uint32_t)((vc_host_ns() - start) / TURNS);
}

static void measure(int kvm, struct vcore_backend_info *info)
{
	struct bench b;
	int r = bench_open(&b, kvm);

	if (r < 0) {
		snprintf(info->reason, sizeof info->reason, "/dev/kvm opens, but a vm cannot be made: %s", strerror(-r));
		bench_close(&b);
		return;
	}
	info->ring0_ps = bench_speed(&b, 0);
	info->ring3_ps = bench_speed(&b, 3);
	info->exit_ns = bench_exit(&b);
	bench_close(&b);
	info->available = info->ring0_ps != 0;
	info->ring0_is_native = info->available && info->ring0_ps < NATIVE_LIMIT_PS;
	if (!info->available)
		snprintf(info->reason, sizeof info->reason, "/dev/kvm opens, but a guest of three instructions does not run");
	else
		snprintf(info->reason, sizeof info->reason,
		         "/dev/kvm takes %u.%03u ns an instruction in ring 0 (%s), %u.%03u ns in ring 3, %u ns an exit",
		         info->ring0_ps / 1000, info->ring0_ps % 1000,
		         info->ring0_is_native ? "native" : "it emulates kernel code in software", info->ring3_ps / 1000,
		         info->ring3_ps % 1000, info->exit_ns);
}

void kvm_probe(struct vcore_backend_info *info)
{
	int fd = kvm_open();

	if (fd < 0) {
		snprintf(info->reason, sizeof info->reason, "%s", vcore_error_message());
		return;
	}
	info->features = kvm_features(fd);
	info->max_vcpus = (uint32_t)kvm_ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	info->max_slots = (uint32_t)kvm_ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
	measure(fd, info);
	close(fd);
}
