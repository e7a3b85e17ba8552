/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor's protocol: lines in, JSON objects out. No sockets here. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "config.h"
#include "vm/monitor.h"

/* ---- JSON ---- */

void vc_mon_add(struct json_object *object, const char *name, struct json_object *value)
{
	if (!object || json_object_object_add(object, name, value) < 0)
		json_object_put(value);
}

void vc_mon_append(struct json_object *array, struct json_object *value)
{
	if (!array || json_object_array_add(array, value) < 0)
		json_object_put(value);
}

/* Messages may quote a client's bytes, cut anywhere: what is not ASCII is not passed on. */
void vc_mon_add_string(struct json_object *object, const char *name, const char *value)
{
	char *copy = strdup(value);

	for (char *c = copy; c && *c; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	vc_mon_add(object, name, copy ? json_object_new_string(copy) : NULL);
	free(copy);
}

void vc_mon_add_number(struct json_object *object, const char *name, uint64_t value)
{
	vc_mon_add(object, name, json_object_new_uint64(value));
}

void vc_mon_add_bool(struct json_object *object, const char *name, bool value)
{
	vc_mon_add(object, name, json_object_new_boolean(value));
}

const char *vc_mon_string(const struct vc_mon_call *call, const char *name, const char *fallback)
{
	struct json_object *value;

	return json_object_object_get_ex(call->arguments, name, &value) ? json_object_get_string(value) : fallback;
}

uint64_t vc_mon_number(const struct vc_mon_call *call, const char *name, uint64_t fallback)
{
	struct json_object *value;

	return json_object_object_get_ex(call->arguments, name, &value) ? json_object_get_uint64(value) : fallback;
}

bool vc_mon_bool(const struct vc_mon_call *call, const char *name, bool fallback)
{
	struct json_object *value;

	return json_object_object_get_ex(call->arguments, name, &value) ? json_object_get_boolean(value) : fallback;
}

/* ---- what is sent ---- */

struct json_object *vc_mon_error(const char *class, const char *format, ...)
{
	struct json_object *answer = json_object_new_object(), *error = json_object_new_object();
	char text[600];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	vc_mon_add_string(error, "class", class);
	vc_mon_add_string(error, "desc", text);
	vc_mon_add(answer, "error", error);
	return answer;
}

static struct json_object *error_of(int error)
{
	static const struct {
		int error;
		const char *class;
	} classes[] = {{EINVAL, "InvalidArgument"},
	               {ENOENT, "NotFound"},
	               {EBUSY, "Busy"},
	               {EEXIST, "Exists"},
	               {ENOTSUP, "NotSupported"}};
	const char *class = "GenericError";

	for (size_t i = 0; i < VC_ARRAY_SIZE(classes); i++)
		if (classes[i].error == -error)
			class = classes[i].class;
	return vc_mon_error(class, "%s", vcore_error_message());
}

struct json_object *vc_mon_greeting(void)
{
	struct json_object *answer = json_object_new_object(), *qmp = json_object_new_object();
	struct json_object *version = json_object_new_object();

	vc_mon_add_string(version, "virtcore", VC_VERSION);
	vc_mon_add(qmp, "version", version);
	vc_mon_add(qmp, "capabilities", json_object_new_array());
	vc_mon_add(answer, "QMP", qmp);
	return answer;
}

static struct json_object *event_named(const char *name, struct json_object *data, const struct timeval *time)
{
	struct json_object *event = json_object_new_object(), *timestamp = json_object_new_object();

	vc_mon_add_string(event, "event", name);
	vc_mon_add(event, "data", data);
	vc_mon_add_number(timestamp, "seconds", (uint64_t)time->tv_sec);
	vc_mon_add_number(timestamp, "microseconds", (uint64_t)time->tv_usec);
	vc_mon_add(event, "timestamp", timestamp);
	return event;
}

static void describe_end(struct json_object *data, const struct vcore_exit *exit)
{
	vc_mon_add_string(data, "reason", vcore_exit_name(exit->reason));
	vc_mon_add_number(data, "cpu", exit->vcpu);
	if (exit->reason == VCORE_EXIT_DEBUG_EXIT)
		vc_mon_add_number(data, "code", exit->code);
	if (exit->reason == VCORE_EXIT_CRASH)
		vc_mon_add_string(data, "message", exit->message);
}

static void describe_block_error(struct json_object *data, const struct vcore_block_error *error)
{
	char text[128];

	vc_mon_add_string(data, "operation", vcore_block_operation_name(error->operation));
	vc_mon_add_number(data, "offset", error->offset);
	vc_mon_add_number(data, "errno", (uint64_t)error->error);
	vc_mon_add_string(data, "error", strerror_r(error->error, text, sizeof text));
	vc_mon_add_number(data, "errors", error->errors);
	/* the only one there is: the guest sees the error, and goes on */
	vc_mon_add_string(data, "action", "report");
}

struct json_object *vc_mon_event(const struct vc_mon_event *event)
{
	static const char *const names[] = {
	    [VC_EVENT_PAUSED] = "STOP",
	    [VC_EVENT_RESUMED] = "RESUME",
	    [VC_EVENT_RESET] = "RESET",
	    [VC_EVENT_ENDED] = "SHUTDOWN",
	    [VC_EVENT_DEVICE_ADDED] = "DEVICE_ADDED",
	    [VC_EVENT_DEVICE_REMOVED] = "DEVICE_REMOVED",
	    [VC_EVENT_BLOCK_ERROR] = "BLOCK_IO_ERROR",
	    [VC_EVENT_MIGRATION] = "MIGRATION",
	    [VC_EVENT_MIGRATING] = "MIGRATION_PROGRESS",
	    [VC_EVENT_WATCHDOG] = "WATCHDOG",
	    [VC_EVENT_PANICKED] = "GUEST_PANICKED",
	    [VC_EVENT_CRASH_LOADED] = "GUEST_CRASHLOADED",
	    [VC_EVENT_MEMORY_SIZE] = "MEMORY_DEVICE_SIZE_CHANGE",
	    [VC_EVENT_VCPU_PLUGGED] = "CPU_PLUGGED",
	    [VC_EVENT_VCPU_UNPLUGGED] = "CPU_UNPLUGGED",
	};
	struct json_object *data = json_object_new_object();
	const char *name = names[event->kind];

	if (event->kind == VC_EVENT_ENDED)
		describe_end(data, &event->exit);
	if (event->kind == VC_EVENT_ENDED && event->exit.reason == VCORE_EXIT_CRASH)
		name = "CRASH";
	if (event->device) {
		vc_mon_add_number(data, "id", event->device);
		vc_mon_add_string(data, "type", event->type);
	}
	if (event->kind == VC_EVENT_BLOCK_ERROR)
		describe_block_error(data, &event->block);
	if (event->action)
		vc_mon_add_string(data, event->kind == VC_EVENT_MIGRATION ? "status" : "action", event->action);
	if (event->kind == VC_EVENT_MIGRATING)
		vc_mon_add_migration(data, &event->migration);
	if (event->kind == VC_EVENT_MEMORY_SIZE) {
		vc_mon_add_number(data, "id", event->device);
		vc_mon_add_number(data, "size", event->size);
	}
	if (event->kind == VC_EVENT_VCPU_PLUGGED || event->kind == VC_EVENT_VCPU_UNPLUGGED)
		vc_mon_add_number(data, "cpu", event->vcpu);
	return event_named(name, data, &event->time);
}

struct json_object *vc_mon_events_lost(uint32_t count)
{
	struct json_object *data = json_object_new_object();
	struct timeval now;

	gettimeofday(&now, NULL);
	vc_mon_add_number(data, "count", count);
	return event_named("EVENTS_LOST", data, &now);
}

/* ---- arguments against their table ---- */

const char *const vc_mon_kind_names[VC_MON_KINDS] = {[VC_MON_STRING] = "string",
                                                     [VC_MON_NUMBER] = "number",
                                                     [VC_MON_BOOL] = "boolean",
                                                     [VC_MON_OBJECT] = "object",
                                                     [VC_MON_ARRAY] = "array"};

static bool fits(const struct vc_mon_arg *arg, struct json_object *value)
{
	static const enum json_type types[VC_MON_KINDS] = {[VC_MON_STRING] = json_type_string,
	                                                   [VC_MON_NUMBER] = json_type_int,
	                                                   [VC_MON_BOOL] = json_type_boolean,
	                                                   [VC_MON_OBJECT] = json_type_object,
	                                                   [VC_MON_ARRAY] = json_type_array};

	if (!json_object_is_type(value, types[arg->kind]))
		return false;
	/* as signed, a number above INT64_MAX is INT64_MAX */
	return arg->kind != VC_MON_NUMBER ||
	       (json_object_get_int64(value) >= 0 && json_object_get_uint64(value) <= arg->max);
}

static int wrong_value(const struct vc_mon_command *command, const struct vc_mon_arg *arg, struct json_object *value)
{
	const char *text = json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN);

	if (arg->kind == VC_MON_NUMBER)
		return vc_fail(EINVAL, "%s: \"%s\" is %.80s: expected a number from 0 to %" PRIu64, command->name, arg->name,
		               text, arg->max);
	return vc_fail(EINVAL, "%s: \"%s\" is %.80s: expected %s %s", command->name, arg->name, text,
	               strchr("ao", vc_mon_kind_names[arg->kind][0]) ? "an" : "a", vc_mon_kind_names[arg->kind]);
}

static int unknown_argument(const struct vc_mon_command *command, const char *name)
{
	char known[300] = "none";
	size_t used = 0;

	for (const struct vc_mon_arg *a = command->args; a && a->name && used < sizeof known; a++)
		used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", a->name);
	return vc_fail(EINVAL, "%s: unknown argument \"%.64s\": expected %s%s", command->name, name, used ? "one of " : "",
	               known);
}

static int check_arguments(const struct vc_mon_command *command, struct json_object *arguments)
{
	struct json_object_iterator i, end;
	struct json_object *value;

	for (const struct vc_mon_arg *a = command->args; a && a->name; a++)
		if (a->needed && !json_object_object_get_ex(arguments, a->name, &value))
			return vc_fail(EINVAL, "%s: argument \"%s\" is missing: %s", command->name, a->name, a->help);
	if (!arguments)
		return 0;
	i = json_object_iter_begin(arguments);
	end = json_object_iter_end(arguments);
	for (; !json_object_iter_equal(&i, &end); json_object_iter_next(&i)) {
		const struct vc_mon_arg *a = command->args;

		while (a && a->name && strcmp(a->name, json_object_iter_peek_name(&i)))
			a++;
		if (!a || !a->name)
			return unknown_argument(command, json_object_iter_peek_name(&i));
		if (!fits(a, json_object_iter_peek_value(&i)))
			return wrong_value(command, a, json_object_iter_peek_value(&i));
	}
	return 0;
}

/* ---- what is received ---- */

static struct json_object *run(struct vc_mon_session *session, const char *name, struct json_object *arguments)
{
	struct vc_mon_call call = {.session = session, .vm = session->vm, .arguments = arguments};
	const struct vc_mon_command *command = vc_mon_find(name);
	struct json_object *answer;
	int r;

	if (!session->ready && strcmp(name, "capabilities"))
		return vc_mon_error("CapabilitiesNeeded", "\"%.64s\": expected {\"execute\": \"capabilities\"} first", name);
	if (!command)
		return vc_mon_error("CommandNotFound", "there is no command \"%.64s\": query-commands lists them", name);
	r = check_arguments(command, arguments);
	if (r >= 0)
		r = command->run(&call);
	if (r < 0) {
		json_object_put(call.result);
		return error_of(r);
	}
	answer = json_object_new_object();
	vc_mon_add(answer, "return", call.result ? call.result : json_object_new_object());
	return answer;
}

/* The keys of a request; NULL, or what is wrong with it. */
static struct json_object *check_request(struct json_object *request)
{
	struct json_object_iterator i, end;
	struct json_object *value;

	if (!json_object_is_type(request, json_type_object))
		return vc_mon_error("ProtocolError", "expected an object with \"execute\"");
	if (!json_object_object_get_ex(request, "execute", &value) || !json_object_is_type(value, json_type_string))
		return vc_mon_error("ProtocolError", "expected \"execute\" with the name of a command, a string");
	if (json_object_object_get_ex(request, "arguments", &value) && !json_object_is_type(value, json_type_object))
		return vc_mon_error("ProtocolError", "expected \"arguments\" to be an object");
	i = json_object_iter_begin(request);
	end = json_object_iter_end(request);
	for (; !json_object_iter_equal(&i, &end); json_object_iter_next(&i)) {
		const char *name = json_object_iter_peek_name(&i);

		if (strcmp(name, "execute") && strcmp(name, "arguments") && strcmp(name, "id"))
			return vc_mon_error("ProtocolError", "unknown key \"%.64s\": expected execute, arguments, id", name);
	}
	return NULL;
}

static struct json_object *serve(struct vc_mon_session *session, struct json_object *request)
{
	struct json_object *answer = check_request(request), *arguments = NULL, *id;

	if (!answer) {
		json_object_object_get_ex(request, "arguments", &arguments);
		answer = run(session, json_object_get_string(json_object_object_get(request, "execute")), arguments);
	}
	if (json_object_is_type(request, json_type_object) && json_object_object_get_ex(request, "id", &id))
		vc_mon_add(answer, "id", json_object_get(id));
	return answer;
}

struct json_object *vc_mon_answer(struct vc_mon_session *session, const char *line, size_t length)
{
	struct json_tokener *tokener;
	struct json_object *request, *answer;
	enum json_tokener_error error;

	if (strspn(line, " \t\r") == length)
		return NULL;
	if (memchr(line, 0, length))
		return vc_mon_error("ProtocolError", "a zero byte is in the line");
	tokener = json_tokener_new_ex(VC_MON_DEPTH_MAX);
	if (!tokener)
		return vc_mon_error("GenericError", "no memory for the JSON parser");
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	/* with its zero byte, so that an unfinished text is an error rather than a request for more */
	request = json_tokener_parse_ex(tokener, line, (int)length + 1);
	error = json_tokener_get_error(tokener);
	if (error == json_tokener_success)
		answer = serve(session, request);
	else
		answer = vc_mon_error("ProtocolError", "JSON error at byte %zu: %s", json_tokener_get_parse_end(tokener),
		                      json_tokener_error_desc(error));
	json_object_put(request);
	json_tokener_free(tokener);
	return answer;
}
