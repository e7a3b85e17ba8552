/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Packets of the remote serial protocol, as a peer that means ill or has a bad line sends them. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "debug/rsp.h"

static struct vc_rsp_in in;
static struct vc_rsp_out out;
static char frame[VC_RSP_FRAME_MAX];

static void fresh(void)
{
	memset(&in, 0, sizeof in);
	vc_rsp_clear(&out);
}

/* The event of the last byte; none before it. */
static enum vc_rsp_event feed(const char *bytes, size_t length)
{
	enum vc_rsp_event event = VC_RSP_NOTHING;

	for (size_t i = 0; i < length; i++) {
		ck_assert_int_eq(event, VC_RSP_NOTHING);
		event = vc_rsp_feed(&in, (uint8_t)bytes[i]);
	}
	return event;
}
#define FEED(text) feed(text, sizeof(text) - 1)

START_TEST(packets)
{
	fresh();
	ck_assert_int_eq(FEED("$g#67"), VC_RSP_PACKET);
	ck_assert_str_eq(in.payload, "g");
	ck_assert_int_eq(FEED("$#00"), VC_RSP_PACKET);
	ck_assert_uint_eq(in.length, 0);
	/* digits of either case */
	ck_assert_int_eq(FEED("$m1,2#FC"), VC_RSP_PACKET);
	ck_assert_int_eq(FEED("$m1,2#fc"), VC_RSP_PACKET);
	ck_assert_str_eq(in.payload, "m1,2");
}
END_TEST

START_TEST(between_packets)
{
	fresh();
	ck_assert_int_eq(FEED("+"), VC_RSP_ACK);
	ck_assert_int_eq(FEED("-"), VC_RSP_NAK);
	ck_assert_int_eq(FEED("\003"), VC_RSP_BREAK);
	ck_assert_int_eq(FEED("noise\r\n\377#00"), VC_RSP_NOTHING);
	ck_assert_int_eq(FEED("$?#3f"), VC_RSP_PACKET);
	/* inside, they are payload */
	ck_assert_int_eq(FEED("$+-\003#5b"), VC_RSP_PACKET);
	ck_assert_uint_eq(in.length, 3);
}
END_TEST

START_TEST(bad_packets)
{
	fresh();
	ck_assert_int_eq(FEED("$g#68"), VC_RSP_BAD);
	ck_assert_int_eq(FEED("$g#6x"), VC_RSP_BAD);
	ck_assert_int_eq(FEED("$g#x7"), VC_RSP_BAD);
	/* nothing follows the escape */
	ck_assert_int_eq(FEED("$}#7d"), VC_RSP_BAD);
	ck_assert_int_eq(FEED("$g#67"), VC_RSP_PACKET);
	/* the end was lost: what begins anew counts */
	ck_assert_int_eq(FEED("$mmm$g#67"), VC_RSP_PACKET);
	ck_assert_str_eq(in.payload, "g");
	ck_assert_int_eq(FEED("$mmm#6$g#67"), VC_RSP_PACKET);
	ck_assert_str_eq(in.payload, "g");
}
END_TEST

START_TEST(binary)
{
	fresh();
	/* '}' ']' is '}', '}' 3 is '#', '}' 4 is '$', '}' '\n' is '*' */
	ck_assert_int_eq(FEED("$X}]}\003}\004}\n\0z#34"), VC_RSP_PACKET);
	ck_assert_uint_eq(in.length, 7);
	ck_assert_mem_eq(in.payload, "X}#$*\0z", 7);
}
END_TEST

START_TEST(too_long)
{
	uint8_t sum = (uint8_t)(VC_RSP_MAX * 'a');
	char end[4];

	fresh();
	vc_rsp_feed(&in, '$');
	for (int i = 0; i < VC_RSP_MAX; i++)
		ck_assert_int_eq(vc_rsp_feed(&in, 'a'), VC_RSP_NOTHING);
	snprintf(end, sizeof end, "#%02x", sum);
	ck_assert_int_eq(feed(end, 3), VC_RSP_PACKET);
	ck_assert_uint_eq(in.length, VC_RSP_MAX);
	vc_rsp_feed(&in, '$');
	for (int i = 0; i < 10 * VC_RSP_MAX; i++)
		ck_assert_int_eq(vc_rsp_feed(&in, 'a'), VC_RSP_NOTHING);
	snprintf(end, sizeof end, "#%02x", (uint8_t)(10 * sum));
	ck_assert_int_eq(feed(end, 3), VC_RSP_BAD);
	ck_assert_int_eq(FEED("$g#67"), VC_RSP_PACKET);
}
END_TEST

START_TEST(replies)
{
	size_t n;

	fresh();
	vc_rsp_text(&out, "T%02x", 5);
	vc_rsp_hex(&out, "\x00\xff\x7e", 3);
	n = vc_rsp_frame(&out, frame);
	ck_assert_uint_eq(n, 13);
	ck_assert_mem_eq(frame, "$T0500ff7e#81", n);
	vc_rsp_error(&out, 14);
	n = vc_rsp_frame(&out, frame);
	ck_assert_mem_eq(frame, "$E0e#da", n);
	vc_rsp_clear(&out);
	ck_assert_uint_eq(vc_rsp_frame(&out, frame), 4);
	ck_assert_mem_eq(frame, "$#00", 4);
}
END_TEST

/* What is sent is what the other end gets, whatever the bytes. */
START_TEST(there_and_back)
{
	uint8_t bytes[256];
	size_t n;

	fresh();
	for (unsigned i = 0; i < 256; i++)
		bytes[i] = (uint8_t)i;
	vc_rsp_bytes(&out, bytes, sizeof bytes);
	n = vc_rsp_frame(&out, frame);
	ck_assert_int_eq(feed(frame, n), VC_RSP_PACKET);
	ck_assert_uint_eq(in.length, 256);
	ck_assert_mem_eq(in.payload, bytes, 256);
}
END_TEST

START_TEST(full_reply)
{
	static const char stars[VC_RSP_MAX] = {'*'};

	fresh();
	vc_rsp_bytes(&out, stars, VC_RSP_MAX - 3);
	ck_assert(!out.full);
	vc_rsp_hex(&out, "abc", 3);
	ck_assert(out.full);
	ck_assert_uint_eq(out.length, VC_RSP_MAX);
	vc_rsp_text(&out, "%s", "more");
	ck_assert_uint_eq(out.length, VC_RSP_MAX);
	memset(out.payload, '}', sizeof out.payload); /* the longest frame there is */
	ck_assert_uint_eq(vc_rsp_frame(&out, frame), VC_RSP_FRAME_MAX);
	vc_rsp_clear(&out);
	ck_assert(!out.full);
}
END_TEST

static struct vc_rsp_args args_of(const char *text)
{
	return (struct vc_rsp_args){text, text + strlen(text)};
}

START_TEST(numbers)
{
	struct vc_rsp_args a = args_of("ffffffffffffffff,1zz");
	int64_t thread;
	uint64_t n;

	ck_assert(vc_rsp_take_number(&a, &n));
	ck_assert_uint_eq(n, UINT64_MAX);
	ck_assert(!vc_rsp_take(&a, ";"));
	ck_assert(vc_rsp_take(&a, ","));
	ck_assert(vc_rsp_take_number(&a, &n));
	ck_assert_uint_eq(n, 1);
	ck_assert(!vc_rsp_take_number(&a, &n));
	ck_assert_str_eq(a.at, "zz");
	ck_assert(!vc_rsp_take(&a, "zzz"));

	a = args_of("10000000000000000");
	ck_assert(!vc_rsp_take_number(&a, &n));
	ck_assert_uint_eq(vc_rsp_left(&a), 17);
	a = args_of("00000000000000000000001");
	ck_assert(vc_rsp_take_number(&a, &n));
	ck_assert_uint_eq(n, 1);

	a = args_of("-1");
	ck_assert(vc_rsp_take_thread(&a, &thread));
	ck_assert_int_eq(thread, -1);
	a = args_of("1f");
	ck_assert(vc_rsp_take_thread(&a, &thread));
	ck_assert_int_eq(thread, 31);
	a = args_of("80000000");
	ck_assert(!vc_rsp_take_thread(&a, &thread));
	a = args_of("p1.1");
	ck_assert(!vc_rsp_take_thread(&a, &thread));
}
END_TEST

START_TEST(hex)
{
	struct vc_rsp_args a = args_of("00Ff7");
	uint8_t bytes[4];

	ck_assert(!vc_rsp_take_hex(&a, bytes, 3));
	ck_assert(vc_rsp_take_hex(&a, bytes, 2));
	ck_assert_mem_eq(bytes, "\x00\xff", 2);
	ck_assert_uint_eq(vc_rsp_left(&a), 1);
	a = args_of("0g");
	ck_assert(!vc_rsp_take_hex(&a, bytes, 1));
	ck_assert(vc_rsp_take_hex(&a, bytes, 0));
	ck_assert(!vc_rsp_take_hex(&a, bytes, SIZE_MAX));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rsp");
	TCase *tcase = tcase_create("rsp");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_test(tcase, packets);
	tcase_add_test(tcase, between_packets);
	tcase_add_test(tcase, bad_packets);
	tcase_add_test(tcase, binary);
	tcase_add_test(tcase, too_long);
	tcase_add_test(tcase, replies);
	tcase_add_test(tcase, there_and_back);
	tcase_add_test(tcase, full_reply);
	tcase_add_test(tcase, numbers);
	tcase_add_test(tcase, hex);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
