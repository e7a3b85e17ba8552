/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Network device (5.1) that a back-end serves. Address and link are ours, and with several pairs of queues the control
 * queue, by which the driver says how many of them it uses.
 */
#include "virtio/net.h"
#include "chipset/dev_state.h"
#include "vhost/types.h"
#include "vhost/vhost.h"

enum { PAIRS_MAX = 32, CLASS_MQ = 4, MQ_SET_PAIRS = 0, COMMAND_BYTES = 4, OK = 0, ERR = 1, STATE_VERSION = 1 };

#define OURS (VNET_F_MAC | VNET_F_STATUS)
#define FEATURES                                                                                                     \
	(VNET_F_CSUM | VNET_F_GUEST_CSUM | VNET_F_GUEST_TSO4 | VNET_F_GUEST_TSO6 | VNET_F_GUEST_ECN | VNET_F_GUEST_UFO | \
	 VNET_F_HOST_TSO4 | VNET_F_HOST_TSO6 | VNET_F_HOST_ECN | VNET_F_HOST_UFO | VNET_F_MRG_RXBUF | VNET_F_MQ)

struct net_state {
	uint32_t version, pairs;
};

static uint32_t pairs_of(const struct vc_vhost *h)
{
	return h->queue_count / 2;
}

/* How many pairs the driver uses. */
static uint32_t used_pairs(const struct vc_vhost *h)
{
	uint32_t pairs = 0;

	while (pairs < pairs_of(h) && vc_vhost_is_enabled(&h->queues[2 * pairs]))
		pairs++;
	return pairs;
}

static void use_pairs(struct vc_vhost *h, uint32_t pairs)
{
	for (uint32_t i = 0; i < h->queue_count; i++)
		vc_vhost_enable(&h->queues[i], i / 2 < pairs);
}

/* ---- the driver's view ---- */

static uint64_t net_features(void *ctx)
{
	struct vc_vhost *h = ctx;
	uint64_t features = vc_vhost_features(h) | OURS;

	return pairs_of(h) > 1 ? features | VNET_F_CTRL_VQ : features & ~VNET_F_MQ;
}

/* Without MQ the control queue would lie elsewhere, and there is nothing to control. */
static int net_negotiated(void *ctx, uint64_t features)
{
	if (!(features & VNET_F_MQ) != !(features & VNET_F_CTRL_VQ))
		return vc_fail(EINVAL, "vhost-user-net: a driver that wants one of MQ and CTRL_VQ");
	use_pairs(ctx, 1);
	return 0;
}

static void net_config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
	const struct vc_vhost *h = ctx;
	struct vnet_config config = {
	    .status = VNET_S_LINK_UP,
	    .pairs = (uint16_t)pairs_of(h),
	    .speed = UINT32_MAX, /* unknown */
	    .duplex = UINT8_MAX,
	};

	memcpy(config.mac, h->mac, sizeof config.mac);
	memcpy(data, (uint8_t *)&config + offset, length);
}

/* ---- the control queue ---- */

static uint8_t command(struct vc_vhost *h, const struct vc_virtq_chain *chain)
{
	uint8_t text[COMMAND_BYTES];
	uint32_t pairs;

	if (vc_iov_to_buffer(chain->out, chain->out_count, 0, text, sizeof text) < sizeof text)
		return ERR;
	pairs = vc_ld16(text + 2);
	if (text[0] != CLASS_MQ || text[1] != MQ_SET_PAIRS || !pairs || pairs > pairs_of(h))
		return ERR;
	use_pairs(h, pairs);
	return OK;
}

static void serve_control(struct vc_vhost *h, struct vc_virtq *q)
{
	struct vc_virtq_chain *chain;

	while (vc_virtq_pop(q, &chain) > 0) {
		uint8_t answer = command(h, chain);

		vc_virtq_push(chain, (uint32_t)vc_iov_from_buffer(chain->in, chain->in_count, 0, &answer, 1));
	}
	vc_virtq_flush(q);
}

static void net_notify(void *ctx, struct vc_virtq *q)
{
	struct vc_vhost *h = ctx;

	if (vc_virtq_index(q) < h->queue_count)
		vc_vhost_notify(h, q);
	else
		serve_control(h, q);
}

/* ---- state ---- */

static int64_t net_save(void *ctx, void *buffer, size_t length)
{
	struct net_state state = {STATE_VERSION, used_pairs(ctx)};

	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int net_load(void *ctx, const void *buffer, size_t length)
{
	struct vc_vhost *h = ctx;
	struct net_state state;
	int r = vc_dev_state_in("vhost-user-net", STATE_VERSION, &state, sizeof state, buffer, length);

	if (r >= 0 && (!state.pairs || state.pairs > pairs_of(h)))
		r = vc_fail(EINVAL, "the saved state of a vhost-user-net has %u pairs of queues: expected 1 to %u", state.pairs,
		            pairs_of(h));
	if (r >= 0)
		use_pairs(h, state.pairs);
	return r;
}

/* ---- making ---- */

static const struct vc_virtio_ops net_ops = {
    .type = "vhost-user-net",
    .id = VC_VIRTIO_NET,
    .pci_class = 0x020000,
    .config_size = sizeof(struct vnet_config),
    .features = net_features,
    .negotiated = net_negotiated,
    .config_read = net_config_read,
    .start = vc_vhost_start,
    .stop = vc_vhost_stop,
    .notify = net_notify,
    .save = net_save,
    .load = net_load,
    .statistics = vc_vhost_statistics,
    .destroy = vc_vhost_free,
};

/* A chain for reception comes back when there is a frame. GET_QUEUE_NUM of a network card is about pairs. */
static const struct vc_vhost_kind net_kind = {.ops = &net_ops, .features = FEATURES, .queues_counted_as = 2};

static int net_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	struct vc_vhost *h = NULL;
	uint8_t mac[6];
	uint64_t pairs;
	int r = vc_props_u64(props, "queues", 1, 1, PAIRS_MAX, &pairs);

	if (r >= 0)
		r = vnet_read_mac(props, mac);
	if (r >= 0)
		r = vc_vhost_new(env, props, &net_kind, 2 * (uint32_t)pairs, &h);
	if (r < 0)
		return r;
	memcpy(h->mac, mac, sizeof h->mac);
	return vc_vhost_add(h, pairs > 1, props, dev);
}

const struct vc_device_type vc_vhost_user_net_type = {
    .name = "vhost-user-net",
    .summary = "network card that another process serves",
    .properties = VC_VHOST_PROPERTIES "mac          address (a random one, locally administered)\n"
                                      "queues       pairs of queues, 1 to 32 (1)\n" VC_VIRTIO_PROPERTIES,
    .create = net_create,
    .shares_memory = true,
};
