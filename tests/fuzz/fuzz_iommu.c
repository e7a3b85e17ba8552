/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A virtio-iommu whose requests come from the fuzzer, and behind it a device whose rings and buffers do: byte 0 chooses
 * the rings' format, then come orders of four bytes, and the rest is guest memory. Whatever the device is handed out
 * must be memory, in which all of it can be written.
 */
#include <stdlib.h>

#include "bus/iommu.h"
#include "core/util.h"
#include "fuzz/saved.h"
#include "unit/virtio_driver.h"
#include "unit/virtio_echo.h"
#include "unit/virtio_machine.h"
#include "virtio/types.h"

enum { RAM = 0x40000, ORDERS = 48, ORDER = 4, FUZZED = 0x20000, DESC = 0x1000, DRIVER = 0x2000, DEVICE = 0x3000 };
enum { PAGE = 4096, ATTACH = 1, DETACH = 2, MAP = 3, UNMAP = 4, PROBE = 5 };

/* The IOMMU's own driver is a good one: its memory is out of the way. */
#define HEAP (1ull << 40)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

struct world {
	struct machine machine;
	struct vdrv iommu, device;
	struct vdrv_queue requests, events;
	struct echo echo;
	uint64_t request, answer;
};

static void add_iommu(struct world *w)
{
	struct vc_props *props;
	struct vc_dev *dev;

	if (vc_pci_host_new(&w->machine.env) < 0 || vc_props_parse("mappings=16", &props) < 0 ||
	    vc_virtio_iommu_type.create(&w->machine.env, props, &dev) < 0)
		abort();
	vc_props_free(props);
}

static void start_iommu(struct world *w)
{
	vdrv_attach(&w->iommu, &w->machine.env, HEAP);
	if (!vdrv_negotiate(&w->iommu, ~0ull))
		abort();
	vdrv_queue(&w->iommu, &w->requests, 0, 16);
	vdrv_queue(&w->iommu, &w->events, 1, 16);
	vdrv_start(&w->iommu);
	w->request = vdrv_alloc(&w->iommu, 128, 16);
	w->answer = vdrv_alloc(&w->iommu, 128, 16);
}

static void set_up_device(struct vdrv *d)
{
	const uint32_t gpas[] = {DESC, DRIVER, DEVICE};

	vdrv_negotiate(d, ~0ull);
	vdrv_write(d, VDRV_QUEUE_SEL, 0);
	vdrv_write(d, VDRV_QUEUE_SIZE, 16);
	for (uint32_t i = 0; i < 3; i++)
		vdrv_write(d, VDRV_QUEUE_DESC + 0x10 * i, gpas[i]);
	vdrv_write(d, VDRV_QUEUE_READY, 1);
	vdrv_start(d);
}

static void ask(struct world *w, const uint8_t *request, uint32_t length, uint32_t room)
{
	memcpy(vdrv_ptr(&w->iommu, w->request), request, length);
	vdrv_do(&w->requests, (struct vdrv_buf[]){{w->request, length, false}, {w->answer, room, true}}, 2);
}

/* Requests that are nearly right: few domains and endpoints, pages close to each other. */
static void ask_for(struct world *w, const uint8_t order[ORDER])
{
	uint8_t r[72] = {(uint8_t)(order[0] % 7)};
	uint32_t domain = order[1] & 1;
	uint64_t first = (order[2] & 15) * (uint64_t)PAGE;
	static const uint32_t lengths[] = {20, 20, 20, 36, 28, 72, 20};

	vc_st32(r + 4, domain);
	if (r[0] == MAP || r[0] == UNMAP) {
		vc_st64(r + 8, first);
		vc_st64(r + 16, first + (order[2] >> 4) * (uint64_t)PAGE + PAGE - 1);
	}
	if (r[0] == MAP) {
		vc_st64(r + 24, (order[3] & 31) * (uint64_t)PAGE);
		vc_st32(r + 32, order[1] & 128 ? 1 : 3);
	}
	if (r[0] <= DETACH) {
		vc_st32(r + 8, order[3] & 64 ? order[3] : w->device.devfn);
		vc_st32(r + 12, order[1] >> 1 & 1);
	}
	if (r[0] == PROBE)
		vc_st32(r + 4, order[3]);
	ask(w, r, lengths[r[0]], r[0] == PROBE ? order[2] + 1u : 4);
}

static void complete(struct echo *echo, unsigned n)
{
	struct vc_virtq_chain *chain = echo->held[n];
	uint32_t in = 0;

	for (uint32_t i = 0; i < chain->in_count; i++) {
		if (chain->in[i].iov_len < 64)
			memset(chain->in[i].iov_base, (int)n, chain->in[i].iov_len);
		else
			((volatile uint8_t *)chain->in[i].iov_base)[chain->in[i].iov_len - 1] = 1;
		in += (uint32_t)chain->in[i].iov_len;
	}
	if (in != chain->in_bytes)
		abort();
	echo_done(echo, n, in);
}

static void obey(struct world *w, const uint8_t order[ORDER])
{
	struct vc_virtq *q = vc_virtio_queue(w->echo.v, 0);
	uint8_t *ram = vdrv_ptr(&w->device, 0), anything[73];

	switch (order[0] >> 5) {
	case 0:
	case 1:
	case 2:
		ask_for(w, order);
		break;
	case 3: /* whatever lies in memory */
		memcpy(anything, ram + 0x4000 + order[2] * 64, sizeof anything);
		anything[0] = order[3] & 7;
		ask(w, anything, 1 + order[1] % 73, 1 + order[3] % 70);
		break;
	case 4:
		vc_st16(ram + DRIVER + 2, order[1] & 15);
		vc_st16(ram + DESC + (order[2] & 7u) * 16 + 14, (uint16_t)((order[2] & 8) << 4 | (order[2] & 1)));
		vdrv_write(&w->device, VDRV_QUEUE_NOTIFY, 0);
		break;
	case 5:
		if (w->echo.count)
			complete(&w->echo, order[1] % w->echo.count);
		if (q)
			vc_virtq_flush(q);
		break;
	case 6:
		if (order[1] & 1)
			save_and_load(w->device.dev);
		else if (order[1] & 2)
			vdrv_set_config(&w->iommu, 36, 1, order[2] & 1);
		else
			vdrv_add(&w->events, &(struct vdrv_buf){w->answer, 24, true}, 1, w);
		vdrv_kick(&w->events);
		break;
	default:
		vdrv_reset(&w->device);
		set_up_device(&w->device);
	}
	vdrv_settle(&w->device);
	while (vdrv_get(&w->events, NULL))
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	static struct world w;
	size_t rest;

	if (length < 1 + ORDERS * ORDER)
		return 0;
	memset(&w, 0, sizeof w);
	machine_init(&w.machine);
	machine_add_memory(&w.machine, 0, RAM, VCORE_MEM_RWX);
	machine_add_memory(&w.machine, HEAP, 0x10000, VCORE_MEM_RWX);
	add_iommu(&w);
	start_iommu(&w);
	if (echo_add(&w.echo, &w.machine.env, data[0] & 1 ? "packed=on" : "", 1, NULL) < 0)
		abort();
	vdrv_attach(&w.device, &w.machine.env, FUZZED);
	rest = length - 1 - ORDERS * ORDER;
	memcpy(vdrv_ptr(&w.device, DESC), data + 1 + ORDERS * ORDER, rest < FUZZED - DESC ? rest : FUZZED - DESC);
	set_up_device(&w.device);
	for (unsigned i = 0; i < ORDERS; i++)
		obey(&w, data + 1 + i * ORDER);
	machine_fini(&w.machine);
	return 0;
}
