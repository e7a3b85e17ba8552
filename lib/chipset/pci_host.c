/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * PCI host bridge: configuration mechanism #1 (PCI Local Bus 3.0, 3.2.2.3.2) and ECAM. Only accesses of 32 bits reach
 * CONFIG_ADDRESS; a byte at 0xcf9 is the reset control register, which on a PC lies in the midst of it.
 */
#include <stdlib.h>

#include "chipset/chip.h"
#include "chipset/dev_state.h"

enum {
	PORT_ADDRESS = 0xcf8,
	PORT_RESET = 0xcf9,
	PORT_DATA = 0xcfc,
	PORTS = 8,

	ADDRESS_ENABLE = 1u << 31,
	ADDRESS_MASK = 0x80fffffc, /* bits that hold what was written */

	RESET_SYSTEM = 1u << 1, /* which kind; all of ours are full resets */
	RESET_CPU = 1u << 2,    /* 0 to 1: go */

	STATE_VERSION = 2,
};

struct pci_host {
	struct vc_env *env;
	struct vc_pci *pci;
	pthread_mutex_t lock; /* protects all below */
	uint32_t address;
	uint8_t reset_control;
};

struct pci_host_state {
	uint32_t version;
	uint32_t address;
	uint32_t reset_control;
};

/* ---- configuration ---- */

/* Where a data port leads; false: nowhere. */
static bool selected(struct pci_host *host, uint64_t port, uint32_t *address)
{
	pthread_mutex_lock(&host->lock);
	*address = host->address | (port & 3);
	pthread_mutex_unlock(&host->lock);
	return *address & ADDRESS_ENABLE;
}

static uint64_t read_data(struct pci_host *host, const struct vcore_io *io)
{
	uint32_t a;

	if (!selected(host, io->address, &a))
		return vc_width_mask(io->width);
	return vc_pci_config_read(host->pci, a >> 16 & 0xff, a >> 8 & 0xff, a & 0xff, io->width);
}

static void write_data(struct pci_host *host, const struct vcore_io *io)
{
	uint32_t a;

	if (selected(host, io->address, &a))
		vc_pci_config_write(host->pci, a >> 16 & 0xff, a >> 8 & 0xff, a & 0xff, io->width, io->data);
}

/* PCI Express 5.0, 7.2.2: bus, device and function are address lines. */
static void ecam_access(struct pci_host *host, struct vcore_io *io)
{
	unsigned bus = io->offset >> 20 & 0xff, devfn = io->offset >> 12 & 0xff;
	uint32_t offset = io->offset & (VC_PCI_CONFIG_SIZE - 1);

	if (io->is_write)
		vc_pci_config_write(host->pci, bus, devfn, offset, io->width, io->data);
	else
		io->data = vc_pci_config_read(host->pci, bus, devfn, offset, io->width);
}

/* ---- ports ---- */

/* True: the machine is to be reset. */
static bool write_reset(struct pci_host *host, uint8_t value)
{
	bool go = value & RESET_CPU && !(host->reset_control & RESET_CPU);

	host->reset_control = value & (RESET_SYSTEM | RESET_CPU);
	return go;
}

static uint64_t read_register(struct pci_host *host, const struct vcore_io *io)
{
	uint64_t value = vc_width_mask(io->width);

	pthread_mutex_lock(&host->lock);
	if (io->address == PORT_ADDRESS && io->width == 4)
		value = host->address;
	else if (io->address == PORT_RESET && io->width == 1)
		value = host->reset_control;
	pthread_mutex_unlock(&host->lock);
	return value;
}

static void write_register(struct pci_host *host, const struct vcore_io *io)
{
	bool reset = false;

	pthread_mutex_lock(&host->lock);
	if (io->address == PORT_ADDRESS && io->width == 4)
		host->address = (uint32_t)io->data & ADDRESS_MASK;
	else if (io->address == PORT_RESET && io->width == 1)
		reset = write_reset(host, (uint8_t)io->data);
	pthread_mutex_unlock(&host->lock);
	if (reset)
		host->env->machine->reset(host->env->machine_ctx);
}

static void pci_host_read(void *ctx, struct vcore_io *io)
{
	struct pci_host *host = ctx;

	if (io->bus == VCORE_BUS_MMIO)
		ecam_access(host, io);
	else
		io->data = io->address >= PORT_DATA ? read_data(host, io) : read_register(host, io);
}

static void pci_host_write(void *ctx, struct vcore_io *io)
{
	struct pci_host *host = ctx;

	if (io->bus == VCORE_BUS_MMIO)
		ecam_access(host, io);
	else if (io->address >= PORT_DATA)
		write_data(host, io);
	else
		write_register(host, io);
}

static void pci_host_reset(void *ctx)
{
	struct pci_host *host = ctx;

	pthread_mutex_lock(&host->lock);
	host->address = 0;
	host->reset_control = 0;
	pthread_mutex_unlock(&host->lock);
}

static int64_t pci_host_save(void *ctx, void *buffer, size_t length)
{
	struct pci_host *host = ctx;
	struct pci_host_state state = {.version = STATE_VERSION};

	pthread_mutex_lock(&host->lock);
	state.address = host->address;
	state.reset_control = host->reset_control;
	pthread_mutex_unlock(&host->lock);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int pci_host_load(void *ctx, const void *buffer, size_t length)
{
	struct pci_host *host = ctx;
	struct pci_host_state state;
	int r = vc_dev_state_in("pci-host", STATE_VERSION, &state, sizeof state, buffer, length);

	if (r)
		return r;
	if (state.address & ~ADDRESS_MASK || state.reset_control & ~(uint32_t)(RESET_SYSTEM | RESET_CPU))
		return vc_fail(EINVAL, "the saved state of a pci-host holds bits that its registers have not");
	pthread_mutex_lock(&host->lock);
	host->address = state.address;
	host->reset_control = (uint8_t)state.reset_control;
	pthread_mutex_unlock(&host->lock);
	return 0;
}

static void pci_host_destroy(void *ctx)
{
	struct pci_host *host = ctx;

	host->env->pci = NULL;
	vc_pci_free(host->pci);
	pthread_mutex_destroy(&host->lock);
	free(host);
}

static const struct vcore_device_ops pci_host_ops = {
    .size = sizeof pci_host_ops,
    .read = pci_host_read,
    .write = pci_host_write,
    .reset = pci_host_reset,
    .save = pci_host_save,
    .load = pci_host_load,
    .destroy = pci_host_destroy,
};

/* The host bridge as its own bus sees it. */
static int add_bridge(struct vc_env *env)
{
	static const struct vcore_pci_description bridge = {
	    .size = sizeof bridge,
	    .vendor = 0x8086,
	    .device = 0x0d57, /* Intel's virtual host bridge */
	    .class_code = 0x060000,
	    .type = "pci-host-bridge",
	    .address = "0",
	};
	static const struct vcore_pci_ops ops = {.size = sizeof ops};
	struct vc_dev *dev;
	int r = vc_pci_add(env->pci, &bridge, &ops, NULL, &dev);

	if (r >= 0)
		dev->fixed = true;
	return r;
}

static int add_host(struct vc_env *env, struct pci_host *host)
{
	static const struct vc_chip_region regions[] = {
	    {VCORE_BUS_PIO, PORT_ADDRESS, PORTS},
	    {VCORE_BUS_MMIO, VC_PCI_ECAM_BASE, VC_PCI_ECAM_SIZE},
	};

	env->pci = host->pci;
	return vc_chip_add(env, "pci-host", &pci_host_ops, host, regions, VC_ARRAY_SIZE(regions));
}

static void slot_off(void *ctx, uint32_t id)
{
	struct vc_env *env = ctx;

	if (env->machine->slot_off)
		env->machine->slot_off(env->machine_ctx, id);
}

int vc_pci_host_new(struct vc_env *env)
{
	const struct vc_pci_config config = {
	    .buses = env->buses,
	    .irqs = env->irqs,
	    .gsi = VC_PCI_GSI,
	    .io = {VC_PCI_PORTS_BASE, VC_PCI_PORTS_END - VC_PCI_PORTS_BASE},
	    .memory = {VC_PCI_MEMORY_BASE, VC_PCI_MEMORY_END - VC_PCI_MEMORY_BASE},
	    .slot_off = slot_off,
	    .ctx = env,
	};
	struct pci_host *host = calloc(1, sizeof *host);
	int r;

	if (!host)
		return vc_fail(ENOMEM, "no memory for the PCI host bridge");
	host->env = env;
	r = vc_pci_new(&config, &host->pci);
	if (r < 0) {
		free(host);
		return r;
	}
	pthread_mutex_init(&host->lock, NULL);
	r = add_host(env, host); /* on failure host has been destroyed */
	return r < 0 ? r : add_bridge(env);
}
