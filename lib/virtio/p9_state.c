/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The 9P device's session in a saved state: fids, each with the path beneath the directory that its file has now and
 * how it was opened. At load they are walked to and opened again, without following links, as a guest's own walks are.
 * What has no name any more cannot be saved, and what is not there any more cannot be loaded.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "chipset/dev_state.h"
#include "virtio/p9.h"

enum {
	STATE_VERSION = 2,
	VERSION_WITHOUT_FIDS = 1, /* nothing but two words */
	OPEN_FLAGS = O_ACCMODE | O_DSYNC | O_SYNC,
	NOT_OPEN = -1,
};

struct p9_state {
	uint32_t version, msize;
	uint32_t readonly, fids;
};

/* Its path follows, without a zero byte. */
struct fid_state {
	uint32_t number;
	int32_t flags; /* O_*; NOT_OPEN */
	uint32_t type; /* S_IFMT */
	uint32_t length;
};

/* ---- paths ---- */

static int path_of(const struct vc_p9 *p9, int fd, char path[PATH_MAX])
{
	char name[16];
	ssize_t n;

	snprintf(name, sizeof name, "%d", fd);
	n = readlinkat(p9->proc, name, path, PATH_MAX - 1);
	if (n < 0)
		return vc_fail_errno(errno, "virtio-9p: the path of a file that the guest uses");
	path[n] = 0;
	return 0;
}

/* Cuts the root's path off. NULL: it does not begin with that. */
static const char *beneath(const char *root, const char *path)
{
	size_t length = strlen(root);

	if (length && root[length - 1] == '/')
		length--;
	if (strncmp(root, path, length) || (path[length] && path[length] != '/'))
		return NULL;
	return path + length + (path[length] == '/');
}

/* One component after another. On success both are the caller's; parent is NULL, and name empty, for the root. */
static int walk(struct vc_p9 *p9, char *path, struct vc_p9_node **node, struct vc_p9_node **parent, const char **name)
{
	struct vc_p9_node *at = vc_p9_node_get(p9->root), *before = NULL, *next;
	char *save = NULL;
	int r = 0;

	*name = "";
	for (char *part = strtok_r(path, "/", &save); part && r >= 0; part = strtok_r(NULL, "/", &save)) {
		r = strcmp(part, ".") && strcmp(part, "..") && strlen(part) <= NAME_MAX ? vc_p9_step(p9, at, part, &next)
		                                                                        : -EINVAL;
		if (r < 0)
			break;
		vc_p9_node_put(before);
		before = at;
		at = next;
		*name = part;
	}
	if (r < 0) {
		vc_p9_node_put(at);
		vc_p9_node_put(before);
		return r;
	}
	*node = at;
	*parent = before;
	return 0;
}

/* ---- saving ---- */

/* The path of a fid, if it leads to its file; else the guest uses what could not be found again. */
static int find_path(struct vc_p9 *p9, const struct vc_p9_fid *fid, char path[PATH_MAX], struct stat *st)
{
	char root[PATH_MAX], walked[PATH_MAX];
	struct vc_p9_node *node, *parent;
	const char *relative, *name;
	struct stat found;
	bool same;
	int r = path_of(p9, p9->root->fd, root);

	if (r >= 0)
		r = path_of(p9, fid->node->fd, path);
	if (r < 0)
		return r;
	relative = beneath(root, path);
	if (fstat(fid->node->fd, st) < 0)
		return vc_fail_errno(errno, "virtio-9p: %s", path);
	if (!st->st_nlink)
		return vc_fail(EBUSY, "virtio-9p: the guest uses %s, which is removed, and so cannot be saved", path);
	if (!relative)
		return vc_fail(EBUSY, "virtio-9p: the guest uses %s, which is not in %s any more, and so cannot be saved", path,
		               root);
	memmove(path, relative, strlen(relative) + 1);
	memcpy(walked, path, sizeof walked);
	r = walk(p9, walked, &node, &parent, &name);
	if (r >= 0) {
		same = fstat(node->fd, &found) == 0 && found.st_dev == st->st_dev && found.st_ino == st->st_ino;
		vc_p9_node_put(node);
		vc_p9_node_put(parent);
		r = same ? 0 : -ESTALE;
	}
	return r < 0 ? vc_fail_errno(-r, "virtio-9p: the guest uses %s, which cannot be found by that name", path) : 0;
}

/* Counts bytes; writes them where there is room. */
static void put(uint8_t *buffer, size_t length, size_t *at, const void *data, size_t size)
{
	if (buffer && *at <= length && size <= length - *at)
		memcpy(buffer + *at, data, size);
	*at += size;
}

static int save_fid(struct vc_p9 *p9, const struct vc_p9_fid *fid, uint8_t *buffer, size_t length, size_t *at)
{
	char path[PATH_MAX];
	struct fid_state state;
	struct stat st;
	int r = find_path(p9, fid, path, &st), flags = fid->file < 0 ? NOT_OPEN : fcntl(fid->file, F_GETFL);

	if (r < 0)
		return r;
	if (fid->file >= 0 && flags < 0)
		return vc_fail_errno(errno, "virtio-9p: %s", path);
	state = (struct fid_state){.number = fid->number,
	                           .flags = fid->file < 0 ? NOT_OPEN : flags & OPEN_FLAGS,
	                           .type = st.st_mode & S_IFMT,
	                           .length = (uint32_t)strlen(path)};
	put(buffer, length, at, &state, sizeof state);
	put(buffer, length, at, path, state.length);
	return 0;
}

int64_t vc_p9_save(struct vc_p9 *p9, void *buffer, size_t length)
{
	struct p9_state state = {
	    .version = STATE_VERSION, .msize = p9->msize, .readonly = p9->readonly, .fids = p9->fid_count};
	const struct vc_p9_fid *fid;
	size_t at = 0;
	int r = 0;

	if (p9->guest_owners && p9->fid_count)
		return vc_fail(ENOTSUP, "virtio-9p: with guest_owners=on it cannot be saved while the guest has it mounted");
	put(buffer, length, &at, &state, sizeof state);
	for (uint32_t i = 0; i < VC_P9_BUCKETS; i++)
		LIST_FOREACH(fid, &p9->fids[i], by_number)
		{
			r = save_fid(p9, fid, buffer, length, &at);
			if (r < 0)
				return r;
		}
	return buffer && at > length
	           ? vc_fail(ENOSPC, "a buffer of %zu bytes is too small for a device state of %zu", length, at)
	           : (int64_t)at;
}

/* ---- loading ---- */

static int open_again(struct vc_p9 *p9, struct vc_p9_fid *fid, int flags)
{
	int fd;

	if (flags == NOT_OPEN)
		return 0;
	fd = vc_p9_reopen(p9, fid->node->fd, flags);
	if (fd < 0)
		return fd;
	fid->file = fd;
	fid->writable = (flags & O_ACCMODE) != O_RDONLY;
	return 0;
}

static int make_fid(struct vc_p9 *p9, const struct fid_state *state, const char *path)
{
	struct vc_p9_node *node, *parent;
	char walked[PATH_MAX];
	const char *name;
	struct stat st;
	int r;

	memcpy(walked, path, state->length + 1);
	r = walk(p9, walked, &node, &parent, &name);
	if (r >= 0)
		r = vc_p9_fid_new(p9, state->number, VC_P9_NO_USER, node, parent, name);
	if (r < 0)
		return r;
	if (fstat(node->fd, &st) < 0)
		return -errno;
	if ((st.st_mode & S_IFMT) != state->type)
		return -ESTALE;
	return open_again(p9, vc_p9_fid_find(p9, state->number), state->flags);
}

/* Takes what it has read off data. */
static int load_fid(struct vc_p9 *p9, const uint8_t **data, size_t *left)
{
	struct fid_state state;
	char path[PATH_MAX];
	int r;

	if (*left < sizeof state)
		return -EINVAL;
	memcpy(&state, *data, sizeof state);
	if (state.length >= PATH_MAX || state.length > *left - sizeof state ||
	    memchr(*data + sizeof state, 0, state.length) ||
	    (state.flags != NOT_OPEN && (state.flags & ~OPEN_FLAGS || (state.flags & O_ACCMODE) == O_ACCMODE)) ||
	    (p9->readonly && state.flags != NOT_OPEN && (state.flags & O_ACCMODE) != O_RDONLY) ||
	    vc_p9_fid_find(p9, state.number))
		return -EINVAL;
	memcpy(path, *data + sizeof state, state.length);
	path[state.length] = 0;
	*data += sizeof state + state.length;
	*left -= sizeof state + state.length;
	r = make_fid(p9, &state, path);
	return r < 0 ? vc_fail_errno(-r, "virtio-9p: the guest had \"%s\" of the directory, which cannot be opened again",
	                             path)
	             : 0;
}

static int load_fids(struct vc_p9 *p9, const struct p9_state *state, const uint8_t *data, size_t left)
{
	int r = 0;

	if (state->readonly != p9->readonly || state->fids > VC_P9_FIDS || (state->fids && !state->msize) ||
	    (state->msize && (state->msize < VC_P9_MSIZE_MIN || state->msize > VC_P9_MSIZE_MAX)))
		return -EINVAL;
	p9->msize = state->msize;
	for (uint32_t i = 0; i < state->fids && r >= 0; i++)
		r = load_fid(p9, &data, &left);
	return r >= 0 && left ? -EINVAL : r;
}

int vc_p9_load(struct vc_p9 *p9, const void *buffer, size_t length)
{
	struct p9_state state = {0};
	int r;

	vc_p9_fid_free_all(p9);
	p9->msize = 0;
	if (length == 8 && vc_ld32(buffer) == VERSION_WITHOUT_FIDS)
		return 0;
	r = length < sizeof state ? -EINVAL
	                          : vc_dev_state_in("virtio-9p", STATE_VERSION, &state, sizeof state, buffer, sizeof state);
	if (r >= 0)
		r = load_fids(p9, &state, (const uint8_t *)buffer + sizeof state, length - sizeof state);
	if (r < 0) {
		vc_p9_fid_free_all(p9);
		p9->msize = 0;
	}
	return r;
}
