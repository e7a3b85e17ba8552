/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor's commands about migration. */
#include "vm/migrate.h"
#include "vm/monitor.h"

#define NS_PER_US 1000u

/* Answered when it has begun: events tell how it goes on. */
static int migrate(struct vc_mon_call *call)
{
	struct vcore_migrate_options o = {.size = sizeof o,
	                                  .address = vc_mon_string(call, "uri", NULL),
	                                  .bandwidth = vc_mon_number(call, "max-bandwidth", 0),
	                                  .downtime_us = vc_mon_number(call, "downtime-limit", 0) * 1000,
	                                  .max_time_ms = vc_mon_number(call, "max-time", 0)};

	uint64_t postcopy = vc_mon_number(call, "postcopy", UINT64_MAX);

	if (vc_mon_bool(call, "auto-converge", false))
		o.flags |= VCORE_MIGRATE_AUTO_CONVERGE;
	if (postcopy != UINT64_MAX) {
		o.flags |= VCORE_MIGRATE_BY_POSTCOPY;
		o.postcopy_rounds = (uint32_t)postcopy;
	}
	return vc_migrate_start(call->vm, &o);
}

static int migrate_postcopy(struct vc_mon_call *call)
{
	return vcore_migrate_postcopy(call->vm);
}

static int migrate_cancel(struct vc_mon_call *call)
{
	return vcore_migrate_cancel(call->vm);
}

static int query_migrate(struct vc_mon_call *call)
{
	struct vcore_migrate_info info = {.size = sizeof info};
	int r = vcore_migrate_get_info(call->vm, &info);

	if (r < 0)
		return r;
	call->result = json_object_new_object();
	vc_mon_add_string(call->result, "status", vcore_migrate_state_name(info.state));
	vc_mon_add_number(call->result, "rounds", info.rounds);
	vc_mon_add_number(call->result, "throttle", info.throttle);
	vc_mon_add_number(call->result, "memory", info.memory);
	vc_mon_add_number(call->result, "remaining", info.remaining);
	vc_mon_add_number(call->result, "sent", info.sent);
	vc_mon_add_number(call->result, "pages", info.pages);
	vc_mon_add_number(call->result, "zero-pages", info.zero_pages);
	vc_mon_add_number(call->result, "wanted", info.wanted);
	vc_mon_add_number(call->result, "rate", info.rate);
	vc_mon_add_number(call->result, "expected-us", info.expected_ns / NS_PER_US);
	vc_mon_add_number(call->result, "downtime-us", info.downtime_ns / NS_PER_US);
	vc_mon_add_number(call->result, "total-us", info.total_ns / NS_PER_US);
	if (info.error[0])
		vc_mon_add_string(call->result, "error", info.error);
	return 0;
}

static const struct vc_mon_arg migrate_args[] = {
    {"uri", VC_MON_STRING, true, 0, "who waits with --incoming: unix:PATH or tcp:HOST:PORT"},
    {"max-bandwidth", VC_MON_NUMBER, false, UINT64_MAX, "bytes a second while the guest runs (no limit)"},
    {"downtime-limit", VC_MON_NUMBER, false, 3600000, "milliseconds for which the guest may be stopped (50)"},
    {"max-time", VC_MON_NUMBER, false, 1000000000, "milliseconds after which to give up (no limit)"},
    {"auto-converge", VC_MON_BOOL, false, 0, "slow a guest down that writes faster than is sent (false)"},
    {"postcopy", VC_MON_NUMBER, false, UINT32_MAX,
     "go over after so many rounds, before all memory has; 4294967295: only by migrate-postcopy (never)"},
    {0}};

const struct vc_mon_command vc_mon_migrate_commands[] = {
    {"migrate", "move the vm to another process; events tell how it goes", migrate_args, migrate},
    {"migrate-cancel", "end that; the vm goes on", NULL, migrate_cancel},
    {"migrate-postcopy", "go over now: the rest of memory follows while the vm runs there (needs migrate postcopy=)",
     NULL, migrate_postcopy},
    {"query-migrate", "how far a migration is, or how the last one ended", NULL, query_migrate},
    {0},
};
