/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes at an address, entered there in real mode. */
#include "core/error.h"
#include "core/util.h"
#include "loader/internal.h"

/* Any file could be one: never told by its bytes. */
static bool match(const uint8_t *image, uint64_t length)
{
	(void)image;
	(void)length;
	return false;
}

static int load(struct vc_mem *mem, const struct vc_boot_input *input, struct vc_cpu_state *state)
{
	struct vc_segment *cs = &state->seg[VC_CS];
	int r = vc_boot_check_input(&vc_loader_flat, input, 0);

	if (r)
		return r;
	if (input->address >= VC_MIB(1))
		return vc_fail(EINVAL, "a flat image is entered in real mode: its address %#llx must be below 1 MiB",
		               (unsigned long long)input->address);
	r = vc_mem_write(mem, input->address, input->kernel, input->kernel_length);
	if (r)
		return r;
	vc_cpu_state_flat_real(state);
	/* 0x7c00 becomes 0000:7c00, 0xf1234 becomes f000:1234 */
	cs->selector = (uint16_t)((input->address & 0xf0000) >> 4);
	cs->base = input->address & 0xf0000;
	memset(state->gpr, 0, sizeof state->gpr);
	state->rip = input->address & 0xffff;
	state->rflags = 0x2;
	return 0;
}

const struct vc_loader vc_loader_flat = {"flat", VCORE_IMAGE_FLAT, match, load};
