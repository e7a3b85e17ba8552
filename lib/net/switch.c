/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The path of a frame through the switch. It takes no lock that all share: who sends is inside the gate, addresses are
 * looked up without a lock, and only the receiving NIC's queue is locked, once a batch (vc_net_deliver()).
 *
 * The sender may rewrite a frame while we look at it. So the header is read once, into a copy that decides and that is
 * also what the receiver gets: a frame cannot slip into another VLAN.
 */
#include "net/switch.h"
#include "core/clock.h"

enum { TAGGED_HEADER = ETH_HEADER + ETH_TAG_LENGTH };
#define NS_PER_S  1000000000ull
#define MAC_MASK  0xffffffffffffull
#define MULTICAST 1ull /* the group bit of an address as loaded */
/* 01-80-C2-00-00-00 to -0F stay on their link (IEEE 802.1Q, table 8-1). As loaded, without the last 4 bits. */
#define LINK_LOCAL      0x0000c28001ull
#define LINK_LOCAL_MASK 0xf0ffffffffffull

/* A frame as it came in. */
struct incoming {
	const struct vc_net_frame *frame;
	uint64_t target, source; /* addresses as loaded */
	uint16_t vlan;
	uint16_t priority; /* of the tag, in its place */
	uint32_t skip;     /* bytes that `header` stands for */
	uint8_t header[TAGGED_HEADER];
};

/* One call of switch_forward(). */
struct forward {
	struct switch_port *from;
	struct switch_batch *batch;
	unsigned queue, index; /* index: of the frame that is looked at */
	unsigned held;         /* index of the first one that has to wait; UINT32_MAX: none */
	bool may_hold;
	uint64_t now_ns;
	uint32_t now;
	/* what the frame before had, for most come in rows */
	vc_mac_key source, target;
	int target_port;
};

static uint64_t load_mac(const uint8_t *p)
{
	return vc_ld32(p) | (uint64_t)vc_ld16(p + 4) << 32;
}

/* ---- in ---- */

static void copy_header(const struct vc_net_frame *frame, uint8_t *header, uint32_t length)
{
	uint32_t at = 0;

	if (vc_likely(frame->iov[0].iov_len >= TAGGED_HEADER)) {
		memcpy(header, frame->iov[0].iov_base, TAGGED_HEADER);
		return;
	}
	for (unsigned i = 0; i < frame->iov_count && at < length; i++) {
		uint32_t n = length - at < frame->iov[i].iov_len ? length - at : (uint32_t)frame->iov[i].iov_len;

		memcpy(header + at, frame->iov[i].iov_base, n);
		at += n;
	}
}

/* False: it may not come in here. */
static bool take_in(const struct switch_port *from, const struct vc_net_frame *frame, struct incoming *in)
{
	in->frame = frame;
	in->skip = ETH_HEADER;
	in->vlan = from->vlan;
	in->priority = 0;
	copy_header(frame, in->header, frame->length < TAGGED_HEADER ? frame->length : TAGGED_HEADER);
	in->target = load_mac(in->header);
	in->source = load_mac(in->header + ETH_MAC_LENGTH);
	if (vc_ldbe16(in->header + ETH_TYPE_AT) == ETH_TYPE_VLAN) {
		uint16_t tag = vc_ldbe16(in->header + ETH_HEADER);

		if (frame->length < TAGGED_HEADER)
			return false;
		in->skip = TAGGED_HEADER;
		in->priority = tag & (uint16_t)~ETH_VLAN_MASK;
		if (tag & ETH_VLAN_MASK) /* else it tells only of a priority */
			in->vlan = tag & ETH_VLAN_MASK;
	}
	if (frame->hdr.flags & NET_HDR_NEEDS_CSUM && frame->hdr.csum_start < in->skip)
		return false;
	return !(in->source & MULTICAST) && (in->target & LINK_LOCAL_MASK) != LINK_LOCAL &&
	       switch_port_in_vlan(from, in->vlan);
}

/* ---- out ---- */

/* The receiver's room ends at the n-th of the batch. The rest waits with the sender, or is dropped. */
static void refused(struct forward *f, unsigned queue, unsigned n)
{
	struct switch_batch *b = f->batch;
	struct switch_port *to = b->to;
	uint64_t ns = switch_may_hold(&to->queues[queue], f->now_ns);

	if (ns) {
		f->held = b->index[n];
		switch_hold(&f->from->queues[f->queue], to, queue, ns);
	} else {
		vc_net_deliver(to->net, queue, b->frames + n, b->count - n, false);
	}
}

/* False: the sender has to wait, and nothing more is taken from it. */
static bool flush(struct forward *f)
{
	struct switch_batch *b = f->batch;
	struct switch_port *to = b->to;
	unsigned queue, done;
	bool keep;

	if (!to)
		return true;
	queue = f->queue % to->queue_count;
	keep = f->may_hold && !b->flooded && to->hold;
	done = vc_net_deliver(to->net, queue, b->frames, b->count, keep);
	if (done)
		switch_has_taken(&to->queues[queue], f->now_ns);
	if (done < b->count)
		refused(f, queue, done);
	b->to = NULL;
	b->count = b->vectors = 0;
	return f->held == UINT32_MAX;
}

/* The header as it leaves at a port: with a tag or without. Returns its length. */
static uint32_t put_header(const struct incoming *in, bool tagged, uint8_t *header)
{
	memcpy(header, in->header, 2 * ETH_MAC_LENGTH);
	if (tagged) {
		vc_stbe16(header + ETH_TYPE_AT, ETH_TYPE_VLAN);
		vc_stbe16(header + ETH_HEADER, in->priority | in->vlan);
	}
	memcpy(header + (tagged ? TAGGED_HEADER : ETH_HEADER) - 2, in->header + in->skip - 2, 2);
	return tagged ? TAGGED_HEADER : ETH_HEADER;
}

static unsigned put_rest(const struct incoming *in, struct iovec *iov)
{
	const struct iovec *from = in->frame->iov;
	size_t skip = in->skip;
	unsigned count = 0;

	for (unsigned i = 0; i < in->frame->iov_count; i++) {
		if (skip >= from[i].iov_len) {
			skip -= from[i].iov_len;
			continue;
		}
		iov[count].iov_base = (uint8_t *)from[i].iov_base + skip;
		iov[count++].iov_len = from[i].iov_len - skip;
		skip = 0;
	}
	return count;
}

/* False: as flush(). */
static bool put_out(struct forward *f, const struct incoming *in, struct switch_port *to, bool flooded)
{
	struct switch_batch *b = f->batch;
	struct vc_net_frame *frame;
	struct iovec *iov;
	uint32_t header;

	if ((b->to != to || b->flooded != flooded || b->count == SWITCH_BATCH ||
	     b->vectors + in->frame->iov_count + 1 > SWITCH_VECTORS) &&
	    !flush(f))
		return false;
	b->to = to;
	b->flooded = flooded;
	b->index[b->count] = f->index;
	frame = &b->frames[b->count];
	iov = &b->iov[b->vectors];
	header = put_header(in, in->vlan != to->vlan, b->headers[b->count]);
	iov[0] = (struct iovec){b->headers[b->count], header};
	frame->hdr = in->frame->hdr;
	if (frame->hdr.flags & NET_HDR_NEEDS_CSUM)
		frame->hdr.csum_start = (uint16_t)(frame->hdr.csum_start - in->skip + header);
	frame->iov = iov;
	frame->iov_count = 1 + put_rest(in, iov + 1);
	frame->length = in->frame->length - in->skip + header;
	b->vectors += frame->iov_count;
	b->count++;
	return true;
}

/* ---- where to ---- */

static bool storm_allows(struct switch_port *port, uint64_t now)
{
	bool allowed;

	if (!port->storm_rate)
		return true;
	pthread_mutex_lock(&port->storm_lock);
	if (now > port->storm_at) {
		uint64_t elapsed = now - port->storm_at, more = vc_muldiv64(elapsed, port->storm_rate, NS_PER_S);

		port->storm_tokens =
		    more > port->storm_rate - port->storm_tokens ? port->storm_rate : port->storm_tokens + more;
		/* what has not made a whole frame yet is kept */
		port->storm_at = elapsed > NS_PER_S ? now : port->storm_at + vc_muldiv64(more, NS_PER_S, port->storm_rate);
	}
	allowed = port->storm_tokens > 0;
	port->storm_tokens -= allowed;
	pthread_mutex_unlock(&port->storm_lock);
	return allowed;
}

static bool wants(const struct switch_port *port, uint64_t target)
{
	if (target == MAC_MASK || port->promiscuous || (target & MULTICAST && port->all_multicast))
		return true;
	for (uint32_t i = 0; i < port->filter_count; i++)
		if (port->filter[i] == target)
			return true;
	return false;
}

static void drop(struct forward *f)
{
	atomic_fetch_add_explicit(&f->from->in_dropped, 1, memory_order_relaxed);
}

/* What goes to many waits for none of them, but for what was before it. False: as flush(). */
static bool flood(struct forward *f, const struct incoming *in)
{
	struct vcore_switch *sw = f->from->sw;

	if (!flush(f))
		return false;
	if (!storm_allows(f->from, f->now_ns)) {
		drop(f);
		return true;
	}
	for (uint32_t i = 0; i < sw->port_end; i++) {
		struct switch_port *to = sw->ports[i];

		if (to && to != f->from && switch_port_in_vlan(to, in->vlan) && wants(to, in->target))
			put_out(f, in, to, true);
	}
	return true;
}

static int look_up(struct forward *f, vc_mac_key target)
{
	if (target != f->target) {
		f->target = target;
		f->target_port = vc_mac_find(&f->from->sw->table, target, f->now);
	}
	return f->target_port;
}

/* False: as flush(). */
static bool forward(struct forward *f, const struct vc_net_frame *frame)
{
	struct vcore_switch *sw = f->from->sw;
	struct switch_port *to;
	struct incoming in;
	uint64_t vlan;
	int port;

	if (frame->iov_count >= SWITCH_VECTORS || !take_in(f->from, frame, &in)) {
		drop(f);
		return true;
	}
	vlan = (uint64_t)in.vlan << 48;
	if ((in.source | vlan) != f->source) {
		f->source = in.source | vlan;
		if (in.source)
			vc_mac_learn(&sw->table, f->source, f->from->index, f->now);
	}
	port = in.target & MULTICAST ? -1 : look_up(f, in.target | vlan);
	if (port < 0)
		return flood(f, &in);
	to = sw->ports[port];
	return !to || to == f->from || !switch_port_in_vlan(to, in.vlan) || put_out(f, &in, to, false);
}

unsigned switch_forward(struct switch_port *from, unsigned queue, const struct vc_net_frame *frames, unsigned count,
                        bool may_hold)
{
	struct switch_queue *q = &from->queues[queue];
	struct forward f = {.from = from,
	                    .batch = &q->batch,
	                    .queue = queue,
	                    .held = UINT32_MAX,
	                    .may_hold = may_hold,
	                    .now_ns = vc_host_ns()};

	f.now = (uint32_t)(f.now_ns / NS_PER_S);
	vc_gate_enter(&q->pass);
	while (f.index < count && forward(&f, &frames[f.index]))
		f.index++;
	flush(&f);
	vc_gate_leave(&q->pass);
	return f.held < count ? f.held : count;
}
