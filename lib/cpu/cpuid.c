/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The CPUID table of a vcpu: SDM vol. 2, CPUID; AMD APM vol. 3 appendix E; the KVM leaves of
 * Documentation/virt/kvm/x86/cpuid.rst. */
#include "cpu/cpuid.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "core/util.h"
#include "cpu/models.h"
#include "cpu/state.h"

#define MAX_BASIC         0x16u
#define MAX_HYPERVISOR    0x40000010u
#define MAX_EXTENDED      0x80000008u
#define MAX_VCPUS         255u
#define DEFAULT_PHYS_BITS 40u

#define LAPIC_HZ         1000000000u /* timer input of the LAPIC, which Linux takes the crystal of leaf 0x15 for */
#define XSAVE_LEGACY     576u        /* bytes: x87, SSE, header */
#define XSAVE_AVX        256u
#define OSXSAVE_BIT      (1u << 27) /* leaf 1 ECX */
#define OSPKE_BIT        (1u << 4)  /* leaf 7 ECX */
#define APIC_BIT         (1u << 9)  /* leaf 1 EDX; also leaf 0x80000001 of AMD */
#define APIC_BASE_ENABLE 0x800u

/* Leaf 0x80000001 EDX of AMD repeats these bits of leaf 1. */
#define AMD_REPEATED 0x0183f3ffu

static const struct {
	const char *name;
	uint32_t leaf, subleaf;
	uint8_t reg, bit;
} features[VC_F_COUNT] = {
#define X(id, text, l, s, r, b) [VC_F_##id] = {.name = (text), .leaf = (l), .subleaf = (s), .reg = (r), .bit = (b)},
    VC_FEATURES(X)
#undef X
};

const char *vc_feature_name(enum vc_feature f)
{
	return f > VC_F_NONE && f < VC_F_COUNT ? features[f].name : "?";
}

uint64_t vc_cpuid_xcr0_mask(const struct vc_feature_set *set)
{
	if (!vc_feature_has(set, VC_F_XSAVE))
		return 0;
	return VC_XSTATE_X87 | VC_XSTATE_SSE | (vc_feature_has(set, VC_F_AVX) ? VC_XSTATE_AVX : 0);
}

/* ---- the host ---- */

static uint64_t host_xcr0(void)
{
	uint32_t low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

void vc_cpuid_host(struct vc_feature_set *set)
{
	uint32_t regs[4] = {0}, leaf = 0, subleaf = 0;
	uint64_t xcr0 = 0;

	*set = (struct vc_feature_set){{0, 0}};
	for (unsigned f = VC_F_NONE + 1; f < VC_F_COUNT; f++) {
		if (features[f].leaf >> 16 == 0x4000)
			continue; /* given by a hypervisor, not by the CPU */
		if (features[f].leaf != leaf || features[f].subleaf != subleaf) {
			/* the table is sorted by leaf: CPUID is slow, and asked once each */
			leaf = features[f].leaf;
			subleaf = features[f].subleaf;
			if (!__get_cpuid_count(leaf, subleaf, &regs[VC_EAX], &regs[VC_EBX], &regs[VC_ECX], &regs[VC_EDX]))
				memset(regs, 0, sizeof regs);
			if (leaf == 1 && regs[VC_ECX] & OSXSAVE_BIT)
				xcr0 = host_xcr0();
		}
		vc_feature_put(set, f, regs[features[f].reg] >> features[f].bit & 1);
	}
	/* what the host kernel does not save cannot be used */
	if ((xcr0 & (VC_XSTATE_X87 | VC_XSTATE_SSE)) != (VC_XSTATE_X87 | VC_XSTATE_SSE))
		vc_feature_put(set, VC_F_XSAVE, false);
	if (!(xcr0 & VC_XSTATE_AVX))
		vc_feature_put(set, VC_F_AVX, false);
	vc_features_drop_dependents(set);
}

/* ---- building the table ---- */

static void add_leaf(struct vc_cpuid *c, uint32_t leaf, uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	if (c->count < VC_CPUID_MAX)
		c->entries[c->count++] = (struct vc_cpuid_entry){.leaf = leaf, .regs = {eax, ebx, ecx, edx}};
}

static void add_subleaf(struct vc_cpuid *c, uint32_t leaf, uint32_t subleaf, const uint32_t regs[4])
{
	add_leaf(c, leaf, regs[0], regs[1], regs[2], regs[3]);
	c->entries[c->count - 1].subleaf = subleaf;
	c->entries[c->count - 1].has_subleaf = 1;
}

static bool is_amd(const struct vc_cpu_identity *identity)
{
	return strcmp(identity->vendor, "AuthenticAMD") == 0 || strcmp(identity->vendor, "HygonGenuine") == 0;
}

/* Bits that number `vcpus` processors. */
static unsigned id_bits(uint32_t vcpus)
{
	return vcpus > 1 ? 32 - (unsigned)__builtin_clz(vcpus - 1) : 0;
}

static void add_vendor(struct vc_cpuid *c, uint32_t leaf, uint32_t max, const char vendor[13])
{
	add_leaf(c, leaf, max, vc_ld32(vendor), vc_ld32(vendor + 8), vc_ld32(vendor + 4));
}

struct cache {
	uint8_t type, level; /* 1 data, 2 instruction, 3 unified */
	uint8_t ways;
	uint32_t sets;
};
#define LINE 64u
static const struct cache caches[] = {
    {.type = 1, .level = 1, .ways = 8, .sets = 64},     /* 32 KiB */
    {.type = 2, .level = 1, .ways = 8, .sets = 64},     /* 32 KiB */
    {.type = 3, .level = 2, .ways = 8, .sets = 1024},   /* 512 KiB */
    {.type = 3, .level = 3, .ways = 16, .sets = 16384}, /* 16 MiB, shared by the package */
};

/* Leaf 4: deterministic cache parameters. */
static void add_caches(struct vc_cpuid *c, uint32_t vcpus)
{
	uint32_t ids = 1u << id_bits(vcpus), cores = ids > 64 ? 63 : ids - 1;

	for (uint32_t n = 0; n < VC_ARRAY_SIZE(caches); n++) {
		const struct cache *cache = &caches[n];
		uint32_t sharing = cache->level == 3 ? ids - 1 : 0;
		const uint32_t regs[4] = {
		    cache->type | cache->level << 5 | 1u << 8 /* self-initializing */ | sharing << 14 | cores << 26,
		    (LINE - 1) | (uint32_t)(cache->ways - 1) << 22, cache->sets - 1,
		    cache->level == 3 ? 1u << 1 : 0, /* L3 is inclusive */
		};

		add_subleaf(c, 4, n, regs);
	}
}

/* Leaf 0xb: one thread a core, one package. EDX, the x2APIC ID, is set by vc_cpuid_set_apic_id(). */
static void add_topology(struct vc_cpuid *c, uint32_t vcpus)
{
	const uint32_t smt[4] = {0, 1, 1u << 8 | 0, 0};
	const uint32_t core[4] = {id_bits(vcpus), vcpus, 2u << 8 | 1, 0};

	add_subleaf(c, 0xb, 0, smt);
	add_subleaf(c, 0xb, 1, core);
}

/* Leaf 0xd. EBX of subleaves 0 and 1 depends on XCR0: vc_cpuid_query() fills it. */
static void add_xsave(struct vc_cpuid *c)
{
	uint32_t mask = (uint32_t)vc_cpuid_xcr0_mask(&c->features);
	bool avx = mask & VC_XSTATE_AVX;
	const uint32_t main[4] = {mask, XSAVE_LEGACY, XSAVE_LEGACY + (avx ? XSAVE_AVX : 0), 0};
	const uint32_t extended[4] = {0, 0, 0, 0};
	const uint32_t ymm[4] = {XSAVE_AVX, XSAVE_LEGACY, 0, 0};

	if (!mask)
		return;
	add_subleaf(c, 0xd, 0, main);
	add_subleaf(c, 0xd, 1, extended);
	if (avx)
		add_subleaf(c, 0xd, 2, ymm);
}

/*
 * Leaf 0x15: TSC = crystal * EBX / EAX. The fraction is the nearest to tsc_khz that keeps crystal kHz * EBX, which
 * Linux computes so, within 32 bits; leaf 0x40000010 is exact.
 */
static void add_tsc(struct vc_cpuid *c, uint64_t tsc_khz)
{
	const uint64_t crystal_khz = LAPIC_HZ / 1000, largest = UINT32_MAX / crystal_khz;
	uint32_t numerator = 0, denominator = 0;
	uint64_t best = UINT64_MAX;

	for (uint64_t d = 1; d <= largest; d++) {
		uint64_t n = (tsc_khz * d + crystal_khz / 2) / crystal_khz, khz, error;

		if (n > largest)
			break;
		khz = n * crystal_khz / d;
		error = khz > tsc_khz ? khz - tsc_khz : tsc_khz - khz;
		if (n && error < best) {
			best = error;
			numerator = (uint32_t)n;
			denominator = (uint32_t)d;
		}
	}
	add_leaf(c, 0x15, denominator, numerator, numerator ? LAPIC_HZ : 0, 0);
	add_leaf(c, 0x16, (uint32_t)(tsc_khz / 1000) & 0xffff, (uint32_t)(tsc_khz / 1000) & 0xffff, 100, 0);
}

/* Subleaf 0 names the last one: 2, where something is there to be told. */
static void add_features_leaf(struct vc_cpuid *c)
{
	uint32_t last = vc_feature_has(&c->features, VC_F_BHI_CTRL) ? 2 : 0;

	for (uint32_t subleaf = 0; subleaf <= last; subleaf++) {
		add_leaf(c, 7, subleaf ? 0 : last, 0, 0, 0);
		c->entries[c->count - 1].subleaf = subleaf;
		c->entries[c->count - 1].has_subleaf = 1;
	}
}

static void add_basic(struct vc_cpuid *c, const struct vc_cpu_identity *identity, uint32_t vcpus, uint64_t tsc_khz)
{
	uint32_t ids = 1u << id_bits(vcpus);

	add_vendor(c, 0, MAX_BASIC, identity->vendor);
	add_leaf(c, 1, identity->signature, (LINE / 8) << 8 | (ids > 255 ? 255 : ids) << 16, 0, 0);
	add_leaf(c, 2, 0x00ff0001, 0, 0, 0); /* descriptor 0xff: caches are in leaf 4 */
	add_caches(c, vcpus);
	if (vc_feature_has(&c->features, VC_F_MONITOR))
		add_leaf(c, 5, LINE, LINE, 3 /* extensions; interrupts break */, 0);
	add_leaf(c, 6, 0, 0, 0, 0);
	add_features_leaf(c);
	add_topology(c, vcpus);
	add_xsave(c);
	add_tsc(c, tsc_khz);
}

static void add_hypervisor(struct vc_cpuid *c, uint64_t tsc_khz)
{
	static const char signature[12] = "KVMKVMKVM\0\0";

	add_leaf(c, 0x40000000, MAX_HYPERVISOR, vc_ld32(signature), vc_ld32(signature + 4), vc_ld32(signature + 8));
	add_leaf(c, 0x40000001, 0, 0, 0, 0);
	add_leaf(c, MAX_HYPERVISOR, (uint32_t)(tsc_khz > UINT32_MAX ? 0 : tsc_khz), LAPIC_HZ / 1000, 0, 0);
}

static void add_extended(struct vc_cpuid *c, const struct vc_cpu_identity *identity, uint32_t vcpus)
{
	bool amd = is_amd(identity);
	uint32_t linear_bits = vc_feature_has(&c->features, VC_F_LA57) ? 57 : 48;

	if (amd)
		add_vendor(c, 0x80000000, MAX_EXTENDED, identity->vendor);
	else
		add_leaf(c, 0x80000000, MAX_EXTENDED, 0, 0, 0);
	add_leaf(c, 0x80000001, amd ? identity->signature : 0, 0, amd && vcpus > 1 ? 1u << 1 /* CmpLegacy */ : 0, 0);
	for (uint32_t n = 0; n < 3; n++) {
		const char *part = identity->brand + 16 * n;

		add_leaf(c, 0x80000002 + n, vc_ld32(part), vc_ld32(part + 4), vc_ld32(part + 8), vc_ld32(part + 12));
	}
	/* the caches of leaf 4 again: L1 in KiB, ways, lines a tag, line; L2 in KiB; L3 in 512 KiB */
	add_leaf(c, 0x80000005, 0, 0, amd ? 32u << 24 | 8u << 16 | 1u << 8 | LINE : 0,
	         amd ? 32u << 24 | 8u << 16 | 1u << 8 | LINE : 0);
	add_leaf(c, 0x80000006, 0, 0, 512u << 16 | 6u << 12 | (amd ? 1u << 8 : 0) | LINE,
	         amd ? 32u << 18 | 8u << 12 | 1u << 8 | LINE : 0);
	add_leaf(c, 0x80000007, 0, 0, 0, 0);
	add_leaf(c, 0x80000008, c->phys_bits | linear_bits << 8, 0, amd ? (vcpus - 1) | id_bits(vcpus) << 12 : 0, 0);
}

static const struct vc_cpuid_entry *find(const struct vc_cpuid *c, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t n = 0; n < c->count && n < VC_CPUID_MAX; n++) {
		const struct vc_cpuid_entry *e = &c->entries[n];

		if (e->leaf == leaf && (!e->has_subleaf || e->subleaf == subleaf))
			return e;
	}
	return NULL;
}

/* The registers of a leaf, to be written; NULL when the table lacks it. */
static uint32_t *registers(struct vc_cpuid *c, uint32_t leaf, uint32_t subleaf)
{
	const struct vc_cpuid_entry *e = find(c, leaf, subleaf);

	return e ? c->entries[e - c->entries].regs : NULL;
}

static void set_feature_bits(struct vc_cpuid *c, bool amd)
{
	for (unsigned f = VC_F_NONE + 1; f < VC_F_COUNT; f++) {
		uint32_t *regs = registers(c, features[f].leaf, features[f].subleaf);

		if (regs && vc_feature_has(&c->features, f))
			regs[features[f].reg] |= 1u << features[f].bit;
	}
	if (amd)
		registers(c, 0x80000001, 0)[VC_EDX] |= registers(c, 1, 0)[VC_EDX] & AMD_REPEATED;
}

/* ---- what is offered ---- */

static void name_missing(const struct vc_feature_set *missing, char *text, size_t length)
{
	size_t used = 0;

	if (!text || !length)
		return;
	text[0] = '\0';
	for (unsigned f = VC_F_NONE + 1; f < VC_F_COUNT; f++) {
		int n;

		if (!vc_feature_has(missing, f))
			continue;
		n = snprintf(text + used, length - used, "%s%s", used ? "," : "", features[f].name);
		if (n < 0 || (size_t)n >= length - used)
			return;
		used += (size_t)n;
	}
}

/* wanted cut down to what is offered and hangs together. */
static int take_offered(const struct vc_cpu_selection *selection, const struct vc_feature_set *offered,
                        struct vc_feature_set *taken, struct vc_feature_set *missing)
{
	for (size_t n = 0; n < VC_ARRAY_SIZE(taken->bits); n++)
		taken->bits[n] = selection->wanted.bits[n] & offered->bits[n];
	vc_features_drop_dependents(taken);
	for (size_t n = 0; n < VC_ARRAY_SIZE(taken->bits); n++)
		missing->bits[n] = selection->wanted.bits[n] & ~taken->bits[n];
	for (unsigned f = VC_F_NONE + 1; f < VC_F_COUNT; f++) {
		if (vc_feature_has(&selection->demanded, f) && vc_feature_has(missing, f))
			return vc_fail(ENOTSUP, "CPU feature '%s' was asked for, but the backend cannot give it on this host",
			               features[f].name);
	}
	return 0;
}

int vc_cpuid_build(const struct vc_cpu_model_request *request, struct vc_cpuid *c, char *missing_text,
                   size_t missing_length)
{
	struct vc_cpu_selection selection;
	struct vc_feature_set missing;
	const char *model = request->model ? request->model : request->fallback;
	int r;

	if (!model)
		return vc_fail(EINVAL, "no CPU model was given");
	if (request->vcpus < 1 || request->vcpus > MAX_VCPUS)
		return vc_fail(EINVAL, "%u vcpus: expected 1 to %u", request->vcpus, MAX_VCPUS);
	if (request->phys_bits && (request->phys_bits < 32 || request->phys_bits > 52))
		return vc_fail(EINVAL, "%u physical address bits: expected 32 to 52", request->phys_bits);
	r = vc_cpu_select(model, request->offered, &selection);
	if (r)
		return r;

	*c = (struct vc_cpuid){.max_basic = MAX_BASIC, .max_extended = MAX_EXTENDED};
	c->phys_bits = request->phys_bits ? request->phys_bits : DEFAULT_PHYS_BITS;
	/* HTT only says that leaf 1 EBX[23:16] counts: nobody has to offer it */
	vc_feature_put(&selection.wanted, VC_F_HTT, false);
	vc_feature_put(&selection.demanded, VC_F_HTT, false);
	r = take_offered(&selection, request->offered, &c->features, &missing);
	if (r)
		return r;
	name_missing(&missing, missing_text, missing_length);
	vc_feature_put(&c->features, VC_F_HTT, request->vcpus > 1);

	add_basic(c, &selection.identity, request->vcpus, request->tsc_khz);
	if (vc_feature_has(&c->features, VC_F_HYPERVISOR))
		add_hypervisor(c, request->tsc_khz);
	add_extended(c, &selection.identity, request->vcpus);
	set_feature_bits(c, is_amd(&selection.identity));
	vc_cpuid_set_apic_id(c, 0, request->vcpus);
	return 0;
}

void vc_cpuid_set_apic_id(struct vc_cpuid *c, uint32_t apic_id, uint32_t vcpus)
{
	uint32_t *regs = registers(c, 1, 0);

	if (regs)
		regs[VC_EBX] = (regs[VC_EBX] & 0x00ffffff) | apic_id << 24;
	for (uint32_t subleaf = 0; (regs = registers(c, 0xb, subleaf)); subleaf++)
		regs[VC_EDX] = apic_id;
}

/* ---- answering ---- */

/*
 * The leaf that answers for an out-of-range one: on Intel the highest basic leaf (SDM vol. 2, CPUID, "if a value
 * entered for CPUID.EAX is higher than the maximum..."), on AMD none.
 */
static bool out_of_range(const struct vc_cpuid *c, uint32_t leaf)
{
	switch (leaf >> 30) {
	case 0:
		return leaf > c->max_basic;
	case 2:
		return leaf > c->max_extended;
	default:
		return leaf > MAX_HYPERVISOR || !find(c, 0x40000000, 0);
	}
}

static void adjust(const struct vc_cpuid *c, uint64_t cr4, uint64_t xcr0, uint64_t apic_base, uint32_t leaf,
                   uint32_t subleaf, uint32_t out[4])
{
	bool no_apic = !(apic_base & APIC_BASE_ENABLE);
	const struct vc_cpuid_entry *first;

	switch (leaf) {
	case 1:
		if (cr4 & VC_CR4_OSXSAVE)
			out[VC_ECX] |= OSXSAVE_BIT;
		if (no_apic)
			out[VC_EDX] &= ~APIC_BIT;
		break;
	case 7:
		if (subleaf == 0 && cr4 & VC_CR4_PKE)
			out[VC_ECX] |= OSPKE_BIT;
		break;
	case 0xb: /* a level that is not there still echoes its number and the x2APIC ID */
		first = find(c, leaf, 0);
		if (first && !find(c, leaf, subleaf)) {
			out[VC_ECX] = subleaf & 0xff;
			out[VC_EDX] = first->regs[VC_EDX];
		}
		break;
	case 0xd: /* with only AVX beyond the legacy region, both formats take the same space */
		if (find(c, leaf, 0) && (subleaf == 0 || (subleaf == 1 && vc_feature_has(&c->features, VC_F_XSAVEC))))
			out[VC_EBX] = XSAVE_LEGACY + (xcr0 & VC_XSTATE_AVX ? XSAVE_AVX : 0);
		break;
	case 0x80000001:
		if (no_apic)
			out[VC_EDX] &= ~APIC_BIT;
		break;
	}
}

void vc_cpuid_query(const struct vc_cpuid *c, uint64_t cr4, uint64_t xcr0, uint64_t apic_base, uint32_t leaf,
                    uint32_t subleaf, uint32_t out[4])
{
	const struct vc_cpuid_entry *e = find(c, 0, 0);

	memset(out, 0, 4 * sizeof *out);
	if (!e)
		return;
	if (out_of_range(c, leaf)) {
		if (e->regs[VC_EBX] != vc_ld32("Genu"))
			return;
		leaf = c->max_basic;
	}
	e = find(c, leaf, subleaf);
	if (e)
		memcpy(out, e->regs, sizeof e->regs);
	adjust(c, cr4, xcr0, apic_base, leaf, subleaf, out);
}
