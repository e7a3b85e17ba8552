/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "memory/image.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"
#include "core/io.h"
#include "core/util.h"
#include "memory/image_priv.h"
#include "memory/memory.h"

#define PAGES_CHUNK 4096u /* entries of pagemap read at once */

#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_SWAPPED (1ull << 62)
#define PAGEMAP_FILE    (1ull << 61) /* of a file or shared, so not a private copy */

/* ---- files ---- */

struct vc_image_file *vc_image_file_new(int fd)
{
	struct vc_image_file *file = malloc(sizeof *file);

	if (!file) {
		close(fd);
		vc_fail(ENOMEM, "no memory for an image");
		return NULL;
	}
	file->refs = 1;
	file->fd = fd;
	return file;
}

struct vc_image_file *vc_image_file_ref(struct vc_image_file *file)
{
	atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
	return file;
}

void vc_image_file_unref(struct vc_image_file *file)
{
	if (!file || atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel) != 1)
		return;
	close(file->fd);
	free(file);
}

int vc_image_memfd(uint64_t length, struct vc_image_file **file)
{
	int fd = memfd_create("virtcore-image", MFD_CLOEXEC);

	if (fd < 0)
		return vc_fail_errno(errno, "a memfd for an image");
	*file = vc_image_file_new(fd);
	if (!*file)
		return -ENOMEM;
	if (ftruncate(fd, (off_t)length) < 0) {
		int r = vc_fail_errno(errno, "an image of %#llx bytes", (unsigned long long)length);

		vc_image_file_unref(*file);
		return r;
	}
	return 0;
}

/* ---- images ---- */

static uint64_t words_of(uint64_t length)
{
	return (length / VC_PAGE_SIZE + 63) / 64;
}

struct vc_image *vc_image_new(uint64_t length, uint32_t room)
{
	struct vc_image *image = calloc(1, sizeof *image + room * sizeof image->extent[0]);

	if (!image) {
		vc_fail(ENOMEM, "no memory for an image");
		return NULL;
	}
	image->refs = 1;
	image->length = length;
	return image;
}

struct vc_image *vc_image_ref(struct vc_image *image)
{
	atomic_fetch_add_explicit(&image->refs, 1, memory_order_relaxed);
	return image;
}

void vc_image_unref(struct vc_image *image)
{
	const uint8_t *view;

	if (!image || atomic_fetch_sub_explicit(&image->refs, 1, memory_order_acq_rel) != 1)
		return;
	view = atomic_load(&image->view);
	if (view)
		munmap((void *)(uintptr_t)view, image->length);
	for (uint32_t i = 0; i < image->count; i++)
		vc_image_file_unref(image->extent[i].file);
	free(image);
}

int vc_image_of_file(struct vc_image_file *file, uint64_t offset, uint64_t length, struct vc_image **image)
{
	*image = vc_image_new(length, 1);
	if (!*image)
		return -ENOMEM;
	(*image)->extent[0] = (struct vc_extent){0, length / VC_PAGE_SIZE, vc_image_file_ref(file), offset};
	(*image)->count = 1;
	return 0;
}

/* ---- mapping ---- */

static int map_extents(const struct vc_image *image, uint8_t *at, int prot, int flags)
{
	for (uint32_t i = 0; i < image->count; i++) {
		const struct vc_extent *e = &image->extent[i];

		if (mmap(at + e->page * VC_PAGE_SIZE, e->count * VC_PAGE_SIZE, prot, flags | MAP_FIXED | MAP_NORESERVE,
		         e->file->fd, (off_t)e->offset) == MAP_FAILED)
			return vc_fail_errno(errno, "mapping %#llx bytes of an image",
			                     (unsigned long long)(e->count * VC_PAGE_SIZE));
	}
	return 0;
}

const uint8_t *vc_image_view(struct vc_image *image)
{
	const uint8_t *view = atomic_load(&image->view), *none = NULL;
	uint8_t *at;

	if (view)
		return view;
	at = mmap(NULL, image->length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED) {
		vc_fail_errno(errno, "room for an image of %#llx bytes", (unsigned long long)image->length);
		return NULL;
	}
	if (map_extents(image, at, PROT_READ, MAP_SHARED) < 0) {
		munmap(at, image->length);
		return NULL;
	}
	/* somebody else may have been faster */
	if (atomic_compare_exchange_strong(&image->view, &none, (const uint8_t *)at))
		return at;
	munmap(at, image->length);
	return none;
}

/* Add what was written since somebody last asked. */
static int fetch_changed(struct vc_slot *slot)
{
	uint64_t words = words_of(slot->length), *bits = malloc(words * 8);
	int64_t r;

	if (!bits)
		return vc_fail(ENOMEM, "no memory for a dirty bitmap");
	r = vc_mem_get_dirty(slot->mem, NULL, slot, VC_LOG_IMAGE, bits, words * 8);
	for (uint64_t i = 0; r > 0 && i < words; i++)
		slot->changed[i] |= bits[i];
	free(bits);
	return r < 0 ? (int)r : 0;
}

static int forget_changed(struct vc_slot *slot)
{
	int r = fetch_changed(slot);

	memset(slot->changed, 0, words_of(slot->length) * 8);
	return r;
}

int vc_image_map(struct vc_image *image, struct vc_slot *slot)
{
	struct vc_image *old = slot->image;
	int r = map_extents(image, slot->hva, PROT_READ | PROT_WRITE, MAP_PRIVATE);

	if (r < 0)
		return r;
	if (slot->flags & VCORE_MEM_MERGEABLE)
		madvise(slot->hva, slot->length, MADV_MERGEABLE);
	slot->image = vc_image_ref(image);
	vc_image_unref(old);
	if (slot->changed)
		r = forget_changed(slot);
	vc_image_disown(slot);
	return r;
}

int vc_image_follow(struct vc_image *image, struct vc_slot *slot)
{
	struct vc_image *old = slot->image;

	if (slot->fd < 0)
		return vc_image_map(image, slot);
	slot->image = vc_image_ref(image);
	vc_image_unref(old);
	return slot->changed ? forget_changed(slot) : 0;
}

/* ---- making them ---- */

/* To where they are in the slot. */
static int copy_pages(struct vc_image_file *file, const struct vc_slot *slot, uint64_t page, uint64_t count)
{
	int r = vc_pwrite_all(file->fd, slot->hva + page * VC_PAGE_SIZE, count * VC_PAGE_SIZE, page * VC_PAGE_SIZE);

	return r < 0 ? vc_fail_errno(-r, "copying memory into an image") : 0;
}

int vc_image_copy(const struct vc_slot *slot, struct vc_image **image)
{
	struct vc_image_file *file;
	int r = vc_image_memfd(slot->length, &file);

	if (r < 0)
		return r;
	/* pages of zeroes stay holes */
	for (uint64_t at = 0; r >= 0 && at < slot->length; at += VC_PAGE_SIZE)
		if (!vc_is_zero(slot->hva + at, VC_PAGE_SIZE))
			r = copy_pages(file, slot, at / VC_PAGE_SIZE, 1);
	if (r >= 0)
		r = vc_image_of_file(file, 0, slot->length, image);
	vc_image_file_unref(file);
	return r;
}

bool vc_image_may_map(const struct vc_slot *slot)
{
	const uint32_t fixed = VCORE_MEM_HUGE_2M | VCORE_MEM_HUGE_1G | VCORE_MEM_LOCKED;

	return (slot->kind == VCORE_MEMORY_ANON || slot->kind == VCORE_MEMORY_MEMFD) && !(slot->flags & fixed) &&
	       !atomic_load(&slot->sharers);
}

int vc_image_freeze(struct vc_slot *slot, struct vc_image **image)
{
	struct vc_image_file *file;
	int fd, r;

	if (slot->fd < 0) {
		r = vc_image_copy(slot, image);
	} else {
		fd = fcntl(slot->fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0)
			return vc_fail_errno(errno, "memory: the memfd of the slot at %#llx", (unsigned long long)slot->gpa);
		file = vc_image_file_new(fd);
		r = file ? vc_image_of_file(file, slot->offset, slot->length, image) : -ENOMEM;
		vc_image_file_unref(file);
	}
	if (r < 0)
		return r;
	r = vc_image_map(*image, slot);
	if (r < 0)
		vc_image_unref(*image);
	return r;
}

/* ---- differences ---- */

uint64_t vc_image_next_run(const uint64_t *bits, uint64_t pages, uint64_t gap, uint64_t *page)
{
	uint64_t at = *page, last;

	while (at < pages && !vc_test_bit(bits, at))
		at += bits[at / 64] >> (at % 64) ? 1 : 64 - at % 64;
	if (at >= pages)
		return 0;
	*page = last = at;
	for (at++; at < pages && at - last <= gap + 1; at++)
		if (vc_test_bit(bits, at))
			last = at;
	return last + 1 - *page;
}

static uint32_t count_runs(const uint64_t *bits, uint64_t pages, uint64_t gap)
{
	uint64_t page = 0, length;
	uint32_t count = 0;

	for (; (length = vc_image_next_run(bits, pages, gap, &page)); page += length)
		count++;
	return count;
}

uint32_t vc_image_count_runs(const uint64_t *bits, uint64_t pages, uint64_t *gap)
{
	uint32_t runs;

	*gap = 0;
	while ((runs = count_runs(bits, pages, *gap)) > VC_IMAGE_RUNS)
		*gap = *gap ? *gap * 2 : 1;
	return runs;
}

void vc_image_append(struct vc_image *image, uint64_t page, uint64_t count, struct vc_image_file *file, uint64_t offset)
{
	if (count)
		image->extent[image->count++] = (struct vc_extent){page, count, vc_image_file_ref(file), offset};
}

void vc_image_append_base(struct vc_image *image, const struct vc_image *base, uint64_t from, uint64_t to)
{
	for (uint32_t i = 0; i < base->count; i++) {
		const struct vc_extent *e = &base->extent[i];
		uint64_t start = e->page > from ? e->page : from, end = e->page + e->count < to ? e->page + e->count : to;

		if (start < end)
			vc_image_append(image, start, end - start, e->file, e->offset + (start - e->page) * VC_PAGE_SIZE);
	}
}

static int fill_delta(struct vc_image *image, const struct vc_slot *slot, uint64_t gap, struct vc_image_file *file)
{
	uint64_t pages = slot->length / VC_PAGE_SIZE, page = 0, done = 0, length;
	int r = 0;

	for (; r >= 0 && (length = vc_image_next_run(slot->changed, pages, gap, &page)); page += length) {
		vc_image_append_base(image, slot->image, done, page);
		vc_image_append(image, page, length, file, page * VC_PAGE_SIZE);
		r = copy_pages(file, slot, page, length);
		done = page + length;
	}
	vc_image_append_base(image, slot->image, done, pages);
	return r;
}

int vc_image_delta(struct vc_slot *slot, struct vc_image **out)
{
	struct vc_image_file *file;
	struct vc_image *image;
	uint64_t gap;
	uint32_t runs = vc_image_count_runs(slot->changed, slot->length / VC_PAGE_SIZE, &gap);
	int r;

	if (!runs) {
		*out = vc_image_ref(slot->image);
		return 0;
	}
	if (slot->image->count + 2 * runs > VC_IMAGE_EXTENTS)
		return vc_image_copy(slot, out);
	r = vc_image_memfd(slot->length, &file);
	if (r < 0)
		return r;
	image = vc_image_new(slot->length, slot->image->count + 2 * runs);
	r = image ? fill_delta(image, slot, gap, file) : -ENOMEM;
	vc_image_file_unref(file);
	if (r < 0)
		vc_image_unref(image);
	else
		*out = image;
	return r;
}

/*
 * Pages that the slot has copied from its image, which are all that may differ from it. Takes a while that grows with
 * the slot's length.
 */
static int find_changed(const struct vc_slot *slot, uint64_t *changed)
{
	uint64_t entries[PAGES_CHUNK], pages = slot->length / VC_PAGE_SIZE, first = (uintptr_t)slot->hva / VC_PAGE_SIZE;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return vc_fail_errno(errno, "/proc/self/pagemap");
	for (uint64_t at = 0; r >= 0 && at < pages;) {
		uint64_t want = pages - at < PAGES_CHUNK ? pages - at : PAGES_CHUNK;
		ssize_t n = pread(fd, entries, want * 8, (off_t)((first + at) * 8));

		if (n < 8) {
			r = vc_fail_errno(n < 0 ? errno : EIO, "reading /proc/self/pagemap");
			break;
		}
		for (uint64_t i = 0; i < (uint64_t)n / 8; i++, at++)
			if ((entries[i] & PAGEMAP_SWAPPED) || (entries[i] & (PAGEMAP_PRESENT | PAGEMAP_FILE)) == PAGEMAP_PRESENT)
				changed[at / 64] |= 1ull << (at % 64);
	}
	close(fd);
	return r;
}

int vc_image_track(struct vc_slot *slot)
{
	uint64_t *changed;
	int r;

	if (slot->changed)
		return fetch_changed(slot);
	changed = calloc(words_of(slot->length), 8);
	if (!changed)
		return vc_fail(ENOMEM, "no memory for a dirty bitmap");
	r = vc_mem_log_dirty(slot->mem, NULL, slot, VC_LOG_IMAGE, true);
	if (r >= 0)
		r = find_changed(slot, changed);
	if (r < 0) {
		vc_mem_log_dirty(slot->mem, NULL, slot, VC_LOG_IMAGE, false);
		free(changed);
		return r;
	}
	slot->changed = changed;
	return 0;
}

/* The page is what it was, for whoever decoded code from it too. */
static void restore_page(struct vc_slot *slot, uint64_t page, const uint8_t *view)
{
	const struct vc_mem *mem = slot->mem;
	uint64_t at = page * VC_PAGE_SIZE;

	memcpy(slot->hva + at, view + at, VC_PAGE_SIZE);
	if (mem->listener && mem->listener->written)
		mem->listener->written(mem->listener_ctx, slot, slot->gpa + at, VC_PAGE_SIZE);
	for (unsigned reader = 0; reader < VC_LOG_READERS; reader++)
		if (reader != VC_LOG_IMAGE && slot->unread[reader])
			slot->unread[reader][page / 64] |= 1ull << (page % 64);
}

int vc_image_restore(struct vc_slot *slot)
{
	const uint8_t *view = vc_image_view(slot->image);
	int r = view ? vc_image_track(slot) : -ENOMEM;

	for (uint64_t i = 0; r >= 0 && i < words_of(slot->length); i++) {
		for (uint64_t word = slot->changed[i]; word; word &= word - 1)
			restore_page(slot, i * 64 + (uint64_t)__builtin_ctzll(word), view);
		slot->changed[i] = 0;
	}
	return r;
}
