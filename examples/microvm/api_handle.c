/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Firecracker's API: which function does what a request asks for, and the answers that are only looked up. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "api.h"

static void answer(struct api_reply *reply, struct json_object *body)
{
	reply->status = 200;
	reply->body = body;
}

static void get_info(struct api *api, const struct api_handler *handler, const struct api_call *call,
                     struct api_reply *reply)
{
	static const char *const states[] = {
	    [API_NOT_STARTED] = "Not started", [API_PAUSED] = "Paused", [API_RUNNING] = "Running"};
	struct json_object *info = json_object_new_object();

	json_object_object_add(info, "id", json_object_new_string(api->id));
	json_object_object_add(info, "state", json_object_new_string(states[api->state]));
	json_object_object_add(info, "vmm_version", json_object_new_string(API_VERSION));
	json_object_object_add(info, "app_name", json_object_new_string("microvm"));
	answer(reply, info);
}

static void get_version(struct api *api, const struct api_handler *handler, const struct api_call *call,
                        struct api_reply *reply)
{
	struct json_object *version = json_object_new_object();

	json_object_object_add(version, "firecracker_version", json_object_new_string(API_VERSION));
	answer(reply, version);
}

static void get_config(struct api *api, const struct api_handler *handler, const struct api_call *call,
                       struct api_reply *reply)
{
	struct json_object *config = json_object_new_object();

	json_object_object_foreach(api->config, name, section)
	{
		/* Firecracker leaves it out */
		if (strcmp(name, "serial") != 0)
			json_object_object_add(config, name, json_object_get(section));
	}
	answer(reply, config);
}

static void get_section(struct api *api, const struct api_handler *handler, const struct api_call *call,
                        struct api_reply *reply)
{
	struct json_object *section = api_member(api->config, handler->section);

	if (section)
		answer(reply, json_object_get(section));
	else
		api_fault(reply, "No %s device found.", handler->section);
}

static void refuse_unplug(struct api *api, const struct api_handler *handler, const struct api_call *call,
                          struct api_reply *reply)
{
	api_fault(reply, "PCI is not enabled");
}

static void refuse_hinting(struct api *api, const struct api_handler *handler, const struct api_call *call,
                           struct api_reply *reply)
{
	api_fault(reply, "The requested operation is not supported: free page hinting; free_page_reporting is");
}

/* ---- actions ---- */

static void flush_metrics(struct api *api, struct api_reply *reply)
{
	api_write_metrics(api, reply);
}

static void start_instance(struct api *api, struct api_reply *reply)
{
	api_start(api, reply);
}

static void send_ctrl_alt_del(struct api *api, struct api_reply *reply)
{
	if (vcore_vm_send_ctrl_alt_del(api->vm) < 0)
		api_fault(reply, "Internal VMM error: %s", vcore_error_message());
}

/* Is it its time? False with the reply set. */
static bool check_time(struct api *api, enum api_when when, struct api_reply *reply)
{
	if (when == API_PRE_BOOT && api->state != API_NOT_STARTED)
		return api_fault(reply, "The requested operation is not supported after starting the microVM.");
	if (when == API_POST_BOOT && api->state == API_NOT_STARTED)
		return api_fault(reply, "The requested operation is not supported before starting the microVM.");
	return true;
}

static void put_action(struct api *api, const struct api_handler *handler, const struct api_call *call,
                       struct api_reply *reply)
{
	static const struct {
		const char *name;
		enum api_when when;
		void (*run)(struct api *api, struct api_reply *reply);
	} actions[] = {
	    {"InstanceStart", API_PRE_BOOT, start_instance},
	    {"SendCtrlAltDel", API_POST_BOOT, send_ctrl_alt_del},
	    {"FlushMetrics", API_POST_BOOT, flush_metrics},
	};
	const char *name = api_string(call->body, "action_type");

	for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
		if (!strcmp(actions[i].name, name) && check_time(api, actions[i].when, reply))
			actions[i].run(api, reply);
}

static void patch_vm(struct api *api, const struct api_handler *handler, const struct api_call *call,
                     struct api_reply *reply)
{
	if (!strcmp(api_string(call->body, "state"), "Paused"))
		api_pause(api, reply);
	else
		api_resume(api, reply);
}

/* ---- all of them ---- */

static const struct api_handler handlers[API_OPS] = {
    [API_GET_INFO] = {get_info},
    [API_GET_VERSION] = {get_version},
    [API_GET_CONFIG] = {get_config},
    [API_GET_MACHINE] = {get_section, "machine-config"},
    [API_PUT_MACHINE] = {api_change_machine, "machine-config"},
    [API_PATCH_MACHINE] = {api_change_machine, "machine-config"},
    [API_PUT_BOOT] = {api_put_section, "boot-source", NULL, api_check_boot},
    [API_PUT_CPU] = {api_put_section, "cpu-config", NULL, api_check_cpu, .harmless = true},
    [API_PUT_DRIVE] = {api_put_listed, "drives", "drive_id", api_check_drive},
    [API_PATCH_DRIVE] = {api_patch_drive, "drives", "drive_id"},
    [API_PUT_NET] = {api_put_listed, "network-interfaces", "iface_id", api_check_net},
    [API_PATCH_NET] = {api_patch_limits, "network-interfaces", "iface_id"},
    [API_PUT_PMEM] = {api_put_listed, "pmem", "id", api_check_pmem},
    [API_PATCH_PMEM] = {api_patch_limits, "pmem", "id"},
    [API_UNPLUG] = {refuse_unplug},
    [API_PUT_VSOCK] = {api_put_section, "vsock", NULL, api_check_vsock},
    [API_GET_BALLOON] = {get_section, "balloon"},
    [API_PUT_BALLOON] = {api_put_section, "balloon", NULL, api_check_balloon},
    [API_PATCH_BALLOON] = {api_patch_balloon, "balloon"},
    [API_GET_BALLOON_STATS] = {api_get_balloon_stats, "balloon"},
    [API_PATCH_BALLOON_STATS] = {api_patch_balloon_stats, "balloon"},
    [API_HINTING] = {refuse_hinting},
    [API_PUT_ENTROPY] = {api_put_section, "entropy", NULL, api_check_entropy},
    [API_PUT_SERIAL] = {api_put_section, "serial", NULL, api_check_serial, .harmless = true},
    [API_PUT_LOGGER] = {api_put_logger, "logger"},
    [API_PUT_METRICS] = {api_put_metrics, "metrics"},
    [API_GET_MMDS] = {api_get_mmds},
    [API_PUT_MMDS] = {api_put_mmds},
    [API_PATCH_MMDS] = {api_patch_mmds},
    [API_PUT_MMDS_CONFIG] = {api_put_section, "mmds-config", NULL, api_check_mmds_config},
    [API_PUT_MEMORY] = {api_put_section, "memory-hotplug", NULL, api_check_memory},
    [API_GET_MEMORY] = {api_get_memory, "memory-hotplug"},
    [API_PATCH_MEMORY] = {api_patch_memory, "memory-hotplug"},
    [API_PUT_ACTION] = {put_action},
    [API_PATCH_VM] = {patch_vm},
    [API_SNAPSHOT_CREATE] = {api_snapshot_make},
    [API_SNAPSHOT_LOAD] = {api_snapshot_take_in},
};

void api_handle(struct api *api, const char *method, const char *path, const char *body, size_t length,
                struct api_reply *reply)
{
	struct api_call call;
	char line[256];

	*reply = (struct api_reply){.status = 204};
	pthread_mutex_lock(&api->lock);
	snprintf(line, sizeof line, "The API server received a %.10s request on %.100s", method, path);
	api_log_line(api, VCORE_LOG_INFO, line);
	if (api_parse(method, path, body, length, &call, reply) && check_time(api, call.when, reply))
		handlers[call.op].run(api, &handlers[call.op], &call, reply);
	api_call_free(&call);
	api->metrics.requests++;
	if (reply->status >= 400) {
		api->metrics.faults++;
		snprintf(line, sizeof line, "Status code %d: %.200s", reply->status, api_string(reply->body, "fault_message"));
		api_log_line(api, VCORE_LOG_ERROR, line);
	}
	pthread_mutex_unlock(&api->lock);
}

int api_init(struct api *api, struct settings *settings, struct console *console)
{
	static const char *const lists[] = {"drives", "network-interfaces", "pmem"};
	struct api_reply reply = {0};

	*api = (struct api){
	    .settings = settings,
	    .console = console,
	    .id = settings->api_id ? settings->api_id : "anonymous-instance",
	    .event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	    .log = {.fd = -1, .level = VCORE_LOG_WARN},
	    .metrics = {.fd = -1},
	    .config = json_object_new_object(),
	};
	pthread_mutex_init(&api->lock, NULL);
	pthread_mutex_init(&api->log_lock, NULL);
	if (api->event < 0 || !api->config || mmds_new(&api->mmds) < 0)
		return -1;
	for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
		json_object_object_add(api->config, lists[i], json_object_new_array());
	api_change_machine(api, &handlers[API_PUT_MACHINE], &(struct api_call){.op = API_PUT_MACHINE}, &reply);
	api->configured = false;
	return 0;
}

void api_fini(struct api *api)
{
	vcore_vm_unref(api->vm);
	mmds_free(api->mmds);
	json_object_put(api->config);
	free(api->uart);
	if (api->log.fd >= 0)
		close(api->log.fd);
	if (api->metrics.fd >= 0)
		close(api->metrics.fd);
	if (api->event >= 0)
		close(api->event);
	pthread_mutex_destroy(&api->lock);
	pthread_mutex_destroy(&api->log_lock);
}
