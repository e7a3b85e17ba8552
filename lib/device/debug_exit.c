/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A port that ends the vm with the value written: how test kernels report. */
#include "chipset/dev_state.h"
#include "core/error.h"
#include "device/device.h"

enum { PORTS = 4 }; /* so that OUT of 1, 2 and 4 bytes each is one access */

static void debug_exit_write(void *ctx, struct vcore_io *io)
{
	struct vc_env *env = ctx;

	env->machine->debug_exit(env->machine_ctx, (uint32_t)io->data);
}

static const struct vcore_device_ops debug_exit_ops = {
    .size = sizeof debug_exit_ops,
    .save = vc_dev_stateless_save,
    .load = vc_dev_stateless_load,
    .write = debug_exit_write,
};

static int debug_exit_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	uint64_t addr;
	int r = vc_props_u64(props, "addr", 0xf4, 0, 0x10000 - PORTS, &addr);

	if (!r)
		r = vc_dev_add(env->buses, "debug-exit", &debug_exit_ops, env, dev);
	if (r)
		return r;
	r = vc_dev_add_region(env->buses, NULL, *dev, VCORE_BUS_PIO, addr, PORTS);
	if (r)
		vc_dev_remove(env->buses, NULL, *dev);
	return r;
}

const struct vc_device_type vc_debug_exit_type = {
    .name = "debug-exit",
    .summary = "a write to its port ends the vm and is its exit code",
    .properties = "addr  I/O port (0xf4)\n",
    .create = debug_exit_create,
};
