/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Random numbers, and states made of them: the values at which instructions behave differently, and anything. */
#include <string.h>

#include "core/util.h"
#include "diff.h"

/* splitmix64: any state is a good one, so a case needs nothing but the seed and its index. */
uint64_t diff_random(struct diff_rng *rng)
{
	uint64_t z = rng->state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint32_t diff_below(struct diff_rng *rng, uint32_t n)
{
	return (uint32_t)((diff_random(rng) >> 32) * n >> 32);
}

bool diff_chance(struct diff_rng *rng, uint32_t percent)
{
	return diff_below(rng, 100) < percent;
}

uint64_t diff_edge(struct diff_rng *rng)
{
	static const uint64_t edges[] = {
	    0,
	    1,
	    2,
	    3,
	    4,
	    7,
	    8,
	    9,
	    15,
	    16,
	    17,
	    31,
	    32,
	    33,
	    63,
	    64,
	    65,
	    0x7f,
	    0x80,
	    0x81,
	    0xff,
	    0x100,
	    0x7fff,
	    0x8000,
	    0xffff,
	    0x10000,
	    0x7fffffff,
	    0x80000000,
	    0x80000001,
	    0xffffffff,
	    0x100000000,
	    0x7fffffffffffffff,
	    0x8000000000000000,
	    0x8000000000000001,
	    0x5555555555555555,
	    0xaaaaaaaaaaaaaaaa,
	};
	uint64_t value = edges[diff_below(rng, VC_ARRAY_SIZE(edges))];

	switch (diff_below(rng, 5)) {
	case 0:
		return -value;
	case 1:
		return diff_random(rng);
	case 2:
		return diff_random(rng) >> diff_below(rng, 64);
	default:
		return value;
	}
}

static uint32_t edge_float(struct diff_rng *rng)
{
	static const uint32_t edges[] = {
	    0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffc12345,
	    0xff812345, 1,          0x80000001, 0x007fffff, 0x00800000, 0x7f7fffff, 0xff7fffff, 0x3f000000, 0x40490fdb,
	    0x4f000000, 0xcf000000, 0x4effffff, 0x5f000000, 0xdf000000, 0x42280000, 0x33800000,
	};

	return diff_chance(rng, 70) ? edges[diff_below(rng, VC_ARRAY_SIZE(edges))]
	                            : (uint32_t)diff_random(rng) >> (diff_chance(rng, 20) ? 9 : 0);
}

static uint64_t edge_double(struct diff_rng *rng)
{
	static const uint64_t edges[] = {
	    0,
	    1ull << 63,
	    0x3ff0000000000000,
	    0xbff0000000000000,
	    0x7ff0000000000000,
	    0xfff0000000000000,
	    0x7ff8000000000000,
	    0x7ff0000000000001,
	    0xfff8123456789abc,
	    1,
	    0x8000000000000001,
	    0x000fffffffffffff,
	    0x0010000000000000,
	    0x7fefffffffffffff,
	    0x41e0000000000000,
	    0xc1e0000000000000,
	    0xc1e0000000200000,
	    0x43e0000000000000,
	    0xc3e0000000000000,
	    0x3fe0000000000000,
	    0x400921fb54442d18,
	    0x47efffffe0000000,
	    0x36a0000000000000,
	    0x3ca0000000000000,
	};

	return diff_chance(rng, 70) ? edges[diff_below(rng, VC_ARRAY_SIZE(edges))] : diff_random(rng);
}

/* Eight bytes of a vector register or of memory. */
static uint64_t edge_element(struct diff_rng *rng)
{
	switch (diff_below(rng, 4)) {
	case 0:
		return edge_float(rng) | (uint64_t)edge_float(rng) << 32;
	case 1:
		return edge_double(rng);
	case 2:
		return diff_edge(rng);
	default:
		return diff_random(rng);
	}
}

static void fill(struct diff_rng *rng, uint8_t *bytes, size_t length)
{
	for (size_t n = 0; n < length; n += 8) {
		uint64_t value = edge_element(rng);
		memcpy(bytes + n, &value, 8);
	}
}

/* An 80-bit number: all classes of SDM vol. 1 table 4-3 and those that later processors refuse (8.2.2). */
static void fill_st(struct diff_rng *rng, uint8_t *st)
{
	static const uint16_t exponents[] = {0,      1,      0x3ffe, 0x3fff, 0x4000, 0x401e, 0x401f, 0x403d,
	                                     0x403e, 0x403f, 0x407e, 0x43fe, 0x7ffe, 0x7fff, 0x3f81, 0x3c01};
	static const uint64_t significands[] = {0,
	                                        1,
	                                        1ull << 63,
	                                        3ull << 62,
	                                        ~0ull,
	                                        1ull << 62,
	                                        1ull << 63 | 1,
	                                        ~0ull >> 1,
	                                        0xc90fdaa22168c235,
	                                        0xfffffffffffff800,
	                                        0xffffff0000000000,
	                                        0x8000000000000400};
	bool usual = diff_chance(rng, 80);
	uint16_t exponent = diff_chance(rng, 60) ? exponents[diff_below(rng, VC_ARRAY_SIZE(exponents))]
	                                         : (uint16_t)(0x3fff - 70 + diff_below(rng, 140));
	uint64_t significand =
	    diff_chance(rng, 60) ? significands[diff_below(rng, VC_ARRAY_SIZE(significands))] : diff_random(rng);

	if (usual && exponent)
		significand |= 1ull << 63;
	exponent |= (uint16_t)(diff_random(rng) & 0x8000);
	memcpy(st, &significand, 8);
	memcpy(st + 8, &exponent, 2);
	memset(st + 10, 0, 6);
}

static void put16(uint8_t *p, unsigned value)
{
	uint16_t v = (uint16_t)value;
	memcpy(p, &v, 2);
}

static void random_x87(struct diff_rng *rng, uint8_t *xsave)
{
	unsigned control = 0x37f, status = diff_below(rng, 8) << 11, tags = 0xff;

	if (diff_chance(rng, 40))
		control = 0x40 | diff_below(rng, 16) << 8 | 0x3f;
	if (diff_chance(rng, 8))
		control &= ~0x3fu | diff_below(rng, 64);
	if (diff_chance(rng, 50))
		status |= diff_random(rng) & 0x4700; /* condition codes */
	if (diff_chance(rng, 20))
		status |= diff_below(rng, 128);
	/* a pending exception, rarely, as nothing but #MF comes of it */
	if (diff_chance(rng, 80))
		status &= ~0x3fu | control;
	if (status & ~control & 0x3f)
		status |= 0x8080;
	if (diff_chance(rng, 40))
		tags = diff_below(rng, 256);
	put16(xsave + XS_FCW, control);
	put16(xsave + XS_FSW, status);
	put16(xsave + XS_FTW, tags);
	for (unsigned n = 0; n < 8; n++)
		fill_st(rng, xsave + XS_ST + n * 16);
}

static void random_vectors(struct diff_rng *rng, uint8_t *xsave)
{
	uint32_t mxcsr = 0x1f80;

	fill(rng, xsave + XS_XMM, 256);
	fill(rng, xsave + XS_YMMH, 256);
	if (diff_chance(rng, 30))
		mxcsr = 0x1f80 | (diff_random(rng) & 0xe07f); /* rounding, FTZ, DAZ, flags */
	if (diff_chance(rng, 5))
		mxcsr = diff_random(rng) & 0xffff;
	memcpy(xsave + XS_MXCSR, &mxcsr, 4);
	xsave[XS_BV] = 7;
}

void diff_random_state(struct diff_rng *rng, struct diff_record *in)
{
	*in = (struct diff_record){.rflags = CASE_RFLAGS_DEFAULT | (diff_random(rng) & VC_FLAGS_ARITH)};
	for (unsigned n = 0; n < 16; n++)
		in->gpr[n] = diff_edge(rng);
	if (diff_chance(rng, 30))
		in->rflags |= VC_FLAG_DF;
	if (diff_chance(rng, 3))
		in->rflags |= VC_FLAG_AC;
	if (diff_chance(rng, 2))
		in->rflags |= VC_FLAG_ID;
	random_x87(rng, in->xsave);
	random_vectors(rng, in->xsave);
	fill(rng, in->window, sizeof in->window);
}
