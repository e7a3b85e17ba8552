/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the memory of a slot was at some moment: immutable, shared by reference count, mapped copy on write.
 *
 * An image is a list of extents, each a range of pages in some file (a memfd, or a snapshot's file on disk). A later
 * image of the same slot has the files of the earlier one and one more with the pages that are different; a slot whose
 * memory derives from an image has it mapped privately, so that the host kernel copies what is written.
 */
#ifndef VC_MEMORY_IMAGE_H
#define VC_MEMORY_IMAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct vc_slot;

struct vc_image_file {
	_Atomic uint32_t refs;
	int fd;
};

/* Pages [page, page + count) of the slot are in file from offset on. */
struct vc_extent {
	uint64_t page, count;
	struct vc_image_file *file;
	uint64_t offset;
};

struct vc_image {
	_Atomic uint32_t refs;
	uint32_t count;
	uint64_t length;               /* bytes, of the slot */
	_Atomic(const uint8_t *) view; /* mapped for reading at first use */
	struct vc_extent extent[];     /* sorted by page; all of the slot */
};

/* Takes fd over, also on failure. NULL: no memory. */
struct vc_image_file *vc_image_file_new(int fd);
/* A new memfd. 0 or -errno. */
int vc_image_memfd(uint64_t length, struct vc_image_file **file);
struct vc_image_file *vc_image_file_ref(struct vc_image_file *file);
void vc_image_file_unref(struct vc_image_file *file);

/* One extent: all of a slot of that many bytes. 0, -ENOMEM. */
int vc_image_of_file(struct vc_image_file *file, uint64_t offset, uint64_t length, struct vc_image **image);
struct vc_image *vc_image_ref(struct vc_image *image);
void vc_image_unref(struct vc_image *image); /* NULL is allowed */

/* Whether the slot's memory may be mapped anew: the library's own, of pages that can be copied on write. */
bool vc_image_may_map(const struct vc_slot *slot);
/*
 * The memory of a slot as it is now becomes an image, from which it derives from then on; nobody executes or writes.
 * Memory in a memfd that nobody shares is not copied: it is the image. What has been a memfd is none any more then.
 * The slot may be mapped. 0, -ENOMEM, errno of the mapping.
 */
int vc_image_freeze(struct vc_slot *slot, struct vc_image **image);
/*
 * The same of a slot that derives from an image already: only the pages of slot->changed (see vc_image_track()) differ.
 * They are copied, and the slot stays mapped as it is.
 */
int vc_image_delta(struct vc_slot *slot, struct vc_image **image);
/* A copy that leaves the slot as it is. */
int vc_image_copy(const struct vc_slot *slot, struct vc_image **image);

/* The next run of pages with a bit from *page on, gaps of up to `gap` pages included. 0: there is none. */
uint64_t vc_image_next_run(const uint64_t *bits, uint64_t pages, uint64_t gap, uint64_t *page);
/* How many there are with a gap, the smallest that makes them no more than VC_IMAGE_RUNS: a mapping has its price. */
#define VC_IMAGE_RUNS 256u
uint32_t vc_image_count_runs(const uint64_t *bits, uint64_t pages, uint64_t *gap);

/* ---- image_file.c: from and to files ---- */

/* Whole pages, read from the files: holes take no memory. 1; 0 all of it are zeroes; -errno with a sentence. */
int vc_image_read(const struct vc_image *image, uint64_t at, void *buffer, uint64_t length);
/* Add a bit for each page whose contents are different; images of one length. What comes from the same place is not
 * looked at. 0 or -errno. */
int vc_image_compare(const struct vc_image *a, const struct vc_image *b, uint64_t *changed);
struct vc_run {
	uint64_t page, count;
};
/* As the base is, but for those pages, which are in the file one after the other from offset on. At most VC_IMAGE_RUNS
 * runs, in order. 0 or -errno. */
int vc_image_patch(const struct vc_image *base, const struct vc_run *run, uint32_t runs, struct vc_image_file *file,
                   uint64_t offset, struct vc_image **image);

/* Where the image's bytes are, to be read; NULL with a sentence: cannot be mapped. Any thread. */
const uint8_t *vc_image_view(struct vc_image *image);
/* Map it privately over the slot's memory: what the slot held is forgotten. Nobody executes. 0 or -errno. */
int vc_image_map(struct vc_image *image, struct vc_slot *slot);
/* The same where the slot holds just that already: memory of its own stays where it is. */
int vc_image_follow(struct vc_image *image, struct vc_slot *slot);
/*
 * Bring slot->changed up to date: a bit for each page that may differ from the slot's image. The first time looks
 * through all of the slot and switches a dirty log on. Nobody executes. 0 or -errno.
 */
int vc_image_track(struct vc_slot *slot);
/* Make those pages what they are in the image. Nobody executes. 0 or -errno. */
int vc_image_restore(struct vc_slot *slot);

/* ---- image_own.c: memory that others can map ---- */

/* Whether a slot that derives from an image can have a copy of its own, and has none: nobody must write to it but vcpus
 * inside the gate and who holds the memory's lock. */
bool vc_image_may_own(const struct vc_slot *slot);
/* Bytes of an image that are there at all: about what a copy takes. */
uint64_t vc_image_data(const struct vc_image *image);
/*
 * The next piece of it, up to some MiB, inside an exclusive section; devices are held. Addresses stay. With the last
 * one slot->fd is a memfd with all of it, and changes go there. 0 or -errno
 */
int vc_image_own(struct vc_slot *slot);
/* Back to nothing: all of the slot has been mapped anew. */
void vc_image_disown(struct vc_slot *slot);

#endif
