/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames of a guest's for the metadata service: each is two bytes of length and its bytes; 0xffff lets time pass. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "api_mmds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void take(void *ctx, const void *frame, size_t length)
{
	uint64_t *sent = ctx;

	/* no frame is longer, and there are not many for one */
	if (length < 42 || length > 1514 || ++*sent > 4096)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	static const char store[] =
	    "{\"latest\":{\"meta-data\":{\"id\":\"i-1\",\"list\":[1,\"two\",{\"a\":null}]}},\"n\":7}";
	struct mmds mmds = {.lock = PTHREAD_MUTEX_INITIALIZER, .store = json_tokener_parse(store)};
	struct mmds_tcp *tcp = calloc(1, sizeof *tcp);
	uint64_t now = 1000, sent = 0;

	if (!tcp)
		return 0;
	*tcp = (struct mmds_tcp){.mmds = &mmds, .address = 0xa9fea9fe, .send = take, .ctx = &sent};
	mmds.v2 = length & 1;
	while (length >= 2) {
		size_t n = (size_t)data[0] << 8 | data[1];

		data += 2;
		length -= 2;
		if (n == 0xffff) {
			now += 400;
			mmds_tcp_tick(tcp, now);
			sent = 0;
			continue;
		}
		if (n > length)
			n = length;
		mmds_tcp_take(tcp, data, n, now);
		sent = 0;
		data += n;
		length -= n;
	}
	mmds_tcp_free(tcp);
	free(tcp);
	json_object_put(mmds.store);
	return 0;
}
