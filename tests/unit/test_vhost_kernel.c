/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Queues that the host's kernel serves: the memory it is given and its log; what a device hands over, with a kernel of
 * the test's own; what is said where there is none. */
#include "platform_env.h"
#include <virtcore/error.h>

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/vhost.h>
#include <net/if.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "core/error.h"
#include "vhost/kernel.h"
#include "virtio/types.h"
#include "virtio_driver.h"

enum { RAM = 4 << 20, TXQ = 1, QUEUE = 64, HEADER = 12, FRAME = 64, ETHERTYPE = 0x88b5 };

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue q[3];

/* ---- the table ---- */

static struct vc_slot *add(uint64_t gpa, uint64_t length, uint32_t flags)
{
	struct vc_slot *slot;

	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, gpa, length, flags, NULL, &slot), 0);
	return slot;
}

START_TEST(table)
{
	struct vc_kernel_table t = {0};
	struct vc_slot *low, *high;

	platform_init(&p, 0);
	low = add(0, 1 << 20, VCORE_MEM_RWX);
	add(1 << 20, 1 << 20, VCORE_MEM_R); /* ROM is not for the kernel to write */
	high = add(1ull << 32, 2 << 20, VCORE_MEM_RWX);
	ck_assert_int_eq(vc_kernel_table_make(&t, &p.mem), 0);
	ck_assert_uint_eq(t.count, 2);
	ck_assert_uint_eq(t.memory->nregions, 2);
	ck_assert_uint_eq(t.memory->regions[1].guest_phys_addr, 1ull << 32);
	ck_assert_uint_eq(t.memory->regions[1].memory_size, 2 << 20);
	ck_assert_uint_eq(t.memory->regions[1].userspace_addr, (uintptr_t)high->hva);
	ck_assert_ptr_eq(vc_kernel_table_find(&t, 0xff000, 0x1000), low->hva + 0xff000);
	ck_assert_ptr_null(vc_kernel_table_find(&t, 0xff000, 0x1001));
	ck_assert_ptr_null(vc_kernel_table_find(&t, 1 << 20, 1));
	ck_assert_ptr_null(vc_kernel_table_find(&t, UINT64_MAX, 2));
	/* it stays mapped as long as the kernel may write there */
	ck_assert_uint_eq(atomic_load(&high->pins), 2);
	vc_mem_remove(&p.mem, NULL, high);
	ck_assert_ptr_nonnull(vc_kernel_table_find(&t, 1ull << 32, 16));
	ck_assert(t.version != atomic_load(&p.mem.version));
	ck_assert_int_eq(vc_kernel_table_make(&t, &p.mem), 0);
	ck_assert_uint_eq(t.count, 1);
	vc_kernel_table_drop(&t);
	ck_assert_uint_eq(atomic_load(&low->pins), 1);
	platform_fini(&p);
}
END_TEST

START_TEST(too_many_slots)
{
	struct vc_kernel_table t = {0};

	platform_init(&p, 0);
	for (unsigned i = 0; i <= VC_KERNEL_REGIONS_MAX; i++)
		add((uint64_t)i << 20, 4096, VCORE_MEM_RWX);
	ck_assert_int_eq(vc_kernel_table_make(&t, &p.mem), -ENOSPC);
	ck_assert_str_eq(vcore_error_message(), "vhost: 65 regions of memory: the kernel takes at most 64");
	ck_assert_uint_eq(t.count, 0);
	ck_assert_uint_eq(atomic_load(&p.mem.slots[0]->pins), 1);
	platform_fini(&p);
}
END_TEST

static uint64_t told[16];
static unsigned told_count;

static void tell(struct vc_slot *slot, uint64_t gpa, uint64_t length)
{
	ck_assert_uint_ge(gpa, slot->gpa);
	ck_assert_uint_le(gpa + length, slot->gpa + slot->length);
	told[told_count++] = gpa;
}

/* Slots that share a word of the log. */
START_TEST(dirty_log)
{
	struct vc_kernel_table t = {0};
	struct vc_slot *first, *second;

	told_count = 0;
	platform_init(&p, 0);
	first = add(0, 0x3000, VCORE_MEM_RWX);
	second = add(0x4000, 1 << 20, VCORE_MEM_RWX);
	ck_assert_int_eq(vc_kernel_table_make(&t, &p.mem), 0);
	ck_assert(!vc_kernel_table_is_logged(&t));
	ck_assert_int_eq(vc_mem_log_dirty(&p.mem, NULL, second, VC_LOG_PROGRAM, true), 0);
	ck_assert(vc_kernel_table_is_logged(&t));
	vc_kernel_table_fetch(&t, NULL, tell); /* there is none yet */
	ck_assert_int_eq(vc_kernel_table_make_log(&t), 0);
	ck_assert_uint_ge(t.log_bytes * 8, ((1 << 20) + 0x4000) / 4096);
	t.log[0] = 1ull << 2 | 1ull << 4 | 1ull << 63;
	t.log[4] = 1ull << 3; /* the last page */
	vc_kernel_table_fetch(&t, second, tell);
	ck_assert_uint_eq(told_count, 3);
	ck_assert_uint_eq(told[0], 0x4000);
	ck_assert_uint_eq(told[1], 0x3f000);
	ck_assert_uint_eq(told[2], 0x103000);
	vc_kernel_table_fetch(&t, NULL, tell);
	ck_assert_uint_eq(told_count, 4);
	ck_assert_uint_eq(told[3], 0x2000);
	vc_kernel_table_tell(&t, first, 0x4000, 16, tell);
	ck_assert_uint_eq(told_count, 4);
	vc_kernel_table_tell(&t, second, 0x4000, 16, tell);
	ck_assert_uint_eq(told_count, 5);
	vc_kernel_table_drop(&t);
	platform_fini(&p);
}
END_TEST

/* ---- a device, with a kernel of the test's own ---- */

static struct {
	struct vc_virtio *v;
	struct vc_served_queue queue[2];
	unsigned made, started, stopped, called, freed;
	uint64_t cid;
	int refuse;
} kernel;

static int make_vsock(struct vc_env *env, uint64_t cid, struct vc_kernel **out)
{
	if (kernel.refuse)
		return vc_fail(kernel.refuse, "cannot open /dev/vhost-vsock");
	kernel.made++;
	kernel.cid = cid;
	*out = (struct vc_kernel *)&kernel;
	return 0;
}

static uint64_t kernel_features(const struct vc_kernel *k)
{
	return VC_VIRTIO_F_VERSION_1 | VC_VIRTIO_F_EVENT_IDX | VC_VIRTIO_F_INDIRECT_DESC;
}

static int start(struct vc_kernel *k, struct vc_virtio *v)
{
	kernel.v = v;
	kernel.started++;
	for (unsigned i = 0; i < 2; i++)
		ck_assert(vc_served_get(v, i, &kernel.queue[i]));
	ck_assert(!vc_served_get(v, 2, &kernel.queue[0]));
	return 0;
}

static void stop(struct vc_kernel *k)
{
	kernel.stopped++;
	vc_served_set_base(kernel.v, 0, 7);
	vc_served_set_base(kernel.v, 1, kernel.queue[1].base + 3);
}

static void called(struct vc_kernel *k)
{
	kernel.called++;
}

static void free_kernel(struct vc_kernel *k)
{
	kernel.freed++;
}

static const struct vc_kernel_ops kernel_ops = {
    .vsock = make_vsock,
    .features = kernel_features,
    .start = start,
    .stop = stop,
    .called = called,
    .free = free_kernel,
};

static int create(const struct vc_device_type *type, const char *text)
{
	struct vc_props *props;
	struct vc_dev *dev;
	int r;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = type->create(&p.env, props, &dev);
	if (!r)
		r = vc_props_finish(props, type->name);
	vc_props_free(props);
	return r;
}

static void attach(void)
{
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	for (unsigned i = 0; i < 3; i++)
		vdrv_queue(&d, &q[i], i, i < 2 ? QUEUE : 16);
}

static uint64_t rung(int fd)
{
	uint64_t count = 0;

	return read(fd, &count, sizeof count) == sizeof count ? count : 0;
}

static void call(int fd)
{
	ck_assert_int_eq(eventfd_write(fd, 1), 0);
}

static void begin(const char *text)
{
	memset(&kernel, 0, sizeof kernel);
	platform_init(&p, RAM);
	p.env.kernel = &kernel_ops;
	ck_assert_msg(create(&vc_virtio_vsock_type, text) == 0, "%s", vcore_error_message());
	attach();
}

START_TEST(hands_over)
{
	struct vc_stat stats[VC_STATS_MAX];
	int bell;

	begin("cid=42,vhost=on");
	ck_assert_uint_eq(kernel.cid, 42);
	ck_assert(!(d.features & (VC_VIRTIO_F_RING_PACKED | VC_VIRTIO_F_IN_ORDER)));
	ck_assert_uint_eq(vdrv_config(&d, 0, 8), 42);
	vdrv_start(&d);
	ck_assert_uint_eq(kernel.started, 1);
	ck_assert_uint_eq(kernel.queue[TXQ].size, QUEUE);
	ck_assert_uint_eq(kernel.queue[TXQ].descriptors, q[TXQ].desc_gpa);
	ck_assert_uint_eq(kernel.queue[TXQ].driver, q[TXQ].driver_gpa);
	ck_assert_uint_eq(kernel.queue[TXQ].device, q[TXQ].device_gpa);
	ck_assert_uint_eq(kernel.queue[TXQ].base, 0);
	/* what may have waited is looked at */
	bell = kernel.queue[TXQ].bell;
	ck_assert_uint_gt(rung(bell), 0);
	vdrv_write(&d, VDRV_QUEUE_NOTIFY, TXQ);
	vdrv_settle(&d);
	ck_assert_uint_eq(rung(bell), 1);
	ck_assert_uint_eq(rung(kernel.queue[0].bell), 1); /* of the start */
	/* and an interrupt */
	vdrv_take_isr(&d);
	call(kernel.queue[TXQ].call);
	vdrv_settle(&d);
	ck_assert_uint_eq(kernel.called, 1);
	ck_assert_uint_eq(vdrv_take_isr(&d), 1);
	ck_assert_uint_eq(p.buses.devices->statistics(p.buses.devices->frontend, stats), 2);
	ck_assert_str_eq(stats[0].name, "vhost");
	ck_assert_uint_eq(stats[1].value, 1);
	vdrv_reset(&d);
	ck_assert_uint_eq(kernel.stopped, 1);
	platform_fini(&p);
	ck_assert_uint_eq(kernel.freed, 1);
}
END_TEST

/* How far the kernel has come is part of the state, and a call that is on its way is not lost. */
START_TEST(held_and_loaded)
{
	uint8_t state[1024];
	struct vc_dev *dev;
	size_t length;

	begin("vhost=on");
	vdrv_start(&d);
	vdrv_take_isr(&d);
	dev = p.buses.devices;
	vc_st16(q[TXQ].device + 2, 3); /* the used ring's index */
	call(kernel.queue[TXQ].call);
	dev->hold(dev->hold_ctx, true);
	ck_assert_uint_eq(kernel.stopped, 1);
	ck_assert_uint_eq(vdrv_take_isr(&d), 1);
	length = platform_save(&p, state, sizeof state);
	dev->hold(dev->hold_ctx, false);
	ck_assert_uint_eq(kernel.started, 2);
	ck_assert_uint_eq(kernel.queue[0].base, 7);
	ck_assert_uint_eq(kernel.queue[TXQ].base, 3);
	vdrv_reset(&d);
	ck_assert_int_eq(platform_load(&p, state, length), 0);
	ck_assert_uint_eq(kernel.queue[TXQ].base, 3);
	platform_fini(&p);
}
END_TEST

/* ---- the kernel's own ---- */

static unsigned stale; /* pages that were told to hold no translated code any more */

static void stale_code(void *ctx, struct vc_slot *slot, uint64_t gpa, uint64_t length)
{
	stale++;
}

static int packet_socket(const char *name)
{
	struct sockaddr_ll address = {
	    .sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE), .sll_ifindex = (int)if_nametoindex(name)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETHERTYPE));

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	return fd;
}

/* The card's frame `in` and out of it, once each. */
static uint64_t pass_frames(int fd)
{
	uint8_t frame[FRAME] = {0x52, 0, 0, 0, 0, 1, 0x52, 0, 0, 0, 0, 2, ETHERTYPE >> 8, ETHERTYPE & 0xff, 0x5a};
	uint64_t out = vdrv_alloc(&d, HEADER + FRAME, 8), in = vdrv_alloc(&d, HEADER + 2048, 4096);
	uint8_t got[FRAME];
	uint32_t written;
	ssize_t n = -1;

	memcpy((uint8_t *)vdrv_ptr(&d, out) + HEADER, frame, FRAME);
	ck_assert(vdrv_add(&q[TXQ], &(struct vdrv_buf){out, HEADER + FRAME, false}, 1, &out));
	ck_assert(vdrv_add(&q[0], &(struct vdrv_buf){in, HEADER + 2048, true}, 1, &in));
	vdrv_kick(&q[0]);
	vdrv_kick(&q[TXQ]);
	ck_assert_ptr_eq(vdrv_wait(&q[TXQ], NULL), &out);
	for (unsigned i = 0; n < 0 && i < 10000; i++, usleep(1000))
		n = recv(fd, got, sizeof got, 0);
	ck_assert_int_eq(n, FRAME);
	ck_assert_mem_eq(got, frame, FRAME);
	frame[14]++;
	ck_assert_int_eq(send(fd, frame, FRAME, 0), FRAME);
	do
		ck_assert_ptr_eq(vdrv_wait(&q[0], &written), &in);
	while (memcmp((uint8_t *)vdrv_ptr(&d, in) + HEADER + 12, frame + 12, 2) && /* the interface's own */
	       vdrv_add(&q[0], &(struct vdrv_buf){in, HEADER + 2048, true}, 1, &in) && (vdrv_kick(&q[0]), true));
	ck_assert_uint_eq(written, HEADER + FRAME);
	ck_assert_mem_eq((uint8_t *)vdrv_ptr(&d, in) + HEADER, frame, FRAME);
	return in;
}

static bool is_dirty(struct vc_slot *slot, uint64_t gpa)
{
	uint64_t bitmap[RAM / 4096 / 64];

	ck_assert_int_ge(vc_mem_get_dirty(&p.mem, NULL, slot, VC_LOG_PROGRAM, bitmap, sizeof bitmap), 0);
	return bitmap[gpa / 4096 / 64] >> gpa / 4096 % 64 & 1;
}

/* With tap and card; where there is no vhost only the sentence can be seen. i: with translated code about. */
START_TEST(net)
{
	static const struct vc_mem_listener listener = {.written = stale_code};
	struct vc_slot *slot, *more;
	uint8_t state[2048];
	struct vc_dev *dev;
	size_t length;
	uint64_t in;
	int fd;

	stale = 0;
	platform_init(&p, 0);
	p.env.kernel = &vc_vhost_kernel;
	p.mem.want_pages = _i;
	p.mem.listener = _i ? &listener : NULL;
	slot = add(0, RAM, VCORE_MEM_RWX);
	if (unshare(CLONE_NEWNET) < 0 || access("/dev/vhost-net", F_OK) < 0 ||
	    create(&vc_virtio_net_type, "net=tap,ifname=vhost0,vhost=on") < 0) {
		printf("SKIP: no /dev/vhost-net, no tap, or no permission\n");
		platform_fini(&p);
		return;
	}
	fd = packet_socket("vhost0");
	attach();
	vdrv_start(&d);
	pass_frames(fd);
	ck_assert(_i == (stale > 0));
	/* memory comes and goes */
	more = add(64 << 20, 1 << 20, VCORE_MEM_RWX);
	pass_frames(fd);
	vc_mem_remove(&p.mem, NULL, more);
	pass_frames(fd);
	/* the log: before it nothing, then what was received, and how far the rings are */
	ck_assert_int_eq(vc_mem_log_dirty(&p.mem, NULL, slot, VC_LOG_PROGRAM, true), 0);
	is_dirty(slot, 0);
	in = pass_frames(fd);
	ck_assert(is_dirty(slot, in));
	ck_assert(!is_dirty(slot, in));
	in = pass_frames(fd);
	ck_assert(is_dirty(slot, q[0].device_gpa));
	/* saved, and loaded */
	dev = p.buses.devices;
	dev->hold(dev->hold_ctx, true);
	length = platform_save(&p, state, sizeof state);
	dev->hold(dev->hold_ctx, false);
	pass_frames(fd);
	dev->hold(dev->hold_ctx, true);
	length = platform_save(&p, state, sizeof state);
	ck_assert_int_eq(platform_load(&p, state, length), 0);
	dev->hold(dev->hold_ctx, false);
	pass_frames(fd);
	close(fd);
	platform_fini(&p);
}
END_TEST

/* ---- where there is none ---- */

static void refused(const struct vc_device_type *type, const char *text, int r, const char *sentence)
{
	ck_assert_int_eq(create(type, text), r);
	ck_assert_msg(strstr(vcore_error_message(), sentence) != NULL, "%s: %s", text, vcore_error_message());
}

START_TEST(refusals)
{
	platform_init(&p, RAM);
	p.env.kernel = &vc_vhost_kernel;
	refused(&vc_virtio_net_type, "net=none,vhost=on", -ENOTSUP,
	        "net=none: the kernel's vhost takes the frames of a tap alone");
	refused(&vc_virtio_net_type, "net=none,vhost=maybe", -EINVAL, "property vhost=maybe: expected on, off or auto");
	refused(&vc_virtio_net_type, "net=none,vhost=on,packed=on", -ENOTSUP, "split virtqueues alone");
	refused(&vc_virtio_vsock_type, "path=/tmp,vhost=on,packed=on", -ENOTSUP, "split virtqueues alone");
	refused(&vc_virtio_net_type, "net=none,vhost=on,legacy=on", -ENOTSUP, "drivers of virtio 1.0 and later alone");
	p.env.kernel = &kernel_ops;
	kernel.refuse = ENOENT;
	refused(&vc_virtio_vsock_type, "vhost=on", -ENOENT, "cannot open /dev/vhost-vsock");
	refused(&vc_virtio_vsock_type, "vhost=auto", -EINVAL, "property path is missing");
	p.env.kernel = NULL;
	refused(&vc_virtio_vsock_type, "vhost=on", -ENOTSUP, "nobody makes use of the kernel's vhost");
	platform_fini(&p);
}
END_TEST

START_TEST(falls_back)
{
	platform_init(&p, RAM);
	p.env.kernel = &vc_vhost_kernel;
	ck_assert_int_eq(create(&vc_virtio_net_type, "net=none,vhost=auto"), 0);
	ck_assert_str_eq(
	    p.last_log,
	    "virtio-net: vhost=auto: served by the library: net=none: the kernel's vhost takes the frames of a tap alone");
	attach();
	vdrv_start(&d);
	vdrv_write(&d, VDRV_QUEUE_NOTIFY, TXQ);
	vdrv_settle(&d);
	platform_fini(&p);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("vhost_kernel");

	tcase_add_test(tc, table);
	tcase_add_test(tc, too_many_slots);
	tcase_add_test(tc, dirty_log);
	tcase_add_test(tc, hands_over);
	tcase_add_test(tc, held_and_loaded);
	tcase_add_loop_test(tc, net, 0, 2);
	tcase_add_test(tc, refusals);
	tcase_add_test(tc, falls_back);
	return platform_run("vhost_kernel", tc);
}
