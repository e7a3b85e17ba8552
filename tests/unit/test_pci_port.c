/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI Express root ports: the bus behind, cards that come and go, the slot's button and power. */
#include "device/device.h"
#include "pci_fixture.h"

enum {
	CAP = VC_PCI_CAPABILITIES,
	LINK_STATUS = CAP + 18,
	SLOT_CONTROL = CAP + 24,
	SLOT_STATUS = CAP + 26,
	BUTTON = 1,
	PRESENCE = 8,
	PRESENT = 0x40,
	LINK = 0x100,
	LINK_ACTIVE = 0x2000,
	HOT_PLUG_INTERRUPT = 0x20,
	POWER_OFF = 0x400,
	LISTEN = 0x1000 | HOT_PLUG_INTERRUPT | PRESENCE | BUTTON,
	PORT_GSI = 20 - 4 + 2, /* device 2, INTA# */
};

static struct vc_dev *port;

static struct vc_dev *add_port(const char *text)
{
	struct vc_props *props;
	struct vc_dev *dev;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	ck_assert_int_eq(vc_pci_root_port_type.create(&p.env, props, &dev), 0);
	ck_assert_int_eq(vc_props_finish(props, "pci-root-port"), 0);
	vc_props_free(props);
	return dev;
}

static void port_setup(void)
{
	setup();
	port = add_port("addr=2,slot=9");
}

static struct vc_dev *add_card(void)
{
	struct vcore_pci_description d = full;

	d.address = "2/0";
	return add(&d, &probe);
}

static uint64_t behind(uint32_t offset, unsigned width)
{
	return vc_pci_config_read(p.env.pci, 1, 0, offset, width);
}

static void put_behind(uint32_t offset, unsigned width, uint64_t value)
{
	vc_pci_config_write(p.env.pci, 1, 0, offset, width, value);
}

START_TEST(bridge)
{
	ck_assert_uint_eq(get(2, 8, 4) >> 8, 0x060400);
	ck_assert_uint_eq(get(2, 0x0e, 1), 1);
	ck_assert_uint_eq(get(2, 0x18, 4), 0x00010100);
	/* windows are closed */
	ck_assert_uint_eq(get(2, 0x1c, 2), 0x00f0);
	ck_assert_uint_eq(get(2, 0x20, 4), 0x0000fff0);
	ck_assert_uint_eq(get(2, 0x24, 4), 0x0001fff1);
	put(2, 0x20, 4, 0xf010f000);
	ck_assert_uint_eq(get(2, 0x20, 4), 0xf010f000);
	ck_assert_uint_eq(get(2, CAP, 1), 0x10);
	ck_assert_uint_eq(get(2, CAP + 2, 2), 0x0142);
	ck_assert_uint_eq(get(2, CAP + 20, 4) >> 19, 9);
	ck_assert_uint_eq(get(2, SLOT_STATUS, 2), 0);
	ck_assert_uint_eq(get(2, LINK_STATUS, 2), 0x11);
	ck_assert(port->fixed);
	/* the next one has the next bus */
	add_port("");
	ck_assert_uint_eq(get(1, 0x18, 4), 0x00020200);
}
END_TEST

static void open_windows(void)
{
	put(2, COMMAND, 2, MASTER | MEMORY | IO);
	put(2, 0x1c, 2, 0xf0c0);     /* ports 0xc000 to 0xffff */
	put(2, 0x20, 4, 0xfeb0f000); /* 0xf0000000 to 0xfebfffff */
	put(2, 0x24, 4, 0xfff10001); /* prefetchable: all above 4 GiB */
	put(2, 0x28, 8, 0xffffffff00000001);
}

START_TEST(bus_behind)
{
	struct vcore_pci_info info;
	struct vcore_pci_description d = full;
	struct vc_dev *card = add_card();
	uint64_t data;

	ck_assert_uint_eq(behind(0, 4), 0x56781234);
	ck_assert_uint_eq(vc_pci_config_read(p.env.pci, 1, 8, 0, 4), 0xffffffff);
	ck_assert_uint_eq(vc_pci_config_read(p.env.pci, 2, 0, 0, 4), 0xffffffff);
	ck_assert_uint_eq(get(2, LINK_STATUS, 2), LINK_ACTIVE | 0x11);
	ck_assert_uint_eq(get(2, SLOT_STATUS, 2), PRESENT); /* nobody listened: no event */
	/* the guest numbers as it likes */
	put(2, 0x19, 2, 0x0707);
	ck_assert_uint_eq(behind(0, 4), 0xffffffff);
	ck_assert_uint_eq(vc_pci_config_read(p.env.pci, 7, 0, 0, 4), 0x56781234);
	vc_pci_get_info(vc_pci_function_of(card), &info);
	ck_assert_uint_eq(info.bus, 7);
	ck_assert_uint_eq(info.device, 0);
	put(2, 0x19, 2, 0);
	ck_assert_uint_eq(vc_pci_config_read(p.env.pci, 0, 0, 0, 4), 0x0d578086);
	put(2, 0x19, 2, 0x0101);
	open_windows();
	put_behind(COMMAND, 2, MEMORY);
	ck_assert(peek(behind(BAR0, 4) & ~15u, 4, &data));
	ck_assert_uint_eq(probe.reads, 1);
	/* its INTA# is the port's */
	assert_intx(vc_pci_function_of(card), true);
	ck_assert(p.level[PORT_GSI]);
	assert_intx(vc_pci_function_of(card), false);
	/* other seats */
	d.address = "2/1";
	add(&d, NULL);
	ck_assert_uint_eq(behind(0x0e, 1), 0x80);
	static const struct {
		const char *address;
		int error;
	} wrong[] = {{"2/0", EEXIST}, {"2/8", EINVAL}, {"2/", EINVAL}, {"2/0/0", EINVAL}, {"3/0", ENOENT}, {"0/0", ENOENT}};
	for (unsigned i = 0; i < VC_ARRAY_SIZE(wrong); i++) {
		d.address = wrong[i].address;
		refuse(&d, wrong[i].error, "PCI address");
	}
}
END_TEST

static bool answers(uint64_t address)
{
	uint64_t data;

	return peek(address, 4, &data);
}

static bool port_answers(uint64_t address)
{
	uint64_t data = 0;

	return touch(VCORE_BUS_PIO, address, 4, false, &data);
}

/* What lies behind answers only where the port lets accesses through. */
START_TEST(windows)
{
	uint64_t memory, wide, ports;

	add_card();
	memory = behind(BAR0, 4) & ~15u;
	ports = behind(BAR0 + 4, 4) & ~3u;
	wide = behind(BAR0 + 8, 8) & ~15ull;
	put_behind(COMMAND, 2, MEMORY | IO);
	ck_assert(!answers(memory) && !answers(wide) && !port_answers(ports));
	open_windows();
	ck_assert(answers(memory) && answers(wide) && port_answers(ports));
	/* the port decodes memory or ports, or not */
	put(2, COMMAND, 2, IO);
	ck_assert(!answers(memory) && !answers(wide) && port_answers(ports));
	put(2, COMMAND, 2, MEMORY);
	ck_assert(answers(memory) && answers(wide) && !port_answers(ports));
	open_windows();
	/* a window elsewhere, an empty one, the smallest */
	put(2, 0x20, 4, 0xfeb0f800);
	ck_assert(!answers(memory));
	put(2, 0x20, 4, 0xf000f010);
	ck_assert(!answers(memory));
	put(2, 0x20, 4, 0xf000f000);
	ck_assert(answers(memory));
	put(2, 0x1c, 2, 0xf0d0);
	ck_assert(!port_answers(ports));
	put(2, 0x1c, 2, 0xc0c0);
	ck_assert(port_answers(ports));
	put(2, 0x28, 4, (wide >> 32) + 1);
	ck_assert(!answers(wide));
	put(2, 0x28, 8, wide >> 32 << 32 | wide >> 32);
	ck_assert(answers(wide));
	/* a BAR that the guest moves out of the window and in again */
	put_behind(BAR0, 4, 0xf0100000);
	ck_assert(!answers(0xf0100000));
	put(2, 0x20, 4, 0xf010f000);
	ck_assert(answers(0xf0100000));
	/* bus numbers that leave out the bus behind */
	put(2, 0x1a, 1, 0);
	ck_assert_uint_eq(behind(0, 4), 0xffffffff);
	put(2, 0x1a, 1, 1);
	ck_assert_uint_eq(behind(0, 4), 0x56781234);
	/* a reset closes them */
	vc_buses_reset(&p.buses);
	put_behind(COMMAND, 2, MEMORY | IO);
	ck_assert(!answers(memory) && !answers(wide) && !port_answers(ports));
}
END_TEST

START_TEST(events)
{
	struct vc_dev *card;

	put(2, COMMAND, 2, MASTER);
	put(2, SLOT_CONTROL, 2, LISTEN);
	card = add_card();
	ck_assert(p.level[PORT_GSI]);
	ck_assert_uint_eq(get(2, SLOT_STATUS, 2), PRESENT | PRESENCE | LINK);
	/* each goes away by being written, bytes and all */
	put(2, SLOT_STATUS, 2, PRESENCE);
	ck_assert_uint_eq(get(2, SLOT_STATUS, 2), PRESENT | LINK);
	ck_assert(p.level[PORT_GSI]);
	put(2, SLOT_STATUS + 1, 1, LINK >> 8);
	ck_assert(!p.level[PORT_GSI]);
	/* control is written together with a status of 0: no event goes */
	put(2, SLOT_CONTROL, 4, 0);
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, card), 0);
	ck_assert_uint_eq(get(2, SLOT_STATUS, 2), 0);
	put(2, SLOT_CONTROL, 4, LISTEN);
	/* now by MSI */
	put(2, capability(2, 5) + 4, 8, 0xfee00000);
	put(2, capability(2, 5) + 12, 2, 0x55);
	put(2, capability(2, 5) + 2, 2, 1);
	add_card();
	ck_assert_uint_eq(messages, 1);
	ck_assert_uint_eq(message_data, 0x55);
	ck_assert(!p.level[PORT_GSI]);
	vc_buses_reset(&p.buses);
	ck_assert_uint_eq(get(2, SLOT_STATUS, 2), PRESENT);
}
END_TEST

START_TEST(button_and_power)
{
	struct vc_pci_function *f = vc_pci_function_of(add_card());
	struct vcore_pci_info info;

	ck_assert_int_eq(vc_pci_unplug(f), -EAGAIN);
	put(2, SLOT_CONTROL, 2, LISTEN);
	ck_assert_int_eq(vc_pci_unplug(f), 0);
	ck_assert_uint_eq(get(2, SLOT_STATUS, 2), PRESENT | BUTTON);
	put(2, SLOT_STATUS, 2, BUTTON);
	ck_assert_uint_eq(get(2, SLOT_STATUS, 2), PRESENT);
	put_behind(COMMAND, 2, MEMORY);
	assert_intx(f, true);
	probe.resets = 0;
	put(2, SLOT_CONTROL, 2, LISTEN | POWER_OFF);
	ck_assert_uint_eq(probe.resets, 1);
	ck_assert_uint_eq(behind(COMMAND, 2), 0);
	ck_assert(!p.level[PORT_GSI]);
	vc_pci_get_info(f, &info);
	ck_assert_uint_eq(info.slot_off, 1);
	put(2, SLOT_CONTROL, 2, LISTEN | POWER_OFF);
	ck_assert_uint_eq(probe.resets, 1);
	put(2, SLOT_CONTROL, 2, LISTEN);
	vc_pci_get_info(f, &info);
	ck_assert_uint_eq(info.slot_off, 0);
	/* one on bus 0 cannot be let go of */
	ck_assert_int_eq(vc_pci_unplug(vc_pci_function_of(add(&full, NULL))), -ENOTSUP);
}
END_TEST

START_TEST(port_state)
{
	static uint8_t saved[8192];
	int64_t length;

	put(2, SLOT_CONTROL, 2, LISTEN);
	add_card();
	length = port->ops.save(port->ctx, saved, sizeof saved);
	ck_assert_int_gt(length, 0);
	vc_buses_reset(&p.buses);
	ck_assert_int_eq(port->ops.load(port->ctx, saved, (size_t)length), 0);
	ck_assert_uint_eq(get(2, SLOT_STATUS, 2), PRESENT | PRESENCE | LINK);
	ck_assert_uint_eq(get(2, SLOT_CONTROL, 2), LISTEN);
	saved[length - 4] ^= 2;
	ck_assert_int_eq(port->ops.load(port->ctx, saved, (size_t)length), -EINVAL);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("pci_port");

	tcase_add_checked_fixture(cases, port_setup, teardown);
	tcase_add_test(cases, bridge);
	tcase_add_test(cases, bus_behind);
	tcase_add_test(cases, windows);
	tcase_add_test(cases, events);
	tcase_add_test(cases, button_and_power);
	tcase_add_test(cases, port_state);
	return platform_run("pci_port", cases);
}
