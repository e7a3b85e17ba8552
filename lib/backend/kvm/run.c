/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The run loop, and how other threads reach into it.
 *
 * KVM_RUN is left early by a signal. It is blocked in the thread for as long as it runs the vcpu and open only inside
 * KVM_RUN (KVM_SET_SIGNAL_MASK), so no handler of the program ever runs and none needs to be installed, and one that
 * comes before the ioctl ends it as well. SIGURG, because its default action is to be ignored. immediate_exit, which
 * ends KVM_RUN before the kernel has looked at interrupts, is for this thread alone.
 */
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "backend/kvm/kvm.h"
#include "core/clock.h"

#define KICK_SIGNAL         SIGURG
#define KERNEL_SIGSET_BYTES 8
/* the header's KVM_COALESCED_MMIO_MAX counts in the kernel's PAGE_SIZE, which programs do not have */
#define RING_ENTRIES ((VC_PAGE_SIZE - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio))

void kvm_notify(struct vc_bvcpu *v)
{
	struct kvm_vcpu *k = kvm_of(v);

	if (!k)
		return;
	atomic_fetch_add(&k->wake, 1);
	syscall(SYS_futex, &k->wake, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	atomic_fetch_add(&k->kickers, 1);
	if (atomic_load(&k->in_run) && atomic_load(&k->tid) != (int)syscall(SYS_gettid))
		syscall(SYS_tgkill, getpid(), atomic_load(&k->tid), KICK_SIGNAL);
	atomic_fetch_sub(&k->kickers, 1);
}

static void consume_signal(void)
{
	static const struct timespec now = {0};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, KICK_SIGNAL);
	while (sigtimedwait(&set, NULL, &now) == KICK_SIGNAL)
		;
}

/* Block the signal here, open it inside KVM_RUN. */
static void signals_begin(struct kvm_vcpu *k, sigset_t *old)
{
	struct {
		struct kvm_signal_mask head;
		uint8_t bits[KERNEL_SIGSET_BYTES];
	} mask = {.head.len = KERNEL_SIGSET_BYTES};
	sigset_t block, inside;

	sigemptyset(&block);
	sigaddset(&block, KICK_SIGNAL);
	pthread_sigmask(SIG_BLOCK, &block, old);
	inside = *old;
	sigdelset(&inside, KICK_SIGNAL);
	if (k->mask_set && !memcmp(&inside, &k->mask, KERNEL_SIGSET_BYTES))
		return;
	memcpy(mask.bits, &inside, KERNEL_SIGSET_BYTES);
	k->mask_set = kvm_ioctl_p(k->fd, KVM_SET_SIGNAL_MASK, &mask) == 0;
	k->mask = inside;
}

static void signals_end(struct kvm_vcpu *k, const sigset_t *old)
{
	while (atomic_load(&k->kickers))
		sched_yield();
	consume_signal();
	pthread_sigmask(SIG_SETMASK, old, NULL);
}

/* ---- requests ---- */

static uint32_t take_requests(struct vc_bvcpu *v, uint32_t bits)
{
	return atomic_fetch_and(&v->requests, ~bits) & bits;
}

/* Requests that end the run. */
static bool ends_run(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	static const struct {
		uint32_t bit, reason;
	} map[] = {{VC_REQ_PAUSE, VCORE_EXIT_NONE}, {VC_REQ_KICK, VCORE_EXIT_KICKED}, {VC_REQ_TIMEOUT, VCORE_EXIT_TIMEOUT}};

	for (size_t i = 0; i < VC_ARRAY_SIZE(map); i++)
		if (take_requests(v, map[i].bit)) {
			exit->reason = map[i].reason;
			return true;
		}
	return false;
}

/* irqchip USER: INIT and SIPI arrive as requests. */
static int startup_requests(struct vc_bvcpu *v)
{
	struct vc_cpu_state state;
	uint32_t r = take_requests(v, VC_REQ_INIT | VC_REQ_SIPI);
	int result = 0;

	if (r & VC_REQ_INIT) {
		result = kvm_get_state(v, &state);
		vc_cpu_state_init(&state);
		state.mp_state = v->index ? VC_MP_WAIT_SIPI : VC_MP_RUNNABLE;
		if (v->lapic)
			vc_lapic_reset(v->lapic, true);
		if (result >= 0)
			result = kvm_set_state(v, &state);
	}
	if (result >= 0 && (r & VC_REQ_SIPI) && kvm_of(v)->mp_state == VC_MP_WAIT_SIPI) {
		result = kvm_get_state(v, &state);
		vc_cpu_state_sipi(&state, (uint8_t)atomic_load(&v->sipi_vector));
		if (result >= 0)
			result = kvm_set_state(v, &state);
	}
	return result;
}

/* irqchip USER: one that is not masked ends a halt, which the kernel does not know of. */
static int nmi(struct vc_bvcpu *v)
{
	struct kvm_vcpu *k = kvm_of(v);
	struct kvm_vcpu_events events = {0};

	if (kvm_ioctl(k->fd, KVM_NMI, 0) < 0)
		return vc_fail_errno(errno, "KVM_NMI");
	if (k->mp_state == VC_MP_HALTED && kvm_ioctl_p(k->fd, KVM_GET_VCPU_EVENTS, &events) == 0 && !events.nmi.masked)
		k->mp_state = VC_MP_RUNNABLE;
	return 0;
}

static int serve_requests(struct vc_bvcpu *v)
{
	int r;

	if (take_requests(v, VC_REQ_GATE)) {
		vc_gate_leave(&v->pass);
		vc_gate_enter(&v->pass);
	}
	if (take_requests(v, VC_REQ_NMI) && (r = nmi(v)) < 0)
		return r;
	take_requests(v, VC_REQ_SMI | VC_REQ_TLB); /* no SMM here; the TLB is the CPU's */
	return atomic_load(&v->requests) & (VC_REQ_INIT | VC_REQ_SIPI) ? startup_requests(v) : 0;
}

/* ---- interrupts from controllers in the library ---- */

/* Whether a vector waits, without taking it. */
static bool irq_waits(struct vc_bvcpu *v)
{
	if (v->lapic && vc_lapic_pending(v->lapic) >= 0)
		return true;
	if (v->vm->pic && v->index == 0 && (!v->lapic || vc_lapic_accepts_pic(v->lapic)) && vc_pic_pending(v->vm->pic))
		return true;
	return atomic_load(&kvm_of(v)->interrupt) >= 0;
}

static int take_irq(struct vc_bvcpu *v)
{
	int vector = v->lapic ? vc_lapic_accept(v->lapic) : -1;

	if (vector < 0 && v->vm->pic && v->index == 0 && vc_pic_pending(v->vm->pic))
		vector = vc_pic_accept(v->vm->pic);
	if (vector < 0)
		vector = atomic_exchange(&kvm_of(v)->interrupt, -1);
	return vector;
}

/* The kernel says when the guest can take one; else it is asked to tell. 1: it has got one. */
static int inject(struct vc_bvcpu *v)
{
	struct kvm_run *run = kvm_of(v)->run;
	struct kvm_interrupt irq;
	int vector;

	take_requests(v, VC_REQ_IRQ);
	run->request_interrupt_window = 0;
	if (v->vm->irqchip == VCORE_IRQCHIP_FULL || !irq_waits(v))
		return 0;
	if (!run->ready_for_interrupt_injection || (!kvm_in_kernel_lapic(v->vm) && !run->if_flag)) {
		run->request_interrupt_window = 1;
		return 0;
	}
	vector = take_irq(v);
	if (vector < 0)
		return 0;
	irq.irq = (uint32_t)vector;
	if (kvm_ioctl_p(kvm_of(v)->fd, KVM_INTERRUPT, &irq) < 0)
		return vc_fail_errno(errno, "KVM_INTERRUPT %d", vector);
	atomic_fetch_add_explicit(&v->interrupts, 1, memory_order_relaxed);
	run->request_interrupt_window = irq_waits(v);
	return 1;
}

/* ---- waiting: irqchip USER, whose halted vcpus the kernel does not know ---- */

static bool must_wait(struct vc_bvcpu *v)
{
	struct kvm_vcpu *k = kvm_of(v);

	if (k->mp_state == VC_MP_RUNNABLE || atomic_load(&v->requests) & ~(uint32_t)VC_REQ_IRQ)
		return false;
	if (k->mp_state == VC_MP_HALTED && irq_waits(v)) {
		k->mp_state = VC_MP_RUNNABLE;
		return false;
	}
	return true;
}

static void wait_for_event(struct vc_bvcpu *v)
{
	struct kvm_vcpu *k = kvm_of(v);
	uint32_t seen = atomic_load(&k->wake);
	uint64_t since = vc_host_ns();

	if (!must_wait(v))
		return;
	vc_gate_leave(&v->pass);
	syscall(SYS_futex, &k->wake, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
	atomic_fetch_add_explicit(&v->halted_ns, vc_host_ns() - since, memory_order_relaxed);
	vc_gate_enter(&v->pass);
}

/* ---- coalesced writes ---- */

static void dispatch_coalesced(struct vc_bvm *vm, struct vc_pass *pass, const struct kvm_coalesced_mmio *m)
{
	struct vcore_io io = {
	    .bus = m->pio ? VCORE_BUS_PIO : VCORE_BUS_MMIO, .address = m->phys_addr, .width = m->len, .is_write = 1};

	memcpy(&io.data, m->data, m->len > 8 ? 8 : m->len);
	vc_bus_dispatch(vm->env.buses, pass, &io);
}

/* One entry out of the ring that all vcpus share. */
static bool next_coalesced(struct vc_bvm *vm, struct kvm_coalesced_mmio *out)
{
	struct kvm_vm *k = kvm_vm_of(vm);
	struct kvm_coalesced_mmio_ring *ring =
	    (void *)((char *)kvm_of(vm->vcpu[0])->run + (size_t)k->coalesced_page * VC_PAGE_SIZE);
	uint32_t first;
	bool found;

	if (__atomic_load_n(&ring->first, __ATOMIC_RELAXED) == __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE))
		return false;
	pthread_mutex_lock(&k->lock);
	first = ring->first;
	found = first != __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);
	if (found) {
		*out = ring->coalesced_mmio[first];
		__atomic_store_n(&ring->first, (first + 1) % RING_ENTRIES, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&k->lock);
	return found;
}

static void drain_coalesced(struct vc_bvm *vm, struct vc_pass *pass)
{
	struct kvm_coalesced_mmio entry;

	while (kvm_vm_of(vm)->coalesced_page && next_coalesced(vm, &entry))
		dispatch_coalesced(vm, pass, &entry);
}

void kvm_flush_coalesced(struct vc_bvm *vm)
{
	drain_coalesced(vm, NULL);
}

/* ---- the loop ---- */

static void sync_cr8_in(struct vc_bvcpu *v)
{
	if (v->lapic)
		kvm_of(v)->run->cr8 = vc_lapic_get_cr8(v->lapic);
}

static void sync_cr8_out(struct vc_bvcpu *v)
{
	if (v->lapic)
		vc_lapic_set_cr8(v->lapic, (uint8_t)kvm_of(v)->run->cr8);
}

/* One KVM_RUN. 1: an exit to be handled; 0: interrupted. */
static int enter_guest(struct vc_bvcpu *v)
{
	struct kvm_vcpu *k = kvm_of(v);
	int r;

	k->unfinished = false;
	r = ioctl(k->fd, KVM_RUN, 0);
	vc_count(&v->exits);
	if (r >= 0)
		return 1;
	if (errno == EINTR || errno == EAGAIN) {
		vc_bvcpu_left(v, VC_LEFT_REQUEST);
		consume_signal();
		return 0;
	}
	return vc_fail_errno(errno, "KVM_RUN of vcpu %u", v->index);
}

/*
 * The same with a vector for the LAPIC in the kernel, which keeps it where no state shows it until the guest is
 * entered. A turn that was interrupted may only have ended a halt; one more, with the signal there already, makes it an
 * interrupt under way before anybody looks at the state.
 */
static int enter_with_vector(struct vc_bvcpu *v)
{
	int r = enter_guest(v);

	if (r)
		return r;
	syscall(SYS_tgkill, getpid(), atomic_load(&kvm_of(v)->tid), KICK_SIGNAL);
	return enter_guest(v);
}

/* immediate_exit is for completing an access only: a vector given then would stay where no state shows it. */
static int enter(struct vc_bvcpu *v)
{
	bool library_irqs = v->vm->irqchip != VCORE_IRQCHIP_FULL;
	int r;

	if (!library_irqs)
		return enter_guest(v);
	sync_cr8_in(v);
	r = kvm_of(v)->run->immediate_exit ? 0 : inject(v);
	if (r < 0)
		return r;
	r = r && kvm_in_kernel_lapic(v->vm) ? enter_with_vector(v) : enter_guest(v);
	if (r >= 0)
		sync_cr8_out(v);
	return r;
}

static int loop(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	struct kvm_vcpu *k = kvm_of(v);
	bool step;
	int r;

	for (;;) {
		k->run->immediate_exit = 0;
		if (vc_unlikely(atomic_load(&v->requests))) {
			/* never in the middle of an instruction: the state would be that of before it, its accesses done */
			if (k->unfinished)
				k->run->immediate_exit = 1;
			else if (ends_run(v, exit))
				return 0;
			r = serve_requests(v);
			if (r < 0)
				return r;
		}
		if (!kvm_in_kernel_lapic(v->vm) && k->mp_state != VC_MP_RUNNABLE && must_wait(v)) {
			wait_for_event(v);
			continue;
		}
		/* KVM steps over a port access without telling: end it, and tell */
		step = k->unfinished && (k->debug.flags & VCORE_DEBUG_SINGLE_STEP);
		if (step)
			k->run->immediate_exit = 1;
		r = enter(v);
		if (r < 0)
			return r;
		if (!r && step) {
			kvm_debug_exit(v, VC_DB, KVM_DR6_BS, exit);
			return 0;
		}
		drain_coalesced(v->vm, &v->pass);
		if (r && !kvm_handle_exit(v, exit))
			return 0;
	}
}

void kvm_abandon_access(struct vc_bvcpu *v)
{
	enum { TURNS = 64 }; /* the pieces of one access are fewer */
	struct kvm_vcpu *k = kvm_of(v);

	k->io_open = k->io_asked = k->call_asked = false;
	k->run->immediate_exit = 1;
	for (int i = 0; i < TURNS; i++)
		if (ioctl(k->fd, KVM_RUN, 0) < 0)
			break;
}

int kvm_run(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	struct kvm_vcpu *k = kvm_of(v);
	sigset_t old;
	int r = 0;

	signals_begin(k, &old);
	atomic_store(&k->tid, (int)syscall(SYS_gettid));
	atomic_store(&k->in_run, 1);
	atomic_store(&v->running, 1);
	vc_gate_enter(&v->pass);
	if (!k->io_open || kvm_resume_access(v, exit)) {
		*exit = (struct vcore_exit){.size = sizeof *exit};
		r = loop(v, exit);
	}
	vc_gate_leave(&v->pass);
	atomic_store(&v->running, 0);
	atomic_store(&k->in_run, 0);
	signals_end(k, &old);
	return r;
}
