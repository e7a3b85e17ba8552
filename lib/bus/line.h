/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VC_BUS_LINE_H
#define VC_BUS_LINE_H

#include <stdatomic.h>

#include "bus/irq.h"

/*
 * An interrupt line that a device drives. The device sets levels under its own lock, in the right order, and flushes
 * after it has let go of the lock: the sink is called without locks, and yet sees the changes in order. If several
 * threads flush at once, one of them does the work of all. An edge is not lost when the level returned before the
 * flush.
 */
struct vc_line {
	struct vc_irqs *irqs;
	unsigned gsi;
	const _Atomic bool *cut; /* while true nothing reaches the sink; NULL: never */
	_Atomic uint32_t state;
	bool sent; /* level the sink knows; belongs to who holds LINE_BUSY */
};
void vc_line_init(struct vc_line *line, struct vc_irqs *irqs, unsigned gsi, const _Atomic bool *cut);
void vc_line_set(struct vc_line *line, bool level);
void vc_line_flush(struct vc_line *line);
bool vc_line_level(const struct vc_line *line);
/* After a load: this is the level, and the interrupt controllers, loaded too, know it. */
void vc_line_restore(struct vc_line *line, bool level);

#endif
