/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The packets of the protocol (GDB manual, E.2): one function each. */
#include "debug/debug.h"

/* ---- threads ---- */

static bool is_thread(const struct vc_gdb *g, int64_t thread)
{
	return thread >= 1 && thread <= (int64_t)g->vm->bvm.vcpus && atomic_load(&g->vm->vcpus[thread - 1].present);
}

/* Hg: of registers and memory; Hc: of c and s. */
static enum vc_gdb_result set_thread(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	bool general = vc_rsp_take(args, "g");
	int64_t thread;

	if ((!general && !vc_rsp_take(args, "c")) || !vc_rsp_take_thread(args, &thread) ||
	    (thread > 0 && !is_thread(g, thread))) {
		vc_rsp_error(reply, EINVAL);
		return VC_GDB_REPLY;
	}
	if (!general)
		g->resumed = thread;
	else if (thread > 0)
		g->current = (uint32_t)thread - 1;
	vc_rsp_text(reply, "OK");
	return VC_GDB_REPLY;
}

static enum vc_gdb_result is_alive(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	int64_t thread;

	if (vc_rsp_take_thread(args, &thread) && is_thread(g, thread))
		vc_rsp_text(reply, "OK");
	else
		vc_rsp_error(reply, EINVAL);
	return VC_GDB_REPLY;
}

static enum vc_gdb_result why_stopped(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	vc_gdb_tell(g, &g->last, reply);
	return VC_GDB_REPLY;
}

/* ---- registers ---- */

static enum vc_gdb_result read_all(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	int r = vc_gdb_load(g, g->current);

	for (unsigned i = 0; r >= 0 && i < vc_gdb_reg_count(g->avx); i++) {
		uint8_t value[VC_GDB_REG_BYTES_MAX];

		vc_gdb_reg_get(g->state, i, value);
		vc_rsp_hex(reply, value, vc_gdb_reg_size(i));
	}
	if (r < 0)
		vc_rsp_error(reply, -r);
	return VC_GDB_REPLY;
}

static int set_register(struct vc_gdb *g, unsigned number, struct vc_rsp_args *args, bool *general)
{
	uint8_t value[VC_GDB_REG_BYTES_MAX] = {0};

	if (!vc_rsp_take_hex(args, value, vc_gdb_reg_size(number)))
		return -EINVAL;
	return vc_gdb_reg_set(g->state, number, value, general);
}

static void say(struct vc_rsp_out *reply, int r)
{
	if (r < 0)
		vc_rsp_error(reply, -r);
	else
		vc_rsp_text(reply, "OK");
}

static enum vc_gdb_result write_all(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	bool general = true;
	int r = vc_gdb_load(g, g->current);

	for (unsigned i = 0; r >= 0 && i < vc_gdb_reg_count(g->avx); i++)
		r = set_register(g, i, args, &general);
	if (r >= 0)
		r = vc_gdb_store(g, general);
	vc_gdb_forget(g);
	say(reply, r);
	return VC_GDB_REPLY;
}

static bool take_register(struct vc_gdb *g, struct vc_rsp_args *args, unsigned *number)
{
	uint64_t n;

	if (!vc_rsp_take_number(args, &n) || n >= vc_gdb_reg_count(g->avx))
		return false;
	*number = (unsigned)n;
	return true;
}

static enum vc_gdb_result read_one(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	uint8_t value[VC_GDB_REG_BYTES_MAX];
	unsigned number;
	int r = take_register(g, args, &number) ? vc_gdb_load(g, g->current) : -EINVAL;

	if (r < 0) {
		vc_rsp_error(reply, -r);
	} else {
		vc_gdb_reg_get(g->state, number, value);
		vc_rsp_hex(reply, value, vc_gdb_reg_size(number));
	}
	return VC_GDB_REPLY;
}

static enum vc_gdb_result write_one(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	bool general = true;
	unsigned number;
	int r = take_register(g, args, &number) && vc_rsp_take(args, "=") ? vc_gdb_load(g, g->current) : -EINVAL;

	if (r >= 0)
		r = set_register(g, number, args, &general);
	if (r >= 0)
		r = vc_gdb_store(g, general);
	vc_gdb_forget(g);
	say(reply, r);
	return VC_GDB_REPLY;
}

/* ---- memory ---- */

static bool take_range(struct vc_rsp_args *args, uint64_t *address, uint64_t *length)
{
	return vc_rsp_take_number(args, address) && vc_rsp_take(args, ",") && vc_rsp_take_number(args, length);
}

static enum vc_gdb_result read_memory(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	uint8_t bytes[VC_RSP_MAX / 2];
	uint64_t address, length;
	size_t n;

	if (!take_range(args, &address, &length)) {
		vc_rsp_error(reply, EINVAL);
		return VC_GDB_REPLY;
	}
	/* less than was asked for is an answer, nothing at all is not */
	n = vc_gdb_read(g, address, bytes, length < sizeof bytes ? length : sizeof bytes);
	if (n || !length)
		vc_rsp_hex(reply, bytes, n);
	else
		vc_rsp_error(reply, EFAULT);
	return VC_GDB_REPLY;
}

static enum vc_gdb_result write_memory_hex(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	uint8_t bytes[VC_RSP_MAX / 2];
	uint64_t address, length;

	if (!take_range(args, &address, &length) || !vc_rsp_take(args, ":") || length > sizeof bytes ||
	    !vc_rsp_take_hex(args, bytes, length))
		vc_rsp_error(reply, EINVAL);
	else
		say(reply, vc_gdb_write(g, address, bytes, length));
	return VC_GDB_REPLY;
}

static enum vc_gdb_result write_memory(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	uint64_t address, length;

	if (!take_range(args, &address, &length) || !vc_rsp_take(args, ":") || length != vc_rsp_left(args))
		vc_rsp_error(reply, EINVAL);
	else
		say(reply, vc_gdb_write(g, address, (const uint8_t *)args->at, length));
	return VC_GDB_REPLY;
}

/* ---- breakpoints ---- */

/* Z and z: "TYPE,ADDRESS,KIND"; kind is the length of what is watched. */
static bool take_breakpoint(struct vc_rsp_args *args, enum vc_gdb_kind *kind, uint64_t *address, uint64_t *length)
{
	uint64_t type;

	if (!vc_rsp_take_number(args, &type) || type >= VC_GDB_KINDS || !vc_rsp_take(args, ",") ||
	    !take_range(args, address, length))
		return false;
	*kind = (enum vc_gdb_kind)type;
	return true;
}

static enum vc_gdb_result insert(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	enum vc_gdb_kind kind;
	uint64_t address, length;

	say(reply, take_breakpoint(args, &kind, &address, &length) ? vc_gdb_insert(g, kind, address, length) : -EINVAL);
	return VC_GDB_REPLY;
}

static enum vc_gdb_result take_away(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	enum vc_gdb_kind kind;
	uint64_t address, length;

	say(reply, take_breakpoint(args, &kind, &address, &length) ? vc_gdb_remove(g, kind, address, length) : -EINVAL);
	return VC_GDB_REPLY;
}

/* ---- running ---- */

/* "c", "s", "Cnn", "Snn". A guest takes no signals: they count as c and s. */
static bool take_action(struct vc_rsp_args *args, enum vc_gdb_action *action)
{
	bool with_signal = vc_rsp_take(args, "C") || vc_rsp_take(args, "S");
	char word = with_signal ? (char)(args->at[-1] | 0x20) : 0;
	uint64_t signal;

	if (with_signal && !vc_rsp_take_number(args, &signal))
		return false;
	if (!with_signal)
		word = vc_rsp_take(args, "c") ? 'c' : vc_rsp_take(args, "s") ? 's' : 0;
	*action = word == 's' ? VC_GDB_STEP : VC_GDB_CONTINUE;
	return word != 0;
}

static void act(struct vc_gdb *g, int64_t thread, enum vc_gdb_action action)
{
	for (uint32_t i = 0; i < g->vm->bvm.vcpus; i++)
		if ((thread <= 0 || thread == (int64_t)i + 1) && g->threads[i].action == VC_GDB_STAY)
			g->threads[i].action = action;
}

static void all_stay(struct vc_gdb *g)
{
	for (uint32_t i = 0; i < g->vm->bvm.vcpus; i++)
		g->threads[i].action = VC_GDB_STAY;
}

/* ";ACTION[:THREAD]...": the first that names a thread counts; one that none names stays. */
static enum vc_gdb_result resume_threads(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	enum vc_gdb_action action;
	bool good = vc_rsp_left(args) > 0;

	all_stay(g);
	while (good && vc_rsp_left(args) > 0) {
		int64_t thread = -1;

		good =
		    vc_rsp_take(args, ";") && take_action(args, &action) &&
		    (!vc_rsp_take(args, ":") || (vc_rsp_take_thread(args, &thread) && (thread <= 0 || is_thread(g, thread))));
		if (good)
			act(g, thread, action);
	}
	if (good)
		return vc_gdb_resume(g, reply);
	vc_rsp_error(reply, EINVAL);
	return VC_GDB_REPLY;
}

static enum vc_gdb_result tell_actions(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	vc_rsp_text(reply, "vCont;c;C;s;S");
	return VC_GDB_REPLY;
}

static int set_rip(struct vc_gdb *g, uint64_t rip)
{
	int r = vc_gdb_load(g, g->current);

	if (r < 0)
		return r;
	g->state->rip = rip;
	return vc_gdb_store(g, true);
}

/* The old way: "c[ADDRESS]", "s[ADDRESS]", "Cnn[;ADDRESS]", "Snn[;ADDRESS]". */
static enum vc_gdb_result resume_old(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	enum vc_gdb_action action;
	uint64_t address;
	int r = take_action(args, &action) ? 0 : -EINVAL;

	vc_rsp_take(args, ";");
	if (r >= 0 && vc_rsp_left(args) > 0)
		r = vc_rsp_take_number(args, &address) ? set_rip(g, address) : -EINVAL;
	if (r < 0) {
		vc_rsp_error(reply, -r);
		return VC_GDB_REPLY;
	}
	all_stay(g);
	if (action == VC_GDB_STEP)
		act(g, g->resumed > 0 ? g->resumed : (int64_t)g->current + 1, VC_GDB_STEP);
	act(g, g->resumed, VC_GDB_CONTINUE);
	return vc_gdb_resume(g, reply);
}

/* ---- the end ---- */

static enum vc_gdb_result detach(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	vc_rsp_text(reply, "OK");
	return VC_GDB_DETACH;
}

static enum vc_gdb_result kill_vm(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	if (vcore_vm_stop(g->vm) < 0)
		vc_log(&g->vm->log, VCORE_LOG_WARN, "gdb cannot end the vm: %s", vcore_error_message());
	vc_rsp_text(reply, "OK");
	return VC_GDB_DETACH;
}

/* The old way, which has no answer. */
static enum vc_gdb_result kill_old(struct vc_gdb *g, struct vc_rsp_args *args, struct vc_rsp_out *reply)
{
	kill_vm(g, args, reply);
	return VC_GDB_LEAVE;
}

/* ---- the table ---- */

static const struct {
	const char *name;
	enum vc_gdb_result (*serve)(struct vc_gdb *, struct vc_rsp_args *, struct vc_rsp_out *);
	bool whole; /* serve wants the name, too */
} packets[] = {
    {"m", read_memory, false},       {"g", read_all, false},           {"p", read_one, false},
    {"vCont?", tell_actions, false}, {"vCont", resume_threads, false}, {"Z", insert, false},
    {"z", take_away, false},         {"H", set_thread, false},         {"T", is_alive, false},
    {"?", why_stopped, false},       {"P", write_one, false},          {"G", write_all, false},
    {"X", write_memory, false},      {"M", write_memory_hex, false},   {"q", vc_gdb_query, true},
    {"Q", vc_gdb_query, true},       {"c", resume_old, true},          {"C", resume_old, true},
    {"s", resume_old, true},         {"S", resume_old, true},          {"D", detach, false},
    {"vKill", kill_vm, false},       {"k", kill_old, false},
};

enum vc_gdb_result vc_gdb_packet(struct vc_gdb *g, const char *payload, size_t length, struct vc_rsp_out *reply)
{
	vc_rsp_clear(reply);
	vc_gdb_forget(g);
	for (size_t i = 0; i < VC_ARRAY_SIZE(packets); i++) {
		struct vc_rsp_args args = {payload, payload + length};

		if (!vc_rsp_take(&args, packets[i].name))
			continue;
		if (packets[i].whole)
			args.at = payload;
		return packets[i].serve(g, &args, reply);
	}
	return VC_GDB_REPLY; /* an empty reply: there is no such packet here */
}
