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

#define LINE_LEVEL 1u
#define LINE_EDGE  2u /* rose since the sink was told last */
#define LINE_BUSY  4u /* a thread is telling the sink */

void vc_line_init(struct vc_line *line, struct vc_irqs *irqs, unsigned gsi, const _Atomic bool *cut)
{
	line->irqs = irqs;
	line->gsi = gsi;
	line->cut = cut;
	atomic_init(&line->state, 0);
	line->sent = false;
}

bool vc_line_level(const struct vc_line *line)
{
	return atomic_load(&line->state) & LINE_LEVEL;
}

void vc_line_set(struct vc_line *line, bool level)
{
	if (!level)
		atomic_fetch_and(&line->state, ~LINE_LEVEL);
	else if (!vc_line_level(line)) /* one writer at a time: the device's lock */
		atomic_fetch_or(&line->state, LINE_LEVEL | LINE_EDGE);
}

void vc_line_restore(struct vc_line *line, bool level)
{
	line->sent = level;
	atomic_store(&line->state, level ? LINE_LEVEL : 0);
}

static void tell(struct vc_line *line, bool level)
{
	if (line->sent != level && !(line->cut && atomic_load(line->cut)))
		vc_irq_set(line->irqs, line->gsi, level);
	line->sent = level;
}

void vc_line_flush(struct vc_line *line)
{
	uint32_t state = atomic_load(&line->state);

	do {
		if (state & LINE_BUSY)
			return; /* the other thread looks again before it ends */
	} while (!atomic_compare_exchange_weak(&line->state, &state, (state | LINE_BUSY) & ~LINE_EDGE));

	for (;;) {
		if (state & LINE_EDGE) {
			tell(line, false);
			tell(line, true);
		}
		tell(line, state & LINE_LEVEL);
		uint32_t seen = (state | LINE_BUSY) & ~LINE_EDGE;
		if (atomic_compare_exchange_strong(&line->state, &seen, seen & ~LINE_BUSY))
			return;
		state = atomic_fetch_and(&line->state, ~LINE_EDGE);
	}
}
