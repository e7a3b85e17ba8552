/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The VM generation ID as the program sees it. */
#include "vm/vm.h"

static int check(vcore_vm *vm, const char *call)
{
	if (!vm)
		return vc_fail(EINVAL, "%s: no vm given", call);
	return vm->vmgenid ? 0 : vc_fail(ENOTSUP, "%s: machine %s has no VM generation ID", call, vm->machine->name);
}

int vcore_vm_set_generation_id(vcore_vm *vm, const uint8_t *id)
{
	int r = check(vm, "vcore_vm_set_generation_id");

	return r < 0 ? r : vc_vmgenid_set(vm->vmgenid, id);
}

int vcore_vm_get_generation_id(vcore_vm *vm, uint8_t id[16])
{
	int r = check(vm, "vcore_vm_get_generation_id");

	if (r < 0)
		return r;
	if (!id)
		return vc_fail(EINVAL, "vcore_vm_get_generation_id: no place for the ID given");
	vc_vmgenid_get(vm->vmgenid, id);
	return 0;
}
