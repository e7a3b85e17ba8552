/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lockstep: engine jit as what is tested. */
#include "backend/emu/jit/jit.h"
#include "backend/emu/lockstep.h"

static bool run(struct emu_vcpu *c)
{
	return jit_step(c) == JIT_STEP_EXIT;
}

static const struct emu_translator jit = {.native = jit_native_insns, .run = run, .dead_flags = jit_dead_flags};

const struct emu_translator *emu_lockstep_translator(void)
{
	return &jit;
}
