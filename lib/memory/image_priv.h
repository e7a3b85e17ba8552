/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the parts of the images. */
#ifndef VC_MEMORY_IMAGE_PRIV_H
#define VC_MEMORY_IMAGE_PRIV_H

#include "memory/image.h"

/* An image has no more extents: each is a mapping in every slot that derives from it, of which a process has 65,530. */
#define VC_IMAGE_EXTENTS (2 * VC_IMAGE_RUNS)

/* Without extents, with room for some. NULL: no memory. */
struct vc_image *vc_image_new(uint64_t length, uint32_t room);
/* Nothing for no pages. */
void vc_image_append(struct vc_image *image, uint64_t page, uint64_t count, struct vc_image_file *file,
                     uint64_t offset);
/* Pages [from, to) as the base has them. */
void vc_image_append_base(struct vc_image *image, const struct vc_image *base, uint64_t from, uint64_t to);

#endif
