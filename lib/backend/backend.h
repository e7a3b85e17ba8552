/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The backend contract: what lib/vm asks of whatever executes vcpus. lib/vm owns threads, states and the API's rules; a
 * backend executes.
 */
#ifndef VC_BACKEND_BACKEND_H
#define VC_BACKEND_BACKEND_H

#include <virtcore/backend.h>
#include <virtcore/exit.h>
#include <virtcore/vcpu.h>
#include <virtcore/vm.h>

#include "backend/hook.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "chipset/chipset.h"
#include "core/util.h"
#include "cpu/cpuid.h"
#include "cpu/state.h"
#include "memory/memory.h"

/* A vm as its backend sees it. lib/vm fills the first part before create; the backend owns priv. */
struct vc_bvm {
	struct vc_env env; /* buses, mem, irqs, loop, clock, log... */
	struct vc_gate *gate;
	enum vcore_irqchip irqchip; /* resolved: never AUTO */
	enum vcore_engine engine;
	enum vcore_unhandled unhandled; /* resolved */
	uint64_t tsc_khz;               /* 0: the backend chooses and stores it here (and in env.tsc_khz) */
	uint32_t vcpus;
	bool has_pit; /* FULL irqchip: make the in-kernel PIT too */
	/* chipset in the library, set by the machine type after create and before the first run; NULL where absent */
	struct vc_lapics *lapics;
	struct vc_pic *pic;
	struct vc_ioapic *ioapic;
	const struct vc_backend *ops;
	struct vc_bvcpu **vcpu; /* vcpus entries */
	struct vc_hooks hooks;
	/* Memory that derives from a snapshot should become the vm's own, so that other processes can map it: soon,
	 * perhaps, see vc_image_may_own(). Any thread. NULL: nobody can */
	void (*want_own_memory)(struct vc_bvm *bvm);
	void *priv;
};

/* Requests to a vcpu: bits of vc_bvcpu.requests, set from any thread with vc_bvcpu_request(). */
enum {
	VC_REQ_KICK = 1u << 0, /* leave run() with VCORE_EXIT_KICKED */
	VC_REQ_IRQ = 1u << 1,  /* look at LAPIC / PIC */
	VC_REQ_NMI = 1u << 2,
	VC_REQ_INIT = 1u << 3,
	VC_REQ_SIPI = 1u << 4,    /* sipi_vector */
	VC_REQ_GATE = 1u << 5,    /* step out of the gate and in again */
	VC_REQ_TLB = 1u << 6,     /* emu: drop all cached translations */
	VC_REQ_TIMEOUT = 1u << 7, /* the run's time is over */
	VC_REQ_PAUSE = 1u << 8,   /* lib/vm: leave run() quietly with VCORE_EXIT_NONE */
	VC_REQ_SMI = 1u << 9,
	VC_REQ_BACKEND = 1u << 16, /* first of the backend's own bits */
};

/* Why a vcpu left guest code; what the kernel handles by itself is not seen. */
enum vc_exit_kind {
	VC_LEFT_PIO,
	VC_LEFT_MMIO,
	VC_LEFT_HYPERCALL,
	VC_LEFT_HALT,
	VC_LEFT_REQUEST, /* somebody asked: a kick, an interrupt, a pause */
	VC_LEFT_DEBUG,
	VC_LEFT_OTHER,
	VC_LEFT_KINDS,
};

/* A vcpu as its backend sees it; embedded in lib/vm's vcpu. */
struct vc_bvcpu {
	struct vc_bvm *vm;
	uint32_t index;
	vcore_vcpu *handle;    /* for struct vcore_io */
	struct vc_pass pass;   /* of the gate; its kick is wired to vc_bvcpu_request(GATE) */
	struct vc_cpuid cpuid; /* filled by lib/vm before vcpu_create */
	_Atomic uint32_t requests;
	_Atomic uint32_t sipi_vector;
	_Atomic uint32_t running; /* 1 from before guest entry until after exit */
	struct vc_lapic *lapic;   /* NULL when in the kernel or absent */
	uint64_t steal_ns;        /* time the vcpu was ready but its thread did not run */
	/* statistics: written by the vcpu's thread only */
	_Atomic uint64_t exits, interrupts, instructions, emulated, tlb_fills, blocks, compared, calls, bails, untranslated,
	    promoted, promoted_stops;
	_Atomic uint64_t left[VC_LEFT_KINDS], halted_ns;
	void *priv;
};

/*
 * Ask a vcpu for something: sets the bit, then makes a running vcpu notice (ops->notify) and wakes a halted one. Any
 * thread; async-signal-safe for KICK.
 */
void vc_bvcpu_request(struct vc_bvcpu *vcpu, uint32_t bits);

/* On the vcpu's thread. */
static inline void vc_bvcpu_left(struct vc_bvcpu *vcpu, enum vc_exit_kind kind)
{
	vc_count(&vcpu->left[kind]);
}

/* One line a device access at VCORE_LOG_TRACE. */
void vc_log_access(const struct vc_bvcpu *vcpu, const struct vcore_io *io, bool answered);
static inline void vc_trace_access(const struct vc_bvcpu *vcpu, const struct vcore_io *io, bool answered)
{
	const struct vc_log *log = vcpu->vm->env.log;

	if (vc_unlikely(log && log->level >= VCORE_LOG_TRACE))
		vc_log_access(vcpu, io, answered);
}

struct vc_backend {
	const char *name;
	enum vcore_backend id;
	/* Features and speed; info->available 0 with a reason when it does not work here. Never fails. */
	void (*probe)(struct vcore_backend_info *info);
	/* Features of the guest CPU this backend can give on this host; 0 or -errno. */
	int (*cpu_features)(struct vc_feature_set *features, uint32_t *phys_bits);

	/* Also registers bvm->env.mem->listener, sets max_slots, gpa_limit, want_pages. */
	int (*vm_create)(struct vc_bvm *vm);
	void (*vm_destroy)(struct vc_bvm *vm);     /* vcpus are gone; slots may remain */
	int (*vcpu_create)(struct vc_bvcpu *vcpu); /* state: reset state by vc_cpu_state_reset */
	void (*vcpu_destroy)(struct vc_bvcpu *vcpu);

	/*
	 * Execute until an exit the program must see. Called with the pass outside the gate; enters it while in guest code.
	 * Handles port, MMIO and hypercall accesses through vc_bus_dispatch itself. Waits (outside the gate) while the vcpu
	 * is halted or waits for SIPI, if the vm has an interrupt controller. exit: fully zeroed but for size, or the
	 * previous PIO/MMIO exit with the program's answer in data, which completes the access. Returns 0; a negative errno
	 * only for a broken host (never for what a guest does). Honours requests; clears those it has served. KICK,
	 * TIMEOUT, PAUSE end the run with the matching exit reason (PAUSE: NONE).
	 */
	int (*run)(struct vc_bvcpu *vcpu, struct vcore_exit *exit);
	/* Make a running vcpu look at requests soon, and wake a halted one. Any thread, async-signal-safe. */
	void (*notify)(struct vc_bvcpu *vcpu);

	/* The whole state, when not running. set validates nothing that vc_cpu_state_check() did. */
	int (*get_state)(struct vc_bvcpu *vcpu, struct vc_cpu_state *state);
	int (*set_state)(struct vc_bvcpu *vcpu, const struct vc_cpu_state *state);
	/* General registers alone: the quick way for exits handled by the program. NULL: through get_state/set_state. */
	int (*get_regs)(struct vc_bvcpu *vcpu, uint64_t gpr[16], uint64_t *rip, uint64_t *rflags);
	int (*set_regs)(struct vc_bvcpu *vcpu, const uint64_t gpr[16], uint64_t rip, uint64_t rflags);
	/* -ENOENT: no such MSR; -EINVAL: value refused. */
	int (*get_msr)(struct vc_bvcpu *vcpu, uint32_t index, uint64_t *value);
	int (*set_msr)(struct vc_bvcpu *vcpu, uint32_t index, uint64_t value);
	int (*set_debug)(struct vc_bvcpu *vcpu, const struct vcore_debug *debug);
	/* Inject; irqchip NONE only. -EBUSY when one waits already. */
	int (*interrupt)(struct vc_bvcpu *vcpu, uint8_t vector);

	/* In-kernel controllers; NULL where there are none (then lib/vm's irq sink goes to lib/chipset). */
	const struct vc_irq_sink *irq_sink; /* ctx: the vc_bvm */
	/* SPLIT: the IOAPIC's pin changed its redirection entry. */
	void (*ioapic_changed)(void *bvm, unsigned pin);

	/* The local APIC in the kernel, of a vcpu that does not run; NULL: the library has them. */
	int (*get_lapic)(struct vc_bvcpu *vcpu, struct vc_lapic_state *state);
	int (*set_lapic)(struct vc_bvcpu *vcpu, const struct vc_lapic_state *state);
	/* No vcpu runs: let the library's controllers know what the kernel has not told yet. NULL: nothing to do. */
	void (*settle)(struct vc_bvm *vm);
	/* FULL: add the controllers in the kernel to the buses, as devices without registers that save and load what
	 * lib/chipset's do. */
	int (*add_chips)(struct vc_bvm *vm);

	/* Descriptors; NULL: lib/vm serves them by vc_ioeventfd in the bus and by watches in the loop. */
	int (*ioeventfd)(struct vc_bvm *vm, const struct vc_ioeventfd *e, bool add);
	int (*irqfd)(struct vc_bvm *vm, const struct vc_irq_route *route, bool add);
	/* Registers of a real device, for the guest to reach them as if they were memory. NULL: not as the device wants it.
	 */
	int (*registers)(struct vc_bvm *vm, const struct vc_registers *registers, bool add);
	int (*coalesce)(struct vc_bvm *vm, enum vcore_bus bus, uint64_t start, uint64_t length, bool add);
	/* Deliver what was coalesced. NULL: nothing to do. */
	void (*flush_coalesced)(struct vc_bvm *vm);
	/* A device wants hypercalls. NULL: the backend hands them to the bus anyway. */
	int (*hypercalls)(struct vc_bvm *vm, bool on);
	/* Statistics: the name of the n-th kind of instruction and how often it was not translated. False: there is none.
	 * NULL: none. */
	bool (*op_count)(struct vc_bvcpu *vcpu, unsigned n, const char **name, uint64_t *count);
	/* The guest clock was stopped, started or set: put the TSC right. */
	void (*clock_changed)(struct vc_bvm *vm);
	uint32_t hook_kinds; /* bit n: enum vcore_hook_kind n works */
	/* Inside an exclusive section: the hooks of that kind are others now. NULL: looked up at each event anyway. */
	void (*hooks_changed)(struct vc_bvm *vm, enum vcore_hook_kind kind);
	/* What is in no vcpu's state to power-on: in-kernel interrupt controllers, waiting interrupts, accesses not
	 * answered. */
	int (*reset)(struct vc_bvm *vm);
	/* The part of that which is one vcpu's: it is plugged in again. NULL: nothing. */
	int (*vcpu_reset)(struct vc_bvcpu *vcpu);
};

extern const struct vc_backend vc_backend_kvm; /* in builds with it */
extern const struct vc_backend vc_backend_emu;
extern const struct vc_backend *const vc_backends[]; /* NULL-terminated */
const struct vc_backend *vc_backend_find(enum vcore_backend id);

/*
 * Page walk on an architectural state without side effects (lib/cpu cannot do it: it reads memory). Used for
 * vcore_vcpu_translate() on every backend and by emu's debugger. user: by user privilege. On failure returns -EFAULT,
 * *error_code is the #PF error code. Caller is inside the gate or holds the memory's read lock.
 */
int vc_translate(struct vc_mem *mem, const struct vc_cpu_state *state, uint64_t gva, enum vcore_access access,
                 bool user, uint32_t phys_bits, uint64_t *gpa, uint32_t *error_code);

/*
 * Execute one instruction of `state` with the emu interpreter, for an instruction that another backend gave up on.
 * Memory and device accesses go through vm; state is updated. Called inside the gate, which callbacks step out of. 0;
 * -EFAULT/-ENOSYS with a sentence when it cannot be done either.
 */
int vc_emu_step(struct vc_bvcpu *vcpu, struct vc_cpu_state *state);

#endif
