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

enum { SIZE = 256, FRAME = 64 };

struct machine {
	struct vc_gate gate;
	struct vc_mem mem;
	struct vc_buses buses;
	struct vc_clock clock;
	struct vc_irqs irqs;
	struct vc_env env;
};

static void ignore_irq(void *ctx, unsigned gsi, bool level) {}

static const struct vc_irq_sink sink = {.set = ignore_irq};

static int machine_init(struct machine *m)
{
	int r = vc_gate_init(&m->gate);

	if (r >= 0)
		r = vc_mem_init(&m->mem, &m->gate);
	if (r >= 0)
		r = vc_buses_init(&m->buses, &m->gate);
	vc_clock_init(&m->clock);
	m->irqs = (struct vc_irqs){&sink, m};
	m->env = (struct vc_env){.buses = &m->buses, .mem = &m->mem, .irqs = &m->irqs, .clock = &m->clock};
	if (r >= 0)
		r = vc_loop_new(&m->clock, false, &m->env.loop);
	return r < 0 ? r : vc_mem_add(&m->mem, NULL, 0, VC_MIB(16), VCORE_MEM_RWX, NULL, NULL);
}

static void machine_fini(struct machine *m)
{
	vc_buses_fini(&m->buses);
	vc_loop_free(m->env.loop);
	vc_mem_fini(&m->mem);
	vc_gate_fini(&m->gate);
}

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
	struct machine m = {0};
	struct vdrv d;
	struct vdrv_queue q;
	uint64_t begin, now, chains = 0, gpa;

	memset(&echo, 0, sizeof echo);
	if (machine_init(&m) < 0 || echo_add(&echo, &m.env, form, 1, NULL) < 0)
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
