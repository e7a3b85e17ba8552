/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a vhost-user back-end can say. The first byte chooses: answers to the front-end's requests with requests of its
 * own, as a stream of bytes that ends anywhere, with descriptors beside them; or what it has left in a ring.
 */
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/util.h"
#include "feed.h"
#include "vhost/message.h"
#include "vhost/ring.h"
#include "vhost/user.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void check(bool truth)
{
	if (!truth)
		abort();
}

/* ---- messages ---- */

static void ask_all(struct vc_vhost_user *u, int fd)
{
	struct vc_vhost_region region = {0, 4096, 0x1000, 0, fd};
	struct vc_vhost_vring vring = {.size = 256, .kick = fd, .call = fd};
	uint8_t config[VC_VHOST_CONFIG_MAX];

	if (vc_vhost_user_get_config(u, config, 60) < 0 || vc_vhost_user_set_features(u, ~0ull) < 0)
		return;
	if ((u->protocol & VC_VHOST_P_MEM_SLOTS ? vc_vhost_user_add_region(u, &region)
	                                        : vc_vhost_user_set_memory(u, &region, 1)) < 0)
		return;
	if (vc_vhost_user_start_vring(u, &vring) < 0 || vc_vhost_user_enable_vring(u, 0, true) < 0 ||
	    vc_vhost_user_set_status(u, 15) < 0 || vc_vhost_user_settle(u) < 0)
		return;
	if (vc_vhost_user_set_config(u, 32, config, 1) < 0 || vc_vhost_user_stop_vring(u, 0) < 0)
		return;
	vc_vhost_user_remove_region(u, &region);
}

static void fuzz_messages(const uint8_t *data, size_t length)
{
	struct vc_vhost_user u = {.path = "fuzz", .timeout_ms = 0};
	int pair[2], own[2], fd = eventfd(0, EFD_CLOEXEC);
	size_t half = length / 2;

	check(fd >= 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0 &&
	      socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, own) == 0);
	feed(pair[1], fd, data, length);
	shutdown(pair[1], SHUT_WR);
	feed(own[1], fd, data + half, length - half);
	if (vc_vhost_user_begin(&u, pair[0]) >= 0) {
		if (u.backend_fd >= 0)
			close(u.backend_fd);
		u.backend_fd = own[0];
		ask_all(&u, fd);
		while (vc_vhost_user_serve_backend(&u) >= 0)
			;
		vc_vhost_user_close(&u);
	} else {
		check(u.fd < 0 && u.backend_fd < 0);
		close(own[0]);
	}
	close(pair[1]);
	close(own[1]);
	/* where one that was sent is not closed, there are none left soon */
	close(fd);
}

/* ---- rings ---- */

enum { RING = 16, CHAINS = 8, PIECE = 64 };

static void fuzz_ring(const uint8_t *data, size_t length)
{
	static _Alignas(4096) uint8_t memory[8192], buffer[CHAINS][2][PIECE];
	static struct vc_vhost_ring ring;
	struct vc_vhost_entry entries[2] = {
	    {.given = true},
	    {.given = true, .region = {0x10000, sizeof buffer, (uintptr_t)buffer, 0, -1}},
	};
	struct vc_vhost_table table = {entries, 2, 0};
	struct vc_virtq_chain chains[CHAINS], *chain;
	struct iovec iov[CHAINS][2];
	bool in_flight[CHAINS] = {false};
	uint32_t written, count = 0;

	check(vc_vhost_ring_bytes(RING) <= sizeof memory);
	vc_vhost_ring_init(&ring, RING, memory);
	vc_vhost_ring_restart(&ring, &table, length & 1);
	while (length > 4) {
		size_t at = vc_ld16(data) % 1024, piece = data[2];

		if (data[3] & 1)
			vc_vhost_ring_restart(&ring, &table, data[3] & 2);
		for (unsigned i = 0; i < CHAINS; i++) {
			if (in_flight[i] || !(data[3] >> 2 & 1 << i % 6))
				continue;
			iov[i][0] = (struct iovec){buffer[i][0], PIECE};
			iov[i][1] = (struct iovec){buffer[i][1], PIECE};
			chains[i] = (struct vc_virtq_chain){
			    .out = iov[i], .in = iov[i] + 1, .out_count = 1, .in_count = 1, .out_bytes = PIECE, .in_bytes = PIECE};
			in_flight[i] = vc_vhost_ring_put(&ring, &table, &chains[i]) > 0;
			count += in_flight[i];
		}
		vc_vhost_ring_show(&ring);
		data += 4;
		length -= 4;
		if (piece > length)
			piece = length;
		memcpy(memory + at, data, piece);
		data += piece;
		length -= piece;
		while (vc_vhost_ring_get(&ring, &chain, &written) > 0) {
			check(chain >= chains && chain < chains + CHAINS && in_flight[chain - chains] && written <= PIECE);
			in_flight[chain - chains] = false;
			count--;
		}
		check(count == ring.in_flight && ring.free == RING - 2 * count);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	if (length < 2)
		return 0;
	if (*data & 1)
		fuzz_ring(data + 1, length - 1);
	else
		fuzz_messages(data + 1, length - 1);
	return 0;
}
