/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI functions: configuration space, BARs sized and moved, state, and a guest that writes what it should not. */
#include "pci_fixture.h"

START_TEST(header)
{
	add(&full, &probe);
	ck_assert_uint_eq(get(1, 0, 4), 0x56781234);
	ck_assert_uint_eq(get(1, 8, 4), 0x02800007);
	ck_assert_uint_eq(get(1, 0x2c, 4), 0xef01abcd);
	ck_assert_uint_eq(get(1, 0x0c, 4), 0);
	ck_assert_uint_eq(get(1, STATUS, 2), 0x0010);
	ck_assert_uint_eq(get(1, 0x3c, 2), 0x0100 | 17);
	/* what is not writable stays */
	for (uint32_t at = 0; at < VC_PCI_CONFIG_SIZE; at += 4)
		if (at < BAR0 || at > 0x24)
			put(1, at, 4, 0xffffffff);
	ck_assert_uint_eq(get(1, 0, 4), 0x56781234);
	ck_assert_uint_eq(get(1, COMMAND, 2), IO | MEMORY | MASTER | INTX_OFF);
	ck_assert_uint_eq(get(1, STATUS, 2), 0x0010);
	ck_assert_uint_eq(get(1, 0x0c, 4), 0xff);
	ck_assert_uint_eq(get(1, 0x2c, 4), 0xef01abcd);
	ck_assert_uint_eq(get(1, 0x3c, 2), 0x01ff);
	ck_assert_uint_eq(get(1, 0x100, 4), 0);
	/* accesses of any kind */
	ck_assert_uint_eq(get(1, 1, 2), 0x7812);
	ck_assert_uint_eq(get(1, 0, 8), 0x0010040756781234);
	ck_assert_uint_eq(get(1, 0xffe, 4), 0xffff0000);
	ck_assert_uint_eq(get(1, 0xfffffffe, 4) & 0xffff, 0xffff);
	put(1, 0xffd, 8, UINT64_MAX);
	ck_assert_uint_eq(vc_pci_config_read(p.env.pci, 1, 8, 0, 4), 0xffffffff);
	ck_assert_uint_eq(vc_pci_config_read(p.env.pci, 0, 1000, 0, 4), 0xffffffff);
}
END_TEST

START_TEST(addresses)
{
	struct vcore_pci_description d = {.size = sizeof d, .vendor = 1};

	for (unsigned i = 1; i < 32; i++)
		add(&d, NULL);
	refuse(&d, ENOSPC, "32 device numbers");
	d.address = "3.1";
	add(&d, NULL);
	refuse(&d, EEXIST, "3.1 is taken");
	ck_assert_uint_eq(get(3, 0x0e, 1), 0x80);
	ck_assert_uint_eq(get(4, 0x0e, 1), 0);
	ck_assert_uint_eq(vc_pci_config_read(p.env.pci, 0, VC_PCI_DEVFN(3, 1), 0x0e, 1), 0);
	static const char *const wrong[] = {
	    "", "x", "32", "1.8", "-1", "1.", "1.1.1", "1 ", " 1", "99999999999999999999", "1.-1"};
	for (unsigned i = 0; i < VC_ARRAY_SIZE(wrong); i++) {
		d.address = wrong[i];
		refuse(&d, EINVAL, "expected device or device.function");
	}
}
END_TEST

START_TEST(function_before_device)
{
	struct vcore_pci_description d = {.size = sizeof d, .vendor = 1, .address = "0x1f.7"};

	refuse(&d, EINVAL, "only where function 0 is");
	d.address = "31";
	add(&d, NULL);
	d.address = "0x1f.7";
	add(&d, NULL);
	ck_assert_uint_eq(vc_pci_config_read(p.env.pci, 0, 255, 0, 2), 1);
}
END_TEST

START_TEST(wrong_descriptions)
{
	struct vcore_pci_description d = full;

#define WRONG(change, text) \
	d = full;               \
	change;                 \
	refuse(&d, EINVAL, text)
	WRONG(d.vendor = 0xffff, "0xffff");
	WRONG(d.class_code = 0x1000000, "class code");
	WRONG(d.interrupt_pin = 5, "pin 5");
	WRONG(d.msix_vectors = 2049, "2049");
	WRONG(d.msi_vectors = 3, "3 MSI");
	WRONG(d.msi_vectors = 64, "64 MSI");
	WRONG(d.bars[0].size = 0x3000, "0x3000");
	WRONG(d.bars[0].size = 8, "0x8");
	WRONG(d.bars[0].size = 1ull << 32, "BAR 0");
	WRONG(d.bars[0].flags = 0x10, "flags");
	WRONG(d.bars[0].flags = VCORE_PCI_BAR_64, "two registers");
	WRONG(d.bars[1].size = 512, "BAR 1");
	WRONG(d.bars[1].flags |= VCORE_PCI_BAR_PREFETCH, "prefetchable");
	WRONG(d.bars[5] = d.bars[2], "two registers");
	WRONG(d.bars[0].flags = VCORE_PCI_BAR_MSIX; d.msix_vectors = 0, "no MSI-X vectors");
	WRONG(d.bars[0].flags = VCORE_PCI_BAR_MSIX; d.msix_vectors = 2048, "take");
	WRONG(d.bars[4].size = 16; d.bars[5].size = 16, "no BAR is free");
	WRONG(d.capabilities = NULL, "no array");
	WRONG(d.capability_count = 0; d.size = 3, "size field");
	struct vcore_pci_capability many[25];
	for (unsigned i = 0; i < VC_ARRAY_SIZE(many); i++)
		many[i] = vendor;
	WRONG(d.capabilities = many; d.capability_count = 25, "more than 192");
	WRONG(d.capabilities = many; d.capability_count = 24, "more than 192");
	WRONG(many[0].data = NULL; d.capabilities = many, "no data");
#undef WRONG
	d = full;
	d.bars[0].size = VC_GIB(2);
	refuse(&d, ENOSPC, "BAR 0");
}
END_TEST

START_TEST(sizing)
{
	add(&full, &probe);
	/* decoding is off, all have an address */
	ck_assert_uint_eq(bar(1, 0), VC_PCI_MEMORY_BASE);
	ck_assert_uint_eq(get(1, BAR0, 4), VC_PCI_MEMORY_BASE);
	ck_assert_uint_eq(get(1, BAR0 + 4, 4), VC_PCI_PORTS_BASE | 1);
	ck_assert_uint_eq(get(1, BAR0 + 8, 8), 1ull << 40 | 4);
	ck_assert_uint_eq(bar(1, 5), VC_PCI_MEMORY_BASE + 0x2000); /* MSI-X */
	ck_assert_uint_eq(get(1, BAR0 + 16, 4), 0);
	for (unsigned i = 0; i < 6; i++)
		put(1, BAR0 + 4 * i, 4, 0xffffffff);
	ck_assert_uint_eq(get(1, BAR0, 4), 0xffffe000);
	ck_assert_uint_eq(get(1, BAR0 + 4, 4), 0xffffffc1);
	ck_assert_uint_eq(get(1, BAR0 + 8, 4), 0xffff0004);
	ck_assert_uint_eq(get(1, BAR0 + 12, 4), 0xffffffff);
	ck_assert_uint_eq(get(1, BAR0 + 16, 4), 0);
	ck_assert_uint_eq(get(1, BAR0 + 20, 4), 0xfffff000);
	/* the next one lies elsewhere, moved registers or not */
	add(&full, NULL);
	ck_assert_uint_eq(bar(2, 0), VC_PCI_MEMORY_BASE + 0x4000);
	ck_assert_uint_eq(bar(2, 1), VC_PCI_PORTS_BASE + 64);
	ck_assert_uint_eq(bar(2, 2), (1ull << 40) + 0x10000);
	/* a reset puts them back */
	vc_buses_reset(&p.buses);
	ck_assert_uint_eq(bar(1, 0), VC_PCI_MEMORY_BASE);
	ck_assert_uint_eq(get(1, COMMAND, 2), 0);
	ck_assert_uint_eq(probe.resets, 1);
}
END_TEST

START_TEST(no_window64)
{
	vc_pci_set_window64(p.env.pci, (struct vc_pci_window){0});
	add(&full, &probe);
	ck_assert_uint_eq(bar(1, 2), VC_PCI_MEMORY_BASE + 0x10000);
}
END_TEST

START_TEST(decoding)
{
	struct vc_dev *dev = add(&full, &probe);
	uint64_t data = 0, memory, wide;
	struct vcore_pci_info info;

	memory = bar(1, 0);
	wide = bar(1, 2);
	ck_assert(!peek(memory, 4, &data));
	ck_assert(!touch(VCORE_BUS_PIO, VC_PCI_PORTS_BASE, 1, false, &data));
	put(1, COMMAND, 2, MEMORY);
	ck_assert(!touch(VCORE_BUS_PIO, VC_PCI_PORTS_BASE, 1, false, &data));
	ck_assert_uint_eq(peek32(memory + 0x1ffc), 0x55667788);
	ck_assert_uint_eq(probe.bar, 0);
	ck_assert_uint_eq(probe.offset, 0x1ffc);
	poke(wide + 0xfff8, 8, 0x123456789abcdef);
	ck_assert_uint_eq(probe.bar, 2);
	ck_assert_uint_eq(probe.offset, 0xfff8);
	ck_assert_uint_eq(probe.data, 0x123456789abcdef);
	put(1, COMMAND, 2, IO);
	ck_assert(!peek(memory, 4, &data));
	ck_assert(touch(VCORE_BUS_PIO, VC_PCI_PORTS_BASE + 63, 1, false, &data));
	ck_assert_uint_eq(data, 0x88);
	ck_assert_uint_eq(probe.bar, 1);
	vc_pci_get_info(vc_pci_function_of(dev), &info);
	ck_assert_uint_eq(info.device, 1);
	ck_assert_uint_eq(info.gsi, 17);
	ck_assert_uint_eq(info.bars[0], UINT64_MAX);
	ck_assert_uint_eq(info.bars[1], VC_PCI_PORTS_BASE);
	ck_assert_uint_eq(info.command, IO);
}
END_TEST

START_TEST(moving)
{
	uint64_t data, wide;

	add(&full, &probe);
	put(1, COMMAND, 2, MEMORY | IO);
	put(1, BAR0, 4, 0xf8000000);
	ck_assert(!peek(VC_PCI_MEMORY_BASE, 4, &data));
	ck_assert_uint_eq(peek32(0xf8001000), 0x55667788);
	ck_assert_uint_eq(probe.offset, 0x1000);
	/* half by half, through a place in between */
	wide = bar(1, 2);
	put(1, BAR0 + 12, 4, 0x180);
	ck_assert(!peek(wide, 4, &data));
	ck_assert_uint_eq(peek32(0x18000000000), 0x55667788);
	put(1, BAR0 + 8, 4, 0x12340000);
	ck_assert_uint_eq(peek32(0x18012340000), 0x55667788);
	put(1, BAR0 + 4, 4, 0xd000);
	ck_assert(touch(VCORE_BUS_PIO, 0xd03f, 1, false, &data));
	/* where nothing can be */
	put(1, BAR0, 4, 0);
	ck_assert(!peek(0, 4, &data));
	put(1, BAR0 + 4, 4, 0xffff0000);
	ck_assert(!touch(VCORE_BUS_PIO, 0, 1, false, &data));
	ck_assert(!touch(VCORE_BUS_PIO, 0xd000, 1, false, &data));
	put(1, BAR0 + 12, 4, 0xffffffff);
	put(1, BAR0 + 8, 4, 0xffffffff);
	ck_assert(!peek(0x18012340000, 4, &data));
	/* and back again */
	put(1, BAR0, 4, VC_PCI_MEMORY_BASE);
	ck_assert_uint_eq(peek32(VC_PCI_MEMORY_BASE), 0x55667788);
}
END_TEST

START_TEST(overlapping)
{
	uint64_t data;
	struct probe second = {0};
	struct vcore_pci_description d = {.size = sizeof d, .vendor = 2, .bars = {{.size = 0x1000}}};

	add(&full, &probe);
	add(&d, &second);
	put(1, COMMAND, 2, MEMORY);
	put(2, COMMAND, 2, MEMORY);
	/* onto the first one's BAR, onto the ECAM: it does not answer, the other does */
	put(2, BAR0, 4, VC_PCI_MEMORY_BASE + 0x1000);
	ck_assert_uint_eq(peek32(VC_PCI_MEMORY_BASE + 0x1000), 0x55667788);
	ck_assert_uint_eq(second.reads, 0);
	ck_assert_uint_eq(probe.reads, 1);
	/* the first goes: the second is there */
	put(1, COMMAND, 2, 0);
	ck_assert_uint_eq(peek32(VC_PCI_MEMORY_BASE + 0x1000), 0x55667788);
	ck_assert_uint_eq(second.reads, 1);
	put(1, COMMAND, 2, MEMORY);
	ck_assert(!peek(VC_PCI_MEMORY_BASE, 4, &data));
	put(2, BAR0, 4, VC_PCI_ECAM_BASE);
	ck_assert_uint_eq(peek32(VC_PCI_ECAM_BASE), 0x0d578086);
	ck_assert_uint_eq(peek32(VC_PCI_MEMORY_BASE), 0x55667788);
}
END_TEST

START_TEST(own_capability)
{
	unsigned at;

	add(&full, &probe);
	at = capability(1, 9);
	ck_assert_uint_eq(at, VC_PCI_CAPABILITIES);
	ck_assert_uint_eq(get(1, at + 2, 2), 0x1188);
	ck_assert_uint_gt(probe.config_reads, 0);
	ck_assert_uint_eq(probe.config_offset, at + 2);
	put(1, at + 4, 4, 0xaabbccdd);
	ck_assert_uint_eq(probe.config_writes, 1);
	ck_assert_uint_eq(probe.config_offset, at + 4);
	ck_assert_uint_eq(probe.config_value, 0xaabbccdd);
	ck_assert_uint_eq(get(1, at + 4, 4), (0x554433dd ^ 0x80));
	/* not beside it */
	probe.config_reads = probe.config_writes = 0;
	put(1, at + 8, 4, 0);
	put(1, 0x3c, 4, 0);
	get(1, 0x3c, 4);
	get(1, at + 8, 4);
	ck_assert_uint_eq(probe.config_reads + probe.config_writes, 0);
	vc_buses_reset(&p.buses);
	ck_assert_uint_eq(get(1, at + 4, 4), (0x55443322 ^ 0x80));
}
END_TEST

START_TEST(state)
{
	static uint8_t saved[16384], wrong[16384];
	struct vc_dev *dev = add(&full, &probe);
	struct vc_pci_function *f = vc_pci_function_of(dev);
	unsigned cap = capability(1, 0x11);
	int64_t length;

	put(1, COMMAND, 2, MEMORY | MASTER);
	put(1, BAR0, 4, 0xf9000000);
	put(1, cap + 2, 2, MSIX_ON);
	put_vector(bar(1, 5), 3, 0xfee01000, 0x41, 1);
	vc_pci_msi_send(f, 3);
	assert_intx(f, true);
	probe.own_state = 0xcafe;
	length = dev->ops.save(f, NULL, 0);
	ck_assert_int_gt(length, 4096);
	ck_assert_int_le(length, (int64_t)sizeof saved);
	ck_assert_int_lt(dev->ops.save(f, saved, (size_t)length - 1), 0);
	ck_assert_int_lt(dev->ops.save(f, saved, 100), 0);
	ck_assert_int_eq(dev->ops.save(f, saved, sizeof saved), length);
	vc_buses_reset(&p.buses);
	probe.own_state = 0;
	ck_assert_int_eq(dev->ops.load(f, saved, (size_t)length), 0);
	ck_assert_uint_eq(probe.own_state, 0xcafe);
	ck_assert_uint_eq(peek32(0xf9000000), 0x55667788);
	ck_assert_uint_eq(get(1, STATUS, 2) & 8, 8);
	ck_assert_uint_eq(messages, 0);
	poke(bar(1, 5) + 60, 4, 0);
	ck_assert_uint_eq(messages, 1);
	ck_assert_uint_eq(message_data, 0x41);
	/* what is not a state of this function */
	ck_assert_int_eq(dev->ops.load(f, saved, (size_t)length + 1), -EINVAL);
	ck_assert_int_eq(dev->ops.load(f, saved, (size_t)length - 1), -EINVAL);
	ck_assert_int_eq(dev->ops.load(f, saved, 3), -EINVAL);
	static const struct {
		unsigned at;
		uint8_t flip;
	} flips[] = {{0, 1},
	             {4, 1},
	             {8, 2},
	             {12, 1},
	             {16, 1},
	             {16 + 0x10, 1},
	             {16 + 0x41, 4},
	             {16 + 4096, 1},
	             {16 + 4096 + 12, 2},
	             {16 + 4096 + 70 * 16 + 15, 0x80}};
	for (unsigned i = 0; i < VC_ARRAY_SIZE(flips); i++) {
		memcpy(wrong, saved, (size_t)length);
		wrong[flips[i].at] ^= flips[i].flip;
		ck_assert_msg(dev->ops.load(f, wrong, (size_t)length) == -EINVAL, "flip at %u", flips[i].at);
	}
}
END_TEST

START_TEST(removal)
{
	struct vc_dev *dev = add(&full, &probe);
	uint64_t data;

	put(1, COMMAND, 2, MEMORY);
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, dev), 0);
	ck_assert_uint_eq(probe.destroys, 1);
	ck_assert(!peek(VC_PCI_MEMORY_BASE, 4, &data));
	ck_assert_uint_eq(get(1, 0, 4), 0xffffffff);
	ck_assert_ptr_null(vc_pci_function_of(p.buses.devices));
	/* its place and its addresses are free again */
	add(&full, &probe);
	ck_assert_uint_eq(bar(1, 0), VC_PCI_MEMORY_BASE);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("pci");

	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, header);
	tcase_add_test(cases, addresses);
	tcase_add_test(cases, function_before_device);
	tcase_add_test(cases, wrong_descriptions);
	tcase_add_test(cases, sizing);
	tcase_add_test(cases, no_window64);
	tcase_add_test(cases, decoding);
	tcase_add_test(cases, moving);
	tcase_add_test(cases, overlapping);
	tcase_add_test(cases, own_capability);
	tcase_add_test(cases, state);
	tcase_add_test(cases, removal);
	return platform_run("pci", cases);
}
