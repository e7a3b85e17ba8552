/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a guest can say to virtio-net: frames with headers of any kind through software segmentation, and commands on
 * the control queue. The first byte chooses.
 */
#include <stdlib.h>

#include "net/net_priv.h"
#include "virtio/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void check(bool truth)
{
	if (!truth)
		abort();
}

/* ---- frames ---- */

struct sums {
	uint32_t most;
	uint64_t bytes;
	unsigned count;
};

/* Every byte is looked at: what is not there is seen. */
static void look(void *ctx, const struct vc_net_frame *plain)
{
	struct sums *s = ctx;
	uint32_t length = 0;

	for (unsigned i = 0; i < plain->iov_count; i++) {
		s->bytes += vc_csum_add(0, plain->iov[i].iov_base, plain->iov[i].iov_len);
		length += (uint32_t)plain->iov[i].iov_len;
	}
	check(length == plain->length && length >= ETH_HEADER && length <= s->most);
	check(++s->count <= 2000);
}

static void fuzz_plain(uint8_t can_take, const uint8_t *data, size_t length)
{
	struct vc_net_frame frame = {.iov_count = 2};
	uint8_t *copy, *scratch = malloc(VC_NET_FRAME_MAX);
	struct sums sums = {0};
	struct iovec iov[2];

	if (length < sizeof frame.hdr + 2) {
		free(scratch);
		return;
	}
	memcpy(&frame.hdr, data, sizeof frame.hdr);
	data += sizeof frame.hdr;
	length -= sizeof frame.hdr;
	copy = malloc(length);
	memcpy(copy, data, length);
	iov[0] = (struct iovec){copy, length / 2};
	iov[1] = (struct iovec){copy + length / 2, length - length / 2};
	frame.iov = iov;
	frame.length = (uint32_t)length;
	sums.most = frame.length + 8; /* a fragment header more */
	vc_net_plain(&frame, can_take & VC_NET_OFFLOADS_ALL, scratch, look, &sums);
	free(copy);
	free(scratch);
}

/* ---- commands ---- */

/* The state of a device after any command is one that can be saved and loaded. */
static void fuzz_control(const uint8_t *data, size_t length)
{
	static struct vnet *n;

	if (!n) {
		n = calloc(1, sizeof *n + 4 * sizeof n->pair[0]);
		n->pairs = 4;
		n->mac[0] = 2;
		pthread_rwlock_init(&n->lock, NULL);
	}
	vnet_control_reset(n, UINT64_MAX);
	while (length >= 2) {
		size_t command = (size_t)data[0] + 2;
		uint8_t *copy;

		data++;
		length--;
		if (command > length)
			command = length;
		if (command < 2)
			break;
		copy = malloc(command);
		memcpy(copy, data, command);
		vnet_command(n, UINT64_MAX, copy, (uint32_t)command);
		free(copy);
		check(vnet_control_valid(n, &n->control));
		data += command;
		length -= command;
	}
	vnet_hash(&n->toeplitz, n->control.hash_types, data, (uint32_t)length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	if (length < 2)
		return 0;
	if (data[0] & 1)
		fuzz_plain(data[1], data + 2, length - 2);
	else
		fuzz_control(data + 1, length - 1);
	return 0;
}
