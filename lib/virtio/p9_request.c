/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages of 9P2000.L: taking them apart, putting answers together; and those of the session itself. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "core/util.h"
#include "virtio/p9.h"

enum { RLERROR = 7, TVERSION = 100, VERSION_LENGTH = 31, QID_DIR = 0x80, QID_SYMLINK = 0x02, UNLOCKED = 2 };

/* ---- pieces ---- */

uint64_t vc_p9_get(struct vc_p9_request *r, uint32_t bytes)
{
	uint64_t value = 0;

	r->bad |= bytes > r->length - r->at;
	if (r->bad)
		return 0;
	memcpy(&value, r->p9->in + r->at, bytes);
	r->at += bytes;
	return value;
}

int vc_p9_get_string(struct vc_p9_request *r, char *text, uint32_t size)
{
	uint32_t length = (uint32_t)vc_p9_get(r, 2);

	r->bad |= length > r->length - r->at;
	if (r->bad)
		return -EINVAL;
	if (length >= size)
		return -ENAMETOOLONG;
	memcpy(text, r->p9->in + r->at, length);
	text[length] = 0;
	r->at += length;
	return strlen(text) == length ? 0 : -EINVAL;
}

/* No name of a directory's own entry: empty, with a slash, or a dot. */
static bool leads_elsewhere(const char *name)
{
	return !*name || strchr(name, '/') || !strcmp(name, ".");
}

int vc_p9_get_name(struct vc_p9_request *r, char name[NAME_MAX + 1])
{
	int e = vc_p9_get_string(r, name, NAME_MAX + 1);

	return e < 0 ? e : leads_elsewhere(name) || !strcmp(name, "..") ? -EINVAL : 0;
}

struct vc_p9_fid *vc_p9_get_fid(struct vc_p9_request *r)
{
	uint32_t number = (uint32_t)vc_p9_get(r, 4);

	return r->bad ? NULL : vc_p9_fid_find(r->p9, number);
}

void vc_p9_put(struct vc_p9_request *r, uint64_t value, uint32_t bytes)
{
	memcpy(r->p9->out + r->out, &value, bytes);
	r->out += bytes;
}

void vc_p9_put_string(struct vc_p9_request *r, const char *text)
{
	size_t length = strlen(text);

	vc_p9_put(r, length, 2);
	memcpy(r->p9->out + r->out, text, length);
	r->out += (uint32_t)length;
}

/* Files on other file systems must not look the same. */
void vc_p9_put_qid(struct vc_p9_request *r, const struct stat *st)
{
	uint64_t other = st->st_dev == r->p9->root_stat.st_dev ? 0 : (uint64_t)st->st_dev << 40;

	vc_p9_put(r, S_ISDIR(st->st_mode) ? QID_DIR : S_ISLNK(st->st_mode) ? QID_SYMLINK : 0, 1);
	vc_p9_put(r, (uint64_t)st->st_mtime ^ (uint64_t)st->st_size << 8, 4);
	vc_p9_put(r, st->st_ino ^ other, 8);
}

uint32_t vc_p9_room(const struct vc_p9_request *r, uint32_t wanted)
{
	uint32_t most = r->p9->msize < r->chain->in_bytes ? r->p9->msize : r->chain->in_bytes;

	return most < VC_P9_DATA_AT ? 0 : wanted < most - VC_P9_DATA_AT ? wanted : most - VC_P9_DATA_AT;
}

/* ---- the session ---- */

static int version(struct vc_p9_request *r)
{
	uint32_t msize = (uint32_t)vc_p9_get(r, 4);
	char text[VERSION_LENGTH + 1];
	int e = vc_p9_get_string(r, text, sizeof text);
	bool known = e >= 0 && !strcmp(text, "9P2000.L");

	if (r->bad || msize < VC_P9_MSIZE_MIN)
		return -EINVAL;
	msize = msize < VC_P9_MSIZE_MAX ? msize : VC_P9_MSIZE_MAX;
	vc_p9_fid_free_all(r->p9);
	r->p9->msize = known ? msize : 0;
	vc_p9_put(r, msize, 4);
	vc_p9_put_string(r, known ? text : "unknown");
	return 0;
}

/* Behind afid and two names. */
static uint32_t get_user(struct vc_p9_request *r)
{
	char text[NAME_MAX + 1];

	vc_p9_get(r, 4);
	for (int i = 0; i < 2; i++)
		if (vc_p9_get_string(r, text, sizeof text) < 0)
			r->bad = true;
	return (uint32_t)vc_p9_get(r, 4);
}

static int attach(struct vc_p9_request *r)
{
	uint32_t number = (uint32_t)vc_p9_get(r, 4), user = VC_P9_NO_USER;
	struct stat st;

	if (r->p9->guest_owners)
		user = get_user(r);
	if (r->bad)
		return -EINVAL;
	if (fstat(r->p9->root->fd, &st) < 0)
		return -errno;
	vc_p9_put_qid(r, &st);
	return vc_p9_fid_new(r->p9, number, user, vc_p9_node_get(r->p9->root), NULL, "");
}

static int flush(struct vc_p9_request *r)
{
	/* what was asked before has been answered */
	return 0;
}

/* Where a walk has come to. */
struct walk {
	struct vc_p9_node *node, *parent;
	char name[NAME_MAX + 1];
};

static int walk_on(struct vc_p9_request *r, struct walk *w)
{
	struct vc_p9_node *next = NULL;
	char name[NAME_MAX + 1];
	struct stat st;
	int e = vc_p9_get_string(r, name, sizeof name);

	if (e >= 0 && leads_elsewhere(name))
		e = -EINVAL;
	if (e >= 0)
		e = vc_p9_step(r->p9, w->node, name, &next);
	if (e < 0)
		return e;
	if (fstat(next->fd, &st) < 0) {
		e = -errno;
		vc_p9_node_put(next);
		return e;
	}
	vc_p9_put_qid(r, &st);
	vc_p9_node_put(w->parent);
	/* by which name a directory is found that was reached from beneath is not known */
	w->parent = strcmp(name, "..") ? w->node : NULL;
	if (!w->parent)
		vc_p9_node_put(w->node);
	w->node = next;
	memcpy(w->name, name, sizeof name);
	return 0;
}

/* All of it, or as far as it goes: then there is no new fid. */
static int walk_all(struct vc_p9_request *r, struct walk *w, uint32_t count, uint32_t *done)
{
	int e = 0;

	while (*done < count && (e = walk_on(r, w)) >= 0)
		++*done;
	return *done ? 0 : e;
}

static int walk(struct vc_p9_request *r)
{
	struct vc_p9_fid *fid = vc_p9_get_fid(r), *old;
	uint32_t number = (uint32_t)vc_p9_get(r, 4), count = (uint32_t)vc_p9_get(r, 2), done = 0;
	uint32_t counted = r->out;
	struct walk w;
	int e;

	if (!fid)
		return -EBADF;
	old = vc_p9_fid_find(r->p9, number);
	if (r->bad || count > VC_P9_WALK_MAX || (old && old != fid))
		return -EINVAL;
	w.node = vc_p9_node_get(fid->node);
	w.parent = fid->parent ? vc_p9_node_get(fid->parent) : NULL;
	memcpy(w.name, fid->name, sizeof w.name);
	vc_p9_put(r, 0, 2);
	e = walk_all(r, &w, count, &done);
	vc_st16(r->p9->out + counted, (uint16_t)done);
	if (e < 0 || done < count) {
		vc_p9_node_put(w.node);
		vc_p9_node_put(w.parent);
		return e;
	}
	if (old)
		vc_p9_fid_free(r->p9, old);
	return vc_p9_fid_new(r->p9, number, fid->user, w.node, w.parent, w.name);
}

static int clunk(struct vc_p9_request *r)
{
	struct vc_p9_fid *fid = vc_p9_get_fid(r);

	if (!fid)
		return -EBADF;
	vc_p9_fid_free(r->p9, fid);
	return 0;
}

/* One guest's locks are its own kernel's business, and it is the only one here. */
static int lock(struct vc_p9_request *r)
{
	if (!vc_p9_get_fid(r))
		return -EBADF;
	vc_p9_put(r, 0, 1);
	return 0;
}

static int getlock(struct vc_p9_request *r)
{
	struct vc_p9_fid *fid = vc_p9_get_fid(r);
	uint64_t start, length, process;
	char client[NAME_MAX + 1];
	int e;

	vc_p9_get(r, 1);
	start = vc_p9_get(r, 8);
	length = vc_p9_get(r, 8);
	process = vc_p9_get(r, 4);
	e = vc_p9_get_string(r, client, sizeof client);
	if (!fid || e < 0)
		return fid ? e : -EBADF;
	vc_p9_put(r, UNLOCKED, 1);
	vc_p9_put(r, start, 8);
	vc_p9_put(r, length, 8);
	vc_p9_put(r, process, 4);
	vc_p9_put_string(r, client);
	return 0;
}

/* ---- running ---- */

/* By message type; changes: not on a read-only device. Those without a row (authentication, extended attributes) are
 * not supported. */
static const struct message {
	int (*run)(struct vc_p9_request *r);
	bool changes;
} messages[UINT8_MAX + 1] = {
    [8] = {vc_p9_statfs, false},    [12] = {vc_p9_lopen, false},   [14] = {vc_p9_lcreate, true},
    [16] = {vc_p9_symlink, true},   [18] = {vc_p9_mknod, true},    [20] = {vc_p9_rename, true},
    [22] = {vc_p9_readlink, false}, [24] = {vc_p9_getattr, false}, [26] = {vc_p9_setattr, true},
    [40] = {vc_p9_readdir, false},  [50] = {vc_p9_fsync, false},   [52] = {lock, false},
    [54] = {getlock, false},        [70] = {vc_p9_link, true},     [72] = {vc_p9_mkdir, true},
    [74] = {vc_p9_renameat, true},  [76] = {vc_p9_unlinkat, true}, [TVERSION] = {version, false},
    [104] = {attach, false},        [108] = {flush, false},        [110] = {walk, false},
    [116] = {vc_p9_read, false},    [118] = {vc_p9_write, true},   [120] = {clunk, false},
    [122] = {vc_p9_remove, true},
};

static int run(struct vc_p9_request *r, uint8_t type)
{
	const struct message *m = &messages[type];
	int e;

	if (type != TVERSION && (!r->p9->msize || r->size > r->p9->msize))
		return -EPROTO;
	if (!m->run)
		return -EOPNOTSUPP;
	if (m->changes && r->p9->readonly)
		return -EROFS;
	e = m->run(r);
	return r->bad ? -EINVAL : e;
}

static void put_header(struct vc_p9_request *r, uint32_t size, uint8_t type)
{
	vc_st32(r->p9->out, size);
	r->p9->out[4] = type;
	memcpy(r->p9->out + 5, r->p9->in + 5, 2);
}

static uint32_t answer(struct vc_p9_request *r, uint8_t type, int e)
{
	if (e < 0) {
		r->out = VC_P9_HEADER;
		r->data = 0;
		vc_p9_put(r, (uint32_t)-e, 4);
	}
	put_header(r, r->out + r->data, e < 0 ? RLERROR : (uint8_t)(type + 1));
	if (r->out + r->data > r->chain->in_bytes)
		return 0;
	vc_iov_from_buffer(r->chain->in, r->chain->in_count, 0, r->p9->out, r->out);
	return r->out + r->data;
}

uint32_t vc_p9_run(struct vc_p9 *p9, const struct vc_virtq_chain *chain)
{
	struct vc_p9_request r = {.p9 = p9, .chain = chain, .at = VC_P9_HEADER, .out = VC_P9_HEADER};
	int e;

	r.length = (uint32_t)vc_iov_to_buffer(chain->out, chain->out_count, 0, p9->in, sizeof p9->in);
	if (r.length < VC_P9_HEADER)
		return 0;
	r.size = vc_ld32(p9->in);
	if (r.size < VC_P9_HEADER || r.size > chain->out_bytes)
		return answer(&r, 0, -EPROTO);
	if (r.length > r.size)
		r.length = r.size;
	e = run(&r, p9->in[4]);
	return answer(&r, p9->in[4], e);
}
