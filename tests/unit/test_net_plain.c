/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Checksums and segmentation in software. The model is simple on purpose: byte by byte, one 16-bit sum, whole packets
 * taken apart again and put together.
 */
#include "net/net_priv.h"
#include "net_fixture.h"

static uint8_t scratch[VC_NET_FRAME_MAX];

struct collected {
	unsigned count;
	uint32_t lengths[2048];
	uint8_t *data[2048];
	struct vc_net_hdr last;
};

static void collect(void *ctx, const struct vc_net_frame *plain)
{
	struct collected *c = ctx;
	uint32_t at = 0;

	ck_assert_uint_lt(c->count, 2048);
	c->data[c->count] = malloc(plain->length);
	for (unsigned i = 0; i < plain->iov_count; i++) {
		memcpy(c->data[c->count] + at, plain->iov[i].iov_base, plain->iov[i].iov_len);
		at += (uint32_t)plain->iov[i].iov_len;
	}
	ck_assert_uint_eq(at, plain->length);
	c->lengths[c->count++] = at;
	c->last = plain->hdr;
}

static void forget(struct collected *c)
{
	while (c->count)
		free(c->data[--c->count]);
}

/* ---- the model ---- */

static unsigned be(const uint8_t *p, unsigned bytes)
{
	unsigned v = 0;

	while (bytes--)
		v = v << 8 | *p++;
	return v;
}

static unsigned model_sum(unsigned sum, const uint8_t *p, unsigned length)
{
	for (unsigned i = 0; i < length; i++) {
		sum += i & 1 ? p[i] : p[i] * 256u;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

/* Sum of pseudo header and all of layer 4; ffff when the checksum is right. */
static unsigned model_l4(const uint8_t *ip, const uint8_t *l4, unsigned length, unsigned protocol)
{
	unsigned sum = ip[0] >> 4 == 4 ? model_sum(0, ip + 12, 8) : model_sum(0, ip + 8, 32);
	uint8_t rest[4] = {0, (uint8_t)protocol, (uint8_t)(length >> 8), (uint8_t)length};

	return model_sum(model_sum(sum, rest, 4), l4, length);
}

/* ---- frames ---- */

struct made {
	uint8_t bytes[VC_NET_FRAME_MAX];
	uint32_t length, ip, l4, payload;
	struct vc_net_hdr hdr;
};
static struct made m;

struct shape {
	bool v6, udp, extension;
	unsigned tags, options;
	uint32_t data;
	uint16_t size;
	uint8_t gso;
};

static uint32_t random_state = 1;

static uint32_t rnd(void)
{
	random_state = random_state * 1664525u + 1013904223u;
	return random_state >> 8;
}

static void make(const struct shape *s)
{
	uint8_t *p = m.bytes;
	unsigned protocol = s->udp ? 17 : 6;

	for (uint32_t i = 0; i < 200 + s->data && i < sizeof m.bytes; i++) /* headers take less than 200 */
		p[i] = (uint8_t)rnd();
	m.ip = 14;
	for (unsigned t = 0; t < s->tags; t++) {
		vc_stbe16(p + m.ip - 2, t ? 0x8100 : 0x88a8);
		m.ip += 4;
	}
	if (s->tags == 1)
		vc_stbe16(p + 12, 0x8100);
	vc_stbe16(p + m.ip - 2, s->v6 ? 0x86dd : 0x0800);
	m.l4 = m.ip + (s->v6 ? 40 + (s->extension ? 8 : 0) : 20 + s->options);
	m.payload = m.l4 + (s->udp ? 8 : 32);
	m.length = m.payload + s->data;
	if (s->v6) {
		p[m.ip] = 0x60;
		p[m.ip + 6] = s->extension ? 60 : (uint8_t)protocol;
		p[m.ip + 40] = s->extension ? (uint8_t)protocol : p[m.ip + 40];
		p[m.ip + 41] = s->extension ? 0 : p[m.ip + 41];
	} else {
		p[m.ip] = (uint8_t)(0x45 + s->options / 4);
		vc_stbe16(p + m.ip + 6, 0x4000);
		p[m.ip + 9] = (uint8_t)protocol;
	}
	if (s->udp) {
		vc_stbe16(p + m.l4 + 4, (uint16_t)(m.length - m.l4));
	} else {
		p[m.l4 + 12] = 8 << 4;
		p[m.l4 + 13] = 0x99; /* FIN PSH ACK CWR */
	}
	m.hdr = (struct vc_net_hdr){1, s->gso, 0, s->size, (uint16_t)m.l4, s->udp ? 6 : 16};
}

static bool run(uint32_t can_take, struct collected *c)
{
	/* in odd pieces, each in memory of its own */
	struct iovec iov[3];
	uint32_t cuts[4] = {0, m.length / 3, m.length / 2 + 1, m.length};
	struct vc_net_frame frame = {m.hdr, iov, 3, m.length};
	bool ok;

	c->count = 0;
	for (unsigned i = 0; i < 3; i++) {
		iov[i].iov_len = cuts[i + 1] - cuts[i];
		iov[i].iov_base = malloc(iov[i].iov_len + 1);
		memcpy(iov[i].iov_base, m.bytes + cuts[i], iov[i].iov_len);
	}
	ok = vc_net_plain(&frame, can_take, scratch, collect, c);
	for (unsigned i = 0; i < 3; i++)
		free(iov[i].iov_base);
	return ok;
}

static void check_ip(const struct shape *s, const uint8_t *ip, uint32_t length)
{
	if (s->v6) {
		ck_assert_uint_eq(be(ip + 4, 2), length - 40);
		return;
	}
	ck_assert_uint_eq(be(ip + 2, 2), length);
	ck_assert_uint_eq(model_sum(0, ip, 20 + s->options), 0xffff);
}

/* Segments put together are the frame, and each is a right packet. */
static void check_segments(const struct shape *s, struct collected *c)
{
	uint32_t at = 0;

	ck_assert_uint_eq(c->count, s->data ? (s->data + s->size - 1) / s->size : 1);
	for (unsigned i = 0; i < c->count; i++) {
		const uint8_t *p = c->data[i];
		uint32_t data = c->lengths[i] - m.payload;
		bool last = i + 1 == c->count;

		ck_assert_uint_eq(data, last ? s->data - at : s->size);
		ck_assert_mem_eq(p, m.bytes, m.ip);
		check_ip(s, p + m.ip, c->lengths[i] - m.ip);
		if (!s->v6)
			ck_assert_uint_eq(be(p + m.ip + 4, 2), (be(m.bytes + m.ip + 4, 2) + i) & 0xffff);
		ck_assert_uint_eq(model_l4(p + m.ip, p + m.l4, c->lengths[i] - m.l4, s->udp ? 17 : 6), 0xffff);
		if (s->udp) {
			ck_assert_uint_eq(be(p + m.l4 + 4, 2), data + 8);
		} else {
			ck_assert_uint_eq(be(p + m.l4 + 4, 4), be(m.bytes + m.l4 + 4, 4) + at);
			ck_assert_uint_eq(p[m.l4 + 13], 0x10 | (last ? 0x09 : 0) | (i ? 0 : 0x80));
		}
		ck_assert_mem_eq(p + m.payload, m.bytes + m.payload + at, data);
		at += data;
	}
	ck_assert_uint_eq(at, s->data);
}

START_TEST(test_segments)
{
	struct collected c = {0};

	for (unsigned i = 0; i < 400; i++) {
		struct shape s = {.v6 = rnd() & 1,
		                  .udp = rnd() & 1,
		                  .extension = rnd() & 1,
		                  .tags = rnd() % 3,
		                  .options = rnd() % 3 * 4,
		                  .size = (uint16_t)(48 + rnd() % 1500)};

		s.data = rnd() % (i % 20 ? 6000u : 65000u);
		if (s.udp && s.data / s.size >= 128)
			s.data = s.size * 100u;
		s.gso = s.udp ? 5 : s.v6 ? 4 : 1;
		make(&s);
		ck_assert(run(0, &c));
		check_segments(&s, &c);
		forget(&c);
	}
}
END_TEST

START_TEST(test_fragments)
{
	struct collected c = {0};

	for (unsigned i = 0; i < 100; i++) {
		struct shape s = {.v6 = rnd() & 1, .udp = true, .extension = rnd() & 1, .tags = rnd() % 3, .gso = 3};
		uint32_t piece, at = 0;
		uint8_t *whole;

		s.size = (uint16_t)(600 + rnd() % 900);
		s.data = rnd() % 60000;
		piece = s.size & ~7u;
		make(&s);
		ck_assert(run(0, &c));
		whole = malloc(m.length - m.l4);
		for (unsigned n = 0; n < c.count; n++) {
			const uint8_t *p = c.data[n];
			uint32_t header = m.l4 + (s.v6 ? 8 : 0), length = c.lengths[n] - header;
			unsigned field = s.v6 ? be(p + m.l4 + 2, 2) : be(p + m.ip + 6, 2) << 3;
			bool more = s.v6 ? field & 1 : field & 0x2000 << 3;

			check_ip(&s, p + m.ip, c.lengths[n] - m.ip);
			ck_assert_uint_eq(field & 0xfff8, at);
			ck_assert_int_eq(more, n + 1 < c.count);
			ck_assert_uint_eq(length, more ? piece : m.length - m.l4 - at);
			if (s.v6) {
				ck_assert_uint_eq(p[s.extension ? m.ip + 40 : m.ip + 6], 44);
				ck_assert_uint_eq(p[m.l4], 17);
				ck_assert_uint_eq(be(p + m.l4 + 4, 4), be(c.data[0] + m.l4 + 4, 4));
			}
			memcpy(whole + at, p + header, length);
			at += length;
		}
		ck_assert_uint_eq(at, m.length - m.l4);
		ck_assert_uint_eq(model_l4(m.bytes + m.ip, whole, at, 17), 0xffff);
		ck_assert_mem_eq(whole + 8, m.bytes + m.payload, s.data);
		free(whole);
		forget(&c);
	}
}
END_TEST

/* A partial checksum is completed wherever it is asked for. */
START_TEST(test_checksum)
{
	struct shape s = {.udp = true, .data = 1001};
	struct collected c = {0};
	unsigned expected;

	make(&s);
	m.hdr.gso_type = 0;
	expected = 0xffff & ~model_sum(0, m.bytes + m.l4, m.length - m.l4);
	ck_assert(run(0, &c));
	ck_assert_uint_eq(c.count, 1);
	ck_assert_uint_eq(be(c.data[0] + m.l4 + 6, 2), expected);
	ck_assert_uint_eq(c.last.flags, 0);
	forget(&c);

	/* who takes it undone gets it undone */
	ck_assert(run(VC_NET_CSUM, &c));
	ck_assert_mem_eq(c.data[0], m.bytes, m.length);
	ck_assert_uint_eq(c.last.flags, 1);
	forget(&c);

	/* all zeroes: the checksum of UDP is ffff then, not 0 */
	memset(m.bytes + m.l4, 0xff, 2);
	memset(m.bytes + m.l4 + 2, 0, m.length - m.l4 - 2);
	ck_assert(run(0, &c));
	ck_assert_uint_eq(be(c.data[0] + m.l4 + 6, 2), 0xffff);
	forget(&c);
}
END_TEST

START_TEST(test_pass)
{
	struct shape s = {.data = 5000, .size = 1000, .gso = 1};
	struct collected c = {0};

	make(&s);
	ck_assert(run(VC_NET_CSUM | VC_NET_TSO4, &c));
	ck_assert_uint_eq(c.count, 1);
	ck_assert_uint_eq(c.last.gso_type, 1);
	forget(&c);
	ck_assert(run(VC_NET_CSUM | VC_NET_TSO6, &c));
	ck_assert_uint_eq(c.count, 5);
	forget(&c);
	/* ECN is one more thing to be able to do */
	m.hdr.gso_type |= 0x80;
	ck_assert(run(VC_NET_CSUM | VC_NET_TSO4, &c));
	ck_assert_uint_eq(c.count, 5);
	forget(&c);
	ck_assert(run(VC_NET_CSUM | VC_NET_TSO4 | VC_NET_ECN, &c));
	ck_assert_uint_eq(c.count, 1);
	forget(&c);
	/* DATA_VALID is not told to those who know nothing of checksums */
	m.hdr = (struct vc_net_hdr){.flags = 2};
	ck_assert(run(0, &c));
	ck_assert_uint_eq(c.last.flags, 0);
	forget(&c);
}
END_TEST

/* Headers that contradict the frame. */
START_TEST(test_contradictions)
{
	struct shape tcp = {.data = 5000, .size = 1000, .gso = 1},
	             udp = {.udp = true, .data = 5000, .size = 1000, .gso = 5};
	struct collected c = {0};

#define WRONG(shape, change)           \
	do {                               \
		make(&(shape));                \
		change;                        \
		ck_assert(!run(0, &c));        \
		ck_assert_uint_eq(c.count, 0); \
	} while (0)
	WRONG(tcp, m.hdr.csum_start = (uint16_t)m.length);
	WRONG(tcp, m.hdr.csum_start = 0xffff);
	WRONG(tcp, m.hdr.csum_offset = 0xffff);
	WRONG(tcp, m.hdr.csum_start += 2);
	WRONG(tcp, m.hdr.flags = 0);
	WRONG(tcp, m.hdr.gso_type = 2);
	WRONG(tcp, m.hdr.gso_type = 4);
	WRONG(tcp, m.hdr.gso_type = 5);
	WRONG(tcp, m.hdr.gso_type = 0x7f);
	WRONG(tcp, m.hdr.gso_size = 0);
	WRONG(tcp, m.hdr.gso_size = 47);
	WRONG(tcp, m.bytes[14] = 0x44);
	WRONG(tcp, m.bytes[14] = 0x65);
	WRONG(tcp, m.bytes[20] = 0x20);        /* a fragment already */
	WRONG(tcp, m.bytes[m.l4 + 12] = 0x40); /* TCP header of 16 bytes */
	WRONG(tcp, m.bytes[12] = 0x09);
	WRONG(tcp, m.length = 30);
	WRONG(tcp, m.length = m.l4 + 19);
	WRONG(tcp, m.length = 13);
	WRONG(udp, m.hdr.gso_size = 1);
	WRONG(udp, m.bytes[23] = 6);
#undef WRONG
}
END_TEST

/* What the lengths inside a frame say is never believed: any bytes behind any header. */
START_TEST(test_any_bytes)
{
	struct collected c = {0};

	for (unsigned i = 0; i < 20000; i++) {
		struct shape s = {.v6 = rnd() & 1, .udp = rnd() & 1, .extension = rnd() & 1, .tags = rnd() % 3};

		s.data = rnd() % 3000;
		s.size = (uint16_t)rnd();
		s.gso = (uint8_t)(rnd() % 6);
		make(&s);
		for (unsigned n = rnd() % 4; n; n--)
			m.bytes[rnd() % 100] = (uint8_t)rnd();
		m.length = rnd() % 4 ? m.length : 1 + rnd() % m.length;
		run(rnd() & 0x3f, &c);
		forget(&c);
	}
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("plain");

	tcase_add_test(cases, test_segments);
	tcase_add_test(cases, test_fragments);
	tcase_add_test(cases, test_checksum);
	tcase_add_test(cases, test_pass);
	tcase_add_test(cases, test_contradictions);
	tcase_add_test(cases, test_any_bytes);
	return platform_run("net_plain", cases);
}
