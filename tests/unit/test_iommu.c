/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The IOMMU itself: domains, mappings against a model, who holds what is taken away, listeners, copies, state. */
#include <pthread.h>
#include <sched.h>

#include "bus/iommu.h"
#include "core/error.h"
#include "platform_env.h"

enum { FUNCTIONS = 3, PAGE = VC_IOMMU_PAGE, THREADS = 3 };

static struct platform_env p;
static struct vc_iommu *iommu;
static struct vc_dev *devs[FUNCTIONS];
static struct vc_iommu_endpoint *endpoints[FUNCTIONS];
static unsigned faults;
static struct vc_iommu_fault last_fault;

static void take_fault(void *ctx, const struct vc_iommu_fault *fault)
{
	faults++;
	last_fault = *fault;
}

static struct vc_dev *add_function(void)
{
	static const struct vcore_pci_ops ops = {.size = sizeof ops};
	const struct vcore_pci_description d = {.size = sizeof d, .vendor = 0x1234, .device = 1, .class_code = 0xff0000};
	struct vc_dev *dev;

	ck_assert_int_eq(vc_pci_add(p.env.pci, &d, &ops, NULL, &dev), 0);
	return dev;
}

static void setup(void)
{
	platform_init(&p, VC_MIB(4));
	ck_assert_int_eq(vc_pci_host_new(&p.env), 0);
	ck_assert_int_eq(vc_pci_make_iommu(p.env.pci, &p.log, &iommu), 0);
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		devs[i] = add_function();
		endpoints[i] = vc_pci_endpoint(vc_pci_function_of(devs[i]));
		ck_assert_ptr_nonnull(endpoints[i]);
	}
	ck_assert_int_eq(
	    vc_iommu_set_driver(
	        iommu, &(struct vc_iommu_driver){.fault = take_fault, .function = vc_pci_function_of(devs[0])}, 4096),
	    0);
	faults = 0;
}

static void teardown(void)
{
	platform_fini(&p);
}

static int map(uint32_t domain, uint64_t iova, uint64_t gpa, uint64_t pages, uint32_t flags)
{
	return vc_iommu_map(iommu, domain, &(struct vc_iommu_range){iova, iova + pages * PAGE - 1, gpa, flags});
}

static int unmap(uint32_t domain, uint64_t iova, uint64_t pages)
{
	return vc_iommu_unmap(iommu, domain, iova, iova + pages * PAGE - 1);
}

/* Where an endpoint's access goes; all ones: it is blocked. */
static uint64_t at(unsigned n, uint64_t iova, uint32_t access)
{
	static struct vc_iommu_cache caches[FUNCTIONS];
	struct vc_iommu_piece piece;

	if (!vc_iommu_hold(endpoints[n], &caches[n], iova, access, &piece))
		return UINT64_MAX;
	vc_iommu_let_go(piece.mapping);
	return piece.gpa;
}

static uint64_t mappings(void)
{
	struct vc_iommu_counts counts;

	vc_iommu_count(iommu, &counts);
	return counts.mappings;
}

START_TEST(domains)
{
	ck_assert_uint_eq(at(0, 0x1234, VC_IOMMU_READ | VC_IOMMU_WRITE), 0x1234); /* bypass */
	vc_iommu_set_bypass(iommu, false);
	ck_assert_uint_eq(at(0, 0x1234, VC_IOMMU_READ), UINT64_MAX);
	ck_assert_uint_eq(faults, 1);
	ck_assert_uint_eq(last_fault.reason, VC_IOMMU_FAULT_DOMAIN);
	ck_assert_uint_eq(last_fault.endpoint, 1 << 3);
	ck_assert_uint_eq(last_fault.iova, 0x1234);
	ck_assert_str_eq(p.last_log,
	                 "custom-pci at PCI 00:01.0: DMA from 0x1234 is blocked: the IOMMU has it in no domain");
	ck_assert_int_eq(map(7, 0x10000, 0, 1, 3), -ENOENT);
	ck_assert_int_eq(vc_iommu_attach(endpoints[0], 7, false), 0);
	ck_assert_int_eq(vc_iommu_attach(endpoints[1], 7, true), -EINVAL);
	ck_assert_int_eq(vc_iommu_attach(endpoints[1], 8, true), 0);
	ck_assert_int_eq(map(8, 0x10000, 0, 1, 3), -EINVAL);
	ck_assert_int_eq(unmap(8, 0x10000, 1), -EINVAL);
	ck_assert_uint_eq(at(1, 0x9999, VC_IOMMU_WRITE), 0x9999);
	ck_assert_int_eq(map(7, 0x10000, 0x3000, 2, VC_IOMMU_READ), 0);
	ck_assert_uint_eq(at(0, 0x11001, VC_IOMMU_READ), 0x4001);
	ck_assert_uint_eq(at(0, 0x11001, VC_IOMMU_WRITE), UINT64_MAX);
	ck_assert_uint_eq(last_fault.reason, VC_IOMMU_FAULT_MAPPING);
	ck_assert_uint_eq(last_fault.access, VC_IOMMU_WRITE);
	ck_assert_uint_eq(at(0, 0xffff, VC_IOMMU_READ), UINT64_MAX);
	ck_assert_uint_eq(at(0, 0x12000, VC_IOMMU_READ), UINT64_MAX);
	/* a second endpoint sees the same, and keeps it when the first goes */
	ck_assert_int_eq(vc_iommu_attach(endpoints[1], 7, false), 0);
	ck_assert_uint_eq(at(1, 0x10000, VC_IOMMU_READ), 0x3000);
	ck_assert_int_eq(vc_iommu_detach(endpoints[0], 8), -EINVAL);
	ck_assert_int_eq(vc_iommu_detach(endpoints[0], 7), 0);
	ck_assert_uint_eq(at(0, 0x10000, VC_IOMMU_READ), UINT64_MAX);
	ck_assert_uint_eq(at(1, 0x10000, VC_IOMMU_READ), 0x3000);
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, devs[1]), 0);
	ck_assert_int_eq(map(7, 0x20000, 0, 1, 3), -ENOENT);
	ck_assert_uint_eq(mappings(), 0);
	vc_iommu_set_driver(iommu, NULL, 0);
	ck_assert_uint_eq(at(0, 0x1234, VC_IOMMU_WRITE), 0x1234);
}
END_TEST

START_TEST(wrong_ranges)
{
	static const struct vc_iommu_range wrong[] = {
	    {0x10001, 0x10fff, 0, 3},
	    {0x10000, 0x10ffe, 0, 3},
	    {0x10000, 0x10fff, 0x10, 3},
	    {0x10000, 0xfff, 0, 3},
	    {0, UINT64_MAX, 0, 3},
	    {VC_IOMMU_LAST + 1, VC_IOMMU_LAST + PAGE, 0, 3},
	    {0x10000, 0x11fff, UINT64_MAX - PAGE + 1, 3},
	    {0xfee00000, 0xfee00fff, 0, 3},
	    {0xfeef0000, 0xfeffffff, 0, 3},
	    {0, 0xffffffff, 0, 3},
	};

	ck_assert_int_eq(vc_iommu_attach(endpoints[0], 1, false), 0);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(wrong); i++)
		ck_assert_int_eq(vc_iommu_map(iommu, 1, &wrong[i]), -ERANGE);
	ck_assert_int_eq(vc_iommu_unmap(iommu, 1, 0x2000, 0x1fff), -ERANGE);
	ck_assert_int_eq(map(1, VC_IOMMU_LAST - PAGE + 1, 0, 1, 3), 0);
	ck_assert_int_eq(vc_iommu_unmap(iommu, 1, VC_IOMMU_LAST + 1, UINT64_MAX), 0);
	ck_assert_uint_eq(mappings(), 1);
	ck_assert_int_eq(vc_iommu_unmap(iommu, 1, 0, UINT64_MAX), 0);
	ck_assert_uint_eq(mappings(), 0);
	for (unsigned i = 0; i < 4096; i++)
		ck_assert_int_eq(map(1, (uint64_t)i * PAGE, 0, 1, 1), 0);
	ck_assert_int_eq(map(1, VC_GIB(1), 0, 1, 1), -ENOMEM);
	ck_assert_int_eq(unmap(1, 0, 1), 0);
	ck_assert_int_eq(map(1, VC_GIB(1), 0, 1, 1), 0);
}
END_TEST

/* Against a page by page model: number of the mapping, 0: none. */
START_TEST(random_changes)
{
	enum { PAGES = 200, TURNS = 20000 };
	unsigned model[PAGES] = {0}, number = 0;
	uint64_t gpas[TURNS + 1];
	uint32_t seed = 1;

	ck_assert_int_eq(vc_iommu_attach(endpoints[0], 1, false), 0);
	for (unsigned turn = 0; turn < TURNS; turn++) {
		unsigned first, last, any = 0, cuts = 0;

		seed = seed * 1664525 + 1013904223;
		first = (seed >> 8) % PAGES;
		last = first + (seed >> 20) % 12;
		last = last < PAGES ? last : PAGES - 1;
		for (unsigned i = first; i <= last; i++)
			any |= model[i];
		cuts = (first > 0 && model[first] && model[first - 1] == model[first]) ||
		       (last + 1 < PAGES && model[last] && model[last + 1] == model[last]);
		if (seed & 64) {
			ck_assert_int_eq(map(1, first * (uint64_t)PAGE, turn * (uint64_t)PAGE * 16, last - first + 1, 3),
			                 any ? -EINVAL : 0);
			gpas[++number] = turn * (uint64_t)PAGE * 16 - first * (uint64_t)PAGE;
			for (unsigned i = first; !any && i <= last; i++)
				model[i] = number;
		} else {
			ck_assert_int_eq(unmap(1, first * (uint64_t)PAGE, last - first + 1), cuts ? -ERANGE : 0);
			for (unsigned i = first; !cuts && i <= last; i++)
				model[i] = 0;
		}
		for (unsigned i = turn % 16; i < PAGES; i += 16)
			ck_assert_uint_eq(at(0, i * (uint64_t)PAGE + 5, VC_IOMMU_WRITE),
			                  model[i] ? gpas[model[i]] + i * (uint64_t)PAGE + 5 : UINT64_MAX);
	}
}
END_TEST

/* ---- who holds ---- */

static struct vc_iommu_piece held;
static unsigned revoked;

static void let_go(void *ctx)
{
	revoked++;
	if (held.mapping)
		vc_iommu_let_go(held.mapping);
	held.mapping = NULL;
}

START_TEST(revoking)
{
	struct vc_iommu_cache cache = {0};

	vc_iommu_on_revoke(endpoints[0], let_go, NULL);
	ck_assert_int_eq(vc_iommu_attach(endpoints[0], 1, false), 0);
	revoked = 0;
	ck_assert_int_eq(map(1, 0x10000, 0, 1, 3), 0);
	ck_assert_int_eq(map(1, 0x20000, 0, 1, 3), 0);
	ck_assert(vc_iommu_hold(endpoints[0], &cache, 0x10010, VC_IOMMU_READ, &held));
	ck_assert_uint_eq(held.length, PAGE - 0x10);
	/* another mapping: nobody is disturbed */
	ck_assert_int_eq(unmap(1, 0x20000, 1), 0);
	ck_assert_uint_eq(revoked, 0);
	ck_assert_int_eq(unmap(1, 0x10000, 1), 0);
	ck_assert_uint_eq(revoked, 1);
	ck_assert_ptr_null(held.mapping);
	ck_assert_uint_eq(mappings(), 0);
	/* leaving the domain */
	ck_assert_int_eq(map(1, 0x10000, 0, 1, 3), 0);
	ck_assert(vc_iommu_hold(endpoints[0], &cache, 0x10010, VC_IOMMU_READ, &held));
	ck_assert_int_eq(vc_iommu_detach(endpoints[0], 1), 0);
	ck_assert_uint_eq(revoked, 2);
	ck_assert_ptr_null(held.mapping);
	/* a reset: nobody is asked, and what is taken away later does not wait for it */
	ck_assert_int_eq(vc_iommu_attach(endpoints[0], 1, false), 0);
	ck_assert_int_eq(map(1, 0x10000, 0, 1, 3), 0);
	ck_assert(vc_iommu_hold(endpoints[0], &cache, 0x10010, VC_IOMMU_READ, &held));
	revoked = 0;
	vc_iommu_clear(iommu);
	ck_assert_uint_eq(revoked, 0);
	ck_assert_int_eq(vc_iommu_attach(endpoints[1], 1, false), 0);
	ck_assert_int_eq(map(1, 0x10000, 0, 1, 3), 0);
	ck_assert_int_eq(unmap(1, 0x10000, 1), 0);
	ck_assert_ptr_nonnull(held.mapping);
	ck_assert_uint_eq(mappings(), 1);
	let_go(NULL);
	ck_assert_uint_eq(mappings(), 0);
	revoked = 2;
	/* and the bypass */
	ck_assert(vc_iommu_hold(endpoints[0], &cache, 0x10010, VC_IOMMU_READ, &held));
	vc_iommu_set_bypass(iommu, false);
	ck_assert_uint_eq(revoked, 3);
	ck_assert(!vc_iommu_hold(endpoints[0], &cache, 0x10010, VC_IOMMU_READ, &held));
}
END_TEST

/* ---- threads: what is held is never another mapping, and an unmap waits for it ---- */

static _Atomic bool stop;
static _Atomic uint64_t found;
static _Atomic uint32_t in_use[8];

static void *look(void *ctx)
{
	unsigned n = (unsigned)(uintptr_t)ctx, i = n;
	struct vc_iommu_cache cache = {0};
	struct vc_iommu_piece piece;

	while (!atomic_load(&stop)) {
		i = (i * 5 + 3) % 8;
		if (!vc_iommu_hold(endpoints[n], &cache, i * (uint64_t)PAGE, VC_IOMMU_READ, &piece))
			continue;
		atomic_fetch_add(&in_use[i], 1);
		if (piece.gpa != (i + 100) * (uint64_t)PAGE || piece.length != PAGE)
			abort();
		atomic_fetch_add(&found, 1);
		atomic_fetch_sub(&in_use[i], 1);
		vc_iommu_let_go(piece.mapping);
	}
	return NULL;
}

START_TEST(threads)
{
	pthread_t t[THREADS];

	p.log.level = VCORE_LOG_ERROR; /* the fixture's is not for threads */
	for (unsigned i = 0; i < FUNCTIONS; i++)
		ck_assert_int_eq(vc_iommu_attach(endpoints[i], 1, false), 0);
	vc_iommu_set_function(iommu, NULL); /* nor its faults */
	atomic_store(&stop, false);
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, look, (void *)(uintptr_t)i), 0);
	for (unsigned turn = 0; turn < 4000 || atomic_load(&found) < 1000; turn++) {
		unsigned i = turn % 8;

		ck_assert_int_eq(map(1, i * (uint64_t)PAGE, (i + 100) * (uint64_t)PAGE, 1, 1), 0);
		if (turn % 16 == 0)
			sched_yield();
		if (turn >= 3) {
			i = (turn - 3) % 8;
			ck_assert_int_eq(unmap(1, i * (uint64_t)PAGE, 1), 0);
			ck_assert_uint_eq(atomic_load(&in_use[i]), 0);
		}
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
}
END_TEST

/* ---- a listener, such as for a device that is passed through ---- */

struct fake {
	uint64_t pages[64]; /* by IOVA: its GPA and 1; 0: nothing */
	bool bypass;
	unsigned calls, refuse; /* after so many calls, 0: never */
};

static int fake_map(void *ctx, const struct vc_iommu_range *range)
{
	struct fake *f = ctx;

	ck_assert(!f->bypass);
	if (++f->calls == f->refuse)
		return vc_fail(ENOSPC, "no more of it");
	for (uint64_t i = range->first; i < range->last; i += PAGE) {
		ck_assert_uint_eq(f->pages[i / PAGE], 0);
		f->pages[i / PAGE] = range->gpa + (i - range->first) + 1;
	}
	return 0;
}

static void fake_unmap(void *ctx, const struct vc_iommu_range *range)
{
	struct fake *f = ctx;

	for (uint64_t i = range->first; i < range->last; i += PAGE) {
		ck_assert_uint_eq(f->pages[i / PAGE], range->gpa + (i - range->first) + 1);
		f->pages[i / PAGE] = 0;
	}
}

static int fake_bypass(void *ctx, bool on)
{
	struct fake *f = ctx;

	ck_assert(f->bypass != on);
	ck_assert(vc_is_zero(f->pages, sizeof f->pages));
	f->bypass = on;
	return 0;
}

static const struct vc_iommu_listener fake_ops = {fake_map, fake_unmap, fake_bypass};

START_TEST(listeners)
{
	struct fake a = {0}, b = {0};

	ck_assert_int_eq(vc_iommu_listen(endpoints[0], &fake_ops, &a), 0);
	ck_assert_int_eq(vc_iommu_listen(endpoints[0], &fake_ops, &a), -EBUSY);
	ck_assert(a.bypass);
	ck_assert_int_eq(vc_iommu_attach(endpoints[0], 1, false), 0);
	ck_assert(!a.bypass);
	ck_assert_int_eq(map(1, 2 * PAGE, 0x8000, 3, 3), 0);
	ck_assert_uint_eq(a.pages[4], 0xa001);
	/* a second one is told of what is there */
	ck_assert_int_eq(vc_iommu_attach(endpoints[1], 1, false), 0);
	ck_assert_int_eq(vc_iommu_listen(endpoints[1], &fake_ops, &b), 0);
	ck_assert_mem_eq(a.pages, b.pages, sizeof a.pages);
	/* a refusal undoes it for the other, too */
	b.refuse = b.calls + 1;
	ck_assert_int_eq(map(1, 10 * PAGE, 0x8000, 1, 3), -ENOSPC);
	ck_assert_uint_eq(a.pages[10], 0);
	ck_assert_uint_eq(at(0, 10 * PAGE, VC_IOMMU_READ), UINT64_MAX);
	ck_assert_int_eq(map(1, 10 * PAGE, 0x8000, 1, 3), 0);
	ck_assert_uint_eq(b.pages[10], 0x8001);
	ck_assert_int_eq(unmap(1, 2 * PAGE, 3), 0);
	ck_assert_uint_eq(a.pages[3], 0);
	ck_assert_uint_eq(b.pages[3], 0);
	/* a refused attach leaves it in no domain */
	ck_assert_int_eq(vc_iommu_detach(endpoints[1], 1), 0);
	ck_assert(b.bypass);
	ck_assert_int_eq(map(1, 12 * PAGE, 0x8000, 1, 3), 0);
	b.refuse = b.calls + 2;
	ck_assert_int_eq(vc_iommu_attach(endpoints[1], 1, false), -ENOSPC);
	ck_assert(b.bypass);
	vc_iommu_set_bypass(iommu, false);
	ck_assert(!b.bypass);
	vc_iommu_set_bypass(iommu, true);
	vc_iommu_unlisten(endpoints[1]);
	ck_assert(!b.bypass);
	vc_iommu_clear(iommu);
	ck_assert(a.bypass);
	vc_iommu_unlisten(endpoints[0]);
	ck_assert(!a.bypass);
}
END_TEST

START_TEST(copies)
{
	uint8_t out[3 * PAGE], in[3 * PAGE];
	struct vc_iommu_endpoint *e = endpoints[0];

	for (unsigned i = 0; i < sizeof out; i++)
		out[i] = (uint8_t)(i * 7 + i / 256);
	ck_assert_int_eq(vc_iommu_attach(e, 1, false), 0);
	/* adjacent IOVAs, memory in reverse order */
	ck_assert_int_eq(map(1, 0x10000, 0x32000, 1, 3), 0);
	ck_assert_int_eq(map(1, 0x11000, 0x31000, 1, 3), 0);
	ck_assert_int_eq(map(1, 0x12000, 0x30000, 1, VC_IOMMU_READ), 0);
	ck_assert_int_eq(vc_iommu_copy(e, &p.mem, 0x10800, out, PAGE, true), 0);
	ck_assert_int_eq(vc_iommu_copy(e, &p.mem, 0x10800, in, PAGE, false), 0);
	ck_assert_mem_eq(in, out, PAGE);
	ck_assert_int_eq(vc_iommu_copy(NULL, &p.mem, 0x31000, in, 0x800, false), 0);
	ck_assert_mem_eq(in, out + 0x800, 0x800);
	ck_assert_int_eq(vc_iommu_copy(e, &p.mem, 0x11800, out, PAGE, true), -EFAULT);
	ck_assert_uint_eq(last_fault.iova, 0x12000);
	ck_assert_int_eq(vc_iommu_copy(e, &p.mem, 0x12000, in, PAGE + 1, false), -EFAULT);
	ck_assert_uint_eq(last_fault.iova, 0x13000);
	ck_assert_uint_eq(faults, 2);
	/* memory that is not there is no fault of the IOMMU's */
	ck_assert_int_eq(map(1, 0x20000, VC_GIB(2), 1, 3), 0);
	ck_assert_int_eq(vc_iommu_copy(e, &p.mem, 0x20000, in, 1, false), -EFAULT);
	ck_assert_uint_eq(faults, 2);
}
END_TEST

START_TEST(state)
{
	static uint8_t saved[4096];
	int64_t length;

	ck_assert_int_eq(vc_iommu_attach(endpoints[0], 1, false), 0);
	ck_assert_int_eq(vc_iommu_attach(endpoints[1], 1, false), 0);
	ck_assert_int_eq(vc_iommu_attach(endpoints[2], 5, true), 0);
	for (unsigned i = 0; i < 20; i++)
		ck_assert_int_eq(map(1, i * 3ull * PAGE, i * 2ull * PAGE, 2, 1 + i % 3), 0);
	vc_iommu_set_bypass(iommu, false);
	length = vc_iommu_save(iommu, NULL, 0);
	ck_assert_int_eq(vc_iommu_save(iommu, saved, sizeof saved), length);
	ck_assert_int_eq(vc_iommu_save(iommu, saved, (size_t)length - 1), -ENOSPC);
	vc_iommu_clear(iommu);
	vc_iommu_set_bypass(iommu, true);
	ck_assert_uint_eq(mappings(), 0);
	ck_assert_int_eq(vc_iommu_load(iommu, p.env.pci, saved, (size_t)length), 0);
	ck_assert(!vc_iommu_bypass(iommu));
	ck_assert_uint_eq(mappings(), 20);
	ck_assert_uint_eq(at(0, 6 * PAGE + 1, VC_IOMMU_READ | VC_IOMMU_WRITE), 4 * PAGE + 1);
	ck_assert_uint_eq(at(1, 3 * PAGE + 1, VC_IOMMU_READ), UINT64_MAX);
	ck_assert_uint_eq(at(1, 3 * PAGE + 1, VC_IOMMU_WRITE), 2 * PAGE + 1);
	ck_assert_uint_eq(at(2, 77, VC_IOMMU_WRITE), 77);
	for (int64_t cut = 1; cut < length; cut += 7)
		ck_assert_int_eq(vc_iommu_load(iommu, p.env.pci, saved, (size_t)(length - cut)), -EINVAL);
	/* an endpoint that is not there, and mappings that overlap */
	saved[24] = 99;
	ck_assert_int_eq(vc_iommu_load(iommu, p.env.pci, saved, (size_t)length), -EINVAL);
	saved[24] = 1 << 3;
	memcpy(saved + 24 + 3 * 16, saved + 24 + 3 * 16 + 32, 32);
	ck_assert_int_eq(vc_iommu_load(iommu, p.env.pci, saved, (size_t)length), -EINVAL);
	ck_assert_uint_eq(mappings(), 0);
}
END_TEST

START_TEST(places)
{
	struct vc_visit visit;
	struct vc_iommu *second;

	ck_assert_int_eq(vc_pci_make_iommu(p.env.pci, &p.log, &second), 0);
	ck_assert_ptr_eq(second, iommu);
	ck_assert_int_eq(vc_iommu_set_driver(second, &(struct vc_iommu_driver){.fault = take_fault}, 1), -EBUSY);
	ck_assert_ptr_null(vc_pci_visit_requester(p.env.pci, 31 << 3, &visit));
	ck_assert_ptr_null(vc_pci_visit_requester(p.env.pci, 1 << 16 | 1 << 3, &visit));
	ck_assert_ptr_null(vc_pci_visit_requester(p.env.pci, 1 << 8, &visit));
	ck_assert_ptr_eq(vc_pci_visit_requester(p.env.pci, 2 << 3, &visit), endpoints[1]);
	vc_dev_leave(&p.buses, &visit);
	ck_assert_uint_eq(vc_pci_place(vc_pci_function_of(devs[1])), 2 << 3);
	ck_assert_ptr_eq(vc_pci_endpoint_at(p.env.pci, 2 << 3), endpoints[1]);
	ck_assert_ptr_null(vc_pci_endpoint_at(p.env.pci, 1u << 31 | 2 << 3));
	ck_assert_ptr_null(vc_pci_endpoint_at(p.env.pci, 1u << 30));
	ck_assert_ptr_null(vc_pci_endpoint_at(p.env.pci, 30 << 3));
}
END_TEST

START_TEST(too_late)
{
	struct vc_iommu *none;

	platform_fini(&p);
	platform_init(&p, VC_MIB(4));
	ck_assert_int_eq(vc_pci_host_new(&p.env), 0);
	add_function();
	ck_assert_int_eq(vc_pci_make_iommu(p.env.pci, &p.log, &none), -EBUSY);
	ck_assert_ptr_null(vc_pci_iommu(p.env.pci));
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("iommu");

	tcase_set_timeout(cases, 60);
	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, domains);
	tcase_add_test(cases, wrong_ranges);
	tcase_add_test(cases, random_changes);
	tcase_add_test(cases, revoking);
	tcase_add_test(cases, threads);
	tcase_add_test(cases, listeners);
	tcase_add_test(cases, copies);
	tcase_add_test(cases, state);
	tcase_add_test(cases, places);
	tcase_add_test(cases, too_late);
	return platform_run("iommu", cases);
}
