/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The device path of virtio-net alone: frames a second from one test driver through two NICs and a switch to another
 * test driver, all on one thread. What the drivers cost is in the figure.
 *
 * Arguments: seconds (1), bytes of a frame (64), properties added to both NICs.
 */
#include <time.h>
#include <virtcore/error.h>
#include <virtcore/switch.h>

#include <stdio.h>
#include <stdlib.h>

#include "core/util.h"
#include "net/switch_names.h"
#include "virtio/types.h"
#include "virtio_driver.h"
#include "virtio_machine.h"

enum { SIZE = 256, HEADER = 12, SLOT = 1600 };

struct nic {
	struct vdrv d;
	struct vdrv_queue rx, tx;
	uint64_t memory; /* a slot for each chain */
};

static struct machine p;
static struct vc_switch_names names;

static void must(bool ok)
{
	if (ok)
		return;
	fprintf(stderr, "net: %s\n", vcore_error_message());
	exit(1);
}

static void make_env(void)
{
	machine_init(&p);
	vc_switch_names_init(&names);
	p.env.switches = &names;
	machine_add_memory(&p, 0, VC_MIB(16), VCORE_MEM_RWX);
}

static void free_env(void)
{
	machine_fini(&p);
	vc_switch_names_fini(&names);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void begin(struct nic *n, const char *mac, const char *more, uint64_t heap)
{
	struct vc_props *props;
	struct vc_dev *dev;
	char text[200];

	snprintf(text, sizeof text, "net=switch,switch=lan,mac=%s%s%s", mac, *more ? "," : "", more);
	must(!vc_props_parse(text, &props));
	must(!vc_virtio_net_type.create(&p.env, props, &dev));
	vc_props_free(props);
	vdrv_attach(&n->d, &p.env, heap);
	must(vdrv_negotiate(&n->d, VC_VIRTIO_F_VERSION_1 | VC_VIRTIO_F_EVENT_IDX | VC_VIRTIO_F_RING_PACKED |
	                               VC_VIRTIO_F_IN_ORDER));
	vdrv_queue(&n->d, &n->rx, 0, SIZE);
	vdrv_queue(&n->d, &n->tx, 1, SIZE);
	vdrv_interrupts(&n->rx, false);
	vdrv_interrupts(&n->tx, false);
	vdrv_start(&n->d);
	n->memory = vdrv_alloc(&n->d, SIZE * SLOT, 64);
}

static void fill_frames(struct nic *n)
{
	static const uint8_t head[14] = {0x52, 0, 0, 0, 0, 0xb, 0x52, 0, 0, 0, 0, 0xa, 0x88, 0xb5};

	for (unsigned i = 0; i < SIZE; i++)
		memcpy((uint8_t *)vdrv_ptr(&n->d, n->memory + i * SLOT) + HEADER, head, sizeof head);
}

static void post(struct vdrv_queue *q, uint64_t slot, uint32_t length, bool write)
{
	vdrv_add(q, &(struct vdrv_buf){slot, length, write}, 1, (void *)(uintptr_t)slot);
}

/* One burst: a ring of frames goes, what has come is given back. Returns how many arrived whole. */
static unsigned turn(struct nic *a, struct nic *b, uint32_t length)
{
	unsigned arrived = 0;
	uint32_t written;
	void *slot;

	for (unsigned i = 0; i < SIZE; i++)
		post(&a->tx, a->memory + i * SLOT, HEADER + length, false);
	vdrv_kick(&a->tx);
	while (vc_loop_run(p.env.loop, 0) > 0)
		;
	while (vdrv_get(&a->tx, NULL))
		;
	while ((slot = vdrv_get(&b->rx, &written))) {
		arrived += written == HEADER + length;
		post(&b->rx, (uint64_t)(uintptr_t)slot, SLOT, true);
	}
	vdrv_kick(&b->rx);
	return arrived;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 1, start, spent = 0;
	uint32_t length = argc > 2 ? (uint32_t)atoi(argv[2]) : 64;
	const char *more = argc > 3 ? argv[3] : "";
	uint64_t frames = 0, turns = 0;
	static struct nic a, b;
	vcore_switch *sw;

	make_env();
	must(!vcore_switch_new(&sw));
	must(!vc_switch_names_add(&names, "lan", sw));
	begin(&a, "52:00:00:00:00:0a", more, 0x10000);
	begin(&b, "52:00:00:00:00:0b", more, 0x800000);
	fill_frames(&a);
	for (unsigned i = 0; i < SIZE; i++)
		post(&b.rx, b.memory + i * SLOT, SLOT, true);
	vdrv_kick(&b.rx);
	for (start = now(); spent < seconds; spent = now() - start, turns++)
		frames += turn(&a, &b, length);
	printf("{\"test\":\"virtio-net through a "
	       "switch\",\"bytes\":%u,\"frames\":%llu,\"lost\":%llu,\"million_per_s\":%.2f}\n",
	       length, (unsigned long long)frames, (unsigned long long)(turns * SIZE - frames),
	       (double)frames / spent / 1e6);
	free_env();
	vcore_switch_unref(sw);
	return 0;
}
