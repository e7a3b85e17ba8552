/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A vcpu's state as bytes, field by field: what snapshots and migration carry from one process to another. */
#ifndef VC_CPU_STATE_CODEC_H
#define VC_CPU_STATE_CODEC_H

#include <stddef.h>

#include "cpu/state.h"

/* Changes with the table of fields. */
#define VC_CPU_STATE_VERSION 1u

/* Bytes that a state takes. */
size_t vc_cpu_state_bytes(void);
/* Into, and from, vc_cpu_state_bytes() bytes. What is decoded is still to be checked: vc_cpu_state_check(). */
void vc_cpu_state_encode(const struct vc_cpu_state *state, uint8_t *bytes);
void vc_cpu_state_decode(const uint8_t *bytes, struct vc_cpu_state *state);

#endif
