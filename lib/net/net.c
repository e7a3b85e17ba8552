/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all backings share: checks, work done in software, counters, the link, capture. */
#include <stdio.h>
#include <stdlib.h>

#include "net/net_priv.h"

/* ---- counters ---- */

/* One writer at a time: no need for an atomic addition. */
static void add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

static void count_frames(struct vc_net_count *count, const struct vc_net_frame *frames, unsigned n)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++)
		bytes += frames[i].length;
	add(&count->frames, n);
	add(&count->bytes, bytes);
}

static void sum_up(const struct vc_net_count *count, uint64_t *frames, uint64_t *bytes, uint64_t *dropped)
{
	*frames += atomic_load_explicit(&count->frames, memory_order_relaxed);
	*bytes += atomic_load_explicit(&count->bytes, memory_order_relaxed);
	*dropped += atomic_load_explicit(&count->dropped, memory_order_relaxed);
}

void vc_net_get_counters(const struct vc_net *net, struct vc_net_counters *c)
{
	*c = (struct vc_net_counters){0};
	for (uint32_t i = 0; i < net->user.queues; i++) {
		sum_up(&net->queues[i].tx, &c->tx_frames, &c->tx_bytes, &c->tx_dropped);
		sum_up(&net->queues[i].rx, &c->rx_frames, &c->rx_bytes, &c->rx_dropped);
	}
}

/* ---- frames ---- */

static bool scratch_ready(uint8_t **scratch)
{
	if (!*scratch)
		*scratch = malloc(VC_NET_FRAME_MAX);
	return *scratch;
}

/* How many of the first frames may go as they are. */
static unsigned run_length(const struct vc_net_frame *frames, unsigned count, uint32_t can_take)
{
	unsigned n = 0;

	while (n < count && vc_net_passes(&frames[n].hdr, can_take) && vc_net_hdr_valid(&frames[n]))
		n++;
	return n;
}

/* How many are done with. */
static unsigned send_run(struct vc_net_queue *q, const struct vc_net_frame *frames, unsigned count, bool may_hold)
{
	struct vc_net *net = q->net;
	unsigned queue = (unsigned)(q - net->queues);

	if (net->ops->offer)
		count = net->ops->offer(net->ctx, queue, frames, count, may_hold);
	else
		add(&q->tx.dropped, net->ops->send(net->ctx, queue, frames, count));
	count_frames(&q->tx, frames, count);
	if (net->pcap && count)
		vc_pcap_write(net->pcap, frames, count);
	return count;
}

/* A part of a frame is not sent again. */
static void send_plain(void *ctx, const struct vc_net_frame *plain)
{
	send_run(ctx, plain, 1, false);
}

unsigned vc_net_send(struct vc_net *net, unsigned queue, const struct vc_net_frame *frames, unsigned count)
{
	struct vc_net_queue *q = &net->queues[queue];
	unsigned done = 0;

	if (!vc_net_link(net)) {
		add(&q->tx.dropped, count);
		return count;
	}
	while (done < count) {
		unsigned n = run_length(frames + done, count - done, net->native), sent = 1;

		if (n)
			sent = send_run(q, frames + done, n, net->user.sendable != NULL);
		else if (!scratch_ready(&q->tx_scratch) ||
		         !vc_net_plain(frames + done, net->native, q->tx_scratch, send_plain, q))
			add(&q->tx.dropped, 1);
		done += sent;
		if (sent < n)
			break;
	}
	if (net->ops->flush)
		net->ops->flush(net->ctx, queue);
	return done;
}

static unsigned receive_run(struct vc_net_queue *q, const struct vc_net_frame *frames, unsigned count)
{
	struct vc_net *net = q->net;
	unsigned taken = net->user.receive(net->user.ctx, (unsigned)(q - net->queues), frames, count);

	count_frames(&q->rx, frames, taken);
	if (net->pcap && taken)
		vc_pcap_write(net->pcap, frames, taken);
	return taken;
}

/* The segments of one frame. */
struct segments {
	struct vc_net_queue *q;
	unsigned given;
	bool refused; /* there was no room for the first: none has gone yet */
};

/* When only some fit the rest is lost, as part of a burst is on a wire. */
static void receive_segment(void *ctx, const struct vc_net_frame *plain)
{
	struct segments *s = ctx;

	if (s->refused)
		return;
	if (receive_run(s->q, plain, 1))
		s->given++;
	else if (s->given)
		add(&s->q->rx.dropped, 1);
	else
		s->refused = true;
}

/* False: there is no room. */
static bool receive_plain(struct vc_net_queue *q, const struct vc_net_frame *frame, uint32_t can_take)
{
	struct segments s = {.q = q};

	if (!scratch_ready(&q->rx_scratch) || !vc_net_plain(frame, can_take, q->rx_scratch, receive_segment, &s))
		add(&q->rx.dropped, 1);
	return !s.refused;
}

static unsigned receive_some(struct vc_net_queue *q, const struct vc_net_frame *frames, unsigned count)
{
	uint32_t can_take = atomic_load_explicit(&q->net->offloads, memory_order_relaxed);
	unsigned done = 0;

	while (done < count) {
		unsigned n = run_length(frames + done, count - done, can_take), taken;

		if (n) {
			taken = receive_run(q, frames + done, n);
			done += taken;
			if (taken < n)
				break;
		} else {
			if (!receive_plain(q, frames + done, can_take))
				break;
			done++;
		}
	}
	return done;
}

/* Under q->receiving. */
static unsigned deliver(struct vc_net_queue *q, const struct vc_net_frame *frames, unsigned count, bool keep)
{
	unsigned done;

	if (!atomic_load_explicit(&q->net->running, memory_order_relaxed) || !vc_net_link(q->net)) {
		add(&q->rx.dropped, count);
		return count;
	}
	done = receive_some(q, frames, count);
	if (done < count && keep) {
		atomic_store(&q->waiting, true);
		/* room may have come since: then nobody would tell */
		return done + receive_some(q, frames + done, count - done);
	}
	add(&q->rx.dropped, count - done);
	return count;
}

unsigned vc_net_deliver(struct vc_net *net, unsigned queue, const struct vc_net_frame *frames, unsigned count,
                        bool keep)
{
	struct vc_net_queue *q = &net->queues[queue];
	unsigned done;

	pthread_mutex_lock(&q->receiving);
	done = deliver(q, frames, count, keep);
	pthread_mutex_unlock(&q->receiving);
	return done;
}

static void resume(void *ctx)
{
	struct vc_net_queue *q = ctx;
	struct vc_net *net = q->net;

	net->ops->resume(net->ctx, (unsigned)(q - net->queues));
}

void vc_net_room(struct vc_net *net, unsigned queue)
{
	struct vc_net_queue *q = &net->queues[queue];

	if (!atomic_load_explicit(&q->waiting, memory_order_relaxed) || !atomic_exchange(&q->waiting, false))
		return;
	if (vc_loop_post(net->env->loop, resume, q) < 0)
		atomic_store(&q->waiting, true); /* out of memory: the next call tries again */
}

/* ---- link, offloads, filter ---- */

bool vc_net_link(const struct vc_net *net)
{
	return atomic_load_explicit(&net->cable, memory_order_relaxed) &&
	       atomic_load_explicit(&net->carrier, memory_order_relaxed);
}

static void change_link(struct vc_net *net, _Atomic bool *part, bool up)
{
	if (atomic_exchange(part, up) != up && net->user.link)
		net->user.link(net->user.ctx, vc_net_link(net));
}

void vc_net_set_link(struct vc_net *net, bool up)
{
	change_link(net, &net->cable, up);
}

void vc_net_set_carrier(struct vc_net *net, bool up)
{
	change_link(net, &net->carrier, up);
}

void vc_net_set_offloads(struct vc_net *net, uint32_t offloads)
{
	atomic_store(&net->offloads, offloads);
	if (net->ops->set_offloads)
		net->ops->set_offloads(net->ctx, offloads);
}

uint32_t vc_net_offloads(const struct vc_net *net)
{
	return VC_NET_OFFLOADS_ALL;
}

uint32_t vc_net_max_queues(const struct vc_net *net)
{
	return net->rx_queues;
}

void vc_net_set_filter(struct vc_net *net, bool promiscuous, bool all_multicast, const uint8_t (*macs)[6],
                       unsigned count)
{
	if (net->ops->set_filter)
		net->ops->set_filter(net->ctx, promiscuous, all_multicast, macs, count);
}

/* ---- lending ---- */

int vc_net_descriptors(struct vc_net *net, int *fds, bool *has_header, uint32_t *native)
{
	if (!net->ops->descriptors)
		return vc_fail(ENOTSUP, "net=%s: the kernel's vhost takes the frames of a tap alone", net->kind->name);
	if (net->pcap)
		return vc_fail(ENOTSUP, "property pcap: frames that the kernel's vhost passes cannot be captured");
	*has_header = net->ops->descriptors(net->ctx, fds);
	*native = net->native;
	return 0;
}

int vc_net_lend(struct vc_net *net)
{
	return net->ops->lend(net->ctx);
}

void vc_net_use_queues(struct vc_net *net, unsigned count)
{
	if (net->ops->use_queues)
		net->ops->use_queues(net->ctx, count);
}

/* ---- birth, life, death ---- */

static const struct vc_net_kind *find_kind(const char *name)
{
	char known[128] = "";
	size_t used = 0;

	for (unsigned i = 0; vc_net_kinds[i]; i++) {
		if (!strcmp(vc_net_kinds[i]->name, name))
			return vc_net_kinds[i];
		used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", vc_net_kinds[i]->name);
	}
	vc_fail(EINVAL, "property net is \"%.40s\": expected one of %s", name, known);
	return NULL;
}

/* Takes all down but what the kind has made. */
static void release(struct vc_net *net)
{
	for (uint32_t i = 0; i < net->user.queues; i++) {
		pthread_mutex_destroy(&net->queues[i].receiving);
		free(net->queues[i].tx_scratch);
		free(net->queues[i].rx_scratch);
	}
	vc_pcap_close(net->pcap);
	free(net);
}

int vc_net_open(struct vc_env *env, struct vc_props *props, const struct vc_net_user *user, struct vc_net **out)
{
	const struct vc_net_kind *kind = find_kind(vc_props_string(props, "net", "none"));
	const char *pcap = vc_props_string(props, "pcap", NULL);
	struct vc_net *net;
	int r = 0;

	if (!kind)
		return -EINVAL;
	net = calloc(1, sizeof *net + user->queues * sizeof net->queues[0]);
	if (!net)
		return vc_fail(ENOMEM, "no memory for a network backing");
	net->env = env;
	net->user = *user;
	net->kind = kind;
	net->rx_queues = 1;
	atomic_init(&net->carrier, true);
	atomic_init(&net->cable, true);
	for (uint32_t i = 0; i < user->queues; i++) {
		net->queues[i].net = net;
		pthread_mutex_init(&net->queues[i].receiving, NULL);
	}
	if (pcap)
		r = vc_pcap_open(pcap, &net->pcap);
	if (r >= 0)
		r = kind->open(env, props, net);
	if (r < 0) {
		release(net);
		return r;
	}
	*out = net;
	return 0;
}

static void set_running(struct vc_net *net, bool running)
{
	for (uint32_t i = 0; i < net->user.queues; i++)
		pthread_mutex_lock(&net->queues[i].receiving);
	atomic_store(&net->running, running);
	for (uint32_t i = 0; i < net->user.queues; i++)
		pthread_mutex_unlock(&net->queues[i].receiving);
}

void vc_net_start(struct vc_net *net)
{
	set_running(net, true);
}

void vc_net_stop(struct vc_net *net)
{
	set_running(net, false);
	/* what is kept back is dropped by those who keep it */
	for (uint32_t i = 0; i < net->user.queues; i++)
		vc_net_room(net, i);
}

void vc_net_close(struct vc_net *net)
{
	if (!net)
		return;
	set_running(net, false);
	for (uint32_t i = 0; i < net->user.queues; i++)
		vc_loop_cancel_post(net->env->loop, resume, &net->queues[i]);
	net->ops->close(net->ctx);
	release(net);
}
