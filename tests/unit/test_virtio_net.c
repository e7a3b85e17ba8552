/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtio-net: frames both ways in all forms of queues, merged buffers, filters, offloads, flows, and drivers that break
 * the rules. */
#include <sys/socket.h>
#include <virtcore/error.h>
#include <virtcore/switch.h>

#include "net/packet.h"
#include "net/switch_names.h"
#include "platform_env.h"
#include "virtio/net.h"
#include "virtio/types.h"
#include "virtio_driver.h"

enum { PAIRS = 4, BUFFERS = 32 };

struct nic {
	struct vdrv d;
	struct vdrv_queue rx[PAIRS], tx[PAIRS], control;
	unsigned pairs, header;
};

static struct platform_env p;
static struct vc_switch_names names;
static vcore_switch *sw;
static struct nic a, b;

static void setup(void)
{
	platform_init(&p, VC_MIB(32));
	vc_switch_names_init(&names);
	p.env.switches = &names;
	ck_assert_int_eq(vcore_switch_new(&sw), 0);
	ck_assert_int_eq(vc_switch_names_add(&names, "lan", sw), 0);
}

static void teardown(void)
{
	platform_fini(&p);
	vc_switch_names_fini(&names);
	vcore_switch_unref(sw);
}

static int create(const char *text)
{
	struct vc_props *props;
	struct vc_dev *dev;
	int r;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = vc_virtio_net_type.create(&p.env, props, &dev);
	if (!r) {
		r = vc_props_finish(props, "virtio-net");
		if (r < 0)
			vc_dev_remove(&p.buses, NULL, dev);
	}
	vc_props_free(props);
	return r;
}

/* Makes a NIC and brings up its driver with those features of the device's own. */
static void begin(struct nic *n, const char *text, uint64_t features, uint64_t heap)
{
	uint64_t rings = VC_VIRTIO_F_INDIRECT_DESC | VC_VIRTIO_F_EVENT_IDX | VC_VIRTIO_F_VERSION_1 |
	                 VC_VIRTIO_F_RING_PACKED | VC_VIRTIO_F_IN_ORDER;

	ck_assert_msg(create(text) == 0, "%s", vcore_error_message());
	vdrv_attach(&n->d, &p.env, heap);
	ck_assert(vdrv_negotiate(&n->d, features | rings));
	n->pairs = n->d.features & (VNET_F_MQ | VNET_F_RSS) ? (unsigned)vdrv_config(&n->d, 8, 2) : 1;
	n->header = n->d.features & VNET_F_HASH_REPORT ? 20 : 12;
	for (unsigned i = 0; i < n->pairs; i++) {
		vdrv_queue(&n->d, &n->rx[i], 2 * i, 256);
		vdrv_queue(&n->d, &n->tx[i], 2 * i + 1, 256);
	}
	if (n->d.features & VNET_F_CTRL_VQ)
		vdrv_queue(&n->d, &n->control, 2 * n->pairs, 64);
	vdrv_start(&n->d);
}

static void give(struct nic *n, unsigned queue, unsigned count, uint32_t length)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t gpa = vdrv_alloc(&n->d, length, 16);

		ck_assert(vdrv_add(&n->rx[queue], &(struct vdrv_buf){gpa, length, true}, 1, vdrv_ptr(&n->d, gpa)));
	}
	vdrv_kick(&n->rx[queue]);
}

/* A frame with its header, in two descriptors that do not end where the header does. */
static void send_hdr(struct nic *n, unsigned queue, const struct vc_net_hdr *hdr, const void *frame, uint32_t length)
{
	uint32_t all = n->header + length;
	uint64_t gpa = vdrv_alloc(&n->d, all, 16);
	uint8_t *at = vdrv_ptr(&n->d, gpa);
	struct vdrv_buf bufs[2] = {{gpa, 7, false}, {gpa + 7, all - 7, false}};

	memcpy(at, hdr, sizeof *hdr);
	memcpy(at + n->header, frame, length);
	ck_assert(vdrv_add(&n->tx[queue], bufs, 2, at));
	vdrv_kick(&n->tx[queue]);
	ck_assert_ptr_eq(vdrv_wait(&n->tx[queue], NULL), at);
}

static void send_frame(struct nic *n, const void *frame, uint32_t length)
{
	static const struct vc_net_hdr none;

	send_hdr(n, 0, &none, frame, length);
}

static const uint8_t *take(struct nic *n, unsigned queue, uint32_t *written)
{
	const uint8_t *got;

	vdrv_settle(&n->d);
	got = vdrv_get(&n->rx[queue], written);
	return got;
}

static void fill(uint8_t *frame, uint32_t length, uint8_t target, uint8_t source)
{
	const uint8_t head[14] = {0x52, 0, 0, 0, 0, target, 0x52, 0, 0, 0, 0, source, 0x88, 0xb5};

	memcpy(frame, head, 14);
	for (uint32_t i = 14; i < length; i++)
		frame[i] = (uint8_t)(i * 11);
	if (target == 0xff)
		memset(frame, 0xff, 6);
}

static uint8_t command_memory[8300];

/* Returns the answer; 0xee: none came. */
static uint8_t command(struct nic *n, uint8_t class, uint8_t cmd, const void *data, uint32_t length)
{
	uint64_t gpa = vdrv_alloc(&n->d, length + 3, 16);
	uint8_t *at = vdrv_ptr(&n->d, gpa);
	uint32_t written;

	at[0] = class;
	at[1] = cmd;
	memcpy(at + 2, data, length);
	at[length + 2] = 0xee;
	written = vdrv_do(&n->control, (struct vdrv_buf[]){{gpa, length + 2, false}, {gpa + length + 2, 1, true}}, 2);
	ck_assert_uint_le(written, 1);
	return at[length + 2];
}

#define A     "net=switch,switch=lan,mac=52:00:00:00:00:0a"
#define B     "net=switch,switch=lan,mac=52:00:00:00:00:0b"
#define HEAP2 0x1000000

START_TEST(test_frames)
{
	static const char *const forms[] = {"",
	                                    ",packed=on",
	                                    ",event_idx=off",
	                                    ",packed=on,event_idx=off,indirect=off",
	                                    ",worker=thread",
	                                    ",packed=on,worker=thread,queues=2"};
	char text[200];
	uint8_t frame[1514];

	snprintf(text, sizeof text, "%s%s", A, forms[_i]);
	begin(&a, text, VNET_F_MAC, VDRV_HEAP);
	snprintf(text, sizeof text, "%s%s", B, forms[_i]);
	begin(&b, text, VNET_F_MAC, HEAP2);
	ck_assert_uint_eq(vdrv_config(&a.d, 0, 4), 0x00000052);
	ck_assert_uint_eq(vdrv_config(&a.d, 4, 2), 0x0a00);
	give(&b, 0, 200, 2048);
	for (unsigned i = 0; i < 200; i++) {
		uint32_t length = 14 + i * 1500 / 199, written;
		const uint8_t *got;

		fill(frame, length, 0xb, 0xa);
		send_frame(&a, frame, length);
		got = vdrv_wait(&b.rx[0], &written);
		ck_assert_uint_eq(written, 12 + length);
		ck_assert_uint_eq(vc_ld64(got), 0);
		ck_assert_uint_eq(vc_ld16(got + 10), 1);
		ck_assert_mem_eq(got + 12, frame, length);
	}
	/* nobody has room: frames are lost, nothing else */
	send_frame(&a, frame, 1514);
	ck_assert_ptr_null(take(&b, 0, NULL));
	give(&b, 0, 1, 2048);
	ck_assert_ptr_null(take(&b, 0, NULL));
	send_frame(&a, frame, 1514);
	ck_assert_ptr_nonnull(vdrv_wait(&b.rx[0], NULL));
}
END_TEST

START_TEST(test_merge)
{
	static uint8_t frame[9000], got[9012];
	uint32_t at = 0, written;

	begin(&a, A, 0, VDRV_HEAP);
	begin(&b, B, VNET_F_MRG_RXBUF, HEAP2);
	fill(frame, sizeof frame, 0xb, 0xa);
	give(&b, 0, 4, 1500);
	send_frame(&a, frame, sizeof frame);
	/* four buffers are not enough, and stay the device's */
	ck_assert_ptr_null(take(&b, 0, NULL));
	give(&b, 0, 4, 1500);
	send_frame(&a, frame, sizeof frame);
	for (unsigned i = 0; i < 7; i++) {
		const uint8_t *piece = take(&b, 0, &written);

		ck_assert_ptr_nonnull(piece);
		ck_assert_uint_eq(written, i < 6 ? 1500 : 12);
		memcpy(got + at, piece, written);
		at += written;
	}
	ck_assert_uint_eq(at, sizeof got);
	ck_assert_uint_eq(vc_ld16(got + 10), 7);
	ck_assert_mem_eq(got + 12, frame, sizeof frame);
	/* the eighth takes a small one */
	send_frame(&a, frame, 60);
	ck_assert_ptr_nonnull(take(&b, 0, &written));
	ck_assert_uint_eq(written, 72);
}
END_TEST

/* Buffers that are too small for a frame: it is lost, they are kept. */
START_TEST(test_short_buffers)
{
	uint8_t frame[1514];
	uint32_t written;

	begin(&a, A, 0, VDRV_HEAP);
	begin(&b, B, 0, HEAP2);
	fill(frame, sizeof frame, 0xb, 0xa);
	give(&b, 0, 1, 500);
	send_frame(&a, frame, sizeof frame);
	ck_assert_ptr_null(take(&b, 0, NULL));
	send_frame(&a, frame, 488);
	ck_assert_ptr_nonnull(take(&b, 0, &written));
	ck_assert_uint_eq(written, 500);
	ck_assert(!(vdrv_status(&b.d) & VC_VIRTIO_S_NEEDS_RESET));
	/* not even room for the header */
	give(&b, 0, 1, 11);
	send_frame(&a, frame, 60);
	ck_assert_ptr_null(take(&b, 0, NULL));
	ck_assert(vdrv_status(&b.d) & VC_VIRTIO_S_NEEDS_RESET);
	/* which is its own matter, and over after a reset */
	ck_assert(!(vdrv_status(&a.d) & VC_VIRTIO_S_NEEDS_RESET));
	vdrv_reset(&b.d);
	ck_assert(vdrv_negotiate(&b.d, VC_VIRTIO_F_VERSION_1));
	vdrv_queue(&b.d, &b.rx[0], 0, 16);
	vdrv_start(&b.d);
	give(&b, 0, 1, 2000);
	send_frame(&a, frame, 60);
	ck_assert_ptr_nonnull(take(&b, 0, &written));
}
END_TEST

/* No frame behind the header, or half a header. */
START_TEST(test_short_frames)
{
	static const uint32_t lengths[] = {1, 11, 12};
	uint64_t gpa;

	begin(&a, A, 0, VDRV_HEAP);
	gpa = vdrv_alloc(&a.d, 100, 16);
	ck_assert(vdrv_add(&a.tx[0], &(struct vdrv_buf){gpa, lengths[_i], false}, 1, vdrv_ptr(&a.d, gpa)));
	vdrv_kick(&a.tx[0]);
	vdrv_settle(&a.d);
	ck_assert(vdrv_status(&a.d) & VC_VIRTIO_S_NEEDS_RESET);
}
END_TEST

/* What the header asks for beyond what was negotiated, or contradicts, is dropped. */
START_TEST(test_hostile_headers)
{
	static const struct vc_net_hdr wrong[] = {
	    {.flags = 1, .csum_start = 34, .csum_offset = 16},
	    {.gso_type = 1, .gso_size = 100},
	    {.flags = 1, .gso_type = 1, .gso_size = 100, .csum_start = 34, .csum_offset = 16},
	    {.flags = 1, .csum_start = 0xffff, .csum_offset = 0xffff},
	    {.flags = 1, .csum_start = 99, .csum_offset = 0},
	    {.flags = 1, .gso_type = 0x77, .gso_size = 1, .csum_start = 14},
	    {.flags = 1, .gso_type = 1, .csum_start = 14},
	};
	uint8_t frame[100];

	begin(&a, A, _i < 3 ? 0 : ~VNET_F_HASH_REPORT, VDRV_HEAP);
	begin(&b, B, 0, HEAP2);
	give(&b, 0, 8, 2048);
	fill(frame, sizeof frame, 0xb, 0xa);
	send_hdr(&a, 0, &wrong[_i], frame, sizeof frame);
	ck_assert_ptr_null(take(&b, 0, NULL));
	ck_assert(!(vdrv_status(&a.d) & VC_VIRTIO_S_NEEDS_RESET));
	send_frame(&a, frame, sizeof frame);
	ck_assert_ptr_nonnull(take(&b, 0, NULL));
}
END_TEST

#define CONTROL                                                                                                    \
	(VNET_F_CTRL_VQ | VNET_F_CTRL_RX | VNET_F_CTRL_RX_EXTRA | VNET_F_CTRL_VLAN | VNET_F_CTRL_MAC | VNET_F_STATUS | \
	 VNET_F_GUEST_ANNOUNCE | VNET_F_CTRL_OFFLOADS | VNET_F_GUEST_CSUM | VNET_F_GUEST_TSO4 | VNET_F_MAC)

static bool arrives(uint8_t target0, uint8_t target5, uint16_t vlan)
{
	uint8_t frame[64];
	bool arrived;

	fill(frame, 64, target5, 0xa);
	if (target5 != 0xff)
		frame[0] = target0;
	if (vlan) {
		vc_stbe16(frame + 12, 0x8100);
		vc_stbe16(frame + 14, vlan);
	}
	send_frame(&a, frame, 64);
	arrived = take(&b, 0, NULL) != NULL;
	return arrived;
}

START_TEST(test_filters)
{
	static const uint8_t off = 0, on = 1, vlan[2] = {5, 0}, mac[6] = {0x52, 0, 0, 0, 0, 0x77};
	static const uint8_t table[] = {1, 0,    0, 0, 0x52, 0, 0,    0,    0, 0x33, 2, 0, 0,
	                                0, 0x53, 0, 0, 0,    0, 0x44, 0x53, 0, 0,    0, 0, 0x45};

	begin(&a, A, 0, VDRV_HEAP);
	begin(&b, B, CONTROL, HEAP2);
	give(&b, 0, 200, 256);
	ck_assert(arrives(0x52, 0x99, 0) && arrives(0x53, 0x99, 0) && arrives(0x52, 0x99, 5));
	ck_assert_uint_eq(command(&b, 0, 0, &off, 1), 0);
	ck_assert(arrives(0x52, 0xb, 0) && arrives(0xff, 0xff, 0));
	ck_assert(!arrives(0x52, 0x99, 0) && !arrives(0x53, 0x44, 0) && !arrives(0x52, 0xb, 5));
	ck_assert_uint_eq(command(&b, 1, 0, table, sizeof table), 0);
	ck_assert(arrives(0x52, 0x33, 0) && arrives(0x53, 0x44, 0) && arrives(0x53, 0x45, 0));
	ck_assert(!arrives(0x53, 0x33, 0) && !arrives(0x52, 0x44, 0));
	ck_assert_uint_eq(command(&b, 2, 0, vlan, 2), 0);
	ck_assert(arrives(0x52, 0xb, 5) && !arrives(0x52, 0xb, 6));
	ck_assert_uint_eq(command(&b, 2, 1, vlan, 2), 0);
	ck_assert(!arrives(0x52, 0xb, 5));
	ck_assert_uint_eq(command(&b, 1, 1, mac, 6), 0);
	ck_assert(arrives(0x52, 0x77, 0) && !arrives(0x52, 0xb, 0));
	ck_assert_uint_eq(vdrv_config(&b.d, 4, 2), 0x7700);
	ck_assert_uint_eq(command(&b, 0, 1, &on, 1), 0); /* all multicast */
	ck_assert(arrives(0x53, 0x99, 0) && !arrives(0x52, 0x99, 0));
	ck_assert_uint_eq(command(&b, 0, 2, &on, 1), 0); /* all unicast */
	ck_assert(arrives(0x52, 0x99, 0));
	for (uint8_t mode = 3; mode < 6; mode++) /* no multicast, unicast, broadcast */
		ck_assert_uint_eq(command(&b, 0, mode, &on, 1), 0);
	ck_assert(!arrives(0x53, 0x44, 0) && !arrives(0x52, 0x77, 0) && !arrives(0xff, 0xff, 0));
}
END_TEST

START_TEST(test_hostile_commands)
{
	static const struct {
		uint8_t class, command;
		uint32_t length;
		uint8_t data[16];
	} wrong[] = {
	    {0, 0, 0, {0}},
	    {0, 6, 1, {1}},
	    {9, 0, 1, {1}},
	    {255, 255, 16, {0}},
	    {1, 0, 0, {0}},
	    {1, 0, 3, {0}},
	    {1, 0, 8, {1}},
	    {1, 0, 8, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
	    {1, 0, 14, {0xab, 0xaa, 0xaa, 0xaa}}, /* times 6 it would wrap */
	    {1, 0, 4, {0}},
	    {1, 1, 5, {0x52}},
	    {1, 1, 6, {0x53}}, /* a group */
	    {2, 0, 1, {0}},
	    {2, 0, 2, {0, 0x10}},
	    {2, 2, 2, {0, 0}},
	    {4, 0, 2, {0, 0}}, /* not negotiated */
	    {4, 1, 16, {0}},
	    {5, 0, 7, {0}},
	    {5, 0, 8, {0x04}},
	    {5, 0, 8, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
	};
	uint64_t gpa;
	uint32_t many = 1000;

	begin(&b, B, CONTROL, HEAP2);
	for (size_t i = 0; i < VC_ARRAY_SIZE(wrong); i++)
		ck_assert_msg(command(&b, wrong[i].class, wrong[i].command, wrong[i].data, wrong[i].length) == 1, "%zu", i);
	/* more addresses than there is room for stand for all */
	memset(command_memory, 0x52, sizeof command_memory);
	memcpy(command_memory, &many, 4);
	memset(command_memory + 4 + 6000, 0, 4);
	ck_assert_uint_eq(command(&b, 1, 0, command_memory, 6008), 0);
	ck_assert_uint_eq(command(&b, 1, 0, command_memory, 8300), 1);
	/* half a command; none; no place for the answer */
	gpa = vdrv_alloc(&b.d, 64, 16);
	ck_assert_uint_eq(vdrv_do(&b.control, (struct vdrv_buf[]){{gpa, 1, false}, {gpa + 8, 1, true}}, 2), 1);
	ck_assert_uint_eq(*(uint8_t *)vdrv_ptr(&b.d, gpa + 8), 1);
	ck_assert_uint_eq(vdrv_do(&b.control, &(struct vdrv_buf){gpa + 8, 4, true}, 1), 1);
	ck_assert_uint_eq(vdrv_do(&b.control, &(struct vdrv_buf){gpa, 4, false}, 1), 0);
	ck_assert(!(vdrv_status(&b.d) & VC_VIRTIO_S_NEEDS_RESET));
}
END_TEST

START_TEST(test_offloads)
{
	static uint8_t frame[5054];
	struct vc_net_hdr hdr = {.flags = 1, .gso_type = 1, .gso_size = 1000, .csum_start = 34, .csum_offset = 16};
	const uint64_t none = 0;
	const uint8_t *got;
	uint32_t written;

	begin(&a, A, VNET_F_CSUM | VNET_F_HOST_TSO4, VDRV_HEAP);
	begin(&b, B, CONTROL | VNET_F_MRG_RXBUF, HEAP2);
	give(&b, 0, 20, 8192);
	fill(frame, sizeof frame, 0xb, 0xa);
	vc_stbe16(frame + 12, 0x0800);
	frame[14] = 0x45;
	frame[20] = frame[21] = 0;
	frame[23] = 6;
	frame[46] = 0x50;
	send_hdr(&a, 0, &hdr, frame, sizeof frame);
	got = take(&b, 0, &written);
	ck_assert_uint_eq(written, 12 + sizeof frame);
	ck_assert_mem_eq(got, &hdr, sizeof hdr);
	ck_assert_mem_eq(got + 12, frame, sizeof frame);
	/* it no longer wants them: the work is done on the way */
	ck_assert_uint_eq(command(&b, 5, 0, &none, 8), 0);
	send_hdr(&a, 0, &hdr, frame, sizeof frame);
	for (unsigned i = 0; i < 5; i++) {
		got = take(&b, 0, &written);
		ck_assert_ptr_nonnull(got);
		ck_assert_uint_eq(written, 12 + 1054);
		ck_assert_uint_eq(vc_ld64(got), 0);
	}
	ck_assert_ptr_null(take(&b, 0, &written));
}
END_TEST

START_TEST(test_dependencies)
{
	static const uint64_t alone[] = {VNET_F_HOST_TSO4, VNET_F_GUEST_TSO6, VNET_F_MQ,
	                                 VNET_F_RSS,       VNET_F_CTRL_RX,    VNET_F_GUEST_ANNOUNCE};

	ck_assert_int_eq(create(A ",queues=4"), 0);
	vdrv_attach(&a.d, &p.env, VDRV_HEAP);
	ck_assert(!vdrv_negotiate(&a.d, VC_VIRTIO_F_VERSION_1 | alone[_i]));
}
END_TEST

/* The vendors' test vectors of RSS (Microsoft: "Verifying the RSS hash calculation"). */
START_TEST(test_toeplitz)
{
	static const uint8_t v4[] = {0x45, 0, 0,   0,   0,   0,   0,   0,  64,   6,    0,    0,
	                             66,   9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6};
	static const uint8_t v6[] = {0x60, 0,    0, 0, 0, 0, 6, 64, 0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x1f,
	                             0xff, 0,    0, 0, 0, 0, 0, 0,  7,    0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00,
	                             0x00, 0x03, 0, 0, 0, 0, 0, 0,  0,    1,    0x0a, 0xea, 0x06, 0xe6};
	struct vnet *n;
	struct vnet_hash hash;
	uint8_t frame[100] = {0};

	n = calloc(1, sizeof *n);
	pthread_rwlock_init(&n->lock, NULL);
	vnet_control_reset(n, 0);
	vc_stbe16(frame + 12, 0x0800);
	memcpy(frame + 14, v4, sizeof v4);
	hash = vnet_hash(&n->toeplitz, 0x3f, frame, 100);
	ck_assert_uint_eq(hash.value, 0x51ccc178);
	ck_assert_uint_eq(hash.report, 2);
	hash = vnet_hash(&n->toeplitz, 0x01, frame, 100);
	ck_assert_uint_eq(hash.value, 0x323e8fc2);
	ck_assert_uint_eq(hash.report, 1);
	frame[20] = 0x20; /* a fragment has no ports */
	hash = vnet_hash(&n->toeplitz, 0x3f, frame, 100);
	ck_assert_uint_eq(hash.value, 0x323e8fc2);
	vc_stbe16(frame + 12, 0x86dd);
	memcpy(frame + 14, v6, sizeof v6);
	hash = vnet_hash(&n->toeplitz, 0x3f, frame, 100);
	ck_assert_uint_eq(hash.value, 0x40207d3d);
	ck_assert_uint_eq(hash.report, 5);
	hash = vnet_hash(&n->toeplitz, 0x3f, frame, 56);
	ck_assert_uint_eq(hash.value, 0x2cc18cd5);
	ck_assert_uint_eq(hash.report, 4);
	for (uint32_t length = 0; length < 54; length++)
		ck_assert_uint_eq(vnet_hash(&n->toeplitz, 0x3f, frame, length).report, 0);
	pthread_rwlock_destroy(&n->lock);
	free(n);
}
END_TEST

static void flow_frame(uint8_t *frame, uint16_t port)
{
	fill(frame, 100, 0xb, 0xa);
	vc_stbe16(frame + 12, 0x0800);
	frame[14] = 0x45;
	frame[20] = frame[21] = 0;
	frame[23] = 17;
	vc_stbe16(frame + 34, port);
}

START_TEST(test_rss)
{
	struct {
		uint32_t types;
		uint16_t mask, unclassified, table[4], pairs;
		uint8_t key_length, key[40];
	} __attribute__((packed))
	config = {0x3f, 3, 1, {0, 1, 2, 3}, 4, 40, {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2}};
	unsigned counts[PAIRS] = {0};
	uint8_t frame[100];
	uint32_t written;

	begin(&a, A, 0, VDRV_HEAP);
	for (unsigned i = 8; i < 40; i++)
		config.key[i] = (uint8_t)(i * 37);
	begin(&b, B ",queues=4", VNET_F_CTRL_VQ | VNET_F_RSS | VNET_F_HASH_REPORT | VNET_F_MQ, HEAP2);
	ck_assert_uint_eq(b.pairs, 4);
	for (unsigned i = 0; i < PAIRS; i++)
		give(&b, i, 100, 256);
	ck_assert_uint_eq(command(&b, 4, 1, &config, sizeof config), 0);
	for (uint16_t port = 0; port < 64; port++) {
		unsigned found = PAIRS;
		const uint8_t *got = NULL;

		flow_frame(frame, port);
		send_frame(&a, frame, 100);
		for (unsigned i = 0; i < PAIRS; i++) {
			const uint8_t *here = take(&b, i, &written);

			if (here) {
				ck_assert_ptr_null(got);
				got = here;
				found = i;
			}
		}
		ck_assert_ptr_nonnull(got);
		ck_assert_uint_eq(written, 120);
		ck_assert_uint_eq(vc_ld16(got + 16), 3);
		ck_assert_uint_eq(vc_ld32(got + 12) & 3, found);
		ck_assert_mem_eq(got + 20, frame, 100);
		counts[found]++;
	}
	for (unsigned i = 0; i < PAIRS; i++)
		ck_assert_uint_gt(counts[i], 4);
	fill(frame, 100, 0xb, 0xa);
	send_frame(&a, frame, 100);
	ck_assert_ptr_nonnull(take(&b, 1, &written));

	/* wrong ones change nothing */
#define WRONG(field, value)                                        \
	do {                                                           \
		__typeof__(config) bad = config;                           \
		bad.field = value;                                         \
		ck_assert_uint_eq(command(&b, 4, 1, &bad, sizeof bad), 1); \
	} while (0)
	WRONG(types, 0x40);
	WRONG(types, 0xffffffff);
	WRONG(mask, 2);
	WRONG(mask, 255);
	WRONG(mask, 0xffff);
	WRONG(unclassified, 4);
	WRONG(table[2], 4);
	WRONG(pairs, 0);
	WRONG(pairs, 5);
	WRONG(key_length, 41);
#undef WRONG
	ck_assert_uint_eq(command(&b, 4, 1, &config, sizeof config - 1), 1);
	ck_assert_uint_eq(command(&b, 4, 0, "\5\0", 2), 1);
	ck_assert_uint_eq(command(&b, 4, 0, "\2\0", 2), 0);
	send_frame(&a, frame, 100);
	ck_assert_ptr_nonnull(take(&b, 0, &written));
}
END_TEST

/* A backing that waits: what came while there were no buffers arrives once there are. */
START_TEST(test_back_pressure)
{
	static uint8_t stream[300][104];
	char text[80];
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	snprintf(text, sizeof text, "net=socket,fd=%d%s", pair[0], _i ? ",event_idx=off" : "");
	begin(&a, text, 0, VDRV_HEAP);
	for (unsigned i = 0; i < 300; i++) {
		vc_stbe32(stream[i], 100);
		fill(stream[i] + 4, 100, (uint8_t)i, 1);
	}
	ck_assert_int_eq(write(pair[1], stream, sizeof stream), sizeof stream);
	vdrv_settle(&a.d);
	for (unsigned i = 0; i < 300;) {
		const uint8_t *got;

		give(&a, 0, 1 + i % 7, 256);
		for (; (got = take(&a, 0, NULL)); i++)
			ck_assert_mem_eq(got + 12, stream[i] + 4, 100);
	}
	close(pair[0]);
	close(pair[1]);
}
END_TEST

/* Two guests on a switch, of which one is slow: what the other sends waits in its queue, and nothing is lost. */
START_TEST(test_slow_receiver)
{
	static const char *const forms[] = {"", ",packed=on", ",event_idx=off", ",indirect=off"};
	uint8_t frame[100];
	unsigned taken = 0;
	char text[128];

	snprintf(text, sizeof text, A "%s", forms[_i]);
	begin(&a, text, 0, VDRV_HEAP);
	snprintf(text, sizeof text, B ",hold=1000%s", forms[_i]);
	begin(&b, text, 0, HEAP2);
	give(&b, 0, 3, 256);
	for (unsigned i = 0; i < 40; i++) {
		uint64_t gpa = vdrv_alloc(&a.d, 12 + sizeof frame, 16);
		uint8_t *at = vdrv_ptr(&a.d, gpa);

		fill(frame, sizeof frame, 0xb, 0xa);
		frame[14] = (uint8_t)i;
		memset(at, 0, 12);
		memcpy(at + 12, frame, sizeof frame);
		ck_assert(vdrv_add(&a.tx[0], &(struct vdrv_buf){gpa, 12 + sizeof frame, false}, 1, at));
	}
	vdrv_kick(&a.tx[0]);
	for (unsigned turn = 0; taken < 40; turn++) {
		const uint8_t *got;
		unsigned given = 1 + turn % 5;

		for (; (got = take(&b, 0, NULL)); taken++)
			ck_assert_uint_eq(got[12 + 14], taken);
		give(&b, 0, given, 256);
		vdrv_settle(&a.d);
		ck_assert_uint_lt(turn, 100);
	}
	for (unsigned i = 0; i < 40; i++)
		ck_assert_ptr_nonnull(vdrv_get(&a.tx[0], NULL));
}
END_TEST

static struct vc_dev *newest(void)
{
	return b.d.dev;
}

START_TEST(test_state)
{
	static const uint8_t off = 0, mac[6] = {0x52, 0, 0, 0, 0, 0x77};
	static uint8_t state[65536];
	int64_t length;

	begin(&a, A, 0, VDRV_HEAP);
	begin(&b, B, CONTROL, HEAP2);
	give(&b, 0, 100, 256);
	ck_assert_uint_eq(command(&b, 0, 0, &off, 1), 0);
	ck_assert_uint_eq(command(&b, 1, 1, mac, 6), 0);
	length = newest()->ops.save(newest()->ctx, state, sizeof state);
	ck_assert_int_gt(length, 0);
	vdrv_reset(&b.d);
	ck_assert_uint_eq(newest()->ops.load(newest()->ctx, state, (size_t)length), 0);
	vdrv_settle(&b.d);
	ck_assert_uint_eq(vdrv_config(&b.d, 4, 2), 0x7700);
	ck_assert_uint_eq(vdrv_config(&b.d, 6, 2), 3); /* link, and announce */
	ck_assert(vdrv_take_isr(&b.d) & 2);
	ck_assert_uint_eq(command(&b, 3, 0, "", 0), 0);
	ck_assert_uint_eq(vdrv_config(&b.d, 6, 2), 1);
	ck_assert(arrives(0x52, 0x77, 0) && !arrives(0x52, 0xb, 0));
	/* any byte of it may be wrong */
	for (int64_t i = 0; i < length; i += 7) {
		state[i] ^= 0xff;
		newest()->ops.load(newest()->ctx, state, (size_t)length);
		state[i] ^= 0xff;
	}
	for (int64_t cut = 0; cut < length; cut += 13)
		newest()->ops.load(newest()->ctx, state, (size_t)cut);
	ck_assert_uint_eq(newest()->ops.load(newest()->ctx, state, (size_t)length), 0);
	ck_assert_uint_eq(vdrv_config(&b.d, 4, 2), 0x7700);
}
END_TEST

START_TEST(test_new_mac)
{
	static const uint8_t fresh[6] = {0x52, 0, 0, 0, 0, 0x55}, mine[6] = {0x52, 0, 0, 0, 0, 0x66},
	                     many[6] = {0x53, 0, 0, 0, 0, 1}, off = 0;
	uint64_t before;

	begin(&a, A, 0, VDRV_HEAP);
	begin(&b, B, CONTROL, HEAP2);
	give(&b, 0, 100, 256);
	ck_assert_uint_eq(command(&b, 0, 0, &off, 1), 0);
	vdrv_take_isr(&b.d);
	ck_assert_int_eq(vnet_set_mac(newest()->frontend, many), -EINVAL);
	ck_assert_int_eq(vnet_set_mac(newest()->frontend, fresh), 0);
	/* the driver is told, and goes on with what it has */
	ck_assert(vdrv_take_isr(&b.d) & 2);
	ck_assert_uint_eq(vdrv_config(&b.d, 4, 2), 0x5500);
	ck_assert(arrives(0x52, 0xb, 0) && !arrives(0x52, 0x55, 0));
	/* until it sets one */
	ck_assert_uint_eq(command(&b, 1, 1, mine, 6), 0);
	ck_assert_uint_eq(vdrv_config(&b.d, 4, 2), 0x6600);
	ck_assert(arrives(0x52, 0x66, 0) && !arrives(0x52, 0xb, 0));
	/* or is bound again */
	vdrv_reset(&b.d);
	ck_assert(vdrv_negotiate(&b.d, VC_VIRTIO_F_VERSION_1));
	ck_assert_uint_eq(vdrv_config(&b.d, 4, 2), 0x5500);
	ck_assert_int_eq(vnet_set_mac(newest()->frontend, NULL), 0);
	before = vdrv_config(&b.d, 0, 4);
	ck_assert_uint_eq(before & 3, 2);
	ck_assert_int_eq(vnet_set_mac(newest()->frontend, NULL), 0);
	ck_assert_uint_ne(vdrv_config(&b.d, 0, 4), before);
}
END_TEST

START_TEST(test_properties)
{
	static const struct {
		const char *text, *names;
	} wrong[] = {
	    {"mac=52:54:00:12:34", "mac"},
	    {"mac=53:54:00:12:34:56", "mac"},
	    {"mac=52:54:00:12:34:56x", "mac"},
	    {"mac=52-54-00-12-34-56", "mac"},
	    {"queues=0", "queues"},
	    {"queues=33", "queues"},
	    {"mtu=67", "mtu"},
	    {"queue_size=100", "queue_size"},
	    {"queue_size=2048", "queue_size"},
	    {"net=carrier-pigeon", "expected one of"},
	    {"colour=red", "colour"},
	    {"net=none,switch=lan", "switch"},
	};

	for (size_t i = 0; i < VC_ARRAY_SIZE(wrong); i++) {
		ck_assert_int_lt(create(wrong[i].text), 0);
		ck_assert_msg(strstr(vcore_error_message(), wrong[i].names) != NULL, "%s", vcore_error_message());
	}
	ck_assert_int_eq(create("mtu=9000,queues=2"), 0);
	vdrv_attach(&a.d, &p.env, VDRV_HEAP);
	ck_assert_uint_eq(vdrv_config(&a.d, 0, 1) & 3, 2); /* locally administered */
	ck_assert_uint_eq(vdrv_config(&a.d, 6, 2), 1);
	ck_assert_uint_eq(vdrv_config(&a.d, 8, 2), 2);
	ck_assert_uint_eq(vdrv_config(&a.d, 10, 2), 9000);
	ck_assert_uint_eq(vdrv_config(&a.d, 20, 4), 0x3f);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("virtio_net");

	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_set_timeout(cases, 60);
	tcase_add_loop_test(cases, test_frames, 0, 6);
	tcase_add_test(cases, test_merge);
	tcase_add_test(cases, test_short_buffers);
	tcase_add_loop_test(cases, test_short_frames, 0, 3);
	tcase_add_loop_test(cases, test_hostile_headers, 0, 7);
	tcase_add_test(cases, test_filters);
	tcase_add_test(cases, test_hostile_commands);
	tcase_add_test(cases, test_offloads);
	tcase_add_loop_test(cases, test_dependencies, 0, 6);
	tcase_add_test(cases, test_toeplitz);
	tcase_add_test(cases, test_rss);
	tcase_add_loop_test(cases, test_back_pressure, 0, 2);
	tcase_add_loop_test(cases, test_slow_receiver, 0, 4);
	tcase_add_test(cases, test_state);
	tcase_add_test(cases, test_new_mac);
	tcase_add_test(cases, test_properties);
	return platform_run("virtio_net", cases);
}
