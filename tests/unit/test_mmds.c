/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The metadata service of microvm's API on the wire: ARP, a TCP that answers, HTTP with tokens. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "api_mmds.h"

enum { FIN = 1, SYN = 2, RST = 4, ACK = 16, SERVICE = 0xa9fea9fe, GUEST = 0xa9fe0102, GUEST_PORT = 4000 };

static struct mmds mmds;
static struct mmds_tcp tcp;
static uint8_t frames[64][1600];
static size_t lengths[64];
static unsigned count;

static void take(void *ctx, const void *frame, size_t length)
{
	ck_assert_uint_lt(count, 64);
	ck_assert_uint_le(length, 1514);
	memcpy(frames[count], frame, length);
	lengths[count++] = length;
}

static void setup(void)
{
	mmds = (struct mmds){.lock = PTHREAD_MUTEX_INITIALIZER,
	                     .store = json_tokener_parse("{\"id\":\"i-1\",\"o\":{\"a\":1,\"b\":{}},\"l\":[\"x\",7]}")};
	tcp = (struct mmds_tcp){.mmds = &mmds, .address = SERVICE, .send = take};
	count = 0;
}

static void teardown(void)
{
	mmds_tcp_free(&tcp);
	json_object_put(mmds.store);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(uint8_t *p, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* The sum of a header or segment that has its checksum in it. */
static uint32_t sum_of(uint32_t sum, const uint8_t *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
		sum += (uint32_t)data[i] << (i % 2 ? 0 : 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* A segment of the guest's. */
static void say(uint32_t seq, uint32_t ack, uint8_t flags, uint16_t window, const char *data, uint64_t now)
{
	uint8_t frame[1600] = {0}, *ip = frame + 14, *t = ip + 20;
	size_t options = flags & SYN ? 4 : 0, length = data ? strlen(data) : 0, total = 40 + options + length;

	frame[12] = 8;
	ip[0] = 0x45;
	ip[2] = (uint8_t)(total >> 8);
	ip[3] = (uint8_t)total;
	ip[9] = 6;
	put32(ip + 12, GUEST);
	put32(ip + 16, SERVICE);
	put32(t, (uint32_t)GUEST_PORT << 16 | 80);
	put32(t + 4, seq);
	put32(t + 8, ack);
	t[12] = (uint8_t)((20 + options) / 4 << 4);
	t[13] = flags;
	t[14] = (uint8_t)(window >> 8);
	t[15] = (uint8_t)window;
	if (options)
		memcpy(t + 20, "\2\4\0\144", 4); /* segments of 100 bytes */
	if (length)
		memcpy(t + 20 + options, data, length);
	ck_assert(mmds_tcp_take(&tcp, frame, 14 + total, now));
}

struct heard {
	uint32_t seq, ack;
	uint8_t flags;
	const char *data;
	size_t length;
};

/* The n-th segment that was sent, which is well made. */
static struct heard hear(unsigned n)
{
	const uint8_t *ip = frames[n] + 14, *t = ip + 20;
	size_t total = (size_t)ip[2] << 8 | ip[3];

	ck_assert_uint_lt(n, count);
	ck_assert_uint_eq(lengths[n], 14 + total);
	ck_assert_uint_eq(sum_of(0, ip, 20), 0xffff);
	ck_assert_uint_eq(sum_of(sum_of(6 + (uint32_t)(total - 20), ip + 12, 8), t, total - 20), 0xffff);
	ck_assert_uint_eq(get32(ip + 12), SERVICE);
	ck_assert_uint_eq(get32(ip + 16), GUEST);
	ck_assert_uint_eq(get32(t), 80u << 16 | GUEST_PORT);
	return (struct heard){get32(t + 4), get32(t + 8), t[13], (const char *)t + (t[12] >> 4) * 4,
	                      total - 20 - (size_t)(t[12] >> 4) * 4};
}

START_TEST(arp)
{
	uint8_t request[42] = {[12] = 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9};

	put32(request + 38, SERVICE);
	ck_assert(mmds_tcp_take(&tcp, request, sizeof request, 0));
	ck_assert_uint_eq(count, 1);
	ck_assert_uint_eq(frames[0][21], 2);
	ck_assert_uint_eq(get32(frames[0] + 28), SERVICE);
	ck_assert_mem_eq(frames[0] + 32, request + 22, 6);
	/* others' are not ours, and neither is half a one */
	ck_assert(!mmds_tcp_take(&tcp, request, sizeof request - 1, 0));
	put32(request + 38, SERVICE + 1);
	ck_assert(!mmds_tcp_take(&tcp, request, sizeof request, 0));
	ck_assert(!mmds_tcp_take(&tcp, request, 0, 0));
	ck_assert_uint_eq(count, 1);
}
END_TEST

/* A small window, small segments, a loss, and a window that is shut. */
START_TEST(conversation)
{
	static const char request[] = "GET /me HTTP/1.1\r\nHost: x\r\n\r\n";
	const uint32_t end = 101 + sizeof request - 1;
	char answer[1024] = "";
	struct heard h;
	uint32_t first;
	size_t length = 0;
	char value[301];

	memset(value, 'y', sizeof value - 1);
	value[sizeof value - 1] = '\0';
	json_object_object_add(mmds.store, "me", json_object_new_string(value));
	say(100, 0, SYN, 150, NULL, 0);
	h = hear(0);
	ck_assert_uint_eq(h.flags, SYN | ACK);
	ck_assert_uint_eq(h.ack, 101);
	first = h.seq + 1;
	ck_assert_int_gt(mmds_tcp_tick(&tcp, 400), 0); /* lost: once more */
	ck_assert_uint_eq(hear(1).flags, SYN | ACK);
	say(101, first, ACK, 150, NULL, 400);
	say(101, first, ACK, 150, "GET /me HT", 400);
	say(90, first, ACK, 150, "stale", 400);
	count = 0;
	say(111, first, ACK, 150, request + 10, 400);
	ck_assert_uint_eq(count, 3); /* its acknowledgement, and 100 and 50 bytes */
	ck_assert_uint_eq(hear(0).ack, end);
	ck_assert_uint_eq(hear(1).length, 100);
	ck_assert_uint_eq(hear(2).length, 50);
	count = 0;
	mmds_tcp_tick(&tcp, 800); /* both lost */
	ck_assert_uint_eq(count, 2);
	ck_assert_uint_eq(hear(0).seq, first);
	for (unsigned turn = 0; turn < 50; turn++) {
		h = hear(0);
		ck_assert_uint_eq(h.seq, first + length);
		memcpy(answer + length, h.data, h.length);
		length += h.length;
		count = 0;
		if (h.flags & FIN)
			break;
		say(end, first + (uint32_t)length, ACK, 0, NULL, 1000); /* no room */
		ck_assert_uint_eq(count, 0);
		mmds_tcp_tick(&tcp, 2000 + 400 * turn);
		h = hear(0);
		ck_assert_uint_eq(h.length, 1); /* is there any? */
		answer[length++] = *h.data;
		count = 0;
		say(end, first + (uint32_t)length, ACK, 100, NULL, 1000);
	}
	ck_assert(h.flags & FIN);
	ck_assert_ptr_nonnull(strstr(answer, "HTTP/1.1 200 OK\r\n"));
	ck_assert_str_eq(answer + length - 300, value);
	say(end, first + (uint32_t)length + 1, ACK | FIN, 100, NULL, 3000);
	ck_assert_uint_eq(hear(0).ack, end + 1);
	ck_assert_int_eq(mmds_tcp_tick(&tcp, 3000), -1);
}
END_TEST

START_TEST(refusals)
{
	char much[1400];

	say(100, 55, ACK, 100, "hello", 0); /* of no connection */
	ck_assert_uint_eq(hear(0).flags, RST | ACK);
	ck_assert_uint_eq(hear(0).seq, 55);
	ck_assert_uint_eq(hear(0).ack, 105);
	say(100, 55, RST, 100, NULL, 0);
	ck_assert_uint_eq(count, 1);
	/* a request without an end */
	memset(much, 'a', sizeof much - 1);
	much[sizeof much - 1] = '\0';
	say(100, 0, SYN, 1000, NULL, 0);
	for (uint32_t i = 0; i < 3; i++)
		say(101 + i * (sizeof much - 1), 0, ACK, 1000, much, 0);
	ck_assert_uint_eq(hear(count - 1).flags, RST | ACK);
	ck_assert_int_eq(mmds_tcp_tick(&tcp, 0), -1);
	/* one that ends before it */
	say(100, 0, SYN, 1000, NULL, 0);
	say(101, 0, ACK | FIN, 1000, "GET", 0);
	ck_assert_uint_eq(hear(count - 1).flags, RST | ACK);
	/* an idle one is forgotten */
	say(100, 0, SYN, 1000, NULL, 0);
	ck_assert_int_gt(mmds_tcp_tick(&tcp, 9999), 0);
	ck_assert_int_eq(mmds_tcp_tick(&tcp, 10000), -1);
}
END_TEST

static const char *ask(const char *request)
{
	static char out[MMDS_ANSWER_MAX + 1];
	char text[MMDS_REQUEST_MAX];

	snprintf(text, sizeof text, "%s", request);
	out[mmds_answer(&mmds, text, out)] = '\0';
	return out;
}

#define SAYS(request, part) ck_assert_ptr_nonnull(strstr(ask(request), part))

START_TEST(version_1)
{
	SAYS("GET / HTTP/1.1\r\n\r\n", "\r\n\r\nid\no/\nl");
	SAYS("GET //o/ HTTP/1.1\r\n\r\n", "\r\n\r\na\nb/");
	SAYS("GET /o HTTP/1.1\r\naccept:  application/json\r\n\r\n", "\r\n\r\n{\"a\":1,\"b\":{}}");
	SAYS("GET /l/0 HTTP/1.1\r\n\r\n", "\r\n\r\nx");
	SAYS("GET /l/1 HTTP/1.1\r\n\r\n", "501 Not Implemented");
	SAYS("GET /l/7 HTTP/1.1\r\n\r\n", "404 Not Found");
	SAYS("GET /id/x HTTP/1.1\r\n\r\n", "404 Not Found");
	SAYS("POST / HTTP/1.1\r\n\r\n", "405 Method Not Allowed");
	SAYS("GET\r\n\r\n", "400 Bad Request");
	SAYS("\r\n\r\n", "400 Bad Request");
	mmds.imds = true;
	SAYS("GET /o HTTP/1.1\r\nAccept: application/json\r\n\r\n", "\r\n\r\na\nb/");
}
END_TEST

START_TEST(version_2)
{
	char request[256], token[64];

	mmds.v2 = true;
	SAYS("GET /id HTTP/1.1\r\n\r\n", "401 Unauthorized");
	SAYS("GET /id HTTP/1.1\r\nX-metadata-token: 00\r\n\r\n", "MMDS token not valid.");
	SAYS("PUT /latest/api/token HTTP/1.1\r\n\r\n", "400 Bad Request");
	SAYS("PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 21601\r\n\r\n", "400 Bad Request");
	SAYS("PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 1x\r\n\r\n", "400 Bad Request");
	SAYS("PUT /id HTTP/1.1\r\nX-metadata-token-ttl-seconds: 1\r\n\r\n", "404 Not Found");
	SAYS("PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 1\r\nX-Forwarded-For: x\r\n\r\n",
	     "400 Bad Request");
	snprintf(
	    token, sizeof token, "%s",
	    strstr(ask("PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n"), "\r\n\r\n") +
	        4);
	snprintf(request, sizeof request, "GET /id HTTP/1.1\r\nX-metadata-token: %s\r\n\r\n", token);
	SAYS(request, "\r\n\r\ni-1");
	/* a longer life needs another hash */
	request[strlen(request) - 4 - 32 + 10] ^= 1;
	SAYS(request, "401 Unauthorized");
}
END_TEST

START_TEST(lengths_of_requests)
{
	ck_assert_int_eq(mmds_request_length("GET", 3), 0);
	ck_assert_int_eq(mmds_request_length("GET\r\n\r\n", 7), 7);
	ck_assert_int_eq(mmds_request_length("A\r\nContent-Length: 2\r\n\r\nx", 25), 0);
	ck_assert_int_eq(mmds_request_length("A\r\nContent-Length: 2\r\n\r\nxy", 26), 26);
	ck_assert_int_eq(mmds_request_length("A\r\nContent-Length: 5000\r\n\r\n", 27), -1);
	ck_assert_int_eq(mmds_request_length("A\0\r\n\r\n", 6), -1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mmds");
	TCase *cases = tcase_create("mmds");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, arp);
	tcase_add_test(cases, conversation);
	tcase_add_test(cases, refusals);
	tcase_add_test(cases, version_1);
	tcase_add_test(cases, version_2);
	tcase_add_test(cases, lengths_of_requests);
	suite_add_tcase(suite, cases);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
