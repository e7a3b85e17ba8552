/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "memory/backing.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <linux/prctl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#define HUGE_SHIFT_2M (21 << 26) /* MAP_HUGE_2MB and MFD_HUGE_2MB: log2 of the page size at bit 26 */
#define HUGE_SHIFT_1G (30 << 26)
#define HUGE_ANY      (VCORE_MEM_HUGE_2M | VCORE_MEM_HUGE_1G)

static int huge_flags(uint32_t flags, int huge_bit)
{
	if (flags & VCORE_MEM_HUGE_2M)
		return huge_bit | HUGE_SHIFT_2M;
	return flags & VCORE_MEM_HUGE_1G ? huge_bit | HUGE_SHIFT_1G : 0;
}

static uint64_t page_size(uint32_t flags)
{
	return flags & VCORE_MEM_HUGE_1G ? VC_GIB(1) : flags & VCORE_MEM_HUGE_2M ? VC_MIB(2) : VC_PAGE_SIZE;
}

static int fail_map(const struct vc_slot *slot, int err)
{
	if (!(slot->flags & HUGE_ANY))
		return vc_fail_errno(err, "memory: mapping %#llx bytes", (unsigned long long)slot->length);
	/* a host without pages of that size says EINVAL or ENODEV, one without enough of them ENOMEM */
	if (err == EINVAL || err == ENODEV)
		err = ENOMEM;
	return vc_fail_errno(err, "memory: mapping %#llx bytes of %llu KiB pages (see /sys/kernel/mm/hugepages)",
	                     (unsigned long long)slot->length, (unsigned long long)page_size(slot->flags) >> 10);
}

/* ---- descriptors ---- */

static int open_memfd(struct vc_slot *slot)
{
	unsigned huge = (unsigned)huge_flags(slot->flags, MFD_HUGETLB);

	slot->fd = memfd_create("virtcore-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING | huge);
	if (slot->fd < 0)
		return fail_map(slot, errno);
	if (ftruncate(slot->fd, (off_t)slot->length) < 0)
		return vc_fail_errno(errno, "memory: a memfd of %#llx bytes", (unsigned long long)slot->length);
	/* a process it is shared with must not be able to shrink it: our next access would be a SIGBUS */
	if (fcntl(slot->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return vc_fail_errno(errno, "memory: fixing the size of a memfd");
	return 0;
}

static int check_file(const struct vc_slot *slot)
{
	uint64_t end;
	struct statfs fs;
	struct stat st;

	if (fstat(slot->fd, &st) < 0 || fstatfs(slot->fd, &fs) < 0)
		return vc_fail_errno(errno, "memory: descriptor of the file");
	/* a page behind the end of a file would be a SIGBUS later */
	end = VC_ALIGN_UP((uint64_t)st.st_size, VC_PAGE_SIZE);
	if (S_ISREG(st.st_mode) && (slot->offset > end || slot->length > end - slot->offset))
		return vc_fail(EINVAL, "memory: the file has %llu bytes: expected %#llx at offset %#llx",
		               (unsigned long long)st.st_size, (unsigned long long)slot->length,
		               (unsigned long long)slot->offset);
	if ((slot->flags & HUGE_ANY) && (fs.f_type != HUGETLBFS_MAGIC || (uint64_t)fs.f_bsize != page_size(slot->flags)))
		return vc_fail(EINVAL, "memory: the file is not on a hugetlbfs of %llu KiB pages",
		               (unsigned long long)page_size(slot->flags) >> 10);
	return 0;
}

static int open_file(struct vc_slot *slot, const struct vcore_memory_options *o)
{
	if (!VC_IS_ALIGNED(o->offset, page_size(slot->flags)))
		return vc_fail(EINVAL, "memory: file offset %#llx: expected a multiple of %#llx", (unsigned long long)o->offset,
		               (unsigned long long)page_size(slot->flags));
	slot->fd = fcntl(o->fd, F_DUPFD_CLOEXEC, 0);
	if (slot->fd < 0)
		return vc_fail_errno(errno, "memory: descriptor %d", o->fd);
	slot->offset = o->offset;
	return check_file(slot);
}

/* ---- mapping ---- */

static void *map_at(const struct vc_slot *slot, void *where, int prot, int flags)
{
	return mmap(where, slot->length, prot, flags, slot->fd, (off_t)slot->offset);
}

/*
 * Where the host's address equals the guest's modulo 2 MiB, both can map the memory with large pages. New kernels
 * choose such an address for anonymous memory of that size by themselves.
 */
static void *map_congruent(const struct vc_slot *slot, int prot, int flags)
{
	const uint64_t large = VC_MIB(2);
	uint8_t *p = map_at(slot, NULL, prot, flags), *room, *at;
	uint64_t head;

	if (p == MAP_FAILED || slot->length < large || (flags & MAP_HUGETLB) ||
	    VC_IS_ALIGNED((uintptr_t)p - slot->gpa, large))
		return p;
	room = mmap(NULL, slot->length + large, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return p;
	head = (slot->gpa - (uintptr_t)room) & (large - 1);
	at = map_at(slot, room + head, prot, flags | MAP_FIXED);
	if (at == MAP_FAILED) {
		munmap(room, slot->length + large);
		return p;
	}
	munmap(p, slot->length);
	if (head)
		munmap(room, head);
	munmap(at + slot->length, large - head);
	return at;
}

static int map(struct vc_slot *slot, int flags)
{
	void *p;

	/* Nothing is committed before it is touched, but huge pages: they are set aside now, for later would be a SIGBUS.
	 */
	if (!(slot->flags & HUGE_ANY))
		flags |= MAP_NORESERVE;
	p = map_congruent(slot, PROT_READ | PROT_WRITE, flags);
	if (p == MAP_FAILED && errno == EACCES && !(slot->flags & VCORE_MEM_W)) {
		slot->host_readonly = true;
		p = map_congruent(slot, PROT_READ, flags);
	}
	if (p == MAP_FAILED)
		return fail_map(slot, errno);
	slot->hva = p;
	slot->map_length = slot->length;
	return 0;
}

static int map_anonymous(struct vc_slot *slot, const struct vcore_memory_options *o)
{
	return map(slot, MAP_PRIVATE | MAP_ANONYMOUS | huge_flags(slot->flags, MAP_HUGETLB));
}

static int map_memfd(struct vc_slot *slot, const struct vcore_memory_options *o)
{
	int r = open_memfd(slot);

	return r < 0 ? r : map(slot, MAP_SHARED);
}

static int map_file(struct vc_slot *slot, const struct vcore_memory_options *o)
{
	int r = open_file(slot, o);

	return r < 0 ? r : map(slot, o->kind == VCORE_MEMORY_FILE ? MAP_SHARED : MAP_PRIVATE);
}

static int map_pointer(struct vc_slot *slot, const struct vcore_memory_options *o)
{
	uintptr_t at = (uintptr_t)o->pointer;

	if (!at || !VC_IS_ALIGNED(at, VC_PAGE_SIZE) || slot->length > UINTPTR_MAX - at)
		return vc_fail(EINVAL, "memory: pointer %p for %#llx bytes: expected a page-aligned address", o->pointer,
		               (unsigned long long)slot->length);
	if (slot->flags & HUGE_ANY)
		return vc_fail(EINVAL, "memory: the pages of the caller's own memory cannot be chosen");
	slot->hva = o->pointer;
	return 0;
}

/* ---- attributes ---- */

/* The kernel joins anonymous mappings that lie side by side, unless they have names of their own: what each takes could
 * not be told any more. Kernels before 5.17 know no names. */
static void name_mapping(const struct vc_slot *slot)
{
	char name[48];

	if (slot->kind != VCORE_MEMORY_ANON)
		return;
	snprintf(name, sizeof name, "virtcore-memory %#llx", (unsigned long long)slot->gpa);
	prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, slot->hva, slot->length, name);
}

static int apply_attributes(struct vc_slot *slot, const struct vcore_memory_options *o)
{
	int r;

	name_mapping(slot);
	r = o->numa ? vc_backing_numa(slot, o->numa) : 0;

	if (r < 0)
		return r;
	/* a hint: a kernel without large pages serves the guest as well */
	if (slot->flags & VCORE_MEM_THP)
		madvise(slot->hva, slot->length, MADV_HUGEPAGE);
	if ((slot->flags & VCORE_MEM_MERGEABLE) && madvise(slot->hva, slot->length, MADV_MERGEABLE) < 0)
		return vc_fail_errno(errno, "memory: this kernel cannot merge pages (KSM)");
	r = slot->flags & VCORE_MEM_PREALLOC ? vc_backing_populate(slot, o) : 0;
	if (r >= 0 && (slot->flags & VCORE_MEM_LOCKED) && mlock(slot->hva, slot->length) < 0)
		r = vc_fail_errno(errno, "memory: locking %#llx bytes (see RLIMIT_MEMLOCK)", (unsigned long long)slot->length);
	return r;
}

int vc_backing_map(struct vc_slot *slot, const struct vcore_memory_options *o)
{
	static int (*const map_kind[])(struct vc_slot *, const struct vcore_memory_options *) = {
	    [VCORE_MEMORY_ANON] = map_anonymous,    [VCORE_MEMORY_MEMFD] = map_memfd,     [VCORE_MEMORY_FILE] = map_file,
	    [VCORE_MEMORY_PRIVATE_FILE] = map_file, [VCORE_MEMORY_POINTER] = map_pointer,
	};
	int r;

	if (o->kind >= VC_ARRAY_SIZE(map_kind))
		return vc_fail(EINVAL, "memory: kind is %u: expected 0 to %zu", o->kind, VC_ARRAY_SIZE(map_kind) - 1);
	r = map_kind[o->kind](slot, o);
	if (r >= 0)
		r = apply_attributes(slot, o);
	if (r < 0)
		vc_backing_unmap(slot);
	return r;
}

bool vc_slot_is_shareable(const struct vc_slot *slot)
{
	int seals;

	if (slot->fd < 0 || (slot->kind != VCORE_MEMORY_MEMFD && slot->kind != VCORE_MEMORY_FILE) ||
	    atomic_load(&slot->presence) != VC_PRESENT)
		return false;
	seals = fcntl(slot->fd, F_GET_SEALS);
	return seals >= 0 && seals & F_SEAL_SHRINK;
}

void vc_backing_discard(struct vc_slot *slot, uint64_t at, uint64_t length)
{
	uint64_t start = VC_ALIGN_UP(at, page_size(slot->flags)), end = VC_ALIGN_DOWN(at + length, page_size(slot->flags));

	if (start >= end || slot->host_readonly)
		return;
	/* a host that cannot, such as for a file system without holes or locked memory, loses nothing but room */
	if (slot->fd < 0 && (slot->image || slot->kind == VCORE_MEMORY_ANON))
		madvise(slot->hva + start, end - start, MADV_DONTNEED);
	else if (slot->image || slot->kind == VCORE_MEMORY_MEMFD || slot->kind == VCORE_MEMORY_FILE)
		fallocate(slot->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(slot->offset + start),
		          (off_t)(end - start));
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
