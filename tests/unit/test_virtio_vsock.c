/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtio-vsock: streams in both directions with the guest's end played by hand, and guests and host's programs that
 * break the rules. */
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "platform_env.h"
#include "virtio/types.h"
#include "virtio/vsock.h"
#include "virtio_driver.h"

enum { CID = 7, BUFFERS = 8, ROOM = 4096, PORT = 1024, HEADER = sizeof(struct vc_vsock_header) };

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue rx, tx, event;
static char dir[64];
static uint64_t rx_gpa, tx_gpa;
static struct vc_vsock_header got; /* the last packet */
static uint8_t data[ROOM];

static int create(const char *text)
{
	struct vc_props *props;
	struct vc_dev *dev;
	int r;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = vc_virtio_vsock_type.create(&p.env, props, &dev);
	if (!r)
		r = vc_props_finish(props, "virtio-vsock");
	vc_props_free(props);
	return r;
}

static void offer(uint32_t n)
{
	ck_assert(vdrv_add(&rx, &(struct vdrv_buf){rx_gpa + n * ROOM, ROOM, true}, 1, (void *)(uintptr_t)(n + 1)));
	vdrv_kick(&rx);
}

static void connect_driver(void)
{
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &rx, 0, 16);
	vdrv_queue(&d, &tx, 1, 16);
	vdrv_queue(&d, &event, 2, 16);
	vdrv_start(&d);
	ck_assert_uint_eq(vdrv_config(&d, 0, 8), CID);
	rx_gpa = vdrv_alloc(&d, BUFFERS * ROOM, 16);
	tx_gpa = vdrv_alloc(&d, VC_VSOCK_BUFFER + 2 * HEADER, 16);
	for (uint32_t i = 0; i < BUFFERS; i++)
		offer(i);
	vdrv_settle(&d);
}

static void begin(const char *more)
{
	char text[256];

	platform_init(&p, VC_MIB(4));
	strcpy(dir, "/tmp/vsock-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(text, sizeof text, "cid=%d,path=%s%s", CID, dir, more);
	ck_assert_int_eq(create(text), 0);
	connect_driver();
}

static void end(void)
{
	char path[128];

	platform_fini(&p);
	snprintf(path, sizeof path, "%s/vsock_%d", dir, PORT);
	unlink(path);
	ck_assert_int_eq(rmdir(dir), 0);
}

/* ---- the guest's end ---- */

static void send_raw(const void *packet, uint32_t length)
{
	memcpy(vdrv_ptr(&d, tx_gpa), packet, length);
	vdrv_do(&tx, &(struct vdrv_buf){tx_gpa, length, false}, 1);
	vdrv_settle(&d);
}

static struct vc_vsock_header header(uint32_t host_port, uint32_t guest_port, enum vc_vsock_op op)
{
	return (struct vc_vsock_header){.src_cid = CID,
	                                .dst_cid = 2,
	                                .src_port = guest_port,
	                                .dst_port = host_port,
	                                .type = 1,
	                                .op = (uint16_t)op,
	                                .buf_alloc = VC_VSOCK_BUFFER};
}

static void send_op(uint32_t host_port, uint32_t guest_port, enum vc_vsock_op op, uint32_t flags)
{
	struct vc_vsock_header h = header(host_port, guest_port, op);

	h.flags = flags;
	send_raw(&h, sizeof h);
}

static uint8_t pattern(uint32_t at)
{
	return (uint8_t)(at * 31 + at / 251);
}

/* Bytes of the pattern, from a place on. */
static void send_data(uint32_t host_port, uint32_t guest_port, uint32_t from, uint32_t length)
{
	static uint8_t packet[HEADER + VC_VSOCK_BUFFER + 1];
	struct vc_vsock_header h = header(host_port, guest_port, VC_VSOCK_OP_RW);

	h.len = length;
	memcpy(packet, &h, sizeof h);
	for (uint32_t i = 0; i < length; i++)
		packet[HEADER + i] = pattern(from + i);
	send_raw(packet, HEADER + length);
}

/* The next packet to the guest, if there is one. */
static bool take(void)
{
	uint32_t written, n;
	void *token;

	vdrv_settle(&d);
	token = vdrv_get(&rx, &written);
	if (!token)
		return false;
	n = (uint32_t)(uintptr_t)token - 1;
	ck_assert_uint_ge(written, HEADER);
	memcpy(&got, vdrv_ptr(&d, rx_gpa + n * ROOM), sizeof got);
	ck_assert_uint_eq(got.len, written - HEADER);
	ck_assert(got.type == 1 && got.dst_cid == CID);
	memcpy(data, (uint8_t *)vdrv_ptr(&d, rx_gpa + n * ROOM) + HEADER, got.len);
	offer(n);
	return true;
}

static void expect(enum vc_vsock_op op, uint32_t host_port, uint32_t guest_port)
{
	ck_assert(take());
	ck_assert_uint_eq(got.op, op);
	ck_assert_uint_eq(got.src_port, host_port);
	ck_assert_uint_eq(got.dst_port, guest_port);
}

static void expect_nothing(void)
{
	ck_assert(!take());
}

/* ---- the host's end ---- */

static struct sockaddr_un address(const char *name)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	snprintf(un.sun_path, sizeof un.sun_path, "%s/%s", dir, name);
	return un;
}

static int listen_at(uint32_t port)
{
	char name[32];
	struct sockaddr_un un;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(name, sizeof name, "vsock_%u", port);
	un = address(name);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
	ck_assert_int_eq(listen(fd, 128), 0);
	return fd;
}

static int call(const char *hello)
{
	struct sockaddr_un un = address("vsock");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	ck_assert_int_eq(connect(fd, (struct sockaddr *)&un, sizeof un), 0);
	ck_assert_int_eq(send(fd, hello, strlen(hello), MSG_NOSIGNAL), (ssize_t)strlen(hello));
	vdrv_settle(&d);
	return fd;
}

/* The guest connects; returns the host's end. */
static int from_guest(int listener, uint32_t guest_port)
{
	int fd;

	send_op(PORT, guest_port, VC_VSOCK_OP_REQUEST, 0);
	expect(VC_VSOCK_OP_RESPONSE, PORT, guest_port);
	ck_assert_uint_eq(got.buf_alloc, VC_VSOCK_BUFFER);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static void expect_text(int fd, const char *text)
{
	char buffer[64];
	ssize_t n = recv(fd, buffer, sizeof buffer, 0);

	ck_assert_int_eq(n, (ssize_t)strlen(text));
	ck_assert_mem_eq(buffer, text, (size_t)n);
}

static bool closed(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, 0);

	return n == 0 || (n < 0 && errno == ECONNRESET);
}

/* ---- tests ---- */

START_TEST(guest_connects)
{
	int listener, fd;

	begin(_i ? ",packed=on,worker=thread" : "");
	listener = listen_at(PORT);
	if (_i) { /* without the loop in between */
		send_op(PORT, 50, VC_VSOCK_OP_REQUEST, 0);
		vdrv_wait(&rx, NULL);
		goto out;
	}
	fd = from_guest(listener, 50);
	send_data(PORT, 50, 0, 3000);
	ck_assert_int_eq(recv(fd, data, sizeof data, 0), 3000);
	for (uint32_t i = 0; i < 3000; i++)
		ck_assert_uint_eq(data[i], pattern(i));
	ck_assert_int_eq(send(fd, "answer", 6, 0), 6);
	expect(VC_VSOCK_OP_RW, PORT, 50);
	ck_assert_uint_eq(got.fwd_cnt, 3000);
	ck_assert_uint_eq(got.len, 6);
	ck_assert_mem_eq(data, "answer", 6);
	/* the guest is done, the host is not */
	send_op(PORT, 50, VC_VSOCK_OP_SHUTDOWN, VC_VSOCK_NO_SEND);
	ck_assert_int_eq(recv(fd, data, 1, 0), 0);
	ck_assert_int_eq(send(fd, "more", 4, 0), 4);
	expect(VC_VSOCK_OP_RW, PORT, 50);
	ck_assert_uint_eq(got.len, 4);
	/* now it is */
	close(fd);
	expect(VC_VSOCK_OP_SHUTDOWN, PORT, 50);
	ck_assert_uint_eq(got.flags, VC_VSOCK_NEITHER);
	send_op(PORT, 50, VC_VSOCK_OP_SHUTDOWN, VC_VSOCK_NEITHER);
	expect(VC_VSOCK_OP_RST, PORT, 50);
	expect_nothing();
	/* nobody listens there */
	send_op(PORT + 1, 50, VC_VSOCK_OP_REQUEST, 0);
	expect(VC_VSOCK_OP_RST, PORT + 1, 50);
	expect_nothing();
out:
	close(listener);
	end();
}
END_TEST

START_TEST(host_connects)
{
	uint32_t port;
	char ok[32];
	int fd;

	begin("");
	fd = call("CONN");
	expect_nothing();
	/* what follows the line is data */
	ck_assert_int_eq(send(fd, "ECT 99\nearly", 12, 0), 12);
	ck_assert(take());
	ck_assert_uint_eq(got.op, VC_VSOCK_OP_REQUEST);
	ck_assert_uint_eq(got.dst_port, 99);
	port = got.src_port;
	expect_nothing();
	send_op(port, 99, VC_VSOCK_OP_RESPONSE, 0);
	snprintf(ok, sizeof ok, "OK %u\n", port);
	expect_text(fd, ok);
	expect(VC_VSOCK_OP_RW, port, 99);
	ck_assert_uint_eq(got.len, 5);
	/* the host is done, the guest is not */
	shutdown(fd, SHUT_WR);
	expect(VC_VSOCK_OP_SHUTDOWN, port, 99);
	ck_assert_uint_eq(got.flags, VC_VSOCK_NO_SEND);
	send_data(port, 99, 0, 10);
	ck_assert_int_eq(recv(fd, data, sizeof data, 0), 10);
	send_op(port, 99, VC_VSOCK_OP_RST, 0);
	ck_assert(closed(fd));
	close(fd);
	expect_nothing();
	/* the guest refuses */
	fd = call("CONNECT 100\n");
	ck_assert(take());
	send_op(got.src_port, 100, VC_VSOCK_OP_RST, 0);
	ck_assert(closed(fd));
	close(fd);
	/* who asks for it does not wait */
	fd = call("CONNECT 101\n");
	ck_assert(take());
	close(fd);
	expect(VC_VSOCK_OP_RST, got.src_port, 101);
	end();
}
END_TEST

/* Neither side can make us hold more than there is credit for, and nothing is lost. */
START_TEST(credit)
{
	struct vc_vsock_header h;
	uint32_t sent = 0, came = 0, known = 0;
	int listener, fd, small = 4096;

	begin("");
	listener = listen_at(PORT);
	fd = from_guest(listener, 1);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	while (came < 1000000) {
		ssize_t n;

		while (sent < 1000000 && sent - known + 4000 <= VC_VSOCK_BUFFER) {
			send_data(PORT, 1, sent, 4000);
			sent += 4000;
		}
		n = recv(fd, data, sizeof data, 0);
		ck_assert_int_gt(n, 0);
		for (ssize_t i = 0; i < n; i++, came++)
			if (data[i] != pattern(came))
				ck_abort_msg("byte %u is wrong", came);
		while (take()) {
			ck_assert_uint_eq(got.op, VC_VSOCK_OP_CREDIT_UPDATE);
			known = got.fwd_cnt;
		}
	}
	/* the other way: 1000 bytes of credit, then no more */
	h = header(PORT, 1, VC_VSOCK_OP_CREDIT_UPDATE);
	h.buf_alloc = 1000;
	send_raw(&h, sizeof h);
	memset(data, 5, sizeof data);
	ck_assert_int_eq(send(fd, data, 4000, 0), 4000);
	expect(VC_VSOCK_OP_RW, PORT, 1);
	ck_assert_uint_eq(got.len, 1000);
	expect(VC_VSOCK_OP_CREDIT_REQUEST, PORT, 1);
	expect_nothing();
	send_raw(&h, sizeof h);
	expect_nothing();
	h.fwd_cnt = 600;
	send_raw(&h, sizeof h);
	expect(VC_VSOCK_OP_RW, PORT, 1);
	ck_assert_uint_eq(got.len, 600);
	/* a guest that took more than it was given has no credit */
	h.fwd_cnt = 100000;
	send_raw(&h, sizeof h);
	expect(VC_VSOCK_OP_CREDIT_REQUEST, PORT, 1);
	expect_nothing();
	h.op = VC_VSOCK_OP_CREDIT_REQUEST;
	send_raw(&h, sizeof h);
	expect(VC_VSOCK_OP_CREDIT_UPDATE, PORT, 1);
	close(fd);
	close(listener);
	end();
}
END_TEST

/* What the guest has sent arrives although it has closed; then it hears of the end. */
START_TEST(drains_after_close)
{
	uint32_t came = 0;
	ssize_t n;
	int listener, fd;

	begin("");
	listener = listen_at(PORT);
	fd = from_guest(listener, 1);
	for (uint32_t i = 0; i < 400000; i += 100000) {
		send_data(PORT, 1, i, 100000);
		while (i < 300000 && came < i + 100000 && (n = recv(fd, data, sizeof data, 0)) > 0) {
			came += (uint32_t)n;
			vdrv_settle(&d);
		}
	}
	send_op(PORT, 1, VC_VSOCK_OP_SHUTDOWN, VC_VSOCK_NEITHER);
	while ((n = recv(fd, data, sizeof data, 0)) > 0) {
		for (ssize_t i = 0; i < n; i++, came++)
			if (data[i] != pattern(came))
				ck_abort_msg("byte %u is wrong", came);
		vdrv_settle(&d);
	}
	ck_assert_int_eq(n, 0);
	ck_assert_uint_eq(came, 400000);
	while (take() && got.op == VC_VSOCK_OP_CREDIT_UPDATE)
		;
	ck_assert_uint_eq(got.op, VC_VSOCK_OP_RST);
	close(fd);
	close(listener);
	end();
}
END_TEST

START_TEST(hostile_guest)
{
	struct vc_vsock_header h;
	int listener, fd;

	begin("");
	listener = listen_at(PORT);
	/* too short, and not from this guest: no answer */
	h = header(PORT, 1, VC_VSOCK_OP_REQUEST);
	send_raw(&h, sizeof h - 1);
	h.src_cid = CID + 1;
	send_raw(&h, sizeof h);
	expect_nothing();
	/* another host, another type, nothing that there is */
	h = header(PORT, 1, VC_VSOCK_OP_REQUEST);
	h.dst_cid = 99;
	send_raw(&h, sizeof h);
	expect(VC_VSOCK_OP_RST, PORT, 1);
	ck_assert_uint_eq(got.src_cid, 99);
	h.dst_cid = 2;
	h.type = 2;
	send_raw(&h, sizeof h);
	expect(VC_VSOCK_OP_RST, PORT, 1);
	for (uint32_t op = 0; op < 10; op++) {
		send_op(PORT, 1, op + (op >= VC_VSOCK_OP_REQUEST), 0);
		if (op + (op >= VC_VSOCK_OP_REQUEST) != VC_VSOCK_OP_RST)
			expect(VC_VSOCK_OP_RST, PORT, 1);
	}
	expect_nothing();
	/* more than there is credit for; data shorter than it says; a second request; an answer nobody asked for; no such
	 * operation; data after the end */
	for (unsigned way = 0; way < 6; way++) {
		fd = from_guest(listener, 2);
		h = header(PORT, 2, VC_VSOCK_OP_RW);
		h.len = 100;
		if (way == 0)
			send_data(PORT, 2, 0, VC_VSOCK_BUFFER + 1);
		else if (way == 1)
			send_raw(&h, sizeof h);
		else if (way == 5)
			send_op(PORT, 2, VC_VSOCK_OP_SHUTDOWN, VC_VSOCK_NO_SEND);
		else
			send_op(PORT, 2, (const uint16_t[]){VC_VSOCK_OP_REQUEST, VC_VSOCK_OP_RESPONSE, 77}[way - 2], 0);
		if (way == 5)
			send_data(PORT, 2, 0, 1);
		expect(VC_VSOCK_OP_RST, PORT, 2);
		ck_assert(closed(fd));
		close(fd);
		expect_nothing();
	}
	close(listener);
	end();
}
END_TEST

/* A guest that asks for answers without room for them is not listened to until there is; none is lost. */
START_TEST(many_answers)
{
	enum { COUNT = 300 };
	struct vc_vsock_header h = header(PORT, 0, VC_VSOCK_OP_RW);
	uint32_t answers = 0, asked = 0, pending = 0;

	begin("");
	while (answers < COUNT) {
		while (asked < COUNT && pending < 16) {
			h.src_port = asked;
			memcpy(vdrv_ptr(&d, tx_gpa + asked * HEADER), &h, sizeof h);
			ck_assert(vdrv_add(&tx, &(struct vdrv_buf){tx_gpa + asked * HEADER, HEADER, false}, 1, &h));
			asked++;
			pending++;
		}
		vdrv_kick(&tx);
		vdrv_settle(&d);
		while (vdrv_get(&tx, NULL))
			pending--;
		if (asked < COUNT && pending < 16)
			continue;
		expect(VC_VSOCK_OP_RST, PORT, answers);
		answers++;
	}
	expect_nothing();
	end();
}
END_TEST

START_TEST(hostile_host)
{
	static const char *const bad[] = {"\n",
	                                  "CONNECT\n",
	                                  "CONNECT \n",
	                                  "CONNECT x\n",
	                                  "CONNECT -1\n",
	                                  "CONNECT 1 \n",
	                                  "connect 1\n",
	                                  "CONNECT 99999999999\n",
	                                  "CONNECT 4294967295\n",
	                                  "CONNECT 0000000000000000000000000000000000001\n"};
	int fds[VC_VSOCK_HELLOS + 10];

	begin("");
	for (unsigned i = 0; i < VC_ARRAY_SIZE(bad); i++) {
		fds[0] = call(bad[i]);
		ck_assert_msg(closed(fds[0]), "%s", bad[i]);
		close(fds[0]);
	}
	expect_nothing();
	/* those who say nothing make room for others */
	for (unsigned i = 0; i < VC_ARRAY_SIZE(fds); i++)
		fds[i] = call("CONNECT ");
	for (unsigned i = 0; i < VC_ARRAY_SIZE(fds); i++)
		ck_assert_int_eq(closed(fds[i]), i < 10);
	ck_assert_int_eq(send(fds[10], "5\n", 2, 0), 2);
	ck_assert(take());
	ck_assert_uint_eq(got.dst_port, 5);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(fds); i++)
		close(fds[i]);
	end();
}
END_TEST

/* Up to the limit; a reset of the device ends all of them. */
START_TEST(many_connections)
{
	static int fds[VC_VSOCK_CONNECTIONS];
	struct rlimit limit;
	int listener;

	begin("");
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_uint_gt(limit.rlim_cur, 2 * VC_VSOCK_CONNECTIONS + 100);
	listener = listen_at(PORT);
	for (uint32_t i = 0; i < VC_ARRAY_SIZE(fds); i++)
		fds[i] = from_guest(listener, i);
	send_op(PORT, 5000, VC_VSOCK_OP_REQUEST, 0);
	expect(VC_VSOCK_OP_RST, PORT, 5000);
	ck_assert_int_eq(send(fds[1000], "x", 1, 0), 1);
	expect(VC_VSOCK_OP_RW, PORT, 1000);
	vdrv_reset(&d);
	for (uint32_t i = 0; i < VC_ARRAY_SIZE(fds); i++) {
		ck_assert(closed(fds[i]));
		close(fds[i]);
	}
	connect_driver();
	fds[0] = from_guest(listener, 1);
	close(fds[0]);
	close(listener);
	end();
}
END_TEST

START_TEST(saved)
{
	static uint8_t state[1 << 16];
	struct vc_dev *dev;
	uint64_t gpa;
	uint32_t written;
	int64_t size;
	int listener, fd;

	begin("");
	listener = listen_at(PORT);
	fd = from_guest(listener, 1);
	dev = p.buses.devices;
	size = dev->ops.save(dev->ctx, state, sizeof state);
	ck_assert_int_gt(size, 0);
	/* the one that was saved goes on */
	ck_assert_int_eq(send(fd, "x", 1, 0), 1);
	expect(VC_VSOCK_OP_RW, PORT, 1);
	ck_assert_int_eq(dev->ops.save(dev->ctx, state, sizeof state), size);
	ck_assert_int_eq(dev->ops.load(dev->ctx, state, (size_t)size), 0);
	/* the one that was loaded has no connections, and says so */
	ck_assert(closed(fd));
	close(fd);
	gpa = vdrv_alloc(&d, 4, 4);
	vdrv_settle(&d);
	memset(vdrv_ptr(&d, gpa), 0xff, 4);
	ck_assert(vdrv_add(&event, &(struct vdrv_buf){gpa, 4, true}, 1, &p));
	vdrv_kick(&event);
	ck_assert_ptr_eq(vdrv_wait(&event, &written), &p);
	ck_assert_uint_eq(written, 4);
	ck_assert_uint_eq(vc_ld32(vdrv_ptr(&d, gpa)), 0);
	fd = from_guest(listener, 2);
	close(fd);
	close(listener);
	end();
}
END_TEST

START_TEST(refusals)
{
	static const char *const bad[] = {"", "cid=2,path=/tmp/x", "cid=4294967295,path=/tmp/x", "path="};
	char text[256];

	begin("");
	for (unsigned i = 0; i < VC_ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(create(bad[i]), -EINVAL);
	snprintf(text, sizeof text, "path=%s", dir);
	ck_assert_int_eq(create(text), -EADDRINUSE);
	memset(text, 'x', 200);
	memcpy(text, "path=", 5);
	text[200] = 0;
	ck_assert_int_eq(create(text), -ENAMETOOLONG);
	end();
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("virtio-vsock");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, guest_connects, 0, 2);
	tcase_add_test(tc, host_connects);
	tcase_add_test(tc, credit);
	tcase_add_test(tc, drains_after_close);
	tcase_add_test(tc, hostile_guest);
	tcase_add_test(tc, many_answers);
	tcase_add_test(tc, hostile_host);
	tcase_add_test(tc, many_connections);
	tcase_add_test(tc, saved);
	tcase_add_test(tc, refusals);
	return platform_run("virtio-vsock", tc);
}
