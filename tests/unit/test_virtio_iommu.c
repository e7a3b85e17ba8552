/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtio-iommu as a driver sees it, and what becomes of another virtio device behind it. */
#include <sched.h>
#include <virtcore/error.h>

#include "bus/iommu.h"
#include "core/error.h"
#include "platform_env.h"
#include "virtio/types.h"
#include "virtio_driver.h"
#include "virtio_echo.h"

enum { PAGE = 4096, RAM_PAGES = 1024, RINGS = 0x100000, RINGS_END = 0x200000, GPA = 0x280000 };
#define IOVA 0x40000000ull
enum { ATTACH = 1, DETACH = 2, MAP = 3, UNMAP = 4, PROBE = 5 };
enum { S_OK = 0, S_INVAL = 4, S_RANGE = 5, S_NOENT = 6, S_NOMEM = 8, NOTHING = 99 };
enum { PROPERTIES = 512, PROBE_LENGTH = 72, PROBE_ROOM = PROPERTIES + 4 };

static struct platform_env p;
static struct vdrv m, d; /* drivers of the IOMMU, and of the device behind it */
static struct vdrv_queue requests, events, q;
static struct echo echo;
static uint64_t request_gpa, answer_gpa, event_gpa;

static int create(const char *text)
{
	struct vc_props *props;
	struct vc_dev *dev;
	int r;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = vc_virtio_iommu_type.create(&p.env, props, &dev);
	if (!r)
		r = vc_props_finish(props, "virtio-iommu");
	vc_props_free(props);
	return r;
}

static int add_rng(const char *text)
{
	struct vc_props *props;
	struct vc_dev *dev;
	int r;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = vc_virtio_rng_type.create(&p.env, props, &dev);
	vc_props_free(props);
	return r;
}

static void begin_machine(void)
{
	memset(&echo, 0, sizeof echo);
	platform_init(&p, RAM_PAGES * (uint64_t)PAGE);
	ck_assert_int_eq(vc_pci_host_new(&p.env), 0);
}

static void begin(const char *text, const char *device)
{
	begin_machine();
	ck_assert_int_eq(create(text), 0);
	vdrv_attach(&m, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&m, ~0ull));
	vdrv_queue(&m, &requests, 0, 64);
	vdrv_queue(&m, &events, 1, 64);
	vdrv_start(&m);
	request_gpa = vdrv_alloc(&m, 128, 16);
	answer_gpa = vdrv_alloc(&m, PROBE_ROOM + 1, 16);
	event_gpa = vdrv_alloc(&m, 24 * 8, 16);
	if (!device)
		return;
	ck_assert_int_eq(echo_add(&echo, &p.env, device, 1, (uint16_t[]){1024}), 0);
	vdrv_attach(&d, &p.env, RINGS);
}

/* The answer of a request of so many bytes, with so many for it. */
static unsigned ask_raw(const void *request, uint32_t length, uint32_t room)
{
	uint8_t *answer = vdrv_ptr(&m, answer_gpa);

	memcpy(vdrv_ptr(&m, request_gpa), request, length);
	memset(answer, 0xee, PROBE_ROOM + 1);
	if (vdrv_do(&requests, (struct vdrv_buf[]){{request_gpa, length, false}, {answer_gpa, room, true}}, 2) != room) {
		ck_assert_uint_eq(answer[0], 0xee);
		return NOTHING;
	}
	return answer[room - 4];
}

static unsigned attach(uint32_t domain, uint32_t endpoint, uint32_t flags)
{
	return ask_raw((uint32_t[]){ATTACH, domain, endpoint, flags, 0}, 20, 4);
}

static unsigned detach(uint32_t domain, uint32_t endpoint)
{
	return ask_raw((uint32_t[]){DETACH, domain, endpoint, 0, 0}, 20, 4);
}

static unsigned map(uint32_t domain, uint64_t iova, uint64_t gpa, uint64_t length, uint32_t flags)
{
	uint8_t request[36] = {MAP};

	vc_st32(request + 4, domain);
	vc_st64(request + 8, iova);
	vc_st64(request + 16, iova + length - 1);
	vc_st64(request + 24, gpa);
	vc_st32(request + 32, flags);
	return ask_raw(request, sizeof request, 4);
}

static unsigned unmap(uint32_t domain, uint64_t iova, uint64_t length)
{
	uint8_t request[28] = {UNMAP};

	vc_st32(request + 4, domain);
	vc_st64(request + 8, iova);
	vc_st64(request + 16, iova + length - 1);
	return ask_raw(request, sizeof request, 4);
}

/* The device works in domain 1, with its rings where they are and a window of 64 pages at IOVA. */
static void start_device(uint64_t features)
{
	ck_assert_uint_eq(attach(1, d.devfn, 0), S_OK);
	ck_assert_uint_eq(map(1, RINGS, RINGS, RINGS_END - RINGS, 3), S_OK);
	ck_assert_uint_eq(map(1, IOVA, GPA, 64 * PAGE, 3), S_OK);
	ck_assert(vdrv_negotiate(&d, features));
	vdrv_queue(&d, &q, 0, 64);
	vdrv_start(&d);
}

static void *host(uint64_t gpa)
{
	return vdrv_ptr(&d, gpa);
}

static void send(uint64_t iova, uint32_t length, bool write, void *token)
{
	ck_assert(vdrv_add(&q, &(struct vdrv_buf){iova, length, write}, 1, token));
	vdrv_kick(&q);
	platform_settle(&p);
}

START_TEST(configuration)
{
	begin("", NULL);
	ck_assert_uint_eq(m.features & 0x7f, 0x77);
	ck_assert(!(m.features & VC_VIRTIO_F_ACCESS_PLATFORM));
	ck_assert_uint_eq(vdrv_config(&m, 0, 8), ~0xfffull);
	ck_assert_uint_eq(vdrv_config(&m, 8, 8), 0);
	ck_assert_uint_eq(vdrv_config(&m, 16, 8), (1ull << 48) - 1);
	ck_assert_uint_eq(vdrv_config(&m, 28, 4), UINT32_MAX);
	ck_assert_uint_eq(vdrv_config(&m, 32, 4), PROPERTIES);
	ck_assert_uint_eq(vdrv_config(&m, 36, 1), 1);
	vdrv_set_config(&m, 36, 1, 0);
	ck_assert_uint_eq(vdrv_config(&m, 36, 1), 0);
	vdrv_set_config(&m, 36, 1, 2);
	vdrv_set_config(&m, 36, 4, 1);
	vdrv_set_config(&m, 0, 4, 1);
	ck_assert_uint_eq(vdrv_config(&m, 36, 1), 0);
	ck_assert_uint_eq(vdrv_config(&m, 0, 8), ~0xfffull);
	/* the device's reset leaves it, the machine's does not */
	vdrv_reset(&m);
	ck_assert_uint_eq(vdrv_config(&m, 36, 1), 0);
	vc_buses_reset(&p.buses);
	vdrv_attach(&m, &p.env, VDRV_HEAP);
	ck_assert_uint_eq(vdrv_config(&m, 36, 1), 1);
	platform_fini(&p);
}
END_TEST

START_TEST(asking)
{
	uint8_t probe[PROBE_LENGTH] = {PROBE}, long_one[128] = {0};
	const uint8_t *answer;

	begin("mappings=3", "");
	answer = vdrv_ptr(&m, answer_gpa);
	ck_assert_uint_eq(attach(1, 99, 0), S_NOENT);
	ck_assert_uint_eq(attach(1, d.devfn | 1 << 8, 0), S_NOENT);
	ck_assert_uint_eq(attach(1, d.devfn | 1u << 16, 0), S_NOENT);
	ck_assert_uint_eq(attach(1, d.devfn, 2), S_INVAL);
	ck_assert_uint_eq(ask_raw((uint32_t[]){ATTACH, 1, d.devfn, 0, 1}, 20, 4), S_INVAL);
	ck_assert_uint_eq(map(1, IOVA, GPA, PAGE, 3), S_NOENT);
	ck_assert_uint_eq(unmap(1, IOVA, PAGE), S_NOENT);
	ck_assert_uint_eq(detach(1, d.devfn), S_INVAL);
	ck_assert_uint_eq(attach(1, d.devfn, 1), S_OK);
	ck_assert_uint_eq(attach(1, d.devfn, 0), S_INVAL);
	ck_assert_uint_eq(map(1, IOVA, GPA, PAGE, 3), S_INVAL);
	ck_assert_uint_eq(attach(2, d.devfn, 0), S_OK);
	ck_assert_uint_eq(detach(1, d.devfn), S_INVAL);
	ck_assert_uint_eq(map(2, IOVA, GPA, PAGE, 8), S_INVAL);
	ck_assert_uint_eq(map(2, IOVA + 1, GPA, PAGE, 3), S_RANGE);
	ck_assert_uint_eq(map(2, 0xfee00000, GPA, PAGE, 3), S_RANGE);
	ck_assert_uint_eq(map(2, IOVA, GPA, 2 * PAGE, 7), S_OK);
	ck_assert_uint_eq(map(2, IOVA + PAGE, GPA, PAGE, 3), S_INVAL);
	ck_assert_uint_eq(unmap(2, IOVA + PAGE, PAGE), S_RANGE);
	ck_assert_uint_eq(map(2, IOVA + 4 * PAGE, GPA, PAGE, 3), S_OK);
	ck_assert_uint_eq(map(2, IOVA + 5 * PAGE, GPA, PAGE, 3), S_OK);
	ck_assert_uint_eq(map(2, IOVA + 6 * PAGE, GPA, PAGE, 3), S_NOMEM);
	ck_assert_uint_eq(unmap(2, 0, 1ull << 40), S_OK);
	ck_assert_uint_eq(unmap(2, 0, 1ull << 40), S_OK);
	ck_assert_uint_eq(ask_raw((uint32_t[]){UNMAP, 2, 0, 0, ~0u, ~0u, 5}, 28, 4), S_INVAL);
	ck_assert_uint_eq(detach(2, d.devfn), S_OK);
	/* what the endpoint is */
	vc_st32(probe + 4, d.devfn);
	ck_assert_uint_eq(ask_raw(probe, sizeof probe, PROBE_ROOM), S_OK);
	ck_assert_uint_eq(vc_ld32(answer), 1 | 20 << 16);
	ck_assert_uint_eq(vc_ld32(answer + 4), 1);
	ck_assert_uint_eq(vc_ld64(answer + 8), 0xfee00000);
	ck_assert_uint_eq(vc_ld64(answer + 16), 0xfeefffff);
	ck_assert(vc_is_zero(answer + 24, PROBE_ROOM - 24));
	ck_assert_uint_eq(ask_raw(probe, sizeof probe, PROBE_ROOM - 1), S_INVAL);
	ck_assert_uint_eq(ask_raw(probe, sizeof probe, PROBE_ROOM + 1), NOTHING);
	vc_st32(probe + 4, 77);
	ck_assert_uint_eq(ask_raw(probe, sizeof probe, PROBE_ROOM), S_NOENT);
	/* no requests */
	ck_assert_uint_eq(ask_raw(long_one, 128, 4), NOTHING);
	ck_assert_uint_eq(ask_raw((uint32_t[]){6, 1, d.devfn, 0, 0}, 20, 4), NOTHING);
	ck_assert_uint_eq(ask_raw((uint32_t[]){255, 1, d.devfn, 0, 0}, 20, 4), NOTHING);
	ck_assert_uint_eq(ask_raw((uint32_t[]){ATTACH, 1, d.devfn, 0, 0}, 19, 4), NOTHING);
	ck_assert_uint_eq(ask_raw((uint32_t[]){ATTACH, 1, d.devfn, 0, 0}, 20, 3), NOTHING);
	ck_assert_uint_eq(ask_raw((uint32_t[]){ATTACH, 1, d.devfn, 0, 0}, 20, 5), NOTHING);
	platform_fini(&p);
}
END_TEST

/* What the host's IOMMU cannot do for a device is told of it, and so that no driver asks for it. */
START_TEST(windows)
{
	static const struct {
		uint64_t first, last;
	} expected[] = {{0xfee00000, 0xfeefffff},
	                {0, 0xfff},
	                {0xfed00000, 0xfedfffff},
	                {0xfef00000, 0xff0fffff},
	                {0x8000000000, 0xffffffffffff}};
	const struct vc_iommu_windows w = {
	    3, {{0x1000, 0xfecfffff}, {0xff100000, 0x3fffffffff}, {0x4000000000, 0x7fffffffff}}};
	uint8_t probe[PROBE_LENGTH] = {PROBE};
	const uint8_t *answer;

	begin("", "");
	answer = vdrv_ptr(&m, answer_gpa);
	vc_iommu_set_windows(vc_pci_endpoint_at(p.env.pci, d.devfn), &w);
	ck_assert_uint_eq(vdrv_config(&m, 16, 8), 0x7fffffffff);
	vc_st32(probe + 4, d.devfn);
	ck_assert_uint_eq(ask_raw(probe, sizeof probe, PROBE_ROOM), S_OK);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(expected); i++, answer += 24) {
		ck_assert_uint_eq(vc_ld32(answer), 1 | 20 << 16);
		ck_assert_uint_eq(vc_ld32(answer + 4), i == 0);
		ck_assert_uint_eq(vc_ld64(answer + 8), expected[i].first);
		ck_assert_uint_eq(vc_ld64(answer + 16), expected[i].last);
	}
	ck_assert(vc_is_zero(answer, PROBE_ROOM - VC_ARRAY_SIZE(expected) * 24));
	platform_fini(&p);
}
END_TEST

static const char *const forms[] = {"", "packed=on", "event_idx=off,indirect=off", "packed=on,indirect=off",
                                    "indirect=off"};

/* Buffers in several mappings, whose memory is not adjacent, through indirect tables too. */
START_TEST(translation)
{
	struct vdrv_buf bufs[12];
	uint8_t *ram;

	begin("", forms[_i]);
	ck_assert_uint_eq(vdrv_read(&d, VDRV_QUEUE_SIZE_MAX), 256);
	start_device(~0ull);
	ck_assert(d.features & VC_VIRTIO_F_ACCESS_PLATFORM);
	q.use_indirect = true;
	for (unsigned i = 0; i < 8; i++)
		ck_assert_uint_eq(map(1, IOVA * 2 + i * PAGE, GPA + (127 - i) * PAGE, PAGE, 3), S_OK);
	ram = host(0);
	for (unsigned turn = 0; turn < 100; turn++) {
		uint32_t count = turn % 12 + 1, pages = 0;

		for (unsigned i = 0; i < count; i++)
			bufs[i] = (struct vdrv_buf){IOVA * 2 + (i % 3) * PAGE + 100 * i, PAGE + 50 * i, i >= count / 2};
		ck_assert(vdrv_add(&q, bufs, count, &q));
		vdrv_kick(&q);
		while (echo.count < 1) {
			platform_settle(&p);
			sched_yield();
		}
		for (unsigned i = 0; i < echo.held[0]->out_count + echo.held[0]->in_count; i++) {
			uint64_t gpa = (uint64_t)((uint8_t *)echo.held[0]->out[i].iov_base - ram);

			ck_assert_uint_ge(gpa, GPA + 124 * PAGE);
			ck_assert_uint_lt(gpa, GPA + 128 * PAGE);
			pages++;
		}
		ck_assert_uint_ge(pages, count * 2 - 1);
		ck_assert_uint_eq((uint64_t)((uint8_t *)echo.held[0]->out[0].iov_base - ram), GPA + 127 * PAGE);
		echo_done(&echo, 0, turn);
		vc_virtq_flush(vc_virtio_queue(echo.v, 0));
		ck_assert_ptr_eq(vdrv_wait(&q, NULL), &q);
	}
	platform_fini(&p);
}
END_TEST

/* The next report, or 0: its reason. */
static unsigned next_event(uint64_t *address, uint32_t *flags)
{
	const uint8_t *event = vdrv_ptr(&m, event_gpa);
	uint32_t written;

	vdrv_add(&events, &(struct vdrv_buf){event_gpa, 24, true}, 1, &events);
	vdrv_kick(&events);
	vdrv_wait(&events, &written);
	ck_assert_uint_eq(written, 24);
	ck_assert_uint_eq(vc_ld32(event + 8), d.devfn);
	*flags = vc_ld32(event + 4);
	*address = vc_ld64(event + 16);
	return event[0];
}

START_TEST(blocked)
{
	struct vdrv other;
	struct vdrv_queue other_q;
	struct echo second = {0};
	uint64_t address;
	uint32_t flags;

	begin("", forms[_i]);
	start_device(~0ull);
	/* another device, in bypass */
	ck_assert_int_eq(echo_add(&second, &p.env, "", 1, NULL), 0);
	vdrv_attach(&other, &p.env, 0x40000);
	ck_assert(vdrv_negotiate(&other, ~0ull));
	vdrv_queue(&other, &other_q, 0, 16);
	vdrv_start(&other);
	send(IOVA + 63 * PAGE, PAGE + 1, true, &q);
	while (!(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET))
		sched_yield();
	ck_assert_uint_eq(next_event(&address, &flags), 2);
	ck_assert_uint_eq(address, IOVA + 64 * PAGE);
	ck_assert_uint_eq(flags, 0x102);
	ck_assert_ptr_null(vdrv_get(&q, NULL));
	ck_assert(!(vdrv_status(&m) & VC_VIRTIO_S_NEEDS_RESET));
	vdrv_add(&other_q, &(struct vdrv_buf){GPA, 16, true}, 1, &q);
	vdrv_kick(&other_q);
	platform_settle(&p);
	ck_assert_uint_eq(second.count, 1);
	ck_assert_ptr_eq(second.held[0]->in[0].iov_base, host(GPA));
	/* after a reset it works again; what may be read only is not written */
	vdrv_reset(&d);
	ck_assert_uint_eq(map(1, IOVA * 2, GPA, PAGE, 1), S_OK);
	vdrv_write(&d, VDRV_STATUS, 3);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &q, 0, 64);
	vdrv_start(&d);
	send(IOVA * 2, 16, false, &q);
	while (echo.count < 1)
		platform_settle(&p);
	send(IOVA * 2, 16, true, &q);
	while (!(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET))
		sched_yield();
	ck_assert_uint_eq(next_event(&address, &flags), 2);
	ck_assert_uint_eq(address, IOVA * 2);
	platform_fini(&p);
}
END_TEST

/* Reports without a buffer wait, as many as there is room for. */
START_TEST(many_faults)
{
	struct vc_iommu_endpoint *e;
	struct vc_stat stats[VC_STATS_MAX];
	uint64_t address;
	uint32_t flags;

	begin("bypass=off", "");
	e = vc_pci_endpoint(vc_pci_function_of(echo.dev));
	for (unsigned i = 0; i < 100; i++)
		ck_assert_int_eq(vc_iommu_copy(e, &p.mem, i * 16, &address, 8, i & 1), -EFAULT);
	vdrv_add(&events, &(struct vdrv_buf){event_gpa, 23, true}, 1, &events);
	vdrv_kick(&events);
	vdrv_wait(&events, &flags);
	ck_assert_uint_eq(flags, 0);
	for (unsigned i = 0; i < 64; i++) {
		ck_assert_uint_eq(next_event(&address, &flags), 1);
		ck_assert_uint_eq(address, i * 16);
		ck_assert_uint_eq(flags, i & 1 ? 0x102 : 0x101);
	}
	ck_assert_uint_eq(m.dev->statistics(m.dev->frontend, stats), 4);
	ck_assert_uint_eq(stats[2].value, 100);
	ck_assert_uint_eq(stats[3].value, 36);
	platform_fini(&p);
}
END_TEST

/* A mapping goes while a chain lies in it: the device does not reach it when that is answered, and is told off. */
START_TEST(unmap_in_flight)
{
	uint64_t address;
	uint32_t flags;

	begin("", forms[_i]);
	start_device(~0ull);
	ck_assert_uint_eq(map(1, IOVA * 2, GPA + 64 * PAGE, PAGE, 3), S_OK);
	send(IOVA, 100, true, (void *)1);
	send(IOVA * 2, 100, true, (void *)2);
	while (echo.count < 2)
		platform_settle(&p);
	/* another's mapping goes: nobody is disturbed */
	ck_assert_uint_eq(map(1, IOVA * 3ull, GPA, PAGE, 3), S_OK);
	ck_assert_uint_eq(unmap(1, IOVA * 3ull, PAGE), S_OK);
	ck_assert_uint_eq(echo.stops, 0);
	ck_assert_uint_eq(unmap(1, IOVA * 2, PAGE), S_OK);
	ck_assert_uint_eq(echo.stops, 1);
	while (!(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET))
		platform_settle(&p);
	ck_assert_uint_eq(next_event(&address, &flags), 2);
	ck_assert_uint_eq(address, IOVA * 2);
	/* the other chain came again before */
	ck_assert_uint_eq(echo.count, 1);
	ck_assert_ptr_eq(echo.held[0]->in[0].iov_base, host(GPA));
	platform_fini(&p);
}
END_TEST

/* The rings go, and the domain, while a chain is held. */
START_TEST(rings_in_use)
{
	begin("", forms[_i]);
	start_device(~0ull);
	send(IOVA, 100, true, (void *)1);
	while (echo.count < 1)
		platform_settle(&p);
	ck_assert_uint_eq(unmap(1, RINGS, RINGS_END - RINGS), S_OK);
	vdrv_write(&d, VDRV_QUEUE_NOTIFY, 0); /* a queue at rest holds none */
	while (!(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET))
		platform_settle(&p);
	ck_assert_uint_eq(detach(1, d.devfn), S_OK);
	ck_assert_uint_eq(map(1, IOVA, GPA, PAGE, 3), S_NOENT);
	/* the IOMMU is reset under a device that works */
	vdrv_reset(&d);
	d.heap = RINGS;
	vdrv_write(&d, VDRV_STATUS, 3);
	start_device(~0ull);
	send(IOVA, 100, true, (void *)1);
	while (echo.count < 1)
		platform_settle(&p);
	vdrv_reset(&m);
	platform_settle(&p);
	vdrv_attach(&m, &p.env, VDRV_HEAP);
	platform_fini(&p);
}
END_TEST

static void save(struct vc_dev *dev, uint8_t **state, int64_t *length)
{
	*length = dev->ops.save(dev->ctx, NULL, 0);
	ck_assert_int_gt(*length, 0);
	*state = malloc((size_t)*length);
	ck_assert_int_eq(dev->ops.save(dev->ctx, *state, (size_t)*length), *length);
}

START_TEST(saved)
{
	uint8_t *iommu_state, *state;
	int64_t iommu_length, length;

	begin("", forms[_i]);
	start_device(~0ull);
	send(IOVA + 16, 100, true, (void *)1);
	while (echo.count < 1)
		platform_settle(&p);
	save(d.dev, &state, &length);
	save(m.dev, &iommu_state, &iommu_length);
	/* elsewhere: all is reset first */
	vc_buses_reset(&p.buses);
	ck_assert_int_eq(m.dev->ops.load(m.dev->ctx, iommu_state, (size_t)iommu_length), 0);
	ck_assert_int_eq(d.dev->ops.load(d.dev->ctx, state, (size_t)length), 0);
	while (echo.count < 1)
		platform_settle(&p);
	ck_assert_ptr_eq(echo.held[0]->in[0].iov_base, host(GPA + 16));
	echo_done(&echo, 0, 3);
	vc_virtq_flush(vc_virtio_queue(echo.v, 0));
	ck_assert_ptr_eq(vdrv_wait(&q, NULL), (void *)1);
	ck_assert_uint_eq(unmap(1, IOVA, 64 * PAGE), S_OK);
	for (int64_t cut = 1; cut < 200; cut += 13)
		ck_assert_int_lt(m.dev->ops.load(m.dev->ctx, iommu_state, (size_t)(iommu_length - cut)), 0);
	free(state);
	free(iommu_state);
	platform_fini(&p);
}
END_TEST

START_TEST(refusals)
{
	begin("", "");
	/* a driver that gives GPAs all the same */
	ck_assert(!vdrv_negotiate(&d, ~VC_VIRTIO_F_ACCESS_PLATFORM));
	ck_assert_int_eq(create(""), -EBUSY);
	ck_assert_str_eq(vcore_error_message(), "the PCI bus has an IOMMU already");
	ck_assert_int_eq(create("transport=mmio"), -EINVAL);
	ck_assert_int_eq(create("worker=loop"), -EINVAL);
	ck_assert_int_eq(create("addr=5/0"), -EINVAL);
	ck_assert_int_eq(create("mappings=0"), -EINVAL);
	ck_assert_int_eq(add_rng("legacy=on"), -ENOTSUP);
	ck_assert_ptr_nonnull(strstr(vcore_error_message(), "know of no IOMMU"));
	ck_assert_int_eq(create("addr=1"), -EBUSY);
	/* it goes: all is in bypass, and another may come */
	ck_assert_uint_eq(attach(1, d.devfn, 0), S_OK);
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, m.dev), 0);
	ck_assert_int_eq(vc_iommu_copy(vc_pci_endpoint(vc_pci_function_of(echo.dev)), &p.mem, GPA, host(RINGS), 8, true),
	                 0);
	ck_assert_int_eq(create("worker=thread"), 0);
	platform_fini(&p);
	begin_machine();
	ck_assert_int_eq(echo_add(&echo, &p.env, "", 1, NULL), 0);
	ck_assert_int_eq(create(""), -EBUSY);
	ck_assert_ptr_nonnull(strstr(vcore_error_message(), "(virtio-echo) is on the PCI bus already"));
	platform_fini(&p);
	platform_init(&p, VC_MIB(1));
	ck_assert_int_eq(create(""), -ENOTSUP);
	platform_fini(&p);
}
END_TEST

int main(void)
{
	const int count = VC_ARRAY_SIZE(forms);
	TCase *cases = tcase_create("virtio_iommu");

	tcase_set_timeout(cases, 60);
	tcase_add_test(cases, configuration);
	tcase_add_test(cases, asking);
	tcase_add_test(cases, windows);
	tcase_add_loop_test(cases, translation, 0, count);
	tcase_add_loop_test(cases, blocked, 0, count);
	tcase_add_test(cases, many_faults);
	tcase_add_loop_test(cases, unmap_in_flight, 0, count);
	tcase_add_loop_test(cases, rings_in_use, 0, count);
	tcase_add_loop_test(cases, saved, 0, count);
	tcase_add_test(cases, refusals);
	return platform_run("virtio_iommu", cases);
}
