/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The monitor's parts: the protocol without sockets (monitor_protocol.c), the server (monitor_server.c) and the
 * commands by topic. A new command is a row in the table of its topic, or of a new topic in vc_mon_topics.
 */
#ifndef VC_VM_MONITOR_H
#define VC_VM_MONITOR_H

#include <json.h>
#include <sys/time.h>

#include "vm/vm.h"

#define VC_MON_LINE_MAX    65536      /* bytes, with its end */
#define VC_MON_DEPTH_MAX   16         /* of JSON in a line */
#define VC_MON_QUEUE_MAX   (1u << 20) /* bytes of events that wait for a client */
#define VC_MON_CLIENTS_MAX 16
#define VC_MON_EVENTS_MAX  64 /* that wait for the monitor's thread */

/* ---- protocol ---- */

/* One client's. All zeros but for vm. */
struct vc_mon_session {
	struct vcore_vm *vm;
	bool ready; /* capabilities were negotiated */
};

struct json_object *vc_mon_greeting(void);
/* The answer to a line, which a zero byte follows; NULL to a blank one. */
struct json_object *vc_mon_answer(struct vc_mon_session *session, const char *line, size_t length);
/* {"error": ...} without an id. */
struct json_object *vc_mon_error(const char *class, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A copy of struct vc_vm_event that outlives it. */
struct vc_mon_event {
	enum vc_vm_event_kind kind;
	struct timeval time;
	uint32_t device, vcpu;
	char type[32];
	const char *action;
	uint64_t size;
	struct vcore_exit exit;
	struct vcore_block_error block; /* without the image's path */
	struct vcore_migrate_info migration;
};
struct json_object *vc_mon_event(const struct vc_mon_event *event);
struct json_object *vc_mon_events_lost(uint32_t count);

/* ---- commands ---- */

enum vc_mon_kind { VC_MON_STRING, VC_MON_NUMBER, VC_MON_BOOL, VC_MON_OBJECT, VC_MON_ARRAY, VC_MON_KINDS };

struct vc_mon_arg {
	const char *name;
	enum vc_mon_kind kind;
	bool needed;
	uint64_t max; /* NUMBER: 0 to this */
	const char *help;
};

/* One command while it runs. */
struct vc_mon_call {
	struct vc_mon_session *session;
	struct vcore_vm *vm;
	struct json_object *arguments; /* checked against the table; NULL: none */
	struct json_object *result;    /* out; NULL: {} */
};

struct vc_mon_command {
	const char *name, *help;
	const struct vc_mon_arg *args; /* up to a name of NULL; NULL: none */
	/* 0, or -errno with vcore_error_message() */
	int (*run)(struct vc_mon_call *call);
};

/* Tables, each up to a name of NULL. */
extern const struct vc_mon_command vc_mon_general_commands[], vc_mon_vm_commands[], vc_mon_cpu_commands[],
    vc_mon_memory_commands[], vc_mon_device_commands[], vc_mon_display_commands[], vc_mon_input_commands[],
    vc_mon_guest_memory_commands[], vc_mon_migrate_commands[];
extern const struct vc_mon_command *const vc_mon_topics[]; /* NULL-terminated */
extern const struct vc_mon_command vc_mon_snapshot_commands[];
const struct vc_mon_command *vc_mon_find(const char *name);
extern const char *const vc_mon_kind_names[VC_MON_KINDS];

/* An argument's value; the fallback where it was not given. */
const char *vc_mon_string(const struct vc_mon_call *call, const char *name, const char *fallback);
uint64_t vc_mon_number(const struct vc_mon_call *call, const char *name, uint64_t fallback);
bool vc_mon_bool(const struct vc_mon_call *call, const char *name, bool fallback);
/* The value is the object's from then on. A NULL object, for want of memory, is let pass. */
void vc_mon_add(struct json_object *object, const char *name, struct json_object *value);
void vc_mon_append(struct json_object *array, struct json_object *value);
void vc_mon_add_string(struct json_object *object, const char *name, const char *value);
void vc_mon_add_number(struct json_object *object, const char *name, uint64_t value);
void vc_mon_add_bool(struct json_object *object, const char *name, bool value);
/* monitor_migrate.c: the members of that name in query-migrate. */
void vc_mon_add_migration(struct json_object *object, const struct vcore_migrate_info *info);

#endif
