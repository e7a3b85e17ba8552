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

void vc_vm_tell_of_device(void *vm, const struct vc_machine_event *event)
{
	static const enum vc_vm_event_kind kinds[] = {
	    [VC_MACHINE_WATCHDOG] = VC_EVENT_WATCHDOG,
	    [VC_MACHINE_PANICKED] = VC_EVENT_PANICKED,
	    [VC_MACHINE_CRASH_LOADED] = VC_EVENT_CRASH_LOADED,
	    [VC_MACHINE_MEMORY_SIZE] = VC_EVENT_MEMORY_SIZE,
	};

	vc_vm_tell(vm, &(struct vc_vm_event){
	                   .kind = kinds[event->kind],
	                   .device = event->device,
	                   .action = event->action,
	                   .size = event->size,
	               });
}
