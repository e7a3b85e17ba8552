/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Network device (5.1): features, configuration space, life. */
#include "virtio/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <virtcore/error.h>

#include "chipset/dev_state.h"
#include "virtio/types.h"

enum { STATE_VERSION = 1, MTU_MIN = 68, MTU_MAX = 65535, QUEUE_SIZE = 256, QUEUE_SIZE_MIN = 16 };

struct state {
	uint32_t version, pad;
	struct vnet_control control;
};

/* ---- features ---- */

/* A feature is of no use, and refused, without all of the others. */
static const struct {
	uint64_t feature, needs;
} dependencies[] = {
    {VNET_F_GUEST_TSO4, VNET_F_GUEST_CSUM},  {VNET_F_GUEST_TSO6, VNET_F_GUEST_CSUM},
    {VNET_F_GUEST_UFO, VNET_F_GUEST_CSUM},   {VNET_F_GUEST_USO4, VNET_F_GUEST_CSUM},
    {VNET_F_GUEST_USO6, VNET_F_GUEST_CSUM},  {VNET_F_HOST_TSO4, VNET_F_CSUM},
    {VNET_F_HOST_TSO6, VNET_F_CSUM},         {VNET_F_HOST_UFO, VNET_F_CSUM},
    {VNET_F_HOST_USO, VNET_F_CSUM},          {VNET_F_CTRL_RX, VNET_F_CTRL_VQ},
    {VNET_F_CTRL_VLAN, VNET_F_CTRL_VQ},      {VNET_F_CTRL_RX_EXTRA, VNET_F_CTRL_VQ},
    {VNET_F_GUEST_ANNOUNCE, VNET_F_CTRL_VQ}, {VNET_F_MQ, VNET_F_CTRL_VQ},
    {VNET_F_CTRL_MAC, VNET_F_CTRL_VQ},       {VNET_F_RSS, VNET_F_CTRL_VQ},
    {VNET_F_HASH_REPORT, VNET_F_CTRL_VQ},    {VNET_F_CTRL_OFFLOADS, VNET_F_CTRL_VQ},
};

static const struct {
	uint64_t guest, host; /* features: all of them together are */
	uint32_t offload;
} offload_rows[] = {
    {VNET_F_GUEST_CSUM, VNET_F_CSUM, VC_NET_CSUM},
    {VNET_F_GUEST_TSO4, VNET_F_HOST_TSO4, VC_NET_TSO4},
    {VNET_F_GUEST_TSO6, VNET_F_HOST_TSO6, VC_NET_TSO6},
    {VNET_F_GUEST_ECN, VNET_F_HOST_ECN, VC_NET_ECN},
    {VNET_F_GUEST_UFO, VNET_F_HOST_UFO, VC_NET_UFO},
    {VNET_F_GUEST_USO4 | VNET_F_GUEST_USO6, VNET_F_HOST_USO, VC_NET_USO},
};

static uint32_t to_offloads(uint64_t features, bool host)
{
	uint32_t offloads = 0;

	for (size_t i = 0; i < VC_ARRAY_SIZE(offload_rows); i++) {
		uint64_t need = host ? offload_rows[i].host : offload_rows[i].guest;

		if ((features & need) == need)
			offloads |= offload_rows[i].offload;
	}
	return offloads;
}

static uint64_t vnet_features(void *ctx)
{
	const struct vnet *n = ctx;
	uint32_t backing = n->kernel ? n->native : vc_net_offloads(n->net);
	/* the guest's own abilities are always welcome: what it has not, vc_net does */
	uint64_t features = VNET_GUEST_OFFLOADS | VNET_F_CTRL_OFFLOADS | VNET_F_MAC | VNET_F_MRG_RXBUF | VNET_F_STATUS |
	                    VNET_F_CTRL_VQ | VNET_F_CTRL_RX | VNET_F_CTRL_RX_EXTRA | VNET_F_CTRL_VLAN | VNET_F_CTRL_MAC |
	                    VNET_F_GUEST_ANNOUNCE | VNET_F_HASH_REPORT | (n->mtu ? VNET_F_MTU : 0) |
	                    (n->pairs > 1 ? VNET_F_MQ | VNET_F_RSS : 0);

	for (size_t i = 0; i < VC_ARRAY_SIZE(offload_rows); i++)
		features |= backing & offload_rows[i].offload ? offload_rows[i].host : 0;
	if (n->kernel)
		features &= (~VNET_F_MRG_RXBUF | n->env->kernel->features(n->kernel)) & ~(VNET_F_HASH_REPORT | VNET_F_RSS);
	return features;
}

static int vnet_negotiated(void *ctx, uint64_t features)
{
	struct vnet *n = ctx;

	for (size_t i = 0; i < VC_ARRAY_SIZE(dependencies); i++)
		if (features & dependencies[i].feature && !(features & dependencies[i].needs))
			return vc_fail(EINVAL, "virtio-net: feature %#llx without %#llx",
			               (unsigned long long)dependencies[i].feature, (unsigned long long)dependencies[i].needs);
	/* the control queue would be where the kernel serves one */
	if (n->kernel && n->pairs > 1 && (features & (VNET_F_MQ | VNET_F_CTRL_VQ)) == VNET_F_CTRL_VQ)
		return vc_fail(EINVAL, "virtio-net: a driver that wants CTRL_VQ without MQ, of %u pairs with vhost", n->pairs);
	n->header = features & VNET_F_HASH_REPORT                           ? VNET_HEADER_HASH
	            : features & (VC_VIRTIO_F_VERSION_1 | VNET_F_MRG_RXBUF) ? VNET_HEADER
	                                                                    : VNET_HEADER_LEGACY;
	n->merge = features & VNET_F_MRG_RXBUF;
	n->control_queue = features & (VNET_F_MQ | VNET_F_RSS) ? 2 * n->pairs : 2;
	n->tx_offloads = to_offloads(features, true);
	vnet_control_reset(n, features);
	return 0;
}

/* ---- configuration space ---- */

static void vnet_config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
	struct vnet *n = ctx;
	struct vnet_config config = {
	    .pairs = (uint16_t)n->pairs,
	    .mtu = n->mtu,
	    .speed = UINT32_MAX, /* unknown */
	    .duplex = UINT8_MAX,
	    .key_max = VNET_KEY_MAX,
	    .table_max = VNET_TABLE_MAX,
	    .hash_types = VNET_HASH_TYPES,
	};

	pthread_rwlock_rdlock(&n->lock);
	memcpy(config.mac, n->renewed ? n->mac : n->control.mac, sizeof config.mac);
	config.status =
	    (uint16_t)((vc_net_link(n->net) ? VNET_S_LINK_UP : 0) | (n->control.announce ? VNET_S_ANNOUNCE : 0));
	pthread_rwlock_unlock(&n->lock);
	memcpy(data, (uint8_t *)&config + offset, length);
}

static void vnet_link(void *ctx, bool up)
{
	struct vnet *n = ctx;
	struct vc_virtio *v = atomic_load(&n->v);

	if (n->kernel)
		n->env->kernel->set_link(n->kernel, up);
	if (v)
		vc_virtio_config_changed(v);
}

/* ---- queues ---- */

/* The addresses that the driver wants, and its own, in one list for the backing. */
static void apply_filter(struct vnet *n, const struct vnet_control *c)
{
	uint8_t macs[VNET_MACS_MAX + 1][6];

	memcpy(macs[0], c->mac, sizeof macs[0]);
	memcpy(macs + 1, c->macs, (size_t)(c->unicast + c->multicast) * 6);
	vc_net_set_filter(n->net, c->rx_modes & (VNET_PROMISC | VNET_ALLUNI) || c->unicast_all,
	                  c->rx_modes & VNET_ALLMULTI || c->multicast_all, (const uint8_t(*)[6])macs,
	                  1u + c->unicast + c->multicast);
}

void vnet_apply(struct vnet *n)
{
	struct vnet_control c;

	pthread_rwlock_rdlock(&n->lock);
	c = n->control;
	pthread_rwlock_unlock(&n->lock);
	vc_net_set_offloads(n->net, to_offloads(c.offloads, false));
	if (n->kernel)
		vc_net_use_queues(n->net, c.pairs);
	apply_filter(n, &c);
}

static void vnet_start(void *ctx)
{
	struct vnet *n = ctx;
	bool several = n->control_queue != 2 || n->pairs == 1;

	vnet_apply(n);
	if (!n->kernel) {
		for (uint32_t i = 0; i < n->pairs; i++)
			n->pair[i].rx = i == 0 || several ? vc_virtio_queue(n->v, 2 * i) : NULL;
		vc_net_start(n->net);
	} else if (n->env->kernel->start(n->kernel, n->v) < 0) {
		vc_virtio_broken(n->v, "%s", vcore_error_message());
	}
	/* a loaded device has moved: its driver tells the network (5.1.6.5.4) */
	if (n->control.announce)
		vc_virtio_config_changed(n->v);
}

static void vnet_stop(void *ctx)
{
	struct vnet *n = ctx;

	if (n->kernel)
		n->env->kernel->stop(n->kernel);
	else
		vc_net_stop(n->net);
	for (uint32_t i = 0; i < n->pairs; i++)
		n->pair[i].rx = NULL;
}

static void vnet_notify(void *ctx, struct vc_virtq *q)
{
	struct vnet *n = ctx;
	unsigned index = vc_virtq_index(q);

	if (index == n->control_queue)
		vnet_serve_control(n, q);
	else if (n->kernel)
		return;
	else if (index & 1)
		vnet_send(n, q);
	else
		for (uint32_t i = 0; i < vc_net_max_queues(n->net); i++) /* any of them may have waited for this one */
			vc_net_room(n->net, i);
}

static void vnet_called(void *ctx)
{
	struct vnet *n = ctx;

	n->env->kernel->called(n->kernel);
}

/* ---- state ---- */

static int64_t vnet_save(void *ctx, void *buffer, size_t length)
{
	struct vnet *n = ctx;
	struct state state;

	memset(&state, 0, sizeof state);
	state.version = STATE_VERSION;
	memcpy(&state.control, &n->control, sizeof state.control);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int vnet_load(void *ctx, const void *buffer, size_t length)
{
	struct vnet *n = ctx;
	struct state state;
	int r = vc_dev_state_in("virtio-net", STATE_VERSION, &state, sizeof state, buffer, length);

	if (r < 0)
		return r;
	if (!vnet_control_valid(n, &state.control))
		return vc_fail(EINVAL, "the saved state of a virtio-net holds what cannot be");
	pthread_rwlock_wrlock(&n->lock);
	n->control = state.control;
	n->renewed = false;
	n->control.offloads &= vc_virtio_features(n->v);
	n->control.announce = vc_virtio_has(n->v, VNET_F_GUEST_ANNOUNCE);
	vnet_toeplitz_set(&n->toeplitz, n->control.key, n->control.key_length);
	pthread_rwlock_unlock(&n->lock);
	return 0;
}

static unsigned vnet_statistics(void *ctx, struct vc_stat stats[VC_STATS_MAX])
{
	struct vnet *n = ctx;
	struct vc_net_counters c;
	uint64_t too_long = 0;

	vc_net_get_counters(n->net, &c);
	for (uint32_t i = 0; i < n->pairs; i++)
		too_long += atomic_load(&n->pair[i].too_long);
	const struct vc_stat rows[] = {
	    {"link", vc_net_link(n->net)}, {"tx_frames", c.tx_frames},
	    {"tx_bytes", c.tx_bytes},      {"tx_dropped", c.tx_dropped},
	    {"rx_frames", c.rx_frames},    {"rx_bytes", c.rx_bytes},
	    {"rx_dropped", c.rx_dropped},  {"rx_filtered", atomic_load(&n->pair[0].filtered)},
	    {"rx_too_long", too_long},
	};

	/* what the kernel passes it does not count here */
	if (n->kernel)
		return vc_served_statistics(atomic_load(&n->v), stats);
	memcpy(stats, rows, sizeof rows);
	return VC_ARRAY_SIZE(rows);
}

static void vnet_destroy(void *ctx)
{
	struct vnet *n = ctx;

	if (n->kernel)
		n->env->kernel->free(n->kernel);
	vc_net_close(n->net);
	for (uint32_t i = 0; i < n->pairs; i++)
		pthread_mutex_destroy(&n->pair[i].rx_lock);
	pthread_rwlock_destroy(&n->lock);
	free(n);
}

static const struct vc_virtio_ops vnet_ops = {
    .type = "virtio-net",
    .id = VC_VIRTIO_NET,
    .pci_class = 0x020000,
    .legacy_device = 0x1000,
    .config_size = sizeof(struct vnet_config),
    .in_order = true,
    .features = vnet_features,
    .negotiated = vnet_negotiated,
    .config_read = vnet_config_read,
    .start = vnet_start,
    .stop = vnet_stop,
    .notify = vnet_notify,
    .called = vnet_called,
    .save = vnet_save,
    .load = vnet_load,
    .statistics = vnet_statistics,
    .destroy = vnet_destroy,
};

struct vc_net *vnet_backing(void *frontend)
{
	return ((struct vnet *)frontend)->net;
}

/* ---- making ---- */

static int parse_mac(const char *text, uint8_t *mac)
{
	unsigned byte[6], used = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &byte[0], &byte[1], &byte[2], &byte[3], &byte[4], &byte[5],
	           (int *)&used) != 6 ||
	    used != 17 || text[17] || byte[0] & 1)
		return vc_fail(EINVAL, "property mac is \"%.40s\": expected a unicast address like 52:54:00:12:34:56", text);
	for (unsigned i = 0; i < 6; i++)
		mac[i] = (uint8_t)byte[i];
	return 0;
}

static int make_mac(uint8_t *mac)
{
	if (getrandom(mac, 6, 0) != 6)
		return vc_fail_errno(errno, "no random numbers for a MAC address");
	mac[0] = (uint8_t)((mac[0] & ~1u) | 2u); /* one station's, locally administered */
	return 0;
}

struct settings {
	enum vc_kernel_wish vhost;
	uint64_t pairs, mtu, size;
	uint8_t mac[6];
};

int vnet_set_mac(void *frontend, const uint8_t *mac)
{
	struct vnet *n = frontend;
	struct vc_virtio *v = atomic_load(&n->v);
	uint8_t made[6];
	int r = 0;

	if (mac && mac[0] & 1)
		return vc_fail(EINVAL, "a network card's address begins with %#x: expected one station's", mac[0]);
	if (mac)
		memcpy(made, mac, sizeof made);
	else
		r = make_mac(made);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&n->lock);
	memcpy(n->mac, made, sizeof made);
	n->renewed = true;
	pthread_rwlock_unlock(&n->lock);
	if (v)
		vc_virtio_config_changed(v);
	return 0;
}

int vnet_read_mac(struct vc_props *props, uint8_t mac[6])
{
	const char *text = vc_props_string(props, "mac", NULL);

	return text ? parse_mac(text, mac) : make_mac(mac);
}

static int read_settings(const struct vc_env *env, struct vc_props *props, struct settings *s)
{
	int r = vc_props_u64(props, "queues", 1, 1, VNET_PAIRS_MAX, &s->pairs);

	if (r >= 0)
		r = vc_props_u64(props, "mtu", 0, MTU_MIN, MTU_MAX, &s->mtu);
	if (r >= 0)
		r = vc_props_u64(props, "queue_size", vc_virtio_default_size(env, QUEUE_SIZE), QUEUE_SIZE_MIN,
		                 VC_VIRTQ_MAX_SIZE, &s->size);
	if (r >= 0 && s->size & (s->size - 1))
		r = vc_fail(EINVAL, "property queue_size=%llu: expected a power of 2", (unsigned long long)s->size);
	if (r >= 0)
		r = vc_kernel_read_wish(props, &s->vhost);
	return r < 0 ? r : vnet_read_mac(props, s->mac);
}

/* Have the kernel serve all queues but that of control. */
static int use_kernel(struct vnet *n, struct vc_props *props)
{
	int taps[VNET_PAIRS_MAX], r = vc_kernel_check_rings(n->env, props);
	bool has_header;

	if (r >= 0 && !n->env->kernel)
		r = vc_fail(ENOTSUP, "property vhost: nobody makes use of the kernel's vhost here");
	if (r >= 0)
		r = vc_net_descriptors(n->net, taps, &has_header, &n->native);
	return r < 0 ? r : n->env->kernel->net(n->env, taps, n->pairs, has_header, &n->kernel);
}

static int make(struct vc_env *env, struct vc_props *props, const struct settings *s, struct vnet **out)
{
	struct vnet *n = calloc(1, sizeof *n + s->pairs * sizeof n->pair[0]);
	struct vc_net_user user = {
	    .receive = vnet_receive, .sendable = vnet_sendable, .link = vnet_link, .ctx = n, .queues = (uint32_t)s->pairs};
	pthread_rwlockattr_t attr;
	int r;

	if (!n)
		return vc_fail(ENOMEM, "no memory for a virtio-net");
	n->env = env;
	n->pairs = (uint32_t)s->pairs;
	n->mtu = (uint16_t)s->mtu;
	n->header = VNET_HEADER;
	n->control_queue = 2;
	memcpy(n->mac, s->mac, sizeof n->mac);
	memcpy(user.mac, s->mac, sizeof user.mac);
	/* a stream of frames must not keep the control queue waiting */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&n->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	for (uint32_t i = 0; i < n->pairs; i++)
		pthread_mutex_init(&n->pair[i].rx_lock, NULL);
	vnet_control_reset(n, 0);
	r = vc_net_open(env, props, &user, &n->net);
	if (r >= 0 && s->vhost != VC_KERNEL_OFF) {
		r = use_kernel(n, props);
		r = r < 0 ? vc_kernel_fall_back(env, "virtio-net", s->vhost, r) : vc_net_lend(n->net);
	}
	if (r < 0)
		vnet_destroy(n);
	else
		*out = n;
	return r;
}

static int vnet_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	uint16_t sizes[2 * VNET_PAIRS_MAX + 1];
	struct vc_virtio *v;
	struct settings s;
	struct vnet *n = NULL;
	int r = read_settings(env, props, &s);

	if (r >= 0)
		r = make(env, props, &s, &n);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i <= 2 * n->pairs; i++)
		sizes[i] = (uint16_t)s.size;
	r = vc_virtio_add(env, props,
	                  &(struct vc_virtio_config){.ops = &vnet_ops,
	                                             .ctx = n,
	                                             .queues = 2 * n->pairs + 1,
	                                             .sizes = sizes,
	                                             .served = n->kernel ? 2 * n->pairs : 0},
	                  &v, dev);
	if (r < 0)
		return r;
	atomic_store(&n->v, v);
	return 0;
}

const struct vc_device_type vc_virtio_net_type = {
    .name = "virtio-net",
    .summary = "network card",
    .properties =
        "mac         address (a random one, locally administered)\n"
        "queues      pairs of queues (1)\n"
        "queue_size  entries of each queue (256)\n"
        "mtu         told to the driver (nothing is)\n" VC_KERNEL_PROPERTIES VC_NET_PROPERTIES VC_VIRTIO_PROPERTIES,
    .create = vnet_create,
};
