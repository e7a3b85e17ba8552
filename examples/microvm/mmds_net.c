/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A network card with the metadata service: its frames come by a socket to a thread, which answers those for the
 * service and passes the others on to the tap interface, and back.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "api.h"
#include "api_mmds.h"

enum {
	FRAME_MAX = 65536,
	BATCH = 64,
	ROOM_MS = 20, /* that a frame waits for the guest */
};

struct mmds_link {
	int guest; /* the card's end; the thread's is `own` */
	int own, tap, quit;
	pthread_t thread;
	struct mmds_tcp tcp; /* the thread's, as all below */
	uint8_t frame[FRAME_MAX];
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A guest that takes nothing loses frames. */
static void to_guest(void *ctx, const void *frame, size_t length)
{
	struct mmds_link *link = ctx;
	struct pollfd room = {link->own, POLLOUT, 0};

	if (send(link->own, frame, length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != EAGAIN)
		return;
	if (poll(&room, 1, ROOM_MS) == 1)
		send(link->own, frame, length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void serve_guest(struct mmds_link *link)
{
	for (unsigned i = 0; i < BATCH; i++) {
		ssize_t n = recv(link->own, link->frame, sizeof link->frame, MSG_DONTWAIT);

		if (n <= 0)
			return;
		/* what the interface does not take is lost, as on a wire */
		if (!mmds_tcp_take(&link->tcp, link->frame, (size_t)n, now_ms()) &&
		    write(link->tap, link->frame, (size_t)n) < 0)
			continue;
	}
}

static void serve_tap(struct mmds_link *link)
{
	for (unsigned i = 0; i < BATCH; i++) {
		ssize_t n = read(link->tap, link->frame, sizeof link->frame);

		if (n <= 0)
			return;
		to_guest(link, link->frame, (size_t)n);
	}
}

static void *run(void *ctx)
{
	struct mmds_link *link = ctx;
	struct pollfd fds[] = {{link->quit, POLLIN, 0}, {link->own, POLLIN, 0}, {link->tap, POLLIN, 0}};

	while (!(fds[0].revents & POLLIN)) {
		int wait = mmds_tcp_tick(&link->tcp, now_ms());

		if (poll(fds, 3, wait) < 0)
			continue;
		if (fds[1].revents & POLLIN)
			serve_guest(link);
		if (fds[2].revents & POLLIN)
			serve_tap(link);
		else if (fds[2].revents & (POLLERR | POLLHUP))
			fds[2].fd = -1; /* the interface is gone */
	}
	return NULL;
}

/* ---- making and ending ---- */

static int open_tap(const char *name)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
	int fd;

	errno = ENAMETOOLONG;
	if (strlen(name) >= sizeof request.ifr_name)
		return -1;
	memcpy(request.ifr_name, name, strlen(name) + 1);
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0 && ioctl(fd, TUNSETIFF, &request) < 0) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

static void free_link(struct mmds_link *link)
{
	const int fds[] = {link->guest, link->own, link->tap, link->quit};

	for (unsigned i = 0; i < sizeof fds / sizeof fds[0]; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	mmds_tcp_free(&link->tcp);
	free(link);
}

/* -1 with errno set. */
static int open_link(struct mmds_link *link, const char *tap)
{
	int pair[2], error;

	link->tap = open_tap(tap);
	link->quit = eventfd(0, EFD_CLOEXEC);
	if (link->tap < 0 || link->quit < 0 || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	link->guest = pair[0];
	link->own = pair[1];
	error = pthread_create(&link->thread, NULL, run, link);
	errno = error;
	return error ? -1 : 0;
}

static void configure(struct mmds *mmds, struct json_object *config, struct mmds_tcp *tcp)
{
	const char *version = api_string(config, "version"), *address = api_string(config, "ipv4_address");
	struct in_addr in;

	tcp->address = ntohl(inet_pton(AF_INET, address ? address : "169.254.169.254", &in) == 1 ? in.s_addr : 0);
	pthread_mutex_lock(&mmds->lock);
	mmds->v2 = version && !strcmp(version, "V2");
	mmds->imds = api_bool(config, "imds_compat", false);
	pthread_mutex_unlock(&mmds->lock);
}

int mmds_net_open(struct mmds *mmds, struct json_object *config, const char *tap)
{
	struct mmds_link *link = mmds->link_count < MMDS_LINKS_MAX ? calloc(1, sizeof *link) : NULL;

	if (!link) {
		snprintf(mmds->error, sizeof mmds->error, "no memory, or too many network cards");
		return -1;
	}
	link->guest = link->own = link->tap = link->quit = -1;
	link->tcp = (struct mmds_tcp){.mmds = mmds, .send = to_guest, .ctx = link};
	configure(mmds, config, &link->tcp);
	if (open_link(link, tap) < 0) {
		snprintf(mmds->error, sizeof mmds->error, "%s", strerror(errno));
		free_link(link);
		return -1;
	}
	mmds->links[mmds->link_count++] = link;
	return link->guest;
}

void mmds_net_close(struct mmds *mmds)
{
	const uint64_t one = 1;

	while (mmds->link_count) {
		struct mmds_link *link = mmds->links[--mmds->link_count];

		if (write(link->quit, &one, sizeof one) == sizeof one)
			pthread_join(link->thread, NULL);
		free_link(link);
	}
}
