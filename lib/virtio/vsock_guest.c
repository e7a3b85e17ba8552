/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The socket device's protocol (5.10.6): packets from the guest and to it, credit. */
#include <stdlib.h>

#include "core/util.h"
#include "virtio/vsock.h"

/* What a connection can have to say, the most urgent first. Data comes behind the first SAID_FIRST. */
static const uint8_t said[] = {
    VC_VSOCK_OP_RST,      VC_VSOCK_OP_REQUEST,       VC_VSOCK_OP_RESPONSE,
    VC_VSOCK_OP_SHUTDOWN, VC_VSOCK_OP_CREDIT_UPDATE, VC_VSOCK_OP_CREDIT_REQUEST,
};
enum { SAID_FIRST = 3 };

static uint8_t said_bit(enum vc_vsock_op op)
{
	uint8_t n = 0;

	while (said[n] != op)
		n++;
	return (uint8_t)(1u << n);
}

/* ---- the table ---- */

static uint32_t bucket(uint32_t host_port, uint32_t guest_port)
{
	return (host_port * 31 + guest_port) % VC_VSOCK_BUCKETS;
}

struct vc_vsock_conn *vc_vsock_find(struct vc_vsock *vs, uint32_t host_port, uint32_t guest_port)
{
	struct vc_vsock_conn *conn;

	for (conn = LIST_FIRST(&vs->buckets[bucket(host_port, guest_port)]); conn; conn = LIST_NEXT(conn, by_ports))
		if (conn->host_port == host_port && conn->guest_port == guest_port)
			break;
	return conn;
}

void vc_vsock_name(struct vc_vsock_conn *conn, uint32_t host_port, uint32_t guest_port)
{
	conn->host_port = host_port;
	conn->guest_port = guest_port;
	LIST_INSERT_HEAD(&conn->vs->buckets[bucket(host_port, guest_port)], conn, by_ports);
}

void vc_vsock_ready(struct vc_vsock_conn *conn)
{
	if (!conn->ready)
		TAILQ_INSERT_TAIL(&conn->vs->ready, conn, order);
	conn->ready = true;
	vc_virtio_wake(conn->vs->v, VC_VSOCK_RXQ);
}

void vc_vsock_say(struct vc_vsock_conn *conn, enum vc_vsock_op op)
{
	conn->say |= said_bit(op);
	vc_vsock_ready(conn);
}

void vc_vsock_kill(struct vc_vsock_conn *conn)
{
	vc_vsock_close(conn);
	conn->state = VC_VSOCK_DEAD;
	conn->readable = false;
	conn->say = 0;
	vc_vsock_say(conn, VC_VSOCK_OP_RST);
}

uint32_t vc_vsock_credit(const struct vc_vsock_conn *conn)
{
	uint32_t on_the_way = conn->sent - conn->guest_taken;

	return on_the_way < conn->guest_buffer ? conn->guest_buffer - on_the_way : 0;
}

/* ---- from the guest ---- */

static void refuse(struct vc_vsock *vs, const struct vc_vsock_header *h)
{
	uint32_t at = (vs->reset_first + vs->reset_count++) % VC_VSOCK_RESETS;

	vs->resets[at] = (struct vc_vsock_reset){h->dst_cid, h->dst_port, h->src_port};
	vc_virtio_wake(vs->v, VC_VSOCK_RXQ);
}

/* A packet makes one answer at most that needs room. */
bool vc_vsock_may_take(struct vc_vsock *vs)
{
	vs->tx_waits = vs->reset_count == VC_VSOCK_RESETS;
	return !vs->tx_waits;
}

static void take_credit(struct vc_vsock_conn *conn, const struct vc_vsock_header *h)
{
	conn->guest_buffer = h->buf_alloc;
	conn->guest_taken = h->fwd_cnt;
	if (conn->readable)
		vc_vsock_ready(conn);
}

static void take_request(struct vc_vsock *vs, const struct vc_vsock_header *h)
{
	int fd = vc_vsock_connect(vs, h->dst_port);
	struct vc_vsock_conn *conn = fd < 0 ? NULL : vc_vsock_new(vs, fd, VC_VSOCK_CONNECTED);

	if (!conn) {
		refuse(vs, h);
		return;
	}
	vc_vsock_name(conn, h->dst_port, h->src_port);
	take_credit(conn, h);
	vc_vsock_say(conn, VC_VSOCK_OP_RESPONSE);
	vc_vsock_watch(conn);
}

static void take_response(struct vc_vsock_conn *conn, const struct vc_vsock_header *h,
                          const struct vc_virtq_chain *chain)
{
	if (conn->state == VC_VSOCK_REQUESTED)
		vc_vsock_welcome(conn);
	else
		vc_vsock_kill(conn);
}

static void take_shutdown(struct vc_vsock_conn *conn, const struct vc_vsock_header *h,
                          const struct vc_virtq_chain *chain)
{
	conn->guest_closed |= (uint8_t)(h->flags & VC_VSOCK_NEITHER);
	vc_vsock_pass_shutdown(conn);
}

/* More than it has credit for, or after it said there would be no more: such a guest is cut off. */
static void take_data(struct vc_vsock_conn *conn, const struct vc_vsock_header *h, const struct vc_virtq_chain *chain)
{
	if (conn->state != VC_VSOCK_CONNECTED || (conn->guest_closed & VC_VSOCK_NO_SEND) ||
	    h->len > chain->out_bytes - sizeof *h || h->len > VC_VSOCK_BUFFER - (conn->came - conn->forwarded))
		vc_vsock_kill(conn);
	else
		vc_vsock_write(conn, chain, sizeof *h, h->len);
}

static void take_credit_update(struct vc_vsock_conn *conn, const struct vc_vsock_header *h,
                               const struct vc_virtq_chain *chain)
{
}

static void take_credit_request(struct vc_vsock_conn *conn, const struct vc_vsock_header *h,
                                const struct vc_virtq_chain *chain)
{
	vc_vsock_say(conn, VC_VSOCK_OP_CREDIT_UPDATE);
}

/* For connections that are there; a second request is as wrong as an operation that nobody knows. */
static void (*const takers[VC_VSOCK_OPS])(struct vc_vsock_conn *conn, const struct vc_vsock_header *h,
                                          const struct vc_virtq_chain *chain) = {
    [VC_VSOCK_OP_RESPONSE] = take_response,
    [VC_VSOCK_OP_SHUTDOWN] = take_shutdown,
    [VC_VSOCK_OP_RW] = take_data,
    [VC_VSOCK_OP_CREDIT_UPDATE] = take_credit_update,
    [VC_VSOCK_OP_CREDIT_REQUEST] = take_credit_request,
};

static void take_known(struct vc_vsock_conn *conn, const struct vc_vsock_header *h, const struct vc_virtq_chain *chain)
{
	if (h->op == VC_VSOCK_OP_RST) {
		vc_vsock_free(conn);
	} else if (conn->state == VC_VSOCK_DEAD) {
		return; /* the RST is on its way */
	} else if (h->op >= VC_VSOCK_OPS || !takers[h->op]) {
		vc_vsock_kill(conn);
	} else {
		take_credit(conn, h);
		takers[h->op](conn, h, chain);
		if (conn->state != VC_VSOCK_DEAD)
			vc_vsock_watch(conn);
	}
}

/* What is too short for a header, or claims to come from somebody else, has nobody to answer to. */
void vc_vsock_take_packet(struct vc_vsock *vs, const struct vc_virtq_chain *chain)
{
	struct vc_vsock_conn *conn = NULL;
	struct vc_vsock_header h;

	if (vc_iov_to_buffer(chain->out, chain->out_count, 0, &h, sizeof h) < sizeof h || h.src_cid != vs->cid)
		return;
	if (h.dst_cid == VC_VSOCK_HOST_CID && h.type == VC_VSOCK_STREAM) {
		conn = vc_vsock_find(vs, h.dst_port, h.src_port);
		if (!conn && h.op == VC_VSOCK_OP_REQUEST) {
			take_request(vs, &h);
			return;
		}
	}
	if (conn)
		take_known(conn, &h, chain);
	else if (h.op != VC_VSOCK_OP_RST)
		refuse(vs, &h);
}

/* ---- to the guest ---- */

bool vc_vsock_may_give(const struct vc_vsock *vs)
{
	return vs->reset_count || !TAILQ_EMPTY(&vs->ready);
}

static uint32_t give_reset(struct vc_vsock *vs, const struct vc_virtq_chain *chain)
{
	const struct vc_vsock_reset *reset = &vs->resets[vs->reset_first];
	struct vc_vsock_header h = {.src_cid = reset->cid,
	                            .dst_cid = vs->cid,
	                            .src_port = reset->host_port,
	                            .dst_port = reset->guest_port,
	                            .type = VC_VSOCK_STREAM,
	                            .op = VC_VSOCK_OP_RST};

	vs->reset_first = (vs->reset_first + 1) % VC_VSOCK_RESETS;
	vs->reset_count--;
	if (vs->tx_waits)
		vc_virtio_wake(vs->v, VC_VSOCK_TXQ);
	return (uint32_t)vc_iov_from_buffer(chain->in, chain->in_count, 0, &h, sizeof h);
}

/* Header of what is said of a connection; the guest learns our credit with each. */
static void write_header(struct vc_vsock_conn *conn, enum vc_vsock_op op, uint32_t length,
                         const struct vc_virtq_chain *chain)
{
	struct vc_vsock_header h = {.src_cid = VC_VSOCK_HOST_CID,
	                            .dst_cid = conn->vs->cid,
	                            .src_port = conn->host_port,
	                            .dst_port = conn->guest_port,
	                            .len = length,
	                            .type = VC_VSOCK_STREAM,
	                            .op = (uint16_t)op,
	                            .flags = op == VC_VSOCK_OP_SHUTDOWN ? conn->host_closed : 0,
	                            .buf_alloc = VC_VSOCK_BUFFER,
	                            .fwd_cnt = conn->forwarded};

	vc_iov_from_buffer(chain->in, chain->in_count, 0, &h, sizeof h);
	conn->told = conn->forwarded;
	conn->say &= (uint8_t)~said_bit(VC_VSOCK_OP_CREDIT_UPDATE);
}

static uint32_t give_said(struct vc_vsock_conn *conn, uint8_t bits, const struct vc_virtq_chain *chain)
{
	unsigned n = (unsigned)__builtin_ctz(bits);

	conn->say &= (uint8_t) ~(1u << n);
	write_header(conn, said[n], 0, chain);
	if (said[n] == VC_VSOCK_OP_RST)
		vc_vsock_free(conn);
	return sizeof(struct vc_vsock_header);
}

/* Data, as long as there is credit; without it the guest is asked, once, when it runs out. */
static uint32_t give_data(struct vc_vsock_conn *conn, const struct vc_virtq_chain *chain)
{
	uint32_t credit = vc_vsock_credit(conn), room = chain->in_bytes - (uint32_t)sizeof(struct vc_vsock_header), n;

	if (!credit)
		return 0;
	n = vc_vsock_read(conn, chain, sizeof(struct vc_vsock_header), room < credit ? room : credit);
	if (!n)
		return 0;
	conn->sent += n;
	conn->vs->received += n;
	write_header(conn, VC_VSOCK_OP_RW, n, chain);
	if (n == credit)
		conn->say |= said_bit(VC_VSOCK_OP_CREDIT_REQUEST);
	return (uint32_t)sizeof(struct vc_vsock_header) + n;
}

static uint32_t give_of(struct vc_vsock_conn *conn, const struct vc_virtq_chain *chain)
{
	uint8_t first = conn->say & ((1u << SAID_FIRST) - 1);
	uint32_t n = 0;

	if (first)
		return give_said(conn, first, chain);
	if (conn->readable && conn->state == VC_VSOCK_CONNECTED)
		n = give_data(conn, chain);
	return n || !conn->say ? n : give_said(conn, conn->say, chain);
}

/* The connections take turns. */
uint32_t vc_vsock_give_packet(struct vc_vsock *vs, const struct vc_virtq_chain *chain)
{
	struct vc_vsock_conn *conn;

	if (vs->reset_count)
		return give_reset(vs, chain);
	while ((conn = TAILQ_FIRST(&vs->ready))) {
		bool last = conn->state == VC_VSOCK_DEAD;
		uint32_t n;

		TAILQ_REMOVE(&vs->ready, conn, order);
		conn->ready = false;
		n = give_of(conn, chain);
		if (n && !last)
			vc_vsock_ready(conn);
		if (n)
			return n;
		vc_vsock_watch(conn);
	}
	return 0;
}
