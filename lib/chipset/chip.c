/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "chipset/chip.h"

#include "core/error.h"
#include "core/util.h"

int vc_chip_add(struct vc_env *env, const char *type, const struct vcore_device_ops *ops, void *ctx,
                const struct vc_chip_region *regions, unsigned count)
{
	struct vc_dev *dev;
	int r = vc_dev_add(env->buses, type, ops, ctx, &dev);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < count; i++) {
		r = vc_dev_add_region(env->buses, NULL, dev, regions[i].bus, regions[i].start, regions[i].length);
		if (r < 0) {
			vc_dev_remove(env->buses, NULL, dev);
			return r;
		}
	}
	dev->fixed = true;
	return 0;
}

void vc_chip_read_bytes(struct vcore_io *io, vc_chip_read8 read, void *ctx)
{
	io->data = 0;
	for (unsigned i = 0; i < io->width && i < 8; i++)
		io->data |= (uint64_t)read(ctx, io->address + i) << (i * 8);
}

void vc_chip_write_bytes(const struct vcore_io *io, vc_chip_write8 write, void *ctx)
{
	for (unsigned i = 0; i < io->width && i < 8; i++)
		write(ctx, io->address + i, (uint8_t)(io->data >> (i * 8)));
}
