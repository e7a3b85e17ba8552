/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What becomes of a vm whose guest is in trouble: property "action" of watchdogs and of pvpanic. */
#ifndef VC_DEVICE_ACTION_H
#define VC_DEVICE_ACTION_H

#include "chipset/chipset.h"
#include "core/props.h"

enum vc_action { VC_ACTION_NONE, VC_ACTION_PAUSE, VC_ACTION_RESET, VC_ACTION_POWEROFF, VC_ACTION_CRASH };

/* "action", one of allowed (a bit each). -EINVAL */
int vc_action_read(struct vc_props *props, enum vc_action fallback, uint32_t allowed, enum vc_action *action);
/* Tell who watches the vm, and do it. message: the sentence of a crash. With no lock held. */
void vc_action_do(const struct vc_env *env, enum vc_machine_event_kind why, enum vc_action action, const char *message);

#endif
