/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor's commands about the vm as a whole: what it does, its counters; pause to power-down. */
#include "vm/monitor.h"

static const char *state_name(uint32_t state)
{
	static const char *const names[] = {[VCORE_VM_CREATED] = "created",
	                                    [VCORE_VM_RUNNING] = "running",
	                                    [VCORE_VM_PAUSED] = "paused",
	                                    [VCORE_VM_EXITED] = "exited"};

	return state < VC_ARRAY_SIZE(names) ? names[state] : "?";
}

static int query_status(struct vc_mon_call *call)
{
	struct vcore_vm_info info = {.size = sizeof info};
	struct vcore_exit exit = {.size = sizeof exit};
	int r = vcore_vm_get_info(call->vm, &info);

	if (r < 0)
		return r;
	call->result = json_object_new_object();
	vc_mon_add_string(call->result, "status", state_name(info.state));
	vc_mon_add_bool(call->result, "running", info.state == VCORE_VM_RUNNING);
	if (info.state != VCORE_VM_EXITED || vcore_vm_wait(call->vm, 0, &exit) < 0)
		return 0;
	vc_mon_add_string(call->result, "exit", vcore_exit_name(exit.reason));
	if (exit.reason == VCORE_EXIT_CRASH)
		vc_mon_add_string(call->result, "message", exit.message);
	return 0;
}

static const char *engine_name(uint32_t engine)
{
	static const char *const names[] = {[VCORE_ENGINE_AUTO] = "auto",
	                                    [VCORE_ENGINE_INTERP] = "interp",
	                                    [VCORE_ENGINE_JIT] = "jit",
	                                    [VCORE_ENGINE_LOCKSTEP] = "lockstep",
	                                    [VCORE_ENGINE_PROMOTE] = "promote"};

	return engine < VC_ARRAY_SIZE(names) ? names[engine] : "?";
}

static int query_stats(struct vc_mon_call *call)
{
#define COUNTER(member)                                 \
	{                                                   \
#member, offsetof(struct vcore_vm_info, member) \
	}
	static const struct {
		const char *name;
		size_t offset;
	} counters[] = {COUNTER(memory),       COUNTER(tsc_khz),       COUNTER(time_ns),    COUNTER(exits),
	                COUNTER(pio),          COUNTER(mmio),          COUNTER(hypercalls), COUNTER(interrupts),
	                COUNTER(instructions), COUNTER(emulated),      COUNTER(tlb_fills),  COUNTER(blocks),
	                COUNTER(compared),     COUNTER(calls),         COUNTER(bails),      COUNTER(untranslated),
	                COUNTER(promoted),     COUNTER(promoted_stops)};
#undef COUNTER
	struct vcore_vm_info info = {.size = sizeof info};
	int r = vcore_vm_get_info(call->vm, &info);

	if (r < 0)
		return r;
	call->result = json_object_new_object();
	vc_mon_add_string(call->result, "state", state_name(info.state));
	vc_mon_add_string(call->result, "machine", call->vm->machine->name);
	vc_mon_add_string(call->result, "backend", vcore_backend_name(info.backend));
	vc_mon_add_string(call->result, "engine", engine_name(info.engine));
	vc_mon_add_number(call->result, "vcpus", info.vcpus);
	vc_mon_add_number(call->result, "slots", info.slots);
	for (size_t i = 0; i < VC_ARRAY_SIZE(counters); i++)
		vc_mon_add_number(call->result, counters[i].name, *(uint64_t *)((char *)&info + counters[i].offset));
	return 0;
}

static int pause_vm(struct vc_mon_call *call)
{
	return vcore_vm_pause(call->vm);
}

static int resume_vm(struct vc_mon_call *call)
{
	return vcore_vm_resume(call->vm);
}

/* A vm that runs is held for it, and goes on. */
static int reset(struct vc_mon_call *call)
{
	struct vcore_vm_info info = {.size = sizeof info};
	bool held;
	int r = vcore_vm_get_info(call->vm, &info);

	held = r >= 0 && info.state == VCORE_VM_RUNNING;
	if (held)
		r = vcore_vm_pause(call->vm);
	if (r >= 0)
		r = vc_vm_reset(call->vm, false);
	/* what cannot be reset does not go on half reset */
	return r >= 0 && held ? vcore_vm_resume(call->vm) : r;
}

static int powerdown(struct vc_mon_call *call)
{
	if (!call->vm->pm)
		return vc_fail(ENOTSUP,
		               "powerdown: this machine has no power button (it needs the ACPI of machine microvm with "
		               "its legacy parts)");
	vc_acpi_pm_power_button(call->vm->pm);
	return 0;
}

static int quit(struct vc_mon_call *call)
{
	return vcore_vm_stop(call->vm);
}

static int inject_nmi(struct vc_mon_call *call)
{
	uint64_t cpu = vc_mon_number(call, "cpu", VC_MAX_VCPUS);
	int r = 0;

	if (cpu < VC_MAX_VCPUS) {
		vcore_vcpu *v = vcore_vm_vcpu(call->vm, (uint32_t)cpu);

		return v ? vcore_vcpu_nmi(v) : -EINVAL;
	}
	for (uint32_t i = 0; r >= 0 && i < call->vm->bvm.vcpus; i++)
		r = vcore_vcpu_nmi(vcore_vm_vcpu(call->vm, i));
	return r;
}

static const struct vc_mon_arg nmi_args[] = {
    {"cpu", VC_MON_NUMBER, false, VC_MAX_VCPUS - 1, "index of the vcpu; all of them when left out"}, {0}};

const struct vc_mon_command vc_mon_vm_commands[] = {
    {"query-status", "whether the vm runs, and how it ended", NULL, query_status},
    {"query-stats", "facts and counters of the vm", NULL, query_stats},
    {"pause", "hold all vcpus; guest time stands still", NULL, pause_vm},
    {"resume", "let a paused vm go on", NULL, resume_vm},
    {"reset", "put the machine in its power-on state and boot it again", NULL, reset},
    {"powerdown", "press the power button (ACPI): the guest is asked to power off", NULL, powerdown},
    {"quit", "end the vm at once", NULL, quit},
    {"inject-nmi", "raise a non-maskable interrupt", nmi_args, inject_nmi},
    {0},
};
