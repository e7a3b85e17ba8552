/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "memory/backing.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define HUGE_SHIFT_2M (21 << 26) /* MAP_HUGE_2MB and MFD_HUGE_2MB: log2 of the page size at bit 26 */
#define HUGE_SHIFT_1G (30 << 26)

static int huge_flags(uint32_t flags, int huge_bit)
{
	if (flags & VCORE_MEM_HUGE_2M)
		return huge_bit | HUGE_SHIFT_2M;
	return flags & VCORE_MEM_HUGE_1G ? huge_bit | HUGE_SHIFT_1G : 0;
}

static int open_memfd(struct vc_slot *slot)
{
	slot->fd = memfd_create("libvirtcore", MFD_CLOEXEC | (unsigned)huge_flags(slot->flags, MFD_HUGETLB));
	if (slot->fd < 0)
		return vc_fail_errno(errno, "memory: memfd_create");
	if (ftruncate(slot->fd, (off_t)slot->length) < 0)
		return vc_fail_errno(errno, "memory: memfd of %#llx bytes", (unsigned long long)slot->length);
	return 0;
}

static int open_file(struct vc_slot *slot, const struct vcore_memory_options *o)
{
	struct stat st;

	if (!VC_IS_ALIGNED(o->offset, VC_PAGE_SIZE))
		return vc_fail(EINVAL, "memory: file offset %#llx: expected a multiple of 4096", (unsigned long long)o->offset);
	slot->fd = fcntl(o->fd, F_DUPFD_CLOEXEC, 0);
	if (slot->fd < 0)
		return vc_fail_errno(errno, "memory: descriptor %d", o->fd);
	if (fstat(slot->fd, &st) < 0)
		return vc_fail_errno(errno, "memory: descriptor %d", o->fd);
	/* a page behind the end of a file would be a SIGBUS later */
	if (S_ISREG(st.st_mode) && (o->offset > (uint64_t)st.st_size || slot->length > (uint64_t)st.st_size - o->offset))
		return vc_fail(EINVAL, "memory: the file has %llu bytes: expected %#llx at offset %#llx",
		               (unsigned long long)st.st_size, (unsigned long long)slot->length, (unsigned long long)o->offset);
	slot->offset = o->offset;
	return 0;
}

static int map(struct vc_slot *slot, int flags)
{
	int prot = PROT_READ | PROT_WRITE;
	void *p;

	p = mmap(NULL, slot->length, prot, flags | MAP_NORESERVE, slot->fd, (off_t)slot->offset);
	if (p == MAP_FAILED && errno == EACCES && !(slot->flags & VCORE_MEM_W))
		p = mmap(NULL, slot->length, PROT_READ, flags | MAP_NORESERVE, slot->fd, (off_t)slot->offset);
	if (p == MAP_FAILED)
		return vc_fail_errno(errno, "memory: mapping %#llx bytes%s", (unsigned long long)slot->length,
		                     slot->flags & (VCORE_MEM_HUGE_2M | VCORE_MEM_HUGE_1G)
		                         ? " of huge pages (see /proc/sys/vm/nr_hugepages)"
		                         : "");
	slot->hva = p;
	slot->map_length = slot->length;
	return 0;
}

/* Touch every page without changing it. */
static int populate(struct vc_slot *slot)
{
	if (madvise(slot->hva, slot->length, MADV_POPULATE_WRITE) == 0)
		return 0;
	if (errno != EINVAL)
		return vc_fail_errno(errno, "memory: allocating %#llx bytes now", (unsigned long long)slot->length);
	/* kernels before 5.14; the vm does not run yet, so nobody else writes here */
	for (uint64_t at = 0; at < slot->length; at += VC_PAGE_SIZE) {
		volatile uint8_t *byte = slot->hva + at;

		*byte = *byte;
	}
	return 0;
}

static int apply_attributes(struct vc_slot *slot)
{
	/* hints: a kernel without them serves the guest as well */
	if (slot->flags & VCORE_MEM_THP)
		madvise(slot->hva, slot->length, MADV_HUGEPAGE);
	if ((slot->flags & VCORE_MEM_MERGEABLE) && madvise(slot->hva, slot->length, MADV_MERGEABLE) < 0)
		return vc_fail_errno(errno, "memory: this kernel cannot merge pages (KSM)");
	if ((slot->flags & VCORE_MEM_LOCKED) && mlock(slot->hva, slot->length) < 0)
		return vc_fail_errno(errno, "memory: locking %#llx bytes (see RLIMIT_MEMLOCK)",
		                     (unsigned long long)slot->length);
	return slot->flags & VCORE_MEM_PREALLOC ? populate(slot) : 0;
}

int vc_backing_map(struct vc_slot *slot, const struct vcore_memory_options *o)
{
	int r = 0;

	slot->fd = -1;
	switch (o->kind) {
	case VCORE_MEMORY_ANON:
		r = map(slot, MAP_PRIVATE | MAP_ANONYMOUS | huge_flags(slot->flags, MAP_HUGETLB));
		break;
	case VCORE_MEMORY_MEMFD:
		r = open_memfd(slot);
		if (r >= 0)
			r = map(slot, MAP_SHARED);
		break;
	case VCORE_MEMORY_FILE:
	case VCORE_MEMORY_PRIVATE_FILE:
		r = open_file(slot, o);
		if (r >= 0)
			r = map(slot, o->kind == VCORE_MEMORY_FILE ? MAP_SHARED : MAP_PRIVATE);
		break;
	case VCORE_MEMORY_POINTER:
		if (!o->pointer || !VC_IS_ALIGNED((uintptr_t)o->pointer, VC_PAGE_SIZE))
			return vc_fail(EINVAL, "memory: pointer %p: expected a page-aligned address", o->pointer);
		slot->hva = o->pointer;
		break;
	default:
		return vc_fail(EINVAL, "memory: kind is %u: expected 0 to %u", o->kind, VCORE_MEMORY_POINTER);
	}
	if (r >= 0)
		r = apply_attributes(slot);
	if (r < 0)
		vc_backing_unmap(slot);
	return r;
}

void vc_backing_unmap(struct vc_slot *slot)
{
	if (slot->map_length)
		munmap(slot->hva, slot->map_length);
	else if (slot->hva && (slot->flags & VCORE_MEM_LOCKED))
		munlock(slot->hva, slot->length);
	if (slot->fd >= 0)
		close(slot->fd);
	slot->hva = NULL;
	slot->map_length = 0;
	slot->fd = -1;
}
