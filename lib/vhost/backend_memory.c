/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory of the front-end's guest. */
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "core/error.h"
#include "core/util.h"
#include "vhost/backend.h"

void vc_vhost_backend_drop_memory(struct vcore_vhost_user *s)
{
	while (s->region_count)
		vc_mem_remove(&s->mem, NULL, s->slots[--s->region_count]);
}

/* what: "memory at 0x1000" */
static int check_file(const struct vcore_vhost_user *s, int fd, const char *what)
{
	struct statfs fs;
	int seals = fcntl(fd, F_GET_SEALS);

	if (fstatfs(fd, &fs) < 0 || fs.f_type == HUGETLBFS_MAGIC)
		return vc_fail(EINVAL, "the %s has huge pages: expected a memfd without", what);
	if (!s->allow_unsealed && (seals < 0 || !(seals & F_SEAL_SHRINK)))
		return vc_fail(EINVAL,
		               "the %s can be shrunk by the front-end: expected a sealed memfd (QEMU: "
		               "memory-backend-memfd,share=on), or options.allow_unsealed",
		               what);
	return 0;
}

static int check(const struct vcore_vhost_user *s, const struct vc_vhost_wire_region *r, int fd)
{
	char what[40];

	snprintf(what, sizeof what, "memory at %#llx", (unsigned long long)r->gpa);
	if (r->length > UINT64_MAX - r->address || r->offset > INT64_MAX || r->length > INT64_MAX - r->offset)
		return vc_fail(EINVAL, "the %s: length %#llx is too large", what, (unsigned long long)r->length);
	return check_file(s, fd, what);
}

static int add(struct vcore_vhost_user *s, const struct vc_vhost_wire_region *r, int fd)
{
	const struct vcore_memory_options o = {.size = sizeof o, .kind = VCORE_MEMORY_FILE, .fd = fd, .offset = r->offset};
	int result = check(s, r, fd);

	if (result >= 0)
		result =
		    vc_mem_add(&s->mem, NULL, r->gpa, r->length, VCORE_MEM_R | VCORE_MEM_W, &o, &s->slots[s->region_count]);
	if (result >= 0)
		s->regions[s->region_count++] = *r;
	return result;
}

int vc_vhost_backend_set_memory(struct vcore_vhost_user *s, const struct vc_vhost_wire_region *regions, const int *fds,
                                uint32_t count)
{
	int r = 0;

	vc_virtio_hold(s->v, true);
	vc_vhost_backend_drop_memory(s);
	for (uint32_t i = 0; r >= 0 && i < count; i++)
		r = add(s, &regions[i], fds[i]);
	if (r < 0)
		vc_vhost_backend_drop_memory(s);
	vc_virtio_hold(s->v, false);
	return r;
}

int vc_vhost_backend_add_region(struct vcore_vhost_user *s, const struct vc_vhost_wire_region *region, int fd)
{
	if (s->region_count == VC_VHOST_BACKEND_SLOTS_MAX)
		return vc_fail(ENOSPC, "a region of memory more than %d", VC_VHOST_BACKEND_SLOTS_MAX);
	return add(s, region, fd);
}

int vc_vhost_backend_remove_region(struct vcore_vhost_user *s, const struct vc_vhost_wire_region *region)
{
	for (uint32_t i = 0; i < s->region_count; i++) {
		const struct vc_vhost_wire_region *r = &s->regions[i];

		if (r->gpa != region->gpa || r->length != region->length || r->address != region->address)
			continue;
		vc_mem_remove(&s->mem, NULL, s->slots[i]);
		s->region_count--;
		s->regions[i] = s->regions[s->region_count];
		s->slots[i] = s->slots[s->region_count];
		return 0;
	}
	return vc_fail(EINVAL, "there is no region of memory at %#llx of %#llx bytes", (unsigned long long)region->gpa,
	               (unsigned long long)region->length);
}

int vc_vhost_backend_translate(const struct vcore_vhost_user *s, uint64_t address, uint64_t *gpa)
{
	for (uint32_t i = 0; i < s->region_count; i++) {
		const struct vc_vhost_wire_region *r = &s->regions[i];

		if (address < r->address || address - r->address >= r->length)
			continue;
		*gpa = r->gpa + (address - r->address);
		return 0;
	}
	return vc_fail(EINVAL, "address %#llx is in no region of the memory table", (unsigned long long)address);
}

int vc_vhost_backend_share(const struct vcore_vhost_user *s, int fd, uint64_t offset, uint64_t length, const char *what,
                           struct vc_vhost_shared *shared)
{
	uint64_t skipped = offset % VC_PAGE_SIZE;
	struct stat st;
	int r = check_file(s, fd, what);

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0 || !length || offset > (uint64_t)st.st_size || length > (uint64_t)st.st_size - offset)
		return vc_fail(EINVAL, "the %s of %#llx bytes at %#llx is not in its file", what, (unsigned long long)length,
		               (unsigned long long)offset);
	shared->mapped = length + skipped;
	shared->map = mmap(NULL, shared->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)(offset - skipped));
	if (shared->map == MAP_FAILED)
		return vc_fail_errno(errno, "the %s of %#llx bytes", what, (unsigned long long)length);
	shared->at = (uint8_t *)shared->map + skipped;
	shared->length = length;
	return 0;
}

void vc_vhost_backend_unshare(struct vc_vhost_shared *shared)
{
	if (shared->at)
		munmap(shared->map, shared->mapped);
	*shared = (struct vc_vhost_shared){0};
}
