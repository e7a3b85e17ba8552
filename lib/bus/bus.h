/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Dispatch of port, MMIO and hypercall accesses to devices.
 *
 * A device (struct vc_dev) answers in one or more regions. Region maps are immutable sorted arrays that are replaced
 * inside an exclusive section, so a vcpu that is inside the gate looks up without a lock; it steps out of the gate for
 * the callback. Who runs a callback is written in the vcpu's pass (busy) or, for other threads, in a struct vc_visit on
 * a list: removal takes the regions out, then waits until neither names the device.
 */
#ifndef VC_BUS_BUS_H
#define VC_BUS_BUS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <virtcore/device.h>

#include "core/gate.h"

#define VC_BUS_COUNT 3 /* enum vcore_bus */

/* What a device counts, as a monitor shows it. */
struct vc_stat {
	const char *name; /* a constant: lower case and underscores */
	uint64_t value;
};
#define VC_STATS_MAX 16u

struct vc_dev {
	struct vcore_device_ops ops; /* full-size copy */
	void *ctx;
	char type[32];
	void *owner;      /* for lib/vm: the vcore_vm */
	char *properties; /* for lib/vm: with which it was added by its type; NULL: it was not. Freed with it */
	/*
	 * on: neither touch memory nor interrupt but by a vcpu's access or the loop, until told otherwise; a state loaded
	 * meanwhile takes effect then. NULL: it never does.
	 */
	void (*hold)(void *ctx, bool on);
	void *hold_ctx;
	/* Set by vc_dev_set_frontend(), once all that follows can be called. */
	void *frontend; /* for lib/vm: what calls at run time that are only for its type work on; NULL */
	unsigned (*statistics)(void *frontend, struct vc_stat stats[VC_STATS_MAX]); /* how many; any thread. NULL: none */
	bool fixed;         /* part of the machine type: not removable */
	uint32_t id;        /* unique in the vm, from 1, never used again */
	bool removable;     /* whole, and nobody holds its handle: lib/vm may remove it by its id; under vc_buses.lock */
	bool leaving;       /* lib/vm has asked the guest to let go of it; under vc_buses.lock */
	bool removing;      /* under vc_buses.lock */
	uint32_t gsi;       /* interrupt line of its own; 0: none. These five under vc_buses.lock */
	const char *hid;    /* ACPI hardware ID under which a guest is told of it; NULL: it is not */
	enum vcore_bus bus; /* of its registers there */
	uint64_t base, length;
	struct vc_dev *next; /* list of the bus set, in order of adding; under vc_buses.lock */
};

struct vc_region {
	uint64_t start, length;
	struct vc_dev *dev;
	uint32_t flags;
};
#define VC_REGION_COALESCE (1u << 0)

struct vc_ioeventfd {
	uint64_t address, match;
	uint32_t width; /* 0: any */
	uint32_t bus;
	bool has_match;
	int fd; /* our duplicate */
};

/* A callback that runs on a thread without a pass. */
struct vc_visit {
	struct vc_dev *dev;
	pthread_t thread;
	struct vc_visit *next;
};

struct vc_bus_map {
	uint32_t count;
	struct vc_region regions[]; /* sorted by start */
};

struct vc_buses {
	struct vc_gate *gate;
	pthread_mutex_t
	    lock; /* protects devices, visits, and maps and ioeventfds for threads that are not inside the gate */
	pthread_cond_t idle; /* a callback ended while somebody waits for a device */
	struct vc_bus_map *map[VC_BUS_COUNT];
	struct vc_dev *devices;
	uint32_t last_id; /* given to a device; under lock */
	struct vc_visit *visits;
	struct vc_ioeventfd *ioeventfds; /* replaced like the maps */
	uint32_t ioeventfd_count;
	_Atomic uint32_t waiting; /* removers waiting for a callback to end */
	char pad[64]; /* many threads write the following and read the above: keep them in different cache lines */
	_Atomic uint64_t accesses[VC_BUS_COUNT]; /* dispatched without a pass; the others are counted in passes */
};

int vc_buses_init(struct vc_buses *buses, struct vc_gate *gate);
/* Destroys all devices, newest first; the gate is still there. */
void vc_buses_fini(struct vc_buses *buses);

/*
 * Make a device without regions and put it in the list. ops is copied by its size field; on failure ops->destroy(ctx)
 * has been called.
 */
int vc_dev_add(struct vc_buses *buses, const char *type, const struct vcore_device_ops *ops, void *ctx,
               struct vc_dev **dev);
/* -EEXIST on overlap (message names both), -EINVAL. self: the caller's pass if it is inside the gate, else NULL. */
int vc_dev_add_region(struct vc_buses *buses, struct vc_pass *self, struct vc_dev *dev, enum vcore_bus bus,
                      uint64_t start, uint64_t length);
int vc_dev_remove_region(struct vc_buses *buses, struct vc_pass *self, struct vc_dev *dev, enum vcore_bus bus,
                         uint64_t start);
/*
 * Takes the regions out, waits until no callback runs, calls destroy, frees. -EDEADLK from a callback of the device
 * itself; -EALREADY when somebody else is at it. Not from inside an exclusive section, which would keep those callbacks
 * from ending.
 */
int vc_dev_remove(struct vc_buses *buses, struct vc_pass *self, struct vc_dev *dev);
/*
 * For whoever finds a device otherwise than by dispatch: between the two a callback of dev may be called, and dev does
 * not go away. False: it is going, leave it alone. The caller knows that dev exists when it asks, and has no pass
 * inside the gate.
 */
bool vc_dev_visit(struct vc_buses *buses, struct vc_visit *visit, struct vc_dev *dev);
/* The same for the device of that ID, or with 0 the first, if it is of that type and has a frontend. False: there is
 * none. */
bool vc_dev_visit_type(struct vc_buses *buses, struct vc_visit *visit, uint32_t id, const char *type);
void vc_dev_leave(struct vc_buses *buses, struct vc_visit *visit);
/* The same for who knows only the least id that it is to have: the first such device, visited; NULL: there is none. */
struct vc_dev *vc_dev_visit_from(struct vc_buses *buses, struct vc_visit *visit, uint32_t id);
/* Give dev a line of its own: the wanted one, or with 0 any that is free. The line; -EEXIST, -ENOSPC. announce.c */
int vc_dev_take_gsi(struct vc_buses *buses, struct vc_dev *dev, uint32_t wanted);
/* Have ACPI tell the guest of dev: its ID (a constant), registers and line. bus: ports or MMIO. */
void vc_dev_announce(struct vc_buses *buses, struct vc_dev *dev, const char *hid, enum vcore_bus bus, uint64_t base,
                     uint64_t length);
/* dev is whole but for what is added behind its back: from now on it is found by what it does. */
void vc_dev_set_frontend(struct vc_buses *buses, struct vc_dev *dev, void *frontend,
                         unsigned (*statistics)(void *frontend, struct vc_stat stats[VC_STATS_MAX]));
/* Calls every device's reset, in order of adding. */
void vc_buses_reset(struct vc_buses *buses);

/*
 * Dispatch one access. io->bus, address, width, is_write, data (write), vcpu are set by the caller; offset and data
 * (read) are filled in; a device that leaves data alone gives all ones. pass: the vcpu's, inside the gate (it is left
 * around the callback and entered again); NULL from other threads, which then take `lock` for the look-up. Returns true
 * when a device or an ioeventfd took it; false: nobody answers there. An access that only partly lies in a region is
 * split into bytes; those nobody answers read 0xff.
 */
bool vc_bus_dispatch(struct vc_buses *buses, struct vc_pass *pass, struct vcore_io *io);

/* Accesses to a bus that devices took. */
uint64_t vc_buses_accesses(struct vc_buses *buses, enum vcore_bus bus);

/* -EINVAL; -EEXIST when one write could signal both it and another. Where one matches, no device is called. */
int vc_ioeventfd_add(struct vc_buses *buses, struct vc_pass *self, const struct vc_ioeventfd *e); /* duplicates e->fd */
int vc_ioeventfd_remove(struct vc_buses *buses, struct vc_pass *self,
                        const struct vc_ioeventfd *e); /* fd ignored; -ENOENT */

#endif
