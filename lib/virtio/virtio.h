/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A virtio device (Virtual I/O Device 1.2): the half that all devices share, between a frontend (one file a device, a
 * struct vc_virtio_ops) and a transport (mmio.c, pci.c).
 *
 * Threads. A queue is served by its worker: the vm's loop, or a thread of the queue's own. Everything a driver does
 * through the transport comes on vcpu threads. start, stop and notify of one device never overlap where they concern
 * the same queue: stop returns only once no notify runs. No lock of the library is held in any callback.
 *
 * Guest memory. What vc_virtq_pop() hands out stays valid until the chain is pushed or dropped, whatever becomes of the
 * memory slots meanwhile: the slots are pinned.
 */
#ifndef VC_VIRTIO_VIRTIO_H
#define VC_VIRTIO_VIRTIO_H

#include <sys/uio.h>

#include "chipset/chipset.h"
#include "device/device.h"

struct vc_virtio;
struct vc_virtq;
struct vc_iommu_endpoint;

/* Device IDs (5) */
enum vc_virtio_id {
	VC_VIRTIO_NET = 1,
	VC_VIRTIO_BLK = 2,
	VC_VIRTIO_CONSOLE = 3,
	VC_VIRTIO_RNG = 4,
	VC_VIRTIO_BALLOON = 5,
	VC_VIRTIO_9P = 9,
	VC_VIRTIO_GPU = 16,
	VC_VIRTIO_INPUT = 18,
	VC_VIRTIO_VSOCK = 19,
	VC_VIRTIO_IOMMU = 23,
	VC_VIRTIO_MEM = 24,
	VC_VIRTIO_FS = 26,
	VC_VIRTIO_PMEM = 27,
};

/* Reserved feature bits (6). The common half offers the rings' ones by itself. */
#define VC_VIRTIO_F_NOTIFY_ON_EMPTY (1ull << 24)
#define VC_VIRTIO_F_INDIRECT_DESC   (1ull << 28)
#define VC_VIRTIO_F_EVENT_IDX       (1ull << 29)
#define VC_VIRTIO_F_VERSION_1       (1ull << 32)
#define VC_VIRTIO_F_ACCESS_PLATFORM (1ull << 33)
#define VC_VIRTIO_F_RING_PACKED     (1ull << 34)
#define VC_VIRTIO_F_IN_ORDER        (1ull << 35)
#define VC_VIRTIO_F_RING_RESET      (1ull << 40)

/* Device status (2.1) */
#define VC_VIRTIO_S_ACKNOWLEDGE 1u
#define VC_VIRTIO_S_DRIVER      2u
#define VC_VIRTIO_S_DRIVER_OK   4u
#define VC_VIRTIO_S_FEATURES_OK 8u
#define VC_VIRTIO_S_NEEDS_RESET 64u
#define VC_VIRTIO_S_FAILED      128u

#define VC_VIRTQ_MAX_SIZE 1024u /* entries, and segments of one chain */

/* ---- for frontends ---- */

struct vc_virtio_ops {
	const char *type; /* "virtio-blk" */
	enum vc_virtio_id id;
	uint32_t pci_class;     /* class code for the PCI transport, 0xCCSSPP */
	uint16_t legacy_device; /* PCI device ID with a legacy interface (4.1.2.1); 0: has none */
	uint32_t config_size;   /* bytes of device-specific configuration */
	bool untranslated;      /* its driver gives GPAs, whether the device is behind an IOMMU or not */
	bool in_order;          /* it pushes chains in the order in which it popped them: IN_ORDER may be offered */
	/* Feature bits of the device type that this device offers; constant while the driver runs. */
	uint64_t (*features)(void *ctx);
	/* The driver set FEATURES_OK. Negative: refused. NULL: all right. */
	int (*negotiated)(void *ctx, uint64_t features);
	/* Configuration space; the range lies within config_size. write NULL: writes vanish. */
	void (*config_read)(void *ctx, uint32_t offset, void *data, uint32_t length);
	void (*config_write)(void *ctx, uint32_t offset, const void *data, uint32_t length);
	/* DRIVER_OK: queues that the driver set up are usable from here on. NULL allowed. */
	void (*start)(void *ctx);
	/*
	 * Reset, removal, or the end of the vm. No notify runs or will run until the next start. On return no chain is
	 * held: what is in flight has been waited for, or dropped.
	 */
	void (*stop)(void *ctx);
	/* The driver is gone: back to how it was made. Stopped; also before a load. NULL allowed. */
	void (*reset)(void *ctx);
	/* There may be new chains in queue q (vc_virtq_index). On the queue's worker. */
	void (*notify)(void *ctx, struct vc_virtq *q);
	/* A served queue has called: on the loop, before the driver is interrupted. NULL allowed. */
	void (*called)(void *ctx);
	/* The state beyond the common half's: as in vcore_device_ops. The device is stopped. NULL: there is none. */
	int64_t (*save)(void *ctx, void *buffer, size_t length);
	int (*load)(void *ctx, const void *buffer, size_t length);
	/* The vm is reset; the device is stopped. NULL allowed. */
	void (*vm_reset)(void *ctx);
	/* What it has counted; how many rows. Any thread. NULL: nothing. */
	unsigned (*statistics)(void *ctx, struct vc_stat stats[VC_STATS_MAX]);
	/* Exactly once, also when adding it failed. */
	void (*destroy)(void *ctx);
};

struct vc_virtio_config {
	const struct vc_virtio_ops *ops;
	void *ctx;
	uint32_t queues;       /* how many there are; 1 to 1024 */
	const uint16_t *sizes; /* largest size of each, a power of 2; NULL: 256 for all */
	bool worker_threads;   /* a thread for each queue instead of the vm's loop */
	uint32_t served;       /* the first so many are served by somebody else (served.h), on split rings */
};

/*
 * Make the device from its properties and plug it in: property "transport" ("pci" where the machine has one, else
 * "mmio"), "packed" (off), "event_idx" (on), "indirect" (on), "worker" ("loop" or "thread"), those of the transport.
 * The last thing that create() of a virtio device type calls; the caller has asked for all properties of its own
 * before. On failure ops->destroy has been called. out: the common half, for the frontend; valid until destroy.
 */
int vc_virtio_add(struct vc_env *env, struct vc_props *props, const struct vc_virtio_config *config,
                  struct vc_virtio **out, struct vc_dev **dev);

/* What was negotiated; all bits of the device's own half and the reserved ones. */
uint64_t vc_virtio_features(const struct vc_virtio *v);
static inline bool vc_virtio_has(const struct vc_virtio *v, uint64_t feature);
/* The n-th queue; NULL when the driver has not set it up or the device is not started. */
struct vc_virtq *vc_virtio_queue(struct vc_virtio *v, unsigned n);
/* Something in the configuration changed: new generation, interrupt. Any thread. */
void vc_virtio_config_changed(struct vc_virtio *v);
/* The driver broke a rule: NEEDS_RESET, config interrupt, a log line; the queues stand still until reset. Any thread.
 */
void vc_virtio_broken(struct vc_virtio *v, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Have notify of queue n called on its worker, soon: from a completion, a watch. Any thread; cheap when already asked.
 */
void vc_virtio_wake(struct vc_virtio *v, unsigned n);

/* ---- queues: on the queue's worker, or anywhere by agreement within the frontend: one thread at a time ---- */

/* A descriptor chain: first what the device reads, then what it writes. Owned by the frontend from pop to push. */
struct vc_virtq_chain {
	struct vc_virtq *queue;
	struct iovec *out, *in; /* host memory; adjacent descriptors are not merged */
	uint32_t out_count, in_count;
	uint32_t out_bytes, in_bytes;
	void *user; /* the frontend's own */
};

/* Guest-physical address of in[n], as it was when the chain was popped. */
uint64_t vc_virtq_in_gpa(const struct vc_virtq_chain *chain, unsigned n);
unsigned vc_virtq_index(const struct vc_virtq *q);
struct vc_virtio *vc_virtq_device(const struct vc_virtq *q);
/* The next chain: 1; 0: there is none now; -EPROTO: the driver broke a rule, and the device is broken now (no need to
 * say more). */
int vc_virtq_pop(struct vc_virtq *q, struct vc_virtq_chain **chain);
/* Whether there is one, for a device that looks again and again: with notifications off, and not for long. */
bool vc_virtq_waiting(struct vc_virtq *q);
/* Give it back, with so many bytes written from the start of `in`. The driver sees it at the latest at
 * vc_virtq_flush(). */
void vc_virtq_push(struct vc_virtq_chain *chain, uint32_t written);
/* Undo the last pop: the chain will be popped again. Only of the newest chain, none pushed since. */
void vc_virtq_unpop(struct vc_virtq_chain *chain);
/* Free it without telling the driver: from stop, when the driver is gone. */
void vc_virtq_drop(struct vc_virtq_chain *chain);
/* Make pushed chains visible and interrupt the driver if it wants that. */
void vc_virtq_flush(struct vc_virtq *q);
/*
 * Notifications: off while the device looks by itself. Turning them on returns true when chains came in between: go on
 * popping. (2.7.10, 2.8.10)
 */
void vc_virtq_notify_off(struct vc_virtq *q);
bool vc_virtq_notify_on(struct vc_virtq *q);

/* Through what the driver's addresses go, as negotiated. NULL: they are GPAs, and the rings can be left to somebody who
 * knows of those only, such as the host's kernel. */
struct vc_iommu_endpoint *vc_virtio_endpoint(const struct vc_virtio *v);
/* Memory that the driver has named otherwise than in a descriptor: 0; -EFAULT with a sentence. Any thread. */
int vc_virtio_dma_read(struct vc_virtio *v, uint64_t address, void *buffer, uint64_t length);

/* Copy between a chain's vectors and a buffer, from byte `at` on; returns how much there was. */
size_t vc_iov_to_buffer(const struct iovec *iov, unsigned count, size_t at, void *buffer, size_t length);
size_t vc_iov_from_buffer(const struct iovec *iov, unsigned count, size_t at, const void *buffer, size_t length);
/* The vectors of length bytes from byte `at` on, as far as there are some and room for them; returns how many. */
unsigned vc_iov_slice(const struct iovec *iov, unsigned count, size_t at, size_t length, struct iovec *piece,
                      unsigned room);

/* ---- for transports ---- */

struct vc_virtio_transport {
	/* Tell the driver of a used buffer in queue n, or of the configuration. Any thread, no lock held. */
	void (*interrupt)(void *ctx, unsigned n);
	void (*config_interrupt)(void *ctx);
	/* The message that stands for the former; false: there is none now. With a lock of the common half held. NULL:
	 * never. */
	bool (*message)(void *ctx, unsigned n, uint64_t *address, uint32_t *data);
	void *ctx;
	bool legacy; /* drivers from before virtio 1.0 are served as well: one may do without VERSION_1 */
};

/* The function that the device is, behind an IOMMU; before the guest can start it. */
void vc_virtio_set_endpoint(struct vc_virtio *v, struct vc_iommu_endpoint *endpoint);

/* Where a driver put a queue. */
struct vc_virtq_setup {
	uint32_t size;
	uint64_t descriptors, driver, device; /* as the driver addresses memory: descriptor table, available ring / driver
	                                         area, used ring / device area */
	bool ready;
};

/* Takes ctx over as vc_virtio_add() does. The transport's device calls the functions below, and free in its destroy. */
int vc_virtio_new(struct vc_env *env, const struct vc_virtio_config *config, uint64_t ring_features,
                  const struct vc_virtio_transport *transport, struct vc_virtio **v);
void vc_virtio_free(struct vc_virtio *v); /* stops, calls ops->destroy */
const struct vc_virtio_ops *vc_virtio_ops(const struct vc_virtio *v);
uint32_t vc_virtio_queues(const struct vc_virtio *v);
uint32_t vc_virtq_size_max(const struct vc_virtio *v, unsigned n);
/* Registers as the driver sees them (4.1.4.3, 4.2.2); wrong values are the driver's fault and never an error here. */
uint64_t vc_virtio_device_features(const struct vc_virtio *v);
uint64_t vc_virtio_driver_features(const struct vc_virtio *v);
void vc_virtio_set_driver_features(struct vc_virtio *v, uint64_t features);
/* By halves, as both transports have them; beyond the second there is nothing. */
uint32_t vc_virtio_features_half(uint64_t features, uint32_t select);
void vc_virtio_set_driver_half(struct vc_virtio *v, uint32_t select, uint32_t value);
/* Half of one of a queue's addresses: of descriptors, driver, device. */
void vc_virtq_set_half(struct vc_virtq_setup *setup, unsigned which, bool high, uint32_t value);
uint8_t vc_virtio_status(const struct vc_virtio *v);
void vc_virtio_set_status(struct vc_virtio *v, uint8_t status); /* 0: reset */
void vc_virtq_get_setup(struct vc_virtio *v, unsigned n, struct vc_virtq_setup *setup);
void vc_virtq_set_setup(struct vc_virtio *v, unsigned n, const struct vc_virtq_setup *setup);
void vc_virtq_reset(struct vc_virtio *v, unsigned n); /* RING_RESET */
/*
 * Of a queue that is not set up: it has been used before, up to there. A split queue's position is the next entry, free
 * running; a packed one's the next descriptor, with the wrap counter in bit 15, and once more in the upper 16 bits.
 */
void vc_virtq_set_position(struct vc_virtio *v, unsigned n, uint32_t position);
/* As vc_virtq_reset() of a queue whose chains come back in order, or when it is stopped: the position from which on
 * somebody else, or we again, must take chains. */
uint32_t vc_virtq_take_position(struct vc_virtio *v, unsigned n);
/*
 * Memory where a queue keeps what is in flight, all zero at first. It stays when this process ends, and who sets the
 * queue up with it again pops first what was in flight. at: of a queue that is not set up; NULL: nowhere; size: largest
 * of the queue. -ENOMEM.
 */
uint64_t vc_virtq_inflight_bytes(bool packed, uint32_t size);
int vc_virtq_set_inflight(struct vc_virtio *v, unsigned n, uint8_t *at, uint32_t size);
uint32_t vc_virtio_generation(const struct vc_virtio *v);
void vc_virtio_config_read(struct vc_virtio *v, uint32_t offset, void *data, uint32_t length);
void vc_virtio_config_write(struct vc_virtio *v, uint32_t offset, const void *data, uint32_t length);
/* The driver rang the doorbell of queue n. */
void vc_virtio_kick(struct vc_virtio *v, unsigned n);
/* The doorbell of queue n is at that place now, or is no more (fd ignored): the kernel may ring it in our stead. */
void vc_virtio_doorbell(struct vc_virtio *v, unsigned n, const struct vc_ioeventfd *where, bool add);
/* What message() says may be something else now. */
void vc_virtio_route(struct vc_virtio *v);
/* The vm is reset, and the device has been. */
void vc_virtio_vm_reset(struct vc_virtio *v);
/* State of the common half and the frontend's behind it; for save and load of the transport's device. */
int64_t vc_virtio_save(struct vc_virtio *v, void *buffer, size_t length);
int vc_virtio_load(struct vc_virtio *v, const void *buffer, size_t length);
/* vc_dev.hold, with the vc_virtio: stopped as for a save, its chains kept. */
void vc_virtio_hold(void *virtio, bool on);

/* Who takes virtio devices where there is no machine to plug them in: vc_env.virtio_host. */
struct vc_virtio_host {
	/* In place of the transports below, with their contract. */
	int (*add)(struct vc_env *env, struct vc_props *props, const struct vc_virtio_config *config,
	           uint64_t ring_features, struct vc_virtio **out, struct vc_dev **dev);
	uint32_t queue_size; /* where no property says how large queues may be */
};

static inline uint32_t vc_virtio_default_size(const struct vc_env *env, uint32_t in_a_machine)
{
	return env->virtio_host ? env->virtio_host->queue_size : in_a_machine;
}

/* The transports. ring_features: as vc_virtio_new(). */
int vc_virtio_mmio_add(struct vc_env *env, struct vc_props *props, const struct vc_virtio_config *config,
                       uint64_t ring_features, struct vc_virtio **out, struct vc_dev **dev);
int vc_virtio_pci_add(struct vc_env *env, struct vc_props *props, const struct vc_virtio_config *config,
                      uint64_t ring_features, struct vc_virtio **out, struct vc_dev **dev);

static inline bool vc_virtio_has(const struct vc_virtio *v, uint64_t feature)
{
	return vc_virtio_features(v) & feature;
}

/* What the help of every virtio device type ends with: the properties that vc_virtio_add() reads. */
#define VC_VIRTIO_PROPERTIES                                                                                \
	"transport  pci or mmio (pci, where the machine has it)\n"                                              \
	"packed     on: packed virtqueues are offered (off)\n"                                                  \
	"event_idx  notifications at a chosen point of a queue are offered (on)\n"                              \
	"indirect   indirect descriptors are offered (on)\n"                                                    \
	"worker     loop: the vm's loop serves the queues; thread: each has a thread (loop, 9p: thread)\n"      \
	"addr       pci: device or device.function; mmio: address of the registers (free one)\n"                \
	"legacy     pci: on: the legacy interface is there as well, for drivers from before virtio 1.0 (off)\n" \
	"irq        mmio: interrupt line (the first free one)\n"

#endif
