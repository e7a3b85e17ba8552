/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Machine types: what a vm is born with. */
#include "device/device.h"
#include "vm/vm.h"

/* RAM ends here below 4 GiB; IOAPIC, HPET, LAPIC and PCI windows live above. */
#define LOW_RAM_END VC_GIB(3)

/* The translator's promoted address spaces share RAM with other processes, unless the program wants what only anonymous
 * memory has. */
static uint32_t ram_kind(const struct vcore_vm *vm, const struct vcore_options *o)
{
	const uint32_t anonymous = VCORE_MEM_MERGEABLE | VCORE_MEM_THP;

	return o->memory_kind == VCORE_MEMORY_ANON && !vm->birth && vm->bvm.ops->id == VCORE_BACKEND_EMU &&
	               !(o->memory_flags & anonymous)
	           ? VCORE_MEMORY_MEMFD
	           : o->memory_kind;
}

static int add_ram(struct vcore_vm *vm, const struct vcore_options *o, uint64_t gpa, uint64_t length)
{
	struct vcore_memory_options m = {.size = sizeof m,
	                                 .kind = vm->bvm.env.ram.kind,
	                                 .fd = -1,
	                                 .numa = o->memory_numa,
	                                 .progress = o->memory_progress,
	                                 .progress_ctx = o->memory_progress_ctx,
	                                 .prealloc_threads = o->memory_threads};

	if (!length)
		return 0;
	if (o->memory_kind != VCORE_MEMORY_ANON && o->memory_kind != VCORE_MEMORY_MEMFD)
		return vc_fail(EINVAL, "options.memory_kind is %u: expected 0 (anonymous) or 1 (memfd)", o->memory_kind);
	return vc_mem_add(&vm->mem, NULL, gpa, length, VCORE_MEM_RWX | o->memory_flags, &m, NULL);
}

static int build_ram(struct vcore_vm *vm, const struct vcore_options *o)
{
	uint64_t memory = o->memory ? o->memory : vm->machine->default_memory;
	int r;

	vm->bvm.env.ram.kind = ram_kind(vm, o);
	vm->bvm.env.ram.flags = o->memory_flags;
	vm->ram_low = memory < LOW_RAM_END ? memory : LOW_RAM_END;
	vm->ram_high = memory - vm->ram_low;
	r = add_ram(vm, o, 0, vm->ram_low);
	return r < 0 ? r : add_ram(vm, o, VC_GIB(4), vm->ram_high);
}

/* ---- interrupt controllers ---- */

static void lapic_event(void *ctx, unsigned index, enum vc_lapic_event event, uint8_t arg)
{
	static const uint32_t requests[] = {
	    [VC_LAPIC_IRQ] = VC_REQ_IRQ,   [VC_LAPIC_NMI] = VC_REQ_NMI, [VC_LAPIC_INIT] = VC_REQ_INIT,
	    [VC_LAPIC_SIPI] = VC_REQ_SIPI, [VC_LAPIC_SMI] = VC_REQ_SMI, [VC_LAPIC_EXTINT] = VC_REQ_IRQ,
	};
	struct vcore_vm *vm = ctx;
	struct vc_bvcpu *v = &vm->vcpus[index].b;

	/* nobody is there to hear an INIT or SIPI */
	if (!atomic_load(&vm->vcpus[index].present))
		return;
	if (event == VC_LAPIC_SIPI)
		atomic_store(&v->sipi_vector, arg);
	vc_bvcpu_request(v, requests[event]);
}

static void lapic_eoi(void *ctx, uint8_t vector)
{
	struct vcore_vm *vm = ctx;

	if (vm->ioapic)
		vc_ioapic_eoi(vm->ioapic, vector);
}

/* The PIC's INTR output: LINT0 of every LAPIC, and of the first vcpu's where those are in the kernel. */
static void pic_intr(void *ctx, bool level)
{
	struct vcore_vm *vm = ctx;

	if (vm->lapics)
		vc_lapics_set_lint(vm->lapics, 0, level);
	else if (level && vm->vcpus[0].created)
		vc_bvcpu_request(&vm->vcpus[0].b, VC_REQ_IRQ);
}

static int ioapic_deliver(void *ctx, uint64_t address, uint32_t data)
{
	struct vcore_vm *vm = ctx;

	return vc_msi_send(&vm->irqs, address, data);
}

static void ioapic_changed(void *ctx, unsigned pin)
{
	struct vcore_vm *vm = ctx;

	vm->bvm.ops->ioapic_changed(&vm->bvm, pin);
}

static int split_msi(void *ctx, uint64_t address, uint32_t data)
{
	struct vcore_vm *vm = ctx;

	return vm->bvm.ops->irq_sink->msi(&vm->bvm, address, data);
}

static void split_set(void *ctx, unsigned gsi, bool level)
{
	vc_user_irq_sink.set(ctx, gsi, level);
}

static const struct vc_irq_sink split_sink = {.set = split_set, .msi = split_msi};

static int build_lapics(struct vcore_vm *vm)
{
	struct vc_lapics_config config = {
	    .count = vm->bvm.vcpus,
	    .loop = vm->loop,
	    .clock = &vm->clock,
	    .tsc_khz = vm->bvm.tsc_khz,
	    .notify = lapic_event,
	    .ctx = vm,
	    .eoi = lapic_eoi,
	    .log = &vm->log,
	};

	return vc_lapics_new(&config, &vm->lapics);
}

static int build_interrupts(struct vcore_vm *vm)
{
	struct vc_env *env = &vm->bvm.env;
	int r = 0;

	if (vm->bvm.irqchip == VCORE_IRQCHIP_FULL) {
		vm->irqs = (struct vc_irqs){vm->bvm.ops->irq_sink, &vm->bvm};
		return 0;
	}
	if (vm->bvm.irqchip == VCORE_IRQCHIP_SPLIT) {
		vm->irqs = (struct vc_irqs){&split_sink, vm};
	} else {
		vm->irqs = (struct vc_irqs){&vc_user_irq_sink, vm};
		r = build_lapics(vm);
	}
	if (r >= 0)
		r = vc_ioapic_new(env, VC_IOAPIC_BASE, 0, ioapic_deliver, vm, &vm->ioapic);
	if (r >= 0 && vm->bvm.ops->ioapic_changed && vm->bvm.irqchip == VCORE_IRQCHIP_SPLIT)
		vc_ioapic_on_change(vm->ioapic, ioapic_changed, vm);
	if (r >= 0 && !vm->no_legacy)
		r = vc_pic_new(env, pic_intr, vm, &vm->pic);
	vm->bvm.lapics = vm->lapics;
	vm->bvm.ioapic = vm->ioapic;
	vm->bvm.pic = vm->pic;
	return r;
}

/* ---- microvm ---- */

static int add_i8042(struct vc_env *env)
{
	struct vc_props *props;
	struct vc_dev *dev;
	int r = vc_props_parse(NULL, &props);

	if (r < 0)
		return r;
	r = vc_i8042_type.create(env, props, &dev);
	vc_props_free(props);
	return r;
}

static int build_legacy(struct vcore_vm *vm)
{
	struct vc_env *env = &vm->bvm.env;
	bool kernel_pit = vm->bvm.irqchip == VCORE_IRQCHIP_FULL;
	int r = vc_rtc_new(env, vm->ram_low, vm->ram_high);

	/* the PIT in the kernel cannot be silenced by the HPET's legacy replacement, so there is one or the other */
	if (r >= 0 && !kernel_pit)
		r = vc_pit_new(env);
	vm->has_hpet = vm->birth ? vm->birth->has_hpet : !kernel_pit;
	if (r >= 0 && vm->has_hpet)
		r = vc_hpet_new(env);
	if (r >= 0)
		r = vc_acpi_pm_new(env, VC_PM_BASE, &vm->pm);
	return r < 0 ? r : add_i8042(env);
}

static int build_cpu_hotplug(struct vcore_vm *vm)
{
	struct vc_cpu_hotplug_config config = {
	    .present = vc_vm_present(vm), .max = vm->bvm.vcpus, .pm = vm->pm, .changed = vc_vcpu_changed, .ctx = vm};

	return config.present < config.max ? vc_cpu_hotplug_new(&vm->bvm.env, &config, &vm->cpu_hotplug) : 0;
}

static int build_microvm(struct vcore_vm *vm, const struct vcore_options *o)
{
	struct vc_env *env = &vm->bvm.env;
	int r = build_ram(vm, o);

	if (r >= 0)
		r = build_interrupts(vm);
	if (r >= 0)
		r = vm->no_legacy ? vc_acpi_reduced_new(env, VC_GED_BASE) : build_legacy(vm);
	if (r >= 0)
		r = build_cpu_hotplug(vm);
	if (r >= 0)
		r = vc_pci_host_new(env); /* has the reset register at 0xcf9 too */
	if (r >= 0)
		r = vc_fw_cfg_new(env, &vm->fw_cfg);
	if (r >= 0)
		r = vc_vmgenid_new(env, &vm->vmgenid);
	for (struct vc_dev *d = vm->buses.devices; d; d = d->next) {
		d->fixed = true;
		d->owner = vm;
	}
	return r < 0 ? r : 0;
}

void vc_machine_place_pci(struct vcore_vm *vm, uint32_t phys_bits)
{
	/* a guest's tables of its own memory may not reach beyond 64 TiB */
	uint64_t end = 1ull << (phys_bits < 46 ? phys_bits : 46), start = end / 2;

	if (!vm->bvm.env.pci || start < VC_GIB(8) || VC_GIB(4) + vm->ram_high > start)
		return;
	vc_pci_set_window64(vm->bvm.env.pci, (struct vc_pci_window){start, end - start});
	vm->mem.place_end = start;
}

static const struct vc_machine machine_none = {
    .name = "none",
    .id = VCORE_MACHINE_NONE,
    .build = build_ram,
};

static const struct vc_machine machine_microvm = {
    .name = "microvm",
    .id = VCORE_MACHINE_MICROVM,
    .default_memory = VC_MIB(128),
    .has_chipset = true,
    .build = build_microvm,
};

const struct vc_machine *const vc_machines[] = {&machine_none, &machine_microvm, NULL};
