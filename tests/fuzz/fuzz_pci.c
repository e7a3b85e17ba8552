/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any bytes as what a guest does to PCI: configuration accesses through ports and ECAM, accesses to wherever BARs are,
 * and meanwhile a device that interrupts, is saved and loaded, goes and comes back. A virtio device is among them.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/util.h"
#include "device/device.h"
#include "unit/virtio_machine.h"
#include "virtio/types.h"

enum { RAM = 1 << 20, STEP = 12, PLACES = 7, STATE_MAX = 1 << 17 };

struct world {
	struct machine m;
	struct vc_log log;
	struct vc_dev *probe;
	bool level[VC_GSI_COUNT];
	bool tampered; /* a changed state was loaded: lines are what it says */
};

struct input {
	const uint8_t *data;
	size_t left;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void check(bool truth, const char *what)
{
	if (truth)
		return;
	fprintf(stderr, "fuzz_pci: %s\n", what);
	abort();
}

static void set_level(void *ctx, unsigned gsi, bool level)
{
	((struct world *)ctx)->level[gsi] = level;
}

static int take_message(void *ctx, uint64_t address, uint32_t data)
{
	return 0;
}

static void nothing(void *ctx) {}

static void nothing_said(void *ctx, const char *message) {}

static void nothing_told(void *ctx, const struct vc_machine_event *event) {}

static void quiet(void *ctx, enum vcore_log_level level, const char *message) {}

static void probe_read(void *ctx, uint32_t bar, struct vcore_io *io)
{
	check(bar < 2 && io->offset < 0x2000 && io->width <= 0x2000 - io->offset, "an access beyond a BAR");
	io->data = io->offset;
}

static void probe_write(void *ctx, uint32_t bar, struct vcore_io *io)
{
	probe_read(ctx, bar, io);
}

static const struct vcore_pci_ops probe_ops = {.size = sizeof probe_ops, .read = probe_read, .write = probe_write};

static void add_probe(struct world *w, const char *address)
{
	static const uint8_t data[4] = {1, 2, 3, 4}, writable[4] = {0xff, 0x0f, 0, 0x80};
	static const struct vcore_pci_capability capability = {.id = 9, .length = 4, .data = data, .writable = writable};
	struct vcore_pci_description description = {
	    .size = sizeof description,
	    .vendor = 0x1234,
	    .device = 1,
	    .class_code = 0xff0000,
	    .interrupt_pin = 2,
	    .msix_vectors = 70,
	    .msi_vectors = 4,
	    .capabilities = &capability,
	    .capability_count = 1,
	    .bars = {{.size = 0x2000},
	             {.size = 16, .flags = VCORE_PCI_BAR_IO},
	             {.size = 0x8000, .flags = VCORE_PCI_BAR_64 | VCORE_PCI_BAR_MSIX}},
	    .address = address,
	};

	check(vc_pci_add(w->m.env.pci, &description, &probe_ops, w, &w->probe) == 0, "the function cannot be added");
}

static void add_type(struct world *w, const struct vc_device_type *type, const char *text)
{
	struct vc_props *props;
	struct vc_dev *dev;

	check(vc_props_parse(text, &props) == 0, "properties");
	check(type->create(&w->m.env, props, &dev) == 0, "a device cannot be added");
	vc_props_free(props);
}

static void begin(struct world *w)
{
	static const struct vc_irq_sink sink = {.set = set_level, .msi = take_message};
	static const struct vc_machine_ops machine = {
	    .reset = nothing, .poweroff = nothing, .pause = nothing, .panic = nothing_said, .tell = nothing_told};

	memset(w, 0, sizeof *w);
	machine_init(&w->m);
	w->m.irqs = (struct vc_irqs){&sink, w};
	w->log = (struct vc_log){quiet, w, VCORE_LOG_ERROR};
	w->m.env.log = &w->log;
	w->m.env.machine = &machine;
	machine_add_memory(&w->m, 0, RAM, VCORE_MEM_RWX);
	check(vc_pci_host_new(&w->m.env) == 0, "no PCI");
	vc_pci_set_window64(w->m.env.pci, (struct vc_pci_window){1ull << 40, 1ull << 40});
	add_type(w, &vc_virtio_rng_type, "addr=1");
	add_type(w, &vc_pci_root_port_type, "addr=2");
	add_probe(w, "3");
	add_type(w, &vc_i6300esb_type, "addr=4,action=pause");
	add_type(w, &vc_pvpanic_type, "addr=5,bus=pci");
}

static void end(struct world *w)
{
	machine_fini(&w->m);
	for (unsigned gsi = 0; gsi < VC_GSI_COUNT; gsi++)
		check(!w->level[gsi] || w->tampered, "a function left its interrupt line asserted");
}

static void dispatch(struct world *w, enum vcore_bus bus, uint64_t address, unsigned width, bool write, uint64_t data)
{
	struct vcore_io io = {
	    .size = sizeof io, .bus = bus, .address = address, .width = width, .data = data, .is_write = write};

	vc_bus_dispatch(&w->m.buses, NULL, &io);
}

/* Where a BAR of a function is, or was to be. */
static uint64_t bar_address(struct world *w, unsigned devfn, unsigned bar)
{
	uint64_t low = vc_pci_config_read(w->m.env.pci, devfn >> 8, devfn & 0xff, 0x10 + 4 * bar, 4);

	if (low & 1)
		return low & 0xfffc;
	return (low & ~15ull) |
	       ((low & 4) && bar < 5 ? vc_pci_config_read(w->m.env.pci, devfn >> 8, devfn & 0xff, 0x14 + 4 * bar, 4) << 32
	                             : 0);
}

static void save_and_load(struct world *w, struct input *in)
{
	static uint8_t state[STATE_MAX];
	struct vc_dev *dev = w->probe;
	int64_t length = dev->ops.save(dev->ctx, state, sizeof state);

	check(length > 0 && dev->ops.load(dev->ctx, state, (size_t)length) == 0, "what was saved does not load");
	if (in->left < 4)
		return;
	w->tampered = true;
	state[vc_ld16(in->data) % (size_t)length] ^= in->data[2];
	dev->ops.load(dev->ctx, state, (size_t)length - in->data[3] % 2);
}

/* One thing that happens: what, where, how wide, and a value. */
static void step(struct world *w, struct input *in)
{
	/* bus, device and function as in a configuration address; the fifth is behind the port */
	static const unsigned places[PLACES] = {0, 1 << 3, 3 << 3, 2 << 3, 1 << 8, 4 << 3, 5 << 3};
	uint8_t what = in->data[0];
	unsigned devfn = places[(in->data[1] & 7) % PLACES], bar = in->data[1] >> 3 & 7, width = 1u << (in->data[1] >> 6);
	uint32_t offset = vc_ld16(in->data + 2);
	uint64_t value = vc_ld64(in->data + 4);
	bool write = what & 0x80;

	in->data += STEP;
	in->left -= STEP;
	switch (what & 15) {
	case 0:
	case 1:
		dispatch(w, VCORE_BUS_MMIO, VC_PCI_ECAM_BASE + (devfn << 12) + (offset & (what & 1 ? 0xfff : 0x7f)), width,
		         write, value);
		break;
	case 2:
		dispatch(w, VCORE_BUS_PIO, 0xcf8, 4, true, 1u << 31 | devfn << 8 | (offset & 0xfc));
		dispatch(w, VCORE_BUS_PIO, 0xcfc + (offset & 3), width > 4 ? 4 : width, write, value);
		break;
	case 3:
	case 4:
	case 5:
		dispatch(w, VCORE_BUS_MMIO, bar_address(w, devfn, bar % 6) + (offset & (what & 1 ? 0xffff : 0x3f)), width,
		         write, value);
		break;
	case 6:
		dispatch(w, VCORE_BUS_PIO, (bar_address(w, devfn, bar % 6) + (offset & 31)) & 0xffff, width > 4 ? 4 : width,
		         write, value);
		break;
	case 7:
		vc_pci_irq_set(vc_pci_function_of(w->probe), write);
		vc_pci_irq_flush(vc_pci_function_of(w->probe));
		break;
	case 8:
		vc_pci_msi_send(vc_pci_function_of(w->probe), (uint32_t)value & 127);
		break;
	case 9:
		save_and_load(w, in);
		break;
	case 10:
		check(vc_dev_remove(&w->m.buses, NULL, w->probe) == 0, "the function cannot be removed");
		add_probe(w, write ? "2/0" : "3");
		break;
	case 11:
		vc_buses_reset(&w->m.buses);
		break;
	case 12:
		dispatch(w, VCORE_BUS_MMIO, value & 0xffffffffffff, width, write, value);
		break;
	case 13:
		vc_pci_unplug(vc_pci_function_of(w->probe));
		break;
	default:
		vc_loop_run(w->m.env.loop, 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct input in = {data, length};
	struct world w;

	begin(&w);
	while (in.left >= STEP)
		step(&w, &in);
	end(&w);
	return 0;
}
