/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Interrupts of PCI functions: INTx shared and cut off, MSI-X, MSI, masks and pending bits. */
#include "pci_fixture.h"

START_TEST(intx)
{
	struct vcore_pci_description d = {.size = sizeof d, .vendor = 2, .interrupt_pin = 1, .address = "5"};
	struct vc_pci_function *a = vc_pci_function_of(add(&full, &probe)), *b = vc_pci_function_of(add(&d, NULL)), *c;
	struct vc_dev *gone;

	/* devices 1 and 5 share GSI 17 */
	assert_intx(a, true);
	ck_assert(p.level[17]);
	assert_intx(b, true);
	assert_intx(a, false);
	ck_assert(p.level[17]);
	ck_assert_uint_eq(get(1, STATUS, 2) & 8, 0);
	ck_assert_uint_eq(get(5, STATUS, 2) & 8, 8);
	put(5, COMMAND, 2, INTX_OFF);
	ck_assert(!p.level[17]);
	ck_assert_uint_eq(get(5, STATUS, 2) & 8, 8);
	put(5, COMMAND, 2, 0);
	ck_assert(p.level[17]);
	vc_buses_reset(&p.buses);
	ck_assert(!p.level[17]);
	/* INTD of device 6; one that goes takes its level along */
	d.address = "6";
	d.interrupt_pin = 4;
	gone = add(&d, NULL);
	c = vc_pci_function_of(gone);
	assert_intx(c, true);
	ck_assert(p.level[17]);
	assert_intx(b, true);
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, gone), 0);
	ck_assert(p.level[17]);
	assert_intx(b, false);
	ck_assert(!p.level[17]);
	ck_assert_uint_eq(get(6, 0, 4), 0xffffffff);
	ck_assert_uint_eq(p.edges[16] + p.edges[18] + p.edges[19], 0);
}
END_TEST

START_TEST(no_pin)
{
	struct vcore_pci_description d = {.size = sizeof d, .vendor = 2};

	assert_intx(vc_pci_function_of(add(&d, NULL)), true);
	ck_assert_uint_eq(p.edges[16] + p.edges[17] + p.edges[18] + p.edges[19], 0);
	ck_assert_uint_eq(get(1, STATUS, 2), 0);
	put(1, COMMAND, 2, 0xffff);
	ck_assert_uint_eq(get(1, COMMAND, 2), IO | MEMORY | MASTER);
}
END_TEST

START_TEST(msix)
{
	struct vc_pci_function *f = vc_pci_function_of(add(&full, &probe));
	unsigned cap = capability(1, 0x11);
	uint64_t table, pba;

	ck_assert_uint_ne(cap, 0);
	ck_assert_uint_eq(get(1, cap + 2, 2), 69);
	ck_assert_uint_eq(get(1, cap + 4, 4), 5);
	ck_assert_uint_eq(get(1, cap + 8, 4), 0x800 | 5);
	table = bar(1, 5);
	pba = table + 0x800;
	put(1, COMMAND, 2, MEMORY | MASTER);
	/* masked after reset; unaligned and narrow writes do nothing */
	ck_assert_uint_eq(peek32(table + 69 * 16 + 12), 1);
	poke(table, 2, 0xffff);
	poke(table + 1, 4, 0xffffffff);
	poke(table + 4, 8, UINT64_MAX);
	ck_assert_uint_eq(peek32(table), 0);
	ck_assert_uint_eq(peek32(table + 8), 0);
	put_vector(table, 3, 0xfee01007, 0x41, 0xfffffffe);
	ck_assert_uint_eq(peek32(table + 48), 0xfee01004);
	ck_assert_uint_eq(peek32(table + 60), 0);
	/* beyond the table, and the pending bits, there is nothing to write */
	poke(table + 70 * 16, 4, 0xffffffff);
	ck_assert_uint_eq(peek32(table + 70 * 16), 0);
	poke(pba, 8, UINT64_MAX);
	ck_assert_uint_eq(peek32(pba), 0);
	poke(table + 0xff8, 8, UINT64_MAX);
	ck_assert_uint_eq(peek32(table + 0xffc), 0);
	ck_assert_uint_eq(probe.reads + probe.writes, 0);

	/* off: INTx */
	ck_assert(!vc_pci_msi_send(f, 3));
	put(1, cap + 2, 2, MSIX_ON);
	ck_assert(vc_pci_msi_send(f, 3));
	ck_assert_uint_eq(messages, 1);
	ck_assert_uint_eq(message_address, 0xfee01004);
	ck_assert_uint_eq(message_data, 0x41);
	ck_assert(vc_pci_msi_send(f, 70));
	ck_assert(vc_pci_msi_send(f, UINT32_MAX));
	ck_assert_uint_eq(messages, 1);
	/* masked, one by one and all */
	ck_assert(vc_pci_msi_send(f, 69));
	ck_assert_uint_eq(peek32(pba + 8), 1u << 5);
	put(1, cap + 2, 2, MSIX_ON | MSIX_MASK);
	vc_pci_msi_send(f, 3);
	vc_pci_msi_send(f, 3);
	ck_assert_uint_eq(messages, 1);
	ck_assert_uint_eq(peek32(pba), 1u << 3);
	put_vector(table, 69, 0xfee02000, 0x42, 0);
	ck_assert_uint_eq(messages, 1);
	put(1, cap + 2, 2, MSIX_ON);
	ck_assert_uint_eq(messages, 3); /* both, once */
	ck_assert_uint_eq(message_data, 0x42);
	ck_assert_uint_eq(peek32(pba), 0);
	ck_assert_uint_eq(peek32(pba + 8), 0);
	/* no bus master, no message */
	put(1, COMMAND, 2, MEMORY);
	vc_pci_msi_send(f, 3);
	ck_assert_uint_eq(messages, 3);
	put(1, COMMAND, 2, MEMORY | MASTER);
	ck_assert_uint_eq(messages, 4);
	/* INTx is silent meanwhile */
	assert_intx(f, true);
	ck_assert(!p.level[17]);
	put(1, cap + 2, 2, 0);
	ck_assert(p.level[17]);
	/* an address that is no interrupt's */
	put(1, cap + 2, 2, MSIX_ON);
	put_vector(table, 3, 0x1000, 1, 0);
	ck_assert(vc_pci_msi_send(f, 3));
	ck_assert_uint_eq(messages, 4);
}
END_TEST

START_TEST(msix_sizes)
{
	struct vcore_pci_description d = {.size = sizeof d, .vendor = 2, .msix_vectors = 2048};
	uint64_t data;

	d.bars[0].flags = VCORE_PCI_BAR_MSIX | VCORE_PCI_BAR_64;
	add(&d, &probe);
	put(1, COMMAND, 2, MEMORY);
	put(1, BAR0, 4, 0xffffffff);
	ck_assert_uint_eq(get(1, BAR0, 4), 0xffff0004);
	put(1, BAR0, 4, 0);
	ck_assert_uint_eq(get(1, capability(1, 0x11) + 8, 4), 0x8000);
	ck_assert(peek(bar(1, 0) + 2047 * 16 + 8, 8, &data));
	ck_assert_uint_eq(data, 1ull << 32);
	ck_assert(peek(bar(1, 0) + 0x8000 + 248, 8, &data));
	ck_assert_uint_eq(data, 0);
}
END_TEST

START_TEST(msi)
{
	struct vcore_pci_description d = {.size = sizeof d, .vendor = 2, .msi_vectors = 4, .interrupt_pin = 1};
	struct vc_pci_function *f = vc_pci_function_of(add(&d, &probe));
	unsigned cap = capability(1, 5);

	ck_assert_uint_eq(get(1, cap + 2, 2), 0x0184);
	ck_assert_uint_eq(vc_pci_vectors(f), 4);
	put(1, COMMAND, 2, MASTER);
	put(1, cap + 4, 8, 0xfee03003);
	put(1, cap + 12, 4, 0xffff0053);
	ck_assert(!vc_pci_msi_send(f, 0));
	put(1, cap + 2, 2, 0x0001 | 2 << 4);
	vc_pci_msi_send(f, 3);
	ck_assert_uint_eq(message_address, 0xfee03000);
	ck_assert_uint_eq(message_data, 0x53);
	vc_pci_msi_send(f, 1);
	ck_assert_uint_eq(message_data, 0x51);
	/* masked */
	put(1, cap + 16, 4, 0xffffffff);
	ck_assert_uint_eq(get(1, cap + 16, 4), 0xf);
	vc_pci_msi_send(f, 2);
	ck_assert_uint_eq(messages, 2);
	ck_assert_uint_eq(get(1, cap + 20, 4), 4);
	put(1, cap + 20, 4, 0);
	ck_assert_uint_eq(get(1, cap + 20, 4), 4);
	put(1, cap + 16, 4, 0);
	ck_assert_uint_eq(messages, 3);
	ck_assert_uint_eq(message_data, 0x52);
	/* more vectors than there are, then only one */
	put(1, cap + 2, 2, 0x0001 | 7 << 4);
	vc_pci_msi_send(f, 7);
	ck_assert_uint_eq(message_data, 0x53);
	put(1, cap + 2, 2, 0x0001);
	vc_pci_msi_send(f, 2);
	ck_assert_uint_eq(message_data, 0x53);
	ck_assert_uint_eq(messages, 5);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("pci_irq");

	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, intx);
	tcase_add_test(cases, no_pin);
	tcase_add_test(cases, msix);
	tcase_add_test(cases, msix_sizes);
	tcase_add_test(cases, msi);
	return platform_run("pci_irq", cases);
}
