/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the 9P device's fids stand for. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/util.h"
#include "virtio/p9.h"

enum { DEPTH_MAX = 256 };

/* ---- nodes ---- */

struct vc_p9_node *vc_p9_node_new(int fd)
{
	struct vc_p9_node *node = malloc(sizeof *node);

	if (node)
		*node = (struct vc_p9_node){1, fd};
	else
		close(fd);
	return node;
}

struct vc_p9_node *vc_p9_node_get(struct vc_p9_node *node)
{
	node->users++;
	return node;
}

void vc_p9_node_put(struct vc_p9_node *node)
{
	if (!node || --node->users)
		return;
	close(node->fd);
	free(node);
}

/* ---- fids ---- */

struct vc_p9_fid *vc_p9_fid_find(struct vc_p9 *p9, uint32_t number)
{
	struct vc_p9_fid *fid = LIST_FIRST(&p9->fids[number % VC_P9_BUCKETS]);

	while (fid && fid->number != number)
		fid = LIST_NEXT(fid, by_number);
	return fid;
}

static int make_fid(struct vc_p9 *p9, uint32_t number, struct vc_p9_fid **out)
{
	if (vc_p9_fid_find(p9, number))
		return -EBADF;
	if (p9->fid_count == VC_P9_FIDS)
		return -EMFILE;
	*out = calloc(1, sizeof **out);
	return *out ? 0 : -ENOMEM;
}

int vc_p9_fid_new(struct vc_p9 *p9, uint32_t number, uint32_t user, struct vc_p9_node *node, struct vc_p9_node *parent,
                  const char *name)
{
	struct vc_p9_fid *fid;
	int r = make_fid(p9, number, &fid);

	if (r < 0) {
		vc_p9_node_put(node);
		vc_p9_node_put(parent);
		return r;
	}
	fid->number = number;
	fid->user = user;
	fid->node = node;
	fid->parent = parent;
	fid->file = -1;
	snprintf(fid->name, sizeof fid->name, "%s", name);
	LIST_INSERT_HEAD(&p9->fids[number % VC_P9_BUCKETS], fid, by_number);
	p9->fid_count++;
	return 0;
}

void vc_p9_fid_free(struct vc_p9 *p9, struct vc_p9_fid *fid)
{
	LIST_REMOVE(fid, by_number);
	p9->fid_count--;
	if (fid->file >= 0)
		close(fid->file);
	vc_p9_node_put(fid->node);
	vc_p9_node_put(fid->parent);
	free(fid);
}

void vc_p9_fid_free_all(struct vc_p9 *p9)
{
	for (uint32_t i = 0; i < VC_P9_BUCKETS; i++)
		while (!LIST_EMPTY(&p9->fids[i]))
			vc_p9_fid_free(p9, LIST_FIRST(&p9->fids[i]));
}

/* ---- where things are ---- */

static bool is_root(const struct vc_p9 *p9, int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_dev == p9->root_stat.st_dev && st.st_ino == p9->root_stat.st_ino;
}

/* Does a directory lie beneath the root? The host may have moved it out. */
static bool is_beneath(const struct vc_p9 *p9, int fd)
{
	int at = openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool found = false;

	for (unsigned i = 0; at >= 0 && i < DEPTH_MAX; i++) {
		int up;

		found = is_root(p9, at);
		if (found)
			break;
		up = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = up;
	}
	if (at >= 0)
		close(at);
	return found;
}

/* Up, but never out. */
static int step_up(struct vc_p9 *p9, const struct vc_p9_node *from)
{
	int fd;

	if (is_root(p9, from->fd))
		return openat(from->fd, ".", O_PATH | O_CLOEXEC);
	fd = openat(from->fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || is_beneath(p9, fd))
		return fd;
	close(fd);
	errno = EACCES;
	return -1;
}

int vc_p9_step(struct vc_p9 *p9, const struct vc_p9_node *from, const char *name, struct vc_p9_node **to)
{
	int fd = strcmp(name, "..") ? openat(from->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : step_up(p9, from);

	if (fd < 0)
		return -errno;
	*to = vc_p9_node_new(fd);
	return *to ? 0 : -ENOMEM;
}

int vc_p9_reopen(const struct vc_p9 *p9, int fd, int flags)
{
	struct stat st;
	char name[16];
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode))
		return -ELOOP;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return -EACCES;
	snprintf(name, sizeof name, "%d", fd);
	r = openat(p9->proc, name, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	return r < 0 ? -errno : r;
}

int vc_p9_check_name(const struct vc_p9_fid *fid)
{
	struct stat mine, found;

	if (!fid->parent)
		return -EBUSY;
	if (fstat(fid->node->fd, &mine) < 0 || fstatat(fid->parent->fd, fid->name, &found, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return mine.st_dev == found.st_dev && mine.st_ino == found.st_ino ? 0 : -ESTALE;
}

/* Who may not give files away keeps them. */
void vc_p9_give_away(const struct vc_p9 *p9, uint32_t user, uint32_t group, int fd, const char *name)
{
	if (p9->guest_owners && user != VC_P9_NO_USER &&
	    fchownat(fd, name, user, group, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return;
}
