/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The 9P device's open files: their data goes between the guest's memory and the file without a copy in between. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/util.h"
#include "virtio/p9.h"

/* Of a guest's flags, which are those of this host: how to open. The rest is its kernel's business. */
#define FLAGS (O_ACCMODE | O_TRUNC | O_DSYNC | O_SYNC)

enum { PIECES = 130 /* 512 KiB of pages, and a header */, DIR_BUFFER = 16 << 10, ENTRY_FIXED = 24, MODE = 01777 };

struct dirent64_raw {
	uint64_t ino;
	int64_t next;
	uint16_t length;
	uint8_t type;
	char name[];
};

/* ---- opening ---- */

static int put_opened(struct vc_p9_request *r, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	vc_p9_put_qid(r, &st);
	vc_p9_put(r, 0, 4); /* the client may use all of msize */
	return 0;
}

static int check_flags(const struct vc_p9_request *r, uint32_t flags)
{
	if (r->bad || (flags & O_ACCMODE) == O_ACCMODE)
		return -EINVAL;
	return r->p9->readonly && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC)) ? -EROFS : 0;
}

/* Takes fd over. */
static int set_open(struct vc_p9_request *r, struct vc_p9_fid *fid, int fd, uint32_t flags)
{
	int e = fd < 0 ? fd : put_opened(r, fd);

	if (e < 0) {
		if (fd >= 0)
			close(fd);
		return e;
	}
	fid->file = fd;
	fid->writable = (flags & O_ACCMODE) != O_RDONLY;
	return 0;
}

int vc_p9_lopen(struct vc_p9_request *r)
{
	struct vc_p9_fid *fid = vc_p9_get_fid(r);
	uint32_t flags = (uint32_t)vc_p9_get(r, 4);
	int e = check_flags(r, flags);

	if (!fid || fid->file >= 0)
		return fid ? -EINVAL : -EBADF;
	return e < 0 ? e : set_open(r, fid, vc_p9_reopen(r->p9, fid->node->fd, (int)(flags & FLAGS)), flags);
}

/* The node of an open file. */
static int node_of(const struct vc_p9 *p9, int fd, struct vc_p9_node **node)
{
	char name[16];
	int path;

	snprintf(name, sizeof name, "%d", fd);
	path = openat(p9->proc, name, O_PATH | O_CLOEXEC);
	if (path < 0)
		return -errno;
	*node = vc_p9_node_new(path);
	return *node ? 0 : -ENOMEM;
}

/* A file that is not there yet; what somebody else has made in the meantime is opened if that may be. The descriptor,
 * and its node. */
static int create(struct vc_p9_request *r, const struct vc_p9_node *dir, const char *name, uint32_t flags,
                  uint32_t mode, struct vc_p9_node **node, bool *made)
{
	int how = (int)(flags & FLAGS) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY;
	int fd = openat(dir->fd, name, how, mode & MODE), e;

	if (fd < 0 && (errno != EEXIST || (flags & O_EXCL)))
		return -errno;
	*made = fd >= 0;
	e = fd < 0 ? vc_p9_step(r->p9, dir, name, node) : node_of(r->p9, fd, node);
	if (e < 0) {
		if (fd >= 0)
			close(fd);
		return e;
	}
	if (fd < 0)
		fd = vc_p9_reopen(r->p9, (*node)->fd, (int)(flags & FLAGS));
	if (fd < 0)
		vc_p9_node_put(*node);
	return fd;
}

int vc_p9_lcreate(struct vc_p9_request *r)
{
	struct vc_p9_fid *fid = vc_p9_get_fid(r);
	struct vc_p9_node *node;
	char name[NAME_MAX + 1];
	int e = vc_p9_get_name(r, name);
	uint32_t flags = (uint32_t)vc_p9_get(r, 4), mode = (uint32_t)vc_p9_get(r, 4), group = (uint32_t)vc_p9_get(r, 4);
	bool made = false;

	if (!fid || fid->file >= 0)
		return fid ? -EINVAL : -EBADF;
	if (e >= 0)
		e = check_flags(r, flags);
	if (e >= 0)
		e = create(r, fid->node, name, flags, mode, &node, &made);
	if (e < 0)
		return e;
	if (made)
		vc_p9_give_away(r->p9, fid->user, group, e, "");
	e = set_open(r, fid, e, flags);
	if (e < 0) {
		vc_p9_node_put(node);
		return e;
	}
	vc_p9_node_put(fid->parent);
	fid->parent = fid->node;
	fid->node = node;
	memcpy(fid->name, name, sizeof name);
	return 0;
}

/* ---- data ---- */

static struct vc_p9_fid *get_open(struct vc_p9_request *r, uint64_t *offset, uint32_t *count)
{
	struct vc_p9_fid *fid = vc_p9_get_fid(r);

	*offset = vc_p9_get(r, 8);
	*count = (uint32_t)vc_p9_get(r, 4);
	return !r->bad && fid && fid->file >= 0 && *offset <= INT64_MAX ? fid : NULL;
}

int vc_p9_read(struct vc_p9_request *r)
{
	struct iovec piece[PIECES];
	uint64_t offset;
	uint32_t count, pieces;
	struct vc_p9_fid *fid = get_open(r, &offset, &count);
	ssize_t n;

	if (!fid)
		return -EBADF;
	count = vc_p9_room(r, count);
	pieces = vc_iov_slice(r->chain->in, r->chain->in_count, VC_P9_DATA_AT, count, piece, PIECES);
	n = preadv(fid->file, piece, (int)pieces, (off_t)offset);
	if (n < 0)
		return -errno;
	vc_p9_put(r, (uint64_t)n, 4);
	r->data = (uint32_t)n;
	r->p9->read += (uint64_t)n;
	return 0;
}

int vc_p9_write(struct vc_p9_request *r)
{
	struct iovec piece[PIECES];
	uint64_t offset;
	uint32_t count, pieces;
	struct vc_p9_fid *fid = get_open(r, &offset, &count);
	ssize_t n;

	if (!fid || !fid->writable)
		return -EBADF;
	if (count > r->size - VC_P9_WRITTEN_AT)
		return -EINVAL;
	pieces = vc_iov_slice(r->chain->out, r->chain->out_count, VC_P9_WRITTEN_AT, count, piece, PIECES);
	n = pwritev(fid->file, piece, (int)pieces, (off_t)offset);
	if (n < 0)
		return -errno;
	vc_p9_put(r, (uint64_t)n, 4);
	r->p9->written += (uint64_t)n;
	return 0;
}

int vc_p9_fsync(struct vc_p9_request *r)
{
	struct vc_p9_fid *fid = vc_p9_get_fid(r);
	/* clients have sent it without */
	bool data_only = r->at < r->length && vc_p9_get(r, 4);

	if (!fid || fid->file < 0)
		return -EBADF;
	return (data_only ? fdatasync(fid->file) : fsync(fid->file)) < 0 ? -errno : 0;
}

/* ---- directories ---- */

/* An entry, where there is room for it. */
static bool put_entry(struct vc_p9_request *r, const struct dirent64_raw *entry, uint32_t room)
{
	size_t length = strlen(entry->name);
	uint32_t start = r->out;
	struct stat st = {.st_dev = r->p9->root_stat.st_dev, .st_ino = entry->ino, .st_mode = DTTOIF(entry->type)};

	if (ENTRY_FIXED + length > room - r->data)
		return false;
	vc_p9_put_qid(r, &st);
	vc_p9_put(r, (uint64_t)entry->next, 8);
	vc_p9_put(r, entry->type, 1);
	vc_p9_put_string(r, entry->name);
	vc_iov_from_buffer(r->chain->in, r->chain->in_count, VC_P9_DATA_AT + r->data, r->p9->out + start, r->out - start);
	r->data += r->out - start;
	r->out = start;
	return true;
}

static int put_entries(struct vc_p9_request *r, int fd, uint32_t room)
{
	_Alignas(struct dirent64_raw) char buffer[DIR_BUFFER];
	long n = syscall(SYS_getdents64, fd, buffer, sizeof buffer);

	if (n < 0)
		return -errno;
	for (long at = 0; at < n;) {
		const struct dirent64_raw *entry = (void *)(buffer + at);

		if (!put_entry(r, entry, room))
			return r->data ? 0 : -EINVAL;
		at += entry->length;
	}
	return 0;
}

int vc_p9_readdir(struct vc_p9_request *r)
{
	uint64_t offset;
	uint32_t count;
	struct vc_p9_fid *fid = get_open(r, &offset, &count);
	uint32_t counted = r->out;
	int e;

	if (!fid)
		return -EBADF;
	if (lseek(fid->file, (off_t)offset, SEEK_SET) < 0)
		return -errno;
	vc_p9_put(r, 0, 4);
	e = put_entries(r, fid->file, vc_p9_room(r, count));
	vc_st32(r->p9->out + counted, r->data);
	return e;
}
