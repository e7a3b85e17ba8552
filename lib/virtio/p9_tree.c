/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The 9P device's names and attributes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "core/util.h"
#include "virtio/p9.h"

/* Nothing that the guest makes gets rights on the host: no set-user-ID, no set-group-ID. */
enum { MODE = 01777, REMOVE_DIRECTORY = 0x200 };

#define GETATTR_BASIC 0x7ffull

/* Tsetattr's valid */
enum {
	SET_MODE = 1 << 0,
	SET_UID = 1 << 1,
	SET_GID = 1 << 2,
	SET_SIZE = 1 << 3,
	SET_ATIME = 1 << 4,
	SET_MTIME = 1 << 5,
	SET_ATIME_TO = 1 << 7,
	SET_MTIME_TO = 1 << 8,
};

/* ---- attributes ---- */

static void put_time(struct vc_p9_request *r, const struct timespec *t)
{
	vc_p9_put(r, (uint64_t)t->tv_sec, 8);
	vc_p9_put(r, (uint64_t)t->tv_nsec, 8);
}

int vc_p9_getattr(struct vc_p9_request *r)
{
	struct vc_p9_fid *fid = vc_p9_get_fid(r);
	const struct timespec none = {0};
	struct stat st;

	if (!fid)
		return -EBADF;
	if (fstat(fid->node->fd, &st) < 0)
		return -errno;
	vc_p9_put(r, GETATTR_BASIC, 8);
	vc_p9_put_qid(r, &st);
	vc_p9_put(r, st.st_mode, 4);
	vc_p9_put(r, st.st_uid, 4);
	vc_p9_put(r, st.st_gid, 4);
	vc_p9_put(r, st.st_nlink, 8);
	vc_p9_put(r, st.st_rdev, 8);
	vc_p9_put(r, (uint64_t)st.st_size, 8);
	vc_p9_put(r, (uint64_t)st.st_blksize, 8);
	vc_p9_put(r, (uint64_t)st.st_blocks, 8);
	put_time(r, &st.st_atim);
	put_time(r, &st.st_mtim);
	put_time(r, &st.st_ctim);
	put_time(r, &none); /* birth, generation and data version are not valid */
	put_time(r, &none);
	return 0;
}

struct attributes {
	uint32_t valid, mode, uid, gid;
	uint64_t size;
	struct timespec times[2];
};

static void get_time(struct vc_p9_request *r, uint32_t valid, uint32_t any, uint32_t to, struct timespec *t)
{
	t->tv_sec = (time_t)vc_p9_get(r, 8);
	t->tv_nsec = (long)vc_p9_get(r, 8);
	if (!(valid & any))
		t->tv_nsec = UTIME_OMIT;
	else if (!(valid & to))
		t->tv_nsec = UTIME_NOW;
}

static void get_attributes(struct vc_p9_request *r, struct attributes *a)
{
	a->valid = (uint32_t)vc_p9_get(r, 4);
	a->mode = (uint32_t)vc_p9_get(r, 4);
	a->uid = (uint32_t)vc_p9_get(r, 4);
	a->gid = (uint32_t)vc_p9_get(r, 4);
	a->size = vc_p9_get(r, 8);
	get_time(r, a->valid, SET_ATIME, SET_ATIME_TO, &a->times[0]);
	get_time(r, a->valid, SET_MTIME, SET_MTIME_TO, &a->times[1]);
}

static int set_mode(struct vc_p9_request *r, const struct vc_p9_fid *fid, const struct attributes *a)
{
	char name[16];
	struct stat st;

	if (fstat(fid->node->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return -EOPNOTSUPP;
	snprintf(name, sizeof name, "%d", fid->node->fd);
	return fchmodat(r->p9->proc, name, a->mode & MODE, 0) < 0 ? -errno : 0;
}

static int set_owner(struct vc_p9_request *r, const struct vc_p9_fid *fid, const struct attributes *a)
{
	uid_t uid = a->valid & SET_UID ? a->uid : (uid_t)-1;
	gid_t gid = a->valid & SET_GID ? a->gid : (gid_t)-1;

	return fchownat(fid->node->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int set_size(struct vc_p9_request *r, const struct vc_p9_fid *fid, const struct attributes *a)
{
	int fd, e;

	if (a->size > INT64_MAX)
		return -EFBIG;
	/* one that is open for writing may be of a file that cannot be opened so any more */
	if (fid->writable)
		return ftruncate(fid->file, (off_t)a->size) < 0 ? -errno : 0;
	fd = vc_p9_reopen(r->p9, fid->node->fd, O_WRONLY);
	if (fd < 0)
		return fd;
	e = ftruncate(fd, (off_t)a->size) < 0 ? -errno : 0;
	close(fd);
	return e;
}

static int set_times(struct vc_p9_request *r, const struct vc_p9_fid *fid, const struct attributes *a)
{
	return utimensat(fid->node->fd, "", a->times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int vc_p9_setattr(struct vc_p9_request *r)
{
	static const struct {
		uint32_t valid;
		int (*set)(struct vc_p9_request *r, const struct vc_p9_fid *fid, const struct attributes *a);
	} steps[] = {
	    {SET_UID | SET_GID, set_owner},
	    {SET_MODE, set_mode},
	    {SET_SIZE, set_size},
	    {SET_ATIME | SET_MTIME, set_times},
	};
	struct vc_p9_fid *fid = vc_p9_get_fid(r);
	struct attributes a;
	int e = 0;

	get_attributes(r, &a);
	if (!fid || r->bad)
		return -EBADF;
	for (unsigned i = 0; e >= 0 && i < VC_ARRAY_SIZE(steps); i++)
		if (a.valid & steps[i].valid)
			e = steps[i].set(r, fid, &a);
	return e;
}

int vc_p9_statfs(struct vc_p9_request *r)
{
	struct vc_p9_fid *fid = vc_p9_get_fid(r);
	struct statfs s;

	if (!fid)
		return -EBADF;
	if (fstatfs(fid->node->fd, &s) < 0)
		return -errno;
	vc_p9_put(r, (uint64_t)s.f_type, 4);
	vc_p9_put(r, (uint64_t)s.f_bsize, 4);
	vc_p9_put(r, s.f_blocks, 8);
	vc_p9_put(r, s.f_bfree, 8);
	vc_p9_put(r, s.f_bavail, 8);
	vc_p9_put(r, s.f_files, 8);
	vc_p9_put(r, s.f_ffree, 8);
	vc_p9_put(r, 0, 8);
	vc_p9_put(r, NAME_MAX, 4);
	return 0;
}

/* ---- making ---- */

/* What has just been made. */
static int put_made(struct vc_p9_request *r, const struct vc_p9_fid *dir, const char *name)
{
	struct stat st;

	if (fstatat(dir->node->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	vc_p9_put_qid(r, &st);
	return 0;
}

int vc_p9_mkdir(struct vc_p9_request *r)
{
	struct vc_p9_fid *dir = vc_p9_get_fid(r);
	char name[NAME_MAX + 1];
	int e = vc_p9_get_name(r, name);
	uint32_t mode = (uint32_t)vc_p9_get(r, 4), group = (uint32_t)vc_p9_get(r, 4);

	if (!dir || e < 0 || r->bad)
		return dir ? e : -EBADF;
	if (mkdirat(dir->node->fd, name, mode & MODE) < 0)
		return -errno;
	vc_p9_give_away(r->p9, dir->user, group, dir->node->fd, name);
	return put_made(r, dir, name);
}

/* Plain files only: devices, pipes and sockets would be the host's. */
int vc_p9_mknod(struct vc_p9_request *r)
{
	struct vc_p9_fid *dir = vc_p9_get_fid(r);
	char name[NAME_MAX + 1];
	int e = vc_p9_get_name(r, name), fd;
	uint32_t mode = (uint32_t)vc_p9_get(r, 4), group;

	vc_p9_get(r, 8); /* a device's number */
	group = (uint32_t)vc_p9_get(r, 4);
	if (!dir || e < 0 || r->bad)
		return dir ? e : -EBADF;
	if ((mode & S_IFMT) && !S_ISREG(mode))
		return -EPERM;
	fd = openat(dir->node->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & MODE);
	if (fd < 0)
		return -errno;
	vc_p9_give_away(r->p9, dir->user, group, fd, "");
	close(fd);
	return put_made(r, dir, name);
}

int vc_p9_symlink(struct vc_p9_request *r)
{
	struct vc_p9_fid *dir = vc_p9_get_fid(r);
	char name[NAME_MAX + 1], target[PATH_MAX];
	int e = vc_p9_get_name(r, name);
	uint32_t group;

	if (e >= 0)
		e = vc_p9_get_string(r, target, sizeof target);
	group = (uint32_t)vc_p9_get(r, 4);
	if (!dir || e < 0 || r->bad)
		return dir ? e : -EBADF;
	if (symlinkat(target, dir->node->fd, name) < 0)
		return -errno;
	vc_p9_give_away(r->p9, dir->user, group, dir->node->fd, name);
	return put_made(r, dir, name);
}

int vc_p9_readlink(struct vc_p9_request *r)
{
	struct vc_p9_fid *fid = vc_p9_get_fid(r);
	char target[PATH_MAX];
	ssize_t n;

	if (!fid)
		return -EBADF;
	n = readlinkat(fid->node->fd, "", target, sizeof target - 1);
	if (n < 0)
		return errno == ENOENT ? -EINVAL : -errno; /* it is none */
	target[n] = 0;
	vc_p9_put_string(r, target);
	return 0;
}

int vc_p9_link(struct vc_p9_request *r)
{
	struct vc_p9_fid *dir = vc_p9_get_fid(r), *fid = vc_p9_get_fid(r);
	char name[NAME_MAX + 1], from[16];
	int e = vc_p9_get_name(r, name);

	if (!dir || !fid || e < 0)
		return dir && fid ? e : -EBADF;
	snprintf(from, sizeof from, "%d", fid->node->fd);
	return linkat(r->p9->proc, from, dir->node->fd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* ---- moving and removing ---- */

static int move(const struct vc_p9_node *from, const char *old, const struct vc_p9_fid *to, const char *new)
{
	return renameat(from->fd, old, to->node->fd, new) < 0 ? -errno : 0;
}

int vc_p9_rename(struct vc_p9_request *r)
{
	struct vc_p9_fid *fid = vc_p9_get_fid(r), *dir = vc_p9_get_fid(r);
	char name[NAME_MAX + 1];
	int e = vc_p9_get_name(r, name);

	if (!fid || !dir || e < 0)
		return fid && dir ? e : -EBADF;
	e = vc_p9_check_name(fid);
	if (e >= 0)
		e = move(fid->parent, fid->name, dir, name);
	if (e < 0)
		return e;
	vc_p9_node_put(fid->parent);
	fid->parent = vc_p9_node_get(dir->node);
	memcpy(fid->name, name, sizeof name);
	return 0;
}

int vc_p9_renameat(struct vc_p9_request *r)
{
	struct vc_p9_fid *from = vc_p9_get_fid(r), *to;
	char old[NAME_MAX + 1], new[NAME_MAX + 1];
	int e = vc_p9_get_name(r, old);

	to = vc_p9_get_fid(r);
	if (e >= 0)
		e = vc_p9_get_name(r, new);
	if (!from || !to || e < 0)
		return from && to ? e : -EBADF;
	return move(from->node, old, to, new);
}

int vc_p9_unlinkat(struct vc_p9_request *r)
{
	struct vc_p9_fid *dir = vc_p9_get_fid(r);
	char name[NAME_MAX + 1];
	int e = vc_p9_get_name(r, name);
	uint32_t flags = (uint32_t)vc_p9_get(r, 4);

	if (!dir || e < 0 || r->bad)
		return dir ? e : -EBADF;
	return unlinkat(dir->node->fd, name, flags & REMOVE_DIRECTORY ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
}

/* The fid is gone whatever becomes of the file. */
int vc_p9_remove(struct vc_p9_request *r)
{
	struct vc_p9_fid *fid = vc_p9_get_fid(r);
	struct stat st;
	int e;

	if (!fid)
		return -EBADF;
	e = vc_p9_check_name(fid);
	if (e >= 0 && fstat(fid->node->fd, &st) < 0)
		e = -errno;
	if (e >= 0 && unlinkat(fid->parent->fd, fid->name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0)
		e = -errno;
	vc_p9_fid_free(r->p9, fid);
	return e;
}
