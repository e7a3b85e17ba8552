/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor's commands about vcpus: what they do, where the host runs them, their coming and going. */
#include "vm/monitor.h"

/* Caller holds vm->lock. */
static const char *vcpu_state(const struct vcore_vcpu *v)
{
	if (!atomic_load(&v->present))
		return "absent";
	switch (atomic_load(&v->owner)) {
	case VC_OWNER_PROGRAM:
		return v->debug_waits ? "paused" : "running";
	case VC_OWNER_THREAD:
		return !v->parked ? "running" : atomic_load(&v->thread_id) ? "paused" : "ended";
	default:
		return "idle";
	}
}

static struct json_object *describe_stats(vcore_vcpu *v)
{
#define COUNTER(member)                                    \
	{                                                      \
#member, offsetof(struct vcore_vcpu_stats, member) \
	}
	static const struct {
		const char *name;
		size_t offset;
	} counters[] = {COUNTER(run_ns), COUNTER(steal_ns),   COUNTER(halts),        COUNTER(halted_ns), COUNTER(exits),
	                COUNTER(pio),    COUNTER(mmio),       COUNTER(hypercalls),   COUNTER(requests),  COUNTER(debug),
	                COUNTER(others), COUNTER(interrupts), COUNTER(instructions), COUNTER(emulated)};
#undef COUNTER
	struct vcore_vcpu_stats stats = {.size = sizeof stats};
	struct json_object *object = json_object_new_object();

	vcore_vcpu_get_stats(v, &stats);
	for (size_t i = 0; i < VC_ARRAY_SIZE(counters); i++)
		vc_mon_add_number(object, counters[i].name, *(uint64_t *)((char *)&stats + counters[i].offset));
	return object;
}

static struct json_object *describe_cpu(vcore_vcpu *v)
{
	struct json_object *cpu = json_object_new_object();
	char place[512];
	const char *state;
	uint32_t thread;

	pthread_mutex_lock(&v->vm->lock);
	state = vcpu_state(v);
	thread = atomic_load(&v->thread_id);
	pthread_mutex_unlock(&v->vm->lock);
	vc_mon_add_number(cpu, "index", v->b.index);
	vc_mon_add_string(cpu, "state", state);
	/* the program's own threads, which come and go, are not told */
	if (thread)
		vc_mon_add_number(cpu, "thread-id", thread);
	vcore_vcpu_get_place(v, place, sizeof place);
	vc_mon_add_string(cpu, "place", place);
	vc_mon_add(cpu, "stats", describe_stats(v));
	return cpu;
}

static int query_cpus(struct vc_mon_call *call)
{
	call->result = json_object_new_array();
	for (uint32_t i = 0; i < call->vm->bvm.vcpus; i++)
		vc_mon_append(call->result, describe_cpu(&call->vm->vcpus[i]));
	return 0;
}

static vcore_vcpu *vcpu_of(const struct vc_mon_call *call)
{
	return vcore_vm_vcpu(call->vm, (uint32_t)vc_mon_number(call, "cpu", 0));
}

static int cpu_plug(struct vc_mon_call *call)
{
	vcore_vcpu *v = vcpu_of(call);

	return v ? vcore_vcpu_plug(v) : -EINVAL;
}

static int cpu_unplug(struct vc_mon_call *call)
{
	vcore_vcpu *v = vcpu_of(call);

	return v ? vcore_vcpu_unplug(v) : -EINVAL;
}

static int cpu_place(struct vc_mon_call *call)
{
	struct json_object *properties = NULL;
	vcore_vcpu *v = vcpu_of(call);

	json_object_object_get_ex(call->arguments, "properties", &properties);
	return v ? vcore_vcpu_place(v, json_object_to_json_string_ext(properties, JSON_C_TO_STRING_PLAIN)) : -EINVAL;
}

static const struct vc_mon_arg cpu_args[] = {{"cpu", VC_MON_NUMBER, true, VC_MAX_VCPUS - 1, "index of the vcpu"}, {0}};
static const struct vc_mon_arg place_args[] = {
    {"cpu", VC_MON_NUMBER, true, VC_MAX_VCPUS - 1, "index of the vcpu"},
    {"properties", VC_MON_OBJECT, true, 0,
     "cpus (0-3,8), policy (other, batch, idle, fifo, rr), priority, nice, cgroup"},
    {0},
};

const struct vc_mon_command vc_mon_cpu_commands[] = {
    {"query-cpus", "the vcpus: what they do, their threads, where the host runs them, statistics", NULL, query_cpus},
    {"cpu-plug", "plug in a vcpu that is absent", cpu_args, cpu_plug},
    {"cpu-unplug", "ask the guest to let a vcpu go; event CPU_UNPLUGGED says when", cpu_args, cpu_unplug},
    {"cpu-place", "where and how the host runs a vcpu's thread", place_args, cpu_place},
    {0},
};
