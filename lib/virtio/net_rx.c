/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames for the driver: which it wants, which queue they go to, and into its buffers. */
#include "net/packet.h"
#include "virtio/net.h"

enum {
	MERGE_MAX = 128, /* buffers of one frame; drivers need 45 of 1.5 KB for the longest */
	HEAD_MAX = 128,  /* bytes of a frame that are looked at */
};

/* The header as the driver sees it (5.1.6). */
struct header {
	struct vc_net_hdr hdr;
	uint16_t buffers;
	uint32_t hash_value;
	uint16_t hash_report, pad;
};
_Static_assert(sizeof(struct header) == VNET_HEADER_HASH, "layout of struct virtio_net_hdr");

enum outcome { TAKEN, NO_ROOM };

/* ---- into buffers ---- */

/* Header and frame one after the other. */
struct source {
	const struct iovec *iov;
	unsigned left; /* vectors behind the one that `at` points into */
	const uint8_t *at;
	size_t length;
};

static void next_vector(struct source *s)
{
	while (!s->length && s->left) {
		s->at = s->iov->iov_base;
		s->length = s->iov->iov_len;
		s->iov++;
		s->left--;
	}
}

/* Fills the chain as far as there is something; returns the bytes. */
static uint32_t fill_chain(struct vc_virtq_chain *c, struct source *s)
{
	uint32_t written = 0;

	for (uint32_t i = 0; i < c->in_count && s->length; i++) {
		uint8_t *to = c->in[i].iov_base;
		size_t room = c->in[i].iov_len;

		while (room && s->length) {
			size_t piece = room < s->length ? room : s->length;

			memcpy(to, s->at, piece);
			to += piece;
			room -= piece;
			s->at += piece;
			s->length -= piece;
			written += (uint32_t)piece;
			next_vector(s);
		}
	}
	return written;
}

/* The next chain of the driver's. When there is none the driver is asked to tell of new ones. */
static int pop(struct vc_virtq *q, struct vc_virtq_chain **c)
{
	int r = vc_virtq_pop(q, c);

	if (vc_likely(r > 0)) {
		vc_virtq_notify_off(q);
		return r;
	}
	return r == 0 && vc_virtq_notify_on(q) ? vc_virtq_pop(q, c) : r;
}

static void give_back(struct vc_virtq_chain **chains, unsigned count)
{
	while (count)
		vc_virtq_unpop(chains[--count]);
}

/* Most frames: one buffer in one piece that has room for all. */
static void fill_piece(struct vc_virtq_chain *c, const struct vc_net_frame *frame, const struct header *header,
                       uint32_t header_length)
{
	uint8_t *to = c->in->iov_base;

	if (vc_likely(header_length == VNET_HEADER))
		memcpy(to, header, VNET_HEADER);
	else
		memcpy(to, header, header_length);
	to += header_length;
	for (unsigned i = 0; i < frame->iov_count; i++) {
		memcpy(to, frame->iov[i].iov_base, frame->iov[i].iov_len);
		to += frame->iov[i].iov_len;
	}
}

/* In one buffer or several, which have room for it. */
static void fill_chains(const struct vnet *n, struct vc_virtq_chain **chains, unsigned count,
                        const struct vc_net_frame *frame, struct vnet_hash hash)
{
	struct header header = {frame->hdr, (uint16_t)count, hash.value, hash.report, 0};
	struct source source = {frame->iov, frame->iov_count, (const uint8_t *)&header, n->header};

	if (vc_likely(chains[0]->in_count && chains[0]->in->iov_len >= n->header + frame->length)) {
		fill_piece(chains[0], frame, &header, n->header);
		vc_virtq_push(chains[0], n->header + frame->length);
		return;
	}
	for (unsigned i = 0; i < count; i++)
		vc_virtq_push(chains[i], fill_chain(chains[i], &source));
}

static enum outcome put_frame(struct vnet *n, struct vnet_pair *pair, const struct vc_net_frame *frame,
                              struct vnet_hash hash)
{
	struct vc_virtq_chain *chains[MERGE_MAX];
	uint64_t need = (uint64_t)n->header + frame->length, room = 0;
	unsigned count = 0, most = n->merge ? MERGE_MAX : 1;

	do {
		int r = pop(pair->rx, &chains[count]);

		if (r <= 0) {
			give_back(chains, count);
			return r < 0 ? TAKEN : NO_ROOM; /* broken: it makes no room any more */
		}
		room += chains[count++]->in_bytes;
	} while (room < need && count < most);
	if (vc_unlikely(room < need)) {
		bool hopeless = chains[0]->in_bytes < n->header;

		give_back(chains, count);
		if (hopeless)
			vc_virtio_broken(vc_virtq_device(pair->rx), "queue %u: a buffer of less than the header's %u bytes",
			                 vc_virtq_index(pair->rx), n->header);
		atomic_fetch_add_explicit(&pair->too_long, 1, memory_order_relaxed);
		return TAKEN;
	}
	fill_chains(n, chains, count, frame, hash);
	return TAKEN;
}

/* ---- which, and where to: under the lock for reading ---- */

/* Only the first bytes are looked at, in a copy. Returns how many there are. */
static uint32_t copy_head(const struct vc_net_frame *frame, uint8_t *head)
{
	return (uint32_t)vc_iov_to_buffer(frame->iov, frame->iov_count, 0, head, HEAD_MAX);
}

static bool in_list(const uint8_t (*macs)[6], unsigned count, const uint8_t *mac)
{
	for (unsigned i = 0; i < count; i++)
		if (!memcmp(macs[i], mac, ETH_MAC_LENGTH))
			return true;
	return false;
}

static bool wanted(const struct vnet_control *c, const uint8_t *head)
{
	static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	uint16_t vlan = vc_ldbe16(head + ETH_HEADER) & ETH_VLAN_MASK;

	if (vc_ldbe16(head + ETH_TYPE_AT) == ETH_TYPE_VLAN && !(c->vlans[vlan / 64] >> (vlan % 64) & 1))
		return false;
	if (!memcmp(head, broadcast, sizeof broadcast))
		return !(c->rx_modes & VNET_NOBCAST);
	if (head[0] & 1)
		return !(c->rx_modes & VNET_NOMULTI) &&
		       (c->rx_modes & VNET_ALLMULTI || c->multicast_all || in_list(c->macs + c->unicast, c->multicast, head));
	return !(c->rx_modes & VNET_NOUNI) && (c->rx_modes & VNET_ALLUNI || c->unicast_all ||
	                                       !memcmp(c->mac, head, ETH_MAC_LENGTH) || in_list(c->macs, c->unicast, head));
}

/* The pair for a frame that came on that queue of the backing. */
static unsigned steer(const struct vnet *n, unsigned queue, const struct vnet_hash *hash)
{
	const struct vnet_control *c = &n->control;

	if (c->rss)
		return hash->report ? c->table[hash->value & c->table_mask] : c->unclassified;
	/* a backing of several queues has told flows apart by itself */
	return (vc_net_max_queues(n->net) > 1 ? queue : hash->value) % c->pairs;
}

/* What has to be known of a frame. False: it is not wanted. */
static bool classify(struct vnet *n, unsigned queue, const struct vc_net_frame *frame, unsigned *pair,
                     struct vnet_hash *hash)
{
	const struct vnet_control *c = &n->control;
	bool hashed = c->rss || n->header == VNET_HEADER_HASH || (c->pairs > 1 && vc_net_max_queues(n->net) == 1);
	uint8_t head[HEAD_MAX];
	uint32_t length;

	*pair = 0;
	*hash = (struct vnet_hash){0, 0};
	if (vc_likely(c->rx_modes & VNET_PROMISC && !hashed)) {
		*pair = queue % c->pairs;
		return true;
	}
	memset(head, 0, ETH_HEADER + ETH_TAG_LENGTH);
	length = copy_head(frame, head);
	if (!(c->rx_modes & VNET_PROMISC) && !wanted(c, head))
		return false;
	if (hashed)
		*hash = vnet_hash(&n->toeplitz, c->hash_types, head, length);
	*pair = steer(n, queue, hash);
	return true;
}

/* ---- */

static void let_go(struct vnet_pair *pair)
{
	if (!pair)
		return;
	vc_virtq_flush(pair->rx);
	pthread_mutex_unlock(&pair->rx_lock);
}

unsigned vnet_receive(void *ctx, unsigned queue, const struct vc_net_frame *frames, unsigned count)
{
	struct vnet *n = ctx;
	struct vnet_pair *held = NULL; /* its rx_lock is ours */
	unsigned done = 0, index;
	struct vnet_hash hash;

	pthread_rwlock_rdlock(&n->lock);
	for (; done < count; done++) {
		struct vnet_pair *pair;

		if (!classify(n, queue, &frames[done], &index, &hash)) {
			atomic_fetch_add_explicit(&n->pair[0].filtered, 1, memory_order_relaxed);
			continue;
		}
		pair = &n->pair[index];
		if (!pair->rx)
			continue;
		if (pair != held) {
			let_go(held);
			pthread_mutex_lock(&pair->rx_lock);
			held = pair;
		}
		if (put_frame(n, pair, &frames[done], hash) == NO_ROOM)
			break;
	}
	let_go(held);
	pthread_rwlock_unlock(&n->lock);
	return done;
}
