/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block/file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"

enum {
	VECTORS = 64,              /* of one system call */
	BOUNCE_SIZE = 1024 * 1024, /* of a bounce buffer */
	ZERO_SIZE = 64 * 1024,
	DIRECT_MEMORY_ALIGN = 4096,
};

/* ---- open and close ---- */

/* What O_DIRECT asks for: the device's logical blocks; on a file system, by trying, as not all kernels tell. */
static uint32_t direct_align(int fd, bool block_device)
{
	void *buffer;
	int logical = 0;
	uint32_t align = DIRECT_MEMORY_ALIGN;

	if (block_device)
		return ioctl(fd, BLKSSZGET, &logical) == 0 && logical >= 512 ? (uint32_t)logical : DIRECT_MEMORY_ALIGN;
	if (posix_memalign(&buffer, DIRECT_MEMORY_ALIGN, DIRECT_MEMORY_ALIGN))
		return align;
	if (pread(fd, buffer, 512, 0) >= 0)
		align = 512;
	free(buffer);
	return align;
}

static uint32_t physical_sector(int fd, bool block_device)
{
	unsigned size = 0;

	if (block_device && ioctl(fd, BLKPBSZGET, &size) == 0 && size >= 4096)
		return 4096;
	return 512;
}

static int open_flags(const struct vc_block_options *options, bool read_only)
{
	/* O_NONBLOCK: a FIFO in the place of an image must not hang us */
	int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (read_only ? O_RDONLY : O_RDWR);

	return options->cache == VC_BLOCK_DIRECT ? flags | O_DIRECT : flags;
}

static int describe(struct vc_file *file, const struct vc_block_options *options)
{
	struct stat st;

	if (fstat(file->fd, &st) < 0)
		return vc_fail_errno(errno, "%s", file->path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return vc_fail(EINVAL, "%s: neither a regular file nor a block device", file->path);
	if (fcntl(file->fd, F_SETFL, fcntl(file->fd, F_GETFL) & ~O_NONBLOCK) < 0)
		return vc_fail_errno(errno, "%s", file->path);
	file->block_device = S_ISBLK(st.st_mode);
	file->align = options->cache == VC_BLOCK_DIRECT ? direct_align(file->fd, file->block_device) : 1;
	file->sector_size = physical_sector(file->fd, file->block_device);
	if (file->align > file->sector_size)
		file->sector_size = file->align;
	return options->no_lock ? 0 : vc_file_lock(file->fd, file->path, !file->read_only);
}

static struct vc_file *new_file(const char *path)
{
	struct vc_file *file = calloc(1, sizeof *file);

	if (!file)
		return NULL;
	file->path = strdup(path);
	if (!file->path) {
		free(file);
		return NULL;
	}
	file->fd = -1;
	file->align = 1;
	file->sector_size = 512;
	pthread_mutex_init(&file->edge_lock, NULL);
	return file;
}

int vc_file_open(const struct vc_block_options *options, bool read_only, struct vc_file **out)
{
	struct vc_file *file = new_file(options->path);
	int r;

	if (!file)
		return vc_fail(ENOMEM, "%s: no memory", options->path);
	file->read_only = read_only;
	file->ignore_discard = options->ignore_discard;
	file->unsafe = options->cache == VC_BLOCK_UNSAFE;
	file->fd = open(options->path, open_flags(options, read_only));
	if (file->fd < 0)
		r = vc_fail_errno(errno, "%s: opening for %s%s", options->path, read_only ? "reading" : "writing",
		                  options->cache == VC_BLOCK_DIRECT ? " past the page cache" : "");
	else
		r = describe(file, options);
	if (r) {
		vc_file_close(file);
		return r;
	}
	*out = file;
	return 0;
}

int vc_file_open_temporary(struct vc_file **out)
{
	const char *directory = secure_getenv("TMPDIR");
	struct vc_file *file;

	if (!directory || !*directory)
		directory = "/var/tmp";
	file = new_file(directory);
	if (!file)
		return vc_fail(ENOMEM, "no memory for a temporary file");
	file->unsafe = true;
	file->fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (file->fd < 0) {
		int error = errno;

		vc_file_close(file);
		return vc_fail_errno(error, "a temporary file for the overlay in %s", directory);
	}
	*out = file;
	return 0;
}

void vc_file_close(struct vc_file *file)
{
	if (!file)
		return;
	if (file->fd >= 0)
		close(file->fd);
	pthread_mutex_destroy(&file->edge_lock);
	free(file->path);
	free(file);
}

/* ---- reading and writing ---- */

bool vc_file_aligned(const struct vc_file *file, uint64_t offset, const struct vc_span *span)
{
	uint64_t mix = offset | span->length | span->at;

	if (file->align == 1)
		return true;
	for (unsigned i = 0; i < span->count; i++)
		mix |= (uintptr_t)span->iov[i].iov_base | span->iov[i].iov_len;
	return !(mix & (file->align - 1));
}

/* As it is, until done or the end of the file. */
static int transfer(struct vc_file *file, bool write, uint64_t offset, const struct vc_span *span)
{
	struct vc_span rest = *span;
	struct iovec iov[VECTORS];
	size_t length;

	while (rest.length) {
		int count = (int)vc_span_slice(&rest, iov, VECTORS, &length);
		ssize_t n = write ? pwritev(file->fd, iov, count, (off_t)offset) : preadv(file->fd, iov, count, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n && write)
			return -ENOSPC;
		if (!n) {
			vc_span_zero(&rest);
			return 0;
		}
		offset += (uint64_t)n;
		rest = vc_span_part(&rest, (size_t)n, rest.length - (size_t)n);
	}
	return 0;
}

static int transfer_buffer(struct vc_file *file, bool write, uint64_t offset, void *data, size_t length)
{
	struct iovec iov = {data, length};

	return transfer(file, write, offset, &(struct vc_span){&iov, 1, 0, length});
}

/* Unaligned under O_DIRECT: the aligned window around the piece goes through the buffer. */
static int bounce(struct vc_file *file, bool write, uint64_t offset, const struct vc_span *piece, uint8_t *buffer)
{
	uint64_t align = file->align, start = VC_ALIGN_DOWN(offset, align);
	size_t window = (size_t)(VC_ALIGN_UP(offset + piece->length, align) - start), at = (size_t)(offset - start);
	bool edges = at || window != piece->length;
	int r = 0;

	if (!write) {
		r = transfer_buffer(file, false, start, buffer, window);
		if (!r)
			vc_span_fill(piece, buffer + at);
		return r;
	}
	if (edges) {
		pthread_mutex_lock(&file->edge_lock);
		r = transfer_buffer(file, false, start, buffer, window);
	}
	if (!r) {
		vc_span_copy(piece, buffer + at);
		r = transfer_buffer(file, true, start, buffer, window);
	}
	if (edges)
		pthread_mutex_unlock(&file->edge_lock);
	return r;
}

static int bounce_all(struct vc_file *file, bool write, uint64_t offset, const struct vc_span *span)
{
	size_t most = BOUNCE_SIZE - 2 * DIRECT_MEMORY_ALIGN;
	void *buffer;
	int r = 0;

	if (posix_memalign(&buffer, DIRECT_MEMORY_ALIGN, BOUNCE_SIZE))
		return -ENOMEM;
	for (size_t at = 0; at < span->length && !r; at += most) {
		size_t n = span->length - at < most ? span->length - at : most;
		struct vc_span piece = vc_span_part(span, at, n);

		r = bounce(file, write, offset + at, &piece, buffer);
	}
	free(buffer);
	return r;
}

static int rw(struct vc_file *file, bool write, uint64_t offset, const struct vc_span *span)
{
	if (offset > INT64_MAX || span->length > INT64_MAX - offset)
		return -EFBIG;
	if (vc_file_aligned(file, offset, span))
		return transfer(file, write, offset, span);
	return bounce_all(file, write, offset, span);
}

int vc_file_read(struct vc_file *file, uint64_t offset, const struct vc_span *span)
{
	return rw(file, false, offset, span);
}

int vc_file_write(struct vc_file *file, uint64_t offset, const struct vc_span *span)
{
	return rw(file, true, offset, span);
}

int vc_file_pread(struct vc_file *file, uint64_t offset, void *data, size_t length)
{
	struct iovec iov = {data, length};

	return rw(file, false, offset, &(struct vc_span){&iov, 1, 0, length});
}

int vc_file_pwrite(struct vc_file *file, uint64_t offset, const void *data, size_t length)
{
	struct iovec iov = {(void *)data, length};

	return rw(file, true, offset, &(struct vc_span){&iov, 1, 0, length});
}

/* ---- the rest ---- */

int vc_file_flush(struct vc_file *file)
{
	return file->unsafe || file->read_only || fdatasync(file->fd) == 0 ? 0 : -errno;
}

static int hole(struct vc_file *file, int mode, uint64_t offset, uint64_t length)
{
	int r;

	do
		r = fallocate(file->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static bool unsupported(int error)
{
	return error == -EOPNOTSUPP || error == -ENOSYS || error == -ENOTTY || error == -EINVAL;
}

int vc_file_discard(struct vc_file *file, uint64_t offset, uint64_t length)
{
	uint64_t range[2] = {offset, length};
	int r;

	if (file->ignore_discard || !length)
		return 0;
	if (file->block_device)
		r = ioctl(file->fd, BLKDISCARD, range) < 0 ? -errno : 0;
	else
		r = hole(file, FALLOC_FL_PUNCH_HOLE, offset, length);
	return unsupported(r) ? 0 : r;
}

static int write_zeroes(struct vc_file *file, uint64_t offset, uint64_t length)
{
	uint8_t *zeroes = calloc(1, ZERO_SIZE);
	int r = zeroes ? 0 : -ENOMEM;

	while (length && !r) {
		size_t n = length < ZERO_SIZE ? (size_t)length : ZERO_SIZE;

		r = vc_file_pwrite(file, offset, zeroes, n);
		offset += n;
		length -= n;
	}
	free(zeroes);
	return r;
}

int vc_file_zero(struct vc_file *file, uint64_t offset, uint64_t length, bool may_unmap)
{
	int r = -EOPNOTSUPP;

	if (may_unmap && !file->ignore_discard)
		r = hole(file, FALLOC_FL_PUNCH_HOLE, offset, length);
	if (unsupported(r))
		r = hole(file, FALLOC_FL_ZERO_RANGE, offset, length);
	return unsupported(r) ? write_zeroes(file, offset, length) : r;
}

int64_t vc_file_size(const struct vc_file *file)
{
	struct stat st;
	uint64_t bytes;

	if (file->block_device)
		return ioctl(file->fd, BLKGETSIZE64, &bytes) < 0 ? -errno : (int64_t)bytes;
	return fstat(file->fd, &st) < 0 ? -errno : (int64_t)st.st_size;
}
