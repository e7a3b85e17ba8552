/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames over sockets: framing in any pieces, a peer that breaks the rules, back-pressure, reconnecting. */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <virtcore/error.h>

#include "net/packet.h"
#include "net_fixture.h"

static struct platform_env p;
static struct net_user u, v;
static int pair[2];

static void setup(void)
{
	platform_init(&p, 0);
}

static void teardown(void)
{
	platform_fini(&p);
}

static void open_given(int type)
{
	char text[40];

	ck_assert_int_eq(socketpair(AF_UNIX, type, 0, pair), 0);
	snprintf(text, sizeof text, "net=socket,fd=%d", pair[0]);
	net_user_open(&p, &u, text, 1);
	close(pair[0]);
}

static void put(uint8_t *to, uint32_t length, uint8_t seed)
{
	vc_stbe32(to, length);
	for (uint32_t i = 0; i < length; i++)
		to[4 + i] = (uint8_t)(seed + i * 7);
}

static void check(const struct net_frame *f, uint32_t length, uint8_t seed)
{
	ck_assert_uint_eq(f->length, length);
	for (uint32_t i = 0; i < length; i++)
		ck_assert_uint_eq(f->data[i], (uint8_t)(seed + i * 7));
}

/* Turns the loop until that many frames are there. */
static void await(struct net_user *user, unsigned count)
{
	for (unsigned i = 0; user->count < count && i < 2000; i++)
		vc_loop_run(p.env.loop, 10000000);
	ck_assert_uint_eq(user->count, count);
}

static void await_link(struct net_user *user, bool up)
{
	for (unsigned i = 0; vc_net_link(user->net) != up && i < 2000; i++)
		vc_loop_run(p.env.loop, 10000000);
	ck_assert_int_eq(vc_net_link(user->net), up);
}

START_TEST(test_pieces)
{
	static const unsigned pieces[] = {1, 3, 7, 100, 5000};
	static uint8_t stream[20000];
	size_t length = 0;

	open_given(SOCK_STREAM);
	for (unsigned i = 0; i < 40; i++) {
		put(stream + length, 14 + i * 9, (uint8_t)i);
		length += 4 + 14 + i * 9;
	}
	for (size_t at = 0; at < length; at += pieces[_i]) {
		size_t n = length - at < pieces[_i] ? length - at : pieces[_i];

		ck_assert_int_eq(write(pair[1], stream + at, n), (ssize_t)n);
		platform_settle(&p);
	}
	await(&u, 40);
	for (unsigned i = 0; i < 40; i++)
		check(&u.frames[i], 14 + i * 9, (uint8_t)i);
	close(pair[1]);
	net_user_close(&u);
}
END_TEST

START_TEST(test_longest)
{
	static uint8_t stream[4 + VC_NET_FRAME_MAX];

	open_given(SOCK_STREAM);
	put(stream, VC_NET_FRAME_MAX, 5);
	for (size_t at = 0; at < sizeof stream;) {
		ssize_t n = send(pair[1], stream + at, sizeof stream - at, MSG_DONTWAIT);

		at += n > 0 ? (size_t)n : 0;
		platform_settle(&p);
	}
	await(&u, 1);
	check(&u.frames[0], VC_NET_FRAME_MAX, 5);
	close(pair[1]);
	net_user_close(&u);
}
END_TEST

/* A length that cannot be ends the connection; frames before it count. */
START_TEST(test_hostile)
{
	static const uint32_t lengths[] = {0, 13, VC_NET_FRAME_MAX + 1, 0x7fffffff, 0x80000000, 0xffffffff};
	uint8_t stream[200], byte;

	open_given(SOCK_STREAM);
	put(stream, 60, 9);
	vc_stbe32(stream + 64, lengths[_i]);
	ck_assert_int_eq(write(pair[1], stream, 200), 200);
	await_link(&u, false);
	ck_assert_uint_eq(u.count, 1);
	ck_assert_uint_eq(u.links, 2);
	check(&u.frames[0], 60, 9);
	ck_assert_int_le(recv(pair[1], &byte, 1, 0), 0);
	net_user_send(&u, stream, 60); /* vanishes */
	close(pair[1]);
	net_user_close(&u);
}
END_TEST

START_TEST(test_send)
{
	static uint8_t got[200000];
	uint8_t frame[1000];
	struct iovec iov[2] = {{frame, 10}, {frame + 10, 990}};
	struct vc_net_frame frames[2] = {{.iov = iov, .iov_count = 2, .length = 1000},
	                                 {.iov = iov, .iov_count = 2, .length = 1000}};

	open_given(SOCK_STREAM);
	for (unsigned i = 0; i < sizeof frame; i++)
		frame[i] = (uint8_t)i;
	vc_net_send(u.net, 0, frames, 2);
	ck_assert_int_eq(recv(pair[1], got, sizeof got, MSG_DONTWAIT), 2008);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_uint_eq(vc_ldbe32(got + i * 1004), 1000);
		ck_assert_mem_eq(got + i * 1004 + 4, frame, 1000);
	}
	close(pair[1]);
	net_user_close(&u);
}
END_TEST

/* A peer that does not read: what fits is kept in whole frames, the rest is dropped, memory is bounded. */
START_TEST(test_slow_peer)
{
	static uint8_t got[4 << 20];
	struct vc_net_counters c;
	uint8_t frame[1500];
	size_t length = 0, at;
	unsigned whole = 0;

	open_given(SOCK_STREAM);
	memset(frame, 0x5a, sizeof frame);
	for (unsigned i = 0; i < 2000; i++)
		net_user_send(&u, frame, sizeof frame);
	vc_net_get_counters(u.net, &c);
	ck_assert_uint_eq(c.tx_frames, 2000);
	ck_assert_uint_gt(c.tx_dropped, 0);
	for (unsigned idle = 0; idle < 20; idle++) {
		ssize_t n = recv(pair[1], got + length, sizeof got - length, MSG_DONTWAIT);

		length += n > 0 ? (size_t)n : 0;
		idle = n > 0 ? 0 : idle;
		platform_settle(&p);
	}
	for (at = 0; at < length; at += 4 + sizeof frame, whole++)
		ck_assert_uint_eq(vc_ldbe32(got + at), sizeof frame);
	ck_assert_uint_eq(at, length);
	ck_assert_uint_eq(whole, 2000 - c.tx_dropped);
	close(pair[1]);
	net_user_close(&u);
}
END_TEST

/* The guest has no room: nothing is lost, and nothing is read until there is some. */
START_TEST(test_no_room)
{
	uint8_t frame[64];
	unsigned sent = 0;

	open_given(SOCK_STREAM);
	u.room = 5;
	fcntl(pair[1], F_SETFL, O_NONBLOCK);
	for (; sent < 4000; sent++) {
		put(frame, 60, (uint8_t)sent);
		if (write(pair[1], frame, 64) != 64)
			break;
		if (sent % 100 == 0)
			platform_settle(&p);
	}
	platform_settle(&p);
	ck_assert_uint_eq(u.count, 5);
	while (u.count < sent) {
		unsigned before = u.count;

		u.room = 100;
		vc_net_room(u.net, 0);
		platform_settle(&p);
		ck_assert_uint_gt(u.count, before);
	}
	for (unsigned i = 0; i < sent; i++)
		check(&u.frames[i], 60, (uint8_t)i);
	close(pair[1]);
	net_user_close(&u);
}
END_TEST

START_TEST(test_datagrams)
{
	static uint8_t frame[4 + 9000];

	open_given(SOCK_DGRAM);
	put(frame, 9000, 3);
	ck_assert_int_eq(write(pair[1], frame + 4, 9000), 9000);
	ck_assert_int_eq(write(pair[1], frame + 4, 10), 10); /* a runt */
	ck_assert_int_eq(write(pair[1], frame + 4, 60), 60);
	await(&u, 2);
	check(&u.frames[0], 9000, 3);
	check(&u.frames[1], 60, 3);
	net_user_send(&u, frame + 4, 1500);
	ck_assert_int_eq(recv(pair[1], frame + 4, 9000, MSG_DONTWAIT), 1500);
	close(pair[1]);
	net_user_close(&u);
}
END_TEST

/* Two of ours: one waits, one calls; the caller comes again. */
START_TEST(test_call)
{
	char path[] = "/tmp/virtcore-net-XXXXXX", listen[80], call[80];
	uint8_t frame[60] = {1, 2, 3};

	ck_assert_ptr_nonnull(mkdtemp(path));
	snprintf(listen, sizeof listen, "net=socket,listen=on,socket=unix:%s/s", path);
	snprintf(call, sizeof call, "net=socket,reconnect=1,socket=unix:%s/s", path);
	/* nobody is there yet */
	net_user_open(&p, &v, call, 2);
	ck_assert(!vc_net_link(v.net));
	for (unsigned turn = 0; turn < 3; turn++) {
		net_user_open(&p, &u, listen, 1);
		await_link(&v, true);
		await_link(&u, true);
		net_user_send(&v, frame, 60);
		await(&u, 1);
		net_user_send(&u, frame, 60);
		await(&v, 1);
		net_user_forget(&v);
		net_user_close(&u);
		await_link(&v, false);
	}
	net_user_close(&v);
	/* without patience a peer that is not there is an error */
	snprintf(call, sizeof call, "net=socket,socket=unix:%s/s", path);
	ck_assert_int_eq(net_user_try(&p, &v, call, 2), -ENOENT);
	ck_assert_int_eq(rmdir(path), 0);
}
END_TEST

START_TEST(test_local)
{
	char path[] = "/tmp/virtcore-net-XXXXXX", one[120], two[120];
	uint8_t frame[60] = {7};

	ck_assert_ptr_nonnull(mkdtemp(path));
	snprintf(one, sizeof one, "net=socket,reconnect=1,socket=unix:%s/b,local=%s/a", path, path);
	snprintf(two, sizeof two, "net=socket,reconnect=1,socket=unix:%s/a,local=%s/b", path, path);
	net_user_open(&p, &u, one, 1);
	net_user_open(&p, &v, two, 2);
	await_link(&u, true);
	await_link(&v, true);
	net_user_send(&u, frame, 60);
	await(&v, 1);
	net_user_send(&v, frame, 60);
	await(&u, 1);
	net_user_close(&u);
	net_user_close(&v);
	ck_assert_int_eq(rmdir(path), 0);
}
END_TEST

/* Both ends come and go while the loop's thread connects, reads and disconnects them. */
START_TEST(test_comings_and_goings)
{
	char path[] = "/tmp/virtcore-net-XXXXXX", listen[80], call[80];
	uint8_t frame[60] = {1, 2, 3};

	net_loop_thread(&p);
	ck_assert_ptr_nonnull(mkdtemp(path));
	snprintf(listen, sizeof listen, "net=socket,listen=on,socket=unix:%s/s", path);
	snprintf(call, sizeof call, "net=socket,reconnect=1,socket=unix:%s/s", path);
	for (unsigned i = 0; i < 300; i++) {
		net_user_open(&p, i & 1 ? &u : &v, i & 1 ? listen : call, 1);
		net_user_open(&p, i & 1 ? &v : &u, i & 1 ? call : listen, 2);
		for (unsigned n = 0; n < i % 8; n++)
			net_user_send(n & 1 ? &u : &v, frame, 60);
		net_user_close(i & 2 ? &u : &v);
		net_user_close(i & 2 ? &v : &u);
	}
	ck_assert_int_eq(rmdir(path), 0);
}
END_TEST

START_TEST(test_properties)
{
	static const struct {
		const char *text, *names;
	} wrong[] = {
	    {"net=socket", "socket=ADDRESS"},
	    {"net=socket,socket=nowhere", "nowhere"},
	    {"net=socket,socket=tcp:127.0.0.1:99999", "99999"},
	    {"net=socket,fd=4000", "4000"},
	    {"net=socket,socket=unix:/tmp/x,local=/tmp/y,listen=on", "local"},
	    {"net=socket,socket=:1,reconnect=99999999", "reconnect"},
	};

	for (size_t i = 0; i < VC_ARRAY_SIZE(wrong); i++) {
		ck_assert_int_lt(net_user_try(&p, &u, wrong[i].text, 1), 0);
		ck_assert_msg(strstr(vcore_error_message(), wrong[i].names) != NULL, "%s", vcore_error_message());
	}
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("socket");

	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_loop_test(cases, test_pieces, 0, 5);
	tcase_add_test(cases, test_longest);
	tcase_add_loop_test(cases, test_hostile, 0, 6);
	tcase_add_test(cases, test_send);
	tcase_add_test(cases, test_slow_peer);
	tcase_add_test(cases, test_no_room);
	tcase_add_test(cases, test_datagrams);
	tcase_add_test(cases, test_call);
	tcase_add_test(cases, test_local);
	tcase_add_test(cases, test_comings_and_goings);
	tcase_add_test(cases, test_properties);
	return platform_run("net_socket", cases);
}
