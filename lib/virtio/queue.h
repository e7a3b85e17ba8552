/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inside a virtqueue: what queue.c, chain.c, replay.c, split.c and packed.c share.
 *
 * Nothing here takes a lock: a queue is used by one thread at a time (virtio.h). Addresses of guest memory are kept in
 * pins: slots that stay mapped while somebody uses them, found again without a lock as long as the version of the
 * memory map is the same. A queue at rest holds none.
 */
#ifndef VC_VIRTIO_QUEUE_H
#define VC_VIRTIO_QUEUE_H

#include "bus/iommu.h"
#include "core/util.h"
#include "virtio/virtio.h"

#define VC_CHAIN_INLINE 8u  /* segments that every chain has room for */
#define VC_BIG_MAX      64u /* chains of a queue with more segments that may be in flight */
#define VC_DESC_BYTES   16u

/* Descriptor flags (2.7.5, 2.8.6) */
#define VC_DESC_NEXT     1u
#define VC_DESC_WRITE    2u
#define VC_DESC_INDIRECT 4u
#define VC_DESC_AVAIL    (1u << 7)
#define VC_DESC_USED     (1u << 15)

struct vc_desc {
	uint64_t address; /* as the driver gave it */
	uint32_t length;
	uint16_t flags;
};

/* A slot of guest memory, pinned. */
struct vc_pin {
	struct vc_slot *slot;
	uint8_t *hva;
	uint64_t gpa, length;
	uint32_t users; /* segments and ring areas */
	bool writable;
	bool stale; /* the map has changed: not to be found any more */
	struct vc_pin *next;
};

/* Where a piece of a chain lies. */
struct vc_seg {
	struct vc_pin *pin;
	uint64_t gpa;
	uint32_t length;
};

/* What a segment is to a driver behind an IOMMU, and what keeps it so. */
struct vc_translated {
	uint64_t iova;
	struct vc_iommu_mapping *mapping; /* held */
};

/* Room for a chain of many segments. */
struct vc_big {
	struct vc_big *next;
	struct iovec iov[VC_VIRTQ_MAX_SIZE];
	struct vc_seg segs[VC_VIRTQ_MAX_SIZE];
	struct vc_translated translated[VC_VIRTQ_MAX_SIZE];
};

struct vc_chain {
	struct vc_virtq_chain c; /* what the frontend sees */
	struct vc_chain *next;   /* free list */
	uint64_t sequence;       /* of popping */
	uint16_t id;             /* split: head; packed: buffer ID */
	uint16_t descs;          /* descriptors of the ring it takes */
	uint16_t position;       /* in the ring, before it was popped */
	bool position_wrap;
	uint16_t entry; /* of vc_inflight: the first */
	bool busy;      /* popped, and neither pushed nor dropped */
	bool replay;    /* came from the replay list */
	uint32_t count, room;
	uint32_t out_count; /* of these: c.out_count as it was popped, for the frontend may use c.out up */
	struct iovec *iov;
	struct vc_seg *segs;
	struct vc_big *big;
	struct iovec inline_iov[VC_CHAIN_INLINE];
	struct vc_seg inline_segs[VC_CHAIN_INLINE];
	struct vc_translated inline_translated[VC_CHAIN_INLINE]; /* not used without an IOMMU, as vc_big's */
};

/* A chain that was in flight when the device was stopped to be saved, and will be popped again. In a packed ring its
 * descriptors may have been overwritten by then: this is all there is. */
struct vc_replay {
	struct vc_replay *next;
	uint64_t sequence;
	uint16_t id, descs, entry;
	uint32_t count, out_count;
	struct {
		uint64_t address; /* as the driver gave it */
		uint32_t length;
	} segs[];
};

/* Descriptor table, available ring or driver area, used ring or device area. */
enum vc_area_kind { VC_AREA_DESC, VC_AREA_DRIVER, VC_AREA_DEVICE, VC_AREA_COUNT };
#define VC_AREA_MAPPINGS 2u /* that an area may lie in: it has no more than a page behind an IOMMU */
struct vc_area {
	uint8_t *hva; /* while the queue is open, as is: */
	struct vc_pin *pin;
	uint64_t gpa;
	uint32_t length;
	uint64_t address;                                    /* as the driver gave it */
	struct vc_iommu_mapping *mappings[VC_AREA_MAPPINGS]; /* held */
};

/* Where a queue keeps what is in flight, for who serves it after this process (inflight.c). */
struct vc_inflight {
	uint8_t *at;   /* NULL: nowhere */
	uint16_t size; /* entries there, and of each of these */
	uint16_t *next, *free, *again, *lengths;
	uint16_t batch;                 /* split: the entry that was used last */
	uint16_t free_count;            /* packed */
	uint16_t again_count, again_at; /* what was in flight when the queue was taken up, the oldest first */
	uint64_t counter;
};

struct vc_virtq {
	struct vc_virtio *v;
	struct vc_mem *mem;
	uint32_t index, size_max;
	struct vc_virtq_setup setup; /* as the driver gave it; under vc_virtio's turn */
	_Atomic bool active;         /* the driver has set it up, and the device is started */
	_Atomic bool in_notify;

	/* constant while active */
	bool packed, event_idx, indirect;
	uint16_t size;
	struct vc_chain *chains;

	/* belongs to who uses the queue */
	bool open;        /* areas are mapped */
	bool notify;      /* the driver shall tell of new chains */
	bool avail_wrap;  /* packed */
	bool used_wrap;   /* packed */
	bool starved;     /* a chain found no room: wake when there is some */
	uint16_t avail;   /* split: next entry to take, free running; packed: position */
	uint16_t seen;    /* split: driver's index, as last read */
	uint16_t used;    /* split: next entry to fill, free running; packed: position */
	uint16_t shown;   /* `used` at the last flush */
	uint16_t unshown; /* entries used since then; packed: descriptors */
	uint16_t descs;   /* descriptors in flight, those to be replayed included */
	uint16_t busy;    /* chains popped */
	uint64_t version; /* of the memory map, when the pins were made */
	struct vc_area areas[VC_AREA_COUNT];
	struct vc_pin *last; /* found last */
	struct vc_pin *pins, *spare_pins;
	struct vc_chain *free_chains;
	struct vc_big *free_bigs;
	uint32_t bigs;
	uint64_t sequence;
	struct vc_replay *replay; /* oldest first */
	struct vc_inflight inflight;

	/* NULL: the driver gives GPAs; constant while active. What it gives else is looked up, and what is found is held
	 * as long as it is used: by chains, and by the areas of an open queue. */
	struct vc_iommu_endpoint *endpoint;
	struct vc_iommu_cache cache; /* belongs to who uses the queue */
};

/* ---- queue.c ---- */

/* The device is not started. */
void vc_virtq_init(struct vc_virtq *q, struct vc_virtio *v, struct vc_mem *mem, uint32_t index, uint32_t size_max);
void vc_virtq_fini(struct vc_virtq *q);
/* Whether a driver may set the queue up so; else tells the device that it is broken. */
bool vc_virtq_setup_valid(struct vc_virtq *q, const struct vc_virtq_setup *setup);
/* The positions of a queue that nobody has used yet. */
void vc_virtq_rewind(struct vc_virtq *q);
/* From here on it can be used; 0 or -ENOMEM. */
int vc_virtq_activate(struct vc_virtq *q);
/* Takes everything back, chains that the frontend has kept included. */
void vc_virtq_deactivate(struct vc_virtq *q);

/* The chain's descriptors are in flight. -EPROTO, and the device is broken. */
int vc_virtq_count_descs(struct vc_virtq *q, const struct vc_chain *chain);

/* The bytes of memory at an address of the driver's, for chain.c, and at gpa; false: some are nowhere. */
bool vc_virtq_read(struct vc_virtq *q, uint64_t address, void *buffer, uint32_t length);
bool vc_virtq_read_memory(struct vc_virtq *q, uint64_t gpa, void *buffer, uint32_t length);
struct vc_pin *vc_virtq_pin_slow(struct vc_virtq *q, uint64_t gpa);
void vc_virtq_pin_free(struct vc_virtq *q, struct vc_pin *pin);

/* The pin that holds gpa; NULL: nothing there. */
static inline struct vc_pin *vc_virtq_pin(struct vc_virtq *q, uint64_t gpa)
{
	struct vc_pin *pin = q->last;

	return vc_likely(pin && gpa - pin->gpa < pin->length) ? pin : vc_virtq_pin_slow(q, gpa);
}

static inline void vc_pin_put(struct vc_virtq *q, struct vc_pin *pin)
{
	if (--pin->users == 0 && vc_unlikely(pin->stale))
		vc_virtq_pin_free(q, pin);
}

/* An area was written from `at` on. */
static inline void vc_area_wrote(const struct vc_area *area, uint32_t at, uint32_t length)
{
	vc_mem_wrote(area->pin->slot, area->gpa + at, length);
}

/* ---- chain.c ---- */

/* An empty chain; NULL: the driver has more in flight than it may. */
struct vc_chain *vc_chain_take(struct vc_virtq *q);
/* Back to the free list. */
void vc_chain_free(struct vc_virtq *q, struct vc_chain *chain);
/* One descriptor that is not indirect. 0; -EPROTO, and the device is broken; -EAGAIN: no room now. */
int vc_chain_add(struct vc_virtq *q, struct vc_chain *chain, const struct vc_desc *desc);
/* The segments of so many bytes of it, which lie at gpa. Errors as of the former. */
int vc_chain_add_memory(struct vc_virtq *q, struct vc_chain *chain, const struct vc_desc *desc, uint64_t gpa,
                        uint32_t length);
/* The descriptor is wrong: -EPROTO, and the device is broken. */
int vc_chain_fail(struct vc_virtq *q, const struct vc_desc *desc, const char *what);
/* The descriptors of an indirect table. */
int vc_chain_add_indirect(struct vc_virtq *q, struct vc_chain *chain, const struct vc_desc *desc);

/* ---- translate.c: for queues with an endpoint; what is blocked has been reported ---- */

/* The area's gpa comes of it. False: it lies nowhere, or in pieces. */
bool vc_area_translate(struct vc_virtq *q, struct vc_area *area, bool written);
void vc_area_let_go(struct vc_area *area);
int vc_chain_add_translated(struct vc_virtq *q, struct vc_chain *chain, const struct vc_desc *desc);
void vc_chain_let_go(struct vc_chain *chain);
bool vc_virtq_read_translated(struct vc_virtq *q, uint64_t iova, void *buffer, uint32_t length);

static inline struct vc_translated *vc_chain_translated(struct vc_chain *chain)
{
	return chain->big ? chain->big->translated : chain->inline_translated;
}

/* ---- replay.c ---- */

/* Remember a chain, to be popped again. -ENOMEM. */
int vc_replay_keep(struct vc_virtq *q, struct vc_chain *chain);
void vc_replay_insert(struct vc_virtq *q, struct vc_replay *replay);
struct vc_replay *vc_replay_new(uint32_t count);
/* The oldest as a chain; errors as vc_chain_add(). */
int vc_replay_pop(struct vc_virtq *q, struct vc_chain *chain);
void vc_replay_clear(struct vc_virtq *q);

/* ---- inflight.c: where inflight.at is not NULL ---- */

/* The queue has been set up: after whom served it before. -EPROTO, and the device is broken. */
int vc_inflight_take_up(struct vc_virtq *q);
/* The oldest of what was in flight then; errors as vc_chain_add(). */
int vc_inflight_pop(struct vc_virtq *q, struct vc_chain *chain);
void vc_inflight_forget(struct vc_virtq *q);
/* A new chain is in flight; or is not. */
void vc_inflight_popped(struct vc_virtq *q, struct vc_chain *chain);
void vc_inflight_unpopped(struct vc_virtq *q, const struct vc_chain *chain);
/* Around the push of the ring; and after its flush, of so many. */
void vc_inflight_pushing(struct vc_virtq *q, const struct vc_chain *chain);
void vc_inflight_pushed(struct vc_virtq *q, const struct vc_chain *chain);
void vc_inflight_flushed(struct vc_virtq *q, uint32_t count);

/* Chains that come before those of the ring. */
static inline bool vc_virtq_has_again(const struct vc_virtq *q)
{
	return q->replay || q->inflight.again_at < q->inflight.again_count;
}

/* ---- split.c, packed.c ---- */

/* The chain that begins there; errors as vc_chain_add(). */
int vc_split_read_chain(struct vc_virtq *q, struct vc_chain *chain, uint16_t head);

struct vc_ring_ops {
	uint32_t (*area_length)(uint32_t size, enum vc_area_kind kind);
	uint8_t align[VC_AREA_COUNT];
	bool written[VC_AREA_COUNT]; /* by the device */
	/* Is there a chain to be popped? 1, 0, or -EPROTO. */
	int (*available)(struct vc_virtq *q);
	/* Fill in the next chain, which is available; errors as vc_chain_add(). */
	int (*pop)(struct vc_virtq *q, struct vc_chain *chain);
	void (*push)(struct vc_virtq *q, const struct vc_chain *chain, uint32_t written);
	/* Show what was pushed; true: the driver wants an interrupt. */
	bool (*flush)(struct vc_virtq *q);
	/* Tell the driver whether to notify. */
	void (*set_notify)(struct vc_virtq *q, bool on);
};
extern const struct vc_ring_ops vc_split_ops, vc_packed_ops;

static inline const struct vc_ring_ops *vc_ring_ops(const struct vc_virtq *q)
{
	return q->packed ? &vc_packed_ops : &vc_split_ops;
}

/* Would an index that moves from old to new pass event? (2.7.10.1) */
static inline bool vc_need_event(uint16_t event, uint16_t new, uint16_t old)
{
	return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

/* Fields that the driver writes at any time: read once, never again by the compiler. */
static inline uint64_t vc_guest_ld64(const void *p)
{
	const volatile struct {
		uint64_t value;
	} __attribute__((packed)) *at = p;

	return at->value;
}

static inline uint16_t vc_ring_ld16(const uint8_t *p)
{
	return atomic_load_explicit((const _Atomic uint16_t *)p, memory_order_acquire);
}

static inline void vc_ring_st16(uint8_t *p, uint16_t value)
{
	atomic_store_explicit((_Atomic uint16_t *)p, value, memory_order_release);
}

#endif
