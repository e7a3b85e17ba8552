/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * qcow2, versions 2 and 3 (QEMU's docs/interop/qcow2.txt).
 *
 * Threads. meta_lock serialises every change of metadata and is held over metadata I/O. table_lock is held for moments
 * only: it protects the L1 table and the cached L2 tables against who looks up an address without meta_lock. Data is
 * read and written with neither, under a range of guest clusters.
 *
 * Order on the disk. Refcounts grow before anything points to the clusters, and shrink after nothing does: new data and
 * refcounts are written and flushed before the refcount table, that before the L2 tables, those before the L1 table.
 * Freed clusters keep their refcount until what pointed to them has been overwritten and flushed. Whatever of it is
 * lost leaves unused clusters at worst.
 */
#ifndef VC_BLOCK_QCOW2_H
#define VC_BLOCK_QCOW2_H

#include <endian.h>

#include "block/impl.h"

#define QCOW2_MAGIC            0x514649fbu
#define QCOW2_COPIED           (1ull << 63) /* refcount is 1: may be written in place */
#define QCOW2_COMPRESSED       (1ull << 62)
#define QCOW2_ZERO             1ull
#define QCOW2_OFFSET_MASK      0x00fffffffffffe00ull
#define QCOW2_MAX_L1_BYTES     VC_MIB(32)
#define QCOW2_MAX_REFTABLE     VC_MIB(8)
#define QCOW2_L2_CACHE         VC_MIB(32)
#define QCOW2_REFCOUNT_CACHE   VC_MIB(8)
#define QCOW2_INCOMPAT_DIRTY   (1ull << 0)
#define QCOW2_INCOMPAT_CORRUPT (1ull << 1)

/* Byte offsets in the header. */
enum {
	QCOW2_H_MAGIC = 0,
	QCOW2_H_VERSION = 4,
	QCOW2_H_BACKING_OFFSET = 8,
	QCOW2_H_BACKING_SIZE = 16,
	QCOW2_H_CLUSTER_BITS = 20,
	QCOW2_H_SIZE = 24,
	QCOW2_H_CRYPT = 32,
	QCOW2_H_L1_SIZE = 36,
	QCOW2_H_L1_OFFSET = 40,
	QCOW2_H_REFTABLE_OFFSET = 48,
	QCOW2_H_REFTABLE_CLUSTERS = 56,
	QCOW2_H_SNAPSHOT_COUNT = 60,
	QCOW2_H_SNAPSHOT_OFFSET = 64,
	QCOW2_H_V2_LENGTH = 72,
	QCOW2_H_INCOMPATIBLE = 72,
	QCOW2_H_COMPATIBLE = 80,
	QCOW2_H_AUTOCLEAR = 88,
	QCOW2_H_REFCOUNT_ORDER = 96,
	QCOW2_H_LENGTH = 100,
	QCOW2_H_COMPRESSION = 104,
	QCOW2_H_MAX = 112,
};

enum { QCOW2_ZLIB = 0, QCOW2_ZSTD = 1 };

struct qcow2;

/* A table that is wholly in memory, as it is on the disk. */
struct qcow2_array {
	uint64_t *entries; /* big-endian */
	uint64_t count, offset;
	uint64_t dirty_first, dirty_end; /* entries to be written; empty: first >= end */
};

struct qcow2_table {
	uint64_t offset; /* 0: the slot is free */
	uint64_t *data;  /* one cluster, big-endian */
	uint64_t used;   /* when, by cache->clock */
	bool dirty;
	struct qcow2_table *chain; /* same hash */
};

/*
 * Compressed clusters as they were unpacked last: requests are mostly smaller than those. What is at an entry's place
 * never changes while an entry says so, as we write none.
 */
enum { QCOW2_UNPACKED = 8 };
struct qcow2_unpacked {
	pthread_mutex_t lock;             /* protects all; taken last, for a copy */
	uint64_t entries[QCOW2_UNPACKED]; /* of the L2 table; 0: the slot is free */
	uint8_t *clusters[QCOW2_UNPACKED];
	unsigned next;
};

/* Of L2 tables, or of refcount blocks. Changed with meta_lock; hash and contents with table_lock as well. */
struct qcow2_cache {
	struct qcow2 *q;
	struct qcow2_table *slots, **hash;
	uint32_t count, hash_mask, dirty;
	uint64_t clock;
	int (*before_write)(struct qcow2 *q); /* what must be on the disk before these tables; NULL: nothing */
};

struct qcow2_freed {
	uint64_t cluster, count;
};

struct qcow2 {
	struct vc_block *block;
	struct vc_file *file;
	struct vc_ranges ranges; /* of guest clusters */
	bool dirty;              /* the refcounts on the disk were not right when it was opened */
	/* constant */
	uint32_t version, cluster_bits, l2_bits, refcount_order, compression;
	uint64_t cluster_size;
	uint64_t snapshot_offset;
	uint32_t snapshot_count;
	pthread_mutex_t meta_lock, table_lock; /* in this order; see above */
	struct qcow2_array l1;
	struct qcow2_cache l2_cache;
	/* all that follows: with meta_lock */
	struct qcow2_array reftable;
	struct qcow2_cache refcount_cache;
	uint64_t free_hint; /* no cluster below is free */
	uint64_t end;       /* first cluster that nothing has used; UINT64_MAX on block devices, which may hold anything */
	_Atomic uint64_t limit; /* clusters in the file: nothing that the tables name lies beyond; read without the lock */
	struct qcow2_freed *freed;
	uint32_t freed_count, freed_room;
	_Atomic bool corrupt; /* nothing is written any more */
	struct qcow2_unpacked unpacked;
};

/* What lies at a guest address. */
enum qcow2_kind { QCOW2_UNALLOCATED, QCOW2_ZEROED, QCOW2_DATA, QCOW2_PACKED };
struct qcow2_extent {
	enum qcow2_kind kind;
	bool in_place;   /* DATA: may be overwritten where it is */
	uint64_t length; /* guest bytes from the address on for which this is true */
	uint64_t host;   /* DATA: of the address; PACKED: the entry */
};

static inline uint64_t qcow2_l1_index(const struct qcow2 *q, uint64_t offset)
{
	return offset >> (q->cluster_bits + q->l2_bits);
}
static inline uint64_t qcow2_l2_index(const struct qcow2 *q, uint64_t offset)
{
	return offset >> q->cluster_bits & ((1ull << q->l2_bits) - 1);
}
/* Clusters that one refcount block counts, as a power of 2. */
static inline unsigned qcow2_refblock_bits(const struct qcow2 *q)
{
	return q->cluster_bits + 3 - q->refcount_order;
}
static inline uint64_t qcow2_clusters(const struct qcow2 *q, uint64_t bytes)
{
	return (bytes >> q->cluster_bits) + !!(bytes & (q->cluster_size - 1));
}
static inline uint64_t qcow2_entry(const struct qcow2_array *array, uint64_t index)
{
	return be64toh(array->entries[index]);
}

/* qcow2_header.c: everything in the header and behind it, checked. */
int qcow2_read_header(struct qcow2 *q, const struct vc_block_options *options);
int qcow2_load_array(struct qcow2 *q, const char *name, uint64_t offset, uint64_t count, struct qcow2_array *array);
void qcow2_set_entry(struct qcow2_array *array, uint64_t index, uint64_t value); /* marks it as dirty */
int qcow2_write_array(struct qcow2 *q, struct qcow2_array *array);
/* Something in the image cannot be: says so in the message, in the log of errors and in the image. -EIO */
int qcow2_corrupt(struct qcow2 *q, const char *format, ...) __attribute__((format(printf, 2, 3), cold));
/* qcow2_repair.c: with a message */
int qcow2_repair(struct qcow2 *q);

/* qcow2_snapshot.c */
enum { QCOW2_MAX_NAME = 255 };
struct qcow2_snapshot {
	uint64_t l1_offset, size;
	uint32_t l1_count;
	char id[QCOW2_MAX_NAME + 1], name[QCOW2_MAX_NAME + 1];
};
/* The one at *at, which moves on to the next. */
int qcow2_next_snapshot(struct qcow2 *q, uint64_t *at, struct qcow2_snapshot *s);
/* makes the L1 table and size those of a snapshot. */
int qcow2_find_snapshot(struct qcow2 *q, const char *name, uint64_t *l1_offset, uint64_t *l1_count, uint64_t *size);

/* qcow2_cache.c; meta_lock held but for peek. A table stays until the next get or new of the same cache. */
int qcow2_cache_init(struct qcow2_cache *cache, struct qcow2 *q, uint64_t bytes, int (*before_write)(struct qcow2 *q));
void qcow2_cache_fini(struct qcow2_cache *cache);
uint64_t *qcow2_cache_peek(struct qcow2_cache *cache, uint64_t offset); /* table_lock held; NULL: not there */
int qcow2_cache_get(struct qcow2_cache *cache, uint64_t offset, struct qcow2_table **table);
int qcow2_cache_new(struct qcow2_cache *cache, uint64_t offset, struct qcow2_table **table); /* zeroes, dirty */
void qcow2_cache_set(struct qcow2_cache *cache, struct qcow2_table *table, uint64_t index, uint64_t value);
void qcow2_cache_dirty(struct qcow2_cache *cache, struct qcow2_table *table);
void qcow2_cache_drop(struct qcow2_cache *cache, uint64_t offset);
int qcow2_cache_write(struct qcow2_cache *cache);

/* qcow2_refcount.c; meta_lock held */
int qcow2_refcount(struct qcow2 *q, uint64_t cluster, uint64_t *count);
int qcow2_set_refcount(struct qcow2 *q, uint64_t cluster, uint64_t count);
/* From min to max clusters in a row; refcount 1. fresh: nothing was ever there, they read as zeroes. */
int qcow2_allocate(struct qcow2 *q, uint64_t min, uint64_t max, uint64_t *host, uint64_t *count, bool *fresh);
/* Nothing on the disk ever pointed there: free at once. */
void qcow2_unallocate(struct qcow2 *q, uint64_t host, uint64_t count);
/* Free once the tables are on the disk. */
int qcow2_free_later(struct qcow2 *q, uint64_t host, uint64_t count);
int qcow2_free_entry_later(struct qcow2 *q, uint64_t entry); /* of an L2 table */
int qcow2_apply_freed(struct qcow2 *q);                      /* they are on the disk */
/* qcow2_reftable.c: a block of the refcount table at index; 1: it was made just now, and took a cluster */
int qcow2_need_refblock(struct qcow2 *q, uint64_t index);

/* qcow2_flush.c; meta_lock held */
int qcow2_before_l2(struct qcow2 *q); /* refcounts and data are on the disk afterwards */
int qcow2_write_back(struct qcow2 *q);
int qcow2_flush_locked(struct qcow2 *q);
int qcow2_flush(struct qcow2 *q); /* without */

/* qcow2_map.c */
/* 0; -EAGAIN: may_load is false and the table is not in memory, or something is wrong with it */
int qcow2_lookup(struct qcow2 *q, uint64_t offset, uint64_t length, bool may_load, struct qcow2_extent *extent);
/* meta_lock held: the L2 table for offset, to be written */
int qcow2_l2_for_write(struct qcow2 *q, uint64_t offset, struct qcow2_table **table);

/* qcow2_read.c, qcow2_write.c, qcow2_zero.c: waiting; the caller has the range of guest clusters */
int qcow2_read(struct qcow2 *q, uint64_t offset, const struct vc_span *span);
int qcow2_write(struct qcow2 *q, uint64_t offset, const struct vc_span *span);
int qcow2_zero(struct qcow2 *q, uint64_t offset, uint64_t length, bool may_unmap);
int qcow2_discard(struct qcow2 *q, uint64_t offset, uint64_t length);
int qcow2_cut_off(struct qcow2 *q, uint64_t size); /* what lies beyond */
/* qcow2_compress.c */
int qcow2_read_packed(struct qcow2 *q, uint64_t entry, void *cluster);
void qcow2_packed_place(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *length);
/* qcow2_resize.c; with all ranges */
int qcow2_resize(struct qcow2 *q, uint64_t size);

#endif
