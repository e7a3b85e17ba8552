/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vhost-user's back-end: served to our own front-end, and to one that breaks every rule. */
#include "platform_env.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <virtcore/block.h>
#include <virtcore/error.h>
#include <virtcore/vhost_user.h>

#include "vhost/message.h"
#include "vhost/protocol.h"
#include "vhost/types.h"
#include "virtio_driver.h"

enum { RAM = 4 << 20, DISK = 1 << 20, SECTOR = 512, FRAME = 64, NET_HEADER = 12 };

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue q;
static char sock[80], image[100];

static void log_line(void *ctx, enum vcore_log_level level, const char *message)
{
	snprintf(ctx, 256, "%s", message);
}

static char server_log[256];

static vcore_vhost_user *serve(const char *type, const char *properties, const char *socket, vcore_switch *sw)
{
	const struct vcore_vhost_user_options o = {.size = sizeof o,
	                                           .log = log_line,
	                                           .log_ctx = server_log,
	                                           .log_level = VCORE_LOG_WARN,
	                                           .switch_name = sw ? "s" : NULL,
	                                           .sw = sw};
	vcore_vhost_user *s = NULL;

	ck_assert_msg(vcore_vhost_user_serve(type, properties, socket, &o, &s) == 0, "%s", vcore_error_message());
	return s;
}

static vcore_vhost_user *serve_disk(void)
{
	char text[200];

	snprintf(text, sizeof text, "image=%s,queues=2", image);
	return serve("virtio-blk", text, sock, NULL);
}

static void make_names(void)
{
	FILE *file;

	snprintf(sock, sizeof sock, "/tmp/vhost-server-%d", (int)getpid());
	snprintf(image, sizeof image, "%s.disk", sock);
	file = fopen(image, "w");
	ck_assert(file && ftruncate(fileno(file), DISK) == 0 && fclose(file) == 0);
	server_log[0] = '\0';
}

static void remove_names(void)
{
	ck_assert_int_ne(access(sock, F_OK), 0);
	unlink(image);
}

static void begin_guest(void)
{
	const struct vcore_memory_options o = {.size = sizeof o, .kind = VCORE_MEMORY_MEMFD, .fd = -1};

	platform_init(&p, 0);
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, 0, RAM, VCORE_MEM_RWX, &o, NULL), 0);
}

static void add_front_end(const struct vc_device_type *type, const char *path, const char *more)
{
	struct vc_props *props;
	struct vc_dev *dev;
	char text[256];

	snprintf(text, sizeof text, "socket=%s,reconnect_ms=10%s", path, more);
	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	ck_assert_msg(type->create(&p.env, props, &dev) == 0, "%s", vcore_error_message());
	vc_props_free(props);
}

static void begin_disk(const char *more)
{
	begin_guest();
	add_front_end(&vc_vhost_user_blk_type, sock, more);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &q, 0, 32);
	vdrv_start(&d);
}

/* One request of a disk: 0 read, 1 write, 4 flush. */
static void request(uint32_t type, uint64_t sector, uint8_t *data, uint32_t length)
{
	uint64_t header = vdrv_alloc(&d, 16, 16), at = vdrv_alloc(&d, SECTOR, 16), status = vdrv_alloc(&d, 1, 1);
	struct vdrv_buf bufs[] = {{header, 16, false}, {at, length, type == 0}, {status, 1, true}};
	uint32_t written;

	vc_st32(vdrv_ptr(&d, header), type);
	vc_st32((uint8_t *)vdrv_ptr(&d, header) + 4, 0);
	vc_st64((uint8_t *)vdrv_ptr(&d, header) + 8, sector);
	*(uint8_t *)vdrv_ptr(&d, status) = 0xff;
	if (type == 1)
		memcpy(vdrv_ptr(&d, at), data, length);
	if (!length)
		bufs[1] = bufs[2];
	ck_assert(vdrv_add(&q, bufs, length ? 3 : 2, data));
	vdrv_kick(&q);
	ck_assert_ptr_eq(vdrv_wait(&q, &written), data);
	ck_assert_uint_eq(*(uint8_t *)vdrv_ptr(&d, status), 0);
	if (type == 0)
		memcpy(data, vdrv_ptr(&d, at), length);
}

static void write_sectors(uint8_t value)
{
	uint8_t data[SECTOR];

	memset(data, value, sizeof data);
	for (uint64_t sector = 0; sector < 40; sector++) {
		data[0] = (uint8_t)sector;
		request(1, sector, data, SECTOR);
	}
	request(4, 0, data, 0);
}

static void check_sectors(uint8_t value)
{
	uint8_t data[SECTOR];

	for (uint64_t sector = 0; sector < 40; sector++) {
		request(0, sector, data, SECTOR);
		ck_assert_uint_eq(data[0], (uint8_t)sector);
		ck_assert(data[1] == value && !memcmp(data + 1, data + 2, SECTOR - 2));
	}
}

static void check_image(uint8_t value)
{
	uint8_t data[2 * SECTOR];
	FILE *file = fopen(image, "r");

	ck_assert(file && fread(data, sizeof data, 1, file) == 1 && fclose(file) == 0);
	ck_assert(data[SECTOR] == 1 && data[SECTOR + 1] == value && data[2 * SECTOR - 1] == value);
}

/* ---- what works ---- */

START_TEST(disk)
{
	static const char *const forms[] = {"", ",packed=on", ",queues=2", ",worker=thread,event_idx=off"};
	vcore_vhost_user *s;

	make_names();
	s = serve_disk();
	begin_disk(forms[_i]);
	ck_assert_uint_eq(vdrv_read(&d, VDRV_CONFIG), DISK / SECTOR);
	write_sectors(0x5a);
	check_image(0x5a);
	check_sectors(0x5a);
	platform_fini(&p);
	vcore_vhost_user_free(s);
	ck_assert_str_eq(server_log, "");
	remove_names();
}
END_TEST

/* One front-end after the other; the driver resets in between, too. */
START_TEST(front_ends_come_and_go)
{
	vcore_vhost_user *s;

	make_names();
	s = serve_disk();
	for (uint8_t n = 1; n <= 3; n++) {
		begin_disk("");
		if (n > 1)
			check_sectors((uint8_t)(n - 1));
		vdrv_write(&d, VDRV_STATUS, 0);
		vdrv_attach(&d, &p.env, VDRV_HEAP);
		ck_assert(vdrv_negotiate(&d, ~0ull));
		vdrv_queue(&d, &q, 0, 32);
		vdrv_start(&d);
		write_sectors(n);
		platform_fini(&p);
	}
	vcore_vhost_user_free(s);
	ck_assert_str_eq(server_log, "");
	remove_names();
}
END_TEST

START_TEST(back_end_comes_and_goes)
{
	vcore_vhost_user *s;

	make_names();
	s = serve_disk();
	begin_disk("");
	for (uint8_t n = 1; n <= 3; n++) {
		write_sectors(n);
		vcore_vhost_user_free(s);
		s = serve_disk();
		check_sectors(n);
	}
	platform_fini(&p);
	vcore_vhost_user_free(s);
	remove_names();
}
END_TEST

/* Two guests' NICs in one switch of ours. */
START_TEST(network)
{
	vcore_vhost_user *servers[2];
	struct vdrv drivers[2];
	struct vdrv_queue rx[2], tx[2];
	uint64_t frame, room;
	uint32_t written;
	vcore_switch *sw;
	char paths[2][120];

	make_names();
	ck_assert_int_eq(vcore_switch_new(&sw), 0);
	begin_guest();
	for (int i = 0; i < 2; i++) {
		snprintf(paths[i], sizeof paths[i], "%s-%d", sock, i);
		servers[i] = serve("virtio-net", "net=switch,switch=s", paths[i], sw);
		add_front_end(&vc_vhost_user_net_type, paths[i], "");
		vdrv_attach(&drivers[i], &p.env, VDRV_HEAP + (uint64_t)i * (1 << 20));
		ck_assert(vdrv_negotiate(&drivers[i], VC_VIRTIO_F_VERSION_1));
		vdrv_queue(&drivers[i], &rx[i], 0, 32);
		vdrv_queue(&drivers[i], &tx[i], 1, 32);
		vdrv_start(&drivers[i]);
	}
	room = vdrv_alloc(&drivers[1], 2048, 16);
	frame = vdrv_alloc(&drivers[0], NET_HEADER + FRAME, 16);
	ck_assert(vdrv_add(&rx[1], &(struct vdrv_buf){room, 2048, true}, 1, &room));
	vdrv_kick(&rx[1]);
	memset(vdrv_ptr(&drivers[0], frame), 0, NET_HEADER + FRAME);
	memset((uint8_t *)vdrv_ptr(&drivers[0], frame) + NET_HEADER, 0xff, 6);
	((uint8_t *)vdrv_ptr(&drivers[0], frame))[NET_HEADER + 6] = 2;
	/* until the other's ring has been taken up, a frame is lost as on a wire */
	do {
		ck_assert(vdrv_add(&tx[0], &(struct vdrv_buf){frame, NET_HEADER + FRAME, false}, 1, &frame));
		vdrv_kick(&tx[0]);
		ck_assert_ptr_eq(vdrv_wait(&tx[0], &written), &frame);
	} while (!vdrv_get(&rx[1], &written));
	ck_assert_uint_eq(written, NET_HEADER + FRAME);
	ck_assert(!memcmp((uint8_t *)vdrv_ptr(&drivers[1], room) + NET_HEADER,
	                  (uint8_t *)vdrv_ptr(&drivers[0], frame) + NET_HEADER, FRAME));
	platform_fini(&p);
	vcore_vhost_user_free(servers[0]);
	vcore_vhost_user_free(servers[1]);
	vcore_switch_unref(sw);
	ck_assert_str_eq(server_log, "");
	remove_names();
}
END_TEST

/* The driver is told of a new size. */
START_TEST(resize)
{
	vcore_vhost_user *s;

	make_names();
	s = serve_disk();
	begin_disk("");
	ck_assert_uint_eq(vdrv_read(&d, VDRV_CONFIG), DISK / SECTOR);
	ck_assert_int_eq(vcore_block_resize(vcore_vhost_user_device(s), 2 * DISK), 0);
	for (unsigned i = 0; i < 10000 && vdrv_read(&d, VDRV_CONFIG) != 2 * DISK / SECTOR; i++)
		usleep(1000);
	ck_assert_uint_eq(vdrv_read(&d, VDRV_CONFIG), 2 * DISK / SECTOR);
	platform_fini(&p);
	vcore_vhost_user_free(s);
	ck_assert_ptr_null(vcore_vhost_user_device(NULL));
	remove_names();
}
END_TEST

/* ---- what is refused ---- */

START_TEST(refuses_to_serve)
{
	static const struct {
		const char *type, *properties, *socket;
		int error;
	} cases[] = {
	    {"uart", "", "/tmp/x", ENOENT},
	    {"virtio-gpu", "", "/tmp/x", ENOENT},
	    {"virtio-blk", "", "/tmp/x", EINVAL},
	    {"virtio-blk", "image=null:1M,transport=pci", "/tmp/x", EINVAL},
	    {"virtio-blk", "image=null:1M", "fd:x", EINVAL},
	    {"virtio-blk", "image=null:1M", "fd:999", EBADF},
	    {"virtio-blk", "image=null:1M", "/nonexistent/x", ENOENT},
	    {"virtio-net", "net=switch,switch=s", "/tmp/x", ENOENT},
	};
	vcore_vhost_user *s;

	for (unsigned i = 0; i < VC_ARRAY_SIZE(cases); i++)
		ck_assert_msg(vcore_vhost_user_serve(cases[i].type, cases[i].properties, cases[i].socket, NULL, &s) ==
		                  -cases[i].error,
		              "%u: %s", i, vcore_error_message());
	vcore_vhost_user_free(NULL);
}
END_TEST

struct peer {
	int fd;
	vcore_vhost_user *s;
};

static struct peer begin_peer(void)
{
	int pair[2];
	char text[16];
	struct peer peer;

	server_log[0] = '\0';
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	snprintf(text, sizeof text, "fd:%d", pair[1]);
	peer.s = serve("virtio-blk", "image=null:1M", text, NULL);
	peer.fd = pair[0];
	close(pair[1]);
	return peer;
}

static void tell(const struct peer *peer, uint32_t number, const void *payload, uint32_t size, const int *fds,
                 unsigned count)
{
	struct vc_vhost_message m = {.request = number, .flags = VC_VHOST_VERSION, .size = size, .fd_count = count};

	if (size)
		memcpy(m.payload, payload, size);
	for (unsigned i = 0; i < count; i++)
		m.fds[i] = fds[i];
	ck_assert_int_eq(vc_vhost_send(peer->fd, &m, vc_host_ns() + 10000000000ull), 0);
}

/* The connection is closed, with that sentence in the log. */
static void check_out(struct peer *peer, const char *why)
{
	struct pollfd poller = {.fd = peer->fd, .events = POLLIN};
	char byte;

	ck_assert_int_eq(poll(&poller, 1, 10000), 1);
	ck_assert_int_le(recv(peer->fd, &byte, 1, 0), 0);
	vcore_vhost_user_free(peer->s);
	close(peer->fd);
	ck_assert_msg(strstr(server_log, why), "%s: expected %s", server_log, why);
}

static int new_memory(uint64_t length, unsigned seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ck_assert(fd >= 0 && ftruncate(fd, (off_t)length) == 0 && (!seals || fcntl(fd, F_ADD_SEALS, (int)seals) == 0));
	return fd;
}

START_TEST(turns_out)
{
	static const struct {
		uint32_t request, size;
		uint64_t payload[5];
		const char *why;
	} cases[] = {
	    {0, 0, {0}, "no such request"},
	    {4000000000u, 0, {0}, "no such request"},
	    {VC_VHOST_GET_FEATURES, 8, {0}, "8 bytes"},
	    {VC_VHOST_SET_FEATURES, 4, {0}, "4 bytes"},
	    {VC_VHOST_SET_FEATURES, 8, {1ull << 63}, "not offered"},
	    {VC_VHOST_SET_FEATURES, 8, {VC_VIRTIO_F_RING_PACKED}, "not offered"},
	    {VC_VHOST_SET_PROTOCOL_FEATURES, 8, {1ull << 4}, "offered are"},
	    {VC_VHOST_SET_LOG_BASE, 16, {4096}, "expected a descriptor"},
	    {VC_VHOST_ADD_MEM_REG, 40, {0}, "0 descriptors"},
	    {VC_VHOST_REM_MEM_REG, 40, {0, 4096, 4096}, "no region"},
	    {VC_VHOST_GET_INFLIGHT_FD, 20, {0, 0, 2 | 64 << 16}, "of 2 rings"},
	    {VC_VHOST_GET_INFLIGHT_FD, 20, {0, 0, 1 | 2048 << 16}, "of 2048"},
	    {VC_VHOST_SET_INFLIGHT_FD, 20, {0, 0, 1}, "0 descriptors"},
	    {VC_VHOST_SET_STATUS, 8, {256}, "status 0x100"},
	    {VC_VHOST_SET_MEM_TABLE, 40, {1}, "1 regions"},
	    {VC_VHOST_SET_MEM_TABLE, 8, {0xffffffff}, "4294967295 regions"},
	    {VC_VHOST_SET_VRING_NUM, 8, {1 | 256ull << 32}, "ring 1"},
	    {VC_VHOST_SET_VRING_NUM, 8, {3ull << 32}, "of size 3"},
	    {VC_VHOST_SET_VRING_NUM, 8, {0}, "of size 0"},
	    {VC_VHOST_SET_VRING_NUM, 8, {2048ull << 32}, "of size 2048"},
	    {VC_VHOST_SET_VRING_ADDR, 40, {0, 0x1000}, "in no region"},
	    {VC_VHOST_SET_VRING_BASE, 8, {0x10000ull << 32}, "begins at 65536"},
	    {VC_VHOST_GET_VRING_BASE, 8, {77}, "ring 77"},
	    {VC_VHOST_SET_VRING_KICK, 8, {VC_VHOST_VRING_NO_FD}, "polled"},
	    {VC_VHOST_SET_VRING_KICK, 8, {0}, "polled"},
	    {VC_VHOST_SET_VRING_CALL, 8, {9}, "ring 9"},
	    {VC_VHOST_SET_VRING_ENABLE, 8, {5}, "ring 5"},
	    {VC_VHOST_GET_CONFIG, 12, {60ull << 32}, "configuration [0, +60)"},
	    {VC_VHOST_GET_CONFIG, 12, {0xffffffffull}, "configuration [4294967295"},
	};

	for (unsigned i = 0; i < VC_ARRAY_SIZE(cases); i++) {
		struct peer peer = begin_peer();

		tell(&peer, cases[i].request, cases[i].payload, cases[i].size, NULL, 0);
		check_out(&peer, cases[i].why);
	}
}
END_TEST

START_TEST(turns_out_memory)
{
	enum { SIZE = 1 << 16 };
	static const struct {
		struct vc_vhost_wire_region regions[2];
		bool open;
		const char *why;
	} cases[] = {
	    {{{0, SIZE, 0x10000, 0}, {SIZE / 2, SIZE, 0x100000, 0}}, false, "overlaps"},
	    {{{0, SIZE, 0x10000, 0}, {SIZE, 2 * SIZE, 0x100000, 0}}, false, "the file has"},
	    {{{0, SIZE, 0x10000, 0}, {SIZE, 100, 0x100000, 0}}, false, "multiples"},
	    {{{0, SIZE, 0x10000, 0}, {SIZE, 0, 0x100000, 0}}, false, "empty"},
	    {{{0, SIZE, 0x10000, 0}, {SIZE, SIZE, 0x100000, 100}}, false, "offset 0x64"},
	    {{{0, SIZE, 0x10000, 0}, {1ull << 63, SIZE, 0x100000, 0}}, false, "expected an end"},
	    {{{0, SIZE, 0x10000, 0}, {SIZE, SIZE, ~0xfffull, 0}}, false, "too large"},
	    {{{0, SIZE, 0x10000, 0}, {SIZE, SIZE, 0x100000, ~0xfffull}}, false, "too large"},
	    {{{0, SIZE, 0x10000, 0}, {SIZE, SIZE, 0x100000, 0}}, true, "can be shrunk"},
	};

	for (unsigned i = 0; i < VC_ARRAY_SIZE(cases); i++) {
		int fds[2] = {new_memory(SIZE, F_SEAL_SHRINK), new_memory(SIZE, cases[i].open ? 0 : F_SEAL_SHRINK)};
		struct peer peer = begin_peer();
		uint8_t table[8 + sizeof cases[i].regions] = {2};

		memcpy(table + 8, cases[i].regions, sizeof cases[i].regions);
		tell(&peer, VC_VHOST_SET_MEM_TABLE, table, sizeof table, fds, 2);
		close(fds[0]);
		close(fds[1]);
		check_out(&peer, cases[i].why);
	}
}
END_TEST

static void ask(const struct peer *peer, uint32_t number, void *payload, uint32_t size, const int *fds, unsigned count)
{
	struct vc_vhost_message m;

	tell(peer, number, payload, size, fds, count);
	ck_assert_int_eq(vc_vhost_receive(peer->fd, &m, vc_host_ns() + 10000000000ull), 0);
	ck_assert_uint_eq(m.request, number);
	memcpy(payload, m.payload, m.size);
	vc_vhost_close_fds(&m);
}

static uint64_t ask_u64(const struct peer *peer, uint32_t number)
{
	uint64_t answer[64];

	ask(peer, number, answer, 0, NULL, 0);
	return answer[0];
}

static void end_peer(struct peer *peer)
{
	vcore_vhost_user_free(peer->s);
	close(peer->fd);
	ck_assert_str_eq(server_log, "");
}

/* Regions one by one, and a log of what the device writes into them. */
START_TEST(logs_writes)
{
	enum { SIZE = 1 << 16, PAGES = SIZE / 4096, DESC = 0x1000, AVAIL = 0x2000, USED = 0x3000, DATA = 0x5000 };
	const uint64_t features = VC_VIRTIO_F_VERSION_1 | VC_VHOST_F_LOG_ALL, protocol = VC_VHOST_P_LOG_SHMFD;
	const uint64_t region[5] = {0, 0x100000, SIZE, 0x7000000, 0}, gone[5] = {0, 0x200000, SIZE, 0x8000000, 0};
	const uint64_t addresses[5] = {0, 0x7000000 + DESC, 0x7000000 + USED, 0x7000000 + AVAIL, 0};
	const uint64_t ring = 0, size = 4ull << 32, base = 0;
	uint64_t area[64] = {4096, 0}, answer[64] = {0};
	int memory = new_memory(SIZE, F_SEAL_SHRINK), log = new_memory(4096, F_SEAL_SHRINK), kick = eventfd(1, 0);
	struct peer peer = begin_peer();
	uint8_t *ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	uint8_t *pages = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, log, 0);

	ck_assert(ram != MAP_FAILED && pages != MAP_FAILED);
	tell(&peer, VC_VHOST_SET_PROTOCOL_FEATURES, &protocol, 8, NULL, 0);
	tell(&peer, VC_VHOST_SET_FEATURES, &features, 8, NULL, 0);
	ck_assert_uint_ge(ask_u64(&peer, VC_VHOST_GET_MAX_MEM_SLOTS), 32);
	tell(&peer, VC_VHOST_ADD_MEM_REG, region, sizeof region, &memory, 1);
	tell(&peer, VC_VHOST_ADD_MEM_REG, gone, sizeof gone, &memory, 1);
	tell(&peer, VC_VHOST_REM_MEM_REG, gone, sizeof gone, NULL, 0);
	ask(&peer, VC_VHOST_SET_LOG_BASE, area, 16, &log, 1);
	/* a read of a sector */
	vc_st64(ram + DESC, 0x100000 + DATA);
	vc_st64(ram + DESC + 8, 16 | 1ull << 32 | 1ull << 48);
	vc_st64(ram + DESC + 16, 0x100000 + DATA + 0x1000);
	vc_st64(ram + DESC + 24, SECTOR | 3ull << 32 | 2ull << 48);
	vc_st64(ram + DESC + 32, 0x100000 + DATA + 0x3000);
	vc_st64(ram + DESC + 40, 1 | 2ull << 32);
	vc_st16(ram + AVAIL + 2, 1);
	tell(&peer, VC_VHOST_SET_VRING_NUM, &size, 8, NULL, 0);
	tell(&peer, VC_VHOST_SET_VRING_BASE, &base, 8, NULL, 0);
	tell(&peer, VC_VHOST_SET_VRING_ADDR, addresses, sizeof addresses, NULL, 0);
	tell(&peer, VC_VHOST_SET_VRING_KICK, &ring, 8, &kick, 1);
	for (unsigned i = 0; i < 10000 && !vc_ld16(ram + USED + 2); i++)
		usleep(1000);
	/* the same addresses once more, as at the start of a migration */
	tell(&peer, VC_VHOST_SET_VRING_ADDR, addresses, sizeof addresses, NULL, 0);
	ask(&peer, VC_VHOST_GET_VRING_BASE, answer, 8, NULL, 0);
	ck_assert_uint_eq(answer[0] >> 32, 1);
	/* the sector, the status and the used ring */
	for (unsigned n = 0; n < PAGES; n++)
		ck_assert_msg((pages[(0x100 + n) / 8] >> n % 8 & 1) ==
		                  (n == USED >> 12 || n == (DATA >> 12) + 1 || n == (DATA >> 12) + 3),
		              "page %u of %02x%02x", n, pages[0x21], pages[0x20]);
	end_peer(&peer);
	munmap(ram, SIZE);
	munmap(pages, 4096);
	close(memory);
	close(log);
	close(kick);
}
END_TEST

START_TEST(status)
{
	const uint64_t driver = VC_VIRTIO_S_ACKNOWLEDGE | VC_VIRTIO_S_DRIVER, none = 0;
	struct peer peer = begin_peer();

	ck_assert_uint_eq(ask_u64(&peer, VC_VHOST_GET_STATUS), 0);
	tell(&peer, VC_VHOST_SET_STATUS, &driver, 8, NULL, 0);
	ck_assert_uint_eq(ask_u64(&peer, VC_VHOST_GET_STATUS), driver);
	tell(&peer, VC_VHOST_SET_STATUS, &none, 8, NULL, 0);
	ck_assert_uint_eq(ask_u64(&peer, VC_VHOST_GET_STATUS), 0);
	end_peer(&peer);
}
END_TEST

/* A pipe in place of an eventfd, which would make us wait. */
START_TEST(turns_out_pipes)
{
	const uint64_t ring = 0;
	struct peer peer = begin_peer();
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	tell(&peer, VC_VHOST_SET_VRING_CALL, &ring, sizeof ring, &fds[1], 1);
	check_out(&peer, "no eventfd");
	close(fds[0]);
	close(fds[1]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vhost_server");
	TCase *c = tcase_create("vhost_server");
	SRunner *runner;
	int failed;

	tcase_set_timeout(c, 60);
	tcase_add_loop_test(c, disk, 0, 4);
	tcase_add_test(c, front_ends_come_and_go);
	tcase_add_test(c, back_end_comes_and_goes);
	tcase_add_test(c, network);
	tcase_add_test(c, resize);
	tcase_add_test(c, logs_writes);
	tcase_add_test(c, status);
	tcase_add_test(c, refuses_to_serve);
	tcase_add_test(c, turns_out);
	tcase_add_test(c, turns_out_memory);
	tcase_add_test(c, turns_out_pipes);
	suite_add_tcase(suite, c);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
