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
	                                  .max_time_ms = vc_mon_number(call, "max-time", 0),
	                                  .streams = (uint32_t)vc_mon_number(call, "streams", 1),
	                                  .delta_cache = vc_mon_number(call, "delta-cache", 0)};
	uint64_t postcopy = vc_mon_number(call, "postcopy", UINT64_MAX);
	static const struct {
		const char *name;
		uint32_t flag;
	} flags[] = {
	    {"auto-converge", VCORE_MIGRATE_AUTO_CONVERGE}, {"zstd", VCORE_MIGRATE_ZSTD}, {"delta", VCORE_MIGRATE_DELTA}};

	for (size_t i = 0; i < VC_ARRAY_SIZE(flags); i++)
		if (vc_mon_bool(call, flags[i].name, false))
			o.flags |= flags[i].flag;
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

/* Likewise. */
static int migrate_recover(struct vc_mon_call *call)
{
	struct vcore_migrate_recover_options o = {.size = sizeof o,
	                                          .address = vc_mon_string(call, "uri", NULL),
	                                          .wait_ms = (uint32_t)vc_mon_number(call, "wait", 0)};

	return vc_migrate_start_recovery(call->vm, &o);
}

static int migrate_cancel(struct vc_mon_call *call)
{
	return vcore_migrate_cancel(call->vm);
}

void vc_mon_add_migration(struct json_object *object, const struct vcore_migrate_info *info)
{
	vc_mon_add_string(object, "status", vcore_migrate_state_name(info->state));
	vc_mon_add_number(object, "rounds", info->rounds);
	vc_mon_add_number(object, "throttle", info->throttle);
	vc_mon_add_number(object, "memory", info->memory);
	vc_mon_add_number(object, "remaining", info->remaining);
	vc_mon_add_number(object, "sent", info->sent);
	vc_mon_add_number(object, "saved", info->saved);
	vc_mon_add_number(object, "pages", info->pages);
	vc_mon_add_number(object, "zero-pages", info->zero_pages);
	vc_mon_add_number(object, "delta-pages", info->delta_pages);
	vc_mon_add_number(object, "streams", info->streams);
	vc_mon_add_number(object, "wanted", info->wanted);
	vc_mon_add_number(object, "rate", info->rate);
	vc_mon_add_number(object, "expected-us", info->expected_ns / NS_PER_US);
	vc_mon_add_number(object, "downtime-us", info->downtime_ns / NS_PER_US);
	vc_mon_add_number(object, "total-us", info->total_ns / NS_PER_US);
	if (info->error[0])
		vc_mon_add_string(object, "error", info->error);
}

static int query_migrate(struct vc_mon_call *call)
{
	struct vcore_migrate_info info = {.size = sizeof info};
	int r = vcore_migrate_get_info(call->vm, &info);

	if (r < 0)
		return r;
	call->result = json_object_new_object();
	vc_mon_add_migration(call->result, &info);
	return 0;
}

static const struct vc_mon_arg migrate_args[] = {
    {"uri", VC_MON_STRING, true, 0, "who waits with --incoming: unix:PATH or tcp:HOST:PORT"},
    {"max-bandwidth", VC_MON_NUMBER, false, UINT64_MAX, "bytes a second while the guest runs (no limit)"},
    {"downtime-limit", VC_MON_NUMBER, false, 3600000, "milliseconds for which the guest may be stopped (50)"},
    {"max-time", VC_MON_NUMBER, false, 1000000000, "milliseconds after which to give up (no limit)"},
    {"auto-converge", VC_MON_BOOL, false, 0, "slow a guest down that writes faster than is sent (false)"},
    {"streams", VC_MON_NUMBER, false, VC_MIG_STREAMS, "connections, each with a thread here and there (1)"},
    {"zstd", VC_MON_BOOL, false, 0, "compress pages (false)"},
    {"delta", VC_MON_BOOL, false, 0, "of pages that were sent before, send what is different (false)"},
    {"delta-cache", VC_MON_NUMBER, false, UINT64_MAX, "bytes of sent pages to remember for that (64 MiB)"},
    {"postcopy", VC_MON_NUMBER, false, UINT32_MAX,
     "go over after so many rounds, before all memory has; 4294967295: only by migrate-postcopy (never)"},
    {0}};

static const struct vc_mon_arg recover_args[] = {
    {"uri", VC_MON_STRING, true, 0,
     "where the destination listens, and the source connects to: unix:PATH or tcp:HOST:PORT"},
    {"wait", VC_MON_NUMBER, false, 1000000000, "destination: milliseconds for the connection (no limit)"},
    {0}};

const struct vc_mon_command vc_mon_migrate_commands[] = {
    {"migrate", "move the vm to another process; events tell how it goes", migrate_args, migrate},
    {"migrate-cancel", "end that; the vm goes on. Give up one that is interrupted: the guest is lost", NULL,
     migrate_cancel},
    {"migrate-postcopy", "go over now: the rest of memory follows while the vm runs there (needs migrate postcopy=)",
     NULL, migrate_postcopy},
    {"migrate-recover",
     "post-copy that is interrupted goes on over another connection: on the destination, then on the source",
     recover_args, migrate_recover},
    {"query-migrate", "how far a migration is, or how the last one ended", NULL, query_migrate},
    {0},
};
