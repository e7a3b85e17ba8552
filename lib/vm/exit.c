/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/vm.h"

#include "config.h"

static const char *const exit_names[] = {
    [VCORE_EXIT_NONE] = "none",
    [VCORE_EXIT_HALT] = "halt",
    [VCORE_EXIT_PIO] = "pio",
    [VCORE_EXIT_MMIO] = "mmio",
    [VCORE_EXIT_HYPERCALL] = "hypercall",
    [VCORE_EXIT_KICKED] = "kicked",
    [VCORE_EXIT_TIMEOUT] = "timeout",
    [VCORE_EXIT_DEBUG] = "debug",
    [VCORE_EXIT_CRASH] = "crash",
    [VCORE_EXIT_POWEROFF] = "poweroff",
    [VCORE_EXIT_RESET] = "reset",
    [VCORE_EXIT_STOPPED] = "stopped",
    [VCORE_EXIT_DEBUG_EXIT] = "debug-exit",
    [VCORE_EXIT_MIGRATED] = "migrated",
};

const char *vcore_exit_name(uint32_t reason)
{
	return reason < VC_ARRAY_SIZE(exit_names) ? exit_names[reason] : "?";
}

const char *vcore_version(void)
{
	return VC_VERSION;
}
