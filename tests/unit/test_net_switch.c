/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The switch: what it learns and forgets, VLANs, storms, filters, capture, and ports that go while frames fly. */
#include <pthread.h>
#include <virtcore/switch.h>

#include "net/mac_table.h"
#include "net/packet.h"
#include "net_fixture.h"

static struct platform_env p;
static struct vc_switch_names names;
static vcore_switch *sw;
static struct net_user a, b, c;

static void setup(void)
{
	platform_init(&p, 0);
	vc_switch_names_init(&names);
	p.env.switches = &names;
	ck_assert_int_eq(vcore_switch_new(&sw), 0);
	ck_assert_int_eq(vc_switch_names_add(&names, "lan", sw), 0);
}

static void teardown(void)
{
	vc_switch_names_fini(&names);
	vcore_switch_unref(sw);
	platform_fini(&p);
}

static void open_three(const char *pa, const char *pb, const char *pc)
{
	net_user_open(&p, &a, pa, 0xa);
	net_user_open(&p, &b, pb, 0xb);
	net_user_open(&p, &c, pc, 0xc);
}

static void close_three(void)
{
	net_user_close(&a);
	net_user_close(&b);
	net_user_close(&c);
}

static void forget_three(void)
{
	net_user_forget(&a);
	net_user_forget(&b);
	net_user_forget(&c);
}

/* 60 bytes from one address to another, by their last bytes; 0xff: broadcast. vlan 0: no tag. */
static void send_frame(struct net_user *from, uint8_t target, uint8_t source, uint16_t vlan)
{
	uint8_t frame[64] = {0x52, 0, 0, 0, 0, target, 0x52, 0, 0, 0, 0, source, 0x88, 0xb5, 1, 2, 3, 4};

	if (target == 0xff)
		memset(frame, 0xff, 6);
	if (vlan) {
		memmove(frame + 16, frame + 12, 44);
		vc_stbe16(frame + 12, 0x8100);
		vc_stbe16(frame + 14, (uint16_t)(0xa000 | vlan));
	}
	net_user_send(from, frame, vlan ? 64 : 60);
}

static void got(unsigned na, unsigned nb, unsigned nc)
{
	ck_assert_uint_eq(a.count, na);
	ck_assert_uint_eq(b.count, nb);
	ck_assert_uint_eq(c.count, nc);
	forget_three();
}

/* The same, and how many frames each of the three gets. */
static void sends(struct net_user *from, uint8_t target, uint8_t source, uint16_t vlan, unsigned na, unsigned nb,
                  unsigned nc)
{
	send_frame(from, target, source, vlan);
	got(na, nb, nc);
}

#define PORT "net=switch,switch=lan"

START_TEST(test_learning)
{
	open_three(PORT, PORT, PORT);
	/* addresses that nobody was configured with */
	sends(&a, 0x22, 0x11, 0, 0, 1, 1);
	sends(&b, 0x11, 0x22, 0, 1, 0, 0);
	sends(&a, 0x22, 0x11, 0, 0, 1, 0);
	/* it has moved */
	sends(&c, 0x11, 0x22, 0, 1, 0, 0);
	sends(&a, 0x22, 0x11, 0, 0, 0, 1);
	/* to where it comes from: nowhere */
	sends(&a, 0x11, 0x33, 0, 0, 0, 0);
	/* known by configuration */
	sends(&a, 0xb, 0x11, 0, 0, 1, 0);
	sends(&a, 0xff, 0x11, 0, 0, 1, 1);
	/* a port that goes is forgotten */
	net_user_close(&c);
	net_user_open(&p, &c, PORT, 0xc);
	sends(&a, 0x22, 0x11, 0, 0, 1, 1);
	close_three();
}
END_TEST

START_TEST(test_malformed)
{
	uint8_t reserved[60] = {0x01, 0x80, 0xc2, 0, 0, 0x0e, 0x52, 0, 0, 0, 0, 1},
	        group[60] = {0x52, 0, 0, 0, 0, 0xb, 0x53};
	uint8_t tagged[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0, 0, 0, 0, 1, 0x81, 0x00, 0, 1};
	struct vcore_switch_port port = {.size = sizeof port};

	open_three(PORT, PORT, PORT);
	net_user_send(&a, reserved, 60);
	net_user_send(&a, group, 60);
	net_user_send(&a, tagged, 16);
	net_user_send(&a, tagged, 13);
	got(0, 0, 0);
	ck_assert_int_eq(vcore_switch_get_port(sw, 0, &port), 0);
	ck_assert_uint_eq(port.in_dropped, 4);
	close_three();
}
END_TEST

START_TEST(test_table)
{
	struct vc_mac_table *t = calloc(1, sizeof *t);

	vc_mac_learn(t, 77, 3, 1000);
	ck_assert_int_eq(vc_mac_find(t, 77, 1000), 3);
	ck_assert_int_eq(vc_mac_find(t, 77, 999), 3); /* another thread's clock */
	ck_assert_int_eq(vc_mac_find(t, 77, 1300), 3);
	ck_assert_int_eq(vc_mac_find(t, 77, 1301), -1);
	ck_assert_int_eq(vc_mac_find(t, 78, 1000), -1);
	vc_mac_learn(t, 77, 4, 1301);
	ck_assert_int_eq(vc_mac_find(t, 77, 1301), 4);
	ck_assert_int_eq(t->used[3], 0);
	ck_assert_int_eq(t->used[4], 1);
	/* one port makes addresses up */
	for (uint64_t i = 1; i < 100000; i++)
		vc_mac_learn(t, i * 0x10001, 5, 1302);
	ck_assert_int_le(t->used[5], MAC_TABLE_PORT_MAX);
	vc_mac_forget(t, 5);
	ck_assert_int_eq(t->used[5], 0);
	for (uint64_t i = 1; i < 100000; i++)
		ck_assert_int_ne(vc_mac_find(t, i * 0x10001, 1302), 5);
	free(t);
}
END_TEST

START_TEST(test_vlans)
{
	/* a: access 10; b: access 20; c: carries 10 and 20 tagged */
	open_three(PORT ",vlan=10", PORT ",vlan=20", PORT ",trunk=10:20-25");
	send_frame(&a, 0xff, 0x11, 0);
	ck_assert_uint_eq(c.count, 1);
	ck_assert_uint_eq(c.frames[0].length, 64);
	ck_assert_uint_eq(vc_ldbe16(c.frames[0].data + 12), 0x8100);
	ck_assert_uint_eq(vc_ldbe16(c.frames[0].data + 14), 10);
	ck_assert_uint_eq(vc_ldbe16(c.frames[0].data + 16), 0x88b5);
	ck_assert_uint_eq(c.frames[0].data[18], 1);
	got(0, 0, 1);
	/* the tag goes where the access port is */
	send_frame(&c, 0xff, 0x33, 20);
	ck_assert_uint_eq(b.frames[0].length, 60);
	ck_assert_uint_eq(vc_ldbe16(b.frames[0].data + 12), 0x88b5);
	got(0, 1, 0);
	send_frame(&c, 0xff, 0x33, 21);
	send_frame(&c, 0xff, 0x33, 30);
	sends(&c, 0xff, 0x33, 0, 0, 0, 0);
	/* an access port takes no tags but its own VLAN's */
	sends(&a, 0xff, 0x11, 20, 0, 0, 0);
	send_frame(&a, 0xff, 0x11, 10);
	ck_assert_uint_eq(vc_ldbe16(c.frames[0].data + 14), 0xa00a);
	got(0, 0, 1);
	/* the same address in two VLANs is two stations */
	sends(&b, 0xff, 0x11, 0, 0, 0, 1);
	sends(&c, 0x11, 0x33, 10, 1, 0, 0);
	sends(&c, 0x11, 0x33, 20, 0, 1, 0);
	close_three();

	/* unmanaged ports let tags through */
	open_three(PORT, PORT, PORT);
	send_frame(&a, 0xff, 0x11, 99);
	ck_assert_uint_eq(vc_ldbe16(b.frames[0].data + 14), 0xa063);
	got(0, 1, 1);
	close_three();
}
END_TEST

/* ---- a receiver without room ---- */

enum { SEVERAL = 8 };

/* Frames for b, the last one for c. Their 16th byte counts. Returns how many are done with. */
static unsigned send_several(struct net_user *from, unsigned first, unsigned end)
{
	static uint8_t data[SEVERAL][60];
	struct iovec iov[SEVERAL];
	struct vc_net_frame frames[SEVERAL];

	for (unsigned i = first; i < end; i++) {
		const uint8_t head[16] = {0x52, 0,    0,    0, 0,         i == SEVERAL - 1 ? 0xc : 0xb, 0x52, 0, 0, 0, 0xaa,
		                          0x88, 0x88, 0xb5, 0, (uint8_t)i};

		memcpy(data[i], head, sizeof head);
		iov[i] = (struct iovec){data[i], sizeof data[i]};
		frames[i] = (struct vc_net_frame){.iov = &iov[i], .iov_count = 1, .length = sizeof data[i]};
	}
	return vc_net_send(from->net, 0, frames + first, end - first);
}

static void assert_dropped(const struct net_user *u, uint64_t count)
{
	struct vc_net_counters counters;

	vc_net_get_counters(u->net, &counters);
	ck_assert_uint_eq(counters.rx_dropped, count);
}

START_TEST(test_hold)
{
	struct vc_net_counters counters;

	a.holds = true;
	open_three(PORT, PORT ",hold=1000", PORT);
	b.room = 3;
	ck_assert_uint_eq(send_several(&a, 0, SEVERAL), 3);
	ck_assert_uint_eq(b.count, 3);
	ck_assert_uint_eq(c.count, 0); /* nothing overtakes */
	ck_assert_uint_eq(send_several(&a, 3, SEVERAL), 0);
	ck_assert_uint_eq(a.sendables, 0);
	assert_dropped(&b, 0);
	vc_net_get_counters(a.net, &counters);
	ck_assert_uint_eq(counters.tx_frames, 3);
	/* what goes to many waits for nobody */
	send_frame(&c, 0xff, 0x33, 0);
	ck_assert_uint_eq(a.count, 1);
	assert_dropped(&b, 1);
	/* nor does one that cannot */
	ck_assert_uint_eq(send_several(&c, 0, 1), 1);
	assert_dropped(&b, 2);
	/* there is room for some, and for all */
	b.room = 2;
	vc_net_room(b.net, 0);
	platform_settle(&p);
	ck_assert_uint_eq(a.sendables, 1);
	ck_assert_uint_eq(send_several(&a, 3, SEVERAL), 2);
	b.room = 100;
	vc_net_room(b.net, 0);
	platform_settle(&p);
	ck_assert_uint_eq(a.sendables, 2);
	ck_assert_uint_eq(send_several(&a, 5, SEVERAL), 3);
	ck_assert_uint_eq(c.count, 1);
	ck_assert_uint_eq(b.count, 7);
	for (unsigned i = 0; i < 7; i++)
		ck_assert_uint_eq(b.frames[i].data[15], i);
	assert_dropped(&b, 2);
	/* a guest that is not there is not waited for, nor one that goes */
	b.room = 0;
	ck_assert_uint_eq(send_several(&a, 0, 1), 0);
	vc_net_stop(b.net);
	platform_settle(&p);
	ck_assert_uint_eq(a.sendables, 3);
	ck_assert_uint_eq(send_several(&a, 0, 1), 1);
	vc_net_start(b.net);
	ck_assert_uint_eq(send_several(&a, 0, 1), 0);
	net_user_close(&b);
	ck_assert_uint_eq(a.sendables, 4);
	net_user_close(&a);
	net_user_close(&c);
	a.holds = false;
}
END_TEST

/* For ever nobody waits. */
START_TEST(test_hold_ends)
{
	unsigned turns = 0;

	a.holds = true;
	open_three(PORT, PORT ",hold=1", PORT);
	b.room = 0;
	while (send_several(&a, 0, 4) == 0) {
		unsigned before = a.sendables;

		/* the timer tells */
		while (a.sendables == before)
			vc_loop_run(p.env.loop, 1000000000);
		ck_assert_uint_lt(turns++, 1000);
	}
	assert_dropped(&b, 4);
	/* and not again, as long as it takes nothing */
	ck_assert_uint_eq(send_several(&a, 0, 4), 4);
	assert_dropped(&b, 8);
	close_three();
	open_three(PORT, PORT ",hold=0", PORT);
	b.room = 0;
	ck_assert_uint_eq(send_several(&a, 0, SEVERAL), SEVERAL);
	ck_assert_uint_eq(c.count, 1);
	close_three();
	a.holds = false;
}
END_TEST

START_TEST(test_checksum_moves)
{
	uint8_t data[100] = {0x52, 0, 0, 0, 0, 0xc, 0x52, 0, 0, 0, 0, 0xa, 0x08, 0x00, 0x45};
	struct iovec iov[3] = {{data, 5}, {data + 5, 10}, {data + 15, 85}};
	struct vc_net_frame frame = {{.flags = 1, .csum_start = 34, .csum_offset = 16}, iov, 3, 100};

	open_three(PORT ",vlan=10", PORT ",vlan=20", PORT ",trunk=10");
	vc_net_set_offloads(c.net, VC_NET_CSUM);
	vc_net_send(a.net, 0, &frame, 1);
	ck_assert_uint_eq(b.count, 0);
	ck_assert_uint_eq(c.count, 1);
	ck_assert_uint_eq(c.frames[0].hdr.csum_start, 38);
	ck_assert_uint_eq(c.frames[0].length, 104);
	ck_assert_uint_eq(c.frames[0].data[18], 0x45);
	/* inside the tag that will be taken away */
	memmove(data + 16, data + 12, 3);
	vc_stbe16(data + 12, 0x8100);
	vc_stbe16(data + 14, 10);
	frame.hdr.csum_start = 16;
	vc_net_send(c.net, 0, &frame, 1);
	ck_assert_uint_eq(a.count, 0);
	close_three();
}
END_TEST

/* Two ports of different abilities: work is done on the way. */
START_TEST(test_offloads)
{
	static uint8_t data[9000] = {0x52, 0,    0,    0, 0, 0xb, 0x52, 0, 0, 0, 0,  0xa,
	                             0x08, 0x00, 0x45, 0, 0, 0,   0,    0, 0, 0, 64, 6};
	struct iovec iov = {data, sizeof data};
	struct vc_net_frame frame = {
	    {.flags = 1, .gso_type = 1, .gso_size = 1000, .csum_start = 34, .csum_offset = 16}, &iov, 1, sizeof data};

	data[34 + 12] = 0x50;
	open_three(PORT, PORT, PORT);
	vc_net_send(a.net, 0, &frame, 1);
	ck_assert_uint_eq(b.count, 9);
	ck_assert_uint_eq(b.frames[0].length, 1054);
	ck_assert_uint_eq(b.frames[8].length, sizeof data - 54 - 8000 + 54);
	forget_three();
	vc_net_set_offloads(b.net, VC_NET_CSUM | VC_NET_TSO4);
	vc_net_send(a.net, 0, &frame, 1);
	ck_assert_uint_eq(b.count, 1);
	ck_assert_uint_eq(b.frames[0].hdr.gso_size, 1000);
	close_three();
}
END_TEST

START_TEST(test_storm)
{
	struct vcore_switch_port port = {.size = sizeof port};

	open_three(PORT ",storm=10", PORT, PORT);
	for (unsigned i = 0; i < 1000; i++)
		send_frame(&a, 0xff, 0x11, 0);
	/* the second's worth, and what time has passed */
	ck_assert_uint_ge(b.count, 10);
	ck_assert_uint_lt(b.count, 500);
	ck_assert_int_eq(vcore_switch_get_port(sw, 0, &port), 0);
	ck_assert_uint_eq(port.in_dropped + b.count, 1000);
	forget_three();
	/* known addresses are no storm */
	for (unsigned i = 0; i < 1000; i++)
		send_frame(&a, 0xb, 0x11, 0);
	got(0, 1000, 0);
	close_three();
}
END_TEST

START_TEST(test_filter)
{
	static const uint8_t macs[2][6] = {{0x52, 0, 0, 0, 0, 0xb}, {0x01, 0, 0x5e, 0, 0, 5}};
	uint8_t group[60] = {0x01, 0, 0x5e, 0, 0, 5, 0x52, 0, 0, 0, 0, 0xa};

	open_three(PORT, PORT, PORT);
	vc_net_set_filter(b.net, false, false, macs, 2);
	send_frame(&a, 0x99, 0x11, 0); /* nobody's */
	got(0, 0, 1);
	sends(&a, 0xff, 0x11, 0, 0, 1, 1);
	net_user_send(&a, group, 60);
	got(0, 1, 1);
	group[5] = 6;
	net_user_send(&a, group, 60);
	got(0, 0, 1);
	vc_net_set_filter(b.net, false, true, macs, 2);
	net_user_send(&a, group, 60);
	got(0, 1, 1);
	close_three();
}
END_TEST

START_TEST(test_ports)
{
	struct vcore_switch_port port = {.size = sizeof port};
	vcore_switch *other;

	open_three(PORT ",vlan=7", PORT, PORT);
	send_frame(&b, 0xff, 0xb, 0);
	send_frame(&b, 0xff, 0x77, 0);
	ck_assert_int_eq(vcore_switch_get_port(sw, 0, &port), 0);
	ck_assert_uint_eq(port.vlan, 7);
	ck_assert_uint_eq(port.running, 1);
	ck_assert_uint_eq(port.mac[5], 0xa);
	ck_assert_uint_eq(port.out_frames, 0);
	ck_assert_int_eq(vcore_switch_get_port(sw, 1, &port), 0);
	ck_assert_uint_eq(port.in_frames, 2);
	ck_assert_uint_eq(port.in_bytes, 120);
	ck_assert_uint_eq(port.learned, 2);
	net_user_close(&b);
	ck_assert_int_eq(vcore_switch_get_port(sw, 1, &port), 0);
	ck_assert_uint_eq(port.index, 2);
	ck_assert_uint_eq(port.out_frames, 2);
	ck_assert_int_eq(vcore_switch_get_port(sw, 3, &port), -ENOENT);
	net_user_open(&p, &b, PORT, 0xb);
	ck_assert_int_eq(vcore_switch_get_port(sw, 1, &port), 0);
	ck_assert_uint_eq(port.index, 1);
	/* no room: dropped, and counted */
	forget_three();
	b.room = 0;
	send_frame(&c, 0xff, 0xc, 0);
	ck_assert_int_eq(vcore_switch_get_port(sw, 1, &port), 0);
	ck_assert_uint_eq(port.out_dropped, 1);
	/* stopped, or without a cable: nothing passes */
	b.room = 100;
	vc_net_stop(b.net);
	send_frame(&c, 0xff, 0xc, 0);
	vc_net_start(b.net);
	vc_net_set_link(b.net, false);
	ck_assert_uint_eq(b.links, 1);
	sends(&c, 0xff, 0xc, 0, 0, 0, 0);
	close_three();

	ck_assert_int_eq(vcore_switch_new(&other), 0);
	ck_assert_int_eq(vc_switch_names_add(&names, "lan", other), -EEXIST);
	ck_assert_int_eq(vc_switch_names_add(&names, "lan", sw), 0);
	vcore_switch_unref(other);
}
END_TEST

START_TEST(test_properties)
{
	static const struct {
		const char *text;
		int error;
		const char *names;
	} wrong[] = {
	    {"net=switch", -EINVAL, "switch=NAME"},
	    {"net=switch,switch=wan", -ENOENT, "wan"},
	    {PORT ",vlan=0", -EINVAL, "vlan"},
	    {PORT ",vlan=4095", -EINVAL, "vlan"},
	    {PORT ",trunk=", -EINVAL, "trunk"},
	    {PORT ",trunk=5-4", -EINVAL, "trunk"},
	    {PORT ",trunk=1:", -EINVAL, "trunk"},
	    {PORT ",trunk=1-4095", -EINVAL, "trunk"},
	    {PORT ",trunk=99999999999999999999", -EINVAL, "trunk"},
	    {PORT ",storm=x", -EINVAL, "storm"},
	    {PORT ",colour=red", -EINVAL, "colour"},
	    {"net=string", -EINVAL, "expected one of none, socket, switch, tap"},
	    {"net=none,pcap=/nowhere/at/all", -ENOENT, "pcap"},
	};

	for (size_t i = 0; i < VC_ARRAY_SIZE(wrong); i++) {
		ck_assert_int_eq(net_user_try(&p, &a, wrong[i].text, 1), wrong[i].error);
		ck_assert_msg(strstr(vcore_error_message(), wrong[i].names) != NULL, "%s", vcore_error_message());
	}
}
END_TEST

START_TEST(test_capture)
{
	char path[] = "/tmp/virtcore-pcap-XXXXXX", text[200];
	uint32_t head[6], record[4];
	uint8_t data[64];
	FILE *file;

	close(mkstemp(path));
	snprintf(text, sizeof text, "%s,pcap=%s", PORT, path);
	open_three(text, PORT, PORT);
	send_frame(&a, 0xff, 0xa, 0);
	send_frame(&b, 0xa, 0xb, 9);
	close_three();
	file = fopen(path, "r");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fread(head, 4, 6, file), 6);
	ck_assert_uint_eq(head[0], 0xa1b23c4d);
	ck_assert_uint_eq(head[5], 1);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_uint_eq(fread(record, 4, 4, file), 4);
		ck_assert_uint_eq(record[2], i ? 64 : 60);
		ck_assert_uint_eq(record[3], record[2]);
		ck_assert_uint_eq(fread(data, 1, record[2], file), record[2]);
		ck_assert_uint_eq(data[0], i ? 0x52 : 0xff);
	}
	ck_assert_int_eq(fgetc(file), EOF);
	fclose(file);
	unlink(path);
}
END_TEST

/* ---- threads ---- */

static _Atomic bool ending;
static _Atomic uint64_t received, sendable;

/* There is not always room for all. */
static unsigned count_only(void *ctx, unsigned queue, const struct vc_net_frame *frames, unsigned count)
{
	static _Atomic unsigned turn;
	/* twice in a row: it is tried again at once */
	unsigned n = atomic_fetch_add(&turn, 1) % 8 < 2 ? count / 2 : count;

	for (unsigned i = 0; i < n; i++)
		received += frames[i].length;
	return n;
}

static void count_sendable(void *ctx, unsigned queue)
{
	atomic_fetch_add(&sendable, 1);
}

static struct vc_net *open_counter(const char *text, uint8_t mac)
{
	struct vc_net_user user = {
	    .receive = count_only, .sendable = count_sendable, .queues = 2, .mac = {0x52, 0, 0, 0, 0, mac}};
	struct vc_props *props;
	struct vc_net *net;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	ck_assert_int_eq(vc_net_open(&p.env, props, &user, &net), 0);
	vc_props_free(props);
	vc_net_start(net);
	return net;
}

struct sender {
	struct vc_net *net;
	unsigned queue;
	uint8_t mac;
};

static void *send_on(void *arg)
{
	struct sender *s = arg;
	uint8_t data[8][60];
	struct vc_net_frame frames[8];
	struct iovec iov[8];

	for (unsigned turn = 0; !ending; turn++) {
		for (unsigned i = 0; i < 8; i++) {
			memset(data[i], 0, 60);
			data[i][0] = data[i][6] = 0x52;
			data[i][5] = (uint8_t)(turn + i) % 8;
			data[i][11] = s->mac;
			iov[i] = (struct iovec){data[i], 60};
			frames[i] = (struct vc_net_frame){.iov = &iov[i], .iov_count = 1, .length = 60};
		}
		vc_net_send(s->net, s->queue, frames, 8);
		vc_net_room(s->net, s->queue);
	}
	return NULL;
}

START_TEST(test_removal)
{
	static const uint8_t macs[1][6] = {{0x52, 0, 0, 0, 0, 3}};
	struct sender senders[3];
	struct vc_net *one, *two;
	pthread_t threads[3];

	net_loop_thread(&p);
	one = open_counter(PORT, 1);
	two = open_counter(PORT, 2);
	senders[0] = (struct sender){one, 0, 1};
	senders[1] = (struct sender){one, 1, 1};
	senders[2] = (struct sender){two, 0, 2};
	for (unsigned i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, send_on, &senders[i]);
	for (unsigned i = 0; i < 100; i++) {
		struct vc_net *three = open_counter(i & 1 ? PORT : PORT ",storm=1000", 3);
		uint64_t before = received;

		vc_net_set_filter(three, i & 2, false, macs, 1);
		while (received < before + 60)
			sched_yield();
		vc_net_room(three, 0);
		vc_net_stop(three);
		vc_net_start(three);
		vc_net_close(three);
	}
	while (!sendable)
		sched_yield();
	ending = true;
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	vc_net_close(one);
	vc_net_close(two);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("switch");

	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, test_learning);
	tcase_add_test(cases, test_malformed);
	tcase_add_test(cases, test_table);
	tcase_add_test(cases, test_vlans);
	tcase_add_test(cases, test_hold);
	tcase_add_test(cases, test_hold_ends);
	tcase_add_test(cases, test_checksum_moves);
	tcase_add_test(cases, test_offloads);
	tcase_add_test(cases, test_storm);
	tcase_add_test(cases, test_filter);
	tcase_add_test(cases, test_ports);
	tcase_add_test(cases, test_properties);
	tcase_add_test(cases, test_capture);
	tcase_add_test(cases, test_removal);
	return platform_run("net_switch", cases);
}
