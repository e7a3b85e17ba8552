/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* General queries: packets q... and Q... (GDB manual, E.4). */
#include "debug/debug.h"

/* Whether one of the words behind the colon is that. */
static bool has_word(const struct vc_rsp_args *args, const char *word)
{
	size_t n = strlen(word);
	const char *at = args->at;

	while (at < args->end) {
		const char *end = memchr(at, ';', (size_t)(args->end - at));

		if (!end)
			end = args->end;
		if ((size_t)(end - at) == n && !memcmp(at, word, n))
			return true;
		at = end + 1;
	}
	return false;
}

static enum vc_gdb_result supported(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	vc_rsp_take(args, ":");
	g->tells_breaks = has_word(args, "swbreak+") && has_word(args, "hwbreak+");
	vc_rsp_text(reply, "PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;vContSupported+;swbreak+;hwbreak+",
	            VC_RSP_MAX);
	return VC_GDB_REPLY;
}

static enum vc_gdb_result no_ack(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	vc_rsp_text(reply, "OK");
	return VC_GDB_NO_ACK;
}

/* "target.xml:OFFSET,LENGTH" */
static enum vc_gdb_result description(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	size_t total = g->description_length;
	uint64_t offset, length;
	bool last;

	if (!vc_rsp_take(args, "target.xml:") || !vc_rsp_take_number(args, &offset) || !vc_rsp_take(args, ",") ||
	    !vc_rsp_take_number(args, &length) || offset > total) {
		vc_rsp_error(reply, EINVAL);
		return VC_GDB_REPLY;
	}
	if (length > VC_RSP_MAX / 2)
		length = VC_RSP_MAX / 2;
	last = length >= total - offset;
	vc_rsp_text(reply, last ? "l" : "m");
	vc_rsp_bytes(reply, g->description + offset, last ? total - offset : length);
	return VC_GDB_REPLY;
}

static enum vc_gdb_result first_threads(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	/* the first is always there */
	for (uint32_t i = 1; i <= g->vm->bvm.vcpus; i++)
		if (atomic_load(&g->vm->vcpus[i - 1].present))
			vc_rsp_text(reply, "%c%x", i == 1 ? 'm' : ',', i);
	return VC_GDB_REPLY;
}

static enum vc_gdb_result no_more_threads(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	vc_rsp_text(reply, "l");
	return VC_GDB_REPLY;
}

static enum vc_gdb_result current_thread(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	vc_rsp_text(reply, "QC%x", g->current + 1);
	return VC_GDB_REPLY;
}

/* What `info threads` shows beside the number. */
static enum vc_gdb_result about_thread(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	static const char *const states[] = {[VC_MP_RUNNABLE] = "running",
	                                     [VC_MP_HALTED] = "halted",
	                                     [VC_MP_WAIT_SIPI] = "waits for SIPI",
	                                     [VC_MP_UNINITIALIZED] = "off"};
	struct vc_rsp_out text;
	int64_t thread;

	if (!vc_rsp_take_thread(args, &thread) || thread < 1 || thread > (int64_t)g->vm->bvm.vcpus) {
		vc_rsp_error(reply, EINVAL);
		return VC_GDB_REPLY;
	}
	vc_rsp_clear(&text);
	vc_rsp_text(&text, "vcpu %u", (unsigned)thread - 1);
	if (vc_gdb_load(g, (uint32_t)thread - 1) >= 0 && g->state->mp_state < VC_ARRAY_SIZE(states))
		vc_rsp_text(&text, " %s", states[g->state->mp_state]);
	vc_rsp_hex(reply, text.payload, text.length);
	return VC_GDB_REPLY;
}

/* gdb ends with a detach, not a kill: the vm was there before it. */
static enum vc_gdb_result attached(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	vc_rsp_text(reply, "1");
	return VC_GDB_REPLY;
}

static enum vc_gdb_result no_symbols(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	vc_rsp_text(reply, "OK");
	return VC_GDB_REPLY;
}

#define LINE_MAX_LENGTH 255

static enum vc_gdb_result command(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	char line[LINE_MAX_LENGTH + 1];
	size_t n = vc_rsp_left(args) / 2;

	if (n > LINE_MAX_LENGTH || !vc_rsp_take_hex(args, line, n)) {
		vc_rsp_error(reply, EINVAL);
		return VC_GDB_REPLY;
	}
	line[n] = '\0';
	vc_gdb_monitor(g, line, reply);
	return VC_GDB_REPLY;
}

static const struct {
	const char *name;
	enum vc_gdb_result (*serve)(struct vc_gdb *, struct vc_rsp_args *, struct vc_rsp_out *);
} queries[] = {
    {"qSupported", supported},
    {"qXfer:features:read:", description},
    {"QStartNoAckMode", no_ack},
    {"qfThreadInfo", first_threads},
    {"qsThreadInfo", no_more_threads},
    {"qThreadExtraInfo,", about_thread},
    {"qAttached", attached},
    {"qSymbol", no_symbols},
    {"qRcmd,", command},
    {"qC", current_thread},
};

enum vc_gdb_result vc_gdb_query(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	for (size_t i = 0; i < VC_ARRAY_SIZE(queries); i++)
		if (vc_rsp_take(args, queries[i].name))
			return queries[i].serve(g, args, reply);
	return VC_GDB_REPLY; /* empty: not known here */
}
