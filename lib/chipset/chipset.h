/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The parts of a chipset, and the environment they live in. Each part is one file with one _new function that adds a
 * vc_dev (with regions) to the buses; the device's destroy frees it, so nobody else does.
 */
#ifndef VC_CHIPSET_CHIPSET_H
#define VC_CHIPSET_CHIPSET_H

#include <stdatomic.h>
#include <virtcore/block.h>

#include "bus/bus.h"
#include "bus/irq.h"
#include "bus/pci.h"
#include "chipset/lapic.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/loop.h"
#include "memory/memory.h"

struct vc_machine_event;
struct vc_kernel_ops;
struct vc_virtio_host;

/* What the machine as a whole is told, by the guest or for it; called from any thread, without locks. */
struct vc_machine_ops {
	void (*poweroff)(void *ctx);
	void (*reset)(void *ctx);
	void (*debug_exit)(void *ctx, uint32_t code);
	void (*panic)(void *ctx, const char *message);
	/* The guest has switched off the slot of that device (vc_dev.id): it may go, now or later. NULL allowed. */
	void (*slot_off)(void *ctx, uint32_t id);
	/* Its owner wants a device (vc_dev.id) back: it is to go, which it may do before this returns. NULL allowed. */
	void (*wanted)(void *ctx, uint32_t id);
	/* The host has failed a disk; frontend: vc_dev's. NULL allowed. */
	void (*block_error)(void *ctx, const void *frontend, const struct vcore_block_error *error);
	/* Hold all vcpus, soon; nothing where the program runs them. */
	void (*pause)(void *ctx);
	/* For whoever watches the vm. */
	void (*tell)(void *ctx, const struct vc_machine_event *event);
};

/* What a device has to tell. */
enum vc_machine_event_kind {
	VC_MACHINE_WATCHDOG,     /* the guest did not come in time: action */
	VC_MACHINE_PANICKED,     /* the guest says that it cannot go on: action */
	VC_MACHINE_CRASH_LOADED, /* the same, and that it handles it itself */
	VC_MACHINE_MEMORY_SIZE,  /* a device has another amount of memory plugged in: device, size */
};
struct vc_machine_event {
	enum vc_machine_event_kind kind;
	const char *action; /* what is done about it; a constant */
	uint32_t device;    /* vc_dev.id */
	uint64_t size;
};

/* Everything a device of the library may use; lives as long as the vm. */
struct vc_env {
	struct vc_buses *buses;
	struct vc_mem *mem;
	struct vc_irqs *irqs;
	struct vc_pci *pci; /* NULL: the machine has no PCI */
	struct vc_loop *loop;
	struct vc_clock *clock;
	const struct vc_log *log;
	const struct vc_machine_ops *machine;
	void *machine_ctx;
	uint64_t tsc_khz;
	uint32_t vcpus;                 /* with those that are not plugged in */
	_Atomic uint32_t vcpus_present; /* what firmware waits for */
	/*
	 * Have the kernel signal e->fd where the guest writes, without a way through the program; ctx: machine_ctx. What it
	 * misses, or refuses, comes to the device as ever. NULL: every write is a call of the device anyhow, which is as
	 * good as a descriptor.
	 */
	int (*doorbell)(void *ctx, const struct vc_ioeventfd *e, bool add);
	/*
	 * Have the kernel raise an interrupt when a descriptor is written to, or let the guest reach registers without a
	 * call of the device; ctx: machine_ctx. -errno: not this one. Taking away what is there never fails. NULL: by the
	 * loop, and by calls.
	 */
	int (*irqfd)(void *ctx, const struct vc_irq_route *route, bool add);
	int (*registers)(void *ctx, const struct vc_registers *registers, bool add);
	const struct vc_kernel_ops *kernel; /* lib/virtio: who serves queues by the host's kernel; NULL: nobody */
	const struct vc_virtio_host *virtio_host; /* lib/virtio: who has virtio devices plugged in; NULL: the machine */
	struct {
		uint32_t kind, flags;
	} ram; /* of what RAM is made, for devices that bring more: enum vcore_memory_kind and attributes, VCORE_MEM_* */
	struct vc_vfio_groups *vfio;      /* lib/passthrough: the groups whose devices the vm has */
	struct vc_switch_names *switches; /* lib/net: what a NIC's property switch=NAME finds; NULL: nothing */
	/* The HPET is in legacy replacement mode: it drives GSI 0 and 8, the PIT and the RTC are cut off from them. */
	_Atomic bool legacy_replaced;
};

/* 8259A pair at 0x20, 0xa0, ELCR at 0x4d0. notify: the INTR output changed. */
struct vc_pic;
int vc_pic_new(struct vc_env *env, void (*intr)(void *ctx, bool level), void *ctx, struct vc_pic **pic);
void vc_pic_set(struct vc_pic *pic, unsigned pin, bool level); /* pin 0-15; any thread */
bool vc_pic_pending(struct vc_pic *pic);
int vc_pic_accept(struct vc_pic *pic); /* INTA cycle: the vector (spurious 7/15 when nothing is there) */

/* 82093AA-style IOAPIC, 24 pins, at base (0xfec00000), version 0x20 with EOI register. deliver: where messages go
 * (LAPICs or KVM). */
#define VC_IOAPIC_BASE 0xfec00000u
struct vc_ioapic;
int vc_ioapic_new(struct vc_env *env, uint64_t base, uint8_t id,
                  int (*deliver)(void *ctx, uint64_t msi_address, uint32_t msi_data), void *ctx,
                  struct vc_ioapic **ioapic);
void vc_ioapic_set(struct vc_ioapic *ioapic, unsigned pin, bool level);
void vc_ioapic_eoi(struct vc_ioapic *ioapic, uint8_t vector);
/* The MSI each pin would send now; masked pins give false. changed: called after every write of a redirection entry
 * (KVM split irqchip). */
bool vc_ioapic_pin_msi(struct vc_ioapic *ioapic, unsigned pin, uint64_t *address, uint32_t *data, bool *level);
void vc_ioapic_on_change(struct vc_ioapic *ioapic, void (*changed)(void *ctx, unsigned pin), void *ctx);

/* 8254 at 0x40-0x43, port 0x61 (gate, speaker, refresh toggle); channel 0 drives GSI 0. */
int vc_pit_new(struct vc_env *env);
/* MC146818 RTC and CMOS RAM at 0x70/0x71; GSI 8. memory sizes are put in CMOS as a PC BIOS does. */
int vc_rtc_new(struct vc_env *env, uint64_t low_memory, uint64_t high_memory);
/* HPET at 0xfed00000: 3 comparators, legacy replacement (GSI 0 and 8), 64-bit main counter at 100 MHz. */
#define VC_HPET_BASE 0xfed00000u
int vc_hpet_new(struct vc_env *env);
/* ACPI PM block at base: PM1a event (base+0), control (base+4), PM timer (base+8, 3.579545 MHz, 32 bit). SLP_TYP 5
 * powers off. GSI 9 is SCI. General-purpose events, 16 of them, are a block of their own 0x20 above base. */
#define VC_PM_BASE    0x600u
#define VC_GPE_BASE   0x620u
#define VC_GPE_LENGTH 4u
struct vc_acpi_pm;
int vc_acpi_pm_new(struct vc_env *env, uint16_t base, struct vc_acpi_pm **pm);
void vc_acpi_pm_power_button(struct vc_acpi_pm *pm);
/* General-purpose event 0 to 15 happens. Any thread. */
void vc_acpi_pm_gpe(struct vc_acpi_pm *pm, unsigned event);
/* Hardware-reduced ACPI: sleep control/status registers (ACPI 6.4, 4.8.3.7) and reset register. */
#define VC_GED_BASE          0x604u
#define VC_GED_SLEEP_CONTROL 0u /* offsets from base; one byte each */
#define VC_GED_SLEEP_STATUS  1u
#define VC_GED_RESET         2u
#define VC_GED_RESET_VALUE   0x42u
#define VC_GED_GSI           9u /* where a hardware-reduced machine tells its events: the SCI of others */
int vc_acpi_reduced_new(struct vc_env *env, uint16_t base);
/* VM generation ID, in memory that the guest does not use; an event device of its own tells of changes, by an edge. */
#define VC_VMGENID_GPA  0xf1000u
#define VC_VMGENID_SIZE 16u
#define VC_VMGENID_GSI  15u
struct vc_vmgenid;
/* With a random one. */
int vc_vmgenid_new(struct vc_env *env, struct vc_vmgenid **vmgenid);
/* Put it into the guest's memory, for tables that name it. */
int vc_vmgenid_write(struct vc_vmgenid *vmgenid);
/* Another one, NULL: a random one; the guest is told. For machines that have been copied, once all of their state is
 * loaded. Any thread. */
int vc_vmgenid_set(struct vc_vmgenid *vmgenid, const uint8_t *id);
void vc_vmgenid_get(struct vc_vmgenid *vmgenid, uint8_t id[VC_VMGENID_SIZE]);
/*
 * The controller through which ACPI plugs and unplugs vcpus, at ports from VC_CPU_HOTPLUG_BASE on: the register block
 * that QEMU documents (docs/specs/acpi_cpu_hotplug), so that firmware made for QEMU counts processors by it too. It
 * tells its events by general-purpose event VC_GPE_CPU, or without a PM block by GSI VC_GED_GSI.
 */
#define VC_CPU_HOTPLUG_BASE   0xcd8u
#define VC_CPU_HOTPLUG_LENGTH 12u
#define VC_CPU_HOTPLUG_MAX    256u
#define VC_GPE_CPU            2u
struct vc_cpu_hotplug_config {
	uint32_t present, max; /* vcpus; those from `present` on are not plugged in at power-on of the vm */
	struct vc_acpi_pm *pm; /* NULL: hardware-reduced */
	/* A vcpu is there or not from now on, by the guest's ejecting it or by a load. Any thread, without locks. */
	void (*changed)(void *ctx, uint32_t index, bool present);
	void *ctx;
};
struct vc_cpu_hotplug;
int vc_cpu_hotplug_new(struct vc_env *env, const struct vc_cpu_hotplug_config *config, struct vc_cpu_hotplug **out);
/* The vcpu is there: the guest is told. Any thread. */
void vc_cpu_hotplug_insert(struct vc_cpu_hotplug *hotplug, uint32_t index);
/* The guest is asked to let a vcpu go. Any thread. */
void vc_cpu_hotplug_request(struct vc_cpu_hotplug *hotplug, uint32_t index);
/* Take out one that the guest has not begun to use. Any thread. */
void vc_cpu_hotplug_take(struct vc_cpu_hotplug *hotplug, uint32_t index);
/*
 * PCI host bridge: sets env->pci. Configuration through mechanism #1 at 0xcf8/0xcfc and through ECAM; reset control
 * register at 0xcf9. INTx A-D of device 0 go to the GSIs from VC_PCI_GSI on.
 */
#define VC_PCI_ECAM_BASE   0xe0000000u
#define VC_PCI_ECAM_SIZE   0x10000000u
#define VC_PCI_MEMORY_BASE 0xf0000000u /* BARs, up to the IOAPIC */
#define VC_PCI_MEMORY_END  0xfec00000u
#define VC_PCI_PORTS_BASE  0xc000u
#define VC_PCI_PORTS_END   0x10000u
#define VC_PCI_GSI         16u
int vc_pci_host_new(struct vc_env *env);

/* fw_cfg (QEMU's interface: selector 0x510, data 0x511, DMA 0x514). Data is copied. */
struct vc_fw_cfg;
int vc_fw_cfg_new(struct vc_env *env, struct vc_fw_cfg **fw);
int vc_fw_cfg_add(struct vc_fw_cfg *fw, uint16_t key, const void *data, size_t length);
/* An item that stays in a file, read when the guest asks for it; fd is duplicated. */
int vc_fw_cfg_add_fd(struct vc_fw_cfg *fw, uint16_t key, int fd, uint64_t start, uint32_t length);
int vc_fw_cfg_add_file(struct vc_fw_cfg *fw, const char *name, const void *data, size_t length);

/* ACPI tables (ACPI 6.4): RSDP, XSDT, FADT, MADT, MCFG, DSDT, HPET, SRAT, VIOT; written into guest memory. */
struct vc_acpi_config {
	uint32_t vcpus;       /* with those that may be plugged in later */
	const bool *absent;   /* `vcpus` of them: not plugged in; NULL: all are */
	bool has_cpu_hotplug; /* the controller is there */
	bool reduced;         /* hardware-reduced: no PM block, sleep registers at VC_GED_BASE */
	bool has_8259, has_hpet, has_i8042, has_rtc, has_uart, has_pci;
	struct vc_pci_window pci_window64; /* length 0: none */
	uint64_t rsdp_gpa;                 /* 16-byte aligned, where the RSDP goes (inside 0xe0000-0xfffff) */
	uint64_t tables_gpa;               /* where the others go; at most 64 KiB */
	/* further devices for the DSDT, e.g. virtio-mmio: {hid, uid, mmio base, length, gsi} */
	const struct vc_acpi_device {
		const char *hid;
		uint32_t uid;
		uint64_t base, length;
		uint32_t gsi; /* 0: none */
		bool io;      /* base is a port */
	} * devices;
	uint32_t device_count;
	bool has_vmgenid;
	bool has_iommu;       /* a virtio-iommu between memory and all of PCI, itself there: */
	uint16_t iommu_devfn; /* on bus 0 */
	/* guest-physical memory, told of in a SRAT when some may come and go: Linux prepares for such addresses */
	const struct vc_acpi_memory {
		uint64_t start, length;
		bool hotplug;
	} * memory;
	uint32_t memory_count;
};
/* Builds into buffer as they would lie at tables_gpa; returns bytes, or -E2BIG. rsdp: 36 bytes out. Pure: no vm needed.
 */
int64_t vc_acpi_build(const struct vc_acpi_config *config, uint8_t *buffer, size_t length, uint8_t rsdp[36]);

/* KVM-compatible paravirtual services for emu: kvmclock, steal time, PV EOI pages, KVM_HC_* hypercalls. */
struct vc_pvclock_time {
	uint64_t tsc; /* guest TSC and guest ns at the same moment */
	uint64_t guest_ns;
	uint64_t tsc_khz;
	uint64_t wall_ns; /* host wall clock minus guest_ns */
};
/* MSR_KVM_SYSTEM_TIME(_NEW) was written with an enabled address: fill the pvclock page (version protocol). */
int vc_pvclock_write_system_time(struct vc_mem *mem, uint64_t gpa, const struct vc_pvclock_time *time, uint8_t flags);
int vc_pvclock_write_wall_clock(struct vc_mem *mem, uint64_t gpa, const struct vc_pvclock_time *time);
int vc_pvclock_write_steal(struct vc_mem *mem, uint64_t gpa, uint64_t steal_ns, bool preempted);

#endif
