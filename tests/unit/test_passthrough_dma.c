/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a device that is not ours reaches of memory: all of it, or what the guest's IOMMU maps. */
#include "passthrough_fixture.h"

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

			if (m->slot)
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
	ck_assert_msg(strstr(p.last_log, "made-up: no DMA to IOVAs [0x10000, +0x1000): made up"), "%s", p.last_log);
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

/* ---- other devices' registers ---- */

static struct vc_peers peers;
static struct vc_peer other;
static uint8_t other_bar[0x3000];
static uint64_t other_at; /* 0: nowhere */
static unsigned told;

static unsigned list_other(void *ctx, struct vc_peer_registers registers[VC_PEER_REGISTERS_MAX])
{
	if (other_at)
		registers[0] = (struct vc_peer_registers){other_at, sizeof other_bar, other_bar, 3};
	return other_at ? 1 : 0;
}

static void count_told(void *ctx)
{
	told++;
}

static void move_other(uint64_t at)
{
	other_at = at;
	vc_peers_update(&peers, &other);
}

static void begin_peers(bool reaches)
{
	vc_peers_init(&peers);
	other = (struct vc_peer){.name = "the other", .list = list_other, .changed = count_told};
	told = 0;
	vc_peers_join(&peers, &other);
	fake.peers = &peers;
	fake.reaches_peers = reaches;
	fake.memory = memfd_create("bar", MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(fake.memory, BAR_SIZE), 0);
}

static void end_peers(struct vc_dev *dev)
{
	vc_peers_leave(&peers, &other);
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, dev), 0);
	ck_assert_ptr_null(peers.first);
	vc_peers_fini(&peers);
}

START_TEST(peers_registers)
{
	struct vc_dev *dev;

	begin_peers(true);
	move_other(0xe0000000);
	dev = make_device();
	ck_assert_uint_eq(fake.mapped_count, 2);
	expect_mapped(0xe0000000, 0xe0000000, sizeof other_bar, 3);
	move_other(0xe8000000);
	ck_assert_uint_eq(fake.mapped_count, 2);
	expect_mapped(0xe8000000, 0xe8000000, sizeof other_bar, 3);
	ck_assert_ptr_eq(fake.last_map.hva, other_bar);
	ck_assert_ptr_null(fake.last_map.slot);
	ck_assert_int_eq(fake.last_map.fd, -1);
	move_other(0);
	ck_assert_uint_eq(fake.mapped_count, 1);
	/* what the host refuses is told of; memory is reached all the same */
	fake.map_error = EFAULT;
	move_other(0xe0000000);
	ck_assert_msg(strstr(p.last_log, "no DMA to the registers of the other, [0xe0000000, +0x3000): made up"), "%s",
	              p.last_log);
	fake.map_error = 0;
	move_other(0);
	move_other(0xe0000000);
	ck_assert_uint_eq(fake.mapped_count, 2);
	/* gone with its owner */
	vc_peers_leave(&peers, &other);
	ck_assert_uint_eq(fake.mapped_count, 1);
	end_peers(dev);
}
END_TEST

START_TEST(peers_not_wanted)
{
	struct vc_peer_registers registers[VC_PEER_REGISTERS_MAX];
	struct vc_dev *dev;

	begin_peers(false);
	move_other(0xe0000000);
	dev = make_device();
	ck_assert_uint_eq(fake.mapped_count, 1);
	/* but others may reach it, where it is and while it answers, but for the MSI-X table */
	ck_assert_uint_eq(told, 0);
	put(1, COMMAND, 2, MEMORY);
	ck_assert_uint_gt(told, 0);
	ck_assert_ptr_ne(peers.first, &other);
	ck_assert_uint_eq(peers.first->list(peers.first->ctx, registers), 1);
	ck_assert_uint_eq(peers.first->count, 1);
	ck_assert_uint_eq(registers[0].gpa, bar(1, 0));
	ck_assert_uint_eq(registers[0].length, TABLE);
	put(1, COMMAND, 2, 0);
	ck_assert_uint_eq(peers.first->count, 0);
	put(1, COMMAND, 2, MEMORY);
	put(1, BAR0, 8, 0x10200000000);
	ck_assert_uint_eq(peers.first->registers[0].gpa, 0x10200000000);
	vc_buses_reset(&p.buses);
	ck_assert_uint_eq(peers.first->count, 0);
	put(1, COMMAND, 2, MEMORY);
	ck_assert_uint_eq(peers.first->count, 1);
	told = 0;
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, dev), 0);
	ck_assert_uint_gt(told, 0);
	ck_assert_ptr_eq(peers.first, &other);
	vc_peers_leave(&peers, &other);
	vc_peers_fini(&peers);
}
END_TEST

/* By what the guest maps of it. */
START_TEST(peers_translated)
{
	struct vc_dev *dev;

	make_iommu();
	begin_peers(true);
	move_other(0xe0000000);
	dev = make_behind();
	ck_assert_int_eq(vc_iommu_attach(endpoint, 1, false), 0);
	ck_assert_uint_eq(fake.mapped_count, 0);
	ck_assert_int_eq(map_iova(1, 0x5000, 0xe0001000, 0x1000, VC_IOMMU_WRITE | VC_IOMMU_MMIO), 0);
	expect_mapped(0x5000, 0xe0001000, 0x1000, VC_PHYSICAL_WRITE);
	fake.map_error = EFAULT;
	ck_assert_int_eq(map_iova(1, 0x6000, 0xe0001000, 0x1000, VC_IOMMU_READ | VC_IOMMU_MMIO), -EIO);
	ck_assert_int_eq(map_iova(1, 0x6000, 0xe0001000, 0x1000, VC_IOMMU_READ), 0);
	fake.map_error = 0;
	move_other(0);
	ck_assert_uint_eq(fake.mapped_count, 0);
	move_other(0xe0000000);
	ck_assert_uint_eq(fake.mapped_count, 2);
	vc_iommu_clear(iommu);
	expect_mapped(0xe0000000, 0xe0000000, sizeof other_bar, 3);
	end_peers(dev);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("passthrough-dma");

	tcase_add_checked_fixture(cases, begin, end);
	tcase_add_test(cases, memory);
	tcase_add_test(cases, no_memory);
	tcase_add_test(cases, translated);
	tcase_add_test(cases, translated_refusals);
	tcase_add_test(cases, translated_from_the_start);
	tcase_add_test(cases, peers_registers);
	tcase_add_test(cases, peers_not_wanted);
	tcase_add_test(cases, peers_translated);
	return platform_run("passthrough-dma", cases);
}
