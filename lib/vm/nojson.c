/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In builds without json-c. */
#include "vm/vm.h"

int vcore_vm_new_from_json(const char *text, vcore_vm **vm)
{
	if (vm)
		*vm = NULL;
	return vc_fail(ENOTSUP, "this build of libvirtcore has no JSON descriptions (json-c was switched off)");
}
