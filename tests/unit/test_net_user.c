/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The network of libslirp: a lease by DHCP, ports that lead to the guest, frames that are none, guests without room. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "net/packet.h"
#include "net_fixture.h"

static struct platform_env p;
static struct net_user u;

static void setup(void)
{
	platform_init(&p, 0);
}

static void teardown(void)
{
	platform_fini(&p);
}

static void await(unsigned count)
{
	for (unsigned i = 0; u.count < count && i < 500; i++)
		vc_loop_run(p.env.loop, 10000000);
	ck_assert_uint_ge(u.count, count);
}

/* An ARP question for the last byte's address in 10.3.0.0/24. */
static void ask_arp(uint8_t last)
{
	uint8_t frame[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0, 0,    0, 0,  1, 0x08, 0x06,
	                     0,    1,    8,    0,    6,    4,    0,    1, 0x52, 0, 0,  0, 0,    1,
	                     10,   3,    0,    15,   0,    0,    0,    0, 0,    0, 10, 3, 0,    last};

	net_user_send(&u, frame, sizeof frame);
}

/* The answers to ARP among what has come. */
static unsigned arp_answers(void)
{
	unsigned answers = 0;

	for (unsigned i = 0; i < u.count; i++)
		answers += u.frames[i].length >= 42 && vc_ldbe16(u.frames[i].data + 12) == 0x0806 && u.frames[i].data[21] == 2;
	return answers;
}

static void await_arp(unsigned count)
{
	for (unsigned i = 0; arp_answers() < count && i < 500; i++)
		vc_loop_run(p.env.loop, 10000000);
	ck_assert_uint_eq(arp_answers(), count);
}

/* DHCPDISCOVER as RFC 2131 has it, without checksums of UDP, which IPv4 allows. */
static uint32_t discover(uint8_t *frame)
{
	static const uint8_t ip[20] = {0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255};
	static const uint8_t options[] = {0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255};
	uint32_t length = 14 + 20 + 8 + 236 + sizeof options;

	memset(frame, 0, length);
	memset(frame, 0xff, 6);
	frame[6] = 0x52;
	frame[11] = 1;
	vc_stbe16(frame + 12, 0x0800);
	memcpy(frame + 14, ip, 20);
	vc_stbe16(frame + 16, (uint16_t)(length - 14));
	vc_st16(frame + 24, vc_csum_finish(vc_csum_add(0, frame + 14, 20)));
	vc_stbe16(frame + 34, 68);
	vc_stbe16(frame + 36, 67);
	vc_stbe16(frame + 38, (uint16_t)(length - 34));
	frame[42] = 1; /* BOOTREQUEST over Ethernet */
	frame[43] = 1;
	frame[44] = 6;
	memcpy(frame + 70, frame + 6, 6);
	memcpy(frame + 278, options, sizeof options);
	return length;
}

START_TEST(test_lease)
{
	static const uint8_t address[4] = {10, 3, 0, 15};
	uint8_t frame[600];
	bool offered = false;

	net_user_open(&p, &u, "net=user,subnet=10.3.0.0/24,ipv6=off", 1);
	net_user_send(&u, frame, discover(frame));
	await(1);
	for (unsigned i = 0; i < u.count; i++) {
		const struct net_frame *f = &u.frames[i];

		if (f->length > 300 && f->data[23] == 17 && vc_ldbe16(f->data + 36) == 68) {
			ck_assert_mem_eq(f->data + 58, address, 4);
			ck_assert_uint_eq(f->hdr.flags, 0); /* this guest was not promised checksums */
			offered = true;
		}
	}
	ck_assert(offered);
	ask_arp(2);
	await_arp(1);
	ask_arp(3);
	await_arp(2);
	net_user_close(&u);
}
END_TEST

/* Whoever has no room misses nothing that fits the bounded buffer. */
START_TEST(test_no_room)
{
	net_user_open(&p, &u, "net=user,subnet=10.3.0.0/24,ipv6=off", 1);
	u.room = 1;
	for (unsigned i = 0; i < 50; i++)
		ask_arp(2);
	platform_settle(&p);
	ck_assert_uint_le(u.count, 1);
	u.room = NET_KEEP_MAX;
	vc_net_room(u.net, 0);
	await_arp(50);
	net_user_close(&u);
}
END_TEST

/* A connection to a forwarded port arrives at the guest as a SYN to its port. */
START_TEST(test_forward)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), r = -1;
	char text[120];
	bool seen = false;

	/* a port that is free, at least now */
	for (in_port_t port = 20000 + (in_port_t)(getpid() % 20000); r < 0 && port < 65000; port++) {
		snprintf(text, sizeof text, "net=user,subnet=10.3.0.0/24,ipv6=off,hostfwd=tcp:127.0.0.1:%u-:22", port);
		r = net_user_try(&p, &u, text, 1);
		in.sin_port = htons(port);
	}
	ck_assert_int_eq(r, 0);
	vc_net_start(u.net);
	/* the guest makes itself known */
	ask_arp(2);
	await_arp(1);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	ck_assert(connect(fd, (struct sockaddr *)&in, sizeof in) == 0 || errno == EINPROGRESS);
	for (unsigned i = 0; !seen && i < 500; i++) {
		vc_loop_run(p.env.loop, 10000000);
		for (unsigned n = 0; n < u.count; n++)
			seen |= u.frames[n].length >= 54 && u.frames[n].data[23] == 6 && vc_ldbe16(u.frames[n].data + 36) == 22;
	}
	ck_assert(seen);
	close(fd);
	net_user_close(&u);
}
END_TEST

/* What a guest makes up may be dropped, and do nothing else. */
START_TEST(test_hostile)
{
	static uint8_t frame[9100];
	uint32_t state = 7;

	net_user_open(&p, &u, "net=user,subnet=10.3.0.0/24", 1);
	for (unsigned i = 0; i < 3000; i++) {
		uint32_t length = discover(frame);

		for (unsigned n = 0; n < 1 + i % 5; n++) {
			state = state * 1664525u + 1013904223u;
			frame[12 + (state >> 8) % 280] = (uint8_t)(state >> 20);
		}
		net_user_send(&u, frame, i % 3 ? length : 14 + (state >> 9) % 300);
		if (i % 64 == 0) {
			platform_settle(&p);
			net_user_forget(&u);
			u.room = NET_KEEP_MAX;
		}
	}
	net_user_send(&u, frame, sizeof frame);
	net_user_forget(&u);
	ask_arp(2);
	await_arp(1);
	net_user_close(&u);
}
END_TEST

/* It goes while the loop's thread is at work for it. */
START_TEST(test_comings_and_goings)
{
	uint8_t frame[600];
	uint32_t length = discover(frame);

	net_loop_thread(&p);
	for (unsigned i = 0; i < 200; i++) {
		net_user_open(&p, &u, "net=user,subnet=10.3.0.0/24", 1);
		for (unsigned n = 0; n < i % 16; n++)
			net_user_send(&u, frame, length);
		net_user_close(&u);
	}
}
END_TEST

START_TEST(test_properties)
{
	static const struct {
		const char *text, *names;
	} wrong[] = {
	    {"net=user,subnet=10.3.0.1/24", "subnet"},
	    {"net=user,subnet=10.3.0.0", "subnet"},
	    {"net=user,subnet=10.3.0.0/28", "subnet"},
	    {"net=user,subnet=10.3.0.0/24x", "subnet"},
	    {"net=user,hostfwd=22", "hostfwd"},
	    {"net=user,hostfwd=tcp::0-:22", "hostfwd"},
	    {"net=user,hostfwd=sctp::5-:22", "hostfwd"},
	    {"net=user,hostfwd=tcp::5-:22222222", "hostfwd"},
	    {"net=user,hostfwd=tcp:1.2.3:5-:22", "hostfwd"},
	    {"net=user,restrict=perhaps", "restrict"},
	    {"net=user,hostfwd=tcp:192.0.2.1:99-:22", "hostfwd"},
	    {"net=user,ifname=x", "ifname"},
	};

	for (size_t i = 0; i < VC_ARRAY_SIZE(wrong); i++) {
		ck_assert_int_lt(net_user_try(&p, &u, wrong[i].text, 1), 0);
		ck_assert_msg(strstr(vcore_error_message(), wrong[i].names) != NULL, "%s", vcore_error_message());
	}
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("user");

	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, test_lease);
	tcase_add_test(cases, test_no_room);
	tcase_add_test(cases, test_forward);
	tcase_add_test(cases, test_hostile);
	tcase_add_test(cases, test_comings_and_goings);
	tcase_add_test(cases, test_properties);
	return platform_run("net_user", cases);
}
