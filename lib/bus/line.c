/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/line.h"

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
