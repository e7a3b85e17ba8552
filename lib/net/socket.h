/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How the backing "socket" comes to a connection: socket_link.c. */
#ifndef VC_NET_SOCKET_H
#define VC_NET_SOCKET_H

#include "core/address.h"
#include "net/net_priv.h"

/*
 * All but open and close happens in callbacks of the loop. They come and go with connections, so that close has nothing
 * to wait for: each takes a turn, and there is none once it closes.
 */
struct vc_link_socket {
	pthread_mutex_t turn; /* held by open and by each callback as a whole; protects all below. The first of all locks */
	bool closing;
	struct vc_env *env;
	void (*connected)(void *ctx, int fd, bool datagrams);
	void *ctx;
	union vc_address address, local;
	bool listens, datagrams, given, bound;
	int fd;                 /* it listens, or a connection is under way; -1: neither */
	struct vc_watch *watch; /* of that */
	struct vc_timer *timer; /* until the next attempt */
	uint64_t again_ns;      /* 0: there is no next attempt */
};

/*
 * Properties socket, listen, local, fd, reconnect. connected: called with each connection that comes about, which is
 * the callee's, also before this returns; then not again before vc_link_socket_lost().
 */
int vc_link_socket_open(struct vc_env *env, struct vc_props *props,
                        void (*connected)(void *ctx, int fd, bool datagrams), void *ctx, struct vc_link_socket *link);
/* The beginning and the end of a callback; false: do nothing. */
bool vc_link_socket_enter(struct vc_link_socket *link);
void vc_link_socket_leave(struct vc_link_socket *link);
/* With the turn. */
void vc_link_socket_lost(struct vc_link_socket *link);
/* No turn from here on. */
void vc_link_socket_end(struct vc_link_socket *link);
/* After that; also when open failed. */
void vc_link_socket_close(struct vc_link_socket *link);

#endif
