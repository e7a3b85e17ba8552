/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Drivers on several threads, queues served by the loop's thread or by one each, while the device is saved, loses and
 * gets memory, and tells of new configurations: no chain is lost, and it can be reset and removed at any time.
 */
#include <pthread.h>
#include <sched.h>

#include "platform_env.h"
#include "virtio_driver.h"

enum { THREADS = 2, CHAINS = 3000, BATCH = 8, LENGTH = 32 };

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue queues[THREADS];
static struct vc_virtio *device;
static struct vc_dev *dev;
static uint64_t buffers[THREADS];
static _Atomic unsigned finished, destroyed;
static struct vc_loop *own_loop;

/* The device writes, for each chain, the byte it has read plus one. */
static void answer(void *ctx, struct vc_virtq *q)
{
	struct vc_virtq_chain *chain;

	do {
		vc_virtq_notify_off(q);
		while (vc_virtq_pop(q, &chain) > 0) {
			memset(chain->in[0].iov_base, *(uint8_t *)chain->out[0].iov_base + 1, chain->in[0].iov_len);
			vc_virtq_push(chain, chain->in_bytes);
		}
		vc_virtq_flush(q);
	} while (vc_virtq_notify_on(q));
}

static void count_destroy(void *ctx)
{
	atomic_fetch_add(&destroyed, 1);
}

static const struct vc_virtio_ops ops = {
    .type = "virtio-answer", .id = VC_VIRTIO_RNG, .in_order = true, .notify = answer, .destroy = count_destroy};

static void check_answer(const struct vdrv_queue *q, uint64_t gpa)
{
	const uint8_t *buffer = vdrv_ptr(q->d, gpa);

	for (unsigned k = 1; k < LENGTH; k++)
		if (buffer[k] != (uint8_t)(buffer[0] + 1))
			ck_abort_msg("a chain came back without an answer");
}

static void *drive(void *ctx)
{
	struct vdrv_queue *q = ctx;
	uint64_t base = buffers[q->index];
	unsigned sent = 0, got = 0;

	while (got < CHAINS) {
		for (unsigned i = 0; i < BATCH && sent < CHAINS && sent - got < 64; i++, sent++) {
			uint64_t gpa = base + sent % 64 * LENGTH;

			memset(vdrv_ptr(q->d, gpa), (int)(sent & 0x7f), LENGTH);
			if (!vdrv_add(q, (struct vdrv_buf[]){{gpa, 1, false}, {gpa + 1, LENGTH - 1, true}}, 2, vdrv_ptr(q->d, gpa)))
				ck_abort_msg("the queue is full");
		}
		vdrv_kick(q);
		if (vdrv_get(q, NULL))
			check_answer(q, base + got++ % 64 * LENGTH);
		else
			sched_yield();
	}
	atomic_fetch_add(&finished, 1);
	return NULL;
}

/* What a program may do meanwhile. */
static void disturb(unsigned turn)
{
	static uint8_t state[1 << 16];
	struct vc_slot *slot;

	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, VC_GIB(1), VC_PAGE_SIZE, VCORE_MEM_RWX, NULL, &slot), 0);
	if (turn % 8 == 0)
		ck_assert_int_gt(dev->ops.save(dev->ctx, state, sizeof state), 0);
	vc_virtio_config_changed(device);
	vdrv_take_isr(&d);
	vc_mem_remove(&p.mem, NULL, slot);
	sched_yield();
}

START_TEST(threads)
{
	static const char *const forms[] = {"worker=thread", "worker=loop", "worker=thread,packed=on",
	                                    "worker=loop,packed=on"};
	struct vc_virtio_config config = {.ops = &ops, .queues = THREADS};
	struct vc_loop *turned;
	struct vc_props *props;
	pthread_t workers[THREADS];

	platform_init(&p, VC_MIB(4));
	turned = p.env.loop;
	ck_assert_int_eq(vc_loop_new(&p.clock, true, &own_loop), 0);
	p.env.loop = own_loop;
	ck_assert_int_eq(vc_props_parse(forms[_i], &props), 0);
	ck_assert_int_eq(vc_virtio_add(&p.env, props, &config, &device, &dev), 0);
	vc_props_free(props);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	for (unsigned i = 0; i < THREADS; i++) {
		vdrv_queue(&d, &queues[i], i, 256);
		buffers[i] = vdrv_alloc(&d, 64 * LENGTH, 64);
	}
	vdrv_start(&d);
	atomic_store(&finished, 0);
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&workers[i], NULL, drive, &queues[i]), 0);
	for (unsigned turn = 0; atomic_load(&finished) < THREADS; turn++)
		disturb(turn);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(workers[i], NULL);
	ck_assert_uint_eq(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET, 0);
	if (_i & 1)
		vdrv_reset(&d);
	atomic_store(&destroyed, 0);
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, dev), 0);
	ck_assert_uint_eq(atomic_load(&destroyed), 1);
	vc_loop_free(own_loop);
	p.env.loop = turned;
	platform_fini(&p);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("virtio-threads");

	tcase_set_timeout(tc, 100);
	tcase_add_loop_test(tc, threads, 0, 4);
	return platform_run("virtio-threads", tc);
}
