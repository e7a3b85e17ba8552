/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Birth and death of a session, and gdb's coming and going. */
#include "debug/debug.h"

#include <stdlib.h>
#include <unistd.h>

/* On a vcpu's thread, under vm->lock. */
static void vcpu_stopped(struct vc_debugger *hook, uint32_t vcpu, const struct vcore_exit *exit)
{
	static const uint64_t one = 1;
	struct vc_gdb *g = VC_CONTAINER_OF(hook, struct vc_gdb, hook);

	g->threads[vcpu].exited = true;
	g->threads[vcpu].exit = *exit;
	/* fails only when the counter is full, and then the reader is awake anyway */
	while (write(g->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

static void destroy(struct vc_gdb *g)
{
	free(g->soft);
	free(g->threads);
	free(g->state);
	free(g);
}

int vc_gdb_new(struct vcore_vm *vm, int wake_fd, struct vc_gdb **out)
{
	struct vc_gdb *g = calloc(1, sizeof *g);
	int r;

	if (!g)
		return vc_fail(ENOMEM, "no memory for the gdb stub");
	g->hook.stopped = vcpu_stopped;
	g->wake_fd = wake_fd;
	g->last = (struct vc_gdb_stop){.why = VC_GDB_SIGNAL, .signal = 5};
	g->avx = vc_feature_has(&vm->vcpus[0].b.cpuid.features, VC_F_AVX);
	g->description_length = vc_gdb_describe(g->avx, g->description);
	g->threads = calloc(vm->bvm.vcpus, sizeof *g->threads);
	g->state = malloc(sizeof *g->state);
	r = g->threads && g->state ? vc_vm_debug_begin(vm, &g->hook) : vc_fail(ENOMEM, "no memory for the gdb stub");
	if (r < 0) {
		destroy(g);
		return r;
	}
	g->vm = vcore_vm_ref(vm);
	*out = g;
	return 0;
}

void vc_gdb_attach(struct vc_gdb *g)
{
	vc_vm_debug_hold(g->vm);
	g->running = false;
	g->tells_breaks = false;
	g->current = 0;
	g->resumed = 0;
	g->last = (struct vc_gdb_stop){.why = VC_GDB_SIGNAL, .signal = 5};
}

void vc_gdb_detach(struct vc_gdb *g)
{
	static const struct vcore_debug off = {.size = sizeof off};

	vc_vm_debug_hold(g->vm);
	vc_gdb_collect(g);
	vc_gdb_remove_all(g);
	for (uint32_t i = 0; i < g->vm->bvm.vcpus; i++) {
		struct vc_gdb_thread *t = &g->threads[i];

		if (t->debug.flags && vc_vcpu_set_debug(&g->vm->vcpus[i], &off) < 0)
			vc_log(&g->vm->log, VCORE_LOG_ERROR, "vcpu %u stays in debug mode: %s", i, vcore_error_message());
		t->debug = off;
		t->pending.why = VC_GDB_NONE;
		t->past_hard = false;
		t->action = VC_GDB_CONTINUE;
	}
	g->running = false;
	vc_vm_debug_release(g->vm, NULL, NULL);
}

void vc_gdb_free(struct vc_gdb *g)
{
	struct vcore_vm *vm = g->vm;

	vc_gdb_detach(g);
	vc_vm_debug_end(vm);
	destroy(g);
	vcore_vm_unref(vm);
}
