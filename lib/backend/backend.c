/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backend/backend.h"

#include <inttypes.h>

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

void vc_log_access(const struct vc_bvcpu *vcpu, const struct vcore_io *io, bool answered)
{
	static const char *const names[] = {
	    [VCORE_BUS_PIO] = "port", [VCORE_BUS_MMIO] = "MMIO", [VCORE_BUS_HYPERCALL] = "hypercall"};

	vc_log(vcpu->vm->env.log, VCORE_LOG_TRACE, "vcpu %u: %s %s %#" PRIx64 " width %u data %#" PRIx64 "%s", vcpu->index,
	       names[io->bus], io->is_write ? "write" : "read", io->address, io->width, io->data,
	       answered ? "" : ", nobody answers");
}
