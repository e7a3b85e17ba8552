/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hooks as the program sees them. */
#include "vm/vm.h"

int vcore_hook_add(vcore_vm *vm, const struct vcore_hook_options *options, vcore_hook **hook)
{
	struct vcore_hook_options o;

	if (vc_struct_in(&o, sizeof o, options) < 0)
		return vc_fail(EINVAL, "vcore_hook_add: options.size is not set");
	if (!vm) {
		if (o.destroy)
			o.destroy(o.ctx);
		return vc_fail(EINVAL, "vcore_hook_add: no vm given");
	}
	return vc_hook_add(&vm->bvm, &o, hook);
}

int vcore_hook_remove(vcore_hook *hook)
{
	if (!hook)
		return vc_fail(EINVAL, "vcore_hook_remove: no hook given");
	/* one callback that waits for another, and that one for it, would wait for ever */
	return vc_hook_remove(hook, !vc_vm_is_own_thread(VC_CONTAINER_OF(hook->vm, struct vcore_vm, bvm)));
}
