/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Chains per second through a virtqueue, driver and device on one core: batches of one-descriptor chains are made
 * available, popped, pushed and collected. virtqueue [SECONDS]; a JSON line for each format.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/util.h"
#include "unit/virtio_driver.h"
#include "unit/virtio_echo.h"
#include "unit/virtio_machine.h"

enum { SIZE = 256, FRAME = 64 };

static void echo_all(struct echo *echo, uint32_t written)
{
	for (unsigned i = 0; i < echo->count; i++)
		vc_virtq_push(echo->held[i], written);
	echo->count = 0;
	vc_virtq_flush(vc_virtio_queue(echo->v, 0));
}

/* Chains per second; batch: how many between two notifications. */
static double measure(const char *form, uint64_t features, unsigned batch, bool write, double seconds)
{
	static struct echo echo;
	struct machine m;
	struct vdrv d;
	struct vdrv_queue q;
	uint64_t begin, now, chains = 0, gpa;

	memset(&echo, 0, sizeof echo);
	machine_init(&m);
	machine_add_memory(&m, 0, VC_MIB(16), VCORE_MEM_RWX);
	if (echo_add(&echo, &m.env, form, 1, NULL) < 0)
		exit(70);
	vdrv_attach(&d, &m.env, VDRV_HEAP);
	vdrv_negotiate(&d, features);
	vdrv_queue(&d, &q, 0, SIZE);
	vdrv_start(&d);
	gpa = vdrv_alloc(&d, SIZE * FRAME, 64);
	begin = now = vc_host_ns();
	while (now - begin < seconds * 1e9) {
		for (unsigned turn = 0; turn < 256; turn++, chains += batch) {
			for (unsigned i = 0; i < batch; i++)
				vdrv_add(&q, &(struct vdrv_buf){gpa + i * FRAME, FRAME, write}, 1, &q);
			vdrv_kick(&q);
			vdrv_settle(&d);
			echo_all(&echo, write ? FRAME : 0);
			while (vdrv_get(&q, NULL))
				;
			vdrv_take_isr(&d);
		}
		now = vc_host_ns();
	}
	machine_fini(&m);
	return (double)chains * 1e9 / (double)(now - begin);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name, *form;
		uint64_t mask;
	} forms[] = {
	    {"split", "event_idx=off", ~0ull},
	    {"split, event index", "", ~0ull},
	    {"packed", "packed=on,event_idx=off", ~0ull},
	    {"packed, event index", "packed=on", ~0ull},
	};
	double seconds = argc > 1 ? atof(argv[1]) : 1;

	for (unsigned i = 0; i < VC_ARRAY_SIZE(forms); i++)
		for (unsigned batch = 32; batch <= SIZE; batch *= 8)
			for (unsigned write = 0; write < 2; write++)
				printf("{\"bench\": \"virtqueue\", \"form\": \"%s\", \"batch\": %u, \"direction\": \"%s\", "
				       "\"chains_per_second\": %.0f}\n",
				       forms[i].name, batch, write ? "in" : "out",
				       measure(forms[i].form, forms[i].mask, batch, write, seconds));
	return 0;
}
