/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The metadata service: a store of JSON that the host fills by the API (api_mmds.c), and the guest reads by HTTP
 * (mmds_http.c) over a network card of its own, where frames for the service are taken out (mmds_net.c, mmds_tcp.c).
 */
#ifndef MICROVM_API_MMDS_H
#define MICROVM_API_MMDS_H

#include <json.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MMDS_LINKS_MAX 24

struct mmds_link;

struct mmds {
	pthread_mutex_t lock;      /* protects all but links, which only the API's calls touch */
	struct json_object *store; /* NULL: nothing was put there */
	bool v2, imds;
	uint8_t key[32]; /* of tokens */
	struct mmds_link *links[MMDS_LINKS_MAX];
	unsigned link_count;
	char error[128];
};

/* Does that configuration have the service on that interface? */
bool mmds_serves(struct json_object *config, const char *iface);
/*
 * The guest's end of a network card whose other end is the tap interface, with the service in between. Belongs to the
 * service; -1: mmds_error() has the sentence.
 */
int mmds_net_open(struct mmds *mmds, struct json_object *config, const char *tap);
const char *mmds_error(const struct mmds *mmds);
/* All of them. Returns once their threads are gone. */
void mmds_net_close(struct mmds *mmds);

/* ---- mmds_http.c ---- */

enum {
	MMDS_REQUEST_MAX = 4096,
	MMDS_ANSWER_MAX = 65536,
};

/* Is the request whole? Bytes that it has; 0: more is to come; -1: it never will be. */
long mmds_request_length(const char *text, size_t length);
/* The answer to it; how long it is. `text` ends with a zero byte, which does not count. */
size_t mmds_answer(struct mmds *mmds, char *text, char out[MMDS_ANSWER_MAX]);

/* ---- mmds_tcp.c: ARP, and TCP that answers only ---- */

#define MMDS_CONNECTIONS 16

struct mmds_connection {
	bool used, peer_closed;
	uint8_t mac[6];
	uint32_t peer;
	uint16_t port, mss;
	/* Sequence numbers: what comes next of the peer; ours of out[0], of what is sent next, and the first that was not
	 * acknowledged. Behind `out` is a FIN. */
	uint32_t received, first, next, acknowledged;
	uint32_t window;
	uint64_t heard_ms, sent_ms;
	size_t in_length, out_length;
	char in[MMDS_REQUEST_MAX + 1];
	char *out; /* NULL: nothing is answered yet */
};

struct mmds_tcp {
	struct mmds *mmds;
	uint32_t address;
	void (*send)(void *ctx, const void *frame, size_t length);
	void *ctx;
	struct mmds_connection connections[MMDS_CONNECTIONS];
};

/* A frame of the guest's; false: it is not for the service. */
bool mmds_tcp_take(struct mmds_tcp *tcp, const uint8_t *frame, size_t length, uint64_t now_ms);
/* Sends again what has not been acknowledged. How many milliseconds until the next time; -1: nothing waits. */
int mmds_tcp_tick(struct mmds_tcp *tcp, uint64_t now_ms);
void mmds_tcp_free(struct mmds_tcp *tcp);

#endif
