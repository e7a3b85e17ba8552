/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames from the driver. */
#include "virtio/net.h"

enum { BATCH = 64, BATCHES = 16 /* in one go: others want the worker, too */ };

/* The header is read once, and the frame is what lies behind it. */
static void take_header(const struct vnet *n, struct vc_virtq_chain *c, struct vc_net_frame *frame)
{
	struct iovec *iov = c->out;
	unsigned count = c->out_count;
	size_t skip = n->header;

	if (vc_likely(iov->iov_len >= VNET_HEADER))
		memcpy(&frame->hdr, iov->iov_base, sizeof frame->hdr);
	else
		vc_iov_to_buffer(iov, count, 0, &frame->hdr, sizeof frame->hdr);
	frame->hdr.flags &= 1; /* nothing else is the driver's to say */
	while (count && skip >= iov->iov_len) {
		skip -= iov->iov_len;
		iov++;
		count--;
	}
	if (count) {
		iov->iov_base = (uint8_t *)iov->iov_base + skip;
		iov->iov_len -= skip;
	}
	frame->iov = iov;
	frame->iov_count = count;
	frame->length = c->out_bytes - n->header;
}

/* The chain of that frame, which is one of them, and those behind it go back into the ring. How many are left. */
static unsigned give_back(struct vc_virtq_chain **chains, unsigned count, const struct vc_net_frame *frame)
{
	bool found = false;

	while (!found) {
		struct vc_virtq_chain *c = chains[--count];

		found = frame->iov >= c->out && frame->iov < c->out + c->out_count;
		vc_virtq_unpop(c);
	}
	return count;
}

enum outcome { SOME, NONE, HELD };

/* One batch: there were some, or none, or the backing will say when it takes more. */
static enum outcome send_batch(struct vnet *n, struct vc_virtq *q)
{
	struct vc_virtq_chain *chains[BATCH];
	struct vc_net_frame frames[BATCH];
	unsigned count = 0, good = 0, sent;

	while (count < BATCH && vc_virtq_pop(q, &chains[count]) > 0) {
		struct vc_virtq_chain *c = chains[count++];

		if (vc_unlikely(c->out_bytes <= n->header)) {
			vc_virtio_broken(vc_virtq_device(q), "queue %u: a frame of %u bytes with a header of %u", vc_virtq_index(q),
			                 c->out_bytes, n->header);
			break;
		}
		take_header(n, c, &frames[good]);
		good += vc_net_passes(&frames[good].hdr, n->tx_offloads); /* who asks for more is not heard */
	}
	if (!count)
		return NONE;
	sent = good ? vc_net_send(n->net, vc_virtq_index(q) / 2, frames, good) : 0;
	if (vc_unlikely(sent < good))
		count = give_back(chains, count, &frames[sent]);
	for (unsigned i = 0; i < count; i++)
		vc_virtq_push(chains[i], 0);
	vc_virtq_flush(q);
	return sent < good ? HELD : SOME;
}

void vnet_sendable(void *ctx, unsigned queue)
{
	struct vc_virtio *v = atomic_load(&((struct vnet *)ctx)->v);

	if (v)
		vc_virtio_wake(v, 2 * queue + 1);
}

void vnet_send(struct vnet *n, struct vc_virtq *q)
{
	vc_virtq_notify_off(q);
	for (unsigned batch = 0; batch < BATCHES; batch++) {
		enum outcome outcome = send_batch(n, q);

		if (outcome == SOME)
			continue;
		if (outcome == HELD || !vc_virtq_notify_on(q))
			return;
		vc_virtq_notify_off(q);
	}
	vc_virtio_wake(vc_virtq_device(q), vc_virtq_index(q));
}
