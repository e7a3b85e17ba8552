/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pvpanic (QEMU docs/specs/pvpanic.rst): one byte register by which a guest says that it has panicked. Reads give the
 * events that the device knows. On ISA it is at a port that ACPI tells of, on PCI in BAR 0.
 */
#include <stdlib.h>

#include "chipset/dev_state.h"
#include "device/action.h"
#include "device/device.h"

#define PANICKED     1u
#define CRASH_LOADED 2u /* a kernel that was loaded for the purpose looks at what is left */
#define EVENTS       (PANICKED | CRASH_LOADED)

#define PORT          0x505u
#define PCI_VENDOR    0x1b36u
#define PCI_DEVICE    0x0011u
#define PCI_CLASS     0x088000u /* another system peripheral */
#define STATE_VERSION 1u

struct pvpanic {
	struct vc_env *env;
	enum vc_action action;
};

struct pvpanic_state {
	uint32_t version, pad;
};

static void answer(struct vcore_io *io)
{
	io->data = io->offset ? 0 : EVENTS;
}

static void take(const struct pvpanic *p, const struct vcore_io *io)
{
	if (io->offset)
		return;
	if (io->data & PANICKED)
		vc_action_do(p->env, VC_MACHINE_PANICKED, p->action, "the guest panicked (pvpanic)");
	else if (io->data & CRASH_LOADED)
		vc_action_do(p->env, VC_MACHINE_CRASH_LOADED, VC_ACTION_NONE, NULL);
}

static void isa_read(void *ctx, struct vcore_io *io)
{
	answer(io);
}

static void isa_write(void *ctx, struct vcore_io *io)
{
	take(ctx, io);
}

static void pci_read(void *ctx, uint32_t bar, struct vcore_io *io)
{
	answer(io);
}

static void pci_write(void *ctx, uint32_t bar, struct vcore_io *io)
{
	take(ctx, io);
}

/* It remembers nothing: what it was told it has done. */
static int64_t pvpanic_save(void *ctx, void *buffer, size_t length)
{
	const struct pvpanic_state state = {.version = STATE_VERSION};

	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int pvpanic_load(void *ctx, const void *buffer, size_t length)
{
	struct pvpanic_state state;

	return vc_dev_state_in("pvpanic", STATE_VERSION, &state, sizeof state, buffer, length);
}

static const struct vcore_device_ops isa_ops = {
    .size = sizeof isa_ops,
    .read = isa_read,
    .write = isa_write,
    .save = pvpanic_save,
    .load = pvpanic_load,
    .destroy = free,
};

static const struct vcore_pci_ops pci_ops = {
    .size = sizeof pci_ops,
    .read = pci_read,
    .write = pci_write,
    .save = pvpanic_save,
    .load = pvpanic_load,
    .destroy = free,
};

static int add_isa(struct pvpanic *p, struct vc_props *props, struct vc_dev **dev)
{
	uint64_t port;
	int r = vc_props_u64(props, "addr", PORT, 0, 0xffff, &port);

	if (r < 0) {
		free(p);
		return r;
	}
	r = vc_dev_add(p->env->buses, "pvpanic", &isa_ops, p, dev);
	if (r < 0)
		return r;
	r = vc_dev_add_region(p->env->buses, NULL, *dev, VCORE_BUS_PIO, port, 1);
	if (r < 0) {
		vc_dev_remove(p->env->buses, NULL, *dev);
		return r;
	}
	vc_dev_announce(p->env->buses, *dev, "QEMU0001", VCORE_BUS_PIO, port, 1);
	return 0;
}

static int add_pci(struct pvpanic *p, struct vc_props *props, struct vc_dev **dev)
{
	struct vcore_pci_description d = {
	    .size = sizeof d,
	    .vendor = PCI_VENDOR,
	    .device = PCI_DEVICE,
	    .class_code = PCI_CLASS,
	    .bars[0].size = 16,
	    .type = "pvpanic",
	    .address = vc_props_string(props, "addr", NULL),
	};

	if (p->env->pci)
		return vc_pci_add(p->env->pci, &d, &pci_ops, p, dev);
	free(p);
	return vc_fail(ENOTSUP, "pvpanic: this machine has no PCI");
}

static int pvpanic_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	const char *bus = vc_props_string(props, "bus", "isa");
	bool pci = !strcmp(bus, "pci");
	struct pvpanic *p;
	enum vc_action action;
	int r = vc_action_read(props, VC_ACTION_CRASH, ~0u, &action);

	if (r < 0)
		return r;
	if (!pci && strcmp(bus, "isa"))
		return vc_fail(EINVAL, "property bus=%s: expected isa or pci", bus);
	p = calloc(1, sizeof *p);
	if (!p)
		return vc_fail(ENOMEM, "no memory for a pvpanic");
	p->env = env;
	p->action = action;
	return pci ? add_pci(p, props, dev) : add_isa(p, props, dev);
}

const struct vc_device_type vc_pvpanic_type = {
    .name = "pvpanic",
    .summary = "the guest tells that its kernel has panicked",
    .properties = "action  what follows: crash (the vm ends so), pause, reset, poweroff or none (crash)\n"
                  "bus     isa: a port, of which ACPI tells the guest at boot; pci: a function (isa)\n"
                  "addr    isa: the port (0x505); pci: device or device.function (the lowest free device)\n",
    .create = pvpanic_create,
};
