/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/migrate_absent.h"

#include <errno.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/util.h"

#define WORDS_MAX ((VC_MIG_ABSENT_MAX - 8) / 8)

static uint64_t words_of(uint64_t pages)
{
	return (pages + 63) / 64;
}

int vc_mig_absent_send(struct vc_mig_stream *stream, uint32_t slot, const uint64_t *bits, uint64_t pages)
{
	uint8_t *payload = malloc(VC_MIG_ABSENT_MAX);
	uint64_t words = words_of(pages);
	int r = payload ? 0 : vc_fail(ENOMEM, "migration: no memory for a frame");

	for (uint64_t at = 0, count; r >= 0 && at < words; at += count) {
		bool any = false;

		count = words - at < WORDS_MAX ? words - at : WORDS_MAX;
		vc_st64(payload, at * 64);
		for (uint64_t w = 0; w < count; w++) {
			vc_st64(payload + 8 + w * 8, bits[at + w]);
			any |= bits[at + w] != 0;
		}
		if (any)
			r = vc_mig_send(stream, VC_MIG_ABSENT, slot, payload, (uint32_t)(8 + count * 8));
	}
	free(payload);
	return r;
}

uint64_t vc_mig_absent_first(const struct vc_mig_frame *f)
{
	return f->length >= 8 ? vc_ld64(f->payload) : UINT64_MAX;
}

int64_t vc_mig_absent_take(const struct vc_mig_frame *f, uint32_t slots, uint64_t *bits, uint64_t pages)
{
	uint64_t first = vc_mig_absent_first(f);
	uint32_t words = f->length >= 8 ? (f->length - 8) / 8 : 0;
	int64_t added = 0;

	if (f->argument >= slots || f->length % 8 || first % 64 || first >= pages || words > words_of(pages) - first / 64)
		return vc_fail(EPROTO, "migration: absent pages in slot %u of %u, from %llu on, in %u bytes", f->argument,
		               slots, (unsigned long long)first, f->length);
	for (uint32_t i = 0; i < words; i++) {
		uint64_t word = vc_ld64(f->payload + 8 + i * 8), *to = &bits[first / 64 + i];

		if (first / 64 + i == pages / 64 && word >> (pages % 64))
			return vc_fail(EPROTO, "migration: absent pages behind the end of slot %u", f->argument);
		added += __builtin_popcountll(word & ~*to);
		*to |= word;
	}
	return added;
}
