/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * DMA remapping for the PCI functions of a vm: whatever the guest programs it by (lib/virtio/iommu.c).
 *
 * Every function is an endpoint. One that is attached to a domain reaches memory through the domain's mappings, of I/O
 * virtual addresses (IOVA) to guest-physical ones, and nothing else; one that is not reaches all of memory at its
 * guest-physical addresses (bypass), or nothing.
 *
 * Whoever uses a mapping for longer than a call, such as a descriptor chain, holds it (users). A mapping that is taken
 * away while it is held is found by nobody any more; its holders are asked to let go (revoke), and the change is over
 * only once they have. Nothing is waited for with a lock held.
 *
 * Threads. Changes come from one thread at a time or are serialized by `change`; look-ups from any, without a lock when
 * the caller's cache still holds. Mappings' memory is given back to the host only with the vc_iommu, so that a cache
 * may touch one that is no more, before it sees that its version is old. Lock order: vc_iommu.change, lock, pool_lock;
 * buses' lock and vc_mem.lock behind `lock`.
 */
#ifndef VC_BUS_IOMMU_H
#define VC_BUS_IOMMU_H

#include "bus/pci.h"
#include "core/log.h"
#include "memory/memory.h"

#define VC_IOMMU_PAGE       4096u
#define VC_IOMMU_LAST       ((1ull << 48) - 1) /* of all IOVAs that can be mapped */
#define VC_IOMMU_MSI_FIRST  0xfee00000u        /* messages go there past the IOMMU: not to be mapped */
#define VC_IOMMU_MSI_LAST   0xfeefffffu
#define VC_IOMMU_MAPPINGS   65536u /* at most, by default */
#define VC_IOMMU_CACHE_WAYS 4u

/* Of mappings and accesses, as virtio 1.2 numbers them (5.13.6.5) */
enum { VC_IOMMU_READ = 1, VC_IOMMU_WRITE = 2, VC_IOMMU_MMIO = 4 };

struct vc_iommu;
struct vc_iommu_endpoint;

struct vc_iommu_range {
	uint64_t first, last; /* IOVAs, both inclusive */
	uint64_t gpa;         /* of the first */
	uint32_t flags;
};

struct vc_iommu_mapping {
	struct vc_iommu *iommu;
	struct vc_iommu_range range;           /* constant while it can be found */
	_Atomic uint32_t users;                /* of it, and those that are about to see that it is not theirs */
	_Atomic bool dead;                     /* taken away while it was held */
	struct vc_iommu_mapping *left, *right; /* a treap; under vc_iommu.lock */
	uint32_t priority;
	struct vc_iommu_mapping *next; /* free, or taken away and held; these two under pool_lock */
	uint64_t change;               /* which took it away */
};

/* ---- for who makes accesses ---- */

/* What one thread has found of late. All zeros: nothing. */
struct vc_iommu_cache {
	uint64_t version;
	unsigned next;
	struct {
		struct vc_iommu_mapping *mapping;
		struct vc_iommu_range range;
	} ways[VC_IOMMU_CACHE_WAYS];
};

/* Where an IOVA lies. */
struct vc_iommu_piece {
	struct vc_iommu_mapping *mapping; /* held for the caller */
	uint64_t gpa;
	uint64_t length; /* so much from there on goes the same way */
};

/* access: VC_IOMMU_READ, VC_IOMMU_WRITE or both. False: it is blocked, and reported. */
bool vc_iommu_hold(struct vc_iommu_endpoint *e, struct vc_iommu_cache *cache, uint64_t iova, uint32_t access,
                   struct vc_iommu_piece *piece);
void vc_iommu_let_go_slow(struct vc_iommu *iommu);
static inline void vc_iommu_let_go(struct vc_iommu_mapping *mapping)
{
	if (atomic_fetch_sub(&mapping->users, 1) == 1 && atomic_load(&mapping->dead))
		vc_iommu_let_go_slow(mapping->iommu);
}
/* A further holder of what is held. */
static inline void vc_iommu_hold_again(struct vc_iommu_mapping *mapping)
{
	atomic_fetch_add(&mapping->users, 1);
}

/*
 * Copy between a buffer and the endpoint's memory; what lies before the first byte that cannot be reached has been
 * copied then. e NULL: no IOMMU, addresses are GPAs. 0; -EFAULT with a sentence, and a blocked access is reported.
 */
int vc_iommu_copy(struct vc_iommu_endpoint *e, struct vc_mem *mem, uint64_t iova, void *buffer, uint64_t length,
                  bool write);

/*
 * Have the endpoint's user let go of all that it holds, soon and on the calling thread: what is in flight is over, or
 * will be looked up again. No lock of the IOMMU is held; the device stays there meanwhile. Before the guest runs it.
 */
void vc_iommu_on_revoke(struct vc_iommu_endpoint *e, void (*revoke)(void *ctx), void *ctx);

/* ---- for who programs it ---- */

/* Reported accesses. reason: as virtio 1.2 numbers them (5.13.6.9) */
enum { VC_IOMMU_FAULT_DOMAIN = 1, VC_IOMMU_FAULT_MAPPING = 2 };
struct vc_iommu_fault {
	uint32_t endpoint; /* vc_pci_requester() */
	uint32_t reason, access;
	uint64_t iova;
};

struct vc_iommu_driver {
	/* On the thread of the access, under `lock`: only posts. */
	void (*fault)(void *ctx, const struct vc_iommu_fault *fault);
	void *ctx;
	struct vc_pci_function *function; /* which the guest finds it by; NULL: not yet, and nothing is told until then */
};

int vc_iommu_new(struct vc_buses *buses, const struct vc_log *log, struct vc_iommu **iommu);
/* All endpoints are gone. */
void vc_iommu_free(struct vc_iommu *iommu);
/* -EBUSY: it has one. NULL: none; every endpoint is in bypass then, and nothing is told any more. */
int vc_iommu_set_driver(struct vc_iommu *iommu, const struct vc_iommu_driver *driver, uint32_t max_mappings);
/* The function by which the guest finds the driver's device; NULL: there is none. */
struct vc_pci_function *vc_iommu_function(struct vc_iommu *iommu);
void vc_iommu_set_function(struct vc_iommu *iommu, struct vc_pci_function *function);

/*
 * Changes. Those that take something away return once nobody holds it. Errors without a sentence: the guest's.
 *
 * attach: of its old domain it is detached. -EINVAL: the domain is one of the other kind (bypass); -ENOMEM; errors of a
 * listener, the endpoint is detached then.
 * detach: -EINVAL: it is not attached to that domain. A domain without endpoints ceases to exist.
 * map: -ENOENT: no such domain; -EINVAL: it is a bypass domain, or something is mapped there; -ERANGE: not pages, or
 * not in range; -ENOMEM: too many mappings; errors of a listener. unmap: -ENOENT and -EINVAL likewise; -ERANGE: part of
 * a mapping would stay. What is not mapped is no error.
 */
int vc_iommu_attach(struct vc_iommu_endpoint *e, uint32_t domain, bool bypass);
int vc_iommu_detach(struct vc_iommu_endpoint *e, uint32_t domain);
int vc_iommu_map(struct vc_iommu *iommu, uint32_t domain, const struct vc_iommu_range *range);
int vc_iommu_unmap(struct vc_iommu *iommu, uint32_t domain, uint64_t first, uint64_t last);
/* What endpoints without a domain may. */
void vc_iommu_set_bypass(struct vc_iommu *iommu, bool on);
bool vc_iommu_bypass(struct vc_iommu *iommu);
/* No endpoint is attached any more. Where all is in bypass then, what is held stays held. */
void vc_iommu_clear(struct vc_iommu *iommu);

struct vc_iommu_counts {
	uint64_t domains, mappings, faults;
};
void vc_iommu_count(struct vc_iommu *iommu, struct vc_iommu_counts *counts);

/* Domains, mappings and who is attached; for save and load of the driver's device. iommu_state.c */
int64_t vc_iommu_save(struct vc_iommu *iommu, void *buffer, size_t length);
int vc_iommu_load(struct vc_iommu *iommu, struct vc_pci *pci, const void *buffer, size_t length);

/* ---- for who has accesses made by others, such as the host's IOMMU for a device that is passed through ---- */

/*
 * Told of what the endpoint may reach: at first of what it may now, and then of every change, in order, one at a time,
 * with `change` held: it must not call back. map and bypass(true) may refuse, with a sentence; the guest's request
 * fails then. When unmap and bypass(false) return, the device reaches nothing of it any more, and whatever was in
 * flight is over: the guest is told that it may use the memory for something else.
 *
 * Ranges that are told never overlap, and an unmap names exactly what a map has. Between bypass(true) and bypass(false)
 * there are none: the endpoint reaches all of guest memory at its GPAs, as if there were no IOMMU, slots that come and
 * go included (vc_mem_watch). At first, and when neither is so, it reaches nothing.
 *
 * A range is what the guest asks for: of pages, inside VC_IOMMU_LAST, outside the MSI window; its GPAs may lie in
 * several slots, or in none, where there is nothing to be mapped. Only slots can: VC_IOMMU_MMIO ranges may be left
 * alone. Interrupts are no business of it: the messages of the device go to VC_IOMMU_MSI_FIRST and are not translated.
 */
struct vc_iommu_listener {
	int (*map)(void *ctx, const struct vc_iommu_range *range);
	void (*unmap)(void *ctx, const struct vc_iommu_range *range);
	int (*bypass)(void *ctx, bool on);
};
/* One an endpoint. Errors of its first calls, all that it was told of is taken back then; -EBUSY: there is one. */
int vc_iommu_listen(struct vc_iommu_endpoint *e, const struct vc_iommu_listener *listener, void *ctx);
/* All that it was told of is taken back; it is not called when this has returned. One that does not listen: nothing. */
void vc_iommu_unlisten(struct vc_iommu_endpoint *e);

/* ---- what hardware behind it can do: iommu_windows.c ---- */

#define VC_IOMMU_WINDOWS_MAX 16u

struct vc_iommu_window {
	uint64_t first, last; /* both inclusive */
};
/* Ascending and disjoint. */
struct vc_iommu_windows {
	uint32_t count;
	struct vc_iommu_window at[VC_IOMMU_WINDOWS_MAX];
};

/* The only IOVAs that the endpoint's accesses can have, for the host's IOMMU has no others; at first it has all. */
void vc_iommu_set_windows(struct vc_iommu_endpoint *e, const struct vc_iommu_windows *windows);
/* What lies between them, up to VC_IOMMU_LAST, without the MSI window: the guest is to map nothing there. How many. */
unsigned vc_iommu_reserved(struct vc_iommu_endpoint *e, struct vc_iommu_window reserved[VC_IOMMU_WINDOWS_MAX + 2]);
/* The last IOVA that every endpoint can have. */
uint64_t vc_iommu_last(struct vc_iommu *iommu);

/* ---- PCI: pci_iommu.c ---- */

/*
 * The bus's IOMMU, made when it is first asked for: functions that come from then on are behind it. -EBUSY: functions
 * are there already that are not, other than parts of the machine and ports, which do no DMA.
 */
int vc_pci_make_iommu(struct vc_pci *pci, const struct vc_log *log, struct vc_iommu **iommu);
/* NULL: there is none. */
struct vc_iommu *vc_pci_iommu(struct vc_pci *pci);
/* NULL: f is behind none. */
struct vc_iommu_endpoint *vc_pci_endpoint(const struct vc_pci_function *f);
/* Bus, device and function as one number, with the bus number that the guest gives it now. */
uint32_t vc_pci_requester(struct vc_pci_function *f);
/* The endpoint of that number, whose device is visited; NULL: there is none. */
struct vc_iommu_endpoint *vc_pci_visit_requester(struct vc_pci *pci, uint32_t requester, struct vc_visit *visit);
/* Where f is plugged in, whatever the guest calls its bus; and the endpoint there, without a visit: for save and load.
 */
uint32_t vc_pci_place(const struct vc_pci_function *f);
struct vc_iommu_endpoint *vc_pci_endpoint_at(struct vc_pci *pci, uint32_t place);

#endif
