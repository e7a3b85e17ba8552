/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In place of aio_uring.c in a build without liburing: there is never a ring. */
#include "block/aio.h"
#include "core/error.h"

int vc_uring_new(void (*fallback)(void *ctx, struct vc_aio_request *request), void *ctx, struct vc_uring **ring)
{
	*ring = NULL;
	return vc_fail(ENOTSUP, "this build has no io_uring: use aio threads");
}

void vc_uring_free(struct vc_uring *ring) {}

void vc_uring_submit(struct vc_uring *ring, struct vc_aio_request *request) {}

void vc_uring_plug(struct vc_uring *ring) {}

void vc_uring_unplug(struct vc_uring *ring) {}
