/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside backend kvm. */
#ifndef VC_KVM_KVM_H
#define VC_KVM_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include <virtcore/error.h>

#include "backend/backend.h"
#include "core/error.h"
#include "core/util.h"

#define KVM_MSI_ROUTES     1024 /* irqfds with a message of their own */
#define KVM_REGISTER_SLOTS 64   /* slot numbers, the last ones, for registers of real devices */

struct kvm_route {
	bool used;
	int fd; /* of an irqfd */
	uint64_t address;
	uint32_t data;
};

struct kvm_vm {
	int kvm_fd, vm_fd;
	size_t run_size;
	uint64_t features;   /* VCORE_FEATURE_* */
	bool xen_hypercalls; /* KVM_CAP_XEN_HVM can hand hypercalls to us */
	bool hypercalls_on;
	bool tsc_control;
	uint32_t coalesced_page;                /* page of the ring in a vcpu's mapping; 0: none */
	pthread_mutex_t lock;                   /* protects routes, registers, coalesced ring, stopped */
	struct kvm_route pins[VC_GSI_COUNT];    /* SPLIT: what each IOAPIC pin sends */
	struct kvm_route msis[KVM_MSI_ROUTES];  /* GSI VC_GSI_COUNT + n */
	uint64_t registers[KVM_REGISTER_SLOTS]; /* their addresses, and 1; 0: the slot is free */
	struct kvm_msr_list *msr_list;          /* what this host saves and restores */
	/* power-on state of the kernel's controllers */
	struct kvm_irqchip chips[3];
	struct kvm_pit_state2 pit;
	/* while guest time stands still */
	bool stopped;
	uint64_t clock_ahead; /* of guest time: kvmclock, ns */
};

struct kvm_vcpu {
	int fd;
	struct kvm_run *run;
	/* the thread inside run(), for kicks */
	_Atomic int tid;
	_Atomic uint32_t in_run;
	_Atomic uint32_t kickers; /* threads that are about to signal it */
	_Atomic uint32_t wake;    /* futex: grows with every notify */
	sigset_t mask;            /* last given to KVM_SET_SIGNAL_MASK */
	bool mask_set;
	/* a port access of several elements, or one that the program answers */
	uint32_t io_done;      /* elements dispatched */
	bool io_open;          /* run->exit_reason's access is not complete */
	bool io_asked;         /* ... and the program was asked for the element at io_done */
	bool call_asked;       /* the program was asked for the answer to a hypercall */
	bool unfinished;       /* the next KVM_RUN first ends the instruction that the last exit was for */
	_Atomic int interrupt; /* vector waiting for injection (irqchip NONE); -1 */
	struct vcore_debug debug;
	struct kvm_lapic_state lapic; /* power-on state; FULL and SPLIT */
	enum vc_mp_state mp_state;    /* irqchip USER: the kernel does not know */
	/* while guest time stands still */
	uint64_t tsc_ahead; /* of the vm's: as state.tsc_offset */
	uint64_t deadline;  /* IA32_TSC_DEADLINE */
	uint64_t tsc_seen;  /* state.tsc_offset as last given out */
};

static inline struct kvm_vm *kvm_vm_of(struct vc_bvm *vm)
{
	return vm->priv;
}
static inline struct kvm_vcpu *kvm_of(struct vc_bvcpu *v)
{
	return v->priv;
}
static inline bool kvm_in_kernel_lapic(const struct vc_bvm *vm)
{
	return vm->irqchip >= VCORE_IRQCHIP_SPLIT;
}

/* ioctl that is repeated after EINTR. */
int kvm_ioctl(int fd, unsigned long request, unsigned long arg);
#define kvm_ioctl_p(fd, request, pointer) kvm_ioctl(fd, request, (unsigned long)(pointer))
static inline bool kvm_has(int fd, long capability)
{
	return kvm_ioctl(fd, KVM_CHECK_EXTENSION, (unsigned long)capability) > 0;
}

/* probe.c */
void kvm_probe(struct vcore_backend_info *info);
/* /dev/kvm of the right version; -errno with a sentence. */
int kvm_open(void);
uint64_t kvm_features(int kvm_fd);
int kvm_cpu_features(struct vc_feature_set *features, uint32_t *phys_bits);

/* vm.c */
int kvm_vm_create(struct vc_bvm *vm);
void kvm_vm_destroy(struct vc_bvm *vm);
int kvm_registers(struct vc_bvm *vm, const struct vc_registers *registers, bool add);
int kvm_coalesce(struct vc_bvm *vm, enum vcore_bus bus, uint64_t start, uint64_t length, bool add);
int kvm_ioeventfd(struct vc_bvm *vm, const struct vc_ioeventfd *e, bool add);
int kvm_reset(struct vc_bvm *vm);
int kvm_vcpu_reset(struct vc_bvcpu *v);

/* time.c */
void kvm_clock_changed(struct vc_bvm *vm);
uint64_t kvm_vm_tsc(const struct vc_bvm *vm);
/* How far a vcpu's TSC is ahead of the vm's. */
uint64_t kvm_get_tsc_ahead(struct vc_bvcpu *v);
void kvm_set_tsc_ahead(struct vc_bvcpu *v, uint64_t ahead);
/* IA32_TSC_DEADLINE of a LAPIC in the kernel; one that is set while time stands is armed when it goes on. */
uint64_t kvm_get_deadline(struct vc_bvcpu *v);
void kvm_set_deadline(struct vc_bvcpu *v, uint64_t deadline);

/* irq.c */
int kvm_irq_create(struct vc_bvm *vm);
int kvm_irqfd(struct vc_bvm *vm, const struct vc_irq_route *route, bool add);
void kvm_ioapic_changed(void *bvm, unsigned pin);
extern const struct vc_irq_sink kvm_irq_sink;

/* chips.c */
int kvm_add_chips(struct vc_bvm *vm);

/* lapic.c */
void kvm_settle(struct vc_bvm *vm);
int kvm_get_lapic(struct vc_bvcpu *v, struct vc_lapic_state *state);
int kvm_set_lapic(struct vc_bvcpu *v, const struct vc_lapic_state *state);

/* vcpu.c */
int kvm_vcpu_create(struct vc_bvcpu *v);
void kvm_vcpu_destroy(struct vc_bvcpu *v);
int kvm_set_debug(struct vc_bvcpu *v, const struct vcore_debug *debug);
int kvm_interrupt(struct vc_bvcpu *v, uint8_t vector);
int kvm_hypercalls(struct vc_bvm *vm, bool on);

/* run.c */
int kvm_run(struct vc_bvcpu *v, struct vcore_exit *exit);
void kvm_notify(struct vc_bvcpu *v);
void kvm_flush_coalesced(struct vc_bvm *vm);

/* End the instruction that waits for the program's answer, without one: the program has other plans for the vcpu. */
void kvm_abandon_access(struct vc_bvcpu *v);

#define KVM_DR6_BS 0x4000u /* single step */
/* vcpu.c: an exit by the program's own debugging, as its exit reason says it. */
void kvm_debug_exit(struct vc_bvcpu *v, uint32_t exception, uint64_t dr6, struct vcore_exit *exit);

/* exit.c: false when the program must see *exit */
bool kvm_handle_exit(struct vc_bvcpu *v, struct vcore_exit *exit);
/* Take the program's answer of a PIO or MMIO exit and go on with the access. False: the program must see another part
 * of it. */
bool kvm_resume_access(struct vc_bvcpu *v, struct vcore_exit *exit);

/* state.c */
int kvm_get_state(struct vc_bvcpu *v, struct vc_cpu_state *state);
int kvm_set_state(struct vc_bvcpu *v, const struct vc_cpu_state *state);
int kvm_get_regs(struct vc_bvcpu *v, uint64_t gpr[16], uint64_t *rip, uint64_t *rflags);
int kvm_set_regs(struct vc_bvcpu *v, const uint64_t gpr[16], uint64_t rip, uint64_t rflags);
int kvm_get_msr(struct vc_bvcpu *v, uint32_t index, uint64_t *value);
int kvm_set_msr(struct vc_bvcpu *v, uint32_t index, uint64_t value);

#endif
