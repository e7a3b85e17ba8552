/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor's commands about snapshots. */
#include "vm/monitor.h"

/* The vm goes on as soon as the snapshot is taken; the answer comes when the file is there. */
static int snapshot_save(struct vc_mon_call *call)
{
	const char *path = vc_mon_string(call, "path", NULL), *compress = vc_mon_string(call, "compress", "none");
	struct vcore_snapshot_info info = {.size = sizeof info};
	struct vcore_snapshot_save_options o = {.size = sizeof o};
	vcore_snapshot *snapshot;
	int r;

	if (!strcmp(compress, "zstd"))
		o.flags = VCORE_SNAPSHOT_ZSTD;
	else if (strcmp(compress, "none") != 0)
		return vc_fail(EINVAL, "snapshot-save: compress is \"%.40s\": expected none or zstd", compress);
	r = vcore_snapshot_take(call->vm, &snapshot);
	if (r < 0)
		return r;
	r = vcore_snapshot_save(snapshot, path, &o);
	if (r >= 0)
		r = vcore_snapshot_get_info(snapshot, &info);
	vcore_snapshot_unref(snapshot);
	if (r < 0)
		return r;
	call->result = json_object_new_object();
	vc_mon_add_number(call->result, "memory", info.memory);
	vc_mon_add_number(call->result, "memory-copied", info.memory_copied);
	vc_mon_add_number(call->result, "time-ns", info.time_ns);
	return 0;
}

static const struct vc_mon_arg snapshot_save_args[] = {
    {"path", VC_MON_STRING, true, 0, "the file, which is replaced when the new one is whole"},
    {"compress", VC_MON_STRING, false, 0, "none or zstd (none)"},
    {0}};

const struct vc_mon_command vc_mon_snapshot_commands[] = {
    {"snapshot-save", "save a snapshot of the vm to a file; the vm goes on", snapshot_save_args, snapshot_save},
    {0},
};
