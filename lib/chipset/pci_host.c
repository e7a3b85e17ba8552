/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * PCI configuration mechanism #1 (PCI Local Bus 3.0, 3.2.2.3.2): a bus 0 with nothing but a host bridge. Only accesses
 * of 32 bits reach CONFIG_ADDRESS; a byte at 0xcf9 is the reset control register, which on a PC lies in the midst of
 * it.
 */
#include <stdlib.h>

#include "chipset/chipset.h"
#include "chipset/dev_state.h"

enum {
	PORT_ADDRESS = 0xcf8,
	PORT_RESET = 0xcf9,
	PORT_DATA = 0xcfc,
	PORTS = 8,

	ADDRESS_ENABLE = 1u << 31,
	ADDRESS_MASK = 0x80fffffc, /* bits that hold what was written */
	ADDRESS_BDF = 0x00ffff00,

	RESET_SYSTEM = 1u << 1, /* which kind; all of ours are full resets */
	RESET_CPU = 1u << 2,    /* 0 to 1: go */

	CONFIG_SIZE = 256,
	STATE_VERSION = 1,
};

/* Type 0 header of an Intel-made virtual host bridge, class 06 00 00, and the bits that software may change. */
static const uint8_t bridge_header[] = {0x86, 0x80, 0x57, 0x0d, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x06};
enum { CONFIG_COMMAND = 0x04, COMMAND_WRITABLE = 0x07, CONFIG_INTERRUPT_LINE = 0x3c };

struct pci_host {
	struct vc_env *env;
	pthread_mutex_t lock; /* protects all below */
	uint32_t address;
	uint8_t reset_control;
	uint8_t config[CONFIG_SIZE];
};

struct pci_host_state {
	uint32_t version;
	uint32_t address;
	uint8_t reset_control, command, interrupt_line, pad;
};

/* The offset in the bridge's configuration space that a data port means; false: no function answers there. */
static bool selected(const struct pci_host *host, uint64_t port, unsigned *offset)
{
	*offset = (host->address & 0xfc) | (port & 3);
	return host->address & ADDRESS_ENABLE && !(host->address & ADDRESS_BDF);
}

static uint64_t read_config(const struct pci_host *host, uint64_t port, unsigned width)
{
	uint64_t value = 0;
	unsigned offset;

	if (!selected(host, port, &offset))
		return vc_width_mask(width);
	for (unsigned i = 0; i < width; i++)
		value |= (uint64_t)(offset + i < CONFIG_SIZE ? host->config[offset + i] : 0xff) << (8 * i);
	return value;
}

static void write_config(struct pci_host *host, uint64_t port, uint64_t data, unsigned width)
{
	unsigned offset;

	if (!selected(host, port, &offset))
		return;
	for (unsigned i = 0; i < width; i++) {
		uint8_t byte = (uint8_t)(data >> (8 * i));

		if (offset + i == CONFIG_COMMAND)
			host->config[CONFIG_COMMAND] = byte & COMMAND_WRITABLE;
		else if (offset + i == CONFIG_INTERRUPT_LINE)
			host->config[CONFIG_INTERRUPT_LINE] = byte;
	}
}

/* True: the machine is to be reset. */
static bool write_reset(struct pci_host *host, uint8_t value)
{
	bool go = value & RESET_CPU && !(host->reset_control & RESET_CPU);

	host->reset_control = value & (RESET_SYSTEM | RESET_CPU);
	return go;
}

static void pci_host_read(void *ctx, struct vcore_io *io)
{
	struct pci_host *host = ctx;

	pthread_mutex_lock(&host->lock);
	if (io->address >= PORT_DATA)
		io->data = read_config(host, io->address, io->width);
	else if (io->address == PORT_ADDRESS && io->width == 4)
		io->data = host->address;
	else if (io->address == PORT_RESET && io->width == 1)
		io->data = host->reset_control;
	else
		io->data = vc_width_mask(io->width);
	pthread_mutex_unlock(&host->lock);
}

static void pci_host_write(void *ctx, struct vcore_io *io)
{
	struct pci_host *host = ctx;
	bool reset = false;

	pthread_mutex_lock(&host->lock);
	if (io->address >= PORT_DATA)
		write_config(host, io->address, io->data, io->width);
	else if (io->address == PORT_ADDRESS && io->width == 4)
		host->address = (uint32_t)io->data & ADDRESS_MASK;
	else if (io->address == PORT_RESET && io->width == 1)
		reset = write_reset(host, (uint8_t)io->data);
	pthread_mutex_unlock(&host->lock);
	if (reset)
		host->env->machine->reset(host->env->machine_ctx);
}

static void pci_host_reset(void *ctx)
{
	struct pci_host *host = ctx;

	pthread_mutex_lock(&host->lock);
	host->address = 0;
	host->reset_control = 0;
	memset(host->config, 0, sizeof host->config);
	memcpy(host->config, bridge_header, sizeof bridge_header);
	pthread_mutex_unlock(&host->lock);
}

static int64_t pci_host_save(void *ctx, void *buffer, size_t length)
{
	struct pci_host *host = ctx;
	struct pci_host_state state = {.version = STATE_VERSION};

	pthread_mutex_lock(&host->lock);
	state.address = host->address;
	state.reset_control = host->reset_control;
	state.command = host->config[CONFIG_COMMAND];
	state.interrupt_line = host->config[CONFIG_INTERRUPT_LINE];
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
	if (state.address & ~ADDRESS_MASK || state.reset_control & ~(RESET_SYSTEM | RESET_CPU) ||
	    state.command & ~COMMAND_WRITABLE)
		return vc_fail(EINVAL, "the saved state of a pci-host holds bits that its registers have not");
	pthread_mutex_lock(&host->lock);
	host->address = state.address;
	host->reset_control = state.reset_control;
	host->config[CONFIG_COMMAND] = state.command;
	host->config[CONFIG_INTERRUPT_LINE] = state.interrupt_line;
	pthread_mutex_unlock(&host->lock);
	return 0;
}

static void pci_host_destroy(void *ctx)
{
	struct pci_host *host = ctx;

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

int vc_pci_host_new(struct vc_env *env)
{
	struct pci_host *host = calloc(1, sizeof *host);
	struct vc_dev *dev;
	int r;

	if (!host)
		return vc_fail(ENOMEM, "no memory for the PCI host bridge");
	host->env = env;
	pthread_mutex_init(&host->lock, NULL);
	pci_host_reset(host);
	r = vc_dev_add(env->buses, "pci-host", &pci_host_ops, host, &dev);
	if (r)
		return r; /* host has been destroyed */
	r = vc_dev_add_region(env->buses, NULL, dev, VCORE_BUS_PIO, PORT_ADDRESS, PORTS);
	if (r)
		vc_dev_remove(env->buses, NULL, dev);
	return r;
}
