/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "device/action.h"

#include <stdio.h>

#include "core/error.h"
#include "core/util.h"

static const char *const names[] = {
    [VC_ACTION_NONE] = "none",         [VC_ACTION_PAUSE] = "pause", [VC_ACTION_RESET] = "reset",
    [VC_ACTION_POWEROFF] = "poweroff", [VC_ACTION_CRASH] = "crash",
};

int vc_action_read(struct vc_props *props, enum vc_action fallback, uint32_t allowed, enum vc_action *action)
{
	const char *word = vc_props_string(props, "action", names[fallback]);
	char expected[64] = "";
	size_t used = 0;

	for (unsigned i = 0; i < VC_ARRAY_SIZE(names); i++) {
		if (!(allowed & 1u << i))
			continue;
		if (!strcmp(word, names[i])) {
			*action = (enum vc_action)i;
			return 0;
		}
		used += (size_t)snprintf(expected + used, sizeof expected - used, "%s%s", used ? ", " : "", names[i]);
	}
	return vc_fail(EINVAL, "property action=%s: expected one of %s", word, expected);
}

void vc_action_do(const struct vc_env *env, enum vc_machine_event_kind why, enum vc_action action, const char *message)
{
	const struct vc_machine_ops *machine = env->machine;

	machine->tell(env->machine_ctx, &(struct vc_machine_event){.kind = why, .action = names[action]});
	if (action == VC_ACTION_PAUSE)
		machine->pause(env->machine_ctx);
	else if (action == VC_ACTION_RESET)
		machine->reset(env->machine_ctx);
	else if (action == VC_ACTION_POWEROFF)
		machine->poweroff(env->machine_ctx);
	else if (action == VC_ACTION_CRASH)
		machine->panic(env->machine_ctx, message);
}
