/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of device types, and their properties as text. A new device is one file plus one row in table.c. */
#ifndef VC_DEVICE_DEVICE_H
#define VC_DEVICE_DEVICE_H

#include "chipset/chipset.h"

struct vc_prop {
	const char *key;
	const char *value;
};
/* Parsed properties; getters mark a key as used so that unknown ones can be refused. */
struct vc_props;
/* NULL or "": none; "{...}": JSON object (json-c builds); else "k=v,k=v" ("k" alone means k=on; ",," is a literal comma). -EINVAL, -ENOTSUP */
int vc_props_parse(const char *text, struct vc_props **props);
void vc_props_free(struct vc_props *props);
/* The properties one by one; false past the last. Borrowed. */
bool vc_props_at(const struct vc_props *props, unsigned index, struct vc_prop *property);
const char *vc_props_string(struct vc_props *props, const char *key, const char *fallback);
/* Numbers take 0x, and K M G suffixes; ranges checked. 0 or -EINVAL naming key and value. */
int vc_props_u64(struct vc_props *props, const char *key, uint64_t fallback, uint64_t min, uint64_t max, uint64_t *value);
int vc_props_bool(struct vc_props *props, const char *key, bool fallback, bool *value);
/* -EINVAL naming the first key nobody asked for and what the type knows. */
int vc_props_finish(struct vc_props *props, const char *type);

struct vc_device_type {
	const char *name, *summary;
	const char *properties; /* help: one line a property, "name  summary\n" */
	/* Adds the device to env->buses and returns it; on failure nothing is left behind. */
	int (*create)(struct vc_env *env, struct vc_props *props, struct vc_dev **dev);
};
extern const struct vc_device_type *const vc_device_types[]; /* NULL-terminated */
const struct vc_device_type *vc_device_type_find(const char *name);

extern const struct vc_device_type vc_uart_type;       /* 16550A; addr=0x3f8 irq=4 input=, output= (stdin stdout null fd:N file:PATH pty) */
extern const struct vc_device_type vc_i8042_type;      /* keyboard controller: ports 0x60/0x64, reset by 0xfe, A20 */
extern const struct vc_device_type vc_debug_exit_type; /* isa-debug-exit: addr=0xf4 */
extern const struct vc_device_type vc_debugcon_type;   /* port 0xe9/0x402 debug console: addr=, output= */

#endif
