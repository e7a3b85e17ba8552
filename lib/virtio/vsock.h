/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inside the socket device (5.10): vsock.c has the queues, vsock_guest.c the protocol, vsock_host.c the unix sockets.
 *
 * What the host's sockets hold goes into the guest's buffers, and back, without a copy in between, save what a host's
 * program does not take at once: that waits in the connection's buffer, for which the guest has credit. All of it is
 * under the device's lock; the queues are only used outside of it, on their workers.
 */
#ifndef VC_VIRTIO_VSOCK_H
#define VC_VIRTIO_VSOCK_H

#include <pthread.h>
#include <sys/queue.h>
#include <sys/un.h>

#include "virtio/served.h"

enum vc_vsock_queue { VC_VSOCK_RXQ, VC_VSOCK_TXQ, VC_VSOCK_EVENTQ, VC_VSOCK_QUEUES };

enum {
	VC_VSOCK_HOST_CID = 2,
	VC_VSOCK_CONNECTIONS = 1023,
	VC_VSOCK_HELLOS = 64, /* of those: host's programs that have not said yet where to */
	VC_VSOCK_BUCKETS = 256,
	VC_VSOCK_BUFFER = 128 << 10, /* what a connection may hold for the host */
	VC_VSOCK_HELLO_MAX = 32,
	VC_VSOCK_RESETS = 64,
};

/* Types and operations of a packet (5.10.6) */
#define VC_VSOCK_STREAM 1u
enum vc_vsock_op {
	VC_VSOCK_OP_REQUEST = 1,
	VC_VSOCK_OP_RESPONSE,
	VC_VSOCK_OP_RST,
	VC_VSOCK_OP_SHUTDOWN,
	VC_VSOCK_OP_RW,
	VC_VSOCK_OP_CREDIT_UPDATE,
	VC_VSOCK_OP_CREDIT_REQUEST,
	VC_VSOCK_OPS,
};

/* Flags of VC_VSOCK_OP_SHUTDOWN: who sends it will not receive, not send any more. */
#define VC_VSOCK_NO_RECEIVE 1u
#define VC_VSOCK_NO_SEND    2u
#define VC_VSOCK_NEITHER    3u

struct vc_vsock_header {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));
_Static_assert(sizeof(struct vc_vsock_header) == 44, "5.10.6");

enum vc_vsock_conn_state {
	VC_VSOCK_HELLO,     /* the host's program has to say which port it wants */
	VC_VSOCK_REQUESTED, /* the guest has to answer */
	VC_VSOCK_CONNECTED,
	VC_VSOCK_DEAD, /* only the RST is left to be sent */
};

struct vc_vsock_conn {
	struct vc_vsock *vs;
	uint32_t slot, generation;
	enum vc_vsock_conn_state state;
	int fd;
	uint32_t host_port, guest_port;
	uint32_t events; /* watched for */
	bool watched;
	bool ready;                        /* on vs->ready: there may be something to tell the guest */
	bool readable;                     /* fd may have data */
	bool hung_up;                      /* the host's program has closed: not watched any more */
	uint8_t say;                       /* packets to be sent: bit n, the n-th of `said` */
	uint8_t host_closed, guest_closed; /* VC_VSOCK_NO_... */
	/* to the guest: bytes sent, and what it has said last */
	uint32_t sent, guest_buffer, guest_taken;
	/* to the host: bytes that came, that went on, and the number of the latter that the guest knows */
	uint32_t came, forwarded, told;
	uint8_t
	    *buffer; /* a ring of VC_VSOCK_BUFFER bytes: came - forwarded of them from `forwarded` on; made when needed */
	char hello[VC_VSOCK_HELLO_MAX];
	uint32_t hello_length;
	LIST_ENTRY(vc_vsock_conn) by_ports;
	TAILQ_ENTRY(vc_vsock_conn) order; /* of vs->ready, or of vs->hellos in state HELLO */
};

TAILQ_HEAD(vc_vsock_list, vc_vsock_conn);

/* What a packet that belongs to no connection is answered with. */
struct vc_vsock_reset {
	uint64_t cid; /* whom the guest has called */
	uint32_t host_port, guest_port;
};

struct vc_vsock {
	struct vc_env *env;
	struct vc_virtio *v;
	struct vc_kernel *kernel; /* serves the first two queues; NULL: we do, with all that follows but cid and event */
	uint64_t cid;
	struct sockaddr_un address; /* where host's programs connect to, and the prefix for the guest's */
	int listener, epoll;        /* epoll: the listener and all connections, so that the loop has one watch */
	bool bound;
	struct vc_watch *watch;
	struct vc_timer *retry; /* accepting, after the host was short of descriptors */

	pthread_mutex_t lock; /* protects all below */
	bool running;         /* the driver is there */
	bool listening;       /* the listener is in the epoll set */
	bool event;           /* the guest has to be told that its connections are gone */
	bool tx_waits;        /* for room in `resets` */
	uint32_t connections, hello_count, generation, next_port;
	struct vc_vsock_conn *slots[VC_VSOCK_CONNECTIONS];
	LIST_HEAD(, vc_vsock_conn) buckets[VC_VSOCK_BUCKETS];
	struct vc_vsock_list ready, hellos;
	struct vc_vsock_reset resets[VC_VSOCK_RESETS]; /* a ring */
	uint32_t reset_first, reset_count;
	uint64_t sent, received; /* bytes, of all connections, as the host sees it */
};

/* All of these with the lock. */

/* ---- vsock_guest.c ---- */

struct vc_vsock_conn *vc_vsock_find(struct vc_vsock *vs, uint32_t host_port, uint32_t guest_port);
/* Under its ports, from now on. */
void vc_vsock_name(struct vc_vsock_conn *conn, uint32_t host_port, uint32_t guest_port);
/* Have something told to the guest. */
void vc_vsock_say(struct vc_vsock_conn *conn, enum vc_vsock_op op);
/* There may be something to tell. */
void vc_vsock_ready(struct vc_vsock_conn *conn);
/* Close it and tell the guest so; it is freed then. */
void vc_vsock_kill(struct vc_vsock_conn *conn);
/* Bytes that the guest has room for. */
uint32_t vc_vsock_credit(const struct vc_vsock_conn *conn);
/* From the guest. */
void vc_vsock_take_packet(struct vc_vsock *vs, const struct vc_virtq_chain *chain);
bool vc_vsock_may_take(struct vc_vsock *vs);
/* To the guest: bytes written, 0 when there is nothing to say. */
uint32_t vc_vsock_give_packet(struct vc_vsock *vs, const struct vc_virtq_chain *chain);
bool vc_vsock_may_give(const struct vc_vsock *vs);

/* ---- vsock_host.c ---- */

/* For fd, which it takes over; NULL: there are too many, or no memory (fd is closed). */
struct vc_vsock_conn *vc_vsock_new(struct vc_vsock *vs, int fd, enum vc_vsock_conn_state state);
void vc_vsock_free(struct vc_vsock_conn *conn);
void vc_vsock_close(struct vc_vsock_conn *conn);
/* Watch for what matters now. */
void vc_vsock_watch(struct vc_vsock_conn *conn);
/* To the socket that stands for a port of the host; negative: there is none. */
int vc_vsock_connect(const struct vc_vsock *vs, uint32_t port);
/* Into a chain from byte `at` on, at most so many; may find the end and say so. */
uint32_t vc_vsock_read(struct vc_vsock_conn *conn, const struct vc_virtq_chain *chain, uint32_t at, uint32_t room);
/* `length` bytes of a chain from byte `at` on; there is room for what does not go at once. */
void vc_vsock_write(struct vc_vsock_conn *conn, const struct vc_virtq_chain *chain, uint32_t at, uint32_t length);
/* The guest has closed a direction: pass it on as soon as all has gone out. */
void vc_vsock_pass_shutdown(struct vc_vsock_conn *conn);
/* The guest has accepted: tell the host's program. */
void vc_vsock_welcome(struct vc_vsock_conn *conn);
int vc_vsock_listen(struct vc_vsock *vs);
void vc_vsock_set_listening(struct vc_vsock *vs, bool on);
/* Serve what is ready. */
void vc_vsock_serve(struct vc_vsock *vs);
void vc_vsock_drop_all(struct vc_vsock *vs);

#endif
