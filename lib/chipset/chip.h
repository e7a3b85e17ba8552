/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of the chipset share: being added to the buses, byte registers, clocks. */
#ifndef VC_CHIPSET_CHIP_H
#define VC_CHIPSET_CHIP_H

#include "bus/line.h"
#include "chipset/chipset.h"

struct vc_chip_region {
	enum vcore_bus bus;
	uint64_t start, length;
};
/* Adds a fixed device with its regions. On failure ops->destroy(ctx) has been called, as vc_dev_add() does. */
int vc_chip_add(struct vc_env *env, const char *type, const struct vcore_device_ops *ops, void *ctx,
                const struct vc_chip_region *regions, unsigned count);

/* For chips with byte registers: a wider access is one of its bytes after the other, at rising offsets. */
typedef uint8_t (*vc_chip_read8)(void *ctx, uint64_t address);
typedef void (*vc_chip_write8)(void *ctx, uint64_t address, uint8_t value);
void vc_chip_read_bytes(struct vcore_io *io, vc_chip_read8 read, void *ctx);
void vc_chip_write_bytes(const struct vcore_io *io, vc_chip_write8 write, void *ctx);

/* Ticks of a clock with `hz` at guest time ns, and the first ns at which there are so many ticks. */
static inline uint64_t vc_ns_to_ticks(uint64_t ns, uint64_t hz)
{
	return vc_muldiv64(ns, hz, 1000000000u);
}
static inline uint64_t vc_ticks_to_ns(uint64_t ticks, uint64_t hz)
{
	unsigned __int128 ns = ((unsigned __int128)ticks * 1000000000u + hz - 1) / hz;

	return ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns;
}

#endif
