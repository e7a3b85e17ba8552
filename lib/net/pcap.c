/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Capture into a file as tcpdump and wireshark read it (draft-ietf-opsawg-pcap), with nanoseconds. */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "net/net_priv.h"

enum { BUFFER_SIZE = 256 << 10, LINKTYPE_ETHERNET = 1 };
#define MAGIC_NS 0xa1b23c4du

struct file_header {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t zone, accuracy, snap_length, link_type;
};

struct record_header {
	uint32_t seconds, nanoseconds, captured, length;
};

struct vc_pcap {
	pthread_mutex_t lock; /* protects all below */
	int fd;               /* -1: it could not be written any more */
	size_t used;
	uint8_t buffer[BUFFER_SIZE];
};

/* Under the lock. A capture that fails ends; the network goes on. */
static void flush(struct vc_pcap *pcap)
{
	size_t at = 0;

	while (pcap->fd >= 0 && at < pcap->used) {
		ssize_t n = write(pcap->fd, pcap->buffer + at, pcap->used - at);

		if (n > 0) {
			at += (size_t)n;
		} else if (n < 0 && errno != EINTR) {
			close(pcap->fd);
			pcap->fd = -1;
		}
	}
	pcap->used = 0;
}

static void append(struct vc_pcap *pcap, const void *data, size_t length)
{
	memcpy(pcap->buffer + pcap->used, data, length);
	pcap->used += length;
}

void vc_pcap_write(struct vc_pcap *pcap, const struct vc_net_frame *frames, unsigned count)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	pthread_mutex_lock(&pcap->lock);
	for (unsigned i = 0; i < count && pcap->fd >= 0; i++) {
		struct record_header head = {(uint32_t)now.tv_sec, (uint32_t)now.tv_nsec, frames[i].length, frames[i].length};

		if (pcap->used + sizeof head + frames[i].length > BUFFER_SIZE)
			flush(pcap);
		append(pcap, &head, sizeof head);
		for (unsigned v = 0; v < frames[i].iov_count; v++)
			append(pcap, frames[i].iov[v].iov_base, frames[i].iov[v].iov_len);
	}
	flush(pcap);
	pthread_mutex_unlock(&pcap->lock);
}

int vc_pcap_open(const char *path, struct vc_pcap **out)
{
	const struct file_header head = {MAGIC_NS, 2, 4, 0, 0, VC_NET_FRAME_MAX, LINKTYPE_ETHERNET};
	struct vc_pcap *pcap = malloc(sizeof *pcap);
	int r;

	if (!pcap)
		return vc_fail(ENOMEM, "no memory for a capture");
	pcap->used = 0;
	pcap->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (pcap->fd < 0) {
		r = vc_fail_errno(errno, "property pcap: cannot write %s", path);
		free(pcap);
		return r;
	}
	pthread_mutex_init(&pcap->lock, NULL);
	append(pcap, &head, sizeof head);
	flush(pcap);
	*out = pcap;
	return 0;
}

void vc_pcap_close(struct vc_pcap *pcap)
{
	if (!pcap)
		return;
	if (pcap->fd >= 0)
		close(pcap->fd);
	pthread_mutex_destroy(&pcap->lock);
	free(pcap);
}
