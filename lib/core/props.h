/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Properties of devices as text. */
#ifndef VC_CORE_PROPS_H
#define VC_CORE_PROPS_H

#include <stdbool.h>
#include <stdint.h>

struct vc_prop {
	const char *key;
	const char *value;
};
/* Parsed properties; getters mark a key as used so that unknown ones can be refused. */
struct vc_props;
/* NULL or "": none; "{...}": JSON object (json-c builds); else "k=v,k=v" ("k" alone means k=on; ",," is a literal
 * comma). -EINVAL, -ENOTSUP */
int vc_props_parse(const char *text, struct vc_props **props);
void vc_props_free(struct vc_props *props);
/* The properties one by one; false past the last. Borrowed. */
bool vc_props_at(const struct vc_props *props, unsigned index, struct vc_prop *property);
const char *vc_props_string(struct vc_props *props, const char *key, const char *fallback);
/* Numbers take 0x, and K M G suffixes; ranges checked. 0 or -EINVAL naming key and value. */
int vc_props_u64(struct vc_props *props, const char *key, uint64_t fallback, uint64_t min, uint64_t max,
                 uint64_t *value);
int vc_props_bool(struct vc_props *props, const char *key, bool fallback, bool *value);
/* -EINVAL naming the first key nobody asked for and what the type knows. */
int vc_props_finish(struct vc_props *props, const char *type);

#endif
