/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One counter of an 8254: pure functions of its programming and a tick of its clock. */
#ifndef VC_CHIPSET_PIT_CHANNEL_H
#define VC_CHIPSET_PIT_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#define VC_PIT_HZ        1193182u
#define VC_PIT_NEVER     INT64_MAX
#define VC_PIT_LAST_TICK ((int64_t)1 << 60) /* no clock gets there; sums of ticks below it do not overflow */

enum vc_pit_phase {
	VC_PIT_IDLE,    /* a control word came, no count yet */
	VC_PIT_READY,   /* modes 1 and 5: waits for the gate to rise */
	VC_PIT_FROZEN,  /* the gate is low: `frozen` ticks of the count had gone by */
	VC_PIT_RUNNING, /* counts down from `count` since `start` */
};

/* Also its saved form: no padding. */
struct vc_pit_channel {
	int64_t start;  /* tick at which count was loaded; may be before tick 0 */
	int64_t reload; /* modes 2 and 3: tick at which next_count takes over; VC_PIT_NEVER */
	int64_t frozen;
	uint32_t count;      /* 1 to 65536 */
	uint32_t next_count; /* written, waits for the reload or the gate; 0: none */
	uint8_t mode, access, bcd, gate;
	uint8_t phase; /* enum vc_pit_phase */
	uint8_t write_low, write_high_next, read_high_next;
	uint8_t latched, status_latched, status, pad;
	uint16_t latch, pad2;
};

void vc_pit_channel_reset(struct vc_pit_channel *c, bool gate);
bool vc_pit_channel_is_valid(const struct vc_pit_channel *c);

/* Let a count that waited for the end of a period take over. Before every function below, with the same tick. */
void vc_pit_advance(struct vc_pit_channel *c, int64_t tick);
void vc_pit_control(struct vc_pit_channel *c, uint8_t value);
void vc_pit_write(struct vc_pit_channel *c, uint8_t value, int64_t tick);
uint8_t vc_pit_read(struct vc_pit_channel *c, int64_t tick);
void vc_pit_latch_count(struct vc_pit_channel *c, int64_t tick);
void vc_pit_latch_status(struct vc_pit_channel *c, int64_t tick);
void vc_pit_set_gate(struct vc_pit_channel *c, bool gate, int64_t tick);
bool vc_pit_out(const struct vc_pit_channel *c, int64_t tick);

bool vc_pit_is_periodic(const struct vc_pit_channel *c);
/* First tick after `after` at which OUT rises by counting; VC_PIT_NEVER. Looks through a waiting reload. */
int64_t vc_pit_next_rise(const struct vc_pit_channel *c, int64_t after);

#endif
