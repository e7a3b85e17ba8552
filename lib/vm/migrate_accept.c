/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A migration's connections as the destination takes them. */
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "config.h"
#include "core/error.h"
#include "core/util.h"
#include "vm/migrate_receive.h"

#ifdef VC_HAVE_ZSTD
#define HAS_ZSTD VC_MIG_ZSTD
#else
#define HAS_ZSTD 0u
#endif

#define FEATURES (HAS_ZSTD | VC_MIG_DELTA | VC_MIG_POSTCOPY)

/* ---- sockets ---- */

int vc_mig_listen(const char *text, union vc_address *address)
{
	int r = vc_address_parse("migration", text, address);

	if (r < 0)
		return r;
	vc_address_unlisten_stale(address);
	return vc_address_listen("a migration", address, VC_MIG_STREAMS);
}

static int listen_at(struct vc_mig_receiving *m)
{
	m->listener = vc_mig_listen(m->o.address, &m->address);
	return m->listener < 0 ? m->listener : 0;
}

int vc_mig_accept_one(int listener, uint32_t wait_ms, int cancel_fd)
{
	struct pollfd fds[] = {{listener, POLLIN, 0}, {cancel_fd, POLLIN, 0}};
	int n = poll(fds, VC_ARRAY_SIZE(fds), wait_ms ? (int)(wait_ms > INT32_MAX ? INT32_MAX : wait_ms) : -1), r;

	if (n < 0)
		return vc_fail_errno(errno, "migration: waiting for a connection");
	if (n == 0)
		return vc_fail(ETIMEDOUT, "migration: nobody has connected for %u ms", wait_ms);
	if (fds[1].revents)
		return vc_fail(ECANCELED, "the migration was cancelled");
	r = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	return r < 0 ? vc_fail_errno(errno, "migration: taking a connection") : r;
}

static int open_stream(struct vc_mig_receiving *m, uint32_t nth, struct vc_mig_stream *s)
{
	uint32_t patience = m->o.timeout_ms ? m->o.timeout_ms : VC_MIG_TIMEOUT_MS;
	int fd, r;

	if (!m->o.address)
		return vc_mig_stream_open(s, nth ? m->o.more_fds[nth - 1] : m->o.fd, m->o.timeout_ms);
	fd = vc_mig_accept_one(m->listener, nth ? patience : m->o.wait_ms, -1);
	if (fd < 0)
		return fd;
	r = vc_mig_stream_open(s, fd, m->o.timeout_ms);
	close(fd);
	return r;
}

/* ---- greetings ---- */

static int check_features(uint32_t features)
{
	if (features & VC_MIG_ZSTD & ~FEATURES)
		return vc_fail(ENOTSUP,
		               "migration: pages come compressed with zstd, which this build of libvirtcore does not have");
	if (features & ~FEATURES)
		return vc_fail(ENOTSUP, "migration: the source makes use of features %#x: expected none but %#x", features,
		               FEATURES);
	return 0;
}

/* What the first one says holds for all. */
static int check_hello(struct vc_mig_receiving *m, const uint8_t *hello, uint32_t nth)
{
	uint32_t features = vc_ld32(hello + VC_MIG_HELLO_FEATURES), count = vc_ld32(hello + VC_MIG_HELLO_COUNT);
	int r = check_features(features);

	if (r < 0)
		return r;
	if (!count || count > VC_MIG_STREAMS || (!m->o.address && count != m->o.more_fd_count + 1))
		return vc_fail(EPROTO, "migration: %u connections: expected %s %u", count, m->o.address ? "at most" : "exactly",
		               m->o.address ? VC_MIG_STREAMS : m->o.more_fd_count + 1);
	if (!nth) {
		m->inlets = count;
		m->features = features;
		memcpy(m->number, hello + VC_MIG_HELLO_NUMBER, sizeof m->number);
	}
	if (count != m->inlets || features != m->features ||
	    memcmp(m->number, hello + VC_MIG_HELLO_NUMBER, sizeof m->number) != 0)
		return vc_fail(EPROTO, "migration: a connection that is not of the same migration as the one before");
	return 0;
}

/* The greeting says which place a connection has. */
static int take_hello(struct vc_mig_receiving *m, uint32_t nth, struct vc_mig_stream *s)
{
	struct vc_mig_frame f;
	uint32_t index;
	int r;

	s->takes = VC_MIG_TAKES_HELLO;
	r = vc_mig_receive(s, &f);
	if (r < 0)
		return r;
	if (f.argument != VC_MIG_VERSION || f.length < VC_MIG_HELLO_BYTES)
		r = vc_fail(EPROTO, "migration: a greeting of version %u (%u bytes): expected version %u", f.argument, f.length,
		            VC_MIG_VERSION);
	else
		r = check_hello(m, f.payload, nth);
	index = r < 0 ? 0 : vc_ld32(f.payload + VC_MIG_HELLO_INDEX);
	free(f.payload);
	if (r >= 0 && (index >= m->inlets || m->inlet[index].stream.fd >= 0))
		r = vc_fail(EPROTO, "migration: connection %u of %u, or it is there already", index, m->inlets);
	if (r < 0)
		return r;
	s->takes = index ? VC_MIG_TAKES_MEMORY : VC_MIG_TAKES_ALL;
	s->stop_fd = m->crew.stop_fd;
	s->moved = &m->crew.moved;
	m->inlet[index].stream = *s;
	return 0;
}

static int take_connection(struct vc_mig_receiving *m, uint32_t nth)
{
	struct vc_mig_stream s = {.fd = -1};
	int r = open_stream(m, nth, &s);

	if (r >= 0)
		r = take_hello(m, nth, &s);
	if (r < 0) {
		vc_mig_tell_failure(&s);
		vc_mig_stream_shutdown(&s);
		vc_mig_stream_close(&s);
	}
	return r;
}

int vc_mig_accept(struct vc_mig_receiving *m)
{
	int r = m->o.address ? listen_at(m) : 0;

	/* how many there are is known with the first one */
	m->inlets = 1;
	for (uint32_t i = 0; r >= 0 && i < m->inlets; i++)
		r = take_connection(m, i);
	if (r >= 0)
		vc_mig_accept_end(m);
	return r;
}

void vc_mig_accept_end(struct vc_mig_receiving *m)
{
	if (m->listener < 0)
		return;
	close(m->listener);
	vc_address_unlisten(&m->address);
	m->listener = -1;
}
