/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* CRC-32C (Castagnoli; RFC 3720, 12.1). */
#ifndef VC_CORE_CRC32C_H
#define VC_CORE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of what the crc so far is of, 0 at the beginning, with these bytes behind it. */
uint32_t vc_crc32c(uint32_t crc, const void *data, size_t length);

#endif
