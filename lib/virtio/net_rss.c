/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which flow a frame belongs to (5.1.6.4.3): a Toeplitz hash over addresses and ports. */
#include "net/packet.h"
#include "virtio/net.h"

enum { TYPE_IP = 0, TYPE_TCP = 1, TYPE_UDP = 2, TYPES_V6 = 3, REPORT_FIRST = 1, PORTS = 4 };

/* 32 bits of the key from bit `at` on; it counts as 0 behind its end. */
static uint32_t key_window(const uint8_t *key, unsigned length, unsigned at)
{
	uint64_t bits = 0;

	for (unsigned i = 0; i < 5; i++)
		bits = bits << 8 | (at / 8 + i < length ? key[at / 8 + i] : 0);
	return (uint32_t)(bits >> (8 - at % 8));
}

void vnet_toeplitz_set(struct vnet_toeplitz *t, const uint8_t *key, unsigned length)
{
	for (unsigned byte = 0; byte < VNET_HASHED_MAX; byte++) {
		t->of[byte][0] = 0;
		for (unsigned bit = 0; bit < 8; bit++) {
			uint32_t window = key_window(key, length, byte * 8 + 7 - bit);

			for (unsigned value = 0; value < 1u << bit; value++)
				t->of[byte][value | 1u << bit] = t->of[byte][value] ^ window;
		}
	}
}

/* Where a frame has addresses and ports. */
struct flow {
	uint32_t addresses, addresses_length, ports;
	unsigned type; /* TYPE_IP, _TCP, _UDP, plus TYPES_V6 */
};

static bool find_ipv4(const uint8_t *head, uint32_t at, uint32_t length, struct flow *flow)
{
	uint32_t header = at + 20 <= length ? (head[at] & 15u) * 4 : 0;

	if (header < 20 || head[at] >> 4 != 4)
		return false;
	*flow = (struct flow){.addresses = at + 12, .addresses_length = 8, .ports = at + header};
	/* only the first fragment has ports, so none counts as TCP or UDP */
	if (!(vc_ldbe16(head + at + 6) & 0x3fff))
		flow->type = head[at + 9] == IP_PROTO_TCP ? TYPE_TCP : head[at + 9] == IP_PROTO_UDP ? TYPE_UDP : TYPE_IP;
	return true;
}

/* Extension headers end the look: such a packet is hashed by its addresses. */
static bool find_ipv6(const uint8_t *head, uint32_t at, uint32_t length, struct flow *flow)
{
	if (at + 40 > length || head[at] >> 4 != 6)
		return false;
	*flow = (struct flow){.addresses = at + 8, .addresses_length = 32, .ports = at + 40, .type = TYPES_V6};
	flow->type += head[at + 6] == IP_PROTO_TCP ? TYPE_TCP : head[at + 6] == IP_PROTO_UDP ? TYPE_UDP : TYPE_IP;
	return true;
}

static bool find_flow(const uint8_t *head, uint32_t length, struct flow *flow)
{
	uint32_t at = ETH_HEADER;
	uint16_t type;

	if (length < ETH_HEADER)
		return false;
	type = vc_ldbe16(head + ETH_TYPE_AT);
	if (type == ETH_TYPE_VLAN && length >= ETH_HEADER + ETH_TAG_LENGTH) {
		type = vc_ldbe16(head + ETH_TYPE_AT + ETH_TAG_LENGTH);
		at += ETH_TAG_LENGTH;
	}
	return type == ETH_TYPE_IPV4   ? find_ipv4(head, at, length, flow)
	       : type == ETH_TYPE_IPV6 ? find_ipv6(head, at, length, flow)
	                               : false;
}

static uint32_t hash_bytes(const struct vnet_toeplitz *t, uint32_t hash, unsigned from, const uint8_t *p,
                           unsigned length)
{
	for (unsigned i = 0; i < length; i++)
		hash ^= t->of[from + i][p[i]];
	return hash;
}

struct vnet_hash vnet_hash(const struct vnet_toeplitz *t, uint32_t types, const uint8_t *head, uint32_t length)
{
	struct vnet_hash hash = {0, 0};
	struct flow flow;
	unsigned base;

	if (!find_flow(head, length, &flow))
		return hash;
	base = flow.type >= TYPES_V6 ? TYPES_V6 : 0;
	if (flow.type != base && (!(types >> flow.type & 1) || flow.ports + PORTS > length))
		flow.type = base;
	if (!(types >> flow.type & 1))
		return hash;
	hash.value = hash_bytes(t, 0, 0, head + flow.addresses, flow.addresses_length);
	if (flow.type != base)
		hash.value = hash_bytes(t, hash.value, flow.addresses_length, head + flow.ports, PORTS);
	hash.report = (uint16_t)(flow.type + REPORT_FIRST);
	return hash;
}
