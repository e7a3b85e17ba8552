/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory of the front-end's guest. */
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <sys/vfs.h>

#include "core/error.h"
#include "vhost/backend.h"

void vc_vhost_backend_drop_memory(struct vcore_vhost_user *s)
{
	while (s->region_count)
		vc_mem_remove(&s->mem, NULL, s->slots[--s->region_count]);
}

static int check(const struct vcore_vhost_user *s, const struct vc_vhost_wire_region *r, int fd)
{
	unsigned long long gpa = r->gpa;
	struct statfs fs;
	int seals = fcntl(fd, F_GET_SEALS);

	if (r->length > UINT64_MAX - r->address || r->offset > INT64_MAX || r->length > INT64_MAX - r->offset)
		return vc_fail(EINVAL, "the memory at %#llx: length %#llx is too large", gpa, (unsigned long long)r->length);
	if (fstatfs(fd, &fs) < 0 || fs.f_type == HUGETLBFS_MAGIC)
		return vc_fail(EINVAL, "the memory at %#llx has huge pages: expected a memfd without", gpa);
	if (!s->allow_unsealed && (seals < 0 || !(seals & F_SEAL_SHRINK)))
		return vc_fail(EINVAL,
		               "the memory at %#llx can be shrunk by the front-end: expected a sealed memfd (QEMU: "
		               "memory-backend-memfd,share=on), or options.allow_unsealed",
		               gpa);
	return 0;
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
