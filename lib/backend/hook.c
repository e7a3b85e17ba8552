/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hooks: adding, removing, calling. */
#include "backend/hook.h"

#include <stdlib.h>

#include "backend/backend.h"
#include "core/error.h"
#include "core/util.h"

static const struct {
	const char *name;
	uint64_t last; /* highest address */
	bool has_access;
} kinds[VC_HOOK_KINDS] = {
    [VCORE_HOOK_CODE] = {"code", UINT64_MAX, false},
    [VCORE_HOOK_BLOCK] = {"block", UINT64_MAX, false},
    [VCORE_HOOK_MEMORY] = {"memory", (1ull << 52) - 1, true},
    [VCORE_HOOK_PORT] = {"port", 0xffff, true},
};

int vc_hooks_init(struct vc_hooks *hooks)
{
	int r;

	*hooks = (struct vc_hooks){0};
	r = pthread_mutex_init(&hooks->lock, NULL);
	if (r)
		return vc_fail_errno(r, "hooks: cannot make a lock");
	r = pthread_cond_init(&hooks->idle, NULL);
	if (r) {
		pthread_mutex_destroy(&hooks->lock);
		return vc_fail_errno(r, "hooks: cannot make a condition");
	}
	return 0;
}

/* ---- looking up ---- */

/* The oldest hook from number `from` on that touches [first, last] and is for that access. */
static struct vcore_hook *find(const struct vc_hook_list *list, uint64_t first, uint64_t last, uint32_t access,
                               uint64_t from)
{
	struct vcore_hook *found = NULL;

	for (uint32_t i = vc_hooks_starting_by(list, last); i-- > 0 && list->entry[i].reach >= first;) {
		struct vcore_hook *hook = list->entry[i].hook;

		if (hook->last >= first && (hook->options.access & access) && hook->number >= from &&
		    (!found || hook->number < found->number))
			found = hook;
	}
	return found;
}

/* ---- the lists ---- */

static void finish_list(struct vc_hook_list *list)
{
	memset(list->offsets, 0, sizeof list->offsets);
	for (uint32_t i = 0; i < list->count; i++) {
		const struct vcore_hook *hook = list->entry[i].hook;
		uint64_t start = hook->options.start, more = hook->last - start;

		list->entry[i].start = start;
		list->entry[i].reach = i && list->entry[i - 1].reach > hook->last ? list->entry[i - 1].reach : hook->last;
		for (uint64_t k = 0; !kinds[hook->options.kind].has_access && k <= more && k < VC_PAGE_SIZE; k++)
			list->offsets[(start + k) % VC_PAGE_SIZE / 64] |= 1ull << (start + k) % 64;
	}
}

static struct vc_hook_list *list_new(uint32_t count)
{
	struct vc_hook_list *list = malloc(sizeof *list + count * sizeof list->entry[0]);

	if (list)
		list->count = count;
	return list;
}

/* Vcpus are kept out by the gate, the threads that add and remove by both. Lock order: gate first. */
static void change_begin(struct vc_bvm *vm)
{
	vc_gate_begin(vm->gate, NULL);
	pthread_mutex_lock(&vm->hooks.lock);
}

static void change_end(struct vc_bvm *vm)
{
	pthread_mutex_unlock(&vm->hooks.lock);
	vc_gate_end(vm->gate, NULL);
}

/* Put a list in place; what the backend made under the old one is no longer right. */
static void replace(struct vc_bvm *vm, uint32_t kind, struct vc_hook_list *list)
{
	free(vm->hooks.list[kind]);
	vm->hooks.list[kind] = list;
	if (vm->ops->hooks_changed)
		vm->ops->hooks_changed(vm, kind);
}

/* Everybody is kept out. */
static int insert(struct vc_bvm *vm, struct vcore_hook *hook)
{
	const struct vc_hook_list *old = vm->hooks.list[hook->options.kind];
	uint32_t count = old ? old->count : 0, at = vc_hooks_starting_by(old, hook->options.start);
	struct vc_hook_list *list = list_new(count + 1);

	if (!list)
		return vc_fail(ENOMEM, "no memory for a hook");
	if (old) {
		memcpy(list->entry, old->entry, at * sizeof list->entry[0]);
		memcpy(list->entry + at + 1, old->entry + at, (count - at) * sizeof list->entry[0]);
	}
	list->entry[at].hook = hook;
	hook->number = ++vm->hooks.added;
	finish_list(list);
	replace(vm, hook->options.kind, list);
	return 0;
}

/* Everybody is kept out, so it can be done in place. */
static void take_out(struct vc_bvm *vm, const struct vcore_hook *hook)
{
	struct vc_hook_list *list = vm->hooks.list[hook->options.kind];
	uint32_t kept = 0;

	for (uint32_t i = 0; i < list->count; i++)
		if (list->entry[i].hook != hook)
			list->entry[kept++] = list->entry[i];
	list->count = kept;
	if (kept) {
		finish_list(list);
		if (vm->ops->hooks_changed)
			vm->ops->hooks_changed(vm, hook->options.kind);
	} else {
		replace(vm, hook->options.kind, NULL);
	}
}

/* ---- adding ---- */

static int check(const struct vc_bvm *vm, const struct vcore_hook_options *o)
{
	if (o->kind >= VC_HOOK_KINDS)
		return vc_fail(EINVAL, "hook: kind is %u: expected 0 to %d", o->kind, VC_HOOK_KINDS - 1);
	if (!o->callback)
		return vc_fail(EINVAL, "hook: no callback given");
	if (o->access & ~(uint32_t)(kinds[o->kind].has_access ? VCORE_HOOK_READS | VCORE_HOOK_WRITES : 0))
		return vc_fail(EINVAL, "%s hook: access is %#x: expected %s", kinds[o->kind].name, o->access,
		               kinds[o->kind].has_access ? "bits 0 and 1" : "0");
	if (o->start > kinds[o->kind].last || (o->length && o->length - 1 > kinds[o->kind].last - o->start))
		return vc_fail(EINVAL, "%s hook on [%#llx, +%#llx): expected addresses of at most %#llx", kinds[o->kind].name,
		               (unsigned long long)o->start, (unsigned long long)o->length,
		               (unsigned long long)kinds[o->kind].last);
	if (!(vm->ops->hook_kinds & 1u << o->kind))
		return vc_fail(ENOTSUP, "%s hook: with backend %s the CPU itself executes the guest; backend emu has them",
		               kinds[o->kind].name, vm->ops->name);
	return 0;
}

static struct vcore_hook *hook_new(struct vc_bvm *vm, const struct vcore_hook_options *o)
{
	struct vcore_hook *hook = calloc(1, sizeof *hook);

	if (!hook) {
		vc_fail(ENOMEM, "no memory for a hook");
		return NULL;
	}
	hook->vm = vm;
	hook->options = *o;
	if (!hook->options.access)
		hook->options.access = VCORE_HOOK_READS | VCORE_HOOK_WRITES;
	hook->last = o->length ? o->start + (o->length - 1) : kinds[o->kind].last;
	return hook;
}

static void hook_free(struct vcore_hook *hook)
{
	if (hook->options.destroy)
		hook->options.destroy(hook->options.ctx);
	free(hook);
}

static int add(struct vc_bvm *vm, const struct vcore_hook_options *o, struct vcore_hook **out)
{
	struct vcore_hook *hook;
	int r = check(vm, o);

	if (r < 0)
		return r;
	hook = hook_new(vm, o);
	if (!hook)
		return -ENOMEM;
	change_begin(vm);
	r = insert(vm, hook);
	change_end(vm);
	if (r < 0)
		free(hook);
	else if (out)
		*out = hook;
	return r;
}

int vc_hook_add(struct vc_bvm *vm, const struct vcore_hook_options *o, struct vcore_hook **hook)
{
	int r = add(vm, o, hook);

	if (r < 0 && o->destroy)
		o->destroy(o->ctx);
	return r;
}

/* ---- removing ---- */

/* Those in `going` of which no callback runs any more, taken off it. Caller holds the lock. */
static struct vcore_hook *take_idle(struct vc_hooks *hooks, struct vc_gate *gate)
{
	struct vcore_hook *idle = NULL, **p = &hooks->going;

	while (*p) {
		struct vcore_hook *hook = *p;

		if (vc_gate_busy(gate, hook, false)) {
			p = &hook->next;
			continue;
		}
		*p = hook->next;
		hook->next = idle;
		idle = hook;
		atomic_fetch_sub(&hooks->waiting, 1);
	}
	return idle;
}

static void free_all(struct vcore_hook *hook)
{
	while (hook) {
		struct vcore_hook *next = hook->next;

		hook_free(hook);
		hook = next;
	}
}

int vc_hook_remove(struct vcore_hook *hook, bool wait)
{
	struct vc_bvm *vm = hook->vm;
	struct vc_hooks *hooks = &vm->hooks;
	struct vcore_hook *idle = NULL;
	bool again;

	change_begin(vm);
	again = hook->removing;
	hook->removing = true;
	if (!again)
		take_out(vm, hook);
	change_end(vm);
	if (again)
		return vc_fail(EALREADY, "the hook is being removed already");
	/* nobody can find it any more; those who had are named in their passes. Counted before that is looked at. */
	atomic_fetch_add(&hooks->waiting, 1);
	vc_gate_fence(vm->gate);
	pthread_mutex_lock(&hooks->lock);
	if (wait) {
		while (vc_gate_busy(vm->gate, hook, false))
			pthread_cond_wait(&hooks->idle, &hooks->lock);
		hook->next = NULL;
		idle = hook;
		atomic_fetch_sub(&hooks->waiting, 1);
	} else {
		hook->next = hooks->going;
		hooks->going = hook;
		idle = take_idle(hooks, vm->gate);
	}
	pthread_mutex_unlock(&hooks->lock);
	free_all(idle);
	return 0;
}

void vc_hooks_fini(struct vc_bvm *vm)
{
	struct vc_hooks *hooks = &vm->hooks;

	for (unsigned kind = 0; kind < VC_HOOK_KINDS; kind++)
		while (hooks->list[kind])
			vc_hook_remove(hooks->list[kind]->entry[hooks->list[kind]->count - 1].hook, true);
	pthread_cond_destroy(&hooks->idle);
	pthread_mutex_destroy(&hooks->lock);
}

/* ---- calling ---- */

/* Somebody waits for a callback to end: have him look again, or do what he left to us. Outside the gate, as he may need
 * it while we wait for the lock. */
static void wake_removers(struct vc_hooks *hooks, struct vc_pass *pass)
{
	struct vcore_hook *idle;

	vc_gate_leave(pass);
	pthread_mutex_lock(&hooks->lock);
	pthread_cond_broadcast(&hooks->idle);
	idle = take_idle(hooks, pass->gate);
	pthread_mutex_unlock(&hooks->lock);
	free_all(idle);
	vc_gate_enter(pass);
}

/*
 * Leaving the gate publishes busy to whoever takes the hook away; busy is cleared before we look for removers, who in
 * turn count themselves, have a fence made everywhere, and then look at busy. The hook may be gone
 * afterwards.
 */
static void call_one(struct vc_hooks *hooks, struct vc_pass *pass, struct vcore_hook *hook,
                     const struct vcore_hook_event *e)
{
	atomic_store_explicit(&pass->thread, pthread_self(), memory_order_relaxed);
	atomic_store_explicit(&pass->busy, hook, memory_order_release);
	vc_gate_leave(pass);
	hook->options.callback(hook->options.ctx, e);
	atomic_store_explicit(&pass->busy, NULL, memory_order_release);
	vc_gate_enter(pass);
	if (vc_unlikely(atomic_load(&hooks->waiting)))
		wake_removers(hooks, pass);
}

bool vc_hooks_call(struct vc_bvcpu *vcpu, struct vcore_hook_event *e, uint64_t from)
{
	struct vc_hooks *hooks = &vcpu->vm->hooks;
	const struct vc_hook_list *list = hooks->list[e->kind];
	/* a callback may add hooks: they are for what comes next */
	uint64_t newest = hooks->added, last = e->address + (kinds[e->kind].has_access ? e->length - 1 : 0);
	uint32_t access = e->is_write ? VCORE_HOOK_WRITES : VCORE_HOOK_READS;
	struct vcore_hook *hook;
	bool called = false;

	e->size = sizeof *e;
	e->vcpu = vcpu->handle;
	if (vc_likely(list && list->count == 1)) {
		/* whatever others are there when it has been called are newer */
		hook = list->entry[0].hook;
		if (last < list->entry[0].start || hook->last < e->address || !(hook->options.access & access) ||
		    hook->number < from)
			return false;
		e->hook = hook;
		call_one(hooks, &vcpu->pass, hook, e);
		return true;
	}
	while ((hook = find(hooks->list[e->kind], e->address, last, access, from)) && hook->number <= newest) {
		from = hook->number + 1;
		e->hook = hook;
		call_one(hooks, &vcpu->pass, hook, e);
		called = true;
	}
	return called;
}

bool vc_hooks_port(struct vc_bvcpu *vcpu, const struct vcore_io *io)
{
	struct vcore_hook_event e = {.kind = VCORE_HOOK_PORT,
	                             .address = io->address,
	                             .length = io->width,
	                             .is_write = io->is_write,
	                             .value = io->data & vc_width_mask(io->width)};

	if (io->bus != VCORE_BUS_PIO || !vcpu->vm->hooks.list[VCORE_HOOK_PORT])
		return false;
	return vc_hooks_call(vcpu, &e, 0);
}
