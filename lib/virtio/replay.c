/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Chains that were in flight when the device was stopped to be saved, and come again when it goes on. */
#include <errno.h>
#include <stdlib.h>

#include "virtio/queue.h"

struct vc_replay *vc_replay_new(uint32_t count)
{
	struct vc_replay *replay = calloc(1, sizeof *replay + count * sizeof replay->segs[0]);

	if (replay)
		replay->count = count;
	return replay;
}

void vc_replay_insert(struct vc_virtq *q, struct vc_replay *replay)
{
	struct vc_replay **at = &q->replay;

	while (*at && (*at)->sequence < replay->sequence)
		at = &(*at)->next;
	replay->next = *at;
	*at = replay;
}

int vc_replay_keep(struct vc_virtq *q, struct vc_chain *chain)
{
	const struct vc_translated *translated = vc_chain_translated(chain);
	struct vc_replay *replay = vc_replay_new(chain->count);

	if (!replay)
		return -ENOMEM;
	replay->sequence = chain->sequence;
	replay->id = chain->id;
	replay->descs = chain->descs;
	replay->entry = chain->entry;
	replay->out_count = chain->out_count;
	for (uint32_t i = 0; i < chain->count; i++) {
		replay->segs[i].address = q->endpoint ? translated[i].iova : chain->segs[i].gpa;
		replay->segs[i].length = chain->segs[i].length;
	}
	vc_replay_insert(q, replay);
	return 0;
}

int vc_replay_pop(struct vc_virtq *q, struct vc_chain *chain)
{
	struct vc_replay *replay = q->replay;

	chain->replay = true;
	chain->sequence = replay->sequence;
	chain->id = replay->id;
	chain->descs = replay->descs;
	chain->entry = replay->entry;
	for (uint32_t i = 0; i < replay->count; i++) {
		struct vc_desc desc = {replay->segs[i].address, replay->segs[i].length,
		                       i < replay->out_count ? 0 : VC_DESC_WRITE};
		int r = vc_chain_add(q, chain, &desc);

		if (r < 0)
			return r;
	}
	q->replay = replay->next;
	free(replay);
	return 0;
}

void vc_replay_clear(struct vc_virtq *q)
{
	while (q->replay) {
		struct vc_replay *replay = q->replay;

		q->replay = replay->next;
		free(replay);
	}
}
