/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/crc32c.h"

#include "core/util.h"

/* The remainders of four bits, polynomial 0x82f63b78 (reflected). */
static const uint32_t remainders[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

static uint32_t by_table(uint32_t crc, const uint8_t *data, size_t length)
{
	while (length--) {
		crc ^= *data++;
		crc = crc >> 4 ^ remainders[crc & 15];
		crc = crc >> 4 ^ remainders[crc & 15];
	}
	return crc;
}

/* The CPU's own instruction. */
__attribute__((target("sse4.2"))) static uint32_t by_cpu(uint32_t crc, const uint8_t *data, size_t length)
{
	uint64_t wide = crc;

	for (; length >= 8; length -= 8, data += 8)
		wide = __builtin_ia32_crc32di(wide, vc_ld64(data));
	crc = (uint32_t)wide;
	while (length--)
		crc = __builtin_ia32_crc32qi(crc, *data++);
	return crc;
}

uint32_t vc_crc32c(uint32_t crc, const void *data, size_t length)
{
	return ~(__builtin_cpu_supports("sse4.2") ? by_cpu(~crc, data, length) : by_table(~crc, data, length));
}
