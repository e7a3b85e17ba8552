/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/util.h"

#include "core/error.h"

static int struct_size(const void *s, uint32_t *size)
{
	if (!s)
		return vc_fail(EINVAL, "a struct is expected, not NULL");
	memcpy(size, s, sizeof *size);
	if (*size < sizeof *size)
		return vc_fail(EINVAL, "the struct's size field is %u: set it to sizeof the struct", *size);
	return 0;
}

int vc_struct_in(void *dst, size_t dst_size, const void *src)
{
	uint32_t size = 0, own = (uint32_t)dst_size;
	int r = struct_size(src, &size);

	if (r < 0)
		return r;
	size_t n = size < dst_size ? size : dst_size;
	memcpy(dst, src, n);
	memset((char *)dst + n, 0, dst_size - n);
	memcpy(dst, &own, sizeof own);
	return 0;
}

int vc_struct_out(void *dst, const void *src, size_t src_size)
{
	uint32_t size = 0;
	int r = struct_size(dst, &size);

	if (r < 0)
		return r;
	size_t n = size < src_size ? size : src_size;
	memcpy((char *)dst + sizeof size, (const char *)src + sizeof size, n - sizeof size);
	memset((char *)dst + n, 0, size - n);
	return 0;
}
