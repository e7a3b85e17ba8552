/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reset control register of a PCH at port 0xcf9, for machines whose PCI host does not cover the port.
 * A rising edge of RST_CPU resets; SYS_RST and FULL_RST choose how hard, which makes no difference here.
 */
#include <stdlib.h>

#include "chipset/chip.h"
#include "chipset/dev_state.h"
#include "core/error.h"

#define RESET_PORT    0xcf9u
#define STATE_VERSION 1u

#define SYS_RST  0x02u
#define RST_CPU  0x04u
#define FULL_RST 0x08u
#define WRITABLE (SYS_RST | RST_CPU | FULL_RST)

struct reset_port {
	struct vc_env *env;
	_Atomic uint8_t value;
};

struct reset_state {
	uint32_t version;
	uint8_t value, pad[3];
};

static void port_read(void *ctx, struct vcore_io *io)
{
	struct reset_port *port = ctx;

	io->data = atomic_load(&port->value);
}

static void port_write(void *ctx, struct vcore_io *io)
{
	struct reset_port *port = ctx;
	uint8_t before = atomic_exchange(&port->value, io->data & WRITABLE);

	if (!(before & RST_CPU) && (io->data & RST_CPU))
		port->env->machine->reset(port->env->machine_ctx);
}

static void port_reset(void *ctx)
{
	struct reset_port *port = ctx;

	atomic_store(&port->value, 0);
}

static int64_t port_save(void *ctx, void *buffer, size_t length)
{
	struct reset_port *port = ctx;
	struct reset_state state = {.version = STATE_VERSION, .value = atomic_load(&port->value)};

	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int port_load(void *ctx, const void *buffer, size_t length)
{
	struct reset_port *port = ctx;
	struct reset_state state;
	int r = vc_dev_state_in("reset-port", STATE_VERSION, &state, sizeof state, buffer, length);

	if (r < 0)
		return r;
	if (state.value & ~WRITABLE)
		return vc_fail(EINVAL, "reset-port: state has value %#x", state.value);
	atomic_store(&port->value, state.value);
	return 0;
}

static const struct vcore_device_ops port_ops = {
    .size = sizeof port_ops,
    .read = port_read,
    .write = port_write,
    .reset = port_reset,
    .save = port_save,
    .load = port_load,
    .destroy = free,
};

int vc_reset_port_new(struct vc_env *env)
{
	struct reset_port *port = calloc(1, sizeof *port);

	if (!port)
		return vc_fail(ENOMEM, "no memory for the reset port");
	port->env = env;
	return vc_chip_add(env, "reset-port", &port_ops, port, &(struct vc_chip_region){VCORE_BUS_PIO, RESET_PORT, 1}, 1);
}
