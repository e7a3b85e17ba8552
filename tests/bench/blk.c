/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blk [SECONDS [PROPERTIES [BYTES [DEPTH [write]]]]]: requests a second through virtio-blk, with a driver in this
 * process, on one core: random reads, or writes, of BYTES (4096), DEPTH (128) at a time. PROPERTIES: of the device,
 * image=null:1G unless told. Prints JSON.
 */
#include <stdio.h>
#include <stdlib.h>
#include <virtcore/error.h>

#include "core/util.h"
#include "virtio/types.h"
#include "virtio_driver.h"
#include "virtio_machine.h"

enum { MAX_DEPTH = 256, HEADER = 16 };

struct slot {
	uint64_t header, data;
};

static struct machine p;
static struct vdrv d;
static struct vdrv_queue q;
static struct slot slots[MAX_DEPTH];
static uint64_t sectors, seed = 88172645463325252u;
static uint32_t bytes = 4096;
static bool writes;

static void add(struct slot *slot)
{
	uint8_t *header = vdrv_ptr(&d, slot->header);

	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	vc_st32(header, writes);
	vc_st64(header + 8, seed % (sectors / (bytes / 512)) * (bytes / 512));
	vdrv_add(&q,
	         (struct vdrv_buf[]){
	             {slot->header, HEADER, false}, {slot->data, bytes, !writes}, {slot->header + HEADER, 1, true}},
	         3, slot);
}

static int create(const char *properties)
{
	struct vc_props *props;
	struct vc_dev *dev;
	int r = vc_props_parse(properties, &props);

	if (!r)
		r = vc_virtio_blk_type.create(&p.env, props, &dev);
	if (!r)
		r = vc_props_finish(props, "virtio-blk");
	vc_props_free(props);
	return r;
}

/* A driver that answers at once: half of its queue is always with the device. */
static uint64_t run(uint64_t until)
{
	uint64_t count = 0;
	struct slot *slot;

	while (vc_host_ns() < until) {
		for (unsigned i = 0; i < 64; i++) {
			while ((slot = vdrv_get(&q, NULL))) {
				count++;
				add(slot);
			}
			vdrv_kick(&q);
			vc_loop_run(p.env.loop, 0);
		}
	}
	return count;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 1;
	const char *properties = argc > 2 ? argv[2] : "image=null:1G";
	unsigned depth = argc > 4 ? (unsigned)atoi(argv[4]) : 128;
	uint64_t start, count;

	bytes = argc > 3 ? (uint32_t)atoi(argv[3]) : bytes;
	writes = argc > 5 && !strcmp(argv[5], "write");
	if (!depth || depth > MAX_DEPTH || !bytes || bytes % 512)
		return 2;
	machine_init(&p);
	machine_add_memory(&p, 0, VC_MIB(256), VCORE_MEM_RWX);
	if (create(properties) < 0) {
		fprintf(stderr, "blk: %s\n", vcore_error_message());
		return 1;
	}
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	vdrv_negotiate(&d, ~0ull);
	vdrv_queue(&d, &q, 0, 256);
	vdrv_start(&d);
	vdrv_interrupts(&q, false);
	sectors = vdrv_config(&d, 0, 8);
	for (unsigned i = 0; i < depth; i++) {
		slots[i].header = vdrv_alloc(&d, HEADER + 1, 16);
		slots[i].data = vdrv_alloc(&d, bytes, 16);
		add(&slots[i]);
	}
	vdrv_kick(&q);
	start = vc_host_ns();
	count = run(start + (uint64_t)(seconds * 1e9));
	printf("{\"name\":\"virtio-blk\",\"properties\":\"%s\",\"bytes\":%u,\"depth\":%u,\"write\":%s,\"requests_per_"
	       "second\":%.0f}\n",
	       properties, bytes, depth, writes ? "true" : "false", (double)count * 1e9 / (double)(vc_host_ns() - start));
	machine_fini(&p);
	return count ? 0 : 1;
}
