/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A destination whose connection was lost: it waits for another one, and goes on over that. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vm/migrate_absent.h"
#include "vm/migrate_arrival_priv.h"
#include "vm/migrate_receive.h"

/* ---- the arrival's thread ---- */

static void set_stalled(struct vc_arrival *a, bool stalled)
{
	for (uint32_t i = 0; i < a->count; i++)
		atomic_store(&a->slot[i].missing.stalled, stalled);
}

void vc_arrival_interrupt(struct vc_arrival *a, int error)
{
	snprintf(a->info.error, sizeof a->info.error, "%s", vcore_error_message());
	if (error != -EREMOTEIO)
		vc_mig_tell_failure(&a->stream);
	vc_mig_stream_shutdown(&a->stream);
	vc_mig_stream_close(&a->stream);
	vc_arrival_set_phase(a, VC_ARRIVAL_INTERRUPTED);
	set_stalled(a, true);
	vc_arrival_publish(a, VCORE_MIGRATE_INTERRUPTED);
}

/* All pages for which somebody waits: the faults were seen, and do not come again. */
static int ask_again(struct vc_arrival *a, const struct vc_arriving_slot *s)
{
	uint64_t page = 0, count;
	int r = 0;

	while (r >= 0 && (count = vc_image_next_run(s->asked, s->pages, 0, &page)))
		for (; r >= 0 && count; count--)
			r = vc_arrival_ask(a, s, page++);
	return r;
}

/* The source is to know what is still to come; then it goes on as before. */
static int go_on(struct vc_arrival *a)
{
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < a->count; i++)
		r = vc_mig_absent_send(&a->stream, i, a->slot[i].absent, a->slot[i].pages);
	if (r >= 0)
		r = vc_mig_send(&a->stream, VC_MIG_READY, 0, NULL, 0);
	for (uint32_t i = 0; r >= 0 && i < a->count; i++)
		r = ask_again(a, &a->slot[i]);
	return r;
}

/* Caller holds the lock. */
static void answer(struct vc_arrival *a, int error)
{
	a->offering = false;
	a->offer_error = error;
	snprintf(a->offer_message, sizeof a->offer_message, "%s", error < 0 ? vcore_error_message() : "");
	pthread_cond_broadcast(&a->changed);
}

static int take_offer(struct vc_arrival *a)
{
	int r;

	a->stream = a->offered;
	a->stream.cancel_fd = a->stop;
	r = go_on(a);
	a->heard = vc_host_ns();
	if (r >= 0) {
		a->info.error[0] = '\0';
		set_stalled(a, false);
		vc_arrival_set_phase(a, VC_ARRIVAL_FILLING);
		vc_arrival_publish(a, VCORE_MIGRATE_POSTCOPY);
	} else {
		vc_arrival_interrupt(a, r);
	}
	pthread_mutex_lock(&a->lock);
	answer(a, r);
	pthread_mutex_unlock(&a->lock);
	return r == -ECANCELED ? r : 0;
}

int vc_arrival_go_on(struct vc_arrival *a)
{
	bool abandoned, offering;
	uint64_t count;
	int r;

	if (read(a->again, &count, sizeof count) < 0 && errno != EAGAIN)
		return vc_fail_errno(errno, "migration: an eventfd");
	pthread_mutex_lock(&a->lock);
	abandoned = a->abandoned;
	offering = a->offering;
	pthread_mutex_unlock(&a->lock);
	if (abandoned)
		return vc_fail(ECONNABORTED, "it was given up: %s", a->info.error);
	r = vc_arrival_serve_wants(a);
	return r >= 0 && offering ? take_offer(a) : r;
}

/* Caller holds the lock. */
static void refuse(struct vc_arrival *a)
{
	vc_mig_stream_shutdown(&a->offered);
	vc_mig_stream_close(&a->offered);
	answer(a, vc_fail(ECANCELED, "migration: the vm has ended"));
}

void vc_arrival_refuse(struct vc_arrival *a)
{
	pthread_mutex_lock(&a->lock);
	if (a->offering)
		refuse(a);
	pthread_mutex_unlock(&a->lock);
}

/* ---- who calls ---- */

bool vc_arrival_abandon(struct vc_arrival *a)
{
	bool may;

	if (!a)
		return false;
	pthread_mutex_lock(&a->lock);
	may = a->phase == VC_ARRIVAL_INTERRUPTED;
	a->abandoned |= may;
	pthread_mutex_unlock(&a->lock);
	if (may)
		vc_arrival_signal(a->again);
	return may;
}

static int check_number(const struct vc_arrival *a, const struct vc_mig_frame *f)
{
	if (f->argument != VC_MIG_VERSION || f->length < VC_MIG_NUMBER_BYTES)
		return vc_fail(EPROTO, "migration: a greeting of version %u (%u bytes): expected version %u", f->argument,
		               f->length, VC_MIG_VERSION);
	return memcmp(f->payload, a->number, sizeof a->number) == 0
	           ? 0
	           : vc_fail(EPROTO, "migration: what is to be recovered is another migration than that of this vm");
}

static int greet(struct vc_arrival *a, struct vc_mig_stream *s)
{
	struct vc_mig_frame f;
	int r;

	s->takes = VC_MIG_TAKES_RECOVER;
	r = vc_mig_receive(s, &f);
	if (r < 0)
		return r;
	s->takes = VC_MIG_TAKES_ALL;
	r = check_number(a, &f);
	free(f.payload);
	return r;
}

static int accept_at(const struct vcore_migrate_recover_options *o, int cancel_fd, struct vc_mig_stream *s)
{
	union vc_address address;
	int listener = vc_mig_listen(o->address, &address), fd, r;

	if (listener < 0)
		return listener;
	fd = vc_mig_accept_one(listener, o->wait_ms, cancel_fd);
	close(listener);
	vc_address_unlisten(&address);
	if (fd < 0)
		return fd;
	r = vc_mig_stream_open(s, fd, o->timeout_ms);
	close(fd);
	return r;
}

/* A connection of the very source. */
static int meet(struct vc_arrival *a, const struct vcore_migrate_recover_options *o, int cancel_fd,
                struct vc_mig_stream *s)
{
	int r;

	s->fd = -1;
	r = o->address ? accept_at(o, cancel_fd, s) : vc_mig_stream_open(s, o->fd, o->timeout_ms);
	if (r < 0)
		return r;
	s->cancel_fd = cancel_fd;
	r = greet(a, s);
	if (r >= 0)
		return 0;
	if (r != -EREMOTEIO)
		vc_mig_tell_failure(s);
	vc_mig_stream_shutdown(s);
	vc_mig_stream_close(s);
	return r;
}

/* The stream is the thread's. */
static int offer(struct vc_arrival *a, const struct vc_mig_stream *s)
{
	char message[sizeof a->offer_message];
	int r;

	pthread_mutex_lock(&a->lock);
	a->offered = *s;
	a->offering = a->phase == VC_ARRIVAL_INTERRUPTED;
	if (!a->offering)
		refuse(a);
	vc_arrival_signal(a->again);
	while (a->offering)
		pthread_cond_wait(&a->changed, &a->lock);
	r = a->offer_error;
	snprintf(message, sizeof message, "%s", a->offer_message);
	pthread_mutex_unlock(&a->lock);
	return r < 0 ? vc_fail(-r, "%s", message) : 0;
}

/* Nothing is missing here, of which the source has not heard. */
static int tell_whole(struct vc_mig_stream *s)
{
	int r = vc_mig_send(s, VC_MIG_READY, 0, NULL, 0);

	if (r >= 0)
		r = vc_mig_expect(s, VC_MIG_END);
	if (r >= 0)
		r = vc_mig_send(s, VC_MIG_WHOLE, 0, NULL, 0);
	vc_mig_stream_close(s);
	return r;
}

int vc_arrival_recover(struct vc_arrival *a, const struct vcore_migrate_recover_options *o, int cancel_fd)
{
	enum vc_arrival_phase phase;
	struct vc_mig_stream s;
	bool whole;
	int r;

	pthread_mutex_lock(&a->lock);
	phase = a->phase;
	whole = a->whole;
	pthread_mutex_unlock(&a->lock);
	if (phase != VC_ARRIVAL_INTERRUPTED && !whole)
		return vc_fail(ENOENT, "vcore_migrate_recover: the vm's migration %s",
		               phase == VC_ARRIVAL_DONE ? "is lost" : "was not interrupted");
	vc_migrate_move(a->vm, VCORE_MIGRATE_INTERRUPTED, VCORE_MIGRATE_RECOVERING, "");
	r = meet(a, o, cancel_fd, &s);
	if (r >= 0)
		r = whole ? tell_whole(&s) : offer(a, &s);
	if (r < 0)
		vc_migrate_move(a->vm, VCORE_MIGRATE_RECOVERING, VCORE_MIGRATE_INTERRUPTED, vcore_error_message());
	return r;
}
