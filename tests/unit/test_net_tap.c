/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Taps in a network namespace of the test's own: the host's side is a packet socket on the interface. Skipped where
 * there is no permission for that. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "net_fixture.h"

static struct platform_env p;
static struct net_user u;

/* Into a namespace where taps may be made. */
static bool enter_namespace(void)
{
	int fd;

	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return false;
	fd = open("/dev/net/tun", O_RDWR);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &(struct ifreq){.ifr_name = "probe", .ifr_flags = IFF_TAP | IFF_NO_PI}) < 0)
		return false;
	close(fd);
	return true;
}

static void setup(void)
{
	platform_init(&p, 0);
}

static void teardown(void)
{
	platform_fini(&p);
}

static int packet_socket(const char *name)
{
	struct sockaddr_ll address = {
	    .sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = (int)if_nametoindex(name)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(0x88b5));

	ck_assert_int_ge(fd, 0);
	ck_assert_int_ne(address.sll_ifindex, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	return fd;
}

static void fill(uint8_t *frame, uint32_t length, uint8_t seed)
{
	static const uint8_t head[14] = {0x52, 0, 0, 0, 0, 2, 0x52, 0, 0, 0, 0, 1, 0x88, 0xb5};

	memcpy(frame, head, 14);
	for (uint32_t i = 14; i < length; i++)
		frame[i] = (uint8_t)(seed + i);
}

/* Those of ours: the kernel has things of its own to say on an interface that is up. */
static unsigned ours(unsigned *index)
{
	unsigned count = 0;

	for (unsigned i = 0; i < u.count; i++)
		if (u.frames[i].length >= 14 && u.frames[i].data[12] == 0x88 && u.frames[i].data[13] == 0xb5)
			index[count++] = i;
	return count;
}

static void await(unsigned wanted, unsigned *index)
{
	unsigned count = 0;

	for (unsigned i = 0; (count = ours(index)) < wanted && i < 500; i++)
		vc_loop_run(p.env.loop, 10000000);
	ck_assert_uint_eq(count, wanted);
}

static void check_both_ways(const char *name)
{
	unsigned index[NET_KEEP_MAX];
	uint8_t frame[1400], got[2000];
	int fd = packet_socket(name);
	ssize_t n = -1;

	fill(frame, sizeof frame, 3);
	net_user_send(&u, frame, sizeof frame);
	for (unsigned i = 0; n < 0 && i < 500; i++) {
		n = recv(fd, got, sizeof got, 0);
		if (n < 0)
			vc_loop_run(p.env.loop, 1000000);
	}
	ck_assert_int_eq(n, sizeof frame);
	ck_assert_mem_eq(got, frame, sizeof frame);
	for (unsigned i = 0; i < 50; i++) {
		fill(frame, 100 + i, (uint8_t)i);
		ck_assert_int_eq(send(fd, frame, 100 + i, 0), 100 + i);
	}
	await(50, index);
	for (unsigned i = 0; i < 50; i++) {
		fill(frame, 100 + i, (uint8_t)i);
		ck_assert_uint_eq(u.frames[index[i]].length, 100 + i);
		ck_assert_mem_eq(u.frames[index[i]].data, frame, 100 + i);
	}
	close(fd);
}

START_TEST(test_named)
{
	static const char *const texts[] = {"net=tap,ifname=t0", "net=tap,ifname=t0,vnet_hdr=off",
	                                    "net=tap,ifname=t0,mtu=1450"};
	struct ifreq request = {.ifr_name = "t0"};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	net_user_open(&p, &u, texts[_i], 1);
	check_both_ways("t0");
	ck_assert_int_eq(ioctl(fd, SIOCGIFMTU, &request), 0);
	ck_assert_int_eq(request.ifr_mtu, _i == 2 ? 1450 : 1500);
	net_user_close(&u);
	ck_assert_uint_eq(if_nametoindex("t0"), 0);
	close(fd);
}
END_TEST

/* An interface that the program made and attached to. */
START_TEST(test_given)
{
	struct ifreq request = {.ifr_name = "t1", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR), control = socket(AF_INET, SOCK_DGRAM, 0);
	char text[60];

	ck_assert_int_eq(ioctl(fd, TUNSETIFF, &request), 0);
	request.ifr_flags = IFF_UP;
	ck_assert_int_eq(ioctl(control, SIOCSIFFLAGS, &request), 0);
	snprintf(text, sizeof text, "net=tap,fd=%d", fd);
	net_user_open(&p, &u, text, 1);
	check_both_ways("t1");
	net_user_close(&u);
	/* ours was a duplicate */
	ck_assert_uint_ne(if_nametoindex("t1"), 0);
	close(fd);
	ck_assert_uint_eq(if_nametoindex("t1"), 0);
	close(control);
}
END_TEST

/* Nothing is lost for a guest that makes room late. */
START_TEST(test_no_room)
{
	unsigned index[NET_KEEP_MAX];
	uint8_t frame[60];
	int fd;

	net_user_open(&p, &u, "net=tap,ifname=t0", 1);
	platform_settle(&p);
	fd = packet_socket("t0");
	u.room = 0;
	for (unsigned i = 0; i < 200; i++) {
		fill(frame, 60, (uint8_t)i);
		ck_assert_int_eq(send(fd, frame, 60, 0), 60);
		if (i % 50 == 0)
			platform_settle(&p);
	}
	while (ours(index) < 200) {
		u.room = 10;
		vc_net_room(u.net, 0);
		for (unsigned i = 0; u.room == 10 && i < 500; i++)
			vc_loop_run(p.env.loop, 1000000);
		ck_assert_uint_lt(u.room, 10);
	}
	for (unsigned i = 0; i < 200; i++) {
		fill(frame, 60, (uint8_t)i);
		ck_assert_mem_eq(u.frames[index[i]].data, frame, 60);
	}
	close(fd);
	net_user_close(&u);
}
END_TEST

/* The host's administrator takes the interface away. */
START_TEST(test_gone)
{
	struct ifreq request = {.ifr_name = "t2", .ifr_flags = IFF_TAP | IFF_NO_PI};
	int fd = open("/dev/net/tun", O_RDWR);
	uint8_t frame[60];
	char text[60];

	ck_assert_int_eq(ioctl(fd, TUNSETIFF, &request), 0);
	snprintf(text, sizeof text, "net=tap,fd=%d", fd);
	net_user_open(&p, &u, text, 1);
	ck_assert_int_eq(system("ip link del t2"), 0);
	for (unsigned i = 0; vc_net_link(u.net) && i < 500; i++)
		vc_loop_run(p.env.loop, 10000000);
	ck_assert(!vc_net_link(u.net));
	platform_settle(&p); /* and is not asked for ever */
	net_user_send(&u, frame, 60);
	net_user_close(&u);
	close(fd);
}
END_TEST

START_TEST(test_properties)
{
	static const struct {
		const char *text, *names;
	} wrong[] = {
	    {"net=tap,ifname=a-name-that-is-too-long", "ifname"},
	    {"net=tap,ifname=t0,fd=3", "fd"},
	    {"net=tap,fd=0:x", "fd"},
	    {"net=tap,fd=999", "999"},
	    {"net=tap,fd=0", "not of a tap"},
	    {"net=tap,ifname=lo", "lo"},
	    {"net=tap,ifname=t0,mtu=1", "mtu"},
	    {"net=tap,ifname=t0,bridge=nowhere", "nowhere"},
	};

	for (size_t i = 0; i < VC_ARRAY_SIZE(wrong); i++) {
		ck_assert_int_lt(net_user_try(&p, &u, wrong[i].text, 1), 0);
		ck_assert_msg(strstr(vcore_error_message(), wrong[i].names) != NULL, "%s", vcore_error_message());
	}
	ck_assert_uint_eq(if_nametoindex("t0"), 0);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("tap");

	if (!enter_namespace()) {
		printf("SKIP: no permission for a tap in a network namespace\n");
		return 77;
	}
	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_loop_test(cases, test_named, 0, 3);
	tcase_add_test(cases, test_given);
	tcase_add_test(cases, test_no_room);
	tcase_add_test(cases, test_gone);
	tcase_add_test(cases, test_properties);
	return platform_run("net_tap", cases);
}
