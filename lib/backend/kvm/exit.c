/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each exit of KVM means. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/kvm/kvm.h"
#include "config.h"

#define KVM_HYPERCALL_ENOSYS ((uint64_t)-1000) /* what KVM itself answers to an unknown hypercall */

/* ---- ports and MMIO ---- */

/* The element of the access that is to be served now, as one access of the bus. */
static void current_access(struct vc_bvcpu *v, struct vcore_io *io, uint8_t **data)
{
	struct kvm_run *run = kvm_of(v)->run;

	*io = (struct vcore_io){.size = sizeof *io, .vcpu = v->handle};
	if (run->exit_reason == KVM_EXIT_IO) {
		io->bus = VCORE_BUS_PIO;
		io->address = run->io.port;
		io->width = run->io.size;
		io->is_write = run->io.direction == KVM_EXIT_IO_OUT;
		*data = (uint8_t *)run + run->io.data_offset + (size_t)kvm_of(v)->io_done * run->io.size;
	} else {
		io->bus = VCORE_BUS_MMIO;
		io->address = run->mmio.phys_addr;
		io->width = run->mmio.len > 8 ? 8 : run->mmio.len;
		io->is_write = run->mmio.is_write;
		*data = run->mmio.data;
	}
	if (io->is_write)
		memcpy(&io->data, *data, io->width);
}

static uint32_t elements(const struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_IO ? run->io.count : 1;
}

/* irqchip USER: the xAPIC page. */
static bool lapic_access(struct vc_bvcpu *v, struct vcore_io *io)
{
	uint64_t base;

	if (!v->lapic || io->bus != VCORE_BUS_MMIO)
		return false;
	base = vc_lapic_base(v->lapic);
	if (!(base & 0x800) || io->address - (base & 0xffffff000ull) >= VC_PAGE_SIZE)
		return false;
	if (io->is_write)
		vc_lapic_mmio_write(v->lapic, (uint32_t)io->address & 0xfff, (uint32_t)io->data);
	else
		io->data = vc_lapic_mmio_read(v->lapic, (uint32_t)io->address & 0xfff);
	return true;
}

static void ask_program(const struct vcore_io *io, struct vcore_exit *exit)
{
	exit->reason = io->bus == VCORE_BUS_PIO ? VCORE_EXIT_PIO : VCORE_EXIT_MMIO;
	exit->address = io->address;
	exit->data = io->data;
	exit->width = io->width;
	exit->is_write = io->is_write;
}

/* What a read gives. */
static void answer(struct vc_bvcpu *v, const struct vcore_io *io, uint8_t *data)
{
	memcpy(data, &io->data, io->width);
	vc_hooks_port(v, io);
}

/* Serve elements from io_done on. False: the program must answer the one at io_done. */
static bool serve_access(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	struct kvm_vcpu *k = kvm_of(v);
	struct vcore_io io;
	bool answered;
	uint8_t *data;

	for (; k->io_done < elements(k->run); k->io_done++) {
		current_access(v, &io, &data);
		if (io.is_write)
			vc_hooks_port(v, &io);
		answered = lapic_access(v, &io) || vc_bus_dispatch(v->vm->env.buses, &v->pass, &io);
		vc_trace_access(v, &io, answered);
		if (!answered) {
			if (v->vm->unhandled == VCORE_UNHANDLED_EXIT) {
				ask_program(&io, exit);
				k->io_asked = true;
				return false;
			}
			io.data = ~0ull;
		}
		if (!io.is_write)
			answer(v, &io, data);
	}
	k->io_open = false;
	k->unfinished = true;
	return true;
}

static bool exit_access(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	kvm_of(v)->io_open = true;
	kvm_of(v)->io_done = 0;
	return serve_access(v, exit);
}

bool kvm_resume_access(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	struct kvm_vcpu *k = kvm_of(v);
	struct vcore_io io;
	uint8_t *data;

#ifdef KVM_EXIT_XEN
	if (k->call_asked) {
		k->run->xen.u.hcall.result = exit->data;
		k->io_open = k->call_asked = false;
		k->unfinished = true;
		return true;
	}
#endif
	if (k->io_asked) {
		current_access(v, &io, &data);
		io.data = exit->data;
		if (!io.is_write)
			answer(v, &io, data);
		k->io_asked = false;
		k->io_done++;
	}
	*exit = (struct vcore_exit){.size = sizeof *exit};
	return serve_access(v, exit);
}

/* ---- instructions KVM gives up on ---- */

static bool crash(struct vcore_exit *exit, enum vcore_crash kind, const char *message)
{
	exit->reason = VCORE_EXIT_CRASH;
	exit->crash = kind;
	snprintf(exit->message, sizeof exit->message, "%s", message);
	return false;
}

#ifdef VC_HAVE_EMU
/* Whether the instruction is an INT3, which a KVM that emulates guest code leaves to us. Called inside the gate. */
static bool at_int3(struct vc_bvcpu *v, const struct vc_cpu_state *s)
{
	bool long_code = (s->efer & VC_EFER_LMA) && (s->seg[VC_CS].attr & VC_SEG_L);
	uint64_t linear = long_code ? s->rip : (uint32_t)(s->seg[VC_CS].base + s->rip), gpa;
	bool user = VC_SEG_DPL(s->seg[VC_SS].attr) == 3;
	const uint8_t *byte;
	uint32_t code;

	if (vc_translate(v->vm->env.mem, s, linear, VCORE_ACCESS_FETCH, user, v->cpuid.phys_bits, &gpa, &code) < 0)
		return false;
	byte = vc_mem_ptr(v->vm->env.mem, gpa, 1);
	return byte && *byte == 0xcc;
}
#endif

static bool interpret_one(struct vc_bvcpu *v, struct vcore_exit *exit)
{
#ifdef VC_HAVE_EMU
	struct vc_cpu_state *state = malloc(sizeof *state);
	int r = state ? kvm_get_state(v, state) : vc_fail(ENOMEM, "no memory for a vcpu's state");
	bool for_program = false;

	if (r >= 0 && (kvm_of(v)->debug.flags & VCORE_DEBUG_SW_BREAK))
		for_program = at_int3(v, state);
	if (r >= 0 && !for_program)
		r = vc_emu_step(v, state);
	if (r >= 0 && !for_program)
		r = kvm_set_state(v, state);
	free(state);
	if (r < 0)
		return crash(exit, VCORE_CRASH_INTERNAL, vcore_error_message());
	if (!for_program && !(kvm_of(v)->debug.flags & VCORE_DEBUG_SINGLE_STEP))
		return true;
	kvm_debug_exit(v, for_program ? VC_BP : VC_DB, for_program ? 0 : KVM_DR6_BS, exit);
	return false;
#else
	return crash(exit, VCORE_CRASH_INTERNAL,
	             "KVM cannot execute an instruction, and this build has no interpreter to do it instead");
#endif
}

static bool exit_internal_error(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	const struct kvm_run *run = kvm_of(v)->run;
	char text[96];

	if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
		return interpret_one(v, exit);
	snprintf(text, sizeof text, "KVM internal error, suberror %u", run->internal.suberror);
	return crash(exit, VCORE_CRASH_INTERNAL, text);
}

static bool exit_fail_entry(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	char text[96];

	snprintf(text, sizeof text, "the CPU refused to enter the guest: hardware reason %#" PRIx64,
	         (uint64_t)kvm_of(v)->run->fail_entry.hardware_entry_failure_reason);
	return crash(exit, VCORE_CRASH_INTERNAL, text);
}

/* ---- the others ---- */

static bool exit_shutdown(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	return crash(exit, VCORE_CRASH_TRIPLE_FAULT, "triple fault");
}

static bool exit_hlt(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	if (v->vm->irqchip == VCORE_IRQCHIP_USER) {
		kvm_of(v)->mp_state = VC_MP_HALTED;
		return true;
	}
	/* an interrupt that waits for injection ends the halt at once */
	if (v->vm->irqchip == VCORE_IRQCHIP_NONE && atomic_load(&kvm_of(v)->interrupt) >= 0 && kvm_of(v)->run->if_flag)
		return true;
	exit->reason = VCORE_EXIT_HALT;
	return false;
}

static bool exit_debug(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	const struct kvm_debug_exit_arch *d = &kvm_of(v)->run->debug.arch;

	kvm_debug_exit(v, d->exception, d->dr6, exit);
	return false;
}

static bool exit_ioapic_eoi(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	if (v->vm->ioapic)
		vc_ioapic_eoi(v->vm->ioapic, kvm_of(v)->run->eoi.vector);
	return true;
}

static bool exit_system_event(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	uint32_t type = kvm_of(v)->run->system_event.type;

	if (type == KVM_SYSTEM_EVENT_CRASH)
		return crash(exit, VCORE_CRASH_PANIC, "the guest reported a crash to KVM");
	exit->reason = type == KVM_SYSTEM_EVENT_RESET ? VCORE_EXIT_RESET : VCORE_EXIT_POWEROFF;
	return false;
}

/* Nothing to do: the loop looks at requests and interrupts anyway. */
static bool exit_nothing(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	return true;
}

#ifdef KVM_EXIT_XEN
static bool exit_hypercall(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	struct kvm_run *run = kvm_of(v)->run;
	struct vcore_io io = {.bus = VCORE_BUS_HYPERCALL, .width = 8, .is_write = 1, .vcpu = v->handle};
	struct kvm_regs regs;

	if (run->xen.type != KVM_EXIT_XEN_HCALL || kvm_ioctl_p(kvm_of(v)->fd, KVM_GET_REGS, &regs) < 0)
		return crash(exit, VCORE_CRASH_INTERNAL, "KVM gave a Xen exit that is no hypercall");
	io.address = run->xen.u.hcall.input;
	io.args[0] = regs.rbx;
	io.args[1] = regs.rcx;
	io.args[2] = regs.rdx;
	io.args[3] = regs.rsi;
	io.data = KVM_HYPERCALL_ENOSYS;
	if (vc_bus_dispatch(v->vm->env.buses, &v->pass, &io) || v->vm->unhandled != VCORE_UNHANDLED_EXIT) {
		run->xen.u.hcall.result = io.data;
		kvm_of(v)->unfinished = true;
		return true;
	}
	exit->reason = VCORE_EXIT_HYPERCALL;
	exit->address = io.address;
	exit->width = 8;
	memcpy(exit->args, io.args, sizeof exit->args);
	kvm_of(v)->io_open = kvm_of(v)->call_asked = true;
	return false;
}
#endif

static bool (*const handlers[])(struct vc_bvcpu *, struct vcore_exit *) = {
    [KVM_EXIT_IO] = exit_access,
    [KVM_EXIT_MMIO] = exit_access,
    [KVM_EXIT_HLT] = exit_hlt,
    [KVM_EXIT_DEBUG] = exit_debug,
    [KVM_EXIT_SHUTDOWN] = exit_shutdown,
    [KVM_EXIT_FAIL_ENTRY] = exit_fail_entry,
    [KVM_EXIT_INTERNAL_ERROR] = exit_internal_error,
    [KVM_EXIT_INTR] = exit_nothing,
    [KVM_EXIT_IRQ_WINDOW_OPEN] = exit_nothing,
    [KVM_EXIT_SET_TPR] = exit_nothing,
    [KVM_EXIT_IOAPIC_EOI] = exit_ioapic_eoi,
    [KVM_EXIT_SYSTEM_EVENT] = exit_system_event,
#ifdef KVM_EXIT_XEN
    [KVM_EXIT_XEN] = exit_hypercall,
#endif
};

static enum vc_exit_kind kind_of(uint32_t reason)
{
	switch (reason) {
	case KVM_EXIT_IO:
		return VC_LEFT_PIO;
	case KVM_EXIT_MMIO:
		return VC_LEFT_MMIO;
#ifdef KVM_EXIT_XEN
	case KVM_EXIT_XEN:
		return VC_LEFT_HYPERCALL;
#endif
	case KVM_EXIT_HLT:
		return VC_LEFT_HALT;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return VC_LEFT_REQUEST;
	case KVM_EXIT_DEBUG:
		return VC_LEFT_DEBUG;
	default:
		return VC_LEFT_OTHER;
	}
}

bool kvm_handle_exit(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	uint32_t reason = kvm_of(v)->run->exit_reason;
	char text[64];

	vc_bvcpu_left(v, kind_of(reason));
	if (reason < VC_ARRAY_SIZE(handlers) && handlers[reason])
		return handlers[reason](v, exit);
	snprintf(text, sizeof text, "KVM left the guest for reason %u, which nobody asked for", reason);
	return crash(exit, VCORE_CRASH_INTERNAL, text);
}
