/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Letting vcpus go, and what becomes of them: whose a debug exit is, and how gdb is told. */
#include "debug/debug.h"

#define SIGNAL_INTERRUPT 2 /* gdb's numbers, which are those of Linux here */
#define SIGNAL_ABORT     6
#define SIGNAL_TRAP      5

#define DR6_STEP 0x4000u

/* ---- whose exit ---- */

static struct vc_gdb_stop look_at_int3(struct vc_gdb *g, uint32_t vcpu)
{
	const struct vc_gdb_soft *soft = NULL;
	uint64_t rip, gpa;

	if (vc_gdb_load(g, vcpu) < 0)
		return (struct vc_gdb_stop){.why = VC_GDB_SIGNAL, .signal = SIGNAL_TRAP};
	rip = vc_gdb_linear_rip(g);
	if (vc_vcpu_walk(&g->vm->vcpus[vcpu], g->state, rip, &gpa) >= 0)
		soft = vc_gdb_soft_at(g, gpa);
	if (!soft)
		return (struct vc_gdb_stop){.why = VC_GDB_NONE};
	if (soft->gva == rip)
		return (struct vc_gdb_stop){.why = VC_GDB_SOFT_HIT, .address = rip};
	/* our byte at another address, where gdb knows of no breakpoint */
	return (struct vc_gdb_stop){.why = VC_GDB_SIGNAL, .signal = SIGNAL_TRAP};
}

static struct vc_gdb_stop look_at_db(const struct vc_gdb *g, uint32_t vcpu, const struct vcore_exit *exit)
{
	for (unsigned i = 0; i < VC_GDB_HARD_MAX; i++) {
		const struct vc_gdb_hard *hard = &g->hard[i];

		if ((exit->dr6 >> i & 1) && hard->kind != VC_GDB_SOFT)
			return (struct vc_gdb_stop){.why = hard->kind == VC_GDB_HARD ? VC_GDB_HARD_HIT : VC_GDB_WATCH_HIT,
			                            .kind = hard->kind,
			                            .address = hard->address};
	}
	if (g->threads[vcpu].action == VC_GDB_STEP && (exit->dr6 & DR6_STEP))
		return (struct vc_gdb_stop){.why = VC_GDB_STEPPED};
	return (struct vc_gdb_stop){.why = VC_GDB_NONE};
}

/* The exit that a vcpu has left since the last look. */
static bool take_exit(struct vc_gdb *g, uint32_t vcpu, struct vcore_exit *exit)
{
	struct vc_gdb_thread *t = &g->threads[vcpu];
	bool taken;

	pthread_mutex_lock(&g->vm->lock);
	taken = t->exited;
	t->exited = false;
	*exit = t->exit;
	pthread_mutex_unlock(&g->vm->lock);
	return taken;
}

static void note(struct vc_gdb_thread *t, const struct vc_gdb_stop *stop)
{
	t->pending = *stop;
	t->past_hard = stop->why == VC_GDB_HARD_HIT;
	t->hard_at = stop->address;
}

void vc_gdb_collect(struct vc_gdb *g)
{
	vc_gdb_forget(g);
	for (uint32_t i = 0; i < g->vm->bvm.vcpus; i++) {
		struct vcore_exit exit;
		struct vc_gdb_stop stop;

		if (!take_exit(g, i, &exit))
			continue;
		stop = exit.exception == VC_BP ? look_at_int3(g, i) : look_at_db(g, i, &exit);
		if (stop.why != VC_GDB_NONE)
			note(&g->threads[i], &stop);
		else if (vc_vcpu_give_back(&g->vm->vcpus[i], &exit) < 0)
			vc_log(&g->vm->log, VCORE_LOG_ERROR, "vcpu %u loses an exception %u of the guest's: %s", i, exit.exception,
			       vcore_error_message());
	}
	vc_gdb_forget(g);
}

/* ---- telling ---- */

static void tell_watch(const struct vc_gdb_stop *stop, struct vc_rsp_out *reply)
{
	static const char *const names[VC_GDB_KINDS] = {
	    [VC_GDB_WRITE] = "watch", [VC_GDB_READ] = "rwatch", [VC_GDB_ACCESS] = "awatch"};

	vc_rsp_text(reply, "%s:%llx;", names[stop->kind], (unsigned long long)stop->address);
}

/* gdb compares addresses with RIP: one that counts the base of CS is a breakpoint that it knows nothing of. */
static bool is_known(struct vc_gdb *g, const struct vc_gdb_stop *stop)
{
	return g->tells_breaks && vc_gdb_load(g, g->current) >= 0 && g->state->rip == stop->address;
}

void vc_gdb_tell(struct vc_gdb *g, const struct vc_gdb_stop *stop, struct vc_rsp_out *reply)
{
	vc_rsp_clear(reply);
	vc_rsp_text(reply, "T%02xthread:%x;", stop->why == VC_GDB_SIGNAL ? stop->signal : SIGNAL_TRAP, g->current + 1);
	if (stop->why == VC_GDB_WATCH_HIT)
		tell_watch(stop, reply);
	else if (stop->why == VC_GDB_SOFT_HIT && is_known(g, stop))
		vc_rsp_text(reply, "swbreak:;");
	else if (stop->why == VC_GDB_HARD_HIT && is_known(g, stop))
		vc_rsp_text(reply, "hwbreak:;");
}

static void tell_of(struct vc_gdb *g, uint32_t vcpu, struct vc_rsp_out *reply)
{
	struct vc_gdb_thread *t = &g->threads[vcpu];

	g->running = false;
	g->current = vcpu;
	g->last = t->pending;
	t->pending.why = VC_GDB_NONE;
	vc_gdb_tell(g, &g->last, reply);
}

/* A vcpu that has something to say: a finished step first, for only now is it news; then by turns. Their number: none.
 */
static uint32_t choose(const struct vc_gdb *g)
{
	uint32_t count = g->vm->bvm.vcpus, chosen = count;

	for (uint32_t n = 0; n < count; n++) {
		uint32_t i = (g->current + 1 + n) % count;

		if (g->threads[i].pending.why == VC_GDB_STEPPED)
			return i;
		if (g->threads[i].pending.why != VC_GDB_NONE && chosen == count)
			chosen = i;
	}
	return chosen;
}

/* What the others have to say is kept if it will not happen again by itself, as an INT3 does. */
static void drop_repeatable(struct vc_gdb *g)
{
	for (uint32_t i = 0; i < g->vm->bvm.vcpus; i++) {
		struct vc_gdb_stop *p = &g->threads[i].pending;

		if (p->why != VC_GDB_HARD_HIT && p->why != VC_GDB_WATCH_HIT)
			p->why = VC_GDB_NONE;
	}
}

/* Of held vcpus. False: none has anything to say. */
static bool tell_one(struct vc_gdb *g, struct vc_rsp_out *reply)
{
	uint32_t vcpu = choose(g);

	if (vcpu == g->vm->bvm.vcpus)
		return false;
	tell_of(g, vcpu, reply);
	drop_repeatable(g);
	return true;
}

/* ---- letting go ---- */

static bool goes(void *ctx, uint32_t vcpu)
{
	return ((struct vc_gdb *)ctx)->threads[vcpu].action != VC_GDB_STAY;
}

/* A hit is news only as long as what was hit is there. */
static bool is_valid(const struct vc_gdb *g, const struct vc_gdb_stop *stop)
{
	enum vc_gdb_kind kind = stop->why == VC_GDB_HARD_HIT ? VC_GDB_HARD : stop->kind;

	for (unsigned i = 0; stop->why != VC_GDB_NONE && i < VC_GDB_HARD_MAX; i++)
		if (g->hard[i].kind == kind && g->hard[i].address == stop->address)
			return true;
	return false;
}

static bool tell_pending(struct vc_gdb *g, struct vc_rsp_out *reply)
{
	for (uint32_t i = 0; i < g->vm->bvm.vcpus; i++) {
		struct vc_gdb_thread *t = &g->threads[i];

		if (t->action == VC_GDB_STAY || t->pending.why == VC_GDB_NONE)
			continue;
		if (is_valid(g, &t->pending)) {
			tell_of(g, i, reply);
			return true;
		}
		t->pending.why = VC_GDB_NONE;
	}
	return false;
}

/* RF lets the next instruction go without its breakpoint (SDM vol. 3, 18.3.1.1). */
static int get_past(struct vc_gdb *g, uint32_t vcpu)
{
	struct vc_gdb_thread *t = &g->threads[vcpu];
	int r;

	if (!t->past_hard)
		return 0;
	t->past_hard = false;
	r = vc_gdb_load(g, vcpu);
	if (r < 0 || vc_gdb_linear_rip(g) != t->hard_at)
		return r;
	g->state->rflags |= VC_FLAG_RF;
	return vc_gdb_store(g, true);
}

static int arm_vcpu(struct vc_gdb *g, uint32_t vcpu)
{
	struct vc_gdb_thread *t = &g->threads[vcpu];
	struct vcore_debug debug = vc_gdb_debug(g, t->action == VC_GDB_STEP);
	int r;

	if (t->debug.flags == debug.flags && t->debug.dr7 == debug.dr7 && !memcmp(t->debug.dr, debug.dr, sizeof debug.dr))
		return 0;
	r = vc_vcpu_set_debug(&g->vm->vcpus[vcpu], &debug);
	if (r >= 0)
		t->debug = debug;
	return r;
}

/* Breakpoints and steps, for the vcpus that go. */
static int arm(struct vc_gdb *g)
{
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < g->vm->bvm.vcpus; i++) {
		if (g->threads[i].action == VC_GDB_STAY)
			continue;
		r = get_past(g, i);
		if (r >= 0)
			r = arm_vcpu(g, i);
	}
	return r;
}

enum vc_gdb_result vc_gdb_resume(struct vc_gdb *g, struct vc_rsp_out *reply)
{
	int r;

	if (tell_pending(g, reply))
		return VC_GDB_REPLY;
	r = arm(g);
	if (r < 0) {
		vc_rsp_error(reply, -r);
		return VC_GDB_REPLY;
	}
	g->running = true;
	vc_vm_debug_release(g->vm, goes, g);
	return VC_GDB_SILENT;
}

/* ---- stopping ---- */

bool vc_gdb_stopped(struct vc_gdb *g, struct vc_rsp_out *reply)
{
	vc_vm_debug_hold(g->vm);
	vc_gdb_collect(g);
	if (tell_one(g, reply))
		return true;
	vc_vm_debug_release(g->vm, goes, g);
	return false;
}

void vc_gdb_interrupt(struct vc_gdb *g, struct vc_rsp_out *reply)
{
	vc_vm_debug_hold(g->vm);
	vc_gdb_collect(g);
	g->running = false;
	if (tell_one(g, reply))
		return;
	g->last = (struct vc_gdb_stop){.why = VC_GDB_SIGNAL, .signal = SIGNAL_INTERRUPT};
	vc_gdb_tell(g, &g->last, reply);
}

/* As an exit status that a shell would understand: 0, what the guest wrote to debug-exit, or a signal. */
void vc_gdb_ended(struct vc_gdb *g, struct vc_rsp_out *reply)
{
	struct vcore_exit exit = {.size = sizeof exit};

	vc_vm_debug_hold(g->vm);
	vc_gdb_collect(g);
	g->running = false;
	vc_rsp_clear(reply);
	if (vcore_vm_wait(g->vm, 0, &exit) >= 0 && exit.reason == VCORE_EXIT_CRASH)
		vc_rsp_text(reply, "X%02x", SIGNAL_ABORT);
	else
		vc_rsp_text(reply, "W%02x", exit.reason == VCORE_EXIT_DEBUG_EXIT ? (exit.code << 1 | 1) & 0xff : 0);
}
