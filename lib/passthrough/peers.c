/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "passthrough/peers.h"

void vc_peers_init(struct vc_peers *peers)
{
	*peers = (struct vc_peers){0};
	pthread_mutex_init(&peers->lock, NULL);
	pthread_mutex_init(&peers->list_lock, NULL);
}

void vc_peers_fini(struct vc_peers *peers)
{
	pthread_mutex_destroy(&peers->list_lock);
	pthread_mutex_destroy(&peers->lock);
}

void vc_peers_join(struct vc_peers *peers, struct vc_peer *peer)
{
	pthread_mutex_lock(&peers->lock);
	pthread_mutex_lock(&peers->list_lock);
	peer->next = peers->first;
	peers->first = peer;
	pthread_mutex_unlock(&peers->list_lock);
	peer->joined = true;
	pthread_mutex_unlock(&peers->lock);
}

/* Caller holds the lock. */
static void tell(struct vc_peers *peers, const struct vc_peer *but)
{
	atomic_fetch_add(&peers->version, 1);
	for (struct vc_peer *p = peers->first; p; p = p->next)
		if (p != but && p->changed)
			p->changed(p->ctx);
}

void vc_peers_leave(struct vc_peers *peers, struct vc_peer *peer)
{
	struct vc_peer **at = &peers->first;

	pthread_mutex_lock(&peers->lock);
	if (peer->joined) {
		pthread_mutex_lock(&peers->list_lock);
		while (*at != peer)
			at = &(*at)->next;
		*at = peer->next;
		pthread_mutex_unlock(&peers->list_lock);
		peer->joined = false;
		if (peer->count)
			tell(peers, peer);
	}
	pthread_mutex_unlock(&peers->lock);
}

void vc_peers_update(struct vc_peers *peers, struct vc_peer *peer)
{
	struct vc_peer_registers now[VC_PEER_REGISTERS_MAX];
	unsigned count, before;

	pthread_mutex_lock(&peers->lock);
	if (peer->joined) {
		count = peer->list(peer->ctx, now);
		pthread_mutex_lock(&peers->list_lock);
		before = peer->count;
		peer->count = count;
		for (unsigned i = 0; i < count; i++)
			peer->registers[i] = now[i];
		pthread_mutex_unlock(&peers->list_lock);
		if (before || count)
			tell(peers, peer);
	}
	pthread_mutex_unlock(&peers->lock);
}

int vc_peers_each(struct vc_peers *peers, const struct vc_peer *but,
                  int (*fn)(void *ctx, const char *name, const struct vc_peer_registers *registers), void *ctx)
{
	int r = 0;

	pthread_mutex_lock(&peers->list_lock);
	for (const struct vc_peer *p = peers->first; p && r >= 0; p = p->next)
		for (unsigned i = 0; p != but && r >= 0 && i < p->count; i++)
			r = fn(ctx, p->name, &p->registers[i]);
	pthread_mutex_unlock(&peers->list_lock);
	return r;
}
