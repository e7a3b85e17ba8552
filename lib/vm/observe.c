/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is told what becomes of a vm. */
#include "vm/vm.h"

void vc_vm_observe(struct vcore_vm *vm, struct vc_observer *observer)
{
	pthread_mutex_lock(&vm->observers_lock);
	observer->next = vm->observers;
	vm->observers = observer;
	pthread_mutex_unlock(&vm->observers_lock);
}

void vc_vm_unobserve(struct vcore_vm *vm, struct vc_observer *observer)
{
	struct vc_observer **p = &vm->observers;

	pthread_mutex_lock(&vm->observers_lock);
	while (*p && *p != observer)
		p = &(*p)->next;
	if (*p)
		*p = observer->next;
	pthread_mutex_unlock(&vm->observers_lock);
}

void vc_vm_tell(struct vcore_vm *vm, const struct vc_vm_event *event)
{
	pthread_mutex_lock(&vm->observers_lock);
	for (struct vc_observer *o = vm->observers; o; o = o->next)
		o->told(o, event);
	pthread_mutex_unlock(&vm->observers_lock);
}
