/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What was translated for the process of a promoted address space: blocks, marks, and the pages that it came from. */
#include <stdlib.h>

#include "backend/emu/mmu/mmu.h"
#include "backend/emu/promote/promote.h"
#include "backend/emu/vcpu.h"

#define MAX_BLOCKS 32768u

const struct promoted_mark *promoted_mark_at(const struct promoted *p, uint64_t host)
{
	uint32_t offset;
	unsigned low = 0, high = p->marks;

	if (host - p->child.code >= p->code_used)
		return NULL;
	offset = (uint32_t)(host - p->child.code);
	while (high - low > 1) {
		unsigned mid = (low + high) / 2;

		if (p->mark[mid].host <= offset)
			low = mid;
		else
			high = mid;
	}
	return p->marks ? &p->mark[low] : NULL;
}

/* ---- blocks ---- */

struct promoted_block *promoted_look_up(const struct promoted *p, uint64_t pc)
{
	for (uint32_t i = p->hash[promoted_hash(pc)]; i; i = p->block[i].next)
		if (p->block[i].pc == pc)
			return &p->block[i];
	return NULL;
}

void promoted_put_in_table(struct promoted *p, const struct promoted_block *b)
{
	uint64_t *table = (uint64_t *)(void *)(p->child.object + CHILD_AT_TABLE);
	unsigned i = b->pc & (CHILD_TABLE_SIZE - 1);

	if (p->first[i])
		vc_st32(promoted_code_at(p, b->otherwise), p->block[p->first[i]].indirect - (b->otherwise + 4));
	p->first[i] = (uint32_t)(b - p->block);
	table[i] = p->child.code + b->indirect;
}

void promoted_code_flush(struct promoted *p)
{
	uint64_t *table = (uint64_t *)(void *)(p->child.object + CHILD_AT_TABLE);

	p->marks = p->sources = 0;
	p->blocks = 1;
	memset(p->hash, 0, sizeof p->hash);
	p->miss = 16;
	*promoted_code_at(p, p->miss) = 0xcc;
	p->mark[p->marks++] = (struct promoted_mark){
	    .host = p->miss, .kind = PROMOTED_MISS, .fix = PROMOTED_FIX_PC | PROMOTED_FIX_R11 | PROMOTED_FIX_RCX};
	p->code_used = p->miss + 16;
	memset(p->first, 0, CHILD_TABLE_SIZE * sizeof *p->first);
	for (unsigned i = 0; i < CHILD_TABLE_SIZE; i++)
		table[i] = p->child.code + p->miss;
	p->flushes++;
}

int promoted_code_new(struct promoted *p)
{
	p->blocks_max = MAX_BLOCKS;
	p->block = malloc(MAX_BLOCKS * sizeof *p->block);
	p->source = malloc(PROMOTE_SOURCE * sizeof *p->source);
	p->first = malloc(CHILD_TABLE_SIZE * sizeof *p->first);
	p->marks_max = 4096;
	p->mark = malloc(p->marks_max * sizeof *p->mark);
	if (!p->block || !p->source || !p->mark || !p->first)
		return -ENOMEM;
	promoted_code_flush(p);
	return 0;
}

/* ---- where code comes from ---- */

bool promoted_note_source(struct promoted *p, uint64_t linear, uint64_t gpa, struct vc_page_info *page,
                          uint32_t generation, bool *new_page)
{
	linear &= VC_PAGE_MASK;
	gpa &= VC_PAGE_MASK;
	for (unsigned i = p->sources; i-- > 0;)
		if (p->source[i].linear == linear)
			return p->source[i].page == page && p->source[i].gpa == gpa && p->source[i].generation == generation;
	if (p->sources == PROMOTE_SOURCE)
		return false;
	p->source[p->sources++] = (struct promoted_source){linear, gpa, page, generation};
	*new_page = true;
	return true;
}

static bool still_there(struct emu_vcpu *c, const struct promoted_source *s)
{
	struct vc_walk w;

	return emu_walk(c, s->linear, VC_PF_U | VC_PF_I, false, &w) && (w.gpa & VC_PAGE_MASK) == s->gpa;
}

bool promoted_code_check(struct emu_vcpu *c, struct promoted *p)
{
	bool good = true;
	unsigned gone = 0, sources = p->sources;

	for (unsigned i = 0; i < sources; i++) {
		const struct promoted_source *s = &p->source[i];

		good &= atomic_load(&s->page->generation) == s->generation;
		gone += p->check_sources && !still_there(c, s);
	}
	p->check_sources = false;
	if (!good || gone)
		promoted_code_flush(p);
	return gone <= sources / 2;
}

void promoted_link(struct promoted *p, const struct promoted_mark *m, uint32_t entry)
{
	vc_st32(promoted_code_at(p, m->site), entry - (m->site + 4));
}
