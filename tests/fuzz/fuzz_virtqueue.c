/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A virtqueue whose rings, tables and buffers come from the fuzzer, and whose driver does what the fuzzer says
 * meanwhile. Byte 0: ring features and queue size; then 32 bytes of orders; the rest goes to guest memory, from the
 * descriptors on.
 */
#include <stdlib.h>

#include "core/util.h"
#include "fuzz/saved.h"
#include "unit/virtio_driver.h"
#include "unit/virtio_echo.h"
#include "unit/virtio_machine.h"

enum { RAM = 0x10000, ORDERS = 32, DESC = 0x1000, DRIVER = 0x2000, DEVICE = 0x3000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

/* Use what was popped as a frontend would: all of it, so that a wrong vector is seen. */
static void complete(struct echo *echo, unsigned n)
{
	struct vc_virtq_chain *chain = echo->held[n];
	uint32_t sum = 0, in = 0;

	for (uint32_t i = 0; i < chain->out_count; i++)
		for (size_t k = 0; k < chain->out[i].iov_len; k += 61)
			sum += ((const volatile uint8_t *)chain->out[i].iov_base)[k];
	for (uint32_t i = 0; i < chain->in_count; i++) {
		/* some, lest the rings be filled with our own bytes only */
		if (chain->in[i].iov_len < 64)
			memset(chain->in[i].iov_base, (int)sum, chain->in[i].iov_len);
		in += (uint32_t)chain->in[i].iov_len;
	}
	if (in != chain->in_bytes)
		abort();
	echo_done(echo, n, in);
}

static void obey(struct vdrv *d, struct echo *echo, uint8_t order)
{
	struct vc_virtq *q = vc_virtio_queue(echo->v, 0);
	uint8_t *ram = vdrv_ptr(d, 0);

	if (order < 0x60) {
		vdrv_write(d, VDRV_QUEUE_NOTIFY, 0);
	} else if (order < 0xa0) {
		if (echo->count)
			complete(echo, order % echo->count);
		if (q)
			vc_virtq_flush(q);
	} else if (order < 0xd0) {
		/* the available index, or a descriptor's flags, change */
		vc_st16(ram + DRIVER + 2, order & 15);
		vc_st16(ram + DESC + (order & 7u) * 16 + 14, (uint16_t)((order & 8) << 4 | (order & 1)));
	} else if (order < 0xe0 && echo->count) {
		vc_virtq_unpop(echo->held[--echo->count]);
	} else if (order < 0xf0) {
		save_and_load(d->dev);
	} else {
		vdrv_write(d, VDRV_QUEUE_RESET, 1);
	}
	vdrv_settle(d);
}

static void set_up(struct vdrv *d, uint8_t form)
{
	const uint32_t gpas[] = {DESC, DRIVER, DEVICE};

	vdrv_negotiate(d, ~0ull);
	vdrv_write(d, VDRV_QUEUE_SIZE, form & 8 ? 8 : 16);
	for (uint32_t i = 0; i < 3; i++)
		vdrv_write(d, VDRV_QUEUE_DESC + 0x10 * i, gpas[i]);
	vdrv_write(d, VDRV_QUEUE_READY, 1);
	vdrv_start(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	static const char *const forms[] = {
	    "", "packed=on", "event_idx=off", "packed=on,event_idx=off", "indirect=off", "packed=on,indirect=off",
	    "", "packed=on",
	};
	static struct echo echo;
	struct machine m;
	struct vdrv d;
	size_t rest;

	if (length < 1 + ORDERS)
		return 0;
	machine_init(&m);
	/* two slots, and a third that cannot be written: chains may cross and leave them */
	machine_add_memory(&m, 0, RAM / 2, VCORE_MEM_RWX);
	machine_add_memory(&m, RAM / 2, RAM / 2, VCORE_MEM_RWX);
	machine_add_memory(&m, RAM, 0x1000, VCORE_MEM_RX);
	memset(&echo, 0, sizeof echo);
	if (echo_add(&echo, &m.env, forms[data[0] & 7], 1, NULL) < 0)
		abort();
	vdrv_attach(&d, &m.env, VDRV_HEAP);
	rest = length - 1 - ORDERS;
	memcpy(vdrv_ptr(&d, DESC), data + 1 + ORDERS, rest < RAM / 2 - DESC ? rest : RAM / 2 - DESC);
	set_up(&d, data[0]);
	for (unsigned i = 0; i < ORDERS; i++)
		obey(&d, &echo, data[1 + i]);
	machine_fini(&m);
	return 0;
}
