/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/util.h"

#include <stdlib.h>
#include <sys/mman.h>

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

/* "first" or "first-last" at the beginning of text; its end, or NULL. */
static const char *take_range(const char *text, unsigned long *first, unsigned long *last)
{
	char *end;

	if (*text < '0' || *text > '9')
		return NULL;
	*first = *last = strtoul(text, &end, 10);
	if (*end == '-') {
		if (end[1] < '0' || end[1] > '9')
			return NULL;
		*last = strtoul(end + 1, &end, 10);
	}
	return *first <= *last ? end : NULL;
}

int vc_mask_parse(const char *list, uint8_t *mask, size_t bits)
{
	unsigned long first, last;

	memset(mask, 0, bits / 8);
	do {
		list = take_range(list, &first, &last);
		if (!list || last >= bits || (*list && *list != ','))
			return -EINVAL;
		for (; first <= last; first++)
			mask[first / 8] |= (uint8_t)(1u << first % 8);
	} while (*list++);
	return 0;
}

/* There in programs under a leak checker, which does not look for pointers in mapped memory by itself. */
void __lsan_register_root_region(const void *start, size_t size) __attribute__((weak));
void __lsan_unregister_root_region(const void *start, size_t size) __attribute__((weak));

void *vc_pages_new(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (__lsan_register_root_region)
		__lsan_register_root_region(p, size);
	return p;
}

void vc_pages_free(void *p, size_t size)
{
	if (!p)
		return;
	if (__lsan_unregister_root_region)
		__lsan_unregister_root_region(p, size);
	munmap(p, size);
}
