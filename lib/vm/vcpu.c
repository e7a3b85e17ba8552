/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The vcpu object: its state as the program sees it. */
#include "vm/vm.h"

#include <stdlib.h>

static void kick_out_of_gate(void *ctx)
{
	vc_bvcpu_request(ctx, VC_REQ_GATE);
}

int vc_vcpu_init(struct vcore_vm *vm, uint32_t index)
{
	struct vcore_vcpu *v = &vm->vcpus[index];
	int r;

	v->vm = vm;
	v->b.vm = &vm->bvm;
	v->b.index = index;
	v->b.handle = v;
	v->parked = true;
	v->place.cgroup = -1;
	v->b.lapic = vm->lapics ? vc_lapics_get(vm->lapics, index) : NULL;
	vm->bvm.vcpu[index] = &v->b;
	r = vm->bvm.ops->vcpu_create(&v->b);
	if (r < 0)
		return r;
	vc_gate_add(&vm->gate, &v->b.pass, kick_out_of_gate, &v->b);
	pthread_mutex_init(&v->state_lock, NULL);
	v->created = true;
	return 0;
}

void vc_vcpu_fini(struct vcore_vcpu *v)
{
	if (!v->created)
		return;
	vc_gate_remove(&v->vm->gate, &v->b.pass);
	v->vm->bvm.ops->vcpu_destroy(&v->b);
	vc_place_fini(&v->place);
	pthread_mutex_destroy(&v->state_lock);
	v->created = false;
}

int vc_vcpus_reset(struct vcore_vm *vm)
{
	struct vc_cpu_state *state = malloc(sizeof *state);
	int r = 0;

	if (!state)
		return vc_fail(ENOMEM, "no memory for a vcpu's state");
	for (uint32_t i = 0; r >= 0 && i < vm->bvm.vcpus; i++) {
		struct vcore_vcpu *v = &vm->vcpus[i];

		vc_cpu_state_reset(state, i == 0);
		/* a kick is the program's and not the guest's: it waits for the next run */
		atomic_fetch_and(&v->b.requests, (uint32_t)VC_REQ_KICK);
		if (v->b.lapic)
			vc_lapic_reset(v->b.lapic, false);
		r = vm->bvm.ops->set_state(&v->b, state);
	}
	free(state);
	return r;
}

vcore_vcpu *vcore_vm_vcpu(vcore_vm *vm, uint32_t index)
{
	if (vm && index < vm->bvm.vcpus)
		return &vm->vcpus[index];
	vc_fail(EINVAL, "there is no vcpu %u: the vm has %u", index, vm ? vm->bvm.vcpus : 0);
	return NULL;
}

uint32_t vcore_vcpu_index(vcore_vcpu *v)
{
	return v->b.index;
}

vcore_vm *vcore_vcpu_vm(vcore_vcpu *v)
{
	return v->vm;
}

/* ---- who may look ---- */

enum cookie { COOKIE_STATE_LOCK, COOKIE_VM_LOCK, COOKIE_CALLBACK };

/* A vcpu that a thread owns: only while that is parked. Returns with vm->lock held when true. */
static bool lock_parked(struct vcore_vcpu *v)
{
	struct vcore_vm *vm = v->vm;
	uint32_t owner;

	pthread_mutex_lock(&vm->lock);
	owner = atomic_load(&v->owner);
	if ((owner == VC_OWNER_THREAD && v->parked && !vm->claimed) || (owner == VC_OWNER_PROGRAM && v->debug_waits))
		return true;
	pthread_mutex_unlock(&vm->lock);
	return false;
}

int vc_vcpu_lock(struct vcore_vcpu *v, bool change, unsigned *cookie)
{
	uint32_t owner;

	*cookie = COOKIE_CALLBACK;
	if (!v)
		return vc_fail(EINVAL, "no vcpu given");
	if (atomic_load(&v->executing) && pthread_equal(atomic_load(&v->runner), pthread_self())) {
		*cookie = COOKIE_CALLBACK;
		return change ? vc_fail(EBUSY, "vcpu %u: its state cannot be changed inside a callback", v->b.index) : 0;
	}
	pthread_mutex_lock(&v->state_lock);
	owner = atomic_load(&v->owner);
	if (owner == VC_OWNER_NONE) {
		*cookie = COOKIE_STATE_LOCK;
		return 0;
	}
	pthread_mutex_unlock(&v->state_lock);
	if ((owner == VC_OWNER_THREAD || owner == VC_OWNER_PROGRAM) && lock_parked(v)) {
		*cookie = COOKIE_VM_LOCK;
		return 0;
	}
	return owner == VC_OWNER_CLAIM ? vc_fail(EBUSY, "vcpu %u: the vm is being booted or reset", v->b.index)
	                               : vc_fail(EBUSY, "vcpu %u is executing: pause the vm first", v->b.index);
}

void vc_vcpu_unlock(struct vcore_vcpu *v, unsigned cookie)
{
	if (cookie == COOKIE_STATE_LOCK)
		pthread_mutex_unlock(&v->state_lock);
	else if (cookie == COOKIE_VM_LOCK)
		pthread_mutex_unlock(&v->vm->lock);
}

int vc_vcpu_put_state(struct vcore_vcpu *v, const struct vc_cpu_state *state)
{
	int r = vc_cpu_state_check(state);

	return r < 0 ? r : v->vm->bvm.ops->set_state(&v->b, state);
}

/* A copy of the state, for a look or a change: to be given back with end_state(). NULL with *error set. */
static struct vc_cpu_state *begin_state(struct vcore_vcpu *v, bool change, unsigned *cookie, int *error)
{
	struct vc_cpu_state *state = malloc(sizeof *state);

	*error = state ? vc_vcpu_lock(v, change, cookie) : vc_fail(ENOMEM, "no memory for a vcpu's state");
	if (*error >= 0) {
		*error = v->vm->bvm.ops->get_state(&v->b, state);
		if (*error >= 0)
			return state;
		vc_vcpu_unlock(v, *cookie);
	}
	free(state);
	return NULL;
}

static void end_state(struct vcore_vcpu *v, struct vc_cpu_state *state, unsigned cookie)
{
	vc_vcpu_unlock(v, cookie);
	free(state);
}

int vc_vcpu_load(struct vcore_vcpu *v, struct vc_cpu_state *state)
{
	unsigned cookie;
	int r = vc_vcpu_lock(v, false, &cookie);

	if (r < 0)
		return r;
	r = v->vm->bvm.ops->get_state(&v->b, state);
	vc_vcpu_unlock(v, cookie);
	return r;
}

int vc_vcpu_store(struct vcore_vcpu *v, const struct vc_cpu_state *state)
{
	unsigned cookie;
	int r = vc_vcpu_lock(v, true, &cookie);

	if (r < 0)
		return r;
	r = vc_vcpu_put_state(v, state);
	vc_vcpu_unlock(v, cookie);
	return r;
}

/* ---- general registers ---- */

_Static_assert(offsetof(struct vcore_regs, r15) - offsetof(struct vcore_regs, rax) == 15 * 8,
               "registers are in encoding order");

static int check_size(uint32_t size, const char *what)
{
	return size < sizeof size ? vc_fail(EINVAL, "%s: size is not set", what) : 0;
}

static int read_regs(struct vcore_vcpu *v, uint64_t gpr[16], uint64_t *rip, uint64_t *rflags)
{
	const struct vc_backend *ops = v->vm->bvm.ops;
	struct vc_cpu_state *state;
	int r;

	if (ops->get_regs)
		return ops->get_regs(&v->b, gpr, rip, rflags);
	state = malloc(sizeof *state);
	if (!state)
		return vc_fail(ENOMEM, "no memory for a vcpu's state");
	r = ops->get_state(&v->b, state);
	if (r >= 0) {
		memcpy(gpr, state->gpr, sizeof state->gpr);
		*rip = state->rip;
		*rflags = state->rflags;
	}
	free(state);
	return r;
}

static int write_regs(struct vcore_vcpu *v, const uint64_t gpr[16], uint64_t rip, uint64_t rflags)
{
	const struct vc_backend *ops = v->vm->bvm.ops;
	struct vc_cpu_state *state;
	int r;

	if (ops->set_regs)
		return ops->set_regs(&v->b, gpr, rip, rflags);
	state = malloc(sizeof *state);
	if (!state)
		return vc_fail(ENOMEM, "no memory for a vcpu's state");
	r = ops->get_state(&v->b, state);
	if (r >= 0) {
		memcpy(state->gpr, gpr, sizeof state->gpr);
		state->rip = rip;
		state->rflags = rflags;
		r = ops->set_state(&v->b, state);
	}
	free(state);
	return r;
}

int vcore_vcpu_get_regs(vcore_vcpu *v, struct vcore_regs *out)
{
	struct vcore_regs regs = {.size = sizeof regs};
	uint64_t gpr[16];
	unsigned cookie;
	int r;

	if (!v || !out)
		return vc_fail(EINVAL, "vcore_vcpu_get_regs: a vcpu and a place for the registers are needed");
	r = check_size(out->size, "vcore_vcpu_get_regs: regs");
	if (r < 0 || (r = vc_vcpu_lock(v, false, &cookie)) < 0)
		return r;
	r = read_regs(v, gpr, &regs.rip, &regs.rflags);
	vc_vcpu_unlock(v, cookie);
	memcpy((uint8_t *)&regs + offsetof(struct vcore_regs, rax), gpr, sizeof gpr);
	if (r >= 0)
		vc_struct_out(out, &regs, sizeof regs);
	return r;
}

/* Whether these can be seen without the rest of the state: flags that every mode takes, and a RIP that is canonical. */
static bool plain(uint64_t rip, uint64_t rflags)
{
	return !(rip >> 32) && !(rflags & ~(uint64_t)(VC_FLAGS_ARITH | 2 | VC_FLAG_TF | VC_FLAG_IF | VC_FLAG_DF));
}

static int check_regs(struct vcore_vcpu *v, uint64_t rip, uint64_t rflags)
{
	struct vc_cpu_state *state;
	int r;

	if (plain(rip, rflags))
		return 0;
	state = malloc(sizeof *state);
	if (!state)
		return vc_fail(ENOMEM, "no memory for a vcpu's state");
	r = v->vm->bvm.ops->get_state(&v->b, state);
	if (r >= 0) {
		state->rip = rip;
		state->rflags = rflags;
		r = vc_cpu_state_check(state);
	}
	free(state);
	return r;
}

int vcore_vcpu_set_regs(vcore_vcpu *v, const struct vcore_regs *in)
{
	struct vcore_regs regs;
	uint64_t gpr[16];
	unsigned cookie;
	int r;

	if (!v || vc_struct_in(&regs, sizeof regs, in) < 0)
		return vc_fail(EINVAL, "vcore_vcpu_set_regs: a vcpu and registers with their size set are needed");
	r = vc_vcpu_lock(v, true, &cookie);
	if (r < 0)
		return r;
	memcpy(gpr, (const uint8_t *)&regs + offsetof(struct vcore_regs, rax), sizeof gpr);
	r = check_regs(v, regs.rip, regs.rflags | 2);
	if (r >= 0)
		r = write_regs(v, gpr, regs.rip, regs.rflags | 2);
	vc_vcpu_unlock(v, cookie);
	return r;
}

/* ---- system registers ---- */

static void segment_out(struct vcore_segment *out, const struct vc_segment *s)
{
	*out = (struct vcore_segment){
	    .base = s->base, .limit = s->limit, .selector = s->selector, .attributes = s->attr, .unusable = s->unusable};
}

static void segment_in(struct vc_segment *s, const struct vcore_segment *in)
{
	*s = (struct vc_segment){.base = in->base,
	                         .limit = in->limit,
	                         .selector = in->selector,
	                         .attr = in->attributes,
	                         .unusable = in->unusable};
}

static void sregs_from_state(struct vcore_sregs *out, const struct vc_cpu_state *s)
{
	struct vcore_segment *seg = &out->es;

	for (int i = 0; i < VC_SEG_COUNT; i++)
		segment_out(&seg[i], &s->seg[i]);
	segment_out(&out->ldtr, &s->ldtr);
	segment_out(&out->tr, &s->tr);
	out->gdtr = (struct vcore_table){.base = s->gdtr.base, .limit = s->gdtr.limit};
	out->idtr = (struct vcore_table){.base = s->idtr.base, .limit = s->idtr.limit};
	out->cr0 = s->cr0;
	out->cr2 = s->cr2;
	out->cr3 = s->cr3;
	out->cr4 = s->cr4;
	out->cr8 = s->cr8;
	out->efer = s->efer;
	out->apic_base = s->apic_base;
	out->xcr0 = s->xcr0;
	memcpy(out->dr, s->dr, sizeof out->dr);
	out->dr6 = s->dr6;
	out->dr7 = s->dr7;
}

static void sregs_to_state(struct vc_cpu_state *s, const struct vcore_sregs *in)
{
	const struct vcore_segment *seg = &in->es;

	for (int i = 0; i < VC_SEG_COUNT; i++)
		segment_in(&s->seg[i], &seg[i]);
	segment_in(&s->ldtr, &in->ldtr);
	segment_in(&s->tr, &in->tr);
	s->gdtr = (struct vc_table){.base = in->gdtr.base, .limit = in->gdtr.limit};
	s->idtr = (struct vc_table){.base = in->idtr.base, .limit = in->idtr.limit};
	s->cr0 = in->cr0;
	s->cr2 = in->cr2;
	s->cr3 = in->cr3;
	s->cr4 = in->cr4;
	s->cr8 = in->cr8;
	s->efer = in->efer;
	s->apic_base = in->apic_base;
	s->xcr0 = in->xcr0;
	memcpy(s->dr, in->dr, sizeof s->dr);
	s->dr6 = in->dr6;
	s->dr7 = in->dr7;
}

int vcore_vcpu_get_sregs(vcore_vcpu *v, struct vcore_sregs *out)
{
	struct vcore_sregs sregs = {.size = sizeof sregs};
	struct vc_cpu_state *state;
	unsigned cookie;
	int r;

	if (!v || !out || check_size(out->size, "vcore_vcpu_get_sregs: sregs") < 0)
		return vc_fail(EINVAL, "vcore_vcpu_get_sregs: a vcpu and sregs with their size set are needed");
	state = begin_state(v, false, &cookie, &r);
	if (!state)
		return r;
	sregs_from_state(&sregs, state);
	vc_struct_out(out, &sregs, sizeof sregs);
	end_state(v, state, cookie);
	return 0;
}

int vcore_vcpu_set_sregs(vcore_vcpu *v, const struct vcore_sregs *in)
{
	struct vcore_sregs sregs;
	struct vc_cpu_state *state;
	unsigned cookie;
	int r;

	if (!v || vc_struct_in(&sregs, sizeof sregs, in) < 0)
		return vc_fail(EINVAL, "vcore_vcpu_set_sregs: a vcpu and sregs with their size set are needed");
	state = begin_state(v, true, &cookie, &r);
	if (!state)
		return r;
	sregs_to_state(state, &sregs);
	r = vc_vcpu_put_state(v, state);
	end_state(v, state, cookie);
	return r;
}

int vcore_vcpu_set_mode(vcore_vcpu *v, enum vcore_mode mode, uint64_t page_tables)
{
	struct vc_cpu_state *state;
	unsigned cookie;
	int r;

	if (!v)
		return vc_fail(EINVAL, "vcore_vcpu_set_mode: no vcpu given");
	if ((unsigned)mode > VCORE_MODE_LONG64)
		return vc_fail(EINVAL, "vcore_vcpu_set_mode: mode %d is unknown: expected 0 to %d", mode, VCORE_MODE_LONG64);
	if (mode == VCORE_MODE_LONG64 && !VC_IS_ALIGNED(page_tables, VC_PAGE_SIZE))
		return vc_fail(EINVAL, "vcore_vcpu_set_mode: page tables at %#llx: expected a multiple of 4096",
		               (unsigned long long)page_tables);
	state = begin_state(v, true, &cookie, &r);
	if (!state)
		return r;
	if (mode == VCORE_MODE_LONG64)
		r = vc_write_identity_tables(&v->vm->mem, page_tables);
	if (r >= 0) {
		if (mode == VCORE_MODE_REAL)
			vc_cpu_state_flat_real(state);
		else if (mode == VCORE_MODE_PROTECTED32)
			vc_cpu_state_flat32(state);
		else
			vc_cpu_state_long64(state, page_tables);
		r = vc_vcpu_put_state(v, state);
	}
	end_state(v, state, cookie);
	return r;
}

/* ---- extended state, MSRs, CPUID ---- */

#define XSAVE_STANDARD 832 /* legacy region, header and AVX component */

int vcore_vcpu_get_xsave(vcore_vcpu *v, void *area, size_t length)
{
	struct vc_cpu_state *state;
	unsigned cookie;
	size_t copy;
	int r;

	if (!v || !area || length < 576)
		return vc_fail(EINVAL, "vcore_vcpu_get_xsave: length is %zu: expected at least 576", length);
	state = begin_state(v, false, &cookie, &r);
	if (!state)
		return r;
	copy = length < sizeof state->xsave.bytes ? length : sizeof state->xsave.bytes;
	memcpy(area, state->xsave.bytes, copy);
	memset((uint8_t *)area + copy, 0, length - copy);
	end_state(v, state, cookie);
	return XSAVE_STANDARD;
}

int vcore_vcpu_set_xsave(vcore_vcpu *v, const void *area, size_t length)
{
	struct vc_cpu_state *state;
	uint64_t present;
	unsigned cookie;
	int r;

	if (!v || !area || length < 576)
		return vc_fail(EINVAL, "vcore_vcpu_set_xsave: length is %zu: expected at least 576", length);
	present = vc_ld64((const uint8_t *)area + 512);
	if (present & ~(uint64_t)(VC_XSTATE_X87 | VC_XSTATE_SSE | VC_XSTATE_AVX) ||
	    ((present & VC_XSTATE_AVX) && length < XSAVE_STANDARD))
		return vc_fail(EINVAL,
		               "vcore_vcpu_set_xsave: XSTATE_BV is %#llx: expected x87, SSE, AVX that lie within %zu bytes",
		               (unsigned long long)present, length);
	state = begin_state(v, true, &cookie, &r);
	if (!state)
		return r;
	memset(&state->xsave, 0, sizeof state->xsave);
	memcpy(state->xsave.bytes, area, length < XSAVE_STANDARD ? length : XSAVE_STANDARD);
	r = vc_vcpu_put_state(v, state);
	end_state(v, state, cookie);
	return r < 0 ? r : XSAVE_STANDARD;
}

int vcore_vcpu_get_msr(vcore_vcpu *v, uint32_t index, uint64_t *value)
{
	unsigned cookie;
	int r;

	if (!value)
		return vc_fail(EINVAL, "vcore_vcpu_get_msr: no place for the value given");
	r = vc_vcpu_lock(v, false, &cookie);
	if (r < 0)
		return r;
	r = v->vm->bvm.ops->get_msr(&v->b, index, value);
	vc_vcpu_unlock(v, cookie);
	return r < 0 ? vc_fail(ENOENT, "vcpu %u has no MSR %#x", v->b.index, index) : 0;
}

int vcore_vcpu_set_msr(vcore_vcpu *v, uint32_t index, uint64_t value)
{
	unsigned cookie;
	int r = vc_vcpu_lock(v, true, &cookie);

	if (r < 0)
		return r;
	r = v->vm->bvm.ops->set_msr(&v->b, index, value);
	vc_vcpu_unlock(v, cookie);
	if (r == -ENOENT)
		return vc_fail(ENOENT, "vcpu %u has no MSR %#x", v->b.index, index);
	return r < 0 ? vc_fail(-r, "vcpu %u: MSR %#x does not take %#llx", v->b.index, index, (unsigned long long)value)
	             : 0;
}

int vcore_vcpu_cpuid(vcore_vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	struct vc_cpu_state *state;
	unsigned cookie;
	int r;

	if (!v || !out)
		return vc_fail(EINVAL, "vcore_vcpu_cpuid: a vcpu and a place for the answer are needed");
	state = begin_state(v, false, &cookie, &r);
	if (!state)
		return r;
	vc_cpuid_query(&v->b.cpuid, state->cr4, state->xcr0, state->apic_base, leaf, subleaf, out);
	end_state(v, state, cookie);
	return 0;
}

/* ---- interrupts and debugging ---- */

int vcore_vcpu_interrupt(vcore_vcpu *v, uint32_t vector)
{
	int r;

	if (!v || vector > 255)
		return vc_fail(EINVAL, "vcore_vcpu_interrupt: vector is %u: expected 0 to 255", vector);
	if (v->vm->bvm.irqchip != VCORE_IRQCHIP_NONE)
		return vc_fail(
		    ENOTSUP,
		    "vcore_vcpu_interrupt: this vm has interrupt controllers: use vcore_irq_set() or vcore_msi_send()");
	r = v->vm->bvm.ops->interrupt(&v->b, (uint8_t)vector);
	return r == -EBUSY ? vc_fail(EBUSY, "vcpu %u has an interrupt waiting already", v->b.index) : r;
}

int vcore_vcpu_nmi(vcore_vcpu *v)
{
	if (!v)
		return vc_fail(EINVAL, "vcore_vcpu_nmi: no vcpu given");
	vc_bvcpu_request(&v->b, VC_REQ_NMI);
	return 0;
}

int vcore_vcpu_set_debug(vcore_vcpu *v, const struct vcore_debug *in)
{
	struct vcore_debug debug;

	if (!v || vc_struct_in(&debug, sizeof debug, in) < 0)
		return vc_fail(EINVAL, "vcore_vcpu_set_debug: a vcpu and a debug struct with its size set are needed");
	if (debug.flags & ~(uint32_t)(VCORE_DEBUG_SINGLE_STEP | VCORE_DEBUG_SW_BREAK | VCORE_DEBUG_HW_BREAK))
		return vc_fail(EINVAL, "vcore_vcpu_set_debug: flags are %#x: expected bits 0 to 2", debug.flags);
	if (atomic_load(&v->vm->debugger))
		return vc_fail(EBUSY, "vcore_vcpu_set_debug: vcpu %u is debugged by gdb (vcore_gdb_new())", v->b.index);
	return vc_vcpu_set_debug(v, &debug);
}

int vc_vcpu_set_debug(struct vcore_vcpu *v, const struct vcore_debug *debug)
{
	unsigned cookie;
	int r = vc_vcpu_lock(v, true, &cookie);

	if (r < 0)
		return r;
	r = v->vm->bvm.ops->set_debug(&v->b, debug);
	vc_vcpu_unlock(v, cookie);
	return r;
}

/* ---- GVA -> GPA ---- */

static int translate(struct vcore_vcpu *v, const struct vc_cpu_state *state, uint64_t gva, enum vcore_access access,
                     bool user, uint64_t *gpa)
{
	uint32_t code = 0;
	int r;

	vc_mem_rdlock(&v->vm->mem); /* the tables must not go away under the walk */
	r = vc_translate(&v->vm->mem, state, gva, access, user, v->b.cpuid.phys_bits, gpa, &code);
	vc_mem_unlock(&v->vm->mem);
	return r < 0
	           ? vc_fail(EFAULT, "guest-virtual address %#llx is not mapped for this access: page-fault error code %#x",
	                     (unsigned long long)gva, code)
	           : 0;
}

int vcore_vcpu_translate(vcore_vcpu *v, uint64_t gva, enum vcore_access access, uint64_t *gpa)
{
	struct vc_cpu_state *state;
	unsigned cookie;
	int r;

	if (!v || !gpa || (unsigned)access > VCORE_ACCESS_FETCH)
		return vc_fail(EINVAL,
		               "vcore_vcpu_translate: a vcpu, an access of 0 to 2 and a place for the address are needed");
	state = begin_state(v, false, &cookie, &r);
	if (!state)
		return r;
	r = translate(v, state, gva, access, VC_SEG_DPL(state->seg[VC_SS].attr) == 3, gpa);
	end_state(v, state, cookie);
	return r;
}

int vc_vcpu_walk(struct vcore_vcpu *v, const struct vc_cpu_state *state, uint64_t gva, uint64_t *gpa)
{
	/* SMAP keeps the supervisor from user pages: those are the user's */
	int r = translate(v, state, gva, VCORE_ACCESS_READ, false, gpa);

	return r < 0 ? translate(v, state, gva, VCORE_ACCESS_READ, true, gpa) : r;
}

static int copy_virtual(struct vcore_vcpu *v, uint64_t gva, uint8_t *buffer, size_t length, bool write)
{
	unsigned cookie;
	int r;
	struct vc_cpu_state *state = begin_state(v, false, &cookie, &r);

	if (!state)
		return r;
	while (r >= 0 && length > 0) {
		uint64_t gpa, piece = VC_PAGE_SIZE - (gva & ~VC_PAGE_MASK);

		if (piece > length)
			piece = length;
		r = vc_vcpu_walk(v, state, gva, &gpa);
		if (r >= 0)
			r = write ? vc_mem_write(&v->vm->mem, gpa, buffer, piece) : vc_mem_read(&v->vm->mem, gpa, buffer, piece);
		gva += piece;
		buffer += piece;
		length -= piece;
	}
	end_state(v, state, cookie);
	return r;
}

int vcore_vcpu_read(vcore_vcpu *v, uint64_t gva, void *buffer, size_t length)
{
	if (!v || (length && !buffer))
		return vc_fail(EINVAL, "vcore_vcpu_read: a vcpu and a buffer are needed");
	return copy_virtual(v, gva, buffer, length, false);
}

int vcore_vcpu_write(vcore_vcpu *v, uint64_t gva, const void *buffer, size_t length)
{
	if (!v || (length && !buffer))
		return vc_fail(EINVAL, "vcore_vcpu_write: a vcpu and a buffer are needed");
	return copy_virtual(v, gva, (uint8_t *)(uintptr_t)buffer, length, true);
}
