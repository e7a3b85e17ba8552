/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All loaders over a small vm memory: whatever the image, it is loaded or refused, and what is loaded is a state a CPU
 * can be in. */
#include <stdlib.h>

#include "core/util.h"
#include "loader/loader.h"

enum { RAM = 8 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static struct vc_gate gate;
static struct vc_mem mem;
static struct vc_cpu_state state;

static const struct vc_e820 map[] = {
    {0, 0x9fc00, 1},
    {0x9fc00, 0x400, 2},
    {0x100000, RAM - 0x100000, 1},
};

static void set_up(void)
{
	if (vc_gate_init(&gate) || vc_mem_init(&mem, &gate))
		abort();
	mem.gpa_limit = 1ull << 46;
	if (vc_mem_add(&mem, NULL, 0, RAM, VCORE_MEM_RWX, NULL, NULL))
		abort();
}

/* First byte: the kind in the low bits, an initrd and a memory map in the high ones. The rest is the image. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	static const uint8_t initrd[100];
	struct vc_boot_input input = {.cmdline = "", .ram_low = RAM};
	enum vcore_image kind;

	if (!mem.count)
		set_up();
	if (length < 1)
		return 0;
	kind = (enum vcore_image)(data[0] % (VCORE_IMAGE_FLAT + 1));
	if (data[0] & 0x80) {
		input.initrd = initrd;
		input.initrd_length = sizeof initrd;
	}
	if (data[0] & 0x40) {
		input.e820 = map;
		input.e820_count = VC_ARRAY_SIZE(map);
		input.cmdline = "console=ttyS0";
	}
	input.kernel = data + 1;
	input.kernel_length = length - 1;
	vc_cpu_state_reset(&state, true);
	if (vc_load(&mem, kind, &input, &state) == 0 && vc_cpu_state_check(&state) != 0)
		abort();
	return 0;
}
