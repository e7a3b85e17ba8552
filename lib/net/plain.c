/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Checksums and segmentation in software, for receivers that do neither. The work is done on a copy: what was checked
 * is what is sent.
 */
#include "net/net_priv.h"

enum {
	HEADERS_MAX = 256, /* Ethernet to TCP */
	TAGS_MAX = 2,
	EXTENSIONS_MAX = 8,  /* of IPv6 */
	FRAGMENT_HEADER = 8, /* of IPv6 */
	UDP_HEADER = 8,
	TCP_SIZE_MIN = 48, /* what a TCP segment carries at least: bounds how many one frame becomes */
	UDP_SEGMENTS_MAX = 128,
	IP_LENGTH_MAX = 65535,
	IP_FLAG_MORE = 0x2000,
	IP_FLAG_DONT = 0x4000,

	TCP_FLAGS_AT = 13,
	TCP_FIN = 0x01,
	TCP_PSH = 0x08,
	TCP_CWR = 0x80,
};

uint64_t vc_csum_add(uint64_t sum, const void *data, size_t length)
{
	const uint8_t *p = data;

	for (; length >= 8; p += 8, length -= 8) {
		uint64_t word = vc_ld64(p);

		sum += word & 0xffffffff;
		sum += word >> 32;
	}
	for (; length >= 2; p += 2, length -= 2)
		sum += vc_ld16(p);
	return length ? sum + *p : sum;
}

/* A frame in memory of ours, and where its parts begin. */
struct packet {
	uint8_t *data;
	uint32_t length;
	uint32_t ip, l4;  /* offsets */
	uint32_t next_at; /* of the field that names the layer-4 protocol */
	uint32_t payload; /* behind the TCP or UDP header */
	uint8_t protocol;
	bool v6;
};

struct output {
	void (*each)(void *ctx, const struct vc_net_frame *plain);
	void *ctx;
};

static void give(const struct output *out, const struct iovec *iov, unsigned count)
{
	struct vc_net_frame frame = {.iov = iov, .iov_count = count};

	for (unsigned i = 0; i < count; i++)
		frame.length += (uint32_t)iov[i].iov_len;
	out->each(out->ctx, &frame);
}

/* ---- headers ---- */

static bool parse_ipv4(struct packet *p)
{
	const uint8_t *ip = p->data + p->ip;
	uint32_t length;

	if (p->length - p->ip < 20 || ip[0] >> 4 != 4)
		return false;
	length = (ip[0] & 15u) * 4;
	if (length < 20 || length > p->length - p->ip || vc_ldbe16(ip + 6) & ~IP_FLAG_DONT)
		return false;
	p->protocol = ip[9];
	p->next_at = p->ip + 9;
	p->l4 = p->ip + length;
	return true;
}

static bool is_extension(uint8_t next)
{
	return next == IP_PROTO_HOP || next == IP_PROTO_ROUTING || next == IP_PROTO_DESTINATION;
}

static bool parse_ipv6(struct packet *p)
{
	uint8_t next;

	if (p->length - p->ip < 40 || p->data[p->ip] >> 4 != 6)
		return false;
	p->v6 = true;
	p->next_at = p->ip + 6;
	p->l4 = p->ip + 40;
	next = p->data[p->next_at];
	for (unsigned n = 0; is_extension(next); n++) {
		if (n == EXTENSIONS_MAX || p->length - p->l4 < 8)
			return false;
		next = p->data[p->l4];
		p->next_at = p->l4;
		p->l4 += 8 + p->data[p->l4 + 1] * 8u;
		if (p->l4 > p->length)
			return false;
	}
	p->protocol = next;
	return true;
}

static bool parse_l4(struct packet *p)
{
	uint32_t room = p->length - p->l4, header = UDP_HEADER;

	if (p->protocol == IP_PROTO_TCP)
		header = room < 20 ? UINT32_MAX : (p->data[p->l4 + 12] >> 4) * 4u;
	if (header > room || (p->protocol == IP_PROTO_TCP && header < 20))
		return false;
	p->payload = p->l4 + header;
	return p->payload <= HEADERS_MAX;
}

/* A TCP or UDP packet of IP, whole. */
static bool parse(struct packet *p)
{
	uint32_t at = ETH_TYPE_AT;
	uint16_t type = vc_ldbe16(p->data + at);

	for (unsigned tags = 0; type == ETH_TYPE_VLAN || type == ETH_TYPE_QINQ; tags++) {
		at += ETH_TAG_LENGTH;
		if (tags == TAGS_MAX || at + 2 > p->length)
			return false;
		type = vc_ldbe16(p->data + at);
	}
	p->ip = at + 2;
	if (type == ETH_TYPE_IPV4 ? !parse_ipv4(p) : type == ETH_TYPE_IPV6 ? !parse_ipv6(p) : true)
		return false;
	return (p->protocol == IP_PROTO_TCP || p->protocol == IP_PROTO_UDP) && parse_l4(p);
}

/* Of TCP or UDP over `length` bytes from its header on (RFC 9293, 3.1; RFC 8200, 8.1), not folded. */
static uint64_t pseudo_header(const struct packet *p, const uint8_t *headers, uint32_t length)
{
	uint64_t sum = (uint64_t)htobe16(p->protocol) + htobe16((uint16_t)(length >> 16)) + htobe16((uint16_t)length);

	return p->v6 ? vc_csum_add(sum, headers + p->ip + 8, 32) : vc_csum_add(sum, headers + p->ip + 12, 8);
}

/* A checksum of 0 means none to UDP, and is the same as ffff. */
static uint16_t never_zero(uint16_t sum)
{
	return sum ? sum : 0xffff;
}

static void put_l4_checksum(const struct packet *p, uint8_t *headers, const uint8_t *payload, uint32_t length)
{
	uint8_t *field = headers + p->l4 + (p->protocol == IP_PROTO_TCP ? 16 : 6);
	uint64_t sum;

	vc_st16(field, 0);
	sum = pseudo_header(p, headers, p->payload - p->l4 + length);
	sum = vc_csum_add(sum, headers + p->l4, p->payload - p->l4);
	vc_st16(field, never_zero(vc_csum_finish(vc_csum_add(sum, payload, length))));
}

/* Length and checksum of the IP header for `length` bytes behind it up to the frame's end. */
static void put_ip_length(const struct packet *p, uint8_t *headers, uint32_t behind_ip)
{
	uint8_t *ip = headers + p->ip;

	if (p->v6) {
		vc_stbe16(ip + 4, (uint16_t)(behind_ip - 40));
		return;
	}
	vc_stbe16(ip + 2, (uint16_t)behind_ip);
	vc_st16(ip + 10, 0);
	vc_st16(ip + 10, vc_csum_finish(vc_csum_add(0, ip, p->l4 - p->ip)));
}

/* ---- segments ---- */

static void patch_tcp(uint8_t *tcp, uint32_t offset, bool last)
{
	vc_stbe32(tcp + 4, vc_ldbe32(tcp + 4) + offset);
	if (!last)
		tcp[TCP_FLAGS_AT] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
	if (offset)
		tcp[TCP_FLAGS_AT] &= (uint8_t)~TCP_CWR;
}

/* TCP and UDP_L4: each segment is a packet of its own with the same headers. */
static bool segment(const struct packet *p, uint32_t size, const struct output *out)
{
	uint32_t total = p->length - p->payload, offset = 0;
	uint8_t headers[HEADERS_MAX];

	if (p->payload - p->ip + (size < total ? size : total) > IP_LENGTH_MAX)
		return false;
	do {
		uint32_t length = total - offset < size ? total - offset : size;
		struct iovec iov[2] = {{headers, p->payload}, {p->data + p->payload + offset, length}};

		memcpy(headers, p->data, p->payload);
		if (!p->v6)
			vc_stbe16(headers + p->ip + 4, (uint16_t)(vc_ldbe16(headers + p->ip + 4) + offset / size));
		put_ip_length(p, headers, p->payload - p->ip + length);
		if (p->protocol == IP_PROTO_TCP)
			patch_tcp(headers + p->l4, offset, offset + length == total);
		else
			vc_stbe16(headers + p->l4 + 4, (uint16_t)(UDP_HEADER + length));
		put_l4_checksum(p, headers, p->data + p->payload + offset, length);
		give(out, iov, 2);
		offset += length;
	} while (offset < total);
	return true;
}

/* Tells datagrams of one sender apart, which is all that the field is for (RFC 8200, 4.5). */
static uint32_t identification(const struct packet *p)
{
	uint32_t hash = 2166136261u;
	uint32_t end = p->length - p->ip > HEADERS_MAX ? p->ip + HEADERS_MAX : p->length;

	for (uint32_t i = p->ip; i < end; i++)
		hash = (hash ^ p->data[i]) * 16777619u;
	return hash;
}

/* Headers of one IPv6 fragment: those up to the UDP header, and the fragment header behind them. */
static uint32_t put_fragment_v6(const struct packet *p, uint8_t *headers, uint32_t id, uint32_t offset, bool last)
{
	uint8_t *fragment = headers + p->l4;

	headers[p->next_at] = IP_PROTO_FRAGMENT;
	fragment[0] = p->protocol;
	fragment[1] = 0;
	vc_stbe16(fragment + 2, (uint16_t)(offset | !last));
	vc_stbe32(fragment + 4, id);
	return p->l4 + FRAGMENT_HEADER;
}

/* UDP: one datagram in IP fragments, for RFC 791 and 8200 in pieces of a multiple of 8 bytes. */
static bool fragment(struct packet *p, uint32_t size, const struct output *out)
{
	uint32_t total = p->length - p->l4, id = identification(p);
	uint8_t headers[HEADERS_MAX + FRAGMENT_HEADER];

	size &= ~7u;
	if (!size || (total + size - 1) / size > UDP_SEGMENTS_MAX || total > IP_LENGTH_MAX - 256)
		return false;
	vc_stbe16(p->data + p->l4 + 4, (uint16_t)total);
	put_l4_checksum(p, p->data, p->data + p->payload, total - UDP_HEADER);
	for (uint32_t offset = 0; offset < total; offset += size) {
		uint32_t length = total - offset < size ? total - offset : size, header = p->l4;
		bool last = offset + length == total;
		struct iovec iov[2] = {{headers, 0}, {p->data + p->l4 + offset, length}};

		memcpy(headers, p->data, p->l4);
		if (p->v6)
			header = put_fragment_v6(p, headers, id, offset, last);
		else
			vc_stbe16(headers + p->ip + 6, (uint16_t)(offset / 8 | (last ? 0 : IP_FLAG_MORE)));
		put_ip_length(p, headers, header - p->ip + length);
		iov[0].iov_len = header;
		give(out, iov, 2);
	}
	return true;
}

/* ---- */

static bool gather(const struct vc_net_frame *frame, uint8_t *data)
{
	uint32_t at = 0;

	for (unsigned i = 0; i < frame->iov_count; i++) {
		if (frame->iov[i].iov_len > frame->length - at)
			return false;
		memcpy(data + at, frame->iov[i].iov_base, frame->iov[i].iov_len);
		at += (uint32_t)frame->iov[i].iov_len;
	}
	return at == frame->length;
}

static void complete_checksum(const struct vc_net_hdr *hdr, uint8_t *data, uint32_t length)
{
	uint64_t sum = vc_csum_add(0, data + hdr->csum_start, length - hdr->csum_start);

	vc_st16(data + hdr->csum_start + hdr->csum_offset, never_zero(vc_csum_finish(sum)));
}

static bool split(const struct vc_net_hdr *hdr, struct packet *p, const struct output *out)
{
	static const struct rule {
		uint8_t type, protocol;
		bool v4, v6;
	} rules[] = {
	    {NET_GSO_TCPV4, IP_PROTO_TCP, true, false},
	    {NET_GSO_TCPV6, IP_PROTO_TCP, false, true},
	    {NET_GSO_UDP, IP_PROTO_UDP, true, true},
	    {NET_GSO_UDP_L4, IP_PROTO_UDP, true, true},
	};
	uint8_t type = hdr->gso_type & (uint8_t)~NET_GSO_ECN;
	const struct rule *rule = rules;

	while (rule < rules + VC_ARRAY_SIZE(rules) && rule->type != type)
		rule++;
	if (rule == rules + VC_ARRAY_SIZE(rules) || !parse(p) || p->protocol != rule->protocol ||
	    !(p->v6 ? rule->v6 : rule->v4) || hdr->csum_start != p->l4)
		return false;
	if (type == NET_GSO_UDP)
		return fragment(p, hdr->gso_size, out);
	if (type == NET_GSO_UDP_L4 ? (p->length - p->payload) / hdr->gso_size >= UDP_SEGMENTS_MAX
	                           : hdr->gso_size < TCP_SIZE_MIN)
		return false;
	return segment(p, hdr->gso_size, out);
}

bool vc_net_plain(const struct vc_net_frame *frame, uint32_t can_take, uint8_t *scratch,
                  void (*each)(void *ctx, const struct vc_net_frame *plain), void *ctx)
{
	const struct output out = {each, ctx};
	const struct vc_net_hdr *hdr = &frame->hdr;
	struct packet p = {.data = scratch, .length = frame->length};
	struct iovec whole = {scratch, frame->length};

	if (!vc_net_hdr_valid(frame))
		return false;
	if (vc_net_passes(hdr, can_take)) {
		each(ctx, frame);
		return true;
	}
	if (!(hdr->flags & NET_HDR_NEEDS_CSUM)) { /* nothing to be done but not to say DATA_VALID */
		give(&out, frame->iov, frame->iov_count);
		return true;
	}
	if (!gather(frame, scratch))
		return false;
	if (hdr->gso_type)
		return split(hdr, &p, &out);
	complete_checksum(hdr, scratch, frame->length);
	give(&out, &whole, 1);
	return true;
}
