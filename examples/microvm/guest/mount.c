/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The root that the command sees: the host's directory, and what a system has beside it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest.h"

#define NEW_ROOT "/newroot"
/* what the host does meanwhile need not be seen: pages are kept */
#define SHARED_READ "trans=virtio,version=9p2000.L,msize=262144,access=any,cache=loose"
/* nothing is kept, except what is mapped; the host hears which user makes a file */
#define SHARED_WRITE "trans=virtio,version=9p2000.L,msize=262144,access=user,cache=mmap"

struct mount_row {
	const char *type, *where, *options;
	unsigned long flags;
	mode_t mode;
	bool needed;
};

static void mount_one(const struct mount_row *row, const char *root)
{
	char path[64];

	snprintf(path, sizeof path, "%s%s", root, row->where);
	if (mkdir(path, row->mode) < 0 && errno != EEXIST && row->needed)
		fail(RUN_FAILED, "cannot make %s in the root: %s", row->where, strerror(errno));
	if (mount(row->type, path, row->type, row->flags, row->options) < 0 && row->needed)
		fail(RUN_FAILED, "cannot mount %s on %s: %s", row->type, row->where, strerror(errno));
}

static void mount_rows(const struct mount_row *rows, size_t count, const char *root)
{
	for (size_t i = 0; i < count; i++)
		mount_one(&rows[i], root);
}

void mount_kernel_systems(void)
{
	static const struct mount_row rows[] = {
	    {"proc", "/proc", NULL, 0, 0555, true},
	    {"sysfs", "/sys", NULL, 0, 0555, true},
	    {"devtmpfs", "/dev", NULL, 0, 0755, true},
	};

	mount_rows(rows, sizeof rows / sizeof rows[0], "");
}

/* ---- the root ---- */

static void mount_share(const char *where, bool writable)
{
	const char *options = writable ? SHARED_WRITE : SHARED_READ;

	if (mkdir(where, 0755) < 0 && errno != EEXIST)
		fail(RUN_FAILED, "cannot make %s: %s", where, strerror(errno));
	if (mount(ROOT_TAG, where, "9p", writable ? 0 : MS_RDONLY, options) < 0)
		fail(RUN_FAILED, "cannot mount the root by 9P: %s", strerror(errno));
}

/* What is written goes to memory. */
static void mount_overlay(void)
{
	mount_share("/lower", false);
	mount_one(&(struct mount_row){"tmpfs", "/over", "mode=755", 0, 0755, true}, "");
	mkdir("/over/upper", 0755);
	mkdir("/over/work", 0755);
	mkdir(NEW_ROOT, 0755);
	if (mount("overlay", NEW_ROOT, "overlay", 0, "lowerdir=/lower,upperdir=/over/upper,workdir=/over/work") < 0)
		fail(RUN_FAILED, "cannot lay a writable layer over the root: %s", strerror(errno));
}

/* As udev and systemd have them. */
static void link_devices(void)
{
	static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
	                                       {"/proc/self/fd/0", "/dev/stdin"},
	                                       {"/proc/self/fd/1", "/dev/stdout"},
	                                       {"/proc/self/fd/2", "/dev/stderr"}};

	for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
		symlink(links[i][0], links[i][1]);
}

static void mount_in_root(void)
{
	static const struct mount_row rows[] = {
	    {"proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, 0555, true},
	    {"sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, 0555, true},
	    {"devtmpfs", "/dev", NULL, MS_NOSUID, 0755, true},
	    {"devpts", "/dev/pts", "mode=620,ptmxmode=666,gid=5", MS_NOSUID | MS_NOEXEC, 0755, true},
	    {"tmpfs", "/dev/shm", "mode=1777", MS_NOSUID | MS_NODEV, 01777, true},
	    {"tmpfs", "/tmp", "mode=1777", MS_NOSUID | MS_NODEV, 01777, true},
	};

	mount_rows(rows, sizeof rows / sizeof rows[0], NEW_ROOT);
}

void enter_root(const struct task *task)
{
	if (task->writable)
		mount_share(NEW_ROOT, true);
	else
		mount_overlay();
	mount_in_root();
	if (chdir(NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		fail(RUN_FAILED, "cannot enter the root: %s", strerror(errno));
	link_devices();
}
