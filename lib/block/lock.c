/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Image locks that QEMU and qemu-img understand: shared OFD locks on single bytes. Byte 100 + n says "I use permission
 * n", byte 200 + n "nobody else may". Whoever takes one looks for the other afterwards, so of two that come at the same
 * time at least one goes away.
 */
#include <fcntl.h>

#include "block/file.h"
#include "core/error.h"

enum {
	USED_BASE = 100,
	UNSHARED_BASE = 200,

	PERM_READ = 1u << 0, /* of consistent data */
	PERM_WRITE = 1u << 1,
	PERM_RESIZE = 1u << 3,
	PERM_COUNT = 4,
};

static int take(int fd, unsigned base, unsigned permissions)
{
	for (unsigned n = 0; n < PERM_COUNT; n++) {
		struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = base + n, .l_len = 1};

		if (permissions & 1u << n && fcntl(fd, F_OFD_SETLK, &lock) < 0)
			return -errno;
	}
	return 0;
}

/* -EAGAIN when another open file description has a lock on one of the bytes. */
static int look(int fd, unsigned base, unsigned permissions)
{
	for (unsigned n = 0; n < PERM_COUNT; n++) {
		struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = base + n, .l_len = 1};

		if (!(permissions & 1u << n))
			continue;
		if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
			return -errno;
		if (lock.l_type != F_UNLCK)
			return -EAGAIN;
	}
	return 0;
}

int vc_file_lock(int fd, const char *path, bool writer)
{
	unsigned used = PERM_READ | (writer ? PERM_WRITE | PERM_RESIZE : 0), unshared = PERM_WRITE | PERM_RESIZE;
	int r = take(fd, USED_BASE, used);

	if (!r)
		r = take(fd, UNSHARED_BASE, unshared);
	if (!r)
		r = look(fd, UNSHARED_BASE, used);
	if (!r)
		r = look(fd, USED_BASE, unshared);
	/* file systems without locks: nobody else has any either */
	if (!r || r == -EINVAL || r == -ENOLCK || r == -ENOSYS || r == -EOPNOTSUPP)
		return 0;
	if (r == -EAGAIN || r == -EACCES)
		return vc_fail(EAGAIN, "%s: locked: another process %s it", path, writer ? "uses" : "writes");
	return vc_fail_errno(-r, "%s: locking", path);
}
