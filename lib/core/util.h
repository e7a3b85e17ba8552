/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Small things everybody needs. */
#ifndef VC_CORE_UTIL_H
#define VC_CORE_UTIL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define vc_likely(x)                       __builtin_expect(!!(x), 1)
#define vc_unlikely(x)                     __builtin_expect(!!(x), 0)
#define VC_ARRAY_SIZE(a)                   (sizeof(a) / sizeof((a)[0]))
#define VC_ALIGN_DOWN(x, a)                ((x) & ~((__typeof__(x))(a)-1))
#define VC_ALIGN_UP(x, a)                  VC_ALIGN_DOWN((x) + (__typeof__(x))(a)-1, a)
#define VC_IS_ALIGNED(x, a)                (((x) & ((__typeof__(x))(a)-1)) == 0)
#define VC_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define VC_PAGE_SIZE                       4096u
#define VC_PAGE_MASK                       (~(uint64_t)4095)
#define VC_KIB(n)                          ((uint64_t)(n) << 10)
#define VC_MIB(n)                          ((uint64_t)(n) << 20)
#define VC_GIB(n)                          ((uint64_t)(n) << 30)

/* All ones in the low `width` bytes (1, 2, 4, 8). */
static inline uint64_t vc_width_mask(unsigned width)
{
	return width >= 8 ? ~0ull : (1ull << (width * 8)) - 1;
}

/* The low `width` bytes (1 to 8) as a signed number. */
static inline int64_t vc_sign_extend(uint64_t value, unsigned width)
{
	unsigned shift = 64 - 8 * width;

	return (int64_t)(value << shift) >> shift;
}

/* One more, of what one thread alone counts and others read: that needs no locked addition. */
static inline void vc_count(_Atomic uint64_t *count)
{
	atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1, memory_order_relaxed);
}

static inline bool vc_test_bit(const uint64_t *bits, uint64_t n)
{
	return bits[n / 64] >> (n % 64) & 1;
}

static inline bool vc_is_zero(const void *data, size_t length)
{
	const uint8_t *at = data;

	return !length || (at[0] == 0 && !memcmp(at, at + 1, length - 1));
}

/* Unaligned little-endian loads and stores (the host is little-endian x86-64). */
#define VC_LOAD_STORE(bits)                                   \
	static inline uint##bits##_t vc_ld##bits(const void *p)   \
	{                                                         \
		uint##bits##_t v;                                     \
		memcpy(&v, p, sizeof v);                              \
		return v;                                             \
	}                                                         \
	static inline void vc_st##bits(void *p, uint##bits##_t v) \
	{                                                         \
		memcpy(p, &v, sizeof v);                              \
	}
VC_LOAD_STORE(16)
VC_LOAD_STORE(32)
VC_LOAD_STORE(64)
#undef VC_LOAD_STORE

/* "0-3,8": bit n % 8 of byte n / 8 of the mask, of so many bits (a multiple of 8), for each number n. -EINVAL without a
 * sentence for what is no such list. */
int vc_mask_parse(const char *list, uint8_t *mask, size_t bits);

/*
 * Structs that cross the border start with `uint32_t size`. Copies one in: fields the caller does not know become
 * zero. Returns 0, or -EINVAL when size is smaller than its own first field or NULL was passed.
 */
int vc_struct_in(void *dst, size_t dst_size, const void *src);
/* Copies one out: only as much as the caller's size says; keeps that size field. Same errors. */
int vc_struct_out(void *dst, const void *src, size_t src_size);

/* Zeroed memory of which only what is touched takes room, for tables that may stay empty. NULL: there is none. */
void *vc_pages_new(size_t size);
void vc_pages_free(void *p, size_t size); /* NULL is allowed */

#endif
