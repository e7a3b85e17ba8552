/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vhost_backend.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/address.h"
#include "core/clock.h"
#include "core/util.h"
#include "vhost/message.h"
#include "vhost/user.h"

enum { SECOND = 1000000000, DESC_NEXT = 1, DESC_WRITE = 2 };

static void die(const char *what)
{
	fprintf(stderr, "vhost-user back-end of the test: %s\n", what);
	abort();
}

/* ---- memory ---- */

static void unmap_all(struct fake *f)
{
	for (unsigned i = 0; i < f->region_count; i++)
		munmap(f->regions[i].map, f->regions[i].length);
	f->region_count = 0;
}

static void map_region(struct fake *f, const uint8_t *wire, int fd)
{
	struct fake_region *r;

	if (f->region_count == FAKE_REGIONS)
		die("too many regions");
	r = &f->regions[f->region_count];
	memcpy(r, wire, 32);
	r->map = mmap(NULL, r->length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)r->offset);
	if (r->map == MAP_FAILED)
		die("a region cannot be mapped");
	f->region_count++;
}

static void unmap_region(struct fake *f, const uint8_t *wire)
{
	for (unsigned i = 0; i < f->region_count; i++) {
		if (f->regions[i].gpa != vc_ld64(wire))
			continue;
		munmap(f->regions[i].map, f->regions[i].length);
		f->regions[i] = f->regions[f->region_count - 1];
		f->region_count--;
		return;
	}
	die("a region is removed that is not there");
}

static uint8_t *by_address(struct fake *f, uint64_t address)
{
	for (unsigned i = 0; i < f->region_count; i++)
		if (address - f->regions[i].address < f->regions[i].length)
			return f->regions[i].map + (address - f->regions[i].address);
	die("a ring lies in no region");
	return NULL;
}

static uint8_t *by_gpa(struct fake *f, uint64_t gpa, uint32_t length)
{
	for (unsigned i = 0; i < f->region_count; i++)
		if (gpa - f->regions[i].gpa < f->regions[i].length &&
		    length <= f->regions[i].length - (gpa - f->regions[i].gpa))
			return f->regions[i].map + (gpa - f->regions[i].gpa);
	die("a buffer lies in no region");
	return NULL;
}

/* ---- queues ---- */

static void use(struct fake_queue *q, uint32_t id, uint32_t written)
{
	uint8_t *entry = q->used + 4 + 8 * (q->used_index & (q->size - 1));

	vc_st32(entry, id);
	vc_st32(entry + 4, written);
	q->used_index++;
	atomic_store((_Atomic uint16_t *)(q->used + 2), q->used_index);
}

/* Inverts; returns the bytes written. */
static uint32_t serve_chain(struct fake *f, struct fake_queue *q, uint16_t head)
{
	uint8_t bytes[8192];
	uint32_t length = 0, written = 0;
	uint16_t at = head, flags;

	do {
		const uint8_t *desc = q->desc + at * 16;
		uint32_t piece = vc_ld32(desc + 8);
		uint8_t *p = by_gpa(f, vc_ld64(desc), piece);

		flags = vc_ld16(desc + 12);
		for (uint32_t i = 0; i < piece; i++) {
			if (!(flags & DESC_WRITE))
				bytes[length++ % sizeof bytes] = p[i];
			else
				p[i] = (uint8_t)~bytes[written++ % sizeof bytes];
		}
		at = vc_ld16(desc + 14);
	} while (flags & DESC_NEXT);
	return written;
}

static void misuse(struct fake *f, struct fake_queue *q, uint16_t head)
{
	uint32_t written;

	switch (f->fault) {
	case FAKE_BAD_ID:
		use(q, 0xfffffff0, 1);
		break;
	case FAKE_NOT_IN_FLIGHT:
		use(q, (head + 1u) % q->size, 1);
		break;
	case FAKE_INDEX_JUMP:
		written = serve_chain(f, q, head);
		use(q, head, written);
		atomic_store((_Atomic uint16_t *)(q->used + 2), (uint16_t)(q->used_index + 1000));
		break;
	case FAKE_LONG:
		serve_chain(f, q, head);
		use(q, head, UINT32_MAX);
		break;
	case FAKE_SCRIBBLE:
		written = serve_chain(f, q, head);
		memset(q->desc, 0xff, q->size * 16);
		memset(q->avail + 4, 0xff, q->size * 2);
		use(q, head, written);
		break;
	default:
		f->held++;
	}
}

static void serve_queue(struct fake *f, struct fake_queue *q)
{
	const uint64_t one = 1;

	while (q->last_avail != atomic_load((_Atomic uint16_t *)(q->avail + 2))) {
		uint16_t head = vc_ld16(q->avail + 4 + 2 * (q->last_avail++ & (q->size - 1)));

		if (f->fault != FAKE_NONE && !f->fault_at) {
			misuse(f, q, head);
		} else {
			use(q, head, serve_chain(f, q, head));
			f->served++;
		}
		/* always to be kicked: the event index follows */
		atomic_store((_Atomic uint16_t *)(q->used + 4 + 8 * q->size), q->last_avail);
	}
	if (write(q->call, &one, sizeof one) < 0 && errno != EAGAIN)
		die("the call eventfd is none");
}

static void stop_queue(struct fake_queue *q)
{
	if (q->kick >= 0)
		close(q->kick);
	if (q->call >= 0)
		close(q->call);
	*q = (struct fake_queue){.kick = -1, .call = -1};
}

/* ---- messages ---- */

static struct fake_queue *queue_of(struct fake *f, const struct vc_vhost_message *m)
{
	uint32_t index = vc_ld32(m->payload) & 0xff;

	if (index >= FAKE_QUEUES)
		die("a queue that is not there");
	return &f->queue[index];
}

static void set_memory(struct fake *f, struct vc_vhost_message *m)
{
	unmap_all(f);
	if (vc_ld32(m->payload) != m->fd_count)
		die("regions and descriptors differ in number");
	for (unsigned i = 0; i < m->fd_count; i++)
		map_region(f, m->payload + 8 + 32 * i, m->fds[i]);
}

static void set_fd(int *to, struct vc_vhost_message *m)
{
	if (m->fd_count != 1)
		die("there is no descriptor");
	if (*to >= 0)
		close(*to);
	*to = m->fds[0];
	m->fd_count = 0;
}

static void set_vring(struct fake *f, struct vc_vhost_message *m)
{
	struct fake_queue *q = queue_of(f, m);

	switch (m->request) {
	case 8:
		q->size = vc_ld32(m->payload + 4);
		break;
	case 9:
		q->desc = by_address(f, vc_ld64(m->payload + 8));
		q->used = by_address(f, vc_ld64(m->payload + 16));
		q->avail = by_address(f, vc_ld64(m->payload + 24));
		break;
	case 10:
		q->last_avail = q->used_index = (uint16_t)vc_ld32(m->payload + 4);
		break;
	case 12:
		set_fd(&q->kick, m);
		break;
	case 13:
		set_fd(&q->call, m);
		break;
	default:
		q->enabled = vc_ld32(m->payload + 4);
	}
}

static void answer_u64(struct vc_vhost_message *m, uint64_t value)
{
	m->size = 8;
	vc_st64(m->payload, value);
}

/* True: the message is its own answer now. */
static bool handle(struct fake *f, struct vc_vhost_message *m)
{
	switch (m->request) {
	case 1:
		answer_u64(m, f->features);
		return true;
	case 15:
		answer_u64(m, f->protocol);
		return true;
	case 17:
		answer_u64(m, f->queues);
		return true;
	case 36:
		answer_u64(m, f->slots);
		return true;
	case 11:
		vc_st32(m->payload + 4, queue_of(f, m)->last_avail);
		stop_queue(queue_of(f, m));
		return true;
	case 24:
		memcpy(m->payload + 12, f->config, m->size - 12);
		return true;
	case 5:
		set_memory(f, m);
		return false;
	case 37:
		map_region(f, m->payload + 8, m->fds[0]);
		return false;
	case 38:
		unmap_region(f, m->payload + 8);
		return false;
	case 21:
		set_fd(&f->backend_fd, m);
		return false;
	case 8: /* the vrings' */
	case 9:
	case 10:
	case 12:
	case 13:
	case 18:
		set_vring(f, m);
		return false;
	default: /* features, owner, configuration, status: as it likes */
		return false;
	}
}

/* Changes the answer, or sends it in its own way; false: the connection ends. */
static bool spoil(struct fake *f, struct vc_vhost_message *m)
{
	uint64_t until = vc_host_ns() + SECOND;

	switch (f->fault) {
	case FAKE_WRONG_SIZE:
		m->size += 4;
		break;
	case FAKE_WRONG_REQUEST:
		m->request++;
		break;
	case FAKE_NO_REPLY_FLAG:
		m->flags &= ~(uint32_t)VC_VHOST_REPLY;
		break;
	case FAKE_WRONG_VERSION:
		m->flags ^= VC_VHOST_VERSION_MASK;
		break;
	case FAKE_HUGE: {
		uint32_t header[3] = {m->request, m->flags, UINT32_MAX};

		if (write(f->connection, header, sizeof header) != sizeof header)
			die("writing");
		return true;
	}
	case FAKE_CLOSE_INSIDE:
		if (write(f->connection, m, 14) != 14)
			die("writing");
		return false;
	case FAKE_CLOSE:
		return false;
	case FAKE_SILENT:
		return true;
	case FAKE_MANY_FDS:
		for (m->fd_count = 0; m->fd_count < VC_VHOST_FDS_MAX; m->fd_count++)
			m->fds[m->fd_count] = f->wake;
		break;
	default:
		answer_u64(m, 1);
	}
	vc_vhost_send(f->connection, m, until);
	m->fd_count = 0;
	return true;
}

static bool serve_message(struct fake *f)
{
	struct vc_vhost_message m;
	bool own, needed, good = true;

	if (vc_vhost_receive(f->connection, &m, vc_host_ns() + SECOND) < 0)
		return false;
	needed = m.flags & VC_VHOST_NEED_REPLY;
	if (m.request < VC_ARRAY_SIZE(f->requests))
		f->requests[m.request]++;
	own = handle(f, &m);
	vc_vhost_close_fds(&m);
	if (!own && !needed)
		return true;
	if (!own)
		answer_u64(&m, 0);
	m.flags = VC_VHOST_VERSION | VC_VHOST_REPLY;
	if (f->fault != FAKE_NONE && f->fault_at == m.request)
		good = spoil(f, &m);
	else
		vc_vhost_send(f->connection, &m, vc_host_ns() + SECOND);
	return good;
}

/* ---- the thread ---- */

static void hang_up(struct fake *f)
{
	for (unsigned i = 0; i < FAKE_QUEUES; i++)
		stop_queue(&f->queue[i]);
	unmap_all(f);
	if (f->connection >= 0)
		close(f->connection);
	if (f->backend_fd >= 0)
		close(f->backend_fd);
	f->connection = f->backend_fd = -1;
}

static void serve_kicks(struct fake *f, const struct pollfd *polled)
{
	uint64_t count;

	for (unsigned i = 0; i < FAKE_QUEUES; i++) {
		struct fake_queue *q = &f->queue[i];

		if (q->kick < 0 || polled[i].fd != q->kick || !(polled[i].revents & POLLIN))
			continue;
		if (read(q->kick, &count, sizeof count) > 0 && q->enabled)
			serve_queue(f, q);
	}
}

/* To a front-end that listens; not there yet is no matter. */
static void call_frontend(struct fake *f)
{
	union vc_address address;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (vc_address_unix("test", f->path, &address) < 0 || fd < 0)
		die("a socket");
	if (connect(fd, &address.any, vc_address_length(&address)) < 0) {
		close(fd);
		return;
	}
	f->connection = fd;
	f->connections++;
}

static void *run(void *ctx)
{
	struct fake *f = ctx;

	while (!f->quit) {
		struct pollfd p[FAKE_QUEUES + 3];
		uint64_t count;

		if (f->calls && f->connection < 0)
			call_frontend(f);
		for (unsigned i = 0; i < FAKE_QUEUES; i++)
			p[i] = (struct pollfd){.fd = f->queue[i].kick, .events = POLLIN};
		p[FAKE_QUEUES] = (struct pollfd){.fd = f->wake, .events = POLLIN};
		p[FAKE_QUEUES + 1] = (struct pollfd){.fd = f->connection < 0 ? f->listener : -1, .events = POLLIN};
		p[FAKE_QUEUES + 2] = (struct pollfd){.fd = f->connection, .events = POLLIN};
		if (poll(p, FAKE_QUEUES + 3, f->calls && f->connection < 0 ? 2 : -1) < 0 && errno != EINTR)
			die("poll");
		if (p[FAKE_QUEUES].revents && read(f->wake, &count, sizeof count) < 0)
			die("read");
		serve_kicks(f, p);
		if (p[FAKE_QUEUES + 1].revents) {
			f->connection = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
			f->connections++;
		} else if (p[FAKE_QUEUES + 2].revents && !serve_message(f)) {
			hang_up(f);
		}
	}
	hang_up(f);
	return NULL;
}

void fake_init(struct fake *f)
{
	*f = (struct fake){
	    .listener = -1,
	    .connection = -1,
	    .backend_fd = -1,
	    .features = ~0ull,
	    .protocol = ~0ull,
	    .queues = FAKE_QUEUES,
	    .slots = FAKE_REGIONS,
	};
	snprintf(f->path, sizeof f->path, "/tmp/virtcore-vhost-%d.sock", (int)getpid());
	unlink(f->path); /* of an earlier process of that number */
	memset(f->config, 0x5a, sizeof f->config);
	for (unsigned i = 0; i < FAKE_QUEUES; i++)
		f->queue[i].kick = f->queue[i].call = -1;
	f->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void fake_start(struct fake *f)
{
	union vc_address address;

	f->quit = false;
	f->listener = -1;
	if (f->calls) {
		if (pthread_create(&f->thread, NULL, run, f))
			die("cannot start");
		return;
	}
	if (vc_address_unix("test", f->path, &address) < 0)
		die("the path");
	unlink(f->path);
	f->listener = vc_address_listen("test", &address, 1);
	if (f->listener < 0 || pthread_create(&f->thread, NULL, run, f))
		die("cannot start");
}

void fake_stop(struct fake *f)
{
	const uint64_t one = 1;

	f->quit = true;
	if (write(f->wake, &one, sizeof one) < 0)
		die("write");
	pthread_join(f->thread, NULL);
	if (f->calls)
		return;
	close(f->listener);
	unlink(f->path);
}

void fake_fini(struct fake *f)
{
	close(f->wake);
}

void fake_change_config(struct fake *f, uint8_t value)
{
	struct vc_vhost_message m = {.request = 2, .flags = VC_VHOST_VERSION | VC_VHOST_NEED_REPLY};

	memset(f->config, value, sizeof f->config);
	if (vc_vhost_send(f->backend_fd, &m, vc_host_ns() + SECOND) < 0 ||
	    vc_vhost_receive(f->backend_fd, &m, vc_host_ns() + 10ull * SECOND) < 0 || vc_ld64(m.payload))
		die("the front-end does not take a change of the configuration");
}
