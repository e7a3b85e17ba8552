/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Internal snapshots: each has an L1 table of its own, which shares clusters with the others. */
#include "block/qcow2.h"

enum {
	S_L1_OFFSET = 0,
	S_L1_SIZE = 8,
	S_ID_LENGTH = 12,
	S_NAME_LENGTH = 14,
	S_EXTRA_LENGTH = 36,
	S_FIXED = 40,
	S_EXTRA_SIZE = 8, /* in the extra data: the disk's size */

	MAX_SNAPSHOTS = 65536,
	MAX_EXTRA = 1024,
};

/* A longer one than anybody gives is as good as none. */
static int read_name(struct qcow2 *q, uint64_t at, size_t length, char name[QCOW2_MAX_NAME + 1])
{
	name[0] = '\0';
	if (length > QCOW2_MAX_NAME)
		return 0;
	name[length] = '\0';
	return vc_file_pread(q->file, at, name, length);
}

static int read_snapshot(struct qcow2 *q, uint64_t *at, struct qcow2_snapshot *s)
{
	uint8_t fixed[S_FIXED], extra[MAX_EXTRA] = {0};
	uint32_t extra_length, id_length, name_length;
	int r = vc_file_pread(q->file, *at, fixed, sizeof fixed);

	if (r)
		return r;
	extra_length = be32toh(vc_ld32(fixed + S_EXTRA_LENGTH));
	id_length = be16toh(vc_ld16(fixed + S_ID_LENGTH));
	name_length = be16toh(vc_ld16(fixed + S_NAME_LENGTH));
	if (extra_length > MAX_EXTRA)
		return -EINVAL;
	*at += S_FIXED;
	r = vc_file_pread(q->file, *at, extra, extra_length);
	*at += extra_length;
	if (!r)
		r = read_name(q, *at, id_length, s->id);
	if (!r)
		r = read_name(q, *at + id_length, name_length, s->name);
	*at = VC_ALIGN_UP(*at + id_length + name_length, 8);
	s->l1_offset = be64toh(vc_ld64(fixed + S_L1_OFFSET));
	s->l1_count = be32toh(vc_ld32(fixed + S_L1_SIZE));
	s->size = extra_length >= S_EXTRA_SIZE + 8 ? be64toh(vc_ld64(extra + S_EXTRA_SIZE)) : 0;
	return r;
}

int qcow2_next_snapshot(struct qcow2 *q, uint64_t *at, struct qcow2_snapshot *s)
{
	int r = read_snapshot(q, at, s);

	return r ? vc_fail_errno(-r, "%s: reading a snapshot", q->block->path) : 0;
}

int qcow2_find_snapshot(struct qcow2 *q, const char *name, uint64_t *l1_offset, uint64_t *l1_count, uint64_t *size)
{
	uint64_t at = q->snapshot_offset;
	struct qcow2_snapshot s;

	if (q->snapshot_count > MAX_SNAPSHOTS)
		return vc_fail(EINVAL, "%s: %u snapshots: expected at most %d", q->block->path, q->snapshot_count,
		               MAX_SNAPSHOTS);
	for (uint32_t i = 0; i < q->snapshot_count; i++) {
		int r = qcow2_next_snapshot(q, &at, &s);

		if (r)
			return r;
		if (strcmp(s.id, name) && strcmp(s.name, name))
			continue;
		*l1_offset = s.l1_offset;
		*l1_count = s.l1_count;
		/* older ones have the disk's */
		*size = s.size ? s.size : *size;
		return 0;
	}
	return vc_fail(ENOENT, "%s: has no snapshot \"%s\"", q->block->path, name);
}
