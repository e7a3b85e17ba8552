/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtio-gpu: what the driver draws is what the host reads, whatever the format; nothing it says does harm. */
#include <fcntl.h>

#include "config.h"
#include "device/display.h"
#include "platform_env.h"
#include "virtio/gpu.h"
#include "virtio/types.h"
#include "virtio_driver.h"

#ifdef VC_HAVE_ZLIB
#include <zlib.h>
#endif

enum { CONTROL, CURSOR, QUEUES };
enum {
	GET_DISPLAY_INFO = 0x100,
	CREATE_2D,
	UNREF,
	SET_SCANOUT,
	FLUSH,
	TRANSFER,
	ATTACH,
	DETACH,
	GET_EDID = 0x10a,
	UPDATE_CURSOR = 0x300,
	MOVE_CURSOR,
};
enum { BGRX = 2, RGBX = 134, HEADER = 24, ANSWER_ROOM = 2048 };

static const uint64_t area = 0x1000000; /* of RAM for pictures */

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue q[QUEUES];
static struct vc_dev *dev;
static vcore_display *display;
static uint64_t request, answer; /* GPAs */

static int create(const char *text)
{
	struct vc_props *props;
	int r;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = vc_virtio_gpu_type.create(&p.env, props, &dev);
	if (!r)
		r = vc_props_finish(props, "virtio-gpu");
	vc_props_free(props);
	return r;
}

static void begin(const char *text)
{
	platform_init(&p, VC_MIB(4));
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, area, VC_MIB(4), VCORE_MEM_RWX, NULL, NULL), 0);
	ck_assert_int_eq(create(text), 0);
	display = vgpu_display(dev->frontend);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &q[CONTROL], CONTROL, 64);
	vdrv_queue(&d, &q[CURSOR], CURSOR, 16);
	vdrv_start(&d);
	request = vdrv_alloc(&d, 65536, 16);
	answer = vdrv_alloc(&d, ANSWER_ROOM, 16);
}

/* A request of 32-bit words behind the header; the answer's type. */
static uint32_t ask(unsigned queue, uint32_t type, const uint32_t *words, unsigned count)
{
	uint8_t *at = vdrv_ptr(&d, request);

	memset(at, 0, HEADER);
	vc_st32(at, type);
	memcpy(at + HEADER, words, count * sizeof words[0]);
	memset(vdrv_ptr(&d, answer), 0xee, ANSWER_ROOM);
	vdrv_do(
	    &q[queue],
	    (struct vdrv_buf[]){{request, HEADER + count * (uint32_t)sizeof words[0], false}, {answer, ANSWER_ROOM, true}},
	    2);
	return vc_ld32(vdrv_ptr(&d, answer));
}

#define ASK(type, ...) \
	ask(CONTROL, type, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))
#define POINT(type, ...) \
	ask(CURSOR, type, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))
#define OK(expression) ck_assert_uint_eq(expression, VGPU_OK)

static uint32_t attach(uint32_t id, uint64_t gpa, uint32_t length)
{
	return ASK(ATTACH, id, 1, (uint32_t)gpa, (uint32_t)(gpa >> 32), length, 0);
}

/* A picture whose every byte tells where it is. */
static uint32_t pixel(uint32_t x, uint32_t y, uint32_t seed)
{
	return (x * 0x010305u + y * 0x070b0du + seed) & 0xffffff;
}

static void paint(uint64_t gpa, uint32_t width, uint32_t height, uint32_t seed)
{
	for (uint32_t y = 0; y < height; y++)
		for (uint32_t x = 0; x < width; x++)
			vc_st32(vdrv_ptr(&d, gpa + 4 * (y * width + x)), pixel(x, y, seed));
}

static void make(uint32_t id, uint32_t width, uint32_t height, uint32_t seed)
{
	OK(ASK(CREATE_2D, id, BGRX, width, height));
	OK(attach(id, area, width * height * 4));
	paint(area, width, height, seed);
	OK(ASK(TRANSFER, 0, 0, width, height, 0, 0, id, 0));
}

static struct vcore_display_info info_now(void)
{
	struct vcore_display_info info = {.size = sizeof info};

	ck_assert_int_eq(vcore_display_get_info(display, &info), 0);
	return info;
}

static uint32_t shown(uint32_t x, uint32_t y)
{
	uint32_t value = 0;

	ck_assert_int_eq(vcore_display_copy(display, &(struct vcore_rect){x, y, 1, 1}, &value, 4, 0, NULL), 0);
	ck_assert_uint_eq(value >> 24, 0xff);
	return value & 0xffffff;
}

START_TEST(draws)
{
	static const char *const forms[] = {"", "packed=on", "worker=thread", "event_idx=off,indirect=off"};
	static uint32_t copy[100 * 50];
	struct vcore_display_info info;
	uint64_t generation;

	begin(forms[_i]);
	info = info_now();
	ck_assert_uint_eq(info.width, 0);
	ck_assert_int_eq(vcore_display_copy(display, NULL, copy, sizeof copy, 0, NULL), -ENODATA);
	ck_assert_uint_eq(ASK(GET_DISPLAY_INFO, 0), VGPU_OK_DISPLAY_INFO);
	ck_assert_uint_eq(vc_ld32(vdrv_ptr(&d, answer + HEADER + 8)), 1280);
	ck_assert_uint_eq(vc_ld32(vdrv_ptr(&d, answer + HEADER + 12)), 800);
	ck_assert_uint_eq(vc_ld32(vdrv_ptr(&d, answer + HEADER + 16)), 1);
	ck_assert_uint_eq(vc_ld32(vdrv_ptr(&d, answer + HEADER + 24 + 16)), 0);
	make(7, 100, 50, 0);
	OK(ASK(SET_SCANOUT, 0, 0, 100, 50, 0, 7));
	info = info_now();
	ck_assert_uint_eq(info.width, 100);
	ck_assert_uint_eq(info.height, 50);
	ck_assert_uint_eq(info.stride, 400);
	info.generation = 0;
	ck_assert_int_eq(vcore_display_copy(display, NULL, copy, sizeof copy - 1, 0, &info), -ENOSPC);
	ck_assert_int_eq(vcore_display_copy(display, NULL, copy, sizeof copy, 396, &info), -EINVAL);
	ck_assert_int_eq(vcore_display_copy(display, NULL, copy, sizeof copy, 0, &info), 0);
	generation = info.generation;
	for (uint32_t i = 0; i < 5000; i++)
		ck_assert_uint_eq(copy[i], pixel(i % 100, i / 100, 0) | 0xff000000);
	/* only what is transferred and flushed is seen */
	paint(area, 100, 50, 5);
	OK(ASK(TRANSFER, 10, 20, 30, 10, 4 * (20 * 100 + 10), 0, 7, 0));
	ck_assert_uint_eq(shown(10, 20), pixel(10, 20, 0));
	OK(ASK(FLUSH, 15, 20, 85, 30, 7, 0));
	ck_assert_uint_eq(shown(14, 20), pixel(14, 20, 0));
	ck_assert_uint_eq(shown(15, 20), pixel(15, 20, 5));
	ck_assert_uint_eq(shown(39, 29), pixel(39, 29, 5));
	ck_assert_uint_eq(shown(40, 29), pixel(40, 29, 0));
	ck_assert_uint_eq(shown(39, 30), pixel(39, 30, 0));
	ck_assert_uint_gt(info_now().generation, generation);
	/* a window of it, and rows with gaps between them */
	OK(ASK(SET_SCANOUT, 10, 20, 40, 30, 0, 7));
	ck_assert_uint_eq(shown(5, 0), pixel(15, 20, 5));
	memset(copy, 0, sizeof copy);
	ck_assert_int_eq(vcore_display_copy(display, &(struct vcore_rect){38, 28, 2, 2}, copy, sizeof copy, 400, NULL), 0);
	ck_assert_uint_eq(copy[101] & 0xffffff, pixel(49, 49, 0));
	ck_assert_uint_eq(copy[2], 0);
	ck_assert_int_eq(vcore_display_copy(display, &(struct vcore_rect){38, 28, 3, 2}, copy, sizeof copy, 0, NULL),
	                 -ERANGE);
	OK(ASK(SET_SCANOUT, 0, 0, 0, 0, 0, 0));
	ck_assert_uint_eq(info_now().width, 0);
	OK(ASK(SET_SCANOUT, 0, 0, 100, 50, 0, 7));
	OK(ASK(UNREF, 7, 0));
	ck_assert_uint_eq(info_now().width, 0);
	platform_fini(&p);
}
END_TEST

START_TEST(formats)
{
	static const struct {
		uint32_t format;
		uint8_t bytes[4]; /* of red 1, green 2, blue 3, the rest 9 */
	} rows[] = {{1, {3, 2, 1, 9}},  {2, {3, 2, 1, 9}},  {3, {9, 1, 2, 3}},   {4, {9, 1, 2, 3}},
	            {67, {1, 2, 3, 9}}, {68, {9, 3, 2, 1}}, {121, {9, 3, 2, 1}}, {134, {1, 2, 3, 9}}};

	begin("");
	memcpy(vdrv_ptr(&d, area), rows[_i].bytes, 4);
	OK(ASK(CREATE_2D, 1, rows[_i].format, 1, 1));
	OK(attach(1, area, 4));
	OK(ASK(TRANSFER, 0, 0, 1, 1, 0, 0, 1, 0));
	OK(ASK(SET_SCANOUT, 0, 0, 1, 1, 0, 1));
	ck_assert_uint_eq(shown(0, 0), 0x010203);
	platform_fini(&p);
}
END_TEST

/* Backings in pieces, of any size, also none. */
START_TEST(pieces)
{
	uint32_t words[2 + 4 * 64] = {3, 64};
	uint64_t at = area;

	begin("");
	OK(ASK(CREATE_2D, 3, BGRX, 16, 16));
	for (uint32_t i = 0, done = 0; i < 64; i++) {
		uint32_t length = i == 63 ? 16 * 16 * 4 - done : i % 7 * 5;

		words[2 + 4 * i] = (uint32_t)at;
		words[4 + 4 * i] = length;
		for (uint32_t k = 0; k < length; k++, done++)
			*(uint8_t *)vdrv_ptr(&d, at + k) = (uint8_t)(pixel(done / 4 % 16, done / 64, 0) >> 8 * (done % 4));
		at += 4096;
	}
	OK(ask(CONTROL, ATTACH, words, 2 + 4 * 64));
	OK(ASK(TRANSFER, 0, 0, 16, 16, 0, 0, 3, 0));
	OK(ASK(SET_SCANOUT, 0, 0, 16, 16, 0, 3));
	for (uint32_t i = 0; i < 256; i++)
		ck_assert_uint_eq(shown(i % 16, i / 16), pixel(i % 16, i / 16, 0));
	platform_fini(&p);
}
END_TEST

START_TEST(refusals)
{
	begin("memory=1M");
	make(1, 64, 64, 0);
	OK(ASK(SET_SCANOUT, 0, 0, 64, 64, 0, 1));
	ck_assert_uint_eq(ASK(0x999, 0), VGPU_ERR_UNSPEC);
	ck_assert_uint_eq(ASK(UPDATE_CURSOR, 0), VGPU_ERR_UNSPEC);
	ck_assert_uint_eq(POINT(FLUSH, 0), VGPU_ERR_UNSPEC);
	ck_assert_uint_eq(ASK(CREATE_2D, 2, BGRX, 1), VGPU_ERR_PARAMETER); /* too short */
	ck_assert_uint_eq(ASK(CREATE_2D, 0, BGRX, 1, 1), VGPU_ERR_RESOURCE);
	ck_assert_uint_eq(ASK(CREATE_2D, 1, BGRX, 1, 1), VGPU_ERR_RESOURCE);
	ck_assert_uint_eq(ASK(CREATE_2D, 2, 5, 1, 1), VGPU_ERR_PARAMETER);
	ck_assert_uint_eq(ASK(CREATE_2D, 2, BGRX, 0, 1), VGPU_ERR_PARAMETER);
	ck_assert_uint_eq(ASK(CREATE_2D, 2, BGRX, 1, 0xffffffff), VGPU_ERR_PARAMETER);
	ck_assert_uint_eq(ASK(CREATE_2D, 2, BGRX, 16384, 16384), VGPU_ERR_OUT_OF_MEMORY);
	ck_assert_uint_eq(ASK(CREATE_2D, 2, BGRX, 512, 512), VGPU_ERR_OUT_OF_MEMORY);
	ck_assert_uint_eq(ASK(UNREF, 9, 0), VGPU_ERR_RESOURCE);
	ck_assert_uint_eq(ASK(SET_SCANOUT, 0, 0, 64, 64, 1, 1), VGPU_ERR_SCANOUT);
	ck_assert_uint_eq(ASK(SET_SCANOUT, 0, 0, 64, 64, 0, 9), VGPU_ERR_RESOURCE);
	ck_assert_uint_eq(ASK(SET_SCANOUT, 0, 0, 64, 65, 0, 1), VGPU_ERR_PARAMETER);
	ck_assert_uint_eq(ASK(SET_SCANOUT, 0, 0, 0, 1, 0, 1), VGPU_ERR_PARAMETER);
	ck_assert_uint_eq(ASK(SET_SCANOUT, 0xffffffff, 0, 2, 1, 0, 1), VGPU_ERR_PARAMETER);
	ck_assert_uint_eq(ASK(FLUSH, 0, 0, 1, 1, 9, 0), VGPU_ERR_RESOURCE);
	ck_assert_uint_eq(ASK(FLUSH, 1, 0, 0xffffffff, 1, 1, 0), VGPU_ERR_PARAMETER);
	ck_assert_uint_eq(ASK(TRANSFER, 0, 0, 64, 64, 4, 0, 1, 0), VGPU_ERR_PARAMETER);
	ck_assert_uint_eq(ASK(TRANSFER, 0, 0, 1, 1, 0xffffffff, 0xffffffff, 1, 0), VGPU_ERR_PARAMETER);
	ck_assert_uint_eq(ASK(TRANSFER, 60, 0, 5, 1, 0, 0, 1, 0), VGPU_ERR_PARAMETER);
	ck_assert_uint_eq(attach(1, area, 4), VGPU_ERR_UNSPEC);
	OK(ASK(DETACH, 1, 0));
	ck_assert_uint_eq(ASK(DETACH, 1, 0), VGPU_ERR_UNSPEC);
	ck_assert_uint_eq(ASK(TRANSFER, 0, 0, 1, 1, 0, 0, 1, 0), VGPU_ERR_UNSPEC);
	ck_assert_uint_eq(ASK(ATTACH, 1, 0), VGPU_ERR_PARAMETER);
	ck_assert_uint_eq(ASK(ATTACH, 1, 2, 0, 0, 4, 0), VGPU_ERR_PARAMETER); /* one is missing */
	ck_assert_uint_eq(ASK(ATTACH, 1, 0xffffffff, 0, 0, 4, 0), VGPU_ERR_PARAMETER);
	ck_assert_uint_eq(ASK(ATTACH, 9, 1, 0, 0, 4, 0), VGPU_ERR_RESOURCE);
	/* backings that are not memory, and that wrap */
	OK(attach(1, 0x80000000, 16384));
	ck_assert_uint_eq(ASK(TRANSFER, 0, 0, 64, 64, 0, 0, 1, 0), VGPU_ERR_UNSPEC);
	OK(ASK(DETACH, 1, 0));
	OK(attach(1, 0xfffffffffffff000, 0xffffffff));
	ck_assert_uint_eq(ASK(TRANSFER, 0, 0, 1, 1, 0x2000, 0, 1, 0), VGPU_ERR_UNSPEC);
	ck_assert_uint_eq(ASK(GET_EDID, 1, 0), VGPU_ERR_SCANOUT);
	ck_assert_uint_eq(POINT(UPDATE_CURSOR, 1, 0, 0, 0, 0, 0, 0, 0), VGPU_ERR_SCANOUT);
	ck_assert_uint_eq(POINT(UPDATE_CURSOR, 0, 0, 0, 0, 9, 0, 0, 0), VGPU_ERR_RESOURCE);
	ck_assert_uint_eq(POINT(UPDATE_CURSOR, 0, 0, 0, 0, 1, 64, 0, 0), VGPU_ERR_PARAMETER);
	ck_assert_uint_eq(shown(63, 63), pixel(63, 63, 0));
	ck_assert_uint_eq(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET, 0);
	/* less than a header is no request */
	vdrv_add(&q[CONTROL], (struct vdrv_buf[]){{request, 23, false}, {answer, 24, true}}, 2, &p);
	vdrv_kick(&q[CONTROL]);
	vdrv_settle(&d);
	ck_assert(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET);
	platform_fini(&p);
}
END_TEST

/* As many as there may be, in number and in bytes; then all of it is free again. */
START_TEST(bounds)
{
	uint32_t id;

	begin("memory=4M");
	for (id = 1; id <= VGPU_RESOURCES_MAX; id++)
		OK(ASK(CREATE_2D, id, BGRX, 1, 1));
	ck_assert_uint_eq(ASK(CREATE_2D, id, BGRX, 1, 1), VGPU_ERR_OUT_OF_MEMORY);
	for (id = 1; id <= VGPU_RESOURCES_MAX; id++)
		OK(ASK(UNREF, id, 0));
	OK(ASK(CREATE_2D, 5, BGRX, 1000, 1000));
	ck_assert_uint_eq(ASK(CREATE_2D, 6, BGRX, 1000, 1000), VGPU_ERR_OUT_OF_MEMORY);
	/* a reset frees what the driver has left */
	vdrv_reset(&d);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &q[CONTROL], CONTROL, 64);
	vdrv_start(&d);
	request = vdrv_alloc(&d, 4096, 16);
	answer = vdrv_alloc(&d, ANSWER_ROOM, 16);
	OK(ASK(CREATE_2D, 6, BGRX, 1000, 1000));
	platform_fini(&p);
}
END_TEST

START_TEST(fences)
{
	uint8_t *at;

	begin("");
	at = vdrv_ptr(&d, request);
	memset(at, 0, 64);
	vc_st32(at, CREATE_2D);
	vc_st32(at + 4, 1);
	vc_st64(at + 8, 0x123456789abcdef0);
	vc_st32(at + 16, 77);
	vdrv_do(&q[CONTROL], (struct vdrv_buf[]){{request, 40, false}, {answer, 24, true}}, 2);
	at = vdrv_ptr(&d, answer);
	ck_assert_uint_eq(vc_ld32(at), VGPU_ERR_RESOURCE);
	ck_assert_uint_eq(vc_ld32(at + 4), 1);
	ck_assert_uint_eq(vc_ld64(at + 8), 0x123456789abcdef0);
	ck_assert_uint_eq(vc_ld32(at + 16), 77);
	/* an answer finds what room there is */
	vc_st32(vdrv_ptr(&d, request), GET_DISPLAY_INFO);
	ck_assert_uint_eq(vdrv_do(&q[CONTROL], (struct vdrv_buf[]){{request, 24, false}, {answer, 30, true}}, 2), 30);
	ck_assert_uint_eq(vdrv_do(&q[CONTROL], (struct vdrv_buf[]){{request, 24, false}}, 1), 0);
	platform_fini(&p);
}
END_TEST

/* ---- the host's wishes ---- */

START_TEST(monitor)
{
	uint8_t *edid, sum = 0;

	begin("width=1024,height=768");
	ck_assert_uint_eq(vdrv_config(&d, 0, 4), 0);
	ck_assert_uint_eq(vdrv_config(&d, 8, 4), 1);
	vdrv_take_isr(&d);
	ck_assert_int_eq(vcore_display_request_size(display, 1600, 901), 0);
	ck_assert_uint_eq(info_now().wanted_height, 901);
	ck_assert_uint_eq(vdrv_take_isr(&d), 2);
	ck_assert_uint_eq(vdrv_config(&d, 0, 4), 1);
	vdrv_set_config(&d, 4, 4, 1);
	ck_assert_uint_eq(vdrv_config(&d, 0, 4), 0);
	ck_assert_uint_eq(ASK(GET_DISPLAY_INFO, 0), VGPU_OK_DISPLAY_INFO);
	ck_assert_uint_eq(vc_ld32(vdrv_ptr(&d, answer + HEADER + 8)), 1600);
	ck_assert_uint_eq(ASK(GET_EDID, 0, 0), VGPU_OK_EDID);
	ck_assert_uint_eq(vc_ld32(vdrv_ptr(&d, answer + HEADER)), 128);
	edid = vdrv_ptr(&d, answer + HEADER + 8);
	for (unsigned i = 0; i < 128; i++)
		sum = (uint8_t)(sum + edid[i]);
	ck_assert_uint_eq(sum, 0);
	ck_assert_uint_eq(vc_ld64(edid), 0x00ffffffffffff00);
	ck_assert_uint_eq(edid[56] | (edid[58] >> 4 << 8), 1600);
	ck_assert_uint_eq(edid[59] | (edid[61] >> 4 << 8), 901);
	ck_assert_int_eq(vcore_display_request_size(display, 31, 600), -EINVAL);
	ck_assert_int_eq(vcore_display_request_size(display, 600, 4096), -EINVAL);
	vcore_display_ref(display);
	platform_fini(&p);
	/* it outlives its device */
	ck_assert_int_eq(vcore_display_request_size(display, 600, 400), -ENODEV);
	ck_assert_uint_eq(info_now().width, 0);
	vcore_display_unref(display);
}
END_TEST

START_TEST(pointer)
{
	struct vcore_cursor cursor = {.size = sizeof cursor};
	static uint32_t pixels[VC_CURSOR_PIXELS];

	begin("");
	OK(ASK(CREATE_2D, 4, 1, 64, 64));
	OK(attach(4, area, 64 * 64 * 4));
	for (uint32_t i = 0; i < VC_CURSOR_PIXELS; i++)
		vc_st32(vdrv_ptr(&d, area + 4 * i), pixel(i, 1, 9) | i << 24);
	OK(ASK(TRANSFER, 0, 0, 64, 64, 0, 0, 4, 0));
	OK(POINT(UPDATE_CURSOR, 0, 100, 200, 0, 4, 3, 5, 0));
	OK(ASK(UNREF, 4, 0));
	OK(POINT(MOVE_CURSOR, 0, 0xfffffff0, 7, 0, 0, 0, 0, 0));
	ck_assert_int_eq(vcore_display_get_cursor(display, &cursor, pixels), 0);
	ck_assert_uint_eq(cursor.visible, 1);
	ck_assert_int_eq(cursor.x, -16);
	ck_assert_int_eq(cursor.y, 7);
	ck_assert_uint_eq(cursor.hot_x, 3);
	ck_assert_uint_eq(cursor.hot_y, 5);
	for (uint32_t i = 0; i < VC_CURSOR_PIXELS; i++)
		ck_assert_uint_eq(pixels[i], pixel(i, 1, 9) | i << 24);
	OK(POINT(UPDATE_CURSOR, 0, 0, 0, 0, 0, 0, 0, 0));
	ck_assert_int_eq(vcore_display_get_cursor(display, &cursor, NULL), 0);
	ck_assert_uint_eq(cursor.visible, 0);
	platform_fini(&p);
}
END_TEST

static struct vcore_display_event told;
static unsigned tellings;

static void tell(void *ctx, vcore_display *of, const struct vcore_display_event *event)
{
	ck_assert_ptr_eq(ctx, &told);
	ck_assert_ptr_eq(of, display);
	told = *event;
	tellings++;
	if (event->flags & VCORE_DISPLAY_CURSOR)
		vcore_display_set_callback(of, NULL, NULL); /* from itself */
}

static void expect_told(uint32_t flags, uint32_t x, uint32_t y, uint32_t width, uint32_t height)
{
	vdrv_settle(&d);
	ck_assert_uint_eq(tellings, 1);
	ck_assert_uint_eq(told.flags, flags);
	ck_assert_uint_eq(told.changed.x, x);
	ck_assert_uint_eq(told.changed.y, y);
	ck_assert_uint_eq(told.changed.width, width);
	ck_assert_uint_eq(told.changed.height, height);
	tellings = 0;
}

START_TEST(callback)
{
	begin("");
	tellings = 0;
	vcore_display_set_callback(display, tell, &told);
	make(1, 80, 60, 0);
	OK(ASK(SET_SCANOUT, 0, 0, 80, 60, 0, 1));
	expect_told(VCORE_DISPLAY_RESIZED | VCORE_DISPLAY_DRAWN, 0, 0, 80, 60);
	OK(ASK(FLUSH, 10, 10, 5, 5, 1, 0));
	expect_told(VCORE_DISPLAY_DRAWN, 10, 10, 5, 5);
	vdrv_reset(&d);
	expect_told(VCORE_DISPLAY_RESIZED, 0, 0, 0, 0);
	vc_display_set_cursor(display, &(struct vcore_cursor){.x = 1}, NULL);
	expect_told(VCORE_DISPLAY_CURSOR, 0, 0, 0, 0);
	vc_display_set_cursor(display, &(struct vcore_cursor){.x = 2}, NULL);
	vdrv_settle(&d);
	ck_assert_uint_eq(tellings, 0);
	/* what was not told when the device goes is not told */
	vcore_display_set_callback(display, tell, &told);
	vc_display_resize(display, 10, 10);
	platform_fini(&p);
	ck_assert_uint_eq(tellings, 0);
}
END_TEST

/* ---- state ---- */

START_TEST(state)
{
	static uint8_t saved[1 << 18], hostile[1 << 18];
	struct vcore_cursor cursor = {.size = sizeof cursor};
	int64_t size;

	begin("");
	make(1, 100, 50, 3);
	make(65, 64, 64, 4); /* of the same bucket, not shown */
	OK(POINT(UPDATE_CURSOR, 0, 1, 2, 0, 65, 0, 0, 0));
	OK(ASK(SET_SCANOUT, 10, 10, 80, 30, 0, 1));
	ck_assert_int_eq(vcore_display_request_size(display, 640, 480), 0);
	size = dev->ops.save(dev->ctx, NULL, 0);
	ck_assert_int_gt(size, 20000 + 2 * 16384);
	ck_assert_int_eq(dev->ops.save(dev->ctx, saved, (size_t)size - 1), -ENOSPC);
	ck_assert_int_eq(dev->ops.save(dev->ctx, saved, sizeof saved), size);
	/* it loads where there was something else */
	OK(ASK(UNREF, 1, 0));
	OK(ASK(CREATE_2D, 2, BGRX, 5, 5));
	ck_assert_int_eq(dev->ops.load(dev->ctx, saved, (size_t)size), 0);
	ck_assert_uint_eq(info_now().width, 80);
	ck_assert_uint_eq(info_now().wanted_width, 640);
	ck_assert_uint_eq(shown(0, 0), pixel(10, 10, 3));
	ck_assert_int_eq(vcore_display_get_cursor(display, &cursor, NULL), 0);
	ck_assert_int_eq(cursor.y, 2);
	ck_assert_uint_eq(vdrv_config(&d, 0, 4), 1);
	ck_assert_int_eq(dev->ops.save(dev->ctx, hostile, sizeof hostile), size);
	ck_assert_int_eq(memcmp(saved, hostile, (size_t)size), 0);
	/* any byte of the headers may be wrong: refused or not, nothing breaks */
	for (size_t at = 0; at < (size_t)size; at += at < 600 ? 1 : 97) {
		memcpy(hostile, saved, (size_t)size);
		hostile[at] ^= 0xff;
		dev->ops.load(dev->ctx, hostile, (size_t)size);
		ck_assert_int_eq(dev->ops.load(dev->ctx, saved, at), -EINVAL);
	}
	ck_assert_int_eq(dev->ops.load(dev->ctx, saved, (size_t)size), 0);
	ck_assert_uint_eq(shown(79, 29), pixel(89, 39, 3));
	platform_fini(&p);
}
END_TEST

/* ---- files ---- */

static size_t read_file(const char *path, uint8_t *to, size_t room)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, to, room);

	ck_assert_int_gt(n, 0);
	close(fd);
	return (size_t)n;
}

#ifdef VC_HAVE_ZLIB
static uint32_t be32(const uint8_t *at)
{
	return __builtin_bswap32(vc_ld32(at));
}

/* Signature, IHDR, one IDAT, IEND, with right check sums. */
static void check_png(const uint8_t *file, size_t length, uint32_t width, uint32_t height)
{
	static const char *const types[] = {"IHDR", "IDAT", "IEND"};
	static uint8_t rows[1 << 16];
	uLongf unpacked = sizeof rows;
	const uint8_t *at = file + 8;

	ck_assert_int_eq(memcmp(file, "\x89PNG\r\n\x1a\n", 8), 0);
	for (unsigned i = 0; i < 3; i++) {
		uint32_t n = be32(at);

		ck_assert_int_eq(memcmp(at + 4, types[i], 4), 0);
		ck_assert_uint_eq(be32(at + 8 + n), crc32(0, at + 4, n + 4));
		if (i == 0)
			ck_assert(be32(at + 8) == width && be32(at + 12) == height && at[16] == 8 && at[17] == 2);
		if (i == 1)
			ck_assert_int_eq(uncompress(rows, &unpacked, at + 8, n), Z_OK);
		at += 12 + n;
	}
	ck_assert_ptr_eq(at, file + length);
	ck_assert_uint_eq(unpacked, (1 + 3 * width) * height);
	for (uint32_t i = 0; i < width * height; i++) {
		const uint8_t *rgb = rows + i / width * (1 + 3 * width) + 1 + 3 * (i % width);

		ck_assert_uint_eq((uint32_t)rgb[0] << 16 | rgb[1] << 8 | rgb[2], pixel(i % width, i / width, 0));
	}
}
#endif

START_TEST(files)
{
	static uint8_t file[1 << 16];
	char path[] = "/tmp/test-virtio-gpu-XXXXXX";
	size_t length;

	close(mkstemp(path));
	begin("");
	ck_assert_int_eq(vcore_display_save(display, path, VCORE_PICTURE_PPM), -ENODATA);
	make(1, 33, 17, 0);
	OK(ASK(SET_SCANOUT, 0, 0, 33, 17, 0, 1));
	ck_assert_int_eq(vcore_display_save(display, path, VCORE_PICTURE_PPM), 0);
	length = read_file(path, file, sizeof file);
	ck_assert_uint_eq(length, 13 + 33 * 17 * 3);
	ck_assert_int_eq(memcmp(file, "P6\n33 17\n255\n", 13), 0);
	for (uint32_t i = 0; i < 33 * 17; i++)
		ck_assert_uint_eq((uint32_t)file[13 + 3 * i] << 16 | file[14 + 3 * i] << 8 | file[15 + 3 * i],
		                  pixel(i % 33, i / 33, 0));
#ifdef VC_HAVE_ZLIB
	ck_assert_int_eq(vcore_display_save(display, path, VCORE_PICTURE_PNG), 0);
	check_png(file, read_file(path, file, sizeof file), 33, 17);
#else
	ck_assert_int_eq(vcore_display_save(display, path, VCORE_PICTURE_PNG), -ENOTSUP);
#endif
	ck_assert_int_eq(vcore_display_save(display, path, 2), -EINVAL);
	ck_assert_int_eq(vcore_display_save(display, "/no/such/place", VCORE_PICTURE_PPM), -ENOENT);
	unlink(path);
	platform_fini(&p);
}
END_TEST

START_TEST(properties)
{
	static const char *const bad[] = {"width=31", "height=4096", "width=x", "memory=1", "memory=32G", "depth=3"};

	platform_init(&p, VC_MIB(1));
	for (unsigned i = 0; i < VC_ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(create(bad[i]), -EINVAL);
	platform_fini(&p);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("virtio-gpu");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, draws, 0, 4);
	tcase_add_loop_test(tc, formats, 0, 8);
	tcase_add_test(tc, pieces);
	tcase_add_test(tc, refusals);
	tcase_add_test(tc, bounds);
	tcase_add_test(tc, fences);
	tcase_add_test(tc, monitor);
	tcase_add_test(tc, pointer);
	tcase_add_test(tc, callback);
	tcase_add_test(tc, state);
	tcase_add_test(tc, files);
	tcase_add_test(tc, properties);
	return platform_run("virtio-gpu", tc);
}
