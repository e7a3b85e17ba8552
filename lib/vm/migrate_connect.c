/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A migration's connections as the source opens them. */
#include <sys/random.h>
#include <unistd.h>

#include "core/address.h"
#include "vm/migrate.h"

static int start_connecting(const char *text)
{
	union vc_address address;
	int fd, r = vc_address_parse("migration", text, &address);

	if (r < 0)
		return r;
	fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return vc_fail_errno(errno, "migration: a socket");
	if (connect(fd, &address.any, vc_address_length(&address)) < 0 && errno != EINPROGRESS) {
		r = vc_fail_errno(errno, "migration: connecting to %s", text);
		close(fd);
		return r;
	}
	return fd;
}

/* A stream like the model, with this connection. */
static int adopt(struct vc_mig_stream *s, const struct vc_mig_stream *model, int fd)
{
	int r = vc_mig_stream_open(s, fd, 0);

	s->idle_ns = model->idle_ns;
	s->deadline = model->deadline;
	s->cancel_fd = model->cancel_fd;
	s->stop_fd = model->stop_fd;
	s->moved = model->moved;
	return r;
}

static int connect_one(const struct vcore_migrate_options *o, const struct vc_mig_stream *model,
                       struct vc_mig_stream *s)
{
	int fd = start_connecting(o->address), r;

	if (fd < 0)
		return fd;
	r = adopt(s, model, fd);
	close(fd);
	return r < 0 ? r : vc_mig_wait_connected(s);
}

static int greet(struct vc_mig_channel *c, const uint8_t *number)
{
	uint8_t hello[VC_MIG_HELLO_BYTES];

	memcpy(hello + VC_MIG_HELLO_NUMBER, number, VC_MIG_NUMBER_BYTES);
	vc_st32(hello + VC_MIG_HELLO_FEATURES, c->features);
	vc_st32(hello + VC_MIG_HELLO_COUNT, c->ways);
	vc_st32(hello + VC_MIG_HELLO_INDEX, c->index);
	return vc_mig_send(&c->stream, VC_MIG_HELLO, VC_MIG_VERSION, hello, sizeof hello);
}

uint32_t vc_mig_ways(const struct vcore_migrate_options *o)
{
	return o->address ? (o->streams ? o->streams : 1) : 1 + o->more_fd_count;
}

static uint32_t features_of(const struct vcore_migrate_options *o)
{
	return (o->flags & VCORE_MIGRATE_ZSTD ? VC_MIG_ZSTD : 0u) | (o->flags & VCORE_MIGRATE_DELTA ? VC_MIG_DELTA : 0u) |
	       (o->flags & VCORE_MIGRATE_BY_POSTCOPY ? VC_MIG_POSTCOPY : 0u);
}

/* The nth one. */
static int open_one(const struct vcore_migrate_options *o, const struct vc_mig_stream *model, uint32_t nth,
                    struct vc_mig_stream *s)
{
	return o->address ? connect_one(o, model, s) : adopt(s, model, nth ? o->more_fds[nth - 1] : o->fd);
}

int vc_mig_connect(const struct vcore_migrate_options *o, const struct vc_mig_stream *model, uint8_t *number,
                   struct vc_mig_channel *channel, uint32_t *count)
{
	uint32_t ways = vc_mig_ways(o);
	int r = 0;

	if (getrandom(number, VC_MIG_NUMBER_BYTES, 0) != VC_MIG_NUMBER_BYTES)
		return vc_fail_errno(errno, "migration: random bytes");
	for (uint32_t i = 0; r >= 0 && i < ways; i++) {
		struct vc_mig_channel *c = &channel[i];

		c->index = i;
		c->ways = ways;
		c->features = features_of(o);
		c->bandwidth = o->bandwidth / ways + (o->bandwidth % ways != 0);
		*count = i + 1;
		r = open_one(o, model, i, &c->stream);
		if (r >= 0)
			r = greet(c, number);
	}
	return r;
}

int vc_mig_connect_again(const struct vcore_migrate_options *o, const struct vc_mig_stream *model,
                         const uint8_t *number, struct vc_mig_stream *stream)
{
	int r = open_one(o, model, 0, stream);

	return r < 0 ? r : vc_mig_send(stream, VC_MIG_RECOVER, VC_MIG_VERSION, number, VC_MIG_NUMBER_BYTES);
}
