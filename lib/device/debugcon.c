/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one-port console of Bochs and QEMU: a byte written is a character, a read gives 0xe9 so that software finds it.
 */
#include <stdlib.h>

#include "chipset/dev_state.h"
#include "core/error.h"
#include "device/device.h"
#include "device/stream.h"

enum { READBACK = 0xe9 };

struct debugcon {
	struct vc_output *output;
};

static void debugcon_read(void *ctx, struct vcore_io *io)
{
	io->data = READBACK;
}

static void debugcon_write(void *ctx, struct vcore_io *io)
{
	struct debugcon *con = ctx;

	vc_output_put(con->output, (uint8_t)io->data);
	vc_output_report(con->output);
}

static void debugcon_destroy(void *ctx)
{
	struct debugcon *con = ctx;

	vc_output_close(con->output);
	free(con);
}

static const struct vcore_device_ops debugcon_ops = {
    .size = sizeof debugcon_ops,
    .save = vc_dev_stateless_save,
    .load = vc_dev_stateless_load,
    .read = debugcon_read,
    .write = debugcon_write,
    .destroy = debugcon_destroy,
};

static int debugcon_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	const char *spec = vc_props_string(props, "output", "null");
	struct debugcon *con;
	uint64_t addr;
	int r = vc_props_u64(props, "addr", 0xe9, 0, 0xffff, &addr);

	if (r)
		return r;
	con = calloc(1, sizeof *con);
	if (!con)
		return vc_fail(ENOMEM, "no memory for a debugcon");
	/* A guest never asks whether there is room: what does not fit is dropped. */
	r = vc_output_open(env, spec, NULL, NULL, &con->output);
	if (r) {
		free(con);
		return r;
	}
	r = vc_dev_add(env->buses, "debugcon", &debugcon_ops, con, dev);
	if (r)
		return r; /* con has been destroyed */
	r = vc_dev_add_region(env->buses, NULL, *dev, VCORE_BUS_PIO, addr, 1);
	if (r)
		vc_dev_remove(env->buses, NULL, *dev);
	return r;
}

const struct vc_device_type vc_debugcon_type = {
    .name = "debugcon",
    .summary = "debug console: a port whose bytes are characters",
    .properties = "addr    I/O port (0xe9; SeaBIOS and OVMF write to 0x402)\n"
                  "output  null, stdout, stderr, fd:N or file:PATH (null)\n",
    .create = debugcon_create,
};
