/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The vm object: what the public entry points share. */
#ifndef VC_VM_VM_H
#define VC_VM_VM_H

#include <virtcore/virtcore.h>

#include "backend/backend.h"
#include "chipset/chipset.h"
#include "core/error.h"
#include "core/util.h"
#include "loader/loader.h"
#include "net/switch_names.h"
#include "passthrough/vfio.h"

#define VC_MAX_VCPUS 255

/* Who runs a vcpu now. */
enum vc_owner {
	VC_OWNER_NONE = 0,    /* nobody: a state function may take `state_lock` and use it */
	VC_OWNER_CLAIM = 1,   /* nobody may: vc_vm_claim() */
	VC_OWNER_PROGRAM = 2, /* vcore_vcpu_run() */
	VC_OWNER_THREAD = 3,  /* vcore_vm_start(): the library's thread */
};

/* Where and how the host runs a vcpu's thread; all zeros: as the program's threads. */
struct vc_placement {
	void *cpus; /* as of sched_setaffinity(); NULL: not set */
	size_t cpus_bytes;
	bool scheduled;
	struct vcore_schedule schedule;
	int cgroup;        /* its cgroup.threads, opened when it was set; -1: not set */
	char *cgroup_path; /* of the directory */
};

struct vcore_vcpu {
	struct vc_bvcpu b;
	struct vcore_vm *vm;
	pthread_mutex_t state_lock; /* held by state functions, and to take over a vcpu that nobody owns. After vm->lock */
	_Atomic uint32_t owner;     /* enum vc_owner */
	_Atomic(pthread_t) runner;  /* valid while `executing` */
	_Atomic uint32_t executing; /* inside backend->run(), callbacks included */
	_Atomic uint32_t thread_id; /* THREAD: as gettid() says; 0: none */
	bool parked;                /* THREAD: not inside backend->run(); under vm->lock */
	bool has_thread;            /* under vm->lock */
	bool debug_hold;            /* must not execute, by the debugger's will; under vm->lock */
	bool debug_waits;           /* PROGRAM: waits inside vcore_vcpu_run() for that to end; under vm->lock */
	_Atomic bool present;       /* plugged in; changes under vm->lock */
	bool placing;               /* its new thread has not found its place yet; under vm->lock */
	struct vc_placement place;  /* under vm->lock */
	uint64_t run_ns, steal_ns;  /* of its threads that have ended; under vm->lock */
	bool created;               /* vcpu_create succeeded; state_lock exists */
	pthread_t thread;
};

/* What becomes of a vm. */
enum vc_vm_event_kind {
	VC_EVENT_PAUSED,
	VC_EVENT_RESUMED,
	VC_EVENT_RESET,
	VC_EVENT_ENDED,          /* exit */
	VC_EVENT_DEVICE_ADDED,   /* device, type */
	VC_EVENT_DEVICE_REMOVED, /* device, type */
	VC_EVENT_BLOCK_ERROR,    /* device, type, block */
	VC_EVENT_MIGRATION,      /* action: its state's name */
	VC_EVENT_MIGRATING,      /* migration */
	/* of a device's own, as struct vc_machine_event */
	VC_EVENT_WATCHDOG,       /* action */
	VC_EVENT_PANICKED,       /* action */
	VC_EVENT_CRASH_LOADED,   /* action */
	VC_EVENT_MEMORY_SIZE,    /* device, size */
	VC_EVENT_VCPU_PLUGGED,   /* vcpu */
	VC_EVENT_VCPU_UNPLUGGED, /* vcpu */
};

struct vc_vm_event {
	enum vc_vm_event_kind kind;
	const struct vcore_exit *exit;
	uint32_t device; /* vc_dev.id */
	const char *type;
	const struct vcore_block_error *block;
	const char *action; /* a constant */
	uint64_t size;
	uint32_t vcpu;
	const struct vcore_migrate_info *migration;
};

/* Who is told of it. */
struct vc_observer {
	/* On whatever thread it happens, with observers_lock and perhaps vm->lock held: takes no lock of the vm, does not
	 * block. */
	void (*told)(struct vc_observer *observer, const struct vc_vm_event *event);
	struct vc_observer *next; /* under observers_lock */
};

/* An eventfd that raises an interrupt, served by the loop where the backend has no irqfd. */
struct vc_irqfd {
	struct vcore_vm *vm;
	struct vc_irqfd *next;
	struct vc_watch *watch;
	int caller_fd, fd; /* as named by the caller, and our duplicate */
	int gsi;           /* -1: MSI */
	uint64_t address;
	uint32_t data;
};

/* A range whose writes are coalesced. */
struct vc_zone {
	struct vc_zone *next;
	struct vc_dev *dev;
	enum vcore_bus bus;
	uint64_t start, length;
};

/* What a machine type is made of. */
struct vc_machine {
	const char *name;
	enum vcore_machine id;
	uint64_t default_memory;
	bool has_chipset;
	/* after the backend's vm exists: adds RAM and parts */
	int (*build)(struct vcore_vm *vm, const struct vcore_options *options);
};
extern const struct vc_machine *const vc_machines[]; /* NULL-terminated */
/* Where 64-bit BARs go: the upper half of what the CPU addresses, if RAM ends below it. */
void vc_machine_place_pci(struct vcore_vm *vm, uint32_t phys_bits);

/* What a clone takes over from a snapshot when it is built, in place of what options would give. */
struct vc_birth {
	const struct vc_cpuid *cpuid; /* of vcpu 0 */
	bool has_hpet;
};
/* vcore_vm_new(); birth: NULL, or valid during the call. */
int vc_vm_new(const struct vcore_options *options, const struct vc_birth *birth, struct vcore_vm **vm);

/* What a vm knows of its migration; under its lock. */
struct vc_migration {
	struct vcore_migrate_info info; /* of the last one */
	uint64_t told;                  /* host time of the last event */
	bool sending;                   /* there is one */
	bool may_postcopy, postcopy;    /* while sending: it was begun so; vcore_migrate_postcopy() */
	bool closed;                    /* there will be none any more */
	int cancel_fd;                  /* eventfd; while sending */
	bool has_thread, thread_done;   /* vc_migrate_start() */
	pthread_t thread;
	struct vc_mig_sending
	    *kept; /* as its source, until it is taken up again or given up; NULL: it is not interrupted */
};

struct vcore_vm {
	_Atomic uint32_t refs;
	struct vc_log log;
	struct vc_gate gate;
	struct vc_clock clock;
	struct vc_loop *loop;
	enum vcore_loop_mode loop_mode;
	struct vc_mem mem;
	struct vc_buses buses;
	struct vc_irqs irqs;
	struct vc_switch_names switches;
	struct vc_vfio_groups vfio;
	const struct vc_machine *machine;
	bool no_legacy, has_hpet;
	const struct vc_birth *birth; /* while it is built; NULL: by options alone */
	struct vc_bvm bvm;
	struct vcore_vcpu *vcpus;

	/* chipset parts of the library; NULL where absent */
	struct vc_lapics *lapics;
	struct vc_pic *pic;
	struct vc_ioapic *ioapic;
	struct vc_acpi_pm *pm;
	struct vc_cpu_hotplug *cpu_hotplug;
	struct vc_fw_cfg *fw_cfg;
	struct vc_vmgenid *vmgenid;
	uint64_t ram_low, ram_high; /* bytes from 0, and from 4 GiB */

	/* paths of the last vcore_boot() from files, for reset; under lock */
	struct vc_boot_record *boot;
	_Atomic bool booted; /* a kernel's tables name the vcpus there were */

	pthread_mutex_t doorbells; /* protects zones; serializes changes of ioeventfds. Before the gate */
	struct vc_zone *zones;

	pthread_mutex_t observers_lock; /* protects observers; after lock */
	struct vc_observer *observers;

	_Atomic bool own_asked, own_closed; /* own.c: it is at work; it is to be no more */

	_Atomic(struct vc_debugger *) debugger; /* NULL: none; taken away under lock */

	pthread_mutex_t lock; /* protects all below, and vcpus' parked, has_thread and debug_* */
	pthread_cond_t changed;
	enum vcore_vm_state state;
	bool claimed;    /* vc_vm_claim(): nothing may start or change its vcpus */
	bool hold;       /* vcpu threads must park */
	bool throttled;  /* likewise, for a while: vc_vm_throttle() */
	bool starting;   /* likewise, until all of them have found their places */
	int place_error; /* of the first that did not, with its sentence in place_message */
	char place_message[256];
	bool newborn;        /* a clone that was not run yet: its time stands */
	bool time_stands;    /* vcore_vm_pause() or the debugger stopped the guest's clock */
	bool debug_stands;   /* the debugger holds all vcpus: the clock must not start */
	bool ending;         /* a final exit is recorded in `final` */
	uint32_t threads_in; /* vcpu threads not parked and not ended */
	struct vcore_exit final;
	uint32_t waiters; /* in vcore_vm_wait(), not to be overtaken by a reset */
	int exit_fd;      /* eventfd, readable once EXITED */
	struct vc_irqfd *irqfds;
	struct vc_migration migration;
	_Atomic(const struct vcore_exit *) lost; /* why no vcpu may execute any more, whatever it is told; NULL */
	struct vc_arrival *arrival; /* its memory came by post-copy; constant once it is the program's. NULL: it did not */
	vcore_block_error_fn block_error; /* constant once it was started, as its ctx */
	void *block_error_ctx;

	/* for timeouts of vcore_vcpu_run(): made at first use, under lock */
	struct vc_clock host_clock;
	struct vc_loop *timeouts;

	bool parts_ready[8]; /* how far construction came, for a failing vcore_vm_new(); see vm.c */
};

static inline struct vcore_vm *vc_vm_of_mem(struct vc_mem *mem)
{
	return VC_CONTAINER_OF(mem, struct vcore_vm, mem);
}
static inline struct vcore_vcpu *vc_vcpu_of(struct vc_bvcpu *b)
{
	return VC_CONTAINER_OF(b, struct vcore_vcpu, b);
}

/* run.c */
/* Keep the library's vcpu threads from executing, or let them again; guest time goes on. Does not wait for them. */
void vc_vm_throttle(struct vcore_vm *vm, bool on);
/* Record why the vm ends and make all vcpus leave; the first one wins. Any thread, any mode. */
void vc_vm_end(struct vcore_vm *vm, const struct vcore_exit *exit);
/* Stop and join the library's vcpu threads. */
void vc_vm_join(struct vcore_vm *vm);
extern const struct vc_machine_ops vc_vm_machine_ops;
/* One stay in the backend; a host that breaks is the guest's crash. */
void vc_vcpu_execute(struct vcore_vcpu *v, struct vcore_exit *exit);
/* Give a vcpu that nobody runs a new owner; waits for a state function. found: who has it. */
bool vc_vcpu_take_over(struct vcore_vcpu *v, enum vc_owner owner, uint32_t *found);
/* A clone's time goes on with its first instruction, and its loop is driven from there on. Caller holds the lock. */
int vc_vm_give_birth(struct vcore_vm *vm);
/*
 * Keep a vm that does not run as it is: no vcpu is started, run or changed by others until vc_vm_release(). -EBUSY. The
 * claimer itself uses the backend directly.
 */
int vc_vm_claim(struct vcore_vm *vm, const char *who);
void vc_vm_release(struct vcore_vm *vm);
/* As vc_vm_claim(); one that has ended is -EBUSY, or with ended_too CREATED again. */
int vc_vm_claim_ended(struct vcore_vm *vm, const char *who, bool ended_too);
/* True on one of the vm's vcpu threads or inside vcore_vcpu_run(). */
bool vc_vm_is_own_thread(struct vcore_vm *vm);

/* Guest time stands still, or goes on unless something else holds it. Caller holds the lock; nobody executes. */
void vc_vm_stop_time(struct vcore_vm *vm);
void vc_vm_start_time(struct vcore_vm *vm);

/* As vcore_vm_reset(); of a vm that has ended only if ended_too, or -EBUSY. */
int vc_vm_reset(struct vcore_vm *vm, bool ended_too);

/* A thread for that vcpu, which has a place first if it needs one. Caller holds the lock. 0 or a positive errno. */
int vc_vcpu_make_thread(struct vcore_vcpu *vcpu);

/* hotplug.c: of vc_cpu_hotplug_config. */
void vc_vcpu_changed(void *vm, uint32_t index, bool present);
uint32_t vc_vm_present(struct vcore_vm *vm);

/* place.c */
bool vc_place_is_set(const struct vc_placement *place);
/* The calling thread, a new one of that vcpu's, goes where it was placed; who started it waits for that. */
void vc_vcpu_find_place(struct vcore_vcpu *vcpu);
void vc_place_fini(struct vc_placement *place);
/* options.vcpu_places */
int vc_vm_place(struct vcore_vm *vm, const char *const *places);

/* own.c: as vc_bvm.want_own_memory; nobody asks any more, and the loop is still there */
void vc_vm_want_own_memory(struct vc_bvm *bvm);
void vc_vm_own_fini(struct vcore_vm *vm);

/* net.c: of a still vm, vcore_net_new_macs(). */
int vc_vm_new_macs(struct vcore_vm *vm);

/* balloon.c: bytes that all its balloons hold. */
uint64_t vc_vm_ballooned(struct vcore_vm *vm);

/* stats.c */
/* Take down what the thread has used, on that thread, which ends. Caller holds vm->lock. */
void vc_vcpu_thread_used(struct vcore_vcpu *vcpu);

/* observe.c */
void vc_vm_observe(struct vcore_vm *vm, struct vc_observer *observer);
/* The observer is told nothing any more when this returns. */
void vc_vm_unobserve(struct vcore_vm *vm, struct vc_observer *observer);
void vc_vm_tell(struct vcore_vm *vm, const struct vc_vm_event *event);
/* As vc_machine_ops.tell. */
void vc_vm_tell_of_device(void *vm, const struct vc_machine_event *event);

/* debug.c */
struct vc_debugger {
	/* That vcpu left with VCORE_EXIT_DEBUG and is held. On its thread, with vm->lock held: takes no lock, does not
	 * block. */
	void (*stopped)(struct vc_debugger *debugger, uint32_t vcpu, const struct vcore_exit *exit);
};
/* From now on the debugger is given DEBUG exits, and the program may not change what makes them. -EBUSY: there is one.
 */
int vc_vm_debug_begin(struct vcore_vm *vm, struct vc_debugger *debugger);
/* Lets all vcpus go. The debugger has switched off what makes DEBUG exits. */
void vc_vm_debug_end(struct vcore_vm *vm);
/* Hold all vcpus, whoever runs them. Returns when none executes; not from a vcpu's thread. */
void vc_vm_debug_hold(struct vcore_vm *vm);
/* Let those vcpus go for which goes() says so, all with NULL; called with vm->lock held. The others stay. */
void vc_vm_debug_release(struct vcore_vm *vm, bool (*goes)(void *ctx, uint32_t vcpu), void *ctx);
/* On the vcpu's thread: whether this exit is the debugger's, which has it then. */
bool vc_vm_debug_takes(struct vcore_vcpu *vcpu, const struct vcore_exit *exit);
/* On the program's thread, inside vcore_vcpu_run(): wait while held; tell that the vcpu has no owner any more. */
void vc_vm_debug_wait(struct vcore_vcpu *vcpu);
void vc_vm_debug_left(struct vcore_vcpu *vcpu);
/* The exception of this DEBUG exit happens to the guest after all. The vcpu is held. 0 or -errno. */
int vc_vcpu_give_back(struct vcore_vcpu *vcpu, const struct vcore_exit *exit);

/* vcpu.c */
int vc_vcpu_init(struct vcore_vm *vm, uint32_t index);
void vc_vcpu_fini(struct vcore_vcpu *vcpu);
/* Claim the vcpu for reading or changing its state. 0, -EBUSY, -EINVAL; then vc_vcpu_unlock(). */
int vc_vcpu_lock(struct vcore_vcpu *vcpu, bool change, unsigned *cookie);
void vc_vcpu_unlock(struct vcore_vcpu *vcpu, unsigned cookie);
/* Of a claimed vm: checks the state first. */
int vc_vcpu_put_state(struct vcore_vcpu *vcpu, const struct vc_cpu_state *state);
/* The whole state of a vcpu that does not execute; store checks it first. Errors as vcore_vcpu_get_sregs(). */
int vc_vcpu_load(struct vcore_vcpu *vcpu, struct vc_cpu_state *state);
int vc_vcpu_store(struct vcore_vcpu *vcpu, const struct vc_cpu_state *state);
/* As vcore_vcpu_set_debug(), for the debugger. */
int vc_vcpu_set_debug(struct vcore_vcpu *vcpu, const struct vcore_debug *debug);
/* GVA -> GPA in that state, ignoring privilege. -EFAULT. */
int vc_vcpu_walk(struct vcore_vcpu *vcpu, const struct vc_cpu_state *state, uint64_t gva, uint64_t *gpa);
/* All vcpus of a claimed vm to power-on state. */
int vc_vcpus_reset(struct vcore_vm *vm);

/* device.c */
void vc_vm_free_zones(struct vcore_vm *vm);
/* As vcore_device_add(), and its id. */
int vc_vm_add_device(struct vcore_vm *vm, const char *name, const char *properties, vcore_device **device,
                     uint32_t *id);
/* remove.c */
/*
 * Remove a device that is `removable`, by its id. One behind a root port goes when the guest has let go of it: 1;
 * unless force, or the guest does not look at the port's button. -ENOENT, -ENOTSUP, -EBUSY the guest has been asked
 * already, else as vcore_device_remove().
 */
int vc_vm_remove_device(struct vcore_vm *vm, uint32_t id, bool force);
/* As in struct vc_machine_ops. */
void vc_vm_slot_off(void *ctx, uint32_t id);
void vc_vm_wanted(void *ctx, uint32_t id);
/* The guest that was asked to let go of devices is no more. */
void vc_vm_forget_leaving(struct vcore_vm *vm);

/* block.c: as in struct vc_machine_ops. */
void vc_vm_block_error(void *ctx, const void *frontend, const struct vcore_block_error *error);

/* irq.c */
/* As in struct vc_env: in the kernel alone. */
int vc_vm_doorbell(void *ctx, const struct vc_ioeventfd *e, bool add);
int vc_vm_irqfd(void *ctx, const struct vc_irq_route *route, bool add);
int vc_vm_registers(void *ctx, const struct vc_registers *registers, bool add);
void vc_vm_free_irqfds(struct vcore_vm *vm);
extern const struct vc_irq_sink vc_user_irq_sink; /* ctx: the vcore_vm */

/* boot.c */
void vc_boot_forget(struct vcore_vm *vm);
int vc_boot_again(struct vcore_vm *vm);

/* select.c */
/* The backend for these options; logs why. NULL with *error set. */
const struct vc_backend *vc_backend_select(const struct vcore_options *options, const struct vc_log *log, int *error);

#endif
