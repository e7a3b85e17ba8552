/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backend/backend.h"

#include "config.h"

/* In the order of preference of VCORE_BACKEND_AUTO. */
const struct vc_backend *const vc_backends[] = {
#ifdef VC_HAVE_KVM
    &vc_backend_kvm,
#endif
#ifdef VC_HAVE_EMU
    &vc_backend_emu,
#endif
    NULL,
};

const struct vc_backend *vc_backend_find(enum vcore_backend id)
{
	for (const struct vc_backend *const *b = vc_backends; *b; b++)
		if ((*b)->id == id)
			return *b;
	return NULL;
}

void vc_bvcpu_request(struct vc_bvcpu *vcpu, uint32_t bits)
{
	atomic_fetch_or(&vcpu->requests, bits);
	vcpu->vm->ops->notify(vcpu);
}
