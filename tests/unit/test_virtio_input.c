/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtio-keyboard, -mouse, -tablet: they say what they are, events arrive whole and in order, lights are seen. */
#include <linux/input-event-codes.h>

#include "platform_env.h"
#include "virtio/input.h"
#include "virtio/types.h"
#include "virtio_driver.h"

enum { EVENTS, STATUS, QUEUES, EVENT = 8, BUFFERS = 16 };
enum { NAME = 1, SERIAL, DEVIDS, PROP_BITS = 0x10, EV_BITS, ABS_INFO };

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue q[QUEUES];
static struct vc_dev *dev;
static vcore_input *input;
static uint64_t buffers;
static unsigned taken; /* buffers that came back */

static void create(const struct vc_device_type *type, const char *text)
{
	struct vc_props *props;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	ck_assert_int_eq(type->create(&p.env, props, &dev), 0);
	ck_assert_int_eq(vc_props_finish(props, type->name), 0);
	vc_props_free(props);
	input = vinput_input(dev->frontend);
}

static void begin(const struct vc_device_type *type, const char *text)
{
	platform_init(&p, VC_MIB(4));
	create(type, text);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &q[EVENTS], EVENTS, BUFFERS);
	vdrv_queue(&d, &q[STATUS], STATUS, 16);
	buffers = vdrv_alloc(&d, EVENT * BUFFERS, 8);
	taken = 0;
}

static void offer(unsigned n)
{
	vdrv_add(&q[EVENTS], &(struct vdrv_buf){buffers + EVENT * n, EVENT, true}, 1, vdrv_ptr(&d, buffers + EVENT * n));
}

static void start(void)
{
	for (unsigned i = 0; i < BUFFERS; i++)
		offer(i);
	vdrv_start(&d);
	vdrv_settle(&d);
}

/* The next event, which is there or comes; its buffer is offered again. */
static void expect(uint16_t type, uint16_t code, int32_t value)
{
	uint32_t written;
	uint8_t *event = vdrv_wait(&q[EVENTS], &written);

	ck_assert_uint_eq(written, EVENT);
	ck_assert_uint_eq(vc_ld16(event), type);
	ck_assert_uint_eq(vc_ld16(event + 2), code);
	ck_assert_int_eq((int32_t)vc_ld32(event + 4), value);
	offer(taken++ % BUFFERS);
	vdrv_kick(&q[EVENTS]);
}

static struct vcore_input_info info_now(void)
{
	struct vcore_input_info info = {.size = sizeof info};

	ck_assert_int_eq(vcore_input_get_info(input, &info), 0);
	return info;
}

static unsigned select_config(uint8_t select, uint8_t subsel)
{
	vdrv_set_config(&d, 0, 1, select);
	vdrv_set_config(&d, 1, 1, subsel);
	return (unsigned)vdrv_config(&d, 2, 1);
}

static bool has_bit(unsigned bit)
{
	return vdrv_config(&d, 8 + bit / 8, 1) >> bit % 8 & 1;
}

START_TEST(describes)
{
	char name[32] = "";
	unsigned size;

	begin(&vc_virtio_tablet_type, "");
	size = select_config(NAME, 0);
	for (unsigned i = 0; i < size && i < sizeof name - 1; i++)
		name[i] = (char)vdrv_config(&d, 8 + i, 1);
	ck_assert_str_eq(name, "virtcore tablet");
	ck_assert_uint_eq(select_config(SERIAL, 0), 0);
	ck_assert_uint_eq(select_config(DEVIDS, 0), 8);
	ck_assert_uint_eq(vdrv_config(&d, 8, 2), 6);
	ck_assert_uint_eq(select_config(PROP_BITS, 0), 0);
	ck_assert_uint_eq(select_config(EV_BITS, EV_SYN), 0);
	ck_assert_uint_eq(select_config(EV_BITS, EV_LED), 0);
	ck_assert_uint_eq(select_config(EV_BITS, EV_ABS), 1);
	ck_assert(has_bit(ABS_X) && has_bit(ABS_Y) && !has_bit(ABS_Z));
	ck_assert_uint_eq(select_config(EV_BITS, EV_REL), 2);
	ck_assert(!has_bit(REL_X) && has_bit(REL_WHEEL) && has_bit(REL_HWHEEL));
	ck_assert_uint_eq(select_config(EV_BITS, EV_KEY), BTN_EXTRA / 8 + 1);
	ck_assert(has_bit(BTN_LEFT) && has_bit(BTN_EXTRA) && !has_bit(KEY_A));
	ck_assert_uint_eq(select_config(ABS_INFO, ABS_Y), 20);
	ck_assert_uint_eq(vdrv_config(&d, 12, 4), VCORE_TABLET_MAX);
	ck_assert_uint_eq(select_config(ABS_INFO, ABS_Z), 0);
	ck_assert_uint_eq(select_config(0xff, 0xff), 0);
	platform_fini(&p);

	begin(&vc_virtio_keyboard_type, "");
	ck_assert_uint_eq(select_config(EV_BITS, EV_KEY), 32);
	ck_assert(!has_bit(KEY_RESERVED) && has_bit(KEY_ESC) && has_bit(KEY_MICMUTE) && !has_bit(KEY_MICMUTE + 1));
	ck_assert_uint_eq(select_config(EV_BITS, EV_LED), 1);
	ck_assert_uint_eq(select_config(EV_BITS, EV_REP), 1);
	ck_assert_uint_eq(select_config(ABS_INFO, ABS_X), 0);
	platform_fini(&p);

	begin(&vc_virtio_mouse_type, "");
	ck_assert_uint_eq(select_config(EV_BITS, EV_REL), 2);
	ck_assert(has_bit(REL_X) && has_bit(REL_Y) && !has_bit(REL_Z));
	ck_assert_uint_eq(select_config(EV_BITS, EV_ABS), 0);
	platform_fini(&p);
}
END_TEST

START_TEST(arrives)
{
	static const char *const forms[] = {"", "packed=on", "worker=thread", "event_idx=off"};

	begin(&vc_virtio_keyboard_type, forms[_i]);
	ck_assert_int_eq(vcore_input_key(input, KEY_A, true), -ENOTCONN);
	ck_assert_uint_eq(info_now().ready, 0);
	start();
	ck_assert_uint_eq(info_now().ready, 1);
	for (unsigned i = 0; i < 200; i++) {
		ck_assert_int_eq(vcore_input_key(input, (uint16_t)(KEY_ESC + i), true), 0);
		ck_assert_int_eq(vcore_input_key(input, (uint16_t)(KEY_ESC + i), false), 0);
		expect(EV_KEY, (uint16_t)(KEY_ESC + i), 1);
		expect(EV_SYN, SYN_REPORT, 0);
		expect(EV_KEY, (uint16_t)(KEY_ESC + i), 0);
		expect(EV_SYN, SYN_REPORT, 0);
	}
	ck_assert_uint_eq(info_now().sent, 800);
	ck_assert_uint_eq(info_now().room, VC_INPUT_QUEUE);
	platform_fini(&p);
}
END_TEST

START_TEST(pointers)
{
	begin(&vc_virtio_mouse_type, "");
	start();
	ck_assert_int_eq(vcore_input_move(input, -5, 7), 0);
	expect(EV_REL, REL_X, -5);
	expect(EV_REL, REL_Y, 7);
	expect(EV_SYN, SYN_REPORT, 0);
	ck_assert_int_eq(vcore_input_key(input, BTN_RIGHT, true), 0);
	expect(EV_KEY, BTN_RIGHT, 1);
	ck_assert_int_eq(vcore_input_key(input, KEY_A, true), -EINVAL);
	ck_assert_int_eq(vcore_input_move_to(input, 1, 1), -EINVAL);
	platform_fini(&p);

	begin(&vc_virtio_tablet_type, "");
	start();
	ck_assert_int_eq(vcore_input_move_to(input, 0, VCORE_TABLET_MAX), 0);
	expect(EV_ABS, ABS_X, 0);
	expect(EV_ABS, ABS_Y, VCORE_TABLET_MAX);
	expect(EV_SYN, SYN_REPORT, 0);
	ck_assert_int_eq(vcore_input_move_to(input, 0, VCORE_TABLET_MAX + 1), -EINVAL);
	ck_assert_int_eq(vcore_input_move_to(input, -1, 0), -EINVAL);
	ck_assert_int_eq(vcore_input_move(input, 1, 1), -EINVAL);
	platform_fini(&p);
}
END_TEST

/* A guest that does not listen: what there is room for waits, the rest is refused whole; then it comes in order. */
START_TEST(backpressure)
{
	struct vcore_input_event many[10];
	unsigned accepted = 0;
	int r;

	begin(&vc_virtio_keyboard_type, "");
	start();
	for (unsigned i = 0; i < 10; i++)
		many[i] = (struct vcore_input_event){EV_KEY, (uint16_t)(KEY_1 + i), 1};
	while (!(r = vcore_input_send(input, many, 10))) {
		accepted++;
		vdrv_settle(&d);
		ck_assert_uint_le(accepted, VC_INPUT_QUEUE);
	}
	ck_assert_int_eq(r, -EAGAIN);
	ck_assert_uint_eq(accepted, (VC_INPUT_QUEUE + BUFFERS) / 10);
	ck_assert_uint_eq(info_now().room, VC_INPUT_QUEUE + BUFFERS - 10 * accepted);
	for (unsigned i = 0; i < 10 * accepted; i++)
		expect(EV_KEY, (uint16_t)(KEY_1 + i % 10), 1);
	ck_assert_int_eq(vcore_input_send(input, many, 10), 0);
	/* what was not taken goes with the driver */
	vdrv_reset(&d);
	ck_assert_uint_eq(info_now().room, 0);
	ck_assert_int_eq(vcore_input_send(input, many, 1), -ENOTCONN);
	platform_fini(&p);
}
END_TEST

START_TEST(refusals)
{
	static const struct vcore_input_event bad[] = {
	    {EV_KEY, KEY_A, 2},       {EV_KEY, KEY_A, -1}, {EV_KEY, 0, 1},         {EV_KEY, KEY_MICMUTE + 1, 1},
	    {EV_SYN, SYN_DROPPED, 0}, {EV_SYN, 0, 1},      {EV_LED, LED_CAPSL, 1}, {EV_REP, 0, 1},
	    {EV_MSC, 0, 1},           {0xffff, 0xffff, 1}, {EV_KEY, BTN_LEFT, 1}};
	struct vcore_input_event good = {EV_KEY, KEY_A, 1};

	begin(&vc_virtio_keyboard_type, "");
	start();
	for (unsigned i = 0; i < VC_ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(vcore_input_send(input, &bad[i], 1), -EINVAL);
	ck_assert_int_eq(vcore_input_send(input, NULL, 1), -EINVAL);
	ck_assert_int_eq(vcore_input_send(input, &good, 0), 0);
	ck_assert_int_eq(vcore_input_send(input, &good, VC_INPUT_QUEUE + 1), -EINVAL);
	ck_assert_int_eq(vcore_input_send(NULL, &good, 1), -EINVAL);
	ck_assert_int_eq(vcore_input_code("ret"), KEY_ENTER);
	ck_assert_int_eq(vcore_input_code("btn-extra"), BTN_EXTRA);
	ck_assert_int_eq(vcore_input_code("return"), -ENOENT);
	ck_assert_int_eq(vcore_input_code(NULL), -ENOENT);
	/* a buffer that holds no event */
	vdrv_reset(&d);
	platform_fini(&p);
	begin(&vc_virtio_keyboard_type, "");
	vdrv_add(&q[EVENTS], &(struct vdrv_buf){buffers, EVENT - 1, true}, 1, &p);
	vdrv_start(&d);
	vdrv_settle(&d);
	ck_assert(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET);
	platform_fini(&p);
}
END_TEST

static uint32_t told;
static unsigned tellings;

static void tell(void *ctx, vcore_input *of, uint32_t leds)
{
	ck_assert_ptr_eq(ctx, &told);
	ck_assert_ptr_eq(of, input);
	told = leds;
	tellings++;
}

static void say(uint16_t type, uint16_t code, uint32_t value)
{
	uint64_t gpa = vdrv_alloc(&d, EVENT, 8);
	uint8_t *event = vdrv_ptr(&d, gpa);

	vc_st16(event, type);
	vc_st16(event + 2, code);
	vc_st32(event + 4, value);
	vdrv_do(&q[STATUS], &(struct vdrv_buf){gpa, EVENT, false}, 1);
	vdrv_settle(&d);
}

START_TEST(lights)
{
	uint64_t gpa;

	begin(&vc_virtio_keyboard_type, "");
	tellings = 0;
	start();
	vcore_input_set_callback(input, tell, &told);
	say(EV_LED, LED_CAPSL, 1);
	ck_assert_uint_eq(told, 1u << LED_CAPSL);
	say(EV_LED, LED_NUML, 1);
	ck_assert_uint_eq(told, 3);
	ck_assert_uint_eq(tellings, 2);
	say(EV_LED, LED_NUML, 1);
	say(EV_LED, 31, 1);
	say(EV_LED, 0xffff, 1);
	say(EV_REP, REP_DELAY, 250);
	gpa = vdrv_alloc(&d, EVENT, 8);
	vdrv_do(&q[STATUS], &(struct vdrv_buf){gpa, EVENT - 1, false}, 1);
	ck_assert_uint_eq(tellings, 2);
	ck_assert_uint_eq(info_now().leds, 3);
	vdrv_reset(&d);
	vdrv_settle(&d);
	ck_assert_uint_eq(told, 0);
	vcore_input_ref(input);
	platform_fini(&p);
	ck_assert_int_eq(vcore_input_key(input, KEY_A, true), -ENODEV);
	vcore_input_unref(input);
}
END_TEST

START_TEST(state)
{
	static uint8_t saved[1 << 14];
	int64_t size;

	begin(&vc_virtio_keyboard_type, "");
	start();
	say(EV_LED, LED_SCROLLL, 1);
	for (unsigned i = 0; i < 30; i++)
		ck_assert_int_eq(vcore_input_send(input, &(struct vcore_input_event){EV_KEY, (uint16_t)(KEY_1 + i), 1}, 1), 0);
	vdrv_settle(&d);
	select_config(EV_BITS, EV_LED);
	size = dev->ops.save(dev->ctx, saved, sizeof saved);
	ck_assert_int_gt(size, 8 * VC_INPUT_QUEUE);
	for (unsigned i = 0; i < 30; i++)
		expect(EV_KEY, (uint16_t)(KEY_1 + i), 1);
	vdrv_settle(&d);
	platform_fini(&p);

	begin(&vc_virtio_keyboard_type, "");
	for (unsigned i = 0; i < 100; i++) { /* any byte may be wrong */
		saved[size - 1 - 80 * i] ^= 0xff;
		dev->ops.load(dev->ctx, saved, (size_t)size);
		saved[size - 1 - 80 * i] ^= 0xff;
	}
	ck_assert_int_eq(dev->ops.load(dev->ctx, saved, (size_t)size - 1), -EINVAL);
	ck_assert_int_eq(dev->ops.load(dev->ctx, saved, (size_t)size), 0);
	ck_assert_uint_eq(info_now().leds, 1u << LED_SCROLLL);
	ck_assert_uint_eq(info_now().ready, 1);
	ck_assert_uint_eq(info_now().room, VC_INPUT_QUEUE - 14);
	ck_assert_uint_eq(vdrv_config(&d, 2, 1), 1);
	platform_fini(&p);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("virtio-input");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, describes);
	tcase_add_loop_test(tc, arrives, 0, 4);
	tcase_add_test(tc, pointers);
	tcase_add_test(tc, backpressure);
	tcase_add_test(tc, refusals);
	tcase_add_test(tc, lights);
	tcase_add_test(tc, state);
	return platform_run("virtio-input", tc);
}
