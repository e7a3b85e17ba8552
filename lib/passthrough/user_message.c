/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "passthrough/user_message.h"

#include "core/error.h"
#include "core/util.h"

_Static_assert(sizeof(struct vc_vfio_user_header) == 16 && sizeof(struct vc_vfio_user_version) == 4 &&
                   sizeof(struct vc_vfio_user_dma_map) == 32 && sizeof(struct vc_vfio_user_dma_unmap) == 24 &&
                   sizeof(struct vc_vfio_user_device_info) == 16 && sizeof(struct vc_vfio_user_region_access) == 16 &&
                   sizeof(struct vc_vfio_user_dma_access) == 16,
               "as they are sent");

/* The largest is a DMA_WRITE. What is not used of it takes no memory. */
enum { INBOX = sizeof(struct vc_vfio_user_header) + sizeof(struct vc_vfio_user_dma_access) + VC_VFIO_USER_DATA_MAX };

int vc_vfio_user_inbox_init(struct vc_vfio_user_inbox *in)
{
	uint8_t *room = vc_pages_new(INBOX);

	if (!room)
		return vc_fail(ENOMEM, "vfio-user: no memory for messages");
	*in = (struct vc_vfio_user_inbox){.header = (void *)room, .payload = room + sizeof *in->header};
	return 0;
}

void vc_vfio_user_inbox_close_fds(struct vc_vfio_user_inbox *in)
{
	struct vc_channel_fds fds = {in->fds, in->fd_count, VC_VFIO_USER_FDS_MAX};

	vc_channel_close_fds(&fds);
	in->fd_count = 0;
}

void vc_vfio_user_inbox_fini(struct vc_vfio_user_inbox *in)
{
	vc_vfio_user_inbox_close_fds(in);
	vc_pages_free(in->header, INBOX);
	*in = (struct vc_vfio_user_inbox){0};
}

int vc_vfio_user_send(const struct vc_channel *c, struct vc_vfio_user_header *header, size_t payload, const int *fds,
                      unsigned count, uint64_t deadline_ns)
{
	header->size = (uint32_t)(sizeof *header + payload);
	return vc_channel_send(c, header, header->size, fds, count, deadline_ns);
}

static int receive_bytes(const struct vc_channel *c, struct vc_vfio_user_inbox *in, void *to, size_t length,
                         uint64_t deadline_ns)
{
	struct vc_channel_fds fds = {in->fds, in->fd_count, VC_VFIO_USER_FDS_MAX};
	int r = vc_channel_receive(c, to, length, &fds, deadline_ns);

	in->fd_count = fds.count;
	return r;
}

static int receive(const struct vc_channel *c, struct vc_vfio_user_inbox *in, uint64_t deadline_ns)
{
	const struct vc_vfio_user_header *h = in->header;
	int r = receive_bytes(c, in, in->header, sizeof *h, deadline_ns);

	if (r < 0)
		return r;
	if (h->size < sizeof *h || h->size > INBOX)
		return vc_fail(EPROTO, "%s sends a message of %u bytes: expected %zu to %d", c->peer, h->size, sizeof *h,
		               INBOX);
	if ((h->flags & VC_VFIO_USER_TYPE) > VC_VFIO_USER_REPLY)
		return vc_fail(EPROTO, "%s sends a message that is neither command nor reply: flags %#x", c->peer, h->flags);
	in->length = h->size - (uint32_t)sizeof *h;
	return receive_bytes(c, in, in->payload, in->length, deadline_ns);
}

int vc_vfio_user_receive(const struct vc_channel *c, struct vc_vfio_user_inbox *in, uint64_t deadline_ns)
{
	int r;

	in->fd_count = 0;
	r = receive(c, in, deadline_ns);
	if (r < 0)
		vc_vfio_user_inbox_close_fds(in);
	return r;
}
