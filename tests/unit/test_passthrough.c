/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A function in place of a device that is not ours: the device is a made-up one, the guest is the test. */
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "bus/iommu.h"
#include "core/error.h"
#include "core/props.h"
#include "passthrough/config.h"
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

static int take_route(void *ctx, const struct vc_irq_route *route, bool on)
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

static int take_registers(void *ctx, const struct vc_registers *registers, bool on)
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
	fake.physical = (struct vc_physical){&fake_ops, "made-up"};
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

static void fire(unsigned vector)
{
	uint64_t one = 1;

	ck_assert_uint_lt(vector, fake.irq_count);
	ck_assert_int_eq(write(fake.fds[vector], &one, sizeof one), sizeof one);
	platform_settle(&p);
}

/* ---- tests ---- */

START_TEST(configuration)
{
	static const unsigned shown[] = {CAP_PM, CAP_EXPRESS, CAP_MSI, CAP_MSIX, CAP_OWN, 0};
	unsigned at;

	make_device();
	ck_assert_uint_eq(get(1, 0, 4), 0x56781234);
	ck_assert_uint_eq(get(1, 8, 4), 0x02000003);
	at = (unsigned)get(1, 0x34, 1);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(shown); i++) {
		ck_assert_uint_eq(at, shown[i]);
		at = at ? (unsigned)get(1, at + 1, 1) : 0;
	}
	/* power: without PME, and the device never sleeps */
	ck_assert_uint_eq(get(1, CAP_PM + 2, 2), 0x0003);
	put(1, CAP_PM + 4, 2, 3);
	ck_assert_uint_eq(get(1, CAP_PM + 4, 2), 3);
	ck_assert_uint_eq(fake.config[CAP_PM + 4], 0);
	/* an endpoint on bus 0 is an integrated one, without a link */
	ck_assert_uint_eq(get(1, CAP_EXPRESS + 2, 2), 0x92);
	ck_assert_uint_eq(get(1, CAP_EXPRESS + 12, 4), 0);
	/* its registers are the device's: control, and what a vendor has made */
	put(1, CAP_EXPRESS + 8, 2, 0x2810);
	ck_assert_uint_eq(vc_ld16(fake.config + CAP_EXPRESS + 8), 0x2810);
	vc_st32(fake.config + CAP_OWN + 4, 0xbeef);
	ck_assert_uint_eq(get(1, CAP_OWN + 4, 4), 0xbeef);
	ck_assert_uint_eq(get(1, CAP_OWN, 4), 0x00080009);
	put(1, CAP_OWN + 4, 4, 0x77);
	ck_assert_uint_eq(vc_ld32(fake.config + CAP_OWN + 4), 0x77);
	/* SR-IOV is the host's business: what stands there leads on */
	ck_assert_uint_eq(get(1, EXT_HIDDEN, 4), (uint32_t)EXT_AER << 20);
	ck_assert_uint_eq(get(1, EXT_AER, 4), 0x01 | 2 << 16 | (uint32_t)EXT_SERIAL << 20);
	ck_assert_uint_eq(get(1, EXT_SERIAL, 4), 0x03 | 1 << 16);
	ck_assert_uint_eq(get(1, EXT_SERIAL + 4, 4), 0x55);
	/* the command register reaches it */
	put(1, COMMAND, 2, IO | MEMORY | MASTER);
	ck_assert_uint_eq(vc_ld16(fake.config + COMMAND), IO | MEMORY | MASTER);
	vc_buses_reset(&p.buses);
	ck_assert_uint_eq(vc_ld16(fake.config + COMMAND), 0);
	ck_assert_uint_eq(fake.resets, 2);
}
END_TEST

START_TEST(registers)
{
	uint64_t data = 0;

	make_device();
	put(1, COMMAND, 2, IO | MEMORY);
	vc_st32(fake.bar + 0x10, 0x12345678);
	ck_assert_uint_eq(peek32(bar(1, 0) + 0x10), 0x12345678);
	poke(bar(1, 0) + 0x14, 4, 0x9abcdef0);
	ck_assert_uint_eq(vc_ld32(fake.bar + 0x14), 0x9abcdef0);
	/* the table is the library's */
	poke(bar(1, 0) + TABLE, 4, 0xfee00000);
	ck_assert_uint_eq(vc_ld32(fake.bar + TABLE), 0);
	ck_assert_uint_eq(peek32(bar(1, 0) + TABLE), 0xfee00000);
	ck_assert_uint_eq(peek32(bar(1, 0) + TABLE + 12), 1);
	ck_assert(touch(VCORE_BUS_PIO, bar(1, 2) + 4, 2, false, &data));
}
END_TEST

START_TEST(direct_registers)
{
	fake.memory = memfd_create("bar", MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(fake.memory, BAR_SIZE), 0);
	p.env.registers = take_registers;
	make_device();
	ck_assert_uint_eq(given_count, 0);
	/* INTx is on, and only accesses tell when it is served */
	put(1, COMMAND, 2, MEMORY);
	ck_assert_uint_eq(given_count, 0);
	put(1, COMMAND, 2, MEMORY | INTX_OFF);
	ck_assert_uint_eq(given_count, 1);
	ck_assert_uint_eq(given[0].gpa, bar(1, 0));
	ck_assert_uint_eq(given[0].length, TABLE);
	put(1, BAR0, 8, 0x10200000000);
	ck_assert_uint_eq(given_count, 1);
	ck_assert_uint_eq(given[0].gpa, 0x10200000000);
	put(1, COMMAND, 2, INTX_OFF);
	ck_assert_uint_eq(given_count, 0);
	put(1, COMMAND, 2, MEMORY | INTX_OFF);
	ck_assert_uint_eq(given_count, 1);
}
END_TEST

START_TEST(msix_by_loop)
{
	uint64_t table;

	make_device();
	put(1, COMMAND, 2, MEMORY | MASTER);
	table = bar(1, 0) + TABLE;
	put(1, CAP_MSIX + 2, 2, MSIX_ON);
	ck_assert_uint_eq(fake.irq, VC_PHYSICAL_MSIX);
	ck_assert_uint_eq(fake.irq_count, VECTORS);
	fire(2);
	ck_assert_uint_eq(messages, 0);
	ck_assert_uint_eq(peek32(bar(1, 0) + PENDING), 1 << 2);
	put_vector(table, 2, 0xfee01000, 0x42, 0);
	ck_assert_uint_eq(messages, 1);
	fire(2);
	ck_assert_uint_eq(messages, 2);
	ck_assert_uint_eq(message_address, 0xfee01000);
	ck_assert_uint_eq(message_data, 0x42);
	put(1, CAP_MSIX + 2, 2, 0);
	ck_assert_uint_eq(fake.irq, VC_PHYSICAL_INTX);
}
END_TEST

START_TEST(msix_by_kernel)
{
	uint64_t table;

	p.env.irqfd = take_route;
	make_device();
	put(1, COMMAND, 2, MEMORY | MASTER);
	table = bar(1, 0) + TABLE;
	put(1, CAP_MSIX + 2, 2, MSIX_ON);
	ck_assert_uint_eq(route_count, 0);
	put_vector(table, 1, 0xfee02000, 0x51, 0);
	ck_assert_uint_eq(route_count, 1);
	ck_assert_int_eq(routes[0].fd, fake.fds[1]);
	ck_assert_uint_eq(routes[0].address, 0xfee02000);
	ck_assert_uint_eq(routes[0].data, 0x51);
	/* a masked one comes back, and what it counted is kept */
	poke(table + 16 + 12, 4, 1);
	ck_assert_uint_eq(route_count, 0);
	fire(1);
	ck_assert_uint_eq(messages, 0);
	poke(table + 16 + 8, 4, 0x52);
	poke(table + 16 + 12, 4, 0);
	ck_assert_uint_eq(messages, 1);
	ck_assert_uint_eq(route_count, 1);
	ck_assert_uint_eq(routes[0].data, 0x52);
	put(1, CAP_MSIX + 2, 2, MSIX_ON | MSIX_MASK);
	ck_assert_uint_eq(route_count, 0);
	put(1, CAP_MSIX + 2, 2, MSIX_ON);
	ck_assert_uint_eq(route_count, 1);
	put(1, COMMAND, 2, MEMORY);
	ck_assert_uint_eq(route_count, 0);
}
END_TEST

/* 32 bits, without masks. */
START_TEST(msi)
{
	make_device();
	put(1, COMMAND, 2, MEMORY | MASTER);
	put(1, CAP_MSI + 4, 4, 0xfee03000);
	put(1, CAP_MSI + 8, 2, 0x60);
	put(1, CAP_MSI + 12, 4, 0xffffffff);
	ck_assert_uint_eq(get(1, CAP_MSI + 12, 4), 0);
	put(1, CAP_MSI + 2, 2, 1 | 1 << 4);
	ck_assert_uint_eq(fake.irq, VC_PHYSICAL_MSI);
	ck_assert_uint_eq(fake.irq_count, 2);
	fire(1);
	ck_assert_uint_eq(messages, 1);
	ck_assert_uint_eq(message_address, 0xfee03000);
	ck_assert_uint_eq(message_data, 0x61);
}
END_TEST

START_TEST(intx)
{
	make_device();
	put(1, COMMAND, 2, MEMORY);
	ck_assert_uint_eq(fake.irq, VC_PHYSICAL_INTX);
	ck_assert_uint_eq(fake.irq_count, 1);
	fire(0);
	ck_assert(p.level[17]);
	ck_assert_uint_eq(fake.unmasks, 0);
	peek32(bar(1, 0));
	ck_assert(!p.level[17]);
	ck_assert_uint_eq(fake.unmasks, 1);
	peek32(bar(1, 0));
	ck_assert_uint_eq(fake.unmasks, 1);
	fire(0);
	ck_assert(p.level[17]);
	put(1, COMMAND, 2, MEMORY | INTX_OFF);
	ck_assert(!p.level[17]);
	ck_assert_uint_eq(fake.irq_count, 0);
}
END_TEST

START_TEST(memory)
{
	struct vc_dev *dev = make_device();
	struct vc_slot *slot;
	uint64_t data = 0x1122334455667788, back = 0;

	ck_assert_uint_eq(fake.maps, 1);
	ck_assert_uint_eq(fake.last_map.length, RAM);
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, 1 << 30, 0x10000, VCORE_MEM_RWX, NULL, &slot), 0);
	ck_assert_uint_eq(fake.maps, 2);
	ck_assert_uint_eq(fake.last_map.iova, 1 << 30);
	ck_assert_ptr_eq(fake.last_map.hva, slot->hva);
	vc_mem_remove(&p.mem, NULL, slot);
	ck_assert_uint_eq(fake.unmaps, 1);
	/* nothing of it is given back to the host */
	ck_assert_int_eq(vc_mem_write(&p.mem, 0x3000, &data, sizeof data), 0);
	ck_assert_int_eq(vc_mem_discard(&p.mem, 0x3000, 0x1000), 0);
	ck_assert_int_eq(vc_mem_read(&p.mem, 0x3000, &back, sizeof back), 0);
	ck_assert_uint_eq(back, data);
	/* no state can be taken of it */
	ck_assert_ptr_null(dev->ops.save);
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, dev), 0);
	ck_assert_uint_eq(fake.unmaps, 2);
	ck_assert_int_eq(vc_mem_discard(&p.mem, 0x3000, 0x1000), 0);
	ck_assert_int_eq(vc_mem_read(&p.mem, 0x3000, &back, sizeof back), 0);
	ck_assert_uint_eq(back, 0);
}
END_TEST

START_TEST(no_memory)
{
	struct vc_dev *dev;

	fake.map_error = ENOMEM;
	ck_assert_int_eq(try_device(NULL, &dev), -ENOMEM);
	ck_assert_str_eq(vcore_error_message(), "made up");
	ck_assert_uint_eq(fake.destroys, 1);
}
END_TEST

START_TEST(news)
{
	make_device();
	put(1, COMMAND, 2, MEMORY);
	fake.events->wanted(fake.events_ctx);
	fake.events->wanted(fake.events_ctx);
	platform_settle(&p);
	ck_assert_uint_eq(wanted_count, 1);
	vc_st32(fake.bar + 0x10, 0x12345678);
	fake.events->gone(fake.events_ctx, "made up");
	ck_assert_uint_eq(peek32(bar(1, 0) + 0x10), 0xffffffff);
	ck_assert_uint_eq(get(1, CAP_OWN + 4, 4), 0xffffffff);
	poke(bar(1, 0) + 0x10, 4, 0);
	ck_assert_uint_eq(vc_ld32(fake.bar + 0x10), 0x12345678);
}
END_TEST

/* ---- behind the guest's IOMMU ---- */

static struct vc_iommu *iommu;
static struct vc_iommu_endpoint *endpoint;

static void ignore_fault(void *ctx, const struct vc_iommu_fault *fault) {}

static void make_iommu(void)
{
	ck_assert_int_eq(vc_pci_make_iommu(p.env.pci, &p.log, &iommu), 0);
	ck_assert_int_eq(vc_iommu_set_driver(iommu, &(struct vc_iommu_driver){.fault = ignore_fault}, 4096), 0);
}

static struct vc_dev *make_behind(void)
{
	struct vc_dev *dev = make_device();

	endpoint = vc_pci_endpoint(vc_pci_function_of(dev));
	return dev;
}

static int map_iova(uint32_t domain, uint64_t iova, uint64_t gpa, uint64_t length, uint32_t flags)
{
	return vc_iommu_map(iommu, domain, &(struct vc_iommu_range){iova, iova + length - 1, gpa, flags});
}

/* What is mapped at iova: so much, from that address on; 0: nothing. */
static uint64_t mapped_at(uint64_t iova, uint64_t *gpa, uint32_t *flags)
{
	for (unsigned i = 0; i < fake.mapped_count; i++)
		if (fake.mapped[i].iova == iova) {
			const struct vc_physical_dma *m = &fake.mapped[i];

			ck_assert_ptr_eq(m->hva, (uint8_t *)m->slot->hva + (m->gpa - m->slot->gpa));
			*gpa = m->gpa;
			*flags = m->flags;
			return m->length;
		}
	return 0;
}

static void expect_mapped(uint64_t iova, uint64_t gpa, uint64_t length, uint32_t flags)
{
	uint64_t there = 0;
	uint32_t with = 0;

	ck_assert_uint_eq(mapped_at(iova, &there, &with), length);
	ck_assert_uint_eq(there, gpa);
	ck_assert_uint_eq(with, flags);
}

START_TEST(translated)
{
	struct vc_slot *slot;
	struct vc_dev *dev;

	make_iommu();
	dev = make_behind();
	/* nobody has taken charge of it: all of memory, and what comes */
	expect_mapped(0, 0, RAM, 3);
	ck_assert_uint_eq(vc_iommu_last(iommu), 0xffffffff);
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, RAM, 0x10000, VCORE_MEM_RWX, NULL, &slot), 0);
	ck_assert_uint_eq(fake.mapped_count, 2);
	ck_assert_int_eq(vc_iommu_attach(endpoint, 1, false), 0);
	ck_assert_uint_eq(fake.mapped_count, 0);
	/* over the end of one slot, and of the other, where there is nothing */
	ck_assert_int_eq(map_iova(1, 0x8000000, RAM - 0x2000, 0x20000, 3), 0);
	ck_assert_uint_eq(fake.mapped_count, 2);
	expect_mapped(0x8000000, RAM - 0x2000, 0x2000, 3);
	expect_mapped(0x8002000, RAM, 0x10000, 3);
	ck_assert_int_eq(map_iova(1, 0x9000000, 0x1000, 0x1000, VC_IOMMU_READ), 0);
	expect_mapped(0x9000000, 0x1000, 0x1000, VC_PHYSICAL_READ);
	/* memory goes and comes under it, and discards nothing while it is mapped */
	vc_mem_remove(&p.mem, NULL, slot);
	ck_assert_uint_eq(fake.mapped_count, 2);
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, RAM + 0xe000, 0x10000, VCORE_MEM_RWX, NULL, &slot), 0);
	ck_assert_uint_eq(fake.mapped_count, 3);
	expect_mapped(0x8010000, RAM + 0xe000, 0x10000, 3);
	ck_assert_uint_eq(slot->fixed, 1);
	ck_assert_int_eq(vc_iommu_unmap(iommu, 1, 0x8000000, 0x801ffff), 0);
	ck_assert_uint_eq(slot->fixed, 0);
	ck_assert_uint_eq(fake.mapped_count, 1);
	/* a domain that another endpoint has filled, a bypass domain, and none */
	ck_assert_int_eq(vc_iommu_attach(endpoint, 2, true), 0);
	ck_assert_uint_eq(fake.mapped_count, 2);
	ck_assert_int_eq(vc_iommu_detach(endpoint, 2), 0);
	ck_assert_uint_eq(fake.mapped_count, 2);
	vc_iommu_set_bypass(iommu, false);
	ck_assert_uint_eq(fake.mapped_count, 0);
	ck_assert_int_eq(vc_iommu_attach(endpoint, 3, false), 0);
	ck_assert_int_eq(map_iova(3, 0x1000, 0x1000, 0x1000, 3), 0);
	vc_iommu_set_bypass(iommu, true);
	ck_assert_uint_eq(fake.mapped_count, 1);
	vc_iommu_clear(iommu);
	expect_mapped(0, 0, RAM, 3);
	/* and with mappings it goes */
	ck_assert_int_eq(vc_iommu_attach(endpoint, 4, false), 0);
	ck_assert_int_eq(map_iova(4, 0x1000, 0x1000, 0x1000, 3), 0);
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, dev), 0);
	ck_assert_uint_eq(fake.mapped_count, 0);
}
END_TEST

START_TEST(translated_refusals)
{
	make_iommu();
	make_behind();
	ck_assert_int_eq(vc_iommu_attach(endpoint, 1, false), 0);
	fake.map_error = ENOSPC;
	ck_assert_int_eq(map_iova(1, 0x10000, 0, 0x1000, 3), -ENOSPC);
	ck_assert_msg(strstr(p.last_log, "made-up: no DMA to [0x10000, +0x1000): made up"), "%s", p.last_log);
	/* not the guest's fault, whatever the host says */
	fake.map_error = EINVAL;
	ck_assert_int_eq(map_iova(1, 0x10000, 0, 0x1000, 3), -EIO);
	ck_assert_uint_eq(fake.mapped_count, 0);
	for (unsigned i = 0; i < 20; i++)
		map_iova(1, 0x10000, 0, 0x1000, 3);
	ck_assert_msg(strstr(p.last_log, "no more of these"), "%s", p.last_log);
	fake.map_error = 0;
	ck_assert_int_eq(map_iova(1, 0x10000, 0, 0x1000, 3), 0);
	ck_assert_uint_eq(fake.mapped_count, 1);
	/* memory that cannot all be had by bypass: it reaches nothing then */
	fake.map_error = ENOMEM;
	ck_assert_int_eq(vc_iommu_detach(endpoint, 1), 0);
	ck_assert_uint_eq(fake.mapped_count, 0);
	ck_assert_msg(strstr(p.last_log, "reaches no memory: made up"), "%s", p.last_log);
	fake.map_error = 0;
}
END_TEST

START_TEST(translated_from_the_start)
{
	struct vc_dev *dev;

	make_iommu();
	fake.map_error = ENOMEM;
	ck_assert_int_eq(try_device(NULL, &dev), -ENOMEM);
	ck_assert_str_eq(vcore_error_message(), "made up");
	ck_assert_uint_eq(fake.destroys, 1);
	fake.destroys = 0;
	fake.map_error = 0;
	vc_iommu_set_bypass(iommu, false);
	make_behind();
	ck_assert_uint_eq(fake.mapped_count, 0);
}
END_TEST

static void refuse_config(int error, const char *text)
{
	struct vc_dev *dev;

	fake.destroys = 0;
	ck_assert_int_eq(try_device(NULL, &dev), -error);
	ck_assert_msg(strstr(vcore_error_message(), text), "'%s' in '%s'", text, vcore_error_message());
	ck_assert_uint_eq(fake.destroys, 1);
}

START_TEST(bad_devices)
{
	vc_st32(fake.config + CAP_MSIX + 4, BAR_SIZE - 16);
	refuse_config(EINVAL, "MSI-X table");
	vc_st32(fake.config + CAP_MSIX + 4, TABLE | 3);
	refuse_config(EINVAL, "MSI-X table");
	vc_st32(fake.config + CAP_MSIX + 4, TABLE);
	vc_st16(fake.config + CAP_MSIX + 2, VECTORS);
	refuse_config(EINVAL, "5 vectors");
	vc_st16(fake.config + CAP_MSIX + 2, VECTORS - 1);
	fake.config[CAP_OWN + 1] = CAP_PM;
	refuse_config(EINVAL, "overlaps");
	fake.config[CAP_OWN + 1] = 0xfc;
	fake.config[0xfc] = 0x11;
	fake.config[CAP_MSIX] = 8;
	refuse_config(EINVAL, "beyond the end");
	fake.config[0x0e] = 1;
	refuse_config(ENODEV, "type 1");
	fake.config[0] = fake.config[1] = 0xff;
	refuse_config(ENODEV, "all ones");
}
END_TEST

/* Whatever a device says of itself, the guest's view of it ends. */
START_TEST(noise)
{
	static struct vc_passed_config c;
	struct vc_passed_source source = {
	    .name = "noise", .bytes = fake.config, .length = 4096, .intx = 1, .msi = 32, .msix = 2048};
	unsigned good = 0;

	make_device();
	srand(1);
	for (unsigned round = 0; round < 20000; round++) {
		unsigned at, n = 0;

		for (unsigned i = 0; i < 8; i++)
			fake.config[0x34 + (unsigned)rand() % 0x120] = (uint8_t)rand();
		if (round % 16 == 0)
			fill_config();
		if (vc_passed_config_make(&c, &source) < 0)
			continue;
		good++;
		for (at = c.image.first; at; at = c.initial[at + 1])
			ck_assert_uint_lt(n++, 48);
		for (at = 0x100, n = 0; at; at = vc_ld32(c.initial + at) >> 20)
			ck_assert_uint_lt(n++, 512);
	}
	ck_assert_uint_gt(good, 100);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("passthrough");

	tcase_set_timeout(cases, 60);
	tcase_add_checked_fixture(cases, begin, end);
	tcase_add_test(cases, configuration);
	tcase_add_test(cases, registers);
	tcase_add_test(cases, direct_registers);
	tcase_add_test(cases, msix_by_loop);
	tcase_add_test(cases, msix_by_kernel);
	tcase_add_test(cases, msi);
	tcase_add_test(cases, intx);
	tcase_add_test(cases, memory);
	tcase_add_test(cases, no_memory);
	tcase_add_test(cases, translated);
	tcase_add_test(cases, translated_refusals);
	tcase_add_test(cases, translated_from_the_start);
	tcase_add_test(cases, news);
	tcase_add_test(cases, bad_devices);
	tcase_add_test(cases, noise);
	return platform_run("passthrough", cases);
}
