/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/migrate_delta.h"

#include "core/error.h"
#include "core/util.h"

#define WORDS     (VC_PAGE_SIZE / 8)
#define PIECE_MAX 255u /* words that stay, and words that are new */

/* How many words from there on, of so many at most, are equal, or are not. */
static uint32_t alike(const uint8_t *a, const uint8_t *b, uint32_t from, uint32_t most, bool equal)
{
	uint32_t n = 0;

	while (n < most && (vc_ld64(a + (size_t)(from + n) * 8) == vc_ld64(b + (size_t)(from + n) * 8)) == equal)
		n++;
	return n;
}

int32_t vc_mig_delta_encode(const uint8_t *was, const uint8_t *is, uint8_t *to, uint32_t room)
{
	uint32_t used = 0, at = 0, stay;

	while ((stay = alike(was, is, at, WORDS - at, true)) < WORDS - at) {
		uint32_t left, changed;

		/* what one piece cannot leave out is left for the next one, which begins with what stays */
		stay = stay < PIECE_MAX ? stay : PIECE_MAX;
		at += stay;
		left = WORDS - at < PIECE_MAX ? WORDS - at : PIECE_MAX;
		changed = alike(was, is, at, left, false);
		if (room - used < 2 + changed * 8)
			return -1;
		to[used++] = (uint8_t)stay;
		to[used++] = (uint8_t)changed;
		memcpy(to + used, is + (size_t)at * 8, (size_t)changed * 8);
		used += changed * 8;
		at += changed;
	}
	return (int32_t)used;
}

int vc_mig_delta_apply(uint8_t *page, const uint8_t *delta, uint32_t length)
{
	uint32_t at = 0;

	while (length >= 2) {
		uint32_t stay = delta[0], changed = delta[1];

		delta += 2;
		length -= 2;
		if (stay + changed > WORDS - at || changed * 8 > length)
			return vc_fail(EPROTO, "migration: a delta of %u and %u words at %u of a page of %u, with %u bytes left",
			               stay, changed, at, WORDS, length);
		memcpy(page + (size_t)(at + stay) * 8, delta, (size_t)changed * 8);
		at += stay + changed;
		delta += changed * 8;
		length -= changed * 8;
	}
	return length ? vc_fail(EPROTO, "migration: a delta with a byte too many") : 0;
}

/* ---- what was sent ---- */

int vc_mig_cache_init(struct vc_mig_cache *c, uint64_t bytes, uint32_t ways)
{
	c->places = bytes / VC_PAGE_SIZE;
	c->ways = ways;
	if (!c->places)
		return 0;
	c->key = vc_pages_new(c->places * 8);
	c->page = vc_pages_new(c->places * VC_PAGE_SIZE);
	return c->key && c->page
	           ? 0
	           : vc_fail(ENOMEM, "migration: no memory for %llu pages that were sent", (unsigned long long)c->places);
}

void vc_mig_cache_fini(struct vc_mig_cache *c)
{
	vc_pages_free(c->key, c->places * 8);
	vc_pages_free(c->page, c->places * VC_PAGE_SIZE);
	*c = (struct vc_mig_cache){0};
}

static uint64_t key_of(uint32_t slot, uint64_t page)
{
	return ((uint64_t)slot << 44 | page) + 1;
}

/* Neighbours do not meet. */
static uint64_t place_of(const struct vc_mig_cache *c, uint32_t slot, uint64_t page)
{
	return (page / 8 / c->ways * 8 + page % 8 + slot * 0x9e3779b9ull) % c->places;
}

uint8_t *vc_mig_cache_find(const struct vc_mig_cache *c, uint32_t slot, uint64_t page)
{
	uint64_t place;

	if (!c->places)
		return NULL;
	place = place_of(c, slot, page);
	return c->key[place] == key_of(slot, page) ? c->page + place * VC_PAGE_SIZE : NULL;
}

void vc_mig_cache_put(struct vc_mig_cache *c, uint32_t slot, uint64_t page, const uint8_t *contents)
{
	uint64_t place;

	if (!c->places)
		return;
	place = place_of(c, slot, page);
	c->key[place] = key_of(slot, page);
	memcpy(c->page + place * VC_PAGE_SIZE, contents, VC_PAGE_SIZE);
}

void vc_mig_cache_drop(struct vc_mig_cache *c, uint32_t slot, uint64_t page)
{
	if (vc_mig_cache_find(c, slot, page))
		c->key[place_of(c, slot, page)] = 0;
}
