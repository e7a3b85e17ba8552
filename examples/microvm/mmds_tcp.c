/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ARP (RFC 826) and TCP (RFC 9293) for the metadata service: a connection brings one request, and gets one answer and
 * its end. Nothing is called, nothing is reassembled: what comes out of order is to be sent again.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "api_mmds.h"

enum {
	ETHERNET = 14,
	TYPE_IPV4 = 0x0800,
	TYPE_ARP = 0x0806,
	ARP_LENGTH = 28,
	ARP_REQUEST = 1,
	ARP_REPLY = 2,
	IP_HEADER = 20,
	IP_TCP = 6,
	TCP_HEADER = 20,
	TCP_MSS_OPTION = 2,
	PORT = 80,
	MSS_MIN = 64,
	MSS_DEFAULT = 536,
	MSS_MAX = 1460,
	RESEND_MS = 300,
	IDLE_MS = 10000,

	FIN = 1,
	SYN = 2,
	RST = 4,
	PSH = 8,
	ACK = 16,
};

static const uint8_t own_mac[6] = {0x06, 0x01, 0x23, 0x45, 0x67, 0x01};

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, uint32_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static void put32(uint8_t *p, uint32_t value)
{
	put16(p, value >> 16);
	put16(p + 2, value);
}

/* The Internet checksum (RFC 1071); sum: of what comes before. */
static uint16_t checksum(uint32_t sum, const uint8_t *data, size_t length)
{
	for (size_t i = 0; i + 1 < length; i += 2)
		sum += get16(data + i);
	if (length % 2)
		sum += (uint32_t)data[length - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* ---- out ---- */

static void put_ethernet(uint8_t *frame, const uint8_t to[6], uint16_t type)
{
	memcpy(frame, to, 6);
	memcpy(frame + 6, own_mac, 6);
	put16(frame + 12, type);
}

static void send_segment(struct mmds_tcp *tcp, const struct mmds_connection *c, uint32_t seq, uint8_t flags,
                         const char *data, size_t length)
{
	uint8_t frame[ETHERNET + IP_HEADER + TCP_HEADER + 4 + MSS_MAX] = {0};
	uint8_t *ip = frame + ETHERNET, *t = ip + IP_HEADER;
	size_t header = TCP_HEADER + (flags & SYN ? 4 : 0), all = header + length;
	uint32_t pseudo;

	put_ethernet(frame, c->mac, TYPE_IPV4);
	ip[0] = 0x45;
	put16(ip + 2, (uint32_t)(IP_HEADER + all));
	ip[6] = 0x40; /* not to be fragmented */
	ip[8] = 64;
	ip[9] = IP_TCP;
	put32(ip + 12, tcp->address);
	put32(ip + 16, c->peer);
	put16(ip + 10, checksum(0, ip, IP_HEADER));
	put16(t, PORT);
	put16(t + 2, c->port);
	put32(t + 4, seq);
	put32(t + 8, flags & ACK ? c->received : 0);
	t[12] = (uint8_t)(header / 4 << 4);
	t[13] = flags;
	put16(t + 14, (uint32_t)(MMDS_REQUEST_MAX - c->in_length));
	if (flags & SYN) {
		t[20] = TCP_MSS_OPTION;
		t[21] = 4;
		put16(t + 22, MSS_MAX);
	}
	if (length)
		memcpy(t + header, data, length);
	pseudo =
	    (tcp->address >> 16) + (tcp->address & 0xffff) + (c->peer >> 16) + (c->peer & 0xffff) + IP_TCP + (uint32_t)all;
	put16(t + 16, checksum(pseudo, t, all));
	tcp->send(tcp->ctx, frame, ETHERNET + IP_HEADER + all);
}

/* What the peer has room for. */
static void transmit(struct mmds_tcp *tcp, struct mmds_connection *c, uint32_t window, uint64_t now_ms)
{
	uint32_t end = c->first + (uint32_t)c->out_length + 1;

	while (c->out && c->next != end && c->next - c->acknowledged < window) {
		uint32_t at = c->next - c->first, room = window - (c->next - c->acknowledged);
		uint32_t left = (uint32_t)c->out_length - at, length = left < c->mss ? left : c->mss;
		bool last;

		if (length > room)
			length = room;
		last = length == left && length < room;
		send_segment(tcp, c, c->next, ACK | PSH | (last ? FIN : 0), c->out + at, length);
		c->next += length + last;
		c->sent_ms = now_ms;
	}
}

/* ---- connections ---- */

static void drop(struct mmds_connection *c)
{
	free(c->out);
	c->out = NULL;
	c->used = false;
}

static void reset(struct mmds_tcp *tcp, struct mmds_connection *c)
{
	send_segment(tcp, c, c->next, RST | ACK, NULL, 0);
	drop(c);
}

static struct mmds_connection *find(struct mmds_tcp *tcp, uint32_t peer, uint16_t port)
{
	for (unsigned i = 0; i < MMDS_CONNECTIONS; i++)
		if (tcp->connections[i].used && tcp->connections[i].peer == peer && tcp->connections[i].port == port)
			return &tcp->connections[i];
	return NULL;
}

/* A free one, or that which was heard of the longest ago. */
static struct mmds_connection *allot(struct mmds_tcp *tcp)
{
	struct mmds_connection *oldest = &tcp->connections[0];

	for (unsigned i = 0; i < MMDS_CONNECTIONS && oldest->used; i++) {
		struct mmds_connection *c = &tcp->connections[i];

		if (!c->used || c->heard_ms < oldest->heard_ms)
			oldest = c;
	}
	drop(oldest);
	return oldest;
}

static uint16_t mss_of(const uint8_t *options, size_t length)
{
	size_t i = 0;

	while (i < length && options[i]) {
		size_t n = options[i] == 1 ? 1 : i + 1 < length ? options[i + 1] : 0;

		if (n < 1 || (n < 2 && options[i] != 1) || n > length - i)
			break;
		if (options[i] == TCP_MSS_OPTION && n == 4) {
			uint16_t mss = get16(options + i + 2);

			return mss < MSS_MIN ? MSS_MIN : mss > MSS_MAX ? MSS_MAX : mss;
		}
		i += n;
	}
	return MSS_DEFAULT;
}

/* One segment of a peer's. */
struct segment {
	const uint8_t *mac, *options, *data;
	uint32_t peer, seq, ack;
	uint16_t port, window;
	uint8_t flags;
	size_t options_length, length;
};

static void begin(struct mmds_tcp *tcp, const struct segment *s, uint64_t now_ms)
{
	struct mmds_connection *c = find(tcp, s->peer, s->port);
	uint32_t number;

	if (c)
		drop(c);
	else
		c = allot(tcp);
	if (getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number)
		number = (uint32_t)now_ms;
	*c = (struct mmds_connection){
	    .used = true,
	    .peer = s->peer,
	    .port = s->port,
	    .mss = mss_of(s->options, s->options_length),
	    .received = s->seq + 1,
	    .first = number + 1,
	    .next = number + 1,
	    .acknowledged = number,
	    .window = s->window,
	    .heard_ms = now_ms,
	    .sent_ms = now_ms,
	};
	memcpy(c->mac, s->mac, sizeof c->mac);
	send_segment(tcp, c, number, SYN | ACK, NULL, 0);
}

/* Nobody knows of such a connection. */
static void refuse(struct mmds_tcp *tcp, const struct segment *s)
{
	struct mmds_connection c = {
	    .peer = s->peer, .port = s->port, .received = s->seq + (uint32_t)s->length + (s->flags & FIN ? 1 : 0)};

	memcpy(c.mac, s->mac, sizeof c.mac);
	send_segment(tcp, &c, s->flags & ACK ? s->ack : 0, RST | ACK, NULL, 0);
}

/* False: the connection is over. */
static bool take_data(struct mmds_tcp *tcp, struct mmds_connection *c, const struct segment *s)
{
	long whole;

	if (!s->length || s->seq != c->received || c->out)
		return true;
	if (s->length > MMDS_REQUEST_MAX - c->in_length) {
		reset(tcp, c);
		return false;
	}
	memcpy(c->in + c->in_length, s->data, s->length);
	c->in_length += s->length;
	c->in[c->in_length] = '\0';
	c->received += (uint32_t)s->length;
	whole = mmds_request_length(c->in, c->in_length);
	if (whole > 0 && (c->out = malloc(MMDS_ANSWER_MAX)))
		c->out_length = mmds_answer(tcp->mmds, c->in, c->out);
	if (whole && !c->out_length) {
		reset(tcp, c);
		return false;
	}
	return true;
}

static void take_segment(struct mmds_tcp *tcp, const struct segment *s, uint64_t now_ms)
{
	struct mmds_connection *c = find(tcp, s->peer, s->port);

	if (s->flags & RST) {
		if (c && s->seq == c->received)
			drop(c);
		return;
	}
	if (s->flags & SYN) {
		begin(tcp, s, now_ms);
		return;
	}
	if (!c) {
		refuse(tcp, s);
		return;
	}
	c->heard_ms = now_ms;
	c->window = s->window;
	if (s->flags & ACK && s->ack - c->acknowledged <= c->next - c->acknowledged)
		c->acknowledged = s->ack;
	if (!take_data(tcp, c, s))
		return;
	if (s->flags & FIN && s->seq + (uint32_t)s->length == c->received && !c->peer_closed) {
		c->peer_closed = true;
		c->received++;
	}
	if (c->peer_closed && !c->out) {
		reset(tcp, c);
		return;
	}
	if (s->length || s->flags & FIN)
		send_segment(tcp, c, c->next, ACK, NULL, 0);
	transmit(tcp, c, c->window, now_ms);
	if (c->peer_closed && c->out && c->acknowledged == c->first + (uint32_t)c->out_length + 1)
		drop(c);
}

/* ---- in ---- */

static bool take_arp(struct mmds_tcp *tcp, const uint8_t *frame, size_t length)
{
	static const uint8_t begins[] = {0, 1, 8, 0, 6, 4, 0, ARP_REQUEST};
	const uint8_t *arp = frame + ETHERNET;
	uint8_t reply[ETHERNET + ARP_LENGTH];

	if (length < ETHERNET + ARP_LENGTH || memcmp(arp, begins, sizeof begins) != 0 || get32(arp + 24) != tcp->address)
		return false;
	put_ethernet(reply, arp + 8, TYPE_ARP);
	memcpy(reply + ETHERNET, begins, sizeof begins);
	reply[ETHERNET + 7] = ARP_REPLY;
	memcpy(reply + ETHERNET + 8, own_mac, 6);
	put32(reply + ETHERNET + 14, tcp->address);
	memcpy(reply + ETHERNET + 18, arp + 8, 10);
	tcp->send(tcp->ctx, reply, sizeof reply);
	return true;
}

/* For the service or not: the frame's length says nothing of the packet's. */
static bool take_ip(struct mmds_tcp *tcp, const uint8_t *frame, size_t length, uint64_t now_ms)
{
	const uint8_t *ip = frame + ETHERNET, *t;
	size_t header, total, tcp_header;
	struct segment s;

	if (length < ETHERNET + IP_HEADER || get32(ip + 16) != tcp->address)
		return false;
	header = (ip[0] & 15) * 4u;
	total = get16(ip + 2);
	/* no fragments */
	if (ip[0] >> 4 != 4 || header < IP_HEADER || total > length - ETHERNET || total < header + TCP_HEADER ||
	    ip[9] != IP_TCP || get16(ip + 6) & 0x3fff)
		return true;
	t = ip + header;
	tcp_header = (t[12] >> 4) * 4u;
	if (tcp_header < TCP_HEADER || tcp_header > total - header || get16(t + 2) != PORT)
		return true;
	s = (struct segment){
	    .mac = frame + 6,
	    .options = t + TCP_HEADER,
	    .data = t + tcp_header,
	    .peer = get32(ip + 12),
	    .seq = get32(t + 4),
	    .ack = get32(t + 8),
	    .port = get16(t),
	    .window = get16(t + 14),
	    .flags = t[13],
	    .options_length = tcp_header - TCP_HEADER,
	    .length = total - header - tcp_header,
	};
	take_segment(tcp, &s, now_ms);
	return true;
}

bool mmds_tcp_take(struct mmds_tcp *tcp, const uint8_t *frame, size_t length, uint64_t now_ms)
{
	uint16_t type = length < ETHERNET ? 0 : get16(frame + 12);

	return (type == TYPE_ARP && take_arp(tcp, frame, length)) ||
	       (type == TYPE_IPV4 && take_ip(tcp, frame, length, now_ms));
}

int mmds_tcp_tick(struct mmds_tcp *tcp, uint64_t now_ms)
{
	bool waits = false;

	for (unsigned i = 0; i < MMDS_CONNECTIONS; i++) {
		struct mmds_connection *c = &tcp->connections[i];

		if (c->used && now_ms - c->heard_ms >= IDLE_MS)
			drop(c);
		if (!c->used)
			continue;
		waits = true;
		if (now_ms - c->sent_ms < RESEND_MS)
			continue;
		c->sent_ms = now_ms;
		if (c->acknowledged == c->first - 1) {
			send_segment(tcp, c, c->acknowledged, SYN | ACK, NULL, 0);
		} else if (c->out) {
			/* all of it again; to one without room a byte, to hear of its room */
			c->next = c->acknowledged;
			transmit(tcp, c, c->window ? c->window : 1, now_ms);
		}
	}
	return waits ? RESEND_MS : -1;
}

void mmds_tcp_free(struct mmds_tcp *tcp)
{
	for (unsigned i = 0; i < MMDS_CONNECTIONS; i++)
		drop(&tcp->connections[i]);
}
