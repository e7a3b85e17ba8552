/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hooks: the program's callbacks on what the guest does, found by kind and address.
 *
 * The hooks of a kind are a sorted list that is replaced inside an exclusive section, so a vcpu that is inside the gate
 * looks up without a lock; it steps out of the gate for the callback. Whose callback runs is written in the vcpu's pass
 * (busy): removal takes the hook out of the list, then waits until no pass names it.
 */
#ifndef VC_BACKEND_HOOK_H
#define VC_BACKEND_HOOK_H

#include <pthread.h>
#include <stdatomic.h>
#include <virtcore/device.h>
#include <virtcore/hook.h>

#include "core/gate.h"

#define VC_HOOK_KINDS 4 /* enum vcore_hook_kind */

struct vc_bvm;
struct vc_bvcpu;

struct vcore_hook {
	struct vc_bvm *vm;
	struct vcore_hook_options options; /* access is not 0 */
	uint64_t last;                     /* address */
	uint64_t number;                   /* hooks are numbered in the order of adding, from 1 */
	bool removing;                     /* under vc_hooks.lock */
	struct vcore_hook *next;           /* in vc_hooks.going */
};

struct vc_hook_list {
	uint32_t count;
	uint64_t offsets[64]; /* CODE, BLOCK; bit n: an address of a range has n as its offset in its page */
	struct {
		uint64_t start, reach; /* the highest last address of this and all before it */
		struct vcore_hook *hook;
	} entry[]; /* sorted by start */
};

/* Of a vm; part of struct vc_bvm. All zero: no hooks, nothing to be looked up. */
struct vc_hooks {
	/* replaced inside an exclusive section, with `lock` held too */
	struct vc_hook_list *list[VC_HOOK_KINDS]; /* NULL: no hook of that kind */
	uint64_t added;                           /* number of the newest hook */

	pthread_mutex_t lock;     /* protects `going` and hooks' `removing`; taken inside an exclusive section */
	pthread_cond_t idle;      /* a callback ended while somebody waits for a hook */
	struct vcore_hook *going; /* taken out, to be freed when the last callback ends */
	_Atomic uint32_t waiting; /* removers and hooks in `going` waiting for a callback to end */
};

int vc_hooks_init(struct vc_hooks *hooks);
/* No vcpu runs any more. Frees all hooks. */
void vc_hooks_fini(struct vc_bvm *vm);

/* As vcore_hook_add(); options are a full-size copy. On failure options->destroy has been called. */
int vc_hook_add(struct vc_bvm *vm, const struct vcore_hook_options *options, struct vcore_hook **hook);
/* As vcore_hook_remove(). wait: for callbacks that run; not from a callback on a vcpu. */
int vc_hook_remove(struct vcore_hook *hook, bool wait);

/* ---- on a vcpu's thread, inside the gate ---- */

/* How many entries start at or below an address: they come first. list may be NULL. */
static inline uint32_t vc_hooks_starting_by(const struct vc_hook_list *list, uint64_t address)
{
	uint32_t low = 0, high = list ? list->count : 0;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (list->entry[mid].start <= address)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}
/* Whether a hook's range touches [first, last]. list may be NULL. */
static inline bool vc_hooks_touch(const struct vc_hook_list *list, uint64_t first, uint64_t last)
{
	uint32_t n = vc_hooks_starting_by(list, last);

	return n && list->entry[n - 1].reach >= first;
}
/*
 * Call the hooks of e->kind that e->address (MEMORY, PORT: and the rest of e->length) touches and whose number is at
 * least `from`, in order. Steps out of the gate for each callback, so anything may have changed if it returns true: one
 * was called. size, hook and vcpu of the event are filled in here.
 */
bool vc_hooks_call(struct vc_bvcpu *vcpu, struct vcore_hook_event *e, uint64_t from);
/* A port access, for hooks: true as vc_hooks_call(). Other buses: nothing. */
bool vc_hooks_port(struct vc_bvcpu *vcpu, const struct vcore_io *io);

#endif
