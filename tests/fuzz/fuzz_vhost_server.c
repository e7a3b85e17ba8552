/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a vhost-user front-end can say to our back-end: message after message. Each is a byte for the request, one for
 * what goes beside it (bits 0-2: descriptors, bit 3: an answer is wanted), one for the length, and the payload.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/util.h"
#include "vhost/backend.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

enum { RAM = 1 << 16 };

static void check(bool truth)
{
	if (!truth)
		abort();
}

/* Made once; its loop is held, so that all happens here. */
static struct vcore_vhost_user *server(void)
{
	static struct vcore_vhost_user *s;
	int listener;
	char text[16];

	if (s)
		return s;
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	check(listener >= 0 && bind(listener, &(struct sockaddr){AF_UNIX}, sizeof(sa_family_t)) == 0 &&
	      listen(listener, 1) == 0);
	snprintf(text, sizeof text, "fd:%d", listener);
	check(vcore_vhost_user_serve("virtio-blk", "image=null:1M,queues=2,packed=on", text, NULL, &s) == 0);
	close(listener);
	vc_loop_hold(s->loop);
	return s;
}

static size_t tell(int to, const int fds[2], const uint8_t *data, size_t length)
{
	static const uint8_t kinds[8] = {0, 1, 2, 1, 2, 2, 1, 2}; /* how many descriptors */
	struct vc_vhost_message m = {.request = data[0], .flags = VC_VHOST_VERSION, .size = data[2]};

	if (m.size > length - 3)
		m.size = (uint32_t)(length - 3);
	if (data[1] & 8)
		m.flags |= VC_VHOST_NEED_REPLY;
	m.fd_count = kinds[data[1] & 7];
	for (unsigned i = 0; i < m.fd_count; i++)
		m.fds[i] = fds[data[1] & 1];
	memcpy(m.payload, data + 3, m.size);
	check(vc_vhost_send(to, &m, 0) == 0);
	return 3 + m.size;
}

static void check_answer(struct vc_vhost_message *answer)
{
	check(answer->flags == (VC_VHOST_VERSION | VC_VHOST_REPLY));
	check(answer->fd_count == (answer->request == VC_VHOST_GET_INFLIGHT_FD));
	vc_vhost_close_fds(answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct vcore_vhost_user *s = server();
	int pair[2], fds[2] = {memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING), eventfd(0, EFD_CLOEXEC)};
	struct vc_vhost_message answer;
	int r = 0;

	check(fds[0] >= 0 && ftruncate(fds[0], RAM) == 0 && fcntl(fds[0], F_ADD_SEALS, F_SEAL_SHRINK) == 0 && fds[1] >= 0);
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	s->fd = pair[0];
	while (r >= 0 && length >= 3) {
		size_t n = tell(pair[1], fds, data, length);

		data += n;
		length -= n;
		r = vc_vhost_backend_serve(s);
		if (r >= 0 && vc_vhost_receive(pair[1], &answer, 0) == 0)
			check_answer(&answer);
	}
	vc_vhost_backend_reset(s);
	check(!s->pages_log.at && !s->inflight.at && s->channel < 0);
	check(!s->region_count && !s->mem.count && !vc_virtio_status(s->v));
	close(s->fd);
	s->fd = -1;
	close(pair[1]);
	close(fds[0]);
	close(fds[1]);
	return 0;
}
