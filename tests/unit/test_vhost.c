/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vhost-user's front-end: requests reach the back-end and come back once, whatever becomes of it and whatever it says.
 */
#include "platform_env.h"
#include <virtcore/error.h>

#include "memory/image.h"
#include "vhost/types.h"
#include "vhost/user.h"
#include "vhost_backend.h"
#include "virtio_driver.h"

enum { RAM = 4 << 20, BYTES = 64, CONFIG_BYTES = 60 };

static struct platform_env p;
static struct fake f;
static struct vdrv d;
static struct vdrv_queue q;

static int create(const struct vc_device_type *type, const char *more)
{
	struct vc_props *props;
	struct vc_dev *dev;
	char text[256];
	int r;

	snprintf(text, sizeof text, "socket=%s%s%s%s%s", f.path, strstr(more, "timeout_ms") ? "" : ",timeout_ms=2000",
	         strstr(more, "reconnect_ms") ? "" : ",reconnect_ms=10", *more ? "," : "", more);
	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = type->create(&p.env, props, &dev);
	if (!r)
		r = vc_props_finish(props, type->name);
	vc_props_free(props);
	return r;
}

static void add_ram(uint64_t gpa, uint64_t length, uint32_t kind, struct vc_slot **slot)
{
	struct vcore_memory_options o = {.size = sizeof o, .kind = kind, .fd = -1};

	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, gpa, length, VCORE_MEM_RWX, &o, slot), 0);
}

static void begin_fake(void)
{
	platform_init(&p, 0);
	add_ram(0, RAM, VCORE_MEMORY_MEMFD, NULL);
	fake_init(&f);
}

static void start_driver(uint64_t features)
{
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, features));
	vdrv_queue(&d, &q, 0, 64);
	vdrv_start(&d);
}

static void begin(const char *more)
{
	begin_fake();
	fake_start(&f);
	ck_assert_msg(create(&vc_vhost_user_blk_type, more) == 0, "%s", vcore_error_message());
	start_driver(~0ull);
}

static void end(void)
{
	platform_fini(&p);
	fake_stop(&f);
	fake_fini(&f);
}

struct request {
	uint64_t out, in;
	uint8_t value;
};

static struct request new_request(uint8_t value)
{
	struct request r = {vdrv_alloc(&d, BYTES, 8), vdrv_alloc(&d, BYTES, 8), value};

	memset(vdrv_ptr(&d, r.out), value, BYTES);
	return r;
}

static void send(struct request *r)
{
	const struct vdrv_buf bufs[] = {
	    {r->out, BYTES, false}, {r->in, BYTES / 2, true}, {r->in + BYTES / 2, BYTES / 2, true}};

	ck_assert(vdrv_add(&q, bufs, 3, r));
	vdrv_kick(&q);
}

static void check_answer(const struct request *r, uint32_t written)
{
	const uint8_t *in = vdrv_ptr(&d, r->in);

	ck_assert_uint_eq(written, BYTES);
	for (unsigned i = 0; i < BYTES; i++)
		ck_assert_uint_eq(in[i], (uint8_t)~r->value);
}

/* So many requests at once; each has its own answer. */
static void exchange(unsigned count)
{
	struct request requests[16];
	uint32_t written;

	for (unsigned i = 0; i < count; i++) {
		requests[i] = new_request((uint8_t)(i + 1));
		send(&requests[i]);
	}
	for (unsigned i = 0; i < count; i++) {
		const struct request *r = vdrv_wait(&q, &written);

		check_answer(r, written);
	}
}

static bool wait_until(_Atomic unsigned *counter, unsigned least)
{
	uint64_t until = vc_host_ns() + 10000000000ull;

	while (atomic_load(counter) < least && vc_host_ns() < until)
		vc_loop_run(p.env.loop, 1000000);
	return atomic_load(counter) >= least;
}

/* ---- what works ---- */

START_TEST(relays)
{
	static const char *const forms[] = {"",
	                                    "packed=on",
	                                    "event_idx=off",
	                                    "packed=on,event_idx=off,indirect=off",
	                                    "worker=thread,packed=on",
	                                    "queue_size=32,queues=2"};

	begin_fake();
	fake_start(&f);
	ck_assert_int_eq(create(&vc_vhost_user_blk_type, forms[_i]), 0);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &q, 0, 32);
	vdrv_start(&d);
	for (unsigned i = 0; i < 50; i++)
		exchange(1 + i % 8);
	end();
}
END_TEST

/* Without what newer back-ends have. */
START_TEST(old_backend)
{
	static const uint64_t lacks[] = {VC_VHOST_P_REPLY_ACK, VC_VHOST_P_MEM_SLOTS,
	                                 VC_VHOST_P_REPLY_ACK | VC_VHOST_P_MEM_SLOTS | VC_VHOST_P_BACKEND_REQ |
	                                     VC_VHOST_P_MQ | VC_VHOST_P_STATUS};
	struct vc_slot *slot;

	begin_fake();
	f.protocol = ~lacks[_i];
	f.features &= _i ? ~0ull : ~VC_VIRTIO_F_EVENT_IDX;
	fake_start(&f);
	ck_assert_int_eq(create(&vc_vhost_user_blk_type, ""), 0);
	start_driver(~0ull);
	exchange(8);
	add_ram(64 << 20, 1 << 20, VCORE_MEMORY_MEMFD, &slot);
	exchange(8);
	ck_assert_uint_eq(f.region_count, 3);
	vc_mem_remove(&p.mem, NULL, slot);
	exchange(8);
	ck_assert_uint_eq(f.region_count, 2);
	end();
}
END_TEST

static void wait_for_config(void)
{
	uint64_t until = vc_host_ns() + 10000000000ull;

	while (!(vdrv_take_isr(&d) & 2)) {
		ck_assert_uint_lt(vc_host_ns(), until);
		vc_loop_run(p.env.loop, 1000000);
	}
}

START_TEST(configuration)
{
	unsigned before;

	begin("queues=3");
	ck_assert_uint_eq(vdrv_config(&d, 0, 8), 0x5a5a5a5a5a5a5a5a);
	ck_assert_uint_eq(vdrv_config(&d, 34, 2), 3);
	ck_assert_uint_eq(vdrv_config(&d, CONFIG_BYTES, 4), 0);
	vdrv_take_isr(&d);
	fake_change_config(&f, 0x11);
	wait_for_config();
	ck_assert_uint_eq(vdrv_config(&d, 0, 8), 0x1111111111111111);
	/* the next back-end has a disk of another size */
	fake_stop(&f);
	memset(f.config, 0x22, sizeof f.config);
	fake_start(&f);
	wait_for_config();
	ck_assert_uint_eq(vdrv_config(&d, 0, 8), 0x2222222222222222);
	before = f.requests[25];
	vdrv_set_config(&d, 32, 1, 1);
	ck_assert_uint_eq(f.requests[25], before + 1);
	vdrv_set_config(&d, 0, 8, 0);
	ck_assert_uint_eq(f.requests[25], before + 1);
	end();
}
END_TEST

START_TEST(reset_and_start)
{
	begin("");
	for (unsigned i = 0; i < 5; i++) {
		exchange(4);
		start_driver(i & 1 ? ~0ull : ~VC_VIRTIO_F_RING_PACKED);
	}
	exchange(4);
	ck_assert_uint_eq(f.connections, 1);
	end();
}
END_TEST

START_TEST(shared_memory)
{
	struct vc_slot *slot;

	begin("");
	slot = vc_mem_pin(&p.mem, 0);
	ck_assert_uint_eq(slot->sharers, 1);
	vc_dev_remove(&p.buses, NULL, d.dev);
	ck_assert_uint_eq(slot->sharers, 0);
	vc_mem_unpin(slot);
	end();
}
END_TEST

static void wait_for_regions(unsigned count)
{
	uint64_t until = vc_host_ns() + 10000000000ull;

	while (f.region_count != count) {
		ck_assert_uint_lt(vc_host_ns(), until);
		vc_loop_run(p.env.loop, 1000000);
	}
}

/* Memory that comes and goes while nothing is asked for. */
START_TEST(idle_memory)
{
	struct vc_slot *slot;

	begin("");
	add_ram(64 << 20, 1 << 20, VCORE_MEMORY_MEMFD, &slot);
	wait_for_regions(3);
	ck_assert(!vc_image_may_map(slot));
	vc_mem_remove(&p.mem, NULL, slot);
	wait_for_regions(2);
	vdrv_reset(&d);
	add_ram(64 << 20, 1 << 20, VCORE_MEMORY_MEMFD, &slot);
	start_driver(~0ull);
	exchange(4);
	ck_assert_uint_eq(f.region_count, 3);
	vdrv_reset(&d);
	vc_mem_remove(&p.mem, NULL, slot);
	wait_for_regions(2);
	end();
}
END_TEST

START_TEST(private_memory)
{
	struct request r;
	uint64_t until;

	begin_fake();
	add_ram(64 << 20, 1 << 20, VCORE_MEMORY_ANON, NULL);
	fake_start(&f);
	ck_assert_int_eq(create(&vc_vhost_user_blk_type, ""), -EINVAL);
	ck_assert_ptr_nonnull(strstr(vcore_error_message(), "memory_kind"));
	end();
	/* when it comes later, its buffers are refused */
	begin("");
	add_ram(64 << 20, 1 << 20, VCORE_MEMORY_ANON, NULL);
	exchange(4);
	r = new_request(1);
	r.in = 64 << 20;
	send(&r);
	until = vc_host_ns() + 10000000000ull;
	while (!(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET)) {
		ck_assert_uint_lt(vc_host_ns(), until);
		vc_loop_run(p.env.loop, 1000000);
	}
	start_driver(~0ull);
	exchange(4);
	end();
}
END_TEST

START_TEST(save_and_load)
{
	struct request requests[4];
	struct vc_dev *dev;
	uint8_t state[65536];
	int64_t length;
	uint32_t written;

	begin("timeout_ms=1000"); /* a busy host keeps up with it */
	exchange(4);
	f.fault = FAKE_HOLD;
	for (unsigned i = 0; i < 4; i++) {
		requests[i] = new_request((uint8_t)(i + 1));
		send(&requests[i]);
	}
	ck_assert(wait_until(&f.held, 4));
	dev = d.dev;
	length = dev->ops.save(dev->ctx, NULL, 0);
	ck_assert_int_gt(length, 0);
	ck_assert_int_le(length, sizeof state);
	f.fault = FAKE_NONE;
	ck_assert_int_eq(dev->ops.save(dev->ctx, state, (size_t)length), length);
	ck_assert_int_eq(dev->ops.load(dev->ctx, state, (size_t)length), 0);
	for (unsigned i = 0; i < 4; i++) {
		const struct request *r = vdrv_wait(&q, &written);

		check_answer(r, written);
	}
	exchange(4);
	end();
}
END_TEST

/* ---- the back-end dies and returns ---- */

START_TEST(comes_back)
{
	struct request requests[16];
	unsigned served;
	uint32_t written;

	begin(_i ? "packed=on" : "");
	exchange(8);
	served = f.served;
	/* some are done, some are not when it dies */
	for (unsigned i = 0; i < 16; i++) {
		requests[i] = new_request((uint8_t)(i + 1));
		if (i == 8) {
			ck_assert(wait_until(&f.served, served + 8));
			f.fault = FAKE_HOLD;
		}
		send(&requests[i]);
	}
	ck_assert(wait_until(&f.held, 8));
	fake_stop(&f);
	vdrv_settle(&d);
	f.fault = FAKE_NONE;
	fake_start(&f);
	for (unsigned i = 0; i < 16; i++) {
		const struct request *r = vdrv_wait(&q, &written);

		check_answer(r, written);
	}
	/* none twice, and in the order in which they came */
	ck_assert_uint_eq(f.served, served + 16);
	ck_assert_ptr_null(vdrv_get(&q, NULL));
	exchange(8);
	ck_assert_uint_eq(f.connections, 2);
	end();
}
END_TEST

START_TEST(comes_back_to_another_driver)
{
	begin("");
	exchange(4);
	fake_stop(&f);
	start_driver(~0ull);
	fake_start(&f);
	exchange(4);
	fake_stop(&f);
	vdrv_reset(&d);
	fake_start(&f);
	ck_assert(wait_until(&f.connections, 3));
	start_driver(~0ull);
	exchange(4);
	end();
}
END_TEST

START_TEST(goes_away_for_good)
{
	begin("reconnect_ms=0");
	exchange(4);
	fake_stop(&f);
	start_driver(~0ull);
	platform_fini(&p);
	fake_fini(&f);
}
END_TEST

/* Another disk that has not what the driver was offered is not used. */
START_TEST(comes_back_as_another)
{
	begin("");
	exchange(4);
	fake_stop(&f);
	f.features &= ~0x200ull;
	fake_start(&f);
	ck_assert(wait_until(&f.connections, 4));
	fake_stop(&f);
	f.features |= 0x200;
	fake_start(&f);
	exchange(4);
	end();
}
END_TEST

/* The back-end connects to us, whenever it is there; a second one has to wait. */
START_TEST(listens)
{
	begin_fake();
	f.calls = true;
	ck_assert_int_eq(create(&vc_vhost_user_blk_type, "listen=on,wait_ms=0"), -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(vcore_error_message(), "no back-end has connected within 0 ms"));
	ck_assert_int_ne(access(f.path, F_OK), 0);
	fake_start(&f);
	ck_assert_msg(create(&vc_vhost_user_blk_type, "listen=on") == 0, "%s", vcore_error_message());
	start_driver(~0ull);
	exchange(8);
	for (unsigned i = 0; i < 3; i++) {
		struct request r = new_request((uint8_t)(0x30 + i));
		uint32_t written;

		fake_stop(&f);
		send(&r);
		fake_start(&f);
		ck_assert_ptr_eq(vdrv_wait(&q, &written), &r);
		check_answer(&r, written);
		exchange(4);
	}
	end();
	ck_assert_int_ne(access(f.path, F_OK), 0);
}
END_TEST

/* ---- hostile back-ends ---- */

static const uint32_t asked_at_start[] = {1, 15, 16, 3, 17, 36, 21, 24};

START_TEST(lies_at_creation)
{
	enum fake_fault fault = (enum fake_fault)(FAKE_WRONG_SIZE + _i);

	for (unsigned i = 0; i < VC_ARRAY_SIZE(asked_at_start); i++) {
		bool harmless = fault == FAKE_MANY_FDS || asked_at_start[i] == 16; /* answered before there are any answers */
		bool refusal = fault == FAKE_REFUSE && asked_at_start[i] != 16;
		int r;

		if (fault == FAKE_SILENT && harmless)
			continue;
		begin_fake();
		f.fault_at = asked_at_start[i];
		f.fault = fault;
		fake_start(&f);
		r = create(&vc_vhost_user_blk_type, fault == FAKE_SILENT ? "timeout_ms=20" : "");
		if (harmless)
			ck_assert_msg(r == 0, "request %u: %s", asked_at_start[i], vcore_error_message());
		else if (!refusal)
			ck_assert_msg(r < 0, "request %u, fault %d", asked_at_start[i], (int)fault);
		ck_assert(r >= 0 || strstr(vcore_error_message(), "vhost-user"));
		end();
	}
}
END_TEST

/* It misbehaves once, in each request of a start; the next connection is good. */
START_TEST(lies_at_start)
{
	static const uint32_t asked[] = {2, 37, 8, 9, 10, 12, 13, 18, 39};
	enum fake_fault fault = (enum fake_fault)(FAKE_WRONG_SIZE + _i);

	for (unsigned i = 0; i < VC_ARRAY_SIZE(asked); i += fault == FAKE_SILENT ? 5 : 1) {
		begin_fake();
		fake_start(&f);
		/* on a busy machine the time may be too short for a good back-end, too */
		while (create(&vc_vhost_user_blk_type, fault == FAKE_SILENT ? "timeout_ms=300" : "") < 0)
			ck_assert_int_eq(fault, FAKE_SILENT);
		f.fault_at = asked[i];
		f.fault = fault;
		start_driver(~0ull);
		f.fault = FAKE_NONE;
		exchange(4);
		end();
	}
}
END_TEST

START_TEST(lies_on_the_ring)
{
	struct request r;
	uint32_t written;
	void *token;

	begin("");
	exchange(4);
	r = new_request(7);
	f.fault = (enum fake_fault)(FAKE_BAD_ID + _i);
	send(&r);
	token = f.fault == FAKE_LONG || f.fault == FAKE_SCRIBBLE ? vdrv_wait(&q, &written) : NULL;
	if (!token) { /* the next one has it anew, unless it was done */
		ck_assert(wait_until(&f.connections, 2));
		f.fault = FAKE_NONE;
		token = vdrv_wait(&q, &written);
	}
	f.fault = FAKE_NONE;
	ck_assert_ptr_eq(token, &r);
	check_answer(&r, written);
	exchange(8);
	end();
}
END_TEST

START_TEST(refusals)
{
	static const char *const bad[] = {"queues=0", "queues=65", "queue_size=48", "queue_size=16", "reconnect_ms=x"};

	begin_fake();
	ck_assert_int_eq(create(&vc_vhost_user_blk_type, ""), -ENOENT);
	fake_start(&f);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(create(&vc_vhost_user_blk_type, bad[i]), -EINVAL);
	ck_assert_int_eq(create(&vc_vhost_user_blk_type, "queues=5"), -ENOTSUP);
	ck_assert_int_eq(create(&vc_vhost_user_fs_type, ""), -EINVAL);
	ck_assert_int_eq(create(&vc_vhost_user_fs_type, "tag=0123456789012345678901234567890123456"), -EINVAL);
	f.features &= ~VC_VIRTIO_F_VERSION_1;
	ck_assert_int_eq(create(&vc_vhost_user_blk_type, ""), -ENOTSUP);
	f.features |= VC_VIRTIO_F_VERSION_1;
	f.protocol &= ~VC_VHOST_P_CONFIG;
	ck_assert_int_eq(create(&vc_vhost_user_blk_type, ""), -ENOTSUP);
	ck_assert_int_eq(create(&vc_vhost_user_fs_type, "tag=t"), 0);
	end();
}
END_TEST

START_TEST(file_system)
{
	begin_fake();
	fake_start(&f);
	ck_assert_int_eq(create(&vc_vhost_user_fs_type, "tag=share,queues=2"), 0);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &q, 1, 64);
	vdrv_start(&d);
	ck_assert_uint_eq(vdrv_config(&d, 0, 4), vc_ld32("shar"));
	ck_assert_uint_eq(vdrv_config(&d, 4, 4), 'e');
	ck_assert_uint_eq(vdrv_config(&d, 36, 4), 2);
	exchange(8);
	end();
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("vhost");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, relays, 0, 6);
	tcase_add_loop_test(tc, old_backend, 0, 3);
	tcase_add_test(tc, configuration);
	tcase_add_test(tc, reset_and_start);
	tcase_add_test(tc, shared_memory);
	tcase_add_test(tc, idle_memory);
	tcase_add_test(tc, private_memory);
	tcase_add_test(tc, save_and_load);
	tcase_add_loop_test(tc, comes_back, 0, 2);
	tcase_add_test(tc, comes_back_to_another_driver);
	tcase_add_test(tc, goes_away_for_good);
	tcase_add_test(tc, comes_back_as_another);
	tcase_add_test(tc, listens);
	tcase_add_loop_test(tc, lies_at_creation, 0, FAKE_REFUSE - FAKE_WRONG_SIZE + 1);
	tcase_add_loop_test(tc, lies_at_start, 0, FAKE_REFUSE - FAKE_WRONG_SIZE + 1);
	tcase_add_loop_test(tc, lies_on_the_ring, 0, FAKE_SCRIBBLE - FAKE_BAD_ID + 1);
	tcase_add_test(tc, refusals);
	tcase_add_test(tc, file_system);
	return platform_run("vhost", tc);
}
