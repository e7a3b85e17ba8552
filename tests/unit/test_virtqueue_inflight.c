/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is in flight when a process dies: whoever serves the queue after it does that, and nothing twice. */
#include "platform_env.h"
#include "virtio_driver.h"
#include "virtio_echo.h"

enum { RAM = 4 << 20, SIZE = 16, REGION = 4096, ROUNDS = 400, PACKED_PUSHED = 12, PACKED_OLD = 18 };

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue q;
static struct echo echo;
static struct vc_virtq_setup setup;
static uint8_t region[REGION], left[REGION]; /* as it is, and as a process that died left it */
static unsigned tokens[SIZE], given, back;

static const char *const forms[] = {"", ",packed=on", ",event_idx=off", ",packed=on,indirect=off"};

static bool is_packed(void)
{
	return d.features & VC_VIRTIO_F_RING_PACKED;
}

static void take_up(void)
{
	ck_assert_int_eq(vc_virtq_set_inflight(echo.v, 0, region, SIZE), 0);
	vc_virtio_set_status(echo.v, VC_VIRTIO_S_ACKNOWLEDGE | VC_VIRTIO_S_DRIVER);
	vc_virtio_set_driver_features(echo.v, d.features);
	vc_virtio_set_status(echo.v, VC_VIRTIO_S_FEATURES_OK);
	/* stale, where it was not the first to be told */
	vc_virtq_set_position(echo.v, 0, is_packed() ? 0x80008000 : 0);
	vc_virtq_set_setup(echo.v, 0, &setup);
	vc_virtio_set_status(echo.v, VC_VIRTIO_S_DRIVER_OK);
	vdrv_settle(&d);
}

static void begin(const char *form)
{
	char text[80];

	snprintf(text, sizeof text, "transport=mmio%s", form);
	memset(region, 0, sizeof region);
	given = back = 0;
	memset(&echo, 0, sizeof echo);
	platform_init(&p, RAM);
	ck_assert_int_eq(echo_add(&echo, &p.env, text, 1, NULL), 0);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &q, 0, SIZE);
	vc_virtq_get_setup(echo.v, 0, &setup);
	ck_assert(setup.ready);
	ck_assert_uint_le(vc_virtq_inflight_bytes(is_packed(), SIZE), sizeof region);
	vc_virtio_set_status(echo.v, 0);
	take_up();
}

/* The process dies with the memory as `left` has it, and another one comes. */
static void die(void)
{
	vc_virtio_set_status(echo.v, 0);
	ck_assert_uint_eq(echo.count, 0);
	memcpy(region, left, sizeof region);
	take_up();
}

static void give(unsigned buffers)
{
	struct vdrv_buf bufs[3];

	for (unsigned i = 0; i < buffers; i++)
		bufs[i] = (struct vdrv_buf){vdrv_alloc(&d, 8, 8), 8, i == buffers - 1};
	tokens[given % SIZE] = given;
	vc_st32(vdrv_ptr(&d, bufs[0].gpa), given);
	ck_assert(vdrv_add(&q, bufs, buffers, &tokens[given % SIZE]));
	given++;
	vdrv_kick(&q);
	vdrv_settle(&d);
}

static uint32_t number_of(const struct vc_virtq_chain *chain)
{
	return vc_ld32(chain->out_count ? chain->out[0].iov_base : chain->in[0].iov_base);
}

static void use(unsigned n)
{
	echo_done(&echo, n, 4);
}

static void flush(void)
{
	vc_virtq_flush(vc_virtio_queue(echo.v, 0));
}

static unsigned collect(void)
{
	unsigned n = 0;

	while (vdrv_get(&q, NULL))
		n++;
	back += n;
	return n;
}

/* ---- tests ---- */

START_TEST(pops_what_was_in_flight)
{
	begin(forms[_i]);
	for (unsigned n = 0; n < 5; n++)
		give(1 + n % 3);
	use(3);
	use(1);
	flush();
	memcpy(left, region, sizeof left);
	die();
	/* 1 and 3 are done; the others come in the order in which they were given */
	ck_assert_uint_eq(echo.count, 3);
	for (unsigned n = 0; n < 3; n++)
		ck_assert_uint_eq(number_of(echo.held[n]), 2 * n);
	ck_assert_uint_eq(collect(), 2);
	give(2);
	ck_assert_uint_eq(number_of(echo.held[3]), 5);
	while (echo.count)
		use(echo.count - 1);
	flush();
	ck_assert_uint_eq(collect(), 4);
	platform_fini(&p);
}
END_TEST

/* The driver sees that it is used, but it is not noted. */
START_TEST(dies_while_it_uses)
{
	uint16_t old;

	begin(forms[_i]);
	for (unsigned n = 0; n < 4; n++)
		give(1);
	use(2);
	flush();
	old = is_packed() ? 0x8001 : 0;
	if (is_packed()) { /* as it is between the two */
		memcpy(left, region, sizeof left);
		vc_st16(left + PACKED_OLD, old);
		vc_st16(left + PACKED_PUSHED, 0);
	}
	use(0);
	if (!is_packed())
		memcpy(left, region, sizeof left);
	flush();
	die();
	ck_assert_uint_eq(echo.count, 2);
	ck_assert_uint_eq(number_of(echo.held[0]), 1);
	ck_assert_uint_eq(number_of(echo.held[1]), 3);
	use(0);
	use(0);
	flush();
	ck_assert_uint_eq(collect(), 4);
	platform_fini(&p);
}
END_TEST

/* Whatever was done until the last moment, in whatever order. */
START_TEST(any_number_of_times)
{
	unsigned seed = 1, deaths = 0;

	begin(forms[_i]);
	for (unsigned round = 0; round < ROUNDS; round++) {
		unsigned what = rand_r(&seed) % 8;

		if (what < 4 && given - back < SIZE / 4)
			give(1 + what % 3);
		else if (what < 6 && echo.count)
			use((unsigned)rand_r(&seed) % echo.count);
		else if (what == 6)
			flush();
		/* with what is not flushed: nobody has been told of it */
		if (what == 7) {
			flush();
			memcpy(left, region, sizeof left);
			die();
			deaths++;
		}
		collect();
	}
	flush();
	collect();
	ck_assert_uint_gt(deaths, 10);
	ck_assert_uint_eq(given - back, echo.count);
	while (echo.count)
		use(0);
	flush();
	collect();
	ck_assert_uint_eq(given, back);
	platform_fini(&p);
}
END_TEST

/* A pause, as when the memory map changes, forgets nothing. */
START_TEST(survives_a_pause)
{
	begin(forms[_i]);
	for (unsigned n = 0; n < 3; n++)
		give(1);
	vc_virtio_hold(echo.v, true);
	vc_virtio_hold(echo.v, false);
	vdrv_settle(&d);
	ck_assert_uint_eq(echo.count, 3);
	use(1);
	flush();
	memcpy(left, region, sizeof left);
	die();
	ck_assert_uint_eq(echo.count, 2);
	use(0);
	use(0);
	flush();
	ck_assert_uint_eq(collect(), 3);
	platform_fini(&p);
}
END_TEST

/* The memory is the other's as well. */
START_TEST(hostile_memory)
{
	unsigned seed = 7;

	begin(forms[_i]);
	for (unsigned round = 0; round < ROUNDS; round++) {
		if (!(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET) && vc_virtio_queue(echo.v, 0) && echo.count)
			use(0);
		for (unsigned n = 0; n < sizeof left; n++)
			left[n] = (uint8_t)(rand_r(&seed) % 3 ? region[n] : rand_r(&seed));
		vc_st16(left + 8, 1);
		vc_st16(left + 10, SIZE);
		if (round % 2)
			vc_st16(left + PACKED_PUSHED, 0xffff);
		die();
	}
	platform_fini(&p);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("virtqueue_inflight");
	TCase *c = tcase_create("virtqueue_inflight");
	SRunner *runner;
	int failed;

	tcase_set_timeout(c, 60);
	tcase_add_loop_test(c, pops_what_was_in_flight, 0, 4);
	tcase_add_loop_test(c, dies_while_it_uses, 0, 4);
	tcase_add_loop_test(c, any_number_of_times, 0, 4);
	tcase_add_loop_test(c, survives_a_pause, 0, 4);
	tcase_add_loop_test(c, hostile_memory, 0, 4);
	suite_add_tcase(suite, c);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
