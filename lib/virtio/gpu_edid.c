/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GPU device: the monitor describes itself (VESA E-EDID 1.4, base block). */
#include "core/util.h"
#include "virtio/gpu.h"

enum { DETAILED = 54, NAME = 72, DUMMIES = 90, DESCRIPTOR = 18, SUM = 127 };
/* Of the only timing: 60 Hz, blanking and sync as CVT's reduced ones, roughly; pixels and lines. */
enum {
	REFRESH_HZ = 60,
	H_BLANK = 160,
	H_FRONT = 48,
	H_SYNC = 32,
	V_BLANK = 30,
	V_FRONT = 3,
	V_SYNC = 6,
	DPI = 96,
	CLOCK_HZ = 10000, /* unit of the pixel clock */
};

static uint32_t millimetres(uint32_t pixels)
{
	return pixels * 254 / (10 * DPI);
}

/* 3.10.2; width and height have 12 bits. The clock stops at its limit: the rate is lower then. */
static void put_timing(uint8_t *at, uint32_t width, uint32_t height)
{
	uint64_t clock = (uint64_t)(width + H_BLANK) * (height + V_BLANK) * REFRESH_HZ / CLOCK_HZ;
	uint32_t mm_wide = millimetres(width), mm_high = millimetres(height);

	vc_st16(at, (uint16_t)(clock < UINT16_MAX ? clock : UINT16_MAX));
	at[2] = (uint8_t)width;
	at[3] = H_BLANK;
	at[4] = (uint8_t)(width >> 8 << 4);
	at[5] = (uint8_t)height;
	at[6] = V_BLANK;
	at[7] = (uint8_t)(height >> 8 << 4);
	at[8] = H_FRONT;
	at[9] = H_SYNC;
	at[10] = V_FRONT << 4 | V_SYNC;
	at[12] = (uint8_t)mm_wide;
	at[13] = (uint8_t)mm_high;
	at[14] = (uint8_t)(mm_wide >> 8 << 4 | mm_high >> 8);
	at[17] = 0x18; /* digital, separate sync */
}

void vgpu_make_edid(uint8_t edid[VGPU_EDID_BYTES], uint32_t width, uint32_t height)
{
	static const uint8_t start[] = {
	    0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00,             /* header */
	    0x58, 0x6d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,             /* manufacturer VCM, product 1, no serial number */
	    0x01, 0x24, 0x01, 0x04,                                     /* first week of 2026; version 1.4 */
	    0xa0, 0x00, 0x00, 0x78, 0x06,                               /* digital, 8 bits; size; gamma 2.2; sRGB */
	    0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54, /* colours of sRGB */
	    0x21, 0x08, 0x00,                                           /* 640x480, 800x600, 1024x768 */
	};
	static const uint8_t name[] = {0, 0, 0, 0xfc, 0, 'v', 'i', 'r', 't', 'c', 'o', 'r', 'e', '\n', ' ', ' ', ' ', ' '};
	uint32_t cm_wide = millimetres(width) / 10, cm_high = millimetres(height) / 10;
	uint8_t sum = 0;

	memset(edid, 0, VGPU_EDID_BYTES);
	memcpy(edid, start, sizeof start);
	edid[21] = (uint8_t)(cm_wide < UINT8_MAX ? cm_wide : UINT8_MAX);
	edid[22] = (uint8_t)(cm_high < UINT8_MAX ? cm_high : UINT8_MAX);
	memset(edid + sizeof start, 1, DETAILED - sizeof start); /* no standard timings */
	put_timing(edid + DETAILED, width, height);
	memcpy(edid + NAME, name, sizeof name);
	for (unsigned at = DUMMIES; at < DUMMIES + 2 * DESCRIPTOR; at += DESCRIPTOR)
		edid[at + 3] = 0x10;
	for (unsigned i = 0; i < SUM; i++)
		sum = (uint8_t)(sum + edid[i]);
	edid[SUM] = (uint8_t)-sum;
}
