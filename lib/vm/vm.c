/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Birth and death of a vm. */
#include "vm/vm.h"
#include "vhost/kernel.h"
#include "vm/migrate.h"
#include "vm/migrate_arrival.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TSC_KHZ_MAX 100000000u /* 100 GHz */

/* What has been made, in order: a failing vcore_vm_new() takes down just that. */
enum part { PART_GATE, PART_LOOP, PART_MEM, PART_BUSES, PART_HOOKS, PART_BACKEND, PART_SYNC };

static int check_options(const struct vcore_options *o)
{
	if (o->vcpus > VC_MAX_VCPUS)
		return vc_fail(EINVAL, "options.vcpus is %u: expected 1 to %u", o->vcpus, VC_MAX_VCPUS);
	if (o->max_vcpus > VC_MAX_VCPUS || (o->max_vcpus && o->max_vcpus < (o->vcpus ? o->vcpus : 1)))
		return vc_fail(EINVAL, "options.max_vcpus is %u: expected 0, or %u (options.vcpus) to %u", o->max_vcpus,
		               o->vcpus ? o->vcpus : 1, VC_MAX_VCPUS);
	if (!VC_IS_ALIGNED(o->memory, VC_PAGE_SIZE))
		return vc_fail(EINVAL, "options.memory is %#llx: expected a multiple of 4096", (unsigned long long)o->memory);
	if (o->irqchip > VCORE_IRQCHIP_FULL)
		return vc_fail(EINVAL, "options.irqchip is %u: expected 0 to %u", o->irqchip, VCORE_IRQCHIP_FULL);
	if (o->engine > VCORE_ENGINE_PROMOTE)
		return vc_fail(EINVAL, "options.engine is %u: expected 0 to %u", o->engine, VCORE_ENGINE_PROMOTE);
	if (o->engine == VCORE_ENGINE_LOCKSTEP && o->backend == VCORE_BACKEND_KVM)
		return vc_fail(ENOTSUP, "options.engine: only backend emu has engine lockstep");
	if (o->unhandled > VCORE_UNHANDLED_IGNORE)
		return vc_fail(EINVAL, "options.unhandled is %u: expected 0 to %u", o->unhandled, VCORE_UNHANDLED_IGNORE);
	if (o->tsc_khz > TSC_KHZ_MAX)
		return vc_fail(EINVAL, "options.tsc_khz is %llu: expected at most %u", (unsigned long long)o->tsc_khz,
		               TSC_KHZ_MAX);
	if (o->loop > VCORE_LOOP_PROGRAM)
		return vc_fail(EINVAL, "options.loop is %u: expected 0 or 1", o->loop);
	if (o->log_level > VCORE_LOG_TRACE)
		return vc_fail(EINVAL, "options.log_level is %u: expected 0 to %u", o->log_level, VCORE_LOG_TRACE);
	return 0;
}

static const struct vc_machine *find_machine(uint32_t id)
{
	for (const struct vc_machine *const *m = vc_machines; *m; m++)
		if ((*m)->id == id)
			return *m;
	return NULL;
}

/* irqchip AUTO, and whether the one asked for goes with machine and backend. */
static int resolve_irqchip(struct vcore_vm *vm, const struct vcore_options *o, const struct vc_backend *backend)
{
	enum vcore_irqchip irqchip = o->irqchip;

	if (irqchip == VCORE_IRQCHIP_AUTO)
		irqchip = !vm->machine->has_chipset          ? VCORE_IRQCHIP_NONE
		          : backend->id == VCORE_BACKEND_KVM ? VCORE_IRQCHIP_FULL
		                                             : VCORE_IRQCHIP_USER;
	if (irqchip > VCORE_IRQCHIP_USER && backend->id != VCORE_BACKEND_KVM)
		return vc_fail(ENOTSUP, "options.irqchip: only backend kvm has interrupt controllers in the kernel");
	if (irqchip == VCORE_IRQCHIP_NONE && vm->machine->has_chipset)
		return vc_fail(EINVAL, "options.irqchip: machine %s cannot be without interrupt controllers",
		               vm->machine->name);
	if (irqchip != VCORE_IRQCHIP_NONE && !vm->machine->has_chipset)
		return vc_fail(EINVAL, "options.irqchip: machine %s has no interrupt controllers", vm->machine->name);
	vm->bvm.irqchip = irqchip;
	return 0;
}

/* The guest has seen its CPU already: it is what it was, or cannot be here. */
static int inherit_cpuid(struct vcore_vm *vm, const struct vc_backend *backend, const struct vc_feature_set *offered,
                         struct vc_cpuid *cpuid)
{
	char missing[256] = "";
	size_t used = 0;

	*cpuid = *vm->birth->cpuid;
	for (unsigned f = VC_F_NONE + 1; f < VC_F_COUNT && used < sizeof missing; f++)
		if (vc_feature_has(&cpuid->features, f) && !vc_feature_has(offered, f))
			used +=
			    (size_t)snprintf(missing + used, sizeof missing - used, "%s%s", used ? ", " : "", vc_feature_name(f));
	return used ? vc_fail(ENOTSUP, "the guest's CPU has %s, which backend %s cannot give here", missing, backend->name)
	            : 0;
}

static int make_cpuid(struct vcore_vm *vm, const struct vcore_options *o, const struct vc_backend *backend,
                      struct vc_cpuid *cpuid)
{
	struct vc_feature_set offered;
	struct vc_cpu_model_request request = {
	    .model = o->cpu,
	    .fallback = backend->id == VCORE_BACKEND_KVM ? "host" : "x86-64-v3",
	    .offered = &offered,
	    .vcpus = vm->bvm.vcpus,
	    .tsc_khz = vm->bvm.tsc_khz,
	};
	char missing[256];
	int r = backend->cpu_features(&offered, &request.phys_bits);

	if (r >= 0 && vm->birth)
		r = inherit_cpuid(vm, backend, &offered, cpuid);
	if (r < 0 || vm->birth)
		return r;
	r = vc_cpuid_build(&request, cpuid, missing, sizeof missing);
	if (r >= 0 && missing[0])
		vc_log(&vm->log, VCORE_LOG_WARN, "CPU model %s: backend %s cannot give %s here",
		       o->cpu ? o->cpu : request.fallback, backend->name, missing);
	return r;
}

/* No slot lies where the guest CPU has no address lines. */
static int limit_memory(struct vcore_vm *vm, uint64_t limit)
{
	if (limit < vm->mem.gpa_limit)
		vm->mem.gpa_limit = limit;
	if (vm->ram_high && VC_GIB(4) + vm->ram_high > vm->mem.gpa_limit)
		return vc_fail(EINVAL, "options.memory is %#llx: the CPU addresses no more than %#llx bytes",
		               (unsigned long long)(vm->ram_low + vm->ram_high), (unsigned long long)vm->mem.gpa_limit);
	return 0;
}

static int make_vcpus(struct vcore_vm *vm, const struct vcore_options *o)
{
	struct vc_cpuid *cpuid = malloc(sizeof *cpuid);
	int r;

	if (!cpuid)
		return vc_fail(ENOMEM, "no memory for the CPUID table");
	r = make_cpuid(vm, o, vm->bvm.ops, cpuid);
	if (r >= 0)
		r = limit_memory(vm, 1ull << cpuid->phys_bits);
	if (r >= 0)
		vc_machine_place_pci(vm, cpuid->phys_bits);
	for (uint32_t i = 0; r >= 0 && i < vm->bvm.vcpus; i++) {
		vm->vcpus[i].b.cpuid = *cpuid;
		vc_cpuid_set_apic_id(&vm->vcpus[i].b.cpuid, i, vm->bvm.vcpus);
		r = vc_vcpu_init(vm, i);
	}
	free(cpuid);
	return r < 0 ? r : 0;
}

static int make_backend(struct vcore_vm *vm, const struct vcore_options *o)
{
	struct vc_bvm *b = &vm->bvm;
	const struct vc_backend *backend;
	int r = 0;

	backend = vc_backend_select(o, &vm->log, &r);
	if (!backend)
		return r;
	r = resolve_irqchip(vm, o, backend);
	if (r < 0)
		return r;
	b->ops = backend;
	b->engine = backend->id == VCORE_BACKEND_EMU ? o->engine : VCORE_ENGINE_AUTO;
	b->unhandled = o->unhandled               ? o->unhandled
	               : vm->machine->has_chipset ? VCORE_UNHANDLED_IGNORE
	                                          : VCORE_UNHANDLED_EXIT;
	b->tsc_khz = o->tsc_khz;
	b->has_pit = vm->machine->has_chipset && !vm->no_legacy;
	b->gate = &vm->gate;
	b->env = (struct vc_env){
	    .buses = &vm->buses,
	    .mem = &vm->mem,
	    .irqs = &vm->irqs,
	    .loop = vm->loop,
	    .clock = &vm->clock,
	    .log = &vm->log,
	    .machine = &vc_vm_machine_ops,
	    .machine_ctx = vm,
	    .tsc_khz = o->tsc_khz,
	    .vcpus = b->vcpus,
	    .vcpus_present = vc_vm_present(vm),
	    .vfio = &vm->vfio,
	    .switches = &vm->switches,
	    .doorbell = backend->ioeventfd ? vc_vm_doorbell : NULL,
	    /* without controllers in the kernel nobody there takes messages */
	    .irqfd = backend->irqfd && b->irqchip > VCORE_IRQCHIP_USER ? vc_vm_irqfd : NULL,
	    .registers = backend->registers ? vc_vm_registers : NULL,
	    .kernel = &vc_vhost_kernel,
	};
	b->want_own_memory = vc_vm_want_own_memory;
	r = backend->vm_create(b);
	if (r < 0)
		return r;
	b->env.tsc_khz = b->tsc_khz;
	vm->parts_ready[PART_BACKEND] = true;
	return 0;
}

static int make_sync(struct vcore_vm *vm)
{
	pthread_condattr_t attr;

	vm->exit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->exit_fd < 0)
		return vc_fail_errno(errno, "eventfd for vcore_vm_fd()");
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->doorbells, NULL);
	pthread_mutex_init(&vm->observers_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&vm->changed, &attr);
	pthread_condattr_destroy(&attr);
	vm->parts_ready[PART_SYNC] = true;
	return 0;
}

/* Room for all that there may be, and who is there at the start. */
static int make_room(struct vcore_vm *vm, const struct vcore_options *o)
{
	uint32_t present = o->vcpus ? o->vcpus : 1;

	vm->bvm.vcpus = o->max_vcpus ? o->max_vcpus : present;
	if (vm->bvm.vcpus > present && !vm->machine->has_chipset)
		return vc_fail(ENOTSUP, "options.max_vcpus: machine %s has no ACPI, by which vcpus are plugged in",
		               vm->machine->name);
	vm->vcpus = calloc(vm->bvm.vcpus, sizeof *vm->vcpus);
	vm->bvm.vcpu = calloc(vm->bvm.vcpus, sizeof(struct vc_bvcpu *));
	if (!vm->vcpus || !vm->bvm.vcpu)
		return vc_fail(ENOMEM, "no memory for %u vcpus", vm->bvm.vcpus);
	for (uint32_t i = 0; i < present; i++)
		atomic_store(&vm->vcpus[i].present, true);
	return 0;
}

static int make_parts(struct vcore_vm *vm, const struct vcore_options *o)
{
	int r = make_room(vm, o);

	if (r < 0 || (r = make_sync(vm)) < 0 || (r = vc_gate_init(&vm->gate)) < 0)
		return r;
	vm->parts_ready[PART_GATE] = true;
	if ((r = vc_loop_new(&vm->clock, o->loop == VCORE_LOOP_THREAD, &vm->loop)) < 0)
		return r;
	vm->parts_ready[PART_LOOP] = true;
	if (vm->birth)
		vc_loop_defer(vm->loop);
	if ((r = vc_mem_init(&vm->mem, &vm->gate)) < 0)
		return r;
	vm->parts_ready[PART_MEM] = true;
	if ((r = vc_buses_init(&vm->buses, &vm->gate)) < 0)
		return r;
	vm->parts_ready[PART_BUSES] = true;
	if ((r = vc_hooks_init(&vm->bvm.hooks)) < 0)
		return r;
	vm->parts_ready[PART_HOOKS] = true;
	if ((r = make_backend(vm, o)) < 0 || (r = vm->machine->build(vm, o)) < 0)
		return r;
	return make_vcpus(vm, o);
}

/* Takes down what make_parts() made; nothing of the vm executes any more. */
static void destroy(struct vcore_vm *vm)
{
	if (vm->parts_ready[PART_SYNC])
		vc_vm_free_irqfds(vm);
	vc_vm_free_zones(vm);
	vc_loop_free(vm->timeouts);
	/* a timer's callback may be about to tell a vcpu */
	if (vm->parts_ready[PART_LOOP])
		vc_loop_hold(vm->loop);
	for (uint32_t i = 0; vm->vcpus && i < vm->bvm.vcpus; i++)
		vc_vcpu_fini(&vm->vcpus[i]);
	if (vm->parts_ready[PART_LOOP])
		vc_loop_release(vm->loop);
	if (vm->parts_ready[PART_BUSES])
		vc_buses_fini(&vm->buses);
	if (vm->parts_ready[PART_HOOKS])
		vc_hooks_fini(&vm->bvm);
	vc_lapics_free(vm->lapics);
	if (vm->parts_ready[PART_BACKEND])
		vm->bvm.ops->vm_destroy(&vm->bvm);
	if (vm->parts_ready[PART_MEM])
		vc_mem_fini(&vm->mem);
	if (vm->parts_ready[PART_LOOP])
		vc_loop_free(vm->loop);
	if (vm->parts_ready[PART_GATE])
		vc_gate_fini(&vm->gate);
	if (vm->parts_ready[PART_SYNC]) {
		pthread_cond_destroy(&vm->changed);
		pthread_mutex_destroy(&vm->observers_lock);
		pthread_mutex_destroy(&vm->doorbells);
		pthread_mutex_destroy(&vm->lock);
		close(vm->exit_fd);
	}
	vc_vfio_groups_fini(&vm->vfio);
	vc_switch_names_fini(&vm->switches);
	vc_boot_forget(vm);
	free(vm->bvm.vcpu);
	free(vm->vcpus);
	free(vm);
}

int vc_vm_new(const struct vcore_options *options, const struct vc_birth *birth, struct vcore_vm **out)
{
	struct vcore_options o = {.size = sizeof o};
	struct vcore_vm *vm;
	int r;

	if (!out)
		return vc_fail(EINVAL, "vcore_vm_new: no place for the vm given");
	*out = NULL;
	if (options && vc_struct_in(&o, sizeof o, options) < 0)
		return vc_fail(EINVAL, "vcore_vm_new: options.size is not set");
	r = check_options(&o);
	if (r < 0)
		return r;
	vm = calloc(1, sizeof *vm);
	if (!vm)
		return vc_fail(ENOMEM, "no memory for a vm");
	vm->refs = 1;
	vm->log = (struct vc_log){o.log, o.log_ctx, o.log_level ? o.log_level : VCORE_LOG_INFO};
	vm->machine = find_machine(o.machine);
	vm->no_legacy = o.no_legacy;
	vm->birth = birth;
	vm->loop_mode = o.loop;
	vc_vfio_groups_init(&vm->vfio);
	vc_switch_names_init(&vm->switches);
	vc_clock_init(&vm->clock);
	vc_clock_init(&vm->host_clock);
	if (!vm->machine)
		r = o.machine <= VCORE_MACHINE_PC
		        ? vc_fail(ENOTSUP, "this build of libvirtcore has no machine type pc")
		        : vc_fail(EINVAL, "options.machine is %u: expected 0 (none), 1 (microvm) or 2 (pc)", o.machine);
	else
		r = make_parts(vm, &o);
	if (r >= 0)
		r = vc_vm_place(vm, o.vcpu_places);
	if (r < 0) {
		destroy(vm);
		return r;
	}
	vm->birth = NULL;
	*out = vm;
	return 0;
}

int vcore_vm_new(const struct vcore_options *options, vcore_vm **out)
{
	return vc_vm_new(options, NULL, out);
}

int vcore_vm_set_log(vcore_vm *vm, vcore_log_fn fn, void *ctx, enum vcore_log_level level)
{
	enum vcore_vm_state state;

	if (!vm)
		return vc_fail(EINVAL, "vcore_vm_set_log: no vm given");
	if ((unsigned)level > VCORE_LOG_TRACE)
		return vc_fail(EINVAL, "vcore_vm_set_log: level is %d: expected 0 to %d", level, VCORE_LOG_TRACE);
	pthread_mutex_lock(&vm->lock);
	state = vm->state;
	if (state == VCORE_VM_CREATED)
		vm->log = (struct vc_log){fn, ctx, level ? level : VCORE_LOG_INFO};
	pthread_mutex_unlock(&vm->lock);
	return state == VCORE_VM_CREATED ? 0 : vc_fail(EBUSY, "vcore_vm_set_log: the vm was started already");
}

vcore_vm *vcore_vm_ref(vcore_vm *vm)
{
	if (vm)
		atomic_fetch_add(&vm->refs, 1);
	return vm;
}

void vcore_vm_unref(vcore_vm *vm)
{
	if (!vm || atomic_fetch_sub(&vm->refs, 1) != 1)
		return;
	vc_migrate_fini(vm);
	vc_arrival_stop(vm->arrival);
	vc_vm_join(vm);
	vc_vm_own_fini(vm);
	vc_arrival_free(vm->arrival);
	destroy(vm);
}

static uint64_t sum_memory(struct vcore_vm *vm, uint32_t *slots)
{
	uint64_t sum = 0;

	vc_mem_rdlock(&vm->mem);
	for (uint32_t i = 0; i < vm->mem.count; i++)
		sum += vm->mem.slots[i]->length;
	*slots = vm->mem.count;
	vc_mem_unlock(&vm->mem);
	return sum;
}

int vcore_vm_get_info(vcore_vm *vm, struct vcore_vm_info *out)
{
	struct vcore_vm_info info = {.size = sizeof info};

	if (!vm || !out || out->size < sizeof out->size)
		return vc_fail(EINVAL, "vcore_vm_get_info: a vm and an info with its size set are needed");
	info.backend = vm->bvm.ops->id;
	info.engine = vm->bvm.engine;
	info.irqchip = vm->bvm.irqchip;
	info.machine = vm->machine->id;
	info.vcpus = vc_vm_present(vm);
	info.max_vcpus = vm->bvm.vcpus;
	info.memory = sum_memory(vm, &info.slots);
	info.tsc_khz = vm->bvm.tsc_khz;
	info.time_ns = vc_clock_now(&vm->clock);
	info.pio = vc_buses_accesses(&vm->buses, VCORE_BUS_PIO);
	info.mmio = vc_buses_accesses(&vm->buses, VCORE_BUS_MMIO);
	info.hypercalls = vc_buses_accesses(&vm->buses, VCORE_BUS_HYPERCALL);
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++) {
		const struct vc_bvcpu *v = &vm->vcpus[i].b;

		info.exits += v->exits;
		info.interrupts += v->interrupts;
		info.instructions += v->instructions;
		info.emulated += v->emulated;
		info.tlb_fills += v->tlb_fills;
		info.blocks += v->blocks;
		info.compared += v->compared;
		info.calls += v->calls;
		info.bails += v->bails;
		info.untranslated += v->untranslated;
		info.promoted += v->promoted;
		info.promoted_stops += v->promoted_stops;
	}
	pthread_mutex_lock(&vm->lock);
	info.state = vm->state;
	pthread_mutex_unlock(&vm->lock);
	vc_struct_out(out, &info, sizeof info);
	return 0;
}

/* Keeps the array sorted, the largest count first. */
static uint32_t insert_count(struct vcore_op_count *counts, uint32_t used, uint32_t room, const char *name,
                             uint64_t count)
{
	uint32_t at = used < room ? used : room;

	for (; at > 0 && counts[at - 1].count < count; at--)
		if (at < room)
			counts[at] = counts[at - 1];
	if (at == room)
		return used;
	counts[at].count = count;
	snprintf(counts[at].name, sizeof counts[at].name, "%s", name);
	return used < room ? used + 1 : room;
}

int vcore_vm_get_op_counts(vcore_vm *vm, struct vcore_op_count *counts, uint32_t room)
{
	uint32_t used = 0;

	if (!vm || !counts || room > INT32_MAX)
		return vc_fail(EINVAL, "vcore_vm_get_op_counts: a vm and room for counts are needed");
	if (!vm->bvm.ops->op_count)
		return 0;
	for (unsigned n = 0;; n++) {
		uint64_t sum = 0, count;
		const char *name = NULL;

		for (uint32_t i = 0; i < vm->bvm.vcpus; i++)
			if (vm->bvm.ops->op_count(&vm->vcpus[i].b, n, &name, &count))
				sum += count;
		if (!name)
			return (int)used;
		if (sum)
			used = insert_count(counts, used, room, name, sum);
	}
}
