/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ethernet frames: numbers of the wire, big-endian fields, checksums. */
#ifndef VC_NET_PACKET_H
#define VC_NET_PACKET_H

#include <endian.h>

#include "core/util.h"

enum {
	ETH_MAC_LENGTH = 6,
	ETH_HEADER = 14,
	ETH_TYPE_AT = 12,
	ETH_TAG_LENGTH = 4,
	ETH_TYPE_IPV4 = 0x0800,
	ETH_TYPE_IPV6 = 0x86dd,
	ETH_TYPE_VLAN = 0x8100, /* IEEE 802.1Q */
	ETH_TYPE_QINQ = 0x88a8, /* IEEE 802.1ad */
	ETH_VLAN_MASK = 0x0fff,

	IP_PROTO_HOP = 0,
	IP_PROTO_TCP = 6,
	IP_PROTO_UDP = 17,
	IP_PROTO_ROUTING = 43,
	IP_PROTO_FRAGMENT = 44,
	IP_PROTO_DESTINATION = 60,
};

/* struct vc_net_hdr */
enum {
	NET_HDR_NEEDS_CSUM = 1,
	NET_HDR_DATA_VALID = 2,
	NET_GSO_NONE = 0,
	NET_GSO_TCPV4 = 1,
	NET_GSO_UDP = 3,
	NET_GSO_TCPV6 = 4,
	NET_GSO_UDP_L4 = 5,
	NET_GSO_ECN = 0x80,
};

static inline uint16_t vc_ldbe16(const void *p)
{
	return be16toh(vc_ld16(p));
}
static inline uint32_t vc_ldbe32(const void *p)
{
	return be32toh(vc_ld32(p));
}
static inline void vc_stbe16(void *p, uint16_t v)
{
	vc_st16(p, htobe16(v));
}
static inline void vc_stbe32(void *p, uint32_t v)
{
	vc_st32(p, htobe32(v));
}

/* The Internet checksum (RFC 1071) in parts: all but the last part have an even length. */
uint64_t vc_csum_add(uint64_t sum, const void *data, size_t length);
/* Folded and complemented, as a big-endian field takes it by vc_st16(). */
static inline uint16_t vc_csum_finish(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

#endif
