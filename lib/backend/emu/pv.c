/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What guests of KVM expect of their hypervisor: clock pages, steal time, PV EOI, hypercalls. Numbers and layouts are
 * those of the KVM ABI. */
#include <time.h>

#include "backend/emu/mmu/mmu.h"
#include "backend/emu/vcpu.h"

enum {
	KVM_HC_VAPIC_POLL_IRQ = 1,
	KVM_HC_KICK_CPU = 5,
	KVM_HC_CLOCK_PAIRING = 9,
	KVM_HC_SEND_IPI = 10,
	KVM_HC_SCHED_YIELD = 11
};
#define KVM_EPERM      1
#define KVM_EOPNOTSUPP 95

#define PVCLOCK_TSC_STABLE 1u
#define MSR_ENABLED        1u
#define STEAL_PERIOD_NS    4000000u

/* ---- clocks ---- */

static uint64_t wall_clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t emu_tsc(struct emu_vcpu *c)
{
	uint64_t now = vc_clock_now(c->bvm->env.clock), khz = c->bvm->tsc_khz;

	return (khz == 1000000 ? now : vc_muldiv64(now, khz, 1000000)) + c->s.tsc_offset;
}

static struct vc_pvclock_time time_now(struct emu_vcpu *c)
{
	struct vc_pvclock_time t = {.tsc_khz = c->bvm->tsc_khz};

	t.guest_ns = vc_clock_now(c->bvm->env.clock);
	t.tsc = vc_muldiv64(t.guest_ns, t.tsc_khz, 1000000) + c->s.tsc_offset;
	t.wall_ns = wall_clock_ns() - t.guest_ns;
	return t;
}

/* An address that the guest gave may lie outside its memory: then nothing is written. */
void emu_pv_write_clock(struct emu_vcpu *c)
{
	struct vc_pvclock_time t = time_now(c);

	if (c->s.kvm_system_time & MSR_ENABLED)
		vc_pvclock_write_system_time(c->bvm->env.mem, c->s.kvm_system_time & ~(uint64_t)MSR_ENABLED, &t,
		                             emu_has(c, VC_F_KVM_STABLE_CLOCK) ? PVCLOCK_TSC_STABLE : 0);
}

void emu_pv_write_wall_clock(struct emu_vcpu *c)
{
	struct vc_pvclock_time t = time_now(c);

	if (c->s.kvm_wall_clock)
		vc_pvclock_write_wall_clock(c->bvm->env.mem, c->s.kvm_wall_clock, &t);
}

/* ---- steal time: what passed while the thread was inside run() and awake, and did not get the CPU ---- */

static uint64_t thread_cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void emu_pv_steal_start(struct emu_vcpu *c)
{
	if (!(c->s.kvm_steal_time & MSR_ENABLED))
		return;
	c->sys->steal_wall = vc_host_ns();
	c->sys->steal_cpu = thread_cpu_ns();
}

void emu_pv_steal_update(struct emu_vcpu *c)
{
	struct emu_sys *sys = c->sys;
	uint64_t wall, cpu;

	if (!(c->s.kvm_steal_time & MSR_ENABLED))
		return;
	wall = vc_host_ns() - sys->steal_wall;
	if (wall < STEAL_PERIOD_NS)
		return;
	cpu = thread_cpu_ns() - sys->steal_cpu;
	sys->steal_wall += wall;
	sys->steal_cpu += cpu;
	if (wall <= cpu)
		return;
	c->bvcpu->steal_ns += wall - cpu;
	vc_pvclock_write_steal(c->bvm->env.mem, c->s.kvm_steal_time & ~(uint64_t)0x3f, c->bvcpu->steal_ns, false);
}

/* ---- PV EOI: a byte in guest memory whose bit 0 lets the guest clear it instead of writing the EOI register ---- */

static bool swap_eoi_flag(struct emu_vcpu *c, uint8_t flag)
{
	uint64_t gpa = c->s.kvm_pv_eoi & ~(uint64_t)3;
	uint8_t old;

	if (vc_mem_read(c->bvm->env.mem, gpa, &old, 1) < 0 || vc_mem_write(c->bvm->env.mem, gpa, &flag, 1) < 0)
		return false;
	return old & 1;
}

/* The vcpu does not run, so a flag that is still set is taken back: the guest then writes the register. */
void emu_pv_eoi_collect(struct emu_vcpu *c)
{
	if (!c->sys->pv_eoi_set)
		return;
	c->sys->pv_eoi_set = false;
	if (!swap_eoi_flag(c, 0))
		vc_lapic_eoi(c->bvcpu->lapic);
}

void emu_pv_eoi_offer(struct emu_vcpu *c)
{
	if (!(c->s.kvm_pv_eoi & MSR_ENABLED) || !vc_lapic_pv_eoi_allowed(c->bvcpu->lapic))
		return;
	swap_eoi_flag(c, 1);
	c->sys->pv_eoi_set = true;
}

/* ---- hypercalls ---- */

static void kick_cpu(struct emu_vcpu *c, uint64_t apic_id)
{
	struct vc_bvcpu *other;

	/* vc_emu_step() runs for other backends, whose vcpus are not ours to kick. */
	if (apic_id >= c->bvm->vcpus || c->bvm->ops != &vc_backend_emu)
		return;
	other = c->bvm->vcpu[apic_id];
	atomic_store(&emu_of(other)->sys->kicked, 1);
	vc_bvcpu_request(other, VC_REQ_IRQ);
}

/* Bitmap of APIC IDs from `lowest` on. Returns how many got it. */
static uint64_t send_ipi(struct emu_vcpu *c, uint64_t low, uint64_t high, uint32_t lowest, uint64_t icr, unsigned half)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < 2 * half; i++) {
		struct vc_lapic_message m = {
		    .dest = lowest + i, .delivery = icr >> 8 & 7, .vector = icr & 0xff, .assert = 1, .source = -1};

		if (((i < half ? low : high) >> (i % half) & 1) && vc_lapics_deliver(c->bvm->lapics, &m) >= 0)
			count++;
	}
	return count;
}

/* False: not one of KVM's. */
static bool kvm_hypercall(struct emu_vcpu *c, uint64_t number, const uint64_t *args, uint64_t *result)
{
	*result = 0;
	switch (number) {
	case KVM_HC_VAPIC_POLL_IRQ:
	case KVM_HC_SCHED_YIELD:
		return true;
	case KVM_HC_KICK_CPU:
		if (!emu_has(c, VC_F_KVM_PV_UNHALT))
			return false;
		kick_cpu(c, args[1]);
		return true;
	case KVM_HC_SEND_IPI:
		if (!emu_has(c, VC_F_KVM_PV_SEND_IPI) || !c->bvm->lapics)
			return false;
		*result = send_ipi(c, args[0], args[1], (uint32_t)args[2], args[3], c->mode == EMU_MODE_64 ? 64 : 32);
		return true;
	case KVM_HC_CLOCK_PAIRING:
		*result = (uint64_t)-KVM_EOPNOTSUPP;
		return true;
	default:
		return false;
	}
}

void emu_hypercall(struct emu_vcpu *c)
{
	uint64_t mask = c->mode == EMU_MODE_64 ? UINT64_MAX : UINT32_MAX;
	uint64_t number = c->s.gpr[VC_RAX] & mask, result;
	uint64_t args[4] = {c->s.gpr[VC_RBX] & mask, c->s.gpr[VC_RCX] & mask, c->s.gpr[VC_RDX] & mask,
	                    c->s.gpr[VC_RSI] & mask};
	bool kvm = emu_has(c, VC_F_KVM_CLOCKSOURCE2) || emu_has(c, VC_F_KVM_PV_UNHALT) || emu_has(c, VC_F_KVM_PV_SEND_IPI);

	if (kvm && c->cpl != 0)
		result = (uint64_t)-KVM_EPERM;
	else if (!kvm || !kvm_hypercall(c, number, args, &result))
		result = emu_bus_hypercall(c, number, mask);
	c->s.gpr[VC_RAX] = result & mask;
}
