/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The control queue (5.1.6.5): a command is class, command, data; the answer is one byte. A command is copied out of
 * guest memory once, and either wholly taken or wholly refused.
 */
#include "virtio/net.h"

enum { COMMAND_MAX = 8192, OK = 0, ERR = 1 };

/* What follows class and command; shrinks as it is read. */
struct data {
	const uint8_t *at;
	uint32_t left;
};

/* What a command is measured by. */
struct limits {
	uint64_t features; /* negotiated */
	uint32_t pairs;
};

static const uint8_t *take(struct data *d, uint32_t length)
{
	const uint8_t *p = d->at;

	if (d->left < length)
		return NULL;
	d->at += length;
	d->left -= length;
	return p;
}

static bool take_number(struct data *d, uint32_t bytes, uint64_t *value)
{
	const uint8_t *p = take(d, bytes);

	*value = 0;
	if (p)
		memcpy(value, p, bytes);
	return p;
}

/* ---- commands: c is a copy that becomes the state when true is returned ---- */

static bool rx_mode(const struct limits *l, struct vnet_control *c, unsigned command, struct data *d)
{
	uint64_t on;

	if (!take_number(d, 1, &on))
		return false;
	c->rx_modes = (uint8_t)((c->rx_modes & ~(1u << command)) | (on ? 1u << command : 0));
	return true;
}

static bool mac_address(const struct limits *l, struct vnet_control *c, unsigned command, struct data *d)
{
	const uint8_t *mac = take(d, sizeof c->mac);

	if (!mac || mac[0] & 1)
		return false;
	memcpy(c->mac, mac, sizeof c->mac);
	return true;
}

/* A list that is too long stands for all addresses. */
static bool take_macs(struct vnet_control *c, struct data *d, unsigned first, uint8_t *count, uint8_t *all)
{
	const uint8_t *macs;
	uint64_t entries;

	if (!take_number(d, 4, &entries) || entries > d->left / 6)
		return false;
	macs = take(d, (uint32_t)entries * 6);
	*all = entries > VNET_MACS_MAX - first;
	*count = *all ? 0 : (uint8_t)entries;
	memcpy(c->macs + first, macs, *count * sizeof c->macs[0]);
	return true;
}

static bool mac_table(const struct limits *l, struct vnet_control *c, unsigned command, struct data *d)
{
	return take_macs(c, d, 0, &c->unicast, &c->unicast_all) &&
	       take_macs(c, d, c->unicast, &c->multicast, &c->multicast_all);
}

static bool vlan(const struct limits *l, struct vnet_control *c, unsigned command, struct data *d)
{
	uint64_t id;

	if (!take_number(d, 2, &id) || id >= VNET_VLANS)
		return false;
	c->vlans[id / 64] &= ~(1ull << (id % 64));
	c->vlans[id / 64] |= (uint64_t)!command << (id % 64); /* 0: add, 1: remove */
	return true;
}

static bool announced(const struct limits *l, struct vnet_control *c, unsigned command, struct data *d)
{
	c->announce = 0;
	return true;
}

static bool set_pairs(const struct limits *l, struct vnet_control *c, unsigned command, struct data *d)
{
	uint64_t pairs;

	if (!take_number(d, 2, &pairs) || !pairs || pairs > l->pairs)
		return false;
	c->pairs = (uint16_t)pairs;
	c->rss = 0;
	return true;
}

static bool take_key(struct vnet_control *c, struct data *d)
{
	const uint8_t *key;
	uint64_t length;

	if (!take_number(d, 1, &length) || length > VNET_KEY_MAX || !(key = take(d, (uint32_t)length)))
		return false;
	/* without a key there is nothing to hash with */
	if (!length)
		return !c->hash_types;
	memcpy(c->key, key, length);
	c->key_length = (uint8_t)length;
	return true;
}

static bool take_hash_types(struct vnet_control *c, struct data *d)
{
	uint64_t types;

	if (!take_number(d, 4, &types) || types & ~(uint64_t)VNET_HASH_TYPES)
		return false;
	c->hash_types = (uint32_t)types;
	return true;
}

static bool take_pair(const struct limits *l, struct data *d, uint16_t *pair)
{
	uint64_t value;

	if (!take_number(d, 2, &value) || value >= l->pairs)
		return false;
	*pair = (uint16_t)value;
	return true;
}

static bool rss_config(const struct limits *l, struct vnet_control *c, unsigned command, struct data *d)
{
	uint64_t mask, pairs;

	if (!take_hash_types(c, d) || !take_number(d, 2, &mask) || mask >= VNET_TABLE_MAX || mask & (mask + 1) ||
	    !take_pair(l, d, &c->unclassified))
		return false;
	for (uint64_t i = 0; i <= mask; i++)
		if (!take_pair(l, d, &c->table[i]))
			return false;
	if (!take_number(d, 2, &pairs) || !pairs || pairs > l->pairs)
		return false;
	c->table_mask = (uint16_t)mask;
	c->pairs = (uint16_t)pairs;
	c->rss = 1;
	return take_key(c, d);
}

static bool hash_config(const struct limits *l, struct vnet_control *c, unsigned command, struct data *d)
{
	return take_hash_types(c, d) && take(d, 8) && take_key(c, d);
}

static bool guest_offloads(const struct limits *l, struct vnet_control *c, unsigned command, struct data *d)
{
	uint64_t bits, may = l->features & VNET_GUEST_OFFLOADS;

	if (!take_number(d, 8, &bits) || bits & ~may)
		return false;
	c->offloads = bits;
	return true;
}

static const struct command {
	uint8_t class, command;
	uint64_t feature;
	bool (*run)(const struct limits *l, struct vnet_control *c, unsigned command, struct data *d);
} commands[] = {
    {0, 0, VNET_F_CTRL_RX, rx_mode},
    {0, 1, VNET_F_CTRL_RX, rx_mode},
    {0, 2, VNET_F_CTRL_RX_EXTRA, rx_mode},
    {0, 3, VNET_F_CTRL_RX_EXTRA, rx_mode},
    {0, 4, VNET_F_CTRL_RX_EXTRA, rx_mode},
    {0, 5, VNET_F_CTRL_RX_EXTRA, rx_mode},
    {1, 0, VNET_F_CTRL_RX, mac_table},
    {1, 1, VNET_F_CTRL_MAC, mac_address},
    {2, 0, VNET_F_CTRL_VLAN, vlan},
    {2, 1, VNET_F_CTRL_VLAN, vlan},
    {3, 0, VNET_F_GUEST_ANNOUNCE, announced},
    {4, 0, VNET_F_MQ, set_pairs},
    {4, 1, VNET_F_RSS, rss_config},
    {4, 2, VNET_F_HASH_REPORT, hash_config},
    {5, 0, VNET_F_CTRL_OFFLOADS, guest_offloads},
};

bool vnet_command(struct vnet *n, uint64_t features, const uint8_t *text, uint32_t length)
{
	struct vnet_control changed = n->control; /* only we write it */
	const struct limits limits = {features, n->pairs};
	struct data d = {text + 2, length - 2};
	const struct command *c = commands;
	bool new_key;

	while (c < commands + VC_ARRAY_SIZE(commands) && (c->class != text[0] || c->command != text[1]))
		c++;
	if (c == commands + VC_ARRAY_SIZE(commands) || !(features & c->feature) ||
	    !c->run(&limits, &changed, c->command, &d))
		return false;
	new_key = n->control.key_length != changed.key_length || memcmp(n->control.key, changed.key, sizeof changed.key);
	pthread_rwlock_wrlock(&n->lock);
	n->control = changed;
	n->renewed &= c->run != mac_address;
	if (new_key)
		vnet_toeplitz_set(&n->toeplitz, changed.key, changed.key_length);
	pthread_rwlock_unlock(&n->lock);
	return true;
}

void vnet_serve_control(struct vnet *n, struct vc_virtq *q)
{
	struct vc_virtq_chain *c;
	uint8_t text[COMMAND_MAX], answer;

	do {
		vc_virtq_notify_off(q);
		while (vc_virtq_pop(q, &c) > 0) {
			uint32_t length = (uint32_t)vc_iov_to_buffer(c->out, c->out_count, 0, text, sizeof text);

			answer =
			    length >= 2 && c->out_bytes <= sizeof text && vnet_command(n, vc_virtio_features(n->v), text, length)
			        ? OK
			        : ERR;
			if (answer == OK)
				vnet_apply(n);
			vc_virtq_push(c, (uint32_t)vc_iov_from_buffer(c->in, c->in_count, 0, &answer, 1));
			vc_virtq_flush(q);
		}
	} while (vc_virtq_notify_on(q));
}

/* ---- state ---- */

void vnet_control_reset(struct vnet *n, uint64_t features)
{
	/* the one that vendors have agreed on for RSS ("Microsoft key"), until the driver brings one */
	static const uint8_t key[VNET_KEY_MAX] = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
	                                          0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
	                                          0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
	                                          0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};
	struct vnet_control c = {
	    .rx_modes = VNET_PROMISC, /* until the driver says what it wants */
	    .pairs = 1,
	    .offloads = features & VNET_GUEST_OFFLOADS,
	    .hash_types = VNET_HASH_TYPES,
	    .key_length = VNET_KEY_MAX,
	};

	memcpy(c.key, key, sizeof key);
	/* with the filter negotiated, VLANs are let in one by one */
	memset(c.vlans, features & VNET_F_CTRL_VLAN ? 0 : 0xff, sizeof c.vlans);
	c.vlans[0] |= 1; /* that tag has a priority and no VLAN */
	pthread_rwlock_wrlock(&n->lock);
	memcpy(c.mac, n->mac, sizeof c.mac);
	n->renewed = false;
	n->control = c;
	vnet_toeplitz_set(&n->toeplitz, c.key, c.key_length);
	pthread_rwlock_unlock(&n->lock);
}

bool vnet_control_valid(const struct vnet *n, const struct vnet_control *c)
{
	if (c->mac[0] & 1 || c->rx_modes & ~VNET_RX_MODES || c->announce > 1 || c->rss > 1 || !c->pairs ||
	    c->pairs > n->pairs || c->unicast + c->multicast > VNET_MACS_MAX || c->unicast_all > 1 ||
	    c->multicast_all > 1 || c->offloads & ~VNET_GUEST_OFFLOADS || c->hash_types & ~(uint32_t)VNET_HASH_TYPES ||
	    c->key_length > VNET_KEY_MAX || c->table_mask >= VNET_TABLE_MAX || c->table_mask & (c->table_mask + 1) ||
	    c->unclassified >= n->pairs)
		return false;
	for (unsigned i = 0; i <= c->table_mask; i++)
		if (c->table[i] >= n->pairs)
			return false;
	return true;
}
