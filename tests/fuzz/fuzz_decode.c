/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libFuzzer target: any bytes, every mode. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "backend/emu/decode/insn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int truth)
{
	if (!truth)
		abort();
}

static void decode_in(const struct emu_decode_mode *mode, const uint8_t *data, unsigned size)
{
	struct emu_insn insn, again;
	char text[160];
	int status = emu_decode(data, size, mode, &insn);

	check(insn.len <= 15 && insn.len <= size && insn.desc);
	check(emu_disassemble(&insn, 0xfffffff0, text, sizeof text) == text && strlen(text) < sizeof text);
	if (status != EMU_DECODE_OK)
		return;

	check(insn.op != EMU_INVALID && insn.op < EMU_OP_COUNT && insn.op == insn.desc->op);
	check(insn.opsize == 1 || insn.opsize == 2 || insn.opsize == 4 || insn.opsize == 8);
	check(insn.addrsize == 2 || insn.addrsize == 4 || insn.addrsize == 8);
	check(insn.seg < 6 && insn.scale < 4 && insn.reg < 16 && insn.rm < 16);

	/* the same bytes alone are the same instruction; one byte fewer is none */
	check(emu_decode(data, insn.len, mode, &again) == EMU_DECODE_OK && memcmp(&insn, &again, sizeof insn) == 0);
	check(emu_decode(data, insn.len - 1u, mode, &again) == EMU_DECODE_MORE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct vc_feature_set none;
	static const struct emu_decode_mode modes[] = {
	    {.mode = EMU_MODE_16},
	    {.mode = EMU_MODE_16, .protected_mode = true},
	    {.mode = EMU_MODE_32, .protected_mode = true},
	    {.mode = EMU_MODE_64, .protected_mode = true},
	    {.mode = EMU_MODE_64, .protected_mode = true, .features = &none},
	};

	for (size_t n = 0; n < sizeof modes / sizeof modes[0]; n++)
		decode_in(&modes[n], data, size > 64 ? 64 : (unsigned)size);
	return 0;
}
