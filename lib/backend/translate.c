/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "backend/backend.h"
#include "backend/paging.h"

int vc_translate(struct vc_mem *mem, const struct vc_cpu_state *state, uint64_t gva, enum vcore_access access,
                 bool user, uint32_t phys_bits, uint64_t *gpa, uint32_t *error_code)
{
	uint32_t how = (access == VCORE_ACCESS_WRITE ? VC_PF_W : 0) | (access == VCORE_ACCESS_FETCH ? VC_PF_I : 0) |
	               (user ? VC_PF_U : 0);
	struct vc_paging paging = {0};
	struct vc_walk walk;
	bool ok;

	vc_paging_init(&paging, mem, state, phys_bits, true);
	if (paging.mode >= VC_PAGING_4 && !vc_paging_canonical(&paging, gva)) {
		*error_code = 0;
		return -EFAULT;
	}
	if (paging.mode < VC_PAGING_4)
		gva &= UINT32_MAX;
	/* Bad PDPTEs could not have been loaded; treat them as not present. */
	if (paging.mode == VC_PAGING_PAE)
		vc_paging_load_pdptes(&paging, state->cr3);
	ok = vc_page_walk(&paging, gva, how, state->rflags & VC_FLAG_AC, false, &walk);
	if (!ok) {
		*error_code = walk.error;
		return -EFAULT;
	}
	*gpa = walk.gpa;
	return 0;
}
