/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The block cache.
 *
 * Blocks are found by guest-physical address and key, so they serve every address space and alias. They live in an
 * arena that is given up as a whole when it is full. A block is good while its page's generation is the one it was made
 * under; when that has moved on, the saved bytes are compared, and the block is taken over into the new generation if
 * they are still the same: a page that holds both code and data is not decoded again and again.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "backend/emu/hook.h"
#include "backend/emu/interp/interp.h"

/* The code of one block at most, and with it room for the largest block. */
#define MAX_BYTES 512u
#define MAX_SIZE                                                                           \
	(sizeof(struct interp_block) + 2 * (INTERP_MAX_INSNS + 2) * sizeof(struct interp_op) + \
	 INTERP_MAX_INSNS * sizeof(struct emu_insn) + sizeof(struct interp_cross) + MAX_BYTES + 64)
#define MAX_INSN 15u

int interp_cache_new(struct interp *it)
{
	it->arena =
	    mmap(NULL, INTERP_ARENA_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (it->arena == MAP_FAILED) {
		it->arena = NULL;
		return vc_fail_errno(errno, "cannot allocate %u bytes for decoded code", INTERP_ARENA_MAX);
	}
	it->limit = INTERP_ARENA_FIRST;
	it->alone = calloc(1, sizeof *it->alone + 3 * sizeof(struct interp_op));
	if (!it->alone)
		return vc_fail(ENOMEM, "no memory for the interpreter");
	it->alone->page = &it->alone_page;
	it->alone->insns = 1;
	return 0;
}

void interp_cache_free(struct interp *it)
{
	if (it->arena)
		munmap(it->arena, INTERP_ARENA_MAX);
	free(it->alone);
}

void interp_mode(struct emu_vcpu *c)
{
	const struct vc_segment *cs = &c->s.seg[VC_CS];
	struct interp *it = c->interp;
	it->linear_is_rip = c->mode == EMU_MODE_64 || (cs->base == 0 && cs->limit == UINT32_MAX);
	it->mode = (struct emu_decode_mode){c->mode, c->protected_mode, &c->bvcpu->cpuid.features};
	c->ip_mask = emu_ip_mask(c);
	c->interp_key = c->mode | c->protected_mode << 2 | it->linear_is_rip << 3 | (uint32_t)c->stack_size << 4 |
	                (uint32_t)c->flat << 8 | (emu_hooks_on(c) ? INTERP_KEY_HOOKS : 0);
}

static void flush(struct emu_vcpu *c)
{
	struct interp *it = c->interp;

	memset(it->hash, 0, sizeof it->hash);
	it->used = 0;
	it->flushed_at = c->icount;
	it->flushes++;
	it->want_flush = false;
}

/* ---- code bytes ---- */

/* What is to be executed next: bytes at s.rip up to the end of the page or of the code segment. */
struct code {
	const uint8_t *host;
	unsigned available;
	bool limited; /* by the segment */
	uint64_t gpa;
	struct vc_page_info *page;
};

static uint64_t code_linear(const struct emu_vcpu *c, uint64_t rip)
{
	return c->mode == EMU_MODE_64 ? rip : (uint32_t)(c->s.seg[VC_CS].base + rip);
}

static void fetch(struct emu_vcpu *c, struct code *code)
{
	uint64_t limit = c->s.seg[VC_CS].limit;
	if (c->mode != EMU_MODE_64 && c->s.rip > limit)
		emu_raise_error(c, VC_GP, 0);
	code->host = emu_fetch(c, code_linear(c, c->s.rip), &code->available, &code->gpa, &code->page);
	code->limited = c->mode != EMU_MODE_64 && limit - c->s.rip < code->available - 1;
	if (code->limited)
		code->available = (unsigned)(limit - c->s.rip) + 1;
}

/* The bytes of an instruction of which the page holds only the first ones; how many there are. May raise. */
static unsigned fetch_crossing(struct emu_vcpu *c, const struct code *code, uint8_t bytes[MAX_INSN],
                               struct code *second)
{
	unsigned first = code->available < MAX_INSN ? code->available : MAX_INSN, rest;
	uint64_t next = (c->s.rip + first) & emu_ip_mask(c);
	memcpy(bytes, code->host, first);
	if (first == MAX_INSN)
		return first;
	if (code->limited || (c->mode != EMU_MODE_64 && next > c->s.seg[VC_CS].limit))
		emu_raise_error(c, VC_GP, 0); /* beyond the code segment */
	second->host = emu_fetch(c, code_linear(c, next), &second->available, &second->gpa, &second->page);
	rest = MAX_INSN - first;
	if (c->mode != EMU_MODE_64 && c->s.seg[VC_CS].limit - next < rest - 1)
		rest = (unsigned)(c->s.seg[VC_CS].limit - next) + 1;
	if (rest > second->available)
		rest = second->available;
	memcpy(bytes + first, second->host, rest);
	return first + rest;
}

/* ---- decoding ---- */

/* The instructions of a block, before anything is made of them. */
struct draft {
	struct emu_insn insn[INTERP_MAX_INSNS];
	int status[INTERP_MAX_INSNS]; /* of emu_decode() */
	unsigned count;
	unsigned bytes;
	uint8_t code[MAX_BYTES];
};

/* Decode from a copy of the code. Leaves count at 0 when the first instruction is not there as a whole. */
static void decode(struct interp *it, const struct code *code, struct draft *d)
{
	unsigned length = code->available < MAX_BYTES ? code->available : MAX_BYTES;
	d->count = d->bytes = 0;
	memcpy(d->code, code->host, length);
	while (d->count < INTERP_MAX_INSNS && d->bytes < length) {
		struct emu_insn *n = &d->insn[d->count];
		int status = emu_decode(d->code + d->bytes, length - d->bytes, &it->mode, n);
		if (status == EMU_DECODE_MORE)
			break;
		d->status[d->count++] = status;
		d->bytes += n->len;
		if (status != EMU_DECODE_OK || interp_ends_block(n))
			break;
	}
}

/* Make the operation of one instruction. True: it uses place->keep. */
static bool make_op(struct emu_vcpu *c, const struct emu_insn *n, int status, const struct interp_place *place,
                    struct interp_op *op)
{
	if (status == EMU_DECODE_TOO_LONG) {
		*op = (struct interp_op){.head = {.offset = (uint16_t)place->offset, .len = n->len}, .fn = interp_raise_gp};
		return false;
	}
	return interp_lower(c, n, place, op);
}

static void end_op(struct interp_op *op, unsigned offset, bool near)
{
	*op = (struct interp_op){.head = {.offset = (uint16_t)offset}, .fn = near ? interp_end_near : interp_end_far};
}

/*
 * Room for a block. A full arena is given up, or made larger when that happens so often that code is decoded more than
 * it is executed: a guest that uses little code keeps to little memory.
 */
static struct interp_block *allocate(struct emu_vcpu *c)
{
	struct interp *it = c->interp;

	if (it->limit - it->used < MAX_SIZE) {
		if (c->icount - it->flushed_at < INTERP_ARENA_PATIENCE && it->limit < INTERP_ARENA_MAX)
			it->limit *= 2;
		else
			flush(c);
	}
	return (struct interp_block *)(void *)(it->arena + it->used);
}

/* Bytes of the block are used; what follows starts a cache line. */
static void commit(struct emu_vcpu *c, struct interp_block *b, const uint8_t *end)
{
	struct interp *it = c->interp;
	struct interp_block **bucket = &it->hash[interp_hash(b->gpa, b->key)];
	it->used = VC_ALIGN_UP((size_t)(end - it->arena), (size_t)64);
	b->next = *bucket;
	*bucket = b;
	atomic_fetch_add_explicit(&c->bvcpu->blocks, 1, memory_order_relaxed);
}

static void number(struct interp_block *b)
{
	for (unsigned k = 0; k < b->ops; k++)
		b->op[k].head.index = (uint8_t)k;
}

/* Operations from a draft. Returns the end of what the block uses. */
static uint8_t *lower(struct emu_vcpu *c, struct interp_block *b, const struct draft *d)
{
	bool hooks = b->key & INTERP_KEY_HOOKS, hooked = false;
	unsigned most_ops = (hooks ? 2 * d->count : d->count) + 1;
	struct interp_place place = {.page_offset = b->gpa & (VC_PAGE_SIZE - 1),
	                             .keep = (struct emu_insn *)(void *)&b->op[most_ops]};
	const struct emu_insn *last = &d->insn[d->count - 1];
	unsigned ops = 0;
	for (unsigned k = 0; k < d->count; k++) {
		const struct emu_insn *n = &d->insn[k];
		if (hooks)
			hooked =
			    interp_lower_hook(c, n, place.offset, place.page_offset + place.offset, k ? 0 : d->bytes, &b->op[ops]);
		ops += hooked;
		if (k && !hooked && n->op == EMU_JCC && interp_fuse(c, n - 1, n, &place, &b->op[ops - 1])) {
			place.offset += n->len;
			break;
		}
		if (make_op(c, n, d->status[k], &place, &b->op[ops]))
			place.keep++;
		place.offset += n->len;
		ops++;
	}
	if (d->status[d->count - 1] == EMU_DECODE_OK && !interp_ends_block(last))
		end_op(&b->op[ops++], place.offset,
		       place.page_offset + place.offset < VC_PAGE_SIZE && c->interp->linear_is_rip);
	b->ops = (uint8_t)ops;
	number(b);
	return (uint8_t *)place.keep;
}

/* Decode the block at s.rip. NULL: its bytes change while they are read. */
static struct interp_block *make(struct emu_vcpu *c, const struct code *code)
{
	struct interp *it = c->interp;
	struct interp_block *b;
	struct draft d;
	uint32_t generation;
	uint8_t *end;

	decode(it, code, &d);
	if (!d.count)
		return NULL;
	generation = emu_code_mark(c, code->page, code->gpa, d.bytes);
	if (memcmp(d.code, code->host, d.bytes))
		return NULL;
	b = allocate(c);
	*b = (struct interp_block){
	    .gpa = code->gpa,
	    .key = c->interp_key,
	    .generation = generation,
	    .page = code->page,
	    .bytes = (uint16_t)d.bytes,
	    .insns = (uint8_t)d.count,
	};
	end = lower(c, b, &d);
	b->raw = (uint32_t)(end - (uint8_t *)b);
	memcpy(end, d.code, d.bytes);
	commit(c, b, end + d.bytes);
	return b;
}

/* A block of one instruction that goes on in the next page. */
static struct interp_block *make_crossing(struct emu_vcpu *c, const struct code *code)
{
	struct interp *it = c->interp;
	uint8_t bytes[MAX_INSN], *end;
	struct interp_block *b;
	struct interp_cross *cross;
	struct code second;
	struct interp_place place = {.page_offset = VC_PAGE_SIZE};
	struct emu_insn n;
	unsigned ops = 0, most_ops = c->interp_key & INTERP_KEY_HOOKS ? 4 : 3;
	int status = emu_decode(bytes, fetch_crossing(c, code, bytes, &second), &it->mode, &n);

	if (status == EMU_DECODE_MORE || n.len <= code->available || !second.page)
		return NULL;
	b = allocate(c);
	*b = (struct interp_block){
	    .gpa = code->gpa, .key = c->interp_key, .page = code->page, .bytes = (uint16_t)code->available, .insns = 1};
	b->generation = emu_code_mark(c, code->page, code->gpa, code->available);
	cross = (struct interp_cross *)(void *)&b->op[most_ops];
	place.keep = (struct emu_insn *)(void *)(cross + 1);
	*cross = (struct interp_cross){.page = second.page, .gpa = second.gpa, .bytes = n.len - code->available};
	cross->generation = emu_code_mark(c, second.page, second.gpa, cross->bytes);
	if (memcmp(bytes, code->host, code->available) || memcmp(bytes + code->available, second.host, cross->bytes))
		return NULL;
	b->cross = cross;
	b->op[ops++] = (struct interp_op){.fn = interp_check_cross};
	if (b->key & INTERP_KEY_HOOKS)
		ops += interp_lower_hook(c, &n, 0, b->gpa & (VC_PAGE_SIZE - 1), n.len, &b->op[ops]);
	if (make_op(c, &n, status, &place, &b->op[ops++]))
		place.keep++;
	if (status == EMU_DECODE_OK && !interp_ends_block(&n))
		end_op(&b->op[ops++], n.len, false);
	b->ops = (uint8_t)ops;
	number(b);
	end = (uint8_t *)place.keep;
	b->raw = (uint32_t)(end - (uint8_t *)b);
	memcpy(end, bytes, n.len);
	commit(c, b, end + n.len);
	return b;
}

/* ---- looking up ---- */

/* The block's page was written to: whether the block's own bytes are still the same, and if so it is current again. */
static bool revalidate(struct emu_vcpu *c, struct interp_block *b, const struct code *code)
{
	uint32_t generation;
	if (b->bytes > code->available)
		return false;
	generation = emu_code_mark(c, b->page, b->gpa, b->bytes);
	if (memcmp((const uint8_t *)b + b->raw, code->host, b->bytes))
		return false;
	b->generation = generation;
	return true;
}

static void drop(struct interp *it, struct interp_block *b)
{
	struct interp_block **at = &it->hash[interp_hash(b->gpa, b->key)];
	while (*at && *at != b)
		at = &(*at)->next;
	if (*at)
		*at = b->next;
}

/* To the head of its bucket, where interp_goto() looks. */
static void move_to_front(struct interp *it, struct interp_block *b)
{
	struct interp_block **bucket = &it->hash[interp_hash(b->gpa, b->key)];
	if (*bucket == b)
		return;
	drop(it, b);
	b->next = *bucket;
	*bucket = b;
}

bool interp_cross_current(struct emu_vcpu *c, const struct interp_block *b)
{
	const struct interp_cross *cross = b->cross;
	struct code second;
	second.host = emu_fetch(c, code_linear(c, (c->s.rip + b->bytes) & emu_ip_mask(c)), &second.available, &second.gpa,
	                        &second.page);
	return second.page == cross->page && second.gpa == cross->gpa &&
	       atomic_load_explicit(&cross->page->generation, memory_order_acquire) == cross->generation;
}

/* The cached block at code->gpa that may be executed, or NULL. */
static struct interp_block *look_up(struct emu_vcpu *c, const struct code *code)
{
	struct interp *it = c->interp;
	struct interp_block *b = it->hash[interp_hash(code->gpa, c->interp_key)];
	while (b && (b->gpa != code->gpa || b->key != c->interp_key))
		b = b->next;
	if (!b)
		return NULL;
	if ((!interp_block_current(b) && !revalidate(c, b, code)) || (b->cross && !interp_cross_current(c, b))) {
		drop(it, b);
		return NULL;
	}
	move_to_front(it, b);
	return b;
}

struct interp_block *interp_find(struct emu_vcpu *c)
{
	struct interp *it = c->interp;
	struct interp_block *b;
	struct code code;

	if (vc_unlikely(it->want_flush))
		flush(c);
	fetch(c, &code);
	if (!code.page)
		return NULL;
	b = look_up(c, &code);
	if (!b)
		b = make(c, &code);
	if (!b && code.available < MAX_INSN && !code.limited)
		b = make_crossing(c, &code);
	/* the segment's end may have been elsewhere when the block was made */
	return b && code.limited && b->bytes > code.available ? NULL : b;
}

const struct interp_op *interp_prepare_alone(struct emu_vcpu *c)
{
	struct interp *it = c->interp;
	struct interp_block *b = it->alone;
	struct interp_place place = {.page_offset = VC_PAGE_SIZE, .keep = &it->alone_insn};
	uint8_t bytes[MAX_INSN];
	struct code code, second;
	struct emu_insn n;
	unsigned length, ops = 0;
	int status;

	fetch(c, &code);
	length = code.available < MAX_INSN ? code.available : MAX_INSN;
	memcpy(bytes, code.host, length);
	status = emu_decode(bytes, length, &it->mode, &n);
	if (status == EMU_DECODE_MORE) {
		length = fetch_crossing(c, &code, bytes, &second);
		status = emu_decode(bytes, length, &it->mode, &n);
	}
	if (status == EMU_DECODE_MORE)
		emu_raise_error(c, VC_GP, 0); /* it goes on beyond the code segment */
	if (c->interp_key & INTERP_KEY_HOOKS)
		ops += interp_lower_hook(c, &n, 0, code.gpa & (VC_PAGE_SIZE - 1), n.len, &b->op[ops]);
	make_op(c, &n, status, &place, &b->op[ops++]);
	end_op(&b->op[ops++], n.len, false);
	b->ops = (uint8_t)ops;
	number(b);
	return b->op;
}
