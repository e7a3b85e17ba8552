/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * microvm --api-sock: Firecracker's HTTP API. A request goes through api_parse.c (routes and fields, which touch
 * nothing) and api_handle.c (what each does). Who sends them may be hostile: all is bounded and checked there.
 */
#ifndef MICROVM_API_H
#define MICROVM_API_H

#include <json.h>
#include <pthread.h>
#include <stdarg.h>

#include "microvm.h"

/* Of Firecracker's API this is what is served; the build metadata says by whom. */
#define API_VERSION "1.17.0+libvirtcore.0.1.0"

enum {
	API_BODY_MAX = 51200, /* bytes of a request, as Firecracker's default */
	API_ID_MAX = 64,
	API_TEXT_MAX = 4096,  /* bytes of a string in a request */
	API_DEPTH_MAX = 32,   /* of JSON */
	API_DEVICES_MAX = 24, /* of one kind */
};

/* ---- api_parse.c, api_fields.c ---- */

enum api_op {
	API_GET_INFO,
	API_GET_VERSION,
	API_GET_CONFIG,
	API_GET_MACHINE,
	API_PUT_MACHINE,
	API_PATCH_MACHINE,
	API_PUT_BOOT,
	API_PUT_CPU,
	API_PUT_DRIVE,
	API_PATCH_DRIVE,
	API_PUT_NET,
	API_PATCH_NET,
	API_PUT_PMEM,
	API_PATCH_PMEM,
	API_UNPLUG,
	API_PUT_VSOCK,
	API_GET_BALLOON,
	API_PUT_BALLOON,
	API_PATCH_BALLOON,
	API_GET_BALLOON_STATS,
	API_PATCH_BALLOON_STATS,
	API_HINTING,
	API_PUT_ENTROPY,
	API_PUT_SERIAL,
	API_PUT_LOGGER,
	API_PUT_METRICS,
	API_GET_MMDS,
	API_PUT_MMDS,
	API_PATCH_MMDS,
	API_PUT_MMDS_CONFIG,
	API_PUT_MEMORY,
	API_GET_MEMORY,
	API_PATCH_MEMORY,
	API_PUT_ACTION,
	API_PATCH_VM,
	API_SNAPSHOT_CREATE,
	API_SNAPSHOT_LOAD,
	API_OPS,
};

enum api_when {
	API_ANY,
	API_PRE_BOOT,
	API_POST_BOOT,
};

struct api_reply {
	int status;               /* of HTTP */
	struct json_object *body; /* NULL: none */
};

/* False, with the sentence as the reply's fault_message. */
bool api_fault(struct api_reply *reply, const char *format, ...) __attribute__((format(printf, 2, 3)));

enum api_type {
	API_STRING,
	API_WORD, /* one of `words` */
	API_BOOL,
	API_INT,
	API_OBJECT,
	API_OBJECTS, /* an array, of at most `max` */
	API_STRINGS, /* likewise */
	API_LABELS,  /* an object of at most `max` strings by any name */
};

struct api_object;

struct api_field {
	const char *name;
	enum api_type type;
	bool required, any_case;
	int64_t min, max;
	const char *const *words;
	const struct api_object *object;
};

struct api_object {
	const struct api_field *fields; /* to one without a name */
	bool partial;                   /* nothing is required; but there must be something */
};

extern const struct api_object api_machine, api_machine_update, api_boot, api_cpu, api_drive, api_drive_update, api_net,
    api_net_update, api_pmem, api_pmem_update, api_vsock, api_balloon, api_balloon_update, api_balloon_stats_update,
    api_balloon_start, api_entropy, api_serial, api_logger, api_metrics, api_mmds, api_memory, api_memory_update,
    api_action, api_vm_update, api_snapshot_create, api_snapshot_load;

/* Is it such an object? What is null is as if it were not there, and is taken out. */
bool api_check(const struct api_object *object, struct json_object *json, struct api_reply *reply);

struct api_call {
	enum api_op op;
	enum api_when when;
	char id[API_ID_MAX + 1];  /* in the path; "" */
	struct json_object *body; /* NULL: none */
};

/* What is asked for; false: the reply says why it is nothing. In both cases api_call_free() is due. */
bool api_parse(const char *method, const char *path, const char *body, size_t length, struct api_call *call,
               struct api_reply *reply);
/* One JSON value, and nothing behind it. NULL with the reply set. */
struct json_object *api_parse_json(const char *text, size_t length, struct api_reply *reply);
void api_call_free(struct api_call *call);

/* Members of what has been checked. */
const char *api_string(struct json_object *object, const char *name); /* NULL: it is not there */
int64_t api_int(struct json_object *object, const char *name, int64_t otherwise);
bool api_bool(struct json_object *object, const char *name, bool otherwise);
struct json_object *api_member(struct json_object *object, const char *name); /* borrowed; NULL */

/* ---- the process ---- */

enum api_state {
	API_NOT_STARTED,
	API_PAUSED,
	API_RUNNING,
};

struct api_log {
	int fd; /* -1: standard error */
	enum vcore_log_level level;
	bool off, show_level, show_origin;
};

struct api_metrics {
	int fd; /* -1: none were asked for */
	uint64_t requests, faults;
};

struct api {
	struct settings *settings;
	struct console *console;
	const char *id;
	int event; /* eventfd: the vm was started */
	/* Protects the log; after `lock`. */
	pthread_mutex_t log_lock;
	struct api_log log;
	/* Protects all below: a request has it from beginning to end. */
	pthread_mutex_t lock;
	enum api_state state;
	bool started;               /* the vm's vcpus run, or are paused; not so what was loaded only */
	bool configured;            /* something that a snapshot excludes */
	struct json_object *config; /* as GET /vm/config gives it, by its names */
	char *uart;                 /* properties of the serial port, once it was opened */
	vcore_vm *vm;               /* set once */
	struct api_metrics metrics;
	struct mmds *mmds;
};

/* api_handle.c. `api` is as api_init() leaves it, or as calls before have. */
void api_handle(struct api *api, const char *method, const char *path, const char *body, size_t length,
                struct api_reply *reply);
int api_init(struct api *api, struct settings *settings, struct console *console);
void api_fini(struct api *api);

/* What a call does. */
struct api_handler {
	void (*run)(struct api *api, const struct api_handler *handler, const struct api_call *call,
	            struct api_reply *reply);
	const char *section; /* of api->config that it is about */
	const char *key;     /* of a list: the member that is its elements' ID */
	/* Is it possible as well? NULL: always. */
	bool (*check)(struct api *api, struct json_object *body, struct api_reply *reply);
	bool harmless; /* a snapshot can be loaded all the same */
};

/* api_config.c: before the vm starts. */
void api_put_section(struct api *api, const struct api_handler *handler, const struct api_call *call,
                     struct api_reply *reply);
void api_put_listed(struct api *api, const struct api_handler *handler, const struct api_call *call,
                    struct api_reply *reply);
void api_change_machine(struct api *api, const struct api_handler *handler, const struct api_call *call,
                        struct api_reply *reply);
bool api_check_machine(struct api *api, struct json_object *body, struct api_reply *reply);
bool api_check_boot(struct api *api, struct json_object *body, struct api_reply *reply);
bool api_check_cpu(struct api *api, struct json_object *body, struct api_reply *reply);
bool api_check_drive(struct api *api, struct json_object *body, struct api_reply *reply);
bool api_check_net(struct api *api, struct json_object *body, struct api_reply *reply);
bool api_check_pmem(struct api *api, struct json_object *body, struct api_reply *reply);
bool api_check_vsock(struct api *api, struct json_object *body, struct api_reply *reply);
bool api_check_balloon(struct api *api, struct json_object *body, struct api_reply *reply);
bool api_check_entropy(struct api *api, struct json_object *body, struct api_reply *reply);
bool api_check_serial(struct api *api, struct json_object *body, struct api_reply *reply);
bool api_check_memory(struct api *api, struct json_object *body, struct api_reply *reply);
bool api_check_mmds_config(struct api *api, struct json_object *body, struct api_reply *reply);
/* A rate limiter that limits nothing, or none at all. */
bool api_no_limit(struct json_object *object, const char *name, struct api_reply *reply);
/* The index of the object of a list whose member `key` is `id`; -1. */
int api_index_of(struct json_object *list, const char *key, const char *id);

/* api_vm.c: the vm. */
struct api_device {
	const char *type;
	char *properties;
	bool used;
};
struct api_plan {
	struct api_device devices[4 * API_DEVICES_MAX];
	unsigned count;
};
/* The devices of the configuration, in order. */
bool api_plan_make(struct api *api, struct api_plan *plan, struct api_reply *reply);
void api_plan_free(struct api_plan *plan);
bool api_start(struct api *api, struct api_reply *reply);
void api_resume(struct api *api, struct api_reply *reply);
void api_pause(struct api *api, struct api_reply *reply);
void api_patch_drive(struct api *api, const struct api_handler *handler, const struct api_call *call,
                     struct api_reply *reply);
void api_patch_limits(struct api *api, const struct api_handler *handler, const struct api_call *call,
                      struct api_reply *reply);
void api_patch_balloon(struct api *api, const struct api_handler *handler, const struct api_call *call,
                       struct api_reply *reply);
void api_get_balloon_stats(struct api *api, const struct api_handler *handler, const struct api_call *call,
                           struct api_reply *reply);
void api_patch_balloon_stats(struct api *api, const struct api_handler *handler, const struct api_call *call,
                             struct api_reply *reply);
void api_get_memory(struct api *api, const struct api_handler *handler, const struct api_call *call,
                    struct api_reply *reply);
void api_patch_memory(struct api *api, const struct api_handler *handler, const struct api_call *call,
                      struct api_reply *reply);

/* api_snapshot.c */
void api_snapshot_make(struct api *api, const struct api_handler *handler, const struct api_call *call,
                       struct api_reply *reply);
void api_snapshot_take_in(struct api *api, const struct api_handler *handler, const struct api_call *call,
                          struct api_reply *reply);

/* api_log.c */
void api_put_logger(struct api *api, const struct api_handler *handler, const struct api_call *call,
                    struct api_reply *reply);
void api_put_metrics(struct api *api, const struct api_handler *handler, const struct api_call *call,
                     struct api_reply *reply);
/* A line of the library's, or of ours. vcore_log_fn. */
void api_log_line(void *ctx, enum vcore_log_level level, const char *message);
/* Writes a line of figures, where it was asked for. */
bool api_write_metrics(struct api *api, struct api_reply *reply);

/* api_mmds.c: the store of metadata. */
int mmds_new(struct mmds **mmds);
void mmds_free(struct mmds *mmds);
void api_get_mmds(struct api *api, const struct api_handler *handler, const struct api_call *call,
                  struct api_reply *reply);
void api_put_mmds(struct api *api, const struct api_handler *handler, const struct api_call *call,
                  struct api_reply *reply);
void api_patch_mmds(struct api *api, const struct api_handler *handler, const struct api_call *call,
                    struct api_reply *reply);

/* api_http.c */
struct api_http;
/* Serve the api at a unix socket, for its owner alone. 0; -1 with a message printed. */
int api_http_start(struct api *api, const char *path, struct api_http **http);
/* Returns once no request runs. NULL is allowed. */
void api_http_stop(struct api_http *http);

/* api_file.c: PUT all that a file (--config-file) describes. */
bool api_load_config(struct api *api, const char *path, struct api_reply *reply);

#endif
