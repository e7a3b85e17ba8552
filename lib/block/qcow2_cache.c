/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A bounded number of tables of one cluster each, the least recently used one makes room. */
#include <stdlib.h>

#include "block/qcow2.h"

enum { MIN_TABLES = 4, MAX_TABLES = 4096 };

int qcow2_cache_init(struct qcow2_cache *cache, struct qcow2 *q, uint64_t bytes, int (*before_write)(struct qcow2 *q))
{
	uint64_t count = bytes >> q->cluster_bits;
	uint32_t buckets = 1;

	*cache = (struct qcow2_cache){.q = q, .before_write = before_write};
	cache->count = count < MIN_TABLES ? MIN_TABLES : count > MAX_TABLES ? MAX_TABLES : (uint32_t)count;
	while (buckets < cache->count)
		buckets *= 2;
	cache->hash_mask = buckets - 1;
	cache->slots = calloc(cache->count, sizeof cache->slots[0]);
	cache->hash = calloc(buckets, sizeof(struct qcow2_table *));
	return cache->slots && cache->hash ? 0 : vc_fail(ENOMEM, "%s: no memory for its tables", q->block->path);
}

void qcow2_cache_fini(struct qcow2_cache *cache)
{
	for (uint32_t i = 0; cache->slots && i < cache->count; i++)
		free(cache->slots[i].data);
	free(cache->slots);
	free(cache->hash);
}

static struct qcow2_table **bucket(struct qcow2_cache *cache, uint64_t offset)
{
	return &cache->hash[(offset >> cache->q->cluster_bits) & cache->hash_mask];
}

static struct qcow2_table *find(struct qcow2_cache *cache, uint64_t offset)
{
	struct qcow2_table *table = *bucket(cache, offset);

	while (table && table->offset != offset)
		table = table->chain;
	if (table)
		table->used = ++cache->clock;
	return table;
}

uint64_t *qcow2_cache_peek(struct qcow2_cache *cache, uint64_t offset)
{
	struct qcow2_table *table = find(cache, offset);

	return table ? table->data : NULL;
}

static struct qcow2_table *find_locked(struct qcow2_cache *cache, uint64_t offset)
{
	struct qcow2_table *table;

	pthread_mutex_lock(&cache->q->table_lock);
	table = find(cache, offset);
	pthread_mutex_unlock(&cache->q->table_lock);
	return table;
}

static void publish(struct qcow2_cache *cache, struct qcow2_table *table, uint64_t offset)
{
	pthread_mutex_lock(&cache->q->table_lock);
	table->offset = offset;
	table->used = ++cache->clock;
	table->chain = *bucket(cache, offset);
	*bucket(cache, offset) = table;
	pthread_mutex_unlock(&cache->q->table_lock);
}

static void withdraw(struct qcow2_cache *cache, struct qcow2_table *table)
{
	struct qcow2_table **link = bucket(cache, table->offset);

	pthread_mutex_lock(&cache->q->table_lock);
	while (*link != table)
		link = &(*link)->chain;
	*link = table->chain;
	table->offset = 0;
	pthread_mutex_unlock(&cache->q->table_lock);
	cache->dirty -= table->dirty;
	table->dirty = false;
}

static int write_table(struct qcow2_cache *cache, struct qcow2_table *table)
{
	int r = vc_file_pwrite(cache->q->file, table->offset, table->data, cache->q->cluster_size);

	if (!r) {
		table->dirty = false;
		cache->dirty--;
	}
	return r;
}

int qcow2_cache_write(struct qcow2_cache *cache)
{
	for (uint32_t i = 0; cache->dirty && i < cache->count; i++) {
		int r = cache->slots[i].dirty ? write_table(cache, &cache->slots[i]) : 0;

		if (r)
			return r;
	}
	return 0;
}

/* A free slot, or the one whose use is longest ago. */
static struct qcow2_table *oldest_slot(struct qcow2_cache *cache)
{
	struct qcow2_table *oldest = &cache->slots[0];

	pthread_mutex_lock(&cache->q->table_lock);
	for (uint32_t i = 1; i < cache->count && oldest->offset; i++) {
		struct qcow2_table *slot = &cache->slots[i];

		if (!slot->offset || slot->used < oldest->used)
			oldest = slot;
	}
	pthread_mutex_unlock(&cache->q->table_lock);
	return oldest;
}

/* A slot with a buffer and without a table. Of dirty ones all are written together: the flush before costs most. */
static int make_room(struct qcow2_cache *cache, struct qcow2_table **out)
{
	struct qcow2_table *oldest = oldest_slot(cache);
	int r = 0;

	if (oldest->dirty) {
		r = cache->before_write ? cache->before_write(cache->q) : 0;
		if (!r)
			r = qcow2_cache_write(cache);
	}
	if (r)
		return r;
	if (oldest->offset)
		withdraw(cache, oldest);
	if (!oldest->data && posix_memalign((void **)&oldest->data, VC_PAGE_SIZE, cache->q->cluster_size)) {
		oldest->data = NULL;
		return -ENOMEM;
	}
	*out = oldest;
	return 0;
}

int qcow2_cache_get(struct qcow2_cache *cache, uint64_t offset, struct qcow2_table **out)
{
	struct qcow2_table *table = find_locked(cache, offset);
	int r;

	if (!table) {
		r = make_room(cache, &table);
		if (!r)
			r = vc_file_pread(cache->q->file, offset, table->data, cache->q->cluster_size);
		if (r)
			return r;
		publish(cache, table, offset);
	}
	*out = table;
	return 0;
}

int qcow2_cache_new(struct qcow2_cache *cache, uint64_t offset, struct qcow2_table **out)
{
	struct qcow2_table *table;
	int r;

	qcow2_cache_drop(cache, offset);
	r = make_room(cache, &table);
	if (r)
		return r;
	memset(table->data, 0, cache->q->cluster_size);
	publish(cache, table, offset);
	qcow2_cache_dirty(cache, table);
	*out = table;
	return 0;
}

void qcow2_cache_dirty(struct qcow2_cache *cache, struct qcow2_table *table)
{
	cache->dirty += !table->dirty;
	table->dirty = true;
}

void qcow2_cache_set(struct qcow2_cache *cache, struct qcow2_table *table, uint64_t index, uint64_t value)
{
	pthread_mutex_lock(&cache->q->table_lock);
	table->data[index] = htobe64(value);
	pthread_mutex_unlock(&cache->q->table_lock);
	qcow2_cache_dirty(cache, table);
}

void qcow2_cache_drop(struct qcow2_cache *cache, uint64_t offset)
{
	struct qcow2_table *table = find_locked(cache, offset);

	if (table)
		withdraw(cache, table);
}
