/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor's commands about itself, and the list of all topics. */
#include <printbuf.h>

#include "config.h"
#include "vm/monitor.h"

const struct vc_mon_command *const vc_mon_topics[] = {vc_mon_snapshot_commands,
                                                      vc_mon_general_commands,
                                                      vc_mon_vm_commands,
                                                      vc_mon_cpu_commands,
                                                      vc_mon_memory_commands,
                                                      vc_mon_guest_memory_commands,
                                                      vc_mon_device_commands,
                                                      vc_mon_display_commands,
                                                      vc_mon_input_commands,
                                                      vc_mon_migrate_commands,
                                                      NULL};

const struct vc_mon_command *vc_mon_find(const char *name)
{
	for (const struct vc_mon_command *const *topic = vc_mon_topics; *topic; topic++)
		for (const struct vc_mon_command *c = *topic; c->name; c++)
			if (!strcmp(c->name, name))
				return c;
	return NULL;
}

static int capabilities(struct vc_mon_call *call)
{
	struct json_object *enable;

	/* there are none to be enabled */
	if (json_object_object_get_ex(call->arguments, "enable", &enable) && json_object_array_length(enable))
		return vc_fail(EINVAL, "capabilities: \"enable\" is %.80s: expected none, as the greeting says",
		               json_object_to_json_string_ext(enable, JSON_C_TO_STRING_PLAIN));
	call->session->ready = true;
	return 0;
}

static struct json_object *describe_arg(const struct vc_mon_arg *arg)
{
	struct json_object *object = json_object_new_object();

	vc_mon_add_string(object, "name", arg->name);
	vc_mon_add_string(object, "type", vc_mon_kind_names[arg->kind]);
	vc_mon_add_bool(object, "needed", arg->needed);
	vc_mon_add_string(object, "help", arg->help);
	return object;
}

static struct json_object *describe(const struct vc_mon_command *command)
{
	struct json_object *object = json_object_new_object(), *args = json_object_new_array();

	vc_mon_add_string(object, "name", command->name);
	vc_mon_add_string(object, "help", command->help);
	for (const struct vc_mon_arg *a = command->args; a && a->name; a++)
		vc_mon_append(args, describe_arg(a));
	vc_mon_add(object, "arguments", args);
	return object;
}

static int query_commands(struct vc_mon_call *call)
{
	call->result = json_object_new_array();
	for (const struct vc_mon_command *const *topic = vc_mon_topics; *topic; topic++)
		for (const struct vc_mon_command *c = *topic; c->name; c++)
			vc_mon_append(call->result, describe(c));
	return 0;
}

static void help_line(struct printbuf *text, const struct vc_mon_command *command)
{
	sprintbuf(text, "%-20s %s\n", command->name, command->help);
	for (const struct vc_mon_arg *a = command->args; a && a->name; a++)
		sprintbuf(text, "    %s%s=%s%s  %s\n", a->needed ? "" : "[", a->name, vc_mon_kind_names[a->kind],
		          a->needed ? "" : "]", a->help);
}

static int help(struct vc_mon_call *call)
{
	const char *name = vc_mon_string(call, "command", NULL);
	struct printbuf *text;

	if (name && !vc_mon_find(name))
		return vc_fail(ENOENT, "help: there is no command \"%.64s\"", name);
	text = printbuf_new();
	if (!text)
		return vc_fail(ENOMEM, "no memory for help");
	for (const struct vc_mon_command *const *topic = vc_mon_topics; *topic; topic++)
		for (const struct vc_mon_command *c = *topic; c->name; c++)
			if (!name || !strcmp(name, c->name))
				help_line(text, c);
	call->result = json_object_new_string_len(text->buf, printbuf_length(text));
	printbuf_free(text);
	return 0;
}

static int query_version(struct vc_mon_call *call)
{
	call->result = json_object_new_object();
	vc_mon_add_string(call->result, "virtcore", VC_VERSION);
	return 0;
}

static const struct vc_mon_arg capabilities_args[] = {
    {"enable", VC_MON_ARRAY, false, 0, "capabilities to switch on; there are none yet"}, {0}};
static const struct vc_mon_arg help_args[] = {{"command", VC_MON_STRING, false, 0, "the one to be told of"}, {0}};

const struct vc_mon_command vc_mon_general_commands[] = {
    {"capabilities", "end the negotiation: from now on commands are taken and events sent", capabilities_args,
     capabilities},
    {"help", "what commands there are, as text", help_args, help},
    {"query-commands", "what commands there are, with their arguments", NULL, query_commands},
    {"query-version", "the library's version", NULL, query_version},
    {0},
};
