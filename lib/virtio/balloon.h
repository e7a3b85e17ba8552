/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The balloon's calls at run time; any thread, while the device is there. */
#ifndef VC_VIRTIO_BALLOON_H
#define VC_VIRTIO_BALLOON_H

#include <virtcore/balloon.h>

struct vc_balloon;
/* Errors as the public functions have. */
int vc_balloon_set_target(struct vc_balloon *balloon, uint64_t bytes);
/* All but size. */
void vc_balloon_get_stats(struct vc_balloon *balloon, struct vcore_balloon_stats *stats);
int vc_balloon_reclaim(struct vc_balloon *balloon);
/* Bytes that it holds, as the guest says. */
uint64_t vc_balloon_actual(struct vc_balloon *balloon);

#endif
