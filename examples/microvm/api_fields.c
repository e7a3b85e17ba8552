/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The objects of Firecracker's API: their fields, with types and ranges. */
#include "api.h"

#define OBJECT(name, ...)                                                  \
	static const struct api_field name##_fields[] = {__VA_ARGS__, {NULL}}; \
	const struct api_object name = {name##_fields}
#define INNER(name, ...)                                                   \
	static const struct api_field name##_fields[] = {__VA_ARGS__, {NULL}}; \
	static const struct api_object name = {name##_fields}

#define STRING(name)     \
	{                    \
		name, API_STRING \
	}
#define NEEDED(name)                       \
	{                                      \
		name, API_STRING, .required = true \
	}
#define BOOL(name)     \
	{                  \
		name, API_BOOL \
	}
#define INT(name, ...)             \
	{                              \
		name, API_INT, __VA_ARGS__ \
	}
#define WORD(name, list, ...)                      \
	{                                              \
		name, API_WORD, .words = list, __VA_ARGS__ \
	}
#define PART(name, inner, ...)                            \
	{                                                     \
		name, API_OBJECT, .object = &(inner), __VA_ARGS__ \
	}
#define MIB_MAX  (1 << 24) /* 16 TiB */
#define LIST_MAX 256

static const char *const templates[] = {"C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None", NULL};
static const char *const huge_pages[] = {"None", "Transparent", "2M", NULL};
static const char *const load_huge_pages[] = {"Snapshot", "None", "Transparent", "2M", NULL};
static const char *const caches[] = {"Unsafe", "Writeback", NULL};
static const char *const io_engines[] = {"Sync", "Async", NULL};
static const char *const levels[] = {"Off", "Error", "Warning", "Warn", "Info", "Debug", "Trace", NULL};
static const char *const mmds_versions[] = {"V1", "V2", NULL};
static const char *const actions[] = {"FlushMetrics", "InstanceStart", "SendCtrlAltDel", NULL};
static const char *const states[] = {"Paused", "Resumed", NULL};
static const char *const snapshot_types[] = {"Full", "Diff", NULL};
static const char *const memory_backends[] = {"File", "Uffd", NULL};

INNER(bucket, INT("size", .required = true, .max = INT64_MAX), INT("refill_time", .required = true, .max = INT64_MAX),
      INT("one_time_burst", .max = INT64_MAX));
INNER(limiter, PART("bandwidth", bucket), PART("ops", bucket));

/* clang-format off */
#define MACHINE_FIELDS \
	INT("vcpu_count", .required = true, .min = 1, .max = 32), \
	INT("mem_size_mib", .required = true, .min = 1, .max = MIB_MAX), \
	BOOL("smt"), \
	WORD("cpu_template", templates), \
	BOOL("track_dirty_pages"), \
	WORD("huge_pages", huge_pages)
/* clang-format on */
OBJECT(api_machine, MACHINE_FIELDS);
const struct api_object api_machine_update = {api_machine_fields, .partial = true};

OBJECT(api_boot, NEEDED("kernel_image_path"), STRING("initrd_path"), STRING("boot_args"));

INNER(cpuid_register, NEEDED("register"), NEEDED("bitmap"));
INNER(cpuid_leaf, NEEDED("leaf"), NEEDED("subleaf"), INT("flags", .required = true, .max = UINT32_MAX),
      {"modifiers", API_OBJECTS, .required = true, .max = LIST_MAX, .object = &cpuid_register});
INNER(msr, NEEDED("addr"), NEEDED("bitmap"));
INNER(vcpu_feature, INT("index", .required = true, .max = UINT32_MAX), NEEDED("bitmap"));
OBJECT(api_cpu, {"kvm_capabilities", API_STRINGS, .max = LIST_MAX},
       {"cpuid_modifiers", API_OBJECTS, .max = LIST_MAX, .object = &cpuid_leaf},
       {"msr_modifiers", API_OBJECTS, .max = LIST_MAX, .object = &msr},
       {"reg_modifiers", API_OBJECTS, .max = LIST_MAX, .object = &msr},
       {"vcpu_features", API_OBJECTS, .max = LIST_MAX, .object = &vcpu_feature});

OBJECT(api_drive, NEEDED("drive_id"), {"is_root_device", API_BOOL, .required = true}, STRING("partuuid"),
       WORD("cache_type", caches), BOOL("is_read_only"), STRING("path_on_host"), PART("rate_limiter", limiter),
       WORD("io_engine", io_engines), STRING("socket"));
OBJECT(api_drive_update, NEEDED("drive_id"), STRING("path_on_host"), PART("rate_limiter", limiter));

OBJECT(api_net, NEEDED("iface_id"), NEEDED("host_dev_name"), STRING("guest_mac"), INT("mtu", .min = 68, .max = 65535),
       PART("rx_rate_limiter", limiter), PART("tx_rate_limiter", limiter));
OBJECT(api_net_update, NEEDED("iface_id"), PART("rx_rate_limiter", limiter), PART("tx_rate_limiter", limiter));

OBJECT(api_pmem, NEEDED("id"), NEEDED("path_on_host"), BOOL("root_device"), BOOL("read_only"),
       PART("rate_limiter", limiter));
OBJECT(api_pmem_update, NEEDED("id"), PART("rate_limiter", limiter));

OBJECT(api_vsock, INT("guest_cid", .required = true, .min = 3, .max = UINT32_MAX - 1), NEEDED("uds_path"),
       STRING("vsock_id"));

OBJECT(api_balloon, INT("amount_mib", .required = true, .max = MIB_MAX), {"deflate_on_oom", API_BOOL, .required = true},
       INT("stats_polling_interval_s", .max = UINT16_MAX), BOOL("free_page_hinting"), BOOL("free_page_reporting"));
OBJECT(api_balloon_update, INT("amount_mib", .required = true, .max = MIB_MAX));
OBJECT(api_balloon_stats_update, INT("stats_polling_interval_s", .required = true, .max = UINT16_MAX));
OBJECT(api_balloon_start, BOOL("acknowledge_on_stop"));

OBJECT(api_entropy, PART("rate_limiter", limiter));
OBJECT(api_serial, STRING("serial_out_path"), PART("rate_limiter", bucket));
OBJECT(api_logger, STRING("log_path"), WORD("level", levels, .any_case = true), BOOL("show_level"),
       BOOL("show_log_origin"), STRING("module"));
OBJECT(api_metrics, NEEDED("metrics_path"), BOOL("emit_id"), {"properties", API_LABELS, .max = LIST_MAX});
OBJECT(api_mmds, WORD("version", mmds_versions),
       {"network_interfaces", API_STRINGS, .required = true, .max = API_DEVICES_MAX}, STRING("ipv4_address"),
       BOOL("imds_compat"));

OBJECT(api_memory, INT("total_size_mib", .required = true, .min = 1, .max = MIB_MAX),
       INT("slot_size_mib", .min = 128, .max = MIB_MAX), INT("block_size_mib", .min = 2, .max = MIB_MAX));
OBJECT(api_memory_update, INT("requested_size_mib", .required = true, .max = MIB_MAX));

OBJECT(api_action, WORD("action_type", actions, .required = true));
OBJECT(api_vm_update, WORD("state", states, .required = true));

OBJECT(api_snapshot_create, NEEDED("snapshot_path"), NEEDED("mem_file_path"), WORD("snapshot_type", snapshot_types));
INNER(memory_backend, WORD("backend_type", memory_backends, .required = true), NEEDED("backend_path"));
INNER(net_override, NEEDED("iface_id"), NEEDED("host_dev_name"));
INNER(vsock_override, NEEDED("uds_path"));
OBJECT(api_snapshot_load, NEEDED("snapshot_path"), STRING("mem_file_path"), PART("mem_backend", memory_backend),
       BOOL("enable_diff_snapshots"), BOOL("track_dirty_pages"), BOOL("resume_vm"),
       {"network_overrides", API_OBJECTS, .max = API_DEVICES_MAX, .object = &net_override},
       PART("vsock_override", vsock_override), BOOL("clock_realtime"), WORD("huge_pages", load_huge_pages));
