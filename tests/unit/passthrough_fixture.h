/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A made-up device that is not ours, and the machine it is passed to. */
#ifndef PASSTHROUGH_FIXTURE_H
#define PASSTHROUGH_FIXTURE_H

#include <sys/mman.h>

#include "bus/iommu.h"
#include "core/error.h"
#include "core/props.h"
#include "passthrough/peers.h"
#include "passthrough/physical.h"
#include "pci_fixture.h"

enum {
	CAP_PM = 0x40,
	CAP_EXPRESS = 0x50,
	CAP_MSI = 0x90,
	CAP_MSIX = 0xa0,
	CAP_OWN = 0xb0,
	CAP_HIDDEN = 0xc0,
	EXT_HIDDEN = 0x100,
	EXT_AER = 0x140,
	EXT_SERIAL = 0x200,
	BAR_SIZE = 0x4000,
	TABLE = 0x2000,
	PENDING = 0x3000,
	VECTORS = 4,
	RAM = 1 << 20,
};

/* ---- the device ---- */

static struct fake {
	struct vc_physical physical;
	uint8_t config[4096], bar[BAR_SIZE];
	int memory; /* the BAR can be mapped; -1 */
	unsigned resets, destroys, unmasks, maps, unmaps, irq, irq_count;
	int fds[VECTORS];
	int map_error;
	struct vc_physical_dma last_map, mapped[16];
	unsigned mapped_count;
	struct vc_peers *peers;
	bool reaches_peers;
	const struct vc_physical_events *events;
	void *events_ctx;
} fake;

static int fake_region_info(struct vc_physical *ph, unsigned region, struct vc_physical_region *info)
{
	*info = (struct vc_physical_region){.fd = -1, .flags = VC_PHYSICAL_READ | VC_PHYSICAL_WRITE};
	if (region == VC_PHYSICAL_CONFIG)
		info->size = 4096;
	if (region == 2)
		info->size = 32;
	if (region != 0)
		return 0;
	info->size = BAR_SIZE;
	if (fake.memory >= 0) {
		info->fd = fake.memory;
		info->area_count = 1;
		info->areas[0].length = BAR_SIZE;
	}
	return 0;
}

static uint8_t *region_of(unsigned region)
{
	return region == VC_PHYSICAL_CONFIG ? fake.config : fake.bar;
}

static int fake_read(struct vc_physical *ph, unsigned region, uint64_t offset, void *data, uint32_t length)
{
	memcpy(data, region_of(region) + offset, length);
	return 0;
}

static int fake_write(struct vc_physical *ph, unsigned region, uint64_t offset, const void *data, uint32_t length)
{
	memcpy(region_of(region) + offset, data, length);
	return 0;
}

static int fake_irq_count(struct vc_physical *ph, unsigned irq, uint32_t *count)
{
	*count = irq == VC_PHYSICAL_MSIX ? VECTORS : irq == VC_PHYSICAL_MSI ? 2 : 1;
	return 0;
}

static int fake_irq_set(struct vc_physical *ph, unsigned irq, uint32_t count, const int *fds)
{
	ck_assert_uint_le(count, VECTORS);
	ck_assert(!count || !fake.irq_count || fake.irq == irq);
	fake.irq = irq;
	fake.irq_count = count;
	for (uint32_t i = 0; i < count; i++)
		fake.fds[i] = fds[i];
	return 0;
}

static int fake_unmask(struct vc_physical *ph)
{
	fake.unmasks++;
	return 0;
}

static int fake_reset(struct vc_physical *ph)
{
	fake.resets++;
	return 0;
}

static int fake_map(struct vc_physical *ph, const struct vc_physical_dma *dma)
{
	if (fake.map_error)
		return vc_fail(fake.map_error, "made up");
	for (unsigned i = 0; i < fake.mapped_count; i++)
		ck_assert(dma->iova + dma->length <= fake.mapped[i].iova ||
		          fake.mapped[i].iova + fake.mapped[i].length <= dma->iova);
	ck_assert_uint_lt(fake.mapped_count, VC_ARRAY_SIZE(fake.mapped));
	fake.mapped[fake.mapped_count++] = *dma;
	fake.maps++;
	fake.last_map = *dma;
	return 0;
}

static int fake_unmap(struct vc_physical *ph, uint64_t iova, uint64_t length)
{
	for (unsigned i = 0; i < fake.mapped_count; i++)
		if (fake.mapped[i].iova == iova && fake.mapped[i].length == length) {
			fake.mapped[i] = fake.mapped[--fake.mapped_count];
			fake.unmaps++;
			return 0;
		}
	ck_abort_msg("nothing is mapped there");
	return 0;
}

static int fake_windows(struct vc_physical *ph, struct vc_iommu_windows *windows)
{
	*windows = (struct vc_iommu_windows){1, {{0x1000, 0xffffffff}}};
	return 0;
}

static void fake_listen(struct vc_physical *ph, const struct vc_physical_events *events, void *ctx)
{
	fake.events = events;
	fake.events_ctx = ctx;
}

static void fake_destroy(struct vc_physical *ph)
{
	ck_assert_ptr_null(fake.events);
	fake.destroys++;
}

static const struct vc_physical_ops fake_ops = {
    .region_info = fake_region_info,
    .region_read = fake_read,
    .region_write = fake_write,
    .irq_count = fake_irq_count,
    .irq_set = fake_irq_set,
    .intx_unmask = fake_unmask,
    .reset = fake_reset,
    .dma_map = fake_map,
    .dma_unmap = fake_unmap,
    .dma_windows = fake_windows,
    .listen = fake_listen,
    .destroy = fake_destroy,
};

static void cap(unsigned at, unsigned id, unsigned next)
{
	fake.config[at] = (uint8_t)id;
	fake.config[at + 1] = (uint8_t)next;
}

static void fill_config(void)
{
	uint8_t *c = fake.config;

	vc_st16(c, 0x1234);
	vc_st16(c + 2, 0x5678);
	c[6] = 0x10;
	vc_st32(c + 8, 0x02000003);
	vc_st32(c + 0x10, 4);
	vc_st32(c + 0x18, 1);
	c[0x34] = CAP_PM;
	c[0x3d] = 1;
	cap(CAP_PM, 1, CAP_HIDDEN);
	vc_st16(c + CAP_PM + 2, 0xf803);
	cap(CAP_HIDDEN, 8, CAP_EXPRESS);
	cap(CAP_EXPRESS, 0x10, CAP_MSI);
	vc_st16(c + CAP_EXPRESS + 2, 2);
	vc_st32(c + CAP_EXPRESS + 12, 0x11);
	cap(CAP_MSI, 5, CAP_MSIX);
	vc_st16(c + CAP_MSI + 2, 1 << 1);
	cap(CAP_MSIX, 0x11, CAP_OWN);
	vc_st16(c + CAP_MSIX + 2, VECTORS - 1);
	vc_st32(c + CAP_MSIX + 4, TABLE);
	vc_st32(c + CAP_MSIX + 8, PENDING);
	cap(CAP_OWN, 9, 0);
	c[CAP_OWN + 2] = 8;
	vc_st32(c + CAP_OWN + 4, 0xcafe);
	vc_st32(c + EXT_HIDDEN, 0x10 | 1 << 16 | EXT_AER << 20);
	vc_st32(c + EXT_AER, 0x01 | 2 << 16 | EXT_SERIAL << 20);
	vc_st32(c + EXT_SERIAL, 0x03 | 1 << 16);
	vc_st32(c + EXT_SERIAL + 4, 0x55);
}

/* ---- the machine ---- */

static struct vc_irq_route routes[VECTORS];
static unsigned route_count, given_count, wanted_count;
static struct vc_registers given[8];

static inline int take_route(void *ctx, const struct vc_irq_route *route, bool on)
{
	if (on) {
		ck_assert_uint_lt(route_count, VECTORS);
		routes[route_count++] = *route;
		return 0;
	}
	for (unsigned i = 0; i < route_count; i++)
		if (routes[i].fd == route->fd) {
			routes[i] = routes[--route_count];
			return 0;
		}
	ck_abort_msg("no such route");
	return 0;
}

static inline int take_registers(void *ctx, const struct vc_registers *registers, bool on)
{
	if (on) {
		ck_assert_uint_lt(given_count, 8);
		given[given_count++] = *registers;
		return 0;
	}
	for (unsigned i = 0; i < given_count; i++)
		if (given[i].gpa == registers->gpa) {
			given[i] = given[--given_count];
			return 0;
		}
	ck_abort_msg("no such registers");
	return 0;
}

static void take_wanted(void *ctx, uint32_t id)
{
	wanted_count++;
}

static struct vc_machine_ops machine;

static int try_device(const char *text, struct vc_dev **dev)
{
	struct vc_props *props;
	int r = vc_props_parse(text, &props);

	ck_assert_int_eq(r, 0);
	fake.physical = (struct vc_physical){
	    .ops = &fake_ops, .name = "made-up", .peers = fake.peers, .reaches_peers = fake.peers && fake.reaches_peers};
	r = vc_passthrough_add(&p.env, props, "test-pci", &fake.physical, dev);
	vc_props_free(props);
	return r;
}

static struct vc_dev *make_device(void)
{
	struct vc_dev *dev;
	int r = try_device("addr=1", &dev);

	ck_assert_msg(r == 0, "%s", vcore_error_message());
	return dev;
}

static void begin(void)
{
	setup();
	memset(&fake, 0, sizeof fake);
	fake.memory = -1;
	fill_config();
	route_count = given_count = wanted_count = 0;
	machine = *p.env.machine;
	machine.wanted = take_wanted;
	p.env.machine = &machine;
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, 0, RAM, VCORE_MEM_RWX, NULL, NULL), 0);
}

static void end(void)
{
	teardown();
	ck_assert_uint_eq(fake.destroys, 1);
	ck_assert_uint_eq(fake.maps, fake.unmaps);
	ck_assert_uint_eq(fake.irq_count, 0);
	ck_assert_uint_eq(route_count + given_count, 0);
	if (fake.memory >= 0)
		close(fake.memory);
}

#endif
