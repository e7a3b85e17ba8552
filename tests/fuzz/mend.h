/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lengths and checksums of sections (lib/vm/sections.h) put right: without that nothing would come behind them. */
#ifndef FUZZ_MEND_H
#define FUZZ_MEND_H

#include "core/crc32c.h"
#include "core/util.h"
#include "vm/snapshot_file.h"

static inline void mend_sections(uint8_t *at, uint64_t length)
{
	uint64_t next = 32;

	if (length < 32)
		return;
	vc_st64(at + 16, length);
	vc_st32(at + 28, vc_crc32c(0, at, 28));
	while (next <= length && length - next >= 32) {
		uint8_t *section = at + next;
		uint64_t bytes = vc_ld64(section + 8);

		if (bytes > length - next - 32)
			return;
		if (vc_ld32(section) == VC_SNAP_SNAPSHOT)
			mend_sections(section + 32, bytes);
		vc_st32(section + 20, vc_crc32c(0, section + 32, bytes));
		vc_st32(section + 28, vc_crc32c(0, section, 28));
		next += 32 + VC_ALIGN_UP(bytes, 8);
	}
}

/* For devices of what is put together: nothing of the host is touched by what is said of them. */
static inline const char *safe_properties(void *ctx, uint32_t index, const char *type, const char *given)
{
	static const char *const safe[][2] = {
	    {"virtio-blk", "image=null:1M"}, {"virtio-net", "net=none,transport=pci"}, {"virtio-balloon", "transport=pci"}};

	for (size_t i = 0; i < VC_ARRAY_SIZE(safe); i++)
		if (!strcmp(type, safe[i][0]))
			return safe[i][1];
	return "";
}

#endif
