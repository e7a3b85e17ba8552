/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is different in a page since it was sent. A delta is a sequence of pieces, which go through the page from its
 * begin:
 *
 *   u8 words of 8 bytes that stay as they are, u8 words that are new: n, then n times 8 bytes
 *
 * What no piece reaches stays.
 */
#ifndef VC_VM_MIGRATE_DELTA_H
#define VC_VM_MIGRATE_DELTA_H

#include <stdbool.h>
#include <stdint.h>

/* Into that much room: the length; 0: nothing is different; -1: it does not fit. */
int32_t vc_mig_delta_encode(const uint8_t *was, const uint8_t *is, uint8_t *to, uint32_t room);
/* A peer's. 0; -EPROTO: it goes beyond the page, or is cut off. */
int vc_mig_delta_apply(uint8_t *page, const uint8_t *delta, uint32_t length);

/* Pages as they were sent last: of each place in memory that shares a place here, the last one. One thread's. */
struct vc_mig_cache {
	uint64_t places; /* 0: nothing is kept */
	uint64_t *key;   /* 0: the place is free */
	uint8_t *page;
	uint32_t ways; /* of groups of 8 pages, every so manieth is kept here */
};

/* 0 or -ENOMEM; vc_mig_cache_fini() in any case, also of one that is all zeros. */
int vc_mig_cache_init(struct vc_mig_cache *cache, uint64_t bytes, uint32_t ways);
void vc_mig_cache_fini(struct vc_mig_cache *cache);
/* As it was sent; NULL: not known. */
uint8_t *vc_mig_cache_find(const struct vc_mig_cache *cache, uint32_t slot, uint64_t page);
void vc_mig_cache_put(struct vc_mig_cache *cache, uint32_t slot, uint64_t page, const uint8_t *contents);
/* It is not what was kept any more. */
void vc_mig_cache_drop(struct vc_mig_cache *cache, uint32_t slot, uint64_t page);

#endif
