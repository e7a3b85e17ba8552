/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Breakpoints and watchpoints: INT3 in guest memory, and debug registers of the vcpus in place of the guest's own. */
#include "debug/debug.h"

#include <stdlib.h>

#define INT3     0xcc
#define SOFT_MAX 4096

/* ---- INT3 ---- */

const struct vc_gdb_soft *vc_gdb_soft_at(const struct vc_gdb *g, uint64_t gpa)
{
	for (size_t i = 0; i < g->soft_count; i++)
		if (g->soft[i].gpa == gpa)
			return &g->soft[i];
	return NULL;
}

void vc_gdb_hide(const struct vc_gdb *g, uint64_t gpa, uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < g->soft_count; i++) {
		uint64_t at = g->soft[i].gpa - gpa;

		if (at < length && bytes[at] == INT3) /* else the guest has written there since */
			bytes[at] = g->soft[i].original;
	}
}

void vc_gdb_put(struct vc_gdb *g, uint64_t gpa, uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < g->soft_count; i++) {
		uint64_t at = g->soft[i].gpa - gpa;

		if (at >= length)
			continue;
		/* another one at the same place has put INT3 there already */
		if (vc_gdb_soft_at(g, g->soft[i].gpa) == &g->soft[i])
			g->soft[i].original = bytes[at];
		else
			g->soft[i].original = vc_gdb_soft_at(g, g->soft[i].gpa)->original;
		bytes[at] = INT3;
	}
}

static int grow(struct vc_gdb *g)
{
	size_t room = g->soft_room ? 2 * g->soft_room : 16;
	struct vc_gdb_soft *soft;

	if (g->soft_count < g->soft_room)
		return 0;
	if (g->soft_count >= SOFT_MAX)
		return vc_fail(ENOSPC, "there are %d software breakpoints already", SOFT_MAX);
	soft = realloc(g->soft, room * sizeof *soft);
	if (!soft)
		return vc_fail(ENOMEM, "no memory for a breakpoint");
	g->soft = soft;
	g->soft_room = room;
	return 0;
}

static struct vc_gdb_soft *find_soft(struct vc_gdb *g, uint64_t gva)
{
	for (size_t i = 0; i < g->soft_count; i++)
		if (g->soft[i].gva == gva)
			return &g->soft[i];
	return NULL;
}

static int insert_soft(struct vc_gdb *g, uint64_t gva)
{
	struct vc_gdb_soft soft = {.gva = gva};
	int r;

	if (find_soft(g, gva))
		return 0;
	r = grow(g);
	if (r >= 0)
		r = vc_gdb_load(g, g->current);
	if (r >= 0)
		r = vc_vcpu_walk(&g->vm->vcpus[g->current], g->state, gva, &soft.gpa);
	if (r >= 0)
		r = vcore_memory_read(g->vm, soft.gpa, &soft.original, 1);
	if (r < 0)
		return r;
	vc_gdb_hide(g, soft.gpa, &soft.original, 1);
	r = vcore_memory_write(g->vm, soft.gpa, &(uint8_t){INT3}, 1);
	if (r >= 0)
		g->soft[g->soft_count++] = soft;
	return r;
}

static void take_out(struct vc_gdb *g, struct vc_gdb_soft *soft)
{
	struct vc_gdb_soft gone = *soft;
	uint8_t byte;

	*soft = g->soft[--g->soft_count];
	if (vc_gdb_soft_at(g, gone.gpa))
		return; /* another address of the same byte keeps it */
	/* what the guest has written over it stays; where no memory is any more there is nothing to put right */
	if (vcore_memory_read(g->vm, gone.gpa, &byte, 1) >= 0 && byte == INT3)
		vcore_memory_write(g->vm, gone.gpa, &gone.original, 1);
}

/* ---- debug registers ---- */

/* The longest aligned piece at the start of a range that a debug register can watch (SDM vol. 3, 17.2.5). */
static uint8_t piece_of(uint64_t address, uint64_t length)
{
	uint8_t piece = 8;

	while (piece > length || !VC_IS_ALIGNED(address, piece))
		piece /= 2;
	return piece;
}

static bool is_asked(const struct vc_gdb_hard *hard, enum vc_gdb_kind kind, uint64_t address, uint64_t length)
{
	return hard->kind == kind && hard->asked == address && hard->asked_length == length;
}

static void remove_hard(struct vc_gdb *g, enum vc_gdb_kind kind, uint64_t address, uint64_t length)
{
	for (unsigned i = 0; i < VC_GDB_HARD_MAX; i++)
		if (is_asked(&g->hard[i], kind, address, length))
			g->hard[i] = (struct vc_gdb_hard){0};
}

static int insert_hard(struct vc_gdb *g, enum vc_gdb_kind kind, uint64_t address, uint64_t length)
{
	struct vc_gdb_hard piece = {.kind = kind, .address = address, .asked = address, .asked_length = length};
	unsigned i = 0;

	remove_hard(g, kind, address, length);
	while (length > 0) {
		while (i < VC_GDB_HARD_MAX && g->hard[i].kind != VC_GDB_SOFT)
			i++;
		if (i == VC_GDB_HARD_MAX) {
			remove_hard(g, kind, piece.asked, piece.asked_length);
			return vc_fail(ENOSPC, "there are %d debug registers, and they are in use", VC_GDB_HARD_MAX);
		}
		piece.length = kind == VC_GDB_HARD ? 1 : piece_of(piece.address, length);
		g->hard[i] = piece;
		piece.address += piece.length;
		length -= piece.length;
	}
	return 0;
}

struct vcore_debug vc_gdb_debug(const struct vc_gdb *g, bool step)
{
	/* SDM vol. 3, 17.2.4: R/W and LEN fields. A CPU cannot watch reads alone. */
	static const uint8_t access_of[VC_GDB_KINDS] = {
	    [VC_GDB_HARD] = 0, [VC_GDB_WRITE] = 1, [VC_GDB_READ] = 3, [VC_GDB_ACCESS] = 3};
	static const uint8_t length_of[] = {[1] = 0, [2] = 1, [4] = 3, [8] = 2};
	struct vcore_debug d = {.size = sizeof d, .flags = step ? VCORE_DEBUG_SINGLE_STEP : 0};

	if (g->soft_count)
		d.flags |= VCORE_DEBUG_SW_BREAK;
	for (unsigned i = 0; i < VC_GDB_HARD_MAX; i++) {
		const struct vc_gdb_hard *hard = &g->hard[i];

		if (hard->kind == VC_GDB_SOFT)
			continue;
		d.flags |= VCORE_DEBUG_HW_BREAK;
		d.dr[i] = hard->address;
		d.dr7 |= 2ull << 2 * i | (uint64_t)(access_of[hard->kind] | length_of[hard->length] << 2) << (16 + 4 * i);
	}
	if (d.dr7)
		d.dr7 |= 0x400; /* always 1 */
	return d;
}

/* ---- both ---- */

static int check(enum vc_gdb_kind kind, uint64_t address, uint64_t length)
{
	if (kind >= VC_GDB_WRITE && (length < 1 || length > 8 * VC_GDB_HARD_MAX || address + length < address))
		return vc_fail(EINVAL, "%llu bytes cannot be watched", (unsigned long long)length);
	return 0;
}

int vc_gdb_insert(struct vc_gdb *g, enum vc_gdb_kind kind, uint64_t address, uint64_t length)
{
	int r = check(kind, address, length);

	if (r < 0 || kind == VC_GDB_SOFT)
		return r < 0 ? r : insert_soft(g, address);
	return insert_hard(g, kind, address, kind == VC_GDB_HARD ? 1 : length);
}

int vc_gdb_remove(struct vc_gdb *g, enum vc_gdb_kind kind, uint64_t address, uint64_t length)
{
	int r = check(kind, address, length);
	struct vc_gdb_soft *soft;

	if (r < 0)
		return r;
	if (kind != VC_GDB_SOFT) {
		remove_hard(g, kind, address, kind == VC_GDB_HARD ? 1 : length);
		return 0;
	}
	soft = find_soft(g, address);
	if (soft)
		take_out(g, soft);
	return 0;
}

void vc_gdb_remove_all(struct vc_gdb *g)
{
	while (g->soft_count)
		take_out(g, &g->soft[g->soft_count - 1]);
	memset(g->hard, 0, sizeof g->hard);
}
