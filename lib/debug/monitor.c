/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gdb's `monitor` commands: what has no packet of its own. */
#include "debug/debug.h"

#include <inttypes.h>
#include <stdlib.h>

static void show_segment(struct vc_rsp_out *out, const char *name, const struct vc_segment *s)
{
	vc_rsp_text(out, "%-4s %04x base %016" PRIx64 " limit %08x attributes %04x%s\n", name, s->selector, s->base,
	            s->limit, s->attr, s->unusable ? " unusable" : "");
}

static void show_registers(struct vc_gdb *g, const char *rest, struct vc_rsp_out *out)
{
	static const char *const names[] = {"es", "cs", "ss", "ds", "fs", "gs"};
	const struct vc_cpu_state *s = g->state;

	if (vc_gdb_load(g, g->current) < 0) {
		vc_rsp_text(out, "%s\n", vcore_error_message());
		return;
	}
	vc_rsp_text(out, "vcpu %u\n", g->current);
	for (unsigned i = 0; i < VC_SEG_COUNT; i++)
		show_segment(out, names[i], &s->seg[i]);
	show_segment(out, "ldtr", &s->ldtr);
	show_segment(out, "tr", &s->tr);
	vc_rsp_text(out, "gdtr base %016" PRIx64 " limit %04x\nidtr base %016" PRIx64 " limit %04x\n", s->gdtr.base,
	            s->gdtr.limit, s->idtr.base, s->idtr.limit);
	vc_rsp_text(out, "cr0 %" PRIx64 " cr2 %" PRIx64 " cr3 %" PRIx64 " cr4 %" PRIx64 " cr8 %" PRIx64 "\n", s->cr0,
	            s->cr2, s->cr3, s->cr4, s->cr8);
	vc_rsp_text(out, "efer %" PRIx64 " xcr0 %" PRIx64 " apic_base %" PRIx64 " pat %" PRIx64 "\n", s->efer, s->xcr0,
	            s->apic_base, s->pat);
	vc_rsp_text(out,
	            "star %" PRIx64 " lstar %" PRIx64 " cstar %" PRIx64 " sfmask %" PRIx64 " kernel_gs_base %" PRIx64 "\n",
	            s->star, s->lstar, s->cstar, s->sfmask, s->kernel_gs_base);
	vc_rsp_text(out,
	            "dr0 %" PRIx64 " dr1 %" PRIx64 " dr2 %" PRIx64 " dr3 %" PRIx64 " dr6 %" PRIx64 " dr7 %" PRIx64 "\n",
	            s->dr[0], s->dr[1], s->dr[2], s->dr[3], s->dr6, s->dr7);
}

static void show_vm(struct vc_gdb *g, const char *rest, struct vc_rsp_out *out)
{
	struct vcore_vm_info info = {.size = sizeof info};

	if (vcore_vm_get_info(g->vm, &info) < 0)
		return;
	vc_rsp_text(out, "backend %s, %u vcpus, %" PRIu64 " MiB in %u slots, guest time %" PRIu64 " ns\n",
	            vcore_backend_name(info.backend), info.vcpus, info.memory >> 20, info.slots, info.time_ns);
}

static void translate(struct vc_gdb *g, const char *rest, struct vc_rsp_out *out)
{
	uint64_t gva, gpa;
	char *end;

	gva = strtoull(rest, &end, 0);
	if (end == rest || *end)
		vc_rsp_text(out, "translate ADDRESS: expected a number\n");
	else if (vc_gdb_load(g, g->current) < 0 || vc_vcpu_walk(&g->vm->vcpus[g->current], g->state, gva, &gpa) < 0)
		vc_rsp_text(out, "%s\n", vcore_error_message());
	else
		vc_rsp_text(out, "guest-physical %#" PRIx64 "\n", gpa);
}

static uint32_t state_of(struct vcore_vm *vm)
{
	struct vcore_vm_info info = {.size = sizeof info};

	return vcore_vm_get_info(vm, &info) < 0 ? VCORE_VM_EXITED : info.state;
}

/* A running vm can be reset only while it is paused; all its vcpus are held anyway. */
static void reset(struct vc_gdb *g, const char *rest, struct vc_rsp_out *out)
{
	uint32_t state = state_of(g->vm);
	int r = state == VCORE_VM_EXITED ? vc_fail(EBUSY, "the vm has its final exit") : 0;

	vc_gdb_remove_all(g);
	if (r >= 0 && state == VCORE_VM_RUNNING)
		r = vcore_vm_pause(g->vm);
	if (r >= 0)
		r = vcore_vm_reset(g->vm);
	if (r < 0)
		vc_rsp_text(out, "%s\n", vcore_error_message());
	else
		vc_rsp_text(out, "the vm is reset; gdb learns of it by: maintenance flush register-cache\n");
	if (state == VCORE_VM_RUNNING && vcore_vm_resume(g->vm) < 0)
		vc_rsp_text(out, "%s\n", vcore_error_message());
	for (uint32_t i = 0; i < g->vm->bvm.vcpus; i++)
		g->threads[i].pending.why = VC_GDB_NONE;
}

static void help(struct vc_gdb *g, const char *rest, struct vc_rsp_out *out);

static const struct {
	const char *name, *arguments, *summary;
	void (*serve)(struct vc_gdb *, const char *rest, struct vc_rsp_out *);
} commands[] = {
    {"help", "", "this", help},
    {"info registers", "", "system registers of the current thread's vcpu", show_registers},
    {"info vm", "", "the machine", show_vm},
    {"translate ", "ADDRESS", "guest-virtual to guest-physical", translate},
    {"reset", "", "put the machine in its power-on state, the kernel loaded again", reset},
};

static void help(struct vc_gdb *g, const char *rest, struct vc_rsp_out *out)
{
	for (size_t i = 0; i < VC_ARRAY_SIZE(commands); i++)
		vc_rsp_text(out, "%s%s  %s\n", commands[i].name, commands[i].arguments, commands[i].summary);
}

void vc_gdb_monitor(struct vc_gdb *g, const char *line, struct vc_rsp_out *reply)
{
	struct vc_rsp_out text;
	bool known = false;

	vc_rsp_clear(&text);
	for (size_t i = 0; !known && i < VC_ARRAY_SIZE(commands); i++) {
		size_t n = strlen(commands[i].name);

		known = !strncmp(line, commands[i].name, n) && (commands[i].arguments[0] || !line[n]);
		if (known)
			commands[i].serve(g, line + n, &text);
	}
	if (!known)
		vc_rsp_text(&text, "\"%s\" is not known here: try monitor help\n", line);
	vc_rsp_hex(reply, text.payload, text.length);
}
