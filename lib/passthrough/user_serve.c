/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The commands that a vfio-user server sends: DMA that it does not do by itself. */
#include "core/error.h"
#include "core/util.h"
#include "passthrough/user_priv.h"

/* Of the reply's payload, in place of the command's; or -errno for the server. */
static int64_t dma_read(struct vc_vfio_user *u, struct vc_vfio_user_inbox *in)
{
	struct vc_vfio_user_dma_access access;
	int r;

	if (in->length != sizeof access)
		return -EINVAL;
	memcpy(&access, in->payload, sizeof access);
	if (access.count > VC_VFIO_USER_DATA_MAX)
		return -EINVAL;
	r = u->memory->read(u->ctx, access.address, in->payload + sizeof access, access.count);
	return r < 0 ? r : (int64_t)(sizeof access + access.count);
}

static int64_t dma_write(struct vc_vfio_user *u, struct vc_vfio_user_inbox *in)
{
	struct vc_vfio_user_dma_access access;
	int r;

	if (in->length < sizeof access)
		return -EINVAL;
	memcpy(&access, in->payload, sizeof access);
	if (access.count != in->length - sizeof access || access.count > VC_VFIO_USER_DATA_MAX)
		return -EINVAL;
	r = u->memory->write(u->ctx, access.address, in->payload + sizeof access, access.count);
	return r < 0 ? r : (int64_t)sizeof access;
}

static int64_t execute(struct vc_vfio_user *u, struct vc_vfio_user_inbox *in)
{
	switch (in->header->command) {
	case VC_VFIO_USER_DMA_READ:
		return dma_read(u, in);
	case VC_VFIO_USER_DMA_WRITE:
		return dma_write(u, in);
	default:
		return -ENOSYS;
	}
}

int vc_vfio_user_answer(struct vc_vfio_user *u, const struct vc_channel *c, struct vc_vfio_user_inbox *in,
                        uint64_t deadline_ns)
{
	bool silent = in->header->flags & VC_VFIO_USER_NO_REPLY;
	int64_t length;

	vc_vfio_user_inbox_close_fds(in); /* no command that we know has any */
	length = execute(u, in);
	if (silent)
		return 0;
	in->header->flags = VC_VFIO_USER_REPLY | (length < 0 ? VC_VFIO_USER_ERROR : 0);
	in->header->error = length < 0 ? (uint32_t)-length : 0;
	return vc_vfio_user_send(c, in->header, length < 0 ? 0 : (size_t)length, NULL, 0, deadline_ns);
}
