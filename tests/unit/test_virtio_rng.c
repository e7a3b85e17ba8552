/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtio-rng: random bytes arrive, in all forms of queues; a rate limit holds. */
#include "platform_env.h"
#include "virtio/types.h"
#include "virtio_driver.h"

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue q;

static int create(const char *text)
{
	struct vc_props *props;
	struct vc_dev *dev;
	int r;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = vc_virtio_rng_type.create(&p.env, props, &dev);
	if (!r)
		r = vc_props_finish(props, "virtio-rng");
	vc_props_free(props);
	return r;
}

static void begin(const char *text)
{
	platform_init(&p, VC_MIB(4));
	ck_assert_int_eq(create(text), 0);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &q, 0, 16);
	vdrv_start(&d);
}

START_TEST(fills)
{
	static const char *const forms[] = {"",
	                                    "packed=on",
	                                    "event_idx=off",
	                                    "packed=on,event_idx=off,indirect=off",
	                                    "worker=thread",
	                                    "packed=on,worker=thread"};
	uint64_t a, b;

	begin(forms[_i]);
	a = vdrv_alloc(&d, 4096, 16);
	b = vdrv_alloc(&d, 100, 16);
	for (unsigned i = 0; i < 50; i++) {
		unsigned zeroes = 0;

		memset(vdrv_ptr(&d, a), 0, 4096);
		ck_assert_uint_eq(vdrv_do(&q, (struct vdrv_buf[]){{a, 4096, true}, {b, 100, true}}, 2), 4196);
		for (unsigned k = 0; k < 4096; k++)
			zeroes += !((uint8_t *)vdrv_ptr(&d, a))[k];
		ck_assert_uint_lt(zeroes, 100);
	}
	platform_fini(&p);
}
END_TEST

START_TEST(rate)
{
	uint64_t a;
	uint32_t written;

	begin("rate=1000");
	vc_clock_stop(&p.clock);
	vc_loop_clock_changed(p.env.loop);
	a = vdrv_alloc(&d, 4096, 16);
	ck_assert_uint_eq(vdrv_do(&q, &(struct vdrv_buf){a, 600, true}, 1), 600);
	ck_assert_uint_eq(vdrv_do(&q, &(struct vdrv_buf){a, 600, true}, 1), 400);
	vdrv_add(&q, &(struct vdrv_buf){a, 600, true}, 1, &a);
	vdrv_kick(&q);
	vdrv_settle(&d);
	ck_assert_ptr_null(vdrv_get(&q, NULL));
	vc_clock_set(&p.clock, vc_clock_now(&p.clock) + 2000000000);
	vc_clock_start(&p.clock);
	vc_loop_clock_changed(p.env.loop);
	ck_assert_ptr_eq(vdrv_wait(&q, &written), &a);
	ck_assert_uint_eq(written, 600);
	platform_fini(&p);
}
END_TEST

START_TEST(refusals)
{
	static const char *const bad[] = {"transport=isa", "worker=none", "packed=maybe", "irq=99", "rate=0", "nonsense=1"};

	platform_init(&p, VC_MIB(1));
	for (unsigned i = 0; i < VC_ARRAY_SIZE(bad) - 1; i++)
		ck_assert_int_eq(create(bad[i]), -EINVAL);
	for (unsigned i = 0; i < 12; i++)
		ck_assert_int_eq(create(""), 0);
	ck_assert_int_eq(create(""), -ENOSPC);
	ck_assert_int_eq(create("irq=20"), -EEXIST);
	ck_assert_int_eq(create("irq=4,addr=0xdff00000"), -EEXIST);
	platform_fini(&p);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("virtio-rng");

	tcase_add_loop_test(tc, fills, 0, 6);
	tcase_add_test(tc, rate);
	tcase_add_test(tc, refusals);
	return platform_run("virtio-rng", tc);
}
