/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Property test of virtqueues: random chains, completed in random order, saved and loaded in between, must come out as
 * a simple model says, in every format. Memory is made of small slots, so that most chains cross some.
 */
#include "platform_env.h"
#include "virtio_driver.h"
#include "virtio_echo.h"

enum {
	TOKENS = 48,
	PIECES = 7,
	REGION = 0x8000, /* memory of one token's buffers */
	SLOT = 0x3000,
	RAM = 0x100000,
	STEPS = 250,
};

/* What the driver knows of a chain in flight. */
struct token {
	bool busy;
	unsigned count;
	struct vdrv_buf bufs[2 * PIECES];
	uint32_t sum;      /* over what the device reads */
	uint32_t in_bytes; /* what it may write */
};

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue q;
static struct echo echo;
static struct token tokens[TOKENS];
static unsigned in_flight;
static uint32_t seed;

static uint32_t draw(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)(seed >> 4) * below >> 28);
}

/* Check writes a file at every assertion: for single bytes that would take too long. */
static uint8_t guest_byte(uint64_t gpa)
{
	return *(uint8_t *)vdrv_ptr(&d, gpa);
}

static void set_guest_byte(uint64_t gpa, uint8_t value)
{
	*(uint8_t *)vdrv_ptr(&d, gpa) = value;
}

static uint32_t add_to_sum(uint32_t sum, uint8_t byte)
{
	return (sum ^ byte) * 16777619u;
}

/* Buffers of a token, somewhere in its region. */
static void make_chain(struct token *t)
{
	uint64_t at = RAM + (uint64_t)(t - tokens) * REGION;
	unsigned outs = draw(PIECES), ins = draw(PIECES) + !outs;

	*t = (struct token){.busy = true, .sum = 2166136261u};
	for (unsigned i = 0; i < outs + ins; i++) {
		struct vdrv_buf buf = {at + draw(300), 1 + draw(draw(8) ? 60 : 2000), i >= outs};

		for (uint32_t k = 0; k < buf.length; k++) {
			uint8_t byte = (uint8_t)draw(256);

			set_guest_byte(buf.gpa + k, buf.write ? 0xee : byte);
			if (!buf.write)
				t->sum = add_to_sum(t->sum, byte);
		}
		t->in_bytes += buf.write ? buf.length : 0;
		t->bufs[t->count++] = buf;
		at = buf.gpa + buf.length;
	}
}

static void driver_adds(void)
{
	for (unsigned n = draw(8); n > 0; n--) {
		struct token *t = &tokens[draw(TOKENS)];

		if (t->busy)
			continue;
		make_chain(t);
		t->busy = vdrv_add(&q, t->bufs, t->count, t);
		in_flight += t->busy;
	}
	vdrv_kick(&q);
}

/* The device reads all, and writes what follows from that. */
static void device_completes(unsigned n)
{
	struct vc_virtq_chain *chain = echo.held[n];
	uint32_t sum = 2166136261u, written = draw(2) ? chain->in_bytes : draw(chain->in_bytes + 1), total = 0;

	for (unsigned i = 0; i < chain->out_count; i++)
		for (size_t k = 0; k < chain->out[i].iov_len; k++, total++)
			sum = add_to_sum(sum, ((const uint8_t *)chain->out[i].iov_base)[k]);
	ck_assert_uint_eq(total, chain->out_bytes);
	for (uint32_t k = 0; k < written; k++) {
		uint8_t byte = (uint8_t)(sum + k);

		if (vc_iov_from_buffer(chain->in, chain->in_count, k, &byte, 1) != 1)
			ck_abort_msg("byte %u of %u is not there", k, written);
	}
	echo_done(&echo, n, written);
}

static void device_works(void)
{
	struct vc_virtq *dq = vc_virtio_queue(echo.v, 0);

	for (unsigned n = draw(echo.count + 1); n > 0; n--)
		device_completes(d.features & VC_VIRTIO_F_IN_ORDER ? 0 : draw(echo.count));
	vc_virtq_flush(dq);
}

static void check_result(const struct token *t, uint32_t written)
{
	uint32_t at = 0;

	ck_assert_uint_le(written, t->in_bytes);
	for (unsigned i = 0; i < t->count; i++)
		for (uint32_t k = 0; t->bufs[i].write && k < t->bufs[i].length; k++, at++)
			if (guest_byte(t->bufs[i].gpa + k) != (at < written ? (uint8_t)(t->sum + at) : 0xee))
				ck_abort_msg("byte %u of %u is wrong", at, written);
}

static void driver_collects(void)
{
	struct token *t;
	uint32_t written;

	while ((t = vdrv_get(&q, &written))) {
		check_result(t, written);
		t->busy = false;
		in_flight--;
	}
}

/* An interrupt has come if, and without suppression only if, there is something to collect. */
static void check_interrupt(unsigned held_before)
{
	bool used = echo.count < held_before, isr = vdrv_take_isr(&d) & 1;

	if (q.interrupts)
		ck_assert(isr == used);
	else if (!q.event_idx || q.packed)
		ck_assert(!isr);
}

static void save_and_load(void)
{
	static uint8_t state[1 << 18];
	int64_t size = p.buses.devices->ops.save(p.buses.devices->ctx, NULL, 0), again;
	unsigned held;

	ck_assert_int_gt(size, 0);
	ck_assert_int_le(size, (int64_t)sizeof state);
	again = p.buses.devices->ops.save(p.buses.devices->ctx, state, sizeof state);
	vdrv_settle(&d);
	held = echo.count;
	ck_assert_int_eq(again, size);
	ck_assert_int_eq(p.buses.devices->ops.load(p.buses.devices->ctx, state, (size_t)size - 1), -EINVAL);
	ck_assert_int_eq(p.buses.devices->ops.load(p.buses.devices->ctx, state, (size_t)size), 0);
	vdrv_settle(&d);
	ck_assert_uint_eq(echo.count, held);
}

static void begin(unsigned form)
{
	static struct vc_virtio_ops ops;
	uint64_t wanted = ~(VC_VIRTIO_F_RING_PACKED | VC_VIRTIO_F_INDIRECT_DESC | VC_VIRTIO_F_EVENT_IDX);

	seed = form * 7919 + 1;
	in_flight = 0;
	memset(tokens, 0, sizeof tokens);
	memset(&echo, 0, sizeof echo);
	platform_init(&p, RAM);
	for (uint64_t at = RAM; at < RAM + TOKENS * REGION; at += SLOT)
		ck_assert_int_eq(vc_mem_add(&p.mem, NULL, at, SLOT, VCORE_MEM_RWX, NULL, NULL), 0);
	ops = echo_ops;
	ops.in_order = form & 16;
	ck_assert_int_eq(echo_add_ops(&echo, &p.env, "packed=on", 1, NULL, &ops), 0);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	wanted |= form & 1 ? VC_VIRTIO_F_RING_PACKED : 0;
	wanted |= form & 2 ? VC_VIRTIO_F_INDIRECT_DESC : 0;
	wanted |= form & 4 ? VC_VIRTIO_F_EVENT_IDX : 0;
	ck_assert(vdrv_negotiate(&d, wanted));
	vdrv_queue(&d, &q, 0, form & 8 ? 32 : 128);
	vdrv_start(&d);
}

START_TEST(model)
{
	begin((unsigned)_i);
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned held;

		driver_adds();
		vdrv_settle(&d);
		/* no notification was lost: the device has all that is available */
		ck_assert_uint_eq(echo.count, in_flight);
		held = echo.count;
		device_works();
		check_interrupt(held);
		driver_collects();
		if (!draw(20))
			vdrv_interrupts(&q, !q.interrupts);
		if (!draw(100))
			save_and_load();
		vdrv_take_isr(&d);
	}
	ck_assert_uint_eq(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET, 0);
	platform_fini(&p);
	ck_assert_uint_eq(echo.destroys, 1);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("virtqueue-model");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, model, 0, 32);
	return platform_run("virtqueue-model", tc);
}
