/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of device types. A new device is one file plus one row in
 * lib/vm/device_types.c. */
#ifndef VC_DEVICE_DEVICE_H
#define VC_DEVICE_DEVICE_H

#include "chipset/chipset.h"
#include "core/props.h"

struct vc_device_type {
	const char *name, *summary;
	const char *properties; /* help: one line a property, "name  summary\n" */
	/* Adds the device to env->buses and returns it; on failure nothing is left behind. */
	int (*create)(struct vc_env *env, struct vc_props *props, struct vc_dev **dev);
	bool shares_memory; /* another process maps the guest's: RAM has to be a memfd */
};
extern const struct vc_device_type *const vc_device_types[]; /* NULL-terminated */
const struct vc_device_type *vc_device_type_find(const char *name);

extern const struct vc_device_type
    vc_uart_type; /* 16550A; addr=0x3f8 irq=4 input=, output= (stdin stdout null fd:N file:PATH pty) */
extern const struct vc_device_type vc_i8042_type; /* keyboard controller: ports 0x60/0x64, reset by 0xfe, A20 */
/* Those keys are pressed on its keyboard. -EAGAIN: the guest has not taken what was typed before. */
int vc_i8042_ctrl_alt_del(void *ctx);
extern const struct vc_device_type vc_debug_exit_type;    /* isa-debug-exit: addr=0xf4 */
extern const struct vc_device_type vc_pci_root_port_type; /* addr= slot= */
extern const struct vc_device_type vc_pvpanic_type;       /* bus=isa addr= action= */
extern const struct vc_device_type vc_i6300esb_type;      /* PCI watchdog: addr= action= */
extern const struct vc_device_type vc_debugcon_type;      /* port 0xe9/0x402 debug console: addr=, output= */

#endif
