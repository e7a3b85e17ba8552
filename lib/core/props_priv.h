/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between props.c and its JSON part. */
#ifndef VC_CORE_PROPS_PRIV_H
#define VC_CORE_PROPS_PRIV_H

#include "core/props.h"

/* Copies key and value in. -EINVAL for a name that cannot be or is there already. */
int vc_props_put(struct vc_props *props, const char *key, const char *value);
/* text starts with '{'. */
int vc_props_parse_json(struct vc_props *props, const char *text);

#endif
