/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "net/mac_table.h"

#include <stddef.h>

static struct vc_mac_bucket *bucket_of(struct vc_mac_table *table, vc_mac_key key)
{
	return &table->buckets[(key * 0x9e3779b97f4a7c15ull) >> 54];
}

static unsigned port_of(uint64_t value)
{
	return (unsigned)(value >> 32);
}

/* Seconds since the entry was last seen. Another thread's clock may be one ahead of ours. */
static uint32_t age_of(uint64_t value, uint32_t now)
{
	int32_t age = (int32_t)(now - (uint32_t)value);

	return age < 0 ? 0 : (uint32_t)age;
}

/* Loads and stores are acquire and release, which keeps those of the sequence number around them. */
static int find_entry(struct vc_mac_bucket *b, vc_mac_key key, uint64_t *value)
{
	uint32_t sequence = atomic_load_explicit(&b->sequence, memory_order_acquire);
	int way = MAC_TABLE_WAYS - 1;

	while (way >= 0 && atomic_load_explicit(&b->entries[way].key, memory_order_acquire) != key)
		way--;
	if (way >= 0)
		*value = atomic_load_explicit(&b->entries[way].value, memory_order_acquire);
	return sequence & 1 || atomic_load_explicit(&b->sequence, memory_order_relaxed) != sequence ? -1 : way;
}

int vc_mac_find(struct vc_mac_table *table, vc_mac_key key, uint32_t now)
{
	uint64_t value;

	if (find_entry(bucket_of(table, key), key, &value) < 0 || age_of(value, now) > MAC_TABLE_AGE)
		return -1;
	return (int)port_of(value);
}

/* The entry of that key, a free one, or the one not seen for the longest time. Inside the bucket. */
static struct vc_mac_entry *place(struct vc_mac_bucket *b, vc_mac_key key, uint32_t now)
{
	struct vc_mac_entry *best = NULL;
	uint32_t best_age = 0;

	for (unsigned way = 0; way < MAC_TABLE_WAYS; way++) {
		struct vc_mac_entry *e = &b->entries[way];
		uint64_t has = atomic_load_explicit(&e->key, memory_order_relaxed);
		uint32_t age = has ? age_of(atomic_load_explicit(&e->value, memory_order_relaxed), now) : UINT32_MAX;

		if (has == key)
			return e;
		if (!best || age > best_age) {
			best = e;
			best_age = age;
		}
	}
	return best;
}

/* Inside the bucket. */
static void put(struct vc_mac_table *table, struct vc_mac_bucket *b, vc_mac_key key, unsigned port, uint32_t now)
{
	struct vc_mac_entry *e = place(b, key, now);
	uint64_t old = atomic_load_explicit(&e->key, memory_order_relaxed);
	unsigned old_port = port_of(atomic_load_explicit(&e->value, memory_order_relaxed));

	if (!old || old_port != port) {
		if (atomic_load_explicit(&table->used[port], memory_order_relaxed) >= MAC_TABLE_PORT_MAX)
			return;
		atomic_fetch_add_explicit(&table->used[port], 1, memory_order_relaxed);
		if (old)
			atomic_fetch_sub_explicit(&table->used[old_port], 1, memory_order_relaxed);
	}
	atomic_store_explicit(&e->key, key, memory_order_release);
	atomic_store_explicit(&e->value, (uint64_t)port << 32 | now, memory_order_release);
}

void vc_mac_learn(struct vc_mac_table *table, vc_mac_key key, unsigned port, uint32_t now)
{
	struct vc_mac_bucket *b = bucket_of(table, key);
	uint32_t sequence;
	uint64_t value;

	if (find_entry(b, key, &value) >= 0 && port_of(value) == port && (uint32_t)value == now)
		return;
	sequence = atomic_load_explicit(&b->sequence, memory_order_relaxed);
	if (sequence & 1 || !atomic_compare_exchange_strong(&b->sequence, &sequence, sequence + 1))
		return;
	put(table, b, key, port, now);
	atomic_store_explicit(&b->sequence, sequence + 2, memory_order_release);
}

void vc_mac_forget(struct vc_mac_table *table, unsigned port)
{
	for (unsigned i = 0; i < MAC_TABLE_BUCKETS; i++) {
		for (unsigned way = 0; way < MAC_TABLE_WAYS; way++) {
			struct vc_mac_entry *e = &table->buckets[i].entries[way];

			if (atomic_load(&e->key) && port_of(atomic_load(&e->value)) == port)
				atomic_store(&e->key, 0);
		}
	}
	atomic_store(&table->used[port], 0);
}
