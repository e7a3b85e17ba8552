/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table a vcpu answers CPUID from (SDM vol. 2, CPUID), and what the host's CPU has. */
#include "cpu/cpuid.h"

#include <cpuid.h>
#include <stdio.h>

#include "core/error.h"
#include "core/util.h"
#include "cpu/models.h"
#include "cpu/state.h"

#define MAX_BASIC      0x16u
#define MAX_EXTENDED   0x80000008u
#define MAX_HYPERVISOR 0x40000010u
#define XSAVE_LEGACY   576u /* legacy region and header */
#define AVX_SIZE       256u
#define AVX_OFFSET     576u

static const struct {
	uint32_t leaf, subleaf;
	uint8_t reg, bit;
} feature_bits[] = {[VC_F_NONE] = {0, 0, 0, 0},
#define X(id, name, leaf, sub, reg, bit) [VC_F_##id] = {leaf, sub, reg, bit},
                    VC_FEATURES(X)
#undef X
};

/* ---- the host ---- */

static uint64_t host_xcr0(void)
{
	uint32_t low, high;

	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

void vc_cpuid_host(struct vc_feature_set *features)
{
	uint32_t leaf = 0, subleaf = ~0u, r[4] = {0};

	*features = (struct vc_feature_set){0};
	for (int f = VC_F_NONE + 1; f < VC_F_COUNT; f++) {
		/* neighbours in the list share a leaf: CPUID is slow inside a vm */
		if (feature_bits[f].leaf != leaf || feature_bits[f].subleaf != subleaf) {
			leaf = feature_bits[f].leaf;
			subleaf = feature_bits[f].subleaf;
			if ((leaf >> 28) == 4 || !__get_cpuid_count(leaf, subleaf, &r[0], &r[1], &r[2], &r[3]))
				memset(r, 0, sizeof r);
		}
		vc_feature_put(features, f, r[feature_bits[f].reg] >> feature_bits[f].bit & 1);
	}
	__cpuid(1, r[0], r[1], r[2], r[3]);
	if (!(r[VC_ECX] >> 27 & 1)) /* OSXSAVE: the kernel below does not switch extended state */
		vc_feature_put(features, VC_F_XSAVE, false);
	else if (!(host_xcr0() & VC_XSTATE_AVX))
		vc_feature_put(features, VC_F_AVX, false);
	vc_feature_drop_orphans(features);
}

uint64_t vc_cpuid_xcr0_mask(const struct vc_feature_set *features)
{
	if (!vc_feature_has(features, VC_F_XSAVE))
		return VC_XSTATE_X87;
	return VC_XSTATE_X87 | VC_XSTATE_SSE | (vc_feature_has(features, VC_F_AVX) ? VC_XSTATE_AVX : 0);
}

/* ---- building ---- */

static struct vc_cpuid_entry *add(struct vc_cpuid *c, uint32_t leaf, uint32_t subleaf, bool has_subleaf)
{
	struct vc_cpuid_entry *e = &c->entries[c->count++];

	*e = (struct vc_cpuid_entry){.leaf = leaf, .subleaf = subleaf, .has_subleaf = has_subleaf};
	return e;
}

static struct vc_cpuid_entry *find(const struct vc_cpuid *c, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < c->count; i++) {
		const struct vc_cpuid_entry *e = &c->entries[i];

		if (e->leaf == leaf && (!e->has_subleaf || e->subleaf == subleaf))
			return (struct vc_cpuid_entry *)(uintptr_t)e;
	}
	return NULL;
}

static void set4(struct vc_cpuid_entry *e, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	e->regs[VC_EAX] = a;
	e->regs[VC_EBX] = b;
	e->regs[VC_ECX] = c;
	e->regs[VC_EDX] = d;
}

/* Family, model, stepping as leaf 1 has them. */
static uint32_t signature(const struct vc_cpu_model *m)
{
	uint32_t family = m->family < 15 ? m->family : 15, extended = m->family < 15 ? 0 : m->family - 15, a, b, c, d;

	if (!m->family) {
		__cpuid(1, a, b, c, d);
		return a & 0x0fff3fff;
	}
	return extended << 20 | (m->model >> 4) << 16 | family << 8 | (m->model & 15) << 4 | m->stepping;
}

static void add_vendor(struct vc_cpuid *c, const struct vc_cpu_model *m)
{
	uint32_t a, r[3];

	if (!m->family)
		__cpuid(0, a, r[0], r[2], r[1]);
	else
		memcpy(r, m->amd ? "AuthenticAMD" : "GenuineIntel", sizeof r);
	set4(add(c, 0, 0, false), MAX_BASIC, r[0], r[2], r[1]);
	set4(add(c, 0x80000000, 0, false), MAX_EXTENDED, r[0], r[2], r[1]);
}

static void add_brand(struct vc_cpuid *c, const struct vc_cpu_model *m)
{
	char text[48] = {0};
	uint32_t r[12];

	if (m->family)
		snprintf(text, sizeof text, "libvirtcore %s", m->name);
	memcpy(r, text, sizeof r);
	for (uint32_t i = 0; i < 3; i++) {
		if (!m->family)
			__cpuid(0x80000002 + i, r[i * 4], r[i * 4 + 1], r[i * 4 + 2], r[i * 4 + 3]);
		set4(add(c, 0x80000002 + i, 0, false), r[i * 4], r[i * 4 + 1], r[i * 4 + 2], r[i * 4 + 3]);
	}
}

static uint32_t log2_up(uint32_t n)
{
	return n > 1 ? 32 - (uint32_t)__builtin_clz(n - 1) : 0;
}

/* One package, a core a vcpu. */
static void add_topology(struct vc_cpuid *c, uint32_t vcpus)
{
	uint32_t bits = log2_up(vcpus);

	set4(add(c, 0xb, 0, true), 0, 1, 1u << 8 | 0, 0);
	set4(add(c, 0xb, 1, true), bits, vcpus, 2u << 8 | 1, 0);
	set4(add(c, 0xb, 2, true), 0, 0, 2, 0);
}

/* Deterministic cache parameters: type, level, ways, sets, all with 64-byte lines. */
static void add_caches(struct vc_cpuid *c, uint32_t vcpus)
{
	static const struct {
		uint8_t type, level;
		uint32_t ways, sets;
	} caches[] = {{1, 1, 8, 64}, {2, 1, 8, 64}, {3, 2, 16, 1024}, {3, 3, 16, 16384}};
	uint32_t cores = (1u << log2_up(vcpus)) - 1;

	for (uint32_t i = 0; i < VC_ARRAY_SIZE(caches); i++) {
		uint32_t sharing = caches[i].level == 3 ? cores : 0;

		set4(add(c, 4, i, true),
		     caches[i].type | (uint32_t)caches[i].level << 5 | 1u << 8 | sharing << 14 |
		         (cores < 63 ? cores : 63) << 26,
		     63 | (caches[i].ways - 1) << 22, caches[i].sets - 1, 0);
	}
	add(c, 4, VC_ARRAY_SIZE(caches), true);
}

static void add_xsave(struct vc_cpuid *c)
{
	uint64_t mask = vc_cpuid_xcr0_mask(&c->features);
	bool avx = mask & VC_XSTATE_AVX;
	uint32_t size = XSAVE_LEGACY + (avx ? AVX_SIZE : 0);

	if (!vc_feature_has(&c->features, VC_F_XSAVE)) {
		add(c, 0xd, 0, true);
		return;
	}
	/* EBX is filled in by the query: it follows XCR0 */
	set4(add(c, 0xd, 0, true), (uint32_t)mask, size, size, 0);
	add(c, 0xd, 1, true);
	if (avx)
		set4(add(c, 0xd, 2, true), AVX_SIZE, AVX_OFFSET, 0, 0);
}

static void add_hypervisor(struct vc_cpuid *c, uint64_t tsc_khz)
{
	uint32_t r[3];

	memcpy(r, "KVMKVMKVM\0\0\0", sizeof r);
	set4(add(c, 0x40000000, 0, false), MAX_HYPERVISOR, r[0], r[1], r[2]);
	add(c, 0x40000001, 0, false);
	/* TSC and APIC bus frequency in kHz, as other hypervisors tell them too */
	set4(add(c, 0x40000010, 0, false), (uint32_t)tsc_khz, 1000000, 0, 0);
}

static void add_leaves(struct vc_cpuid *c, const struct vc_cpu_model *m, const struct vc_cpu_model_request *request)
{
	uint32_t la57 = vc_feature_has(&c->features, VC_F_LA57) ? 57 : 48;

	add_vendor(c, m);
	set4(add(c, 1, 0, false), signature(m), 8u << 8, 0, 0); /* CLFLUSH lines of 8 quadwords */
	set4(add(c, 2, 0, false), 0x00feff01, 0, 0, 0);         /* caches and TLBs: see leaf 4 */
	add_caches(c, request->vcpus);
	set4(add(c, 5, 0, false), 64, 64, 3, 0); /* MONITOR line size */
	add(c, 6, 0, false);
	add(c, 7, 0, true);
	add_topology(c, request->vcpus);
	add_xsave(c);
	/* TSC = crystal * EBX / EAX, with a crystal of 1 MHz; frequencies that are no whole MHz are left to the clocks */
	if (request->tsc_khz && request->tsc_khz % 1000 == 0)
		set4(add(c, 0x15, 0, false), 1, (uint32_t)(request->tsc_khz / 1000), 1000000, 0);
	else
		add(c, 0x15, 0, false);
	set4(add(c, 0x16, 0, false), (uint32_t)(request->tsc_khz / 1000), (uint32_t)(request->tsc_khz / 1000), 100, 0);
	if (vc_feature_has(&c->features, VC_F_HYPERVISOR))
		add_hypervisor(c, request->tsc_khz);
	set4(add(c, 0x80000001, 0, false), m->amd ? signature(m) : 0, 0, 0, 0);
	add_brand(c, m);
	set4(add(c, 0x80000005, 0, false), 0, 0, 32u << 24 | 8u << 16 | 1u << 8 | 64, 32u << 24 | 8u << 16 | 1u << 8 | 64);
	set4(add(c, 0x80000006, 0, false), 0, 0, 1024u << 16 | 8u << 12 | 64, 0);
	add(c, 0x80000007, 0, false);
	set4(add(c, 0x80000008, 0, false), c->phys_bits | la57 << 8, 0, request->vcpus > 1 ? request->vcpus - 1 : 0, 0);
}

static void put_features(struct vc_cpuid *c, bool amd)
{
	for (int f = VC_F_NONE + 1; f < VC_F_COUNT; f++) {
		struct vc_cpuid_entry *e = find(c, feature_bits[f].leaf, feature_bits[f].subleaf);

		if (e && vc_feature_has(&c->features, f))
			e->regs[feature_bits[f].reg] |= 1u << feature_bits[f].bit;
	}
	/* AMD repeats leaf 1's EDX features in 0x80000001 */
	if (amd)
		find(c, 0x80000001, 0)->regs[VC_EDX] |= find(c, 1, 0)->regs[VC_EDX] & 0x0183f3ff;
}

static void name_missing(const struct vc_feature_set *wanted, const struct vc_feature_set *got, char *text,
                         size_t length)
{
	size_t used = 0;

	if (!text || !length)
		return;
	text[0] = '\0';
	for (int f = VC_F_NONE + 1; f < VC_F_COUNT && used < length; f++)
		if (vc_feature_has(wanted, f) && !vc_feature_has(got, f))
			used += (size_t)snprintf(text + used, length - used, "%s%s", used ? "," : "", vc_feature_name(f));
}

static bool host_is_amd(void)
{
	uint32_t a, b, c, d;

	__cpuid(0, a, b, c, d);
	return b == 0x68747541; /* "Auth" */
}

int vc_cpuid_build(const struct vc_cpu_model_request *request, struct vc_cpuid *c, char *missing, size_t missing_length)
{
	struct vc_feature_set wanted;
	struct vc_cpu_choice choice;
	int r = vc_cpu_choose(request->model ? request->model : request->fallback, &choice);

	if (r < 0)
		return r;
	for (int f = VC_F_NONE + 1; f < VC_F_COUNT; f++)
		if (vc_feature_has(&choice.added, f) && !vc_feature_has(request->offered, f))
			return vc_fail(ENOTSUP, "CPU feature \"%s\" was asked for, but the backend cannot give it here",
			               vc_feature_name(f));
	vc_cpu_choice_features(&choice, request->offered, &wanted);
	*c = (struct vc_cpuid){.max_basic = MAX_BASIC, .max_extended = MAX_EXTENDED, .phys_bits = request->phys_bits};
	for (int i = 0; i < 2; i++)
		c->features.bits[i] = wanted.bits[i] & request->offered->bits[i];
	vc_feature_drop_orphans(&c->features);
	/* more than one vcpu shares the package */
	vc_feature_put(&c->features, VC_F_HTT, request->vcpus > 1);
	vc_feature_put(&wanted, VC_F_HTT, request->vcpus > 1);
	name_missing(&wanted, &c->features, missing, missing_length);
	add_leaves(c, choice.model, request);
	put_features(c, choice.model->amd || (!choice.model->family && host_is_amd()));
	vc_cpuid_set_apic_id(c, 0, request->vcpus);
	return 0;
}

void vc_cpuid_set_apic_id(struct vc_cpuid *c, uint32_t apic_id, uint32_t vcpus)
{
	struct vc_cpuid_entry *e = find(c, 1, 0);

	e->regs[VC_EBX] = (e->regs[VC_EBX] & 0xff00) | (apic_id & 0xff) << 24 | (vcpus & 0xff) << 16;
	for (uint32_t i = 0; i < 3; i++)
		find(c, 0xb, i)->regs[VC_EDX] = apic_id;
}

/* ---- answering ---- */

static uint32_t xsave_size(uint64_t components)
{
	return components & VC_XSTATE_AVX ? AVX_OFFSET + AVX_SIZE : XSAVE_LEGACY;
}

static void adjust(const struct vc_cpuid *c, uint64_t cr4, uint64_t xcr0, uint64_t apic_base, uint32_t leaf,
                   uint32_t subleaf, uint32_t out[4])
{
	if (leaf == 1) {
		if ((cr4 & VC_CR4_OSXSAVE) && vc_feature_has(&c->features, VC_F_XSAVE))
			out[VC_ECX] |= 1u << 27;
		if (!(apic_base & 0x800))
			out[VC_EDX] &= ~(1u << 9);
	} else if (leaf == 0xd && subleaf <= 1 && vc_feature_has(&c->features, VC_F_XSAVE)) {
		/* compacted or not: with x87, SSE and AVX alone the sizes are the same */
		if (subleaf == 0 || vc_feature_has(&c->features, VC_F_XSAVEC))
			out[VC_EBX] = xsave_size(xcr0);
	}
}

void vc_cpuid_query(const struct vc_cpuid *c, uint64_t cr4, uint64_t xcr0, uint64_t apic_base, uint32_t leaf,
                    uint32_t subleaf, uint32_t out[4])
{
	const struct vc_cpuid_entry *e;

	/* beyond the last leaf Intel's CPUs answer as the highest basic one */
	bool hypervisor = leaf >> 16 == 0x4000 && vc_feature_has(&c->features, VC_F_HYPERVISOR);
	bool extended = leaf >= 0x80000000u;

	if ((!hypervisor && !extended && leaf > c->max_basic) || (extended && leaf > c->max_extended))
		leaf = c->max_basic;
	e = find(c, leaf, subleaf);
	if (e)
		memcpy(out, e->regs, sizeof e->regs);
	else
		memset(out, 0, sizeof e->regs);
	/* the level that ends the enumeration of leaf 0xb still tells the subleaf asked for and the APIC ID (SDM) */
	if (!e && leaf == 0xb) {
		const struct vc_cpuid_entry *first = find(c, 0xb, 0);

		out[VC_ECX] = subleaf & 0xff;
		out[VC_EDX] = first ? first->regs[VC_EDX] : 0;
	}
	adjust(c, cr4, xcr0, apic_base, leaf, subleaf, out);
}
