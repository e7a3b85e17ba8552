/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of CPU models, what features need of each other, and the reading of "model,+feature,-feature". */
#include "cpu/models.h"

#include <cpuid.h>
#include <string.h>

#include "core/error.h"
#include "core/util.h"

/* ---- models ---- */

/* Lists end with VC_F_NONE. */

/* x86-64 as the psABI's baseline has it, and what kernels take for granted beside it. */
static const uint8_t baseline[] = {
    VC_F_FPU,  VC_F_VME,  VC_F_DE,   VC_F_PSE,  VC_F_TSC,     VC_F_MSR,  VC_F_PAE, VC_F_MCE,   VC_F_CX8,
    VC_F_APIC, VC_F_SEP,  VC_F_MTRR, VC_F_PGE,  VC_F_MCA,     VC_F_CMOV, VC_F_PAT, VC_F_PSE36, VC_F_CLFSH,
    VC_F_MMX,  VC_F_FXSR, VC_F_SSE,  VC_F_SSE2, VC_F_SYSCALL, VC_F_NX,   VC_F_LM,  VC_F_NONE,
};

/* What makes a vm run well: timers and interrupts without detours, and the KVM interfaces. */
static const uint8_t paravirtual[] = {
    VC_F_HYPERVISOR,       VC_F_X2APIC,           VC_F_TSC_DEADLINE, VC_F_TSC_ADJUST,     VC_F_ARAT,
    VC_F_KVM_CLOCKSOURCE2, VC_F_KVM_STABLE_CLOCK, VC_F_KVM_NOP_IO,   VC_F_KVM_STEAL_TIME, VC_F_KVM_PV_EOI,
    VC_F_KVM_PV_UNHALT,    VC_F_KVM_PV_SEND_IPI,  VC_F_NONE,
};

static const uint8_t qemu64_adds[] = {VC_F_SSE3, VC_F_CX16, VC_F_LAHF, VC_F_NONE};

/* psABI level 2, and the system side of CPUs that have it. */
static const uint8_t v2_adds[] = {
    VC_F_SSE3,       VC_F_CX16,      VC_F_LAHF,
    VC_F_SSSE3,      VC_F_SSE41,     VC_F_SSE42,
    VC_F_POPCNT,     VC_F_RDTSCP,    VC_F_PCID,
    VC_F_INVPCID,    VC_F_FSGSBASE,  VC_F_SMEP,
    VC_F_SMAP,       VC_F_UMIP,      VC_F_PDPE1GB,
    VC_F_ERMS,       VC_F_RDRAND,    VC_F_RDSEED,
    VC_F_CLFLUSHOPT, VC_F_PREFETCHW, VC_F_XSAVE,
    VC_F_XSAVEOPT,   VC_F_XSAVEC,    VC_F_XGETBV1,
    VC_F_XSAVES,     VC_F_SPEC_CTRL, VC_F_ARCH_CAPABILITIES,
    VC_F_BHI_CTRL,   VC_F_NONE,
};

/* psABI level 3, and what every CPU of that level brought along. */
static const uint8_t v3_adds[] = {
    VC_F_AVX,   VC_F_AVX2,  VC_F_BMI1, VC_F_BMI2,   VC_F_F16C, VC_F_FMA,
    VC_F_LZCNT, VC_F_MOVBE, VC_F_AES,  VC_F_PCLMUL, VC_F_ADX,  VC_F_NONE,
};

struct model {
	const char *name, *summary;
	const char *vendor, *brand; /* NULL: the host's identity */
	uint32_t signature;
	bool everything; /* all that is offered, instead of lists */
	const uint8_t *lists[4];
};

static const struct model models[] = {
    {"qemu64",
     "the least a 64-bit guest expects: x86-64 with SSE3 and CMPXCHG16B",
     "AuthenticAMD",
     "libvirtcore qemu64",
     0x00060fb1,
     false,
     {baseline, paravirtual, qemu64_adds}},
    {"x86-64-v2",
     "psABI level 2: SSE4.2, POPCNT",
     "GenuineIntel",
     "libvirtcore x86-64-v2",
     0x000106a3,
     false,
     {baseline, paravirtual, v2_adds}},
    {"x86-64-v3",
     "psABI level 3: AVX2, BMI2, FMA",
     "GenuineIntel",
     "libvirtcore x86-64-v3",
     0x000306c4,
     false,
     {baseline, paravirtual, v2_adds, v3_adds}},
    {"host", "the CPU of this host, as far as the backend can give it", NULL, NULL, 0, true, {NULL}},
    {"max",
     "every feature the backend can give, under a name of its own",
     "GenuineIntel",
     "libvirtcore max",
     0x000306c4,
     true,
     {NULL}},
};

int vc_cpu_model_at(uint32_t index, const char **name, const char **summary)
{
	if (index >= VC_ARRAY_SIZE(models))
		return vc_fail(ENOENT, "there are %zu CPU models, none with index %u", VC_ARRAY_SIZE(models), index);
	if (name)
		*name = models[index].name;
	if (summary)
		*summary = models[index].summary;
	return 0;
}

static const struct model *find_model(const char *name, size_t length)
{
	for (size_t n = 0; n < VC_ARRAY_SIZE(models); n++)
		if (strlen(models[n].name) == length && memcmp(models[n].name, name, length) == 0)
			return &models[n];
	return NULL;
}

static void host_identity(struct vc_cpu_identity *identity)
{
	uint32_t regs[4] = {0};

	*identity = (struct vc_cpu_identity){.brand = ""};
	__cpuid(0, regs[0], regs[1], regs[2], regs[3]);
	memcpy(identity->vendor, &regs[1], 4);
	memcpy(identity->vendor + 4, &regs[3], 4);
	memcpy(identity->vendor + 8, &regs[2], 4);
	__cpuid(1, identity->signature, regs[1], regs[2], regs[3]);
	if ((uint32_t)__get_cpuid_max(0x80000000, NULL) < 0x80000004u)
		return;
	for (unsigned n = 0; n < 3; n++) {
		__cpuid(0x80000002 + n, regs[0], regs[1], regs[2], regs[3]);
		memcpy(identity->brand + n * 16, regs, 16);
	}
}

static void model_identity(const struct model *model, struct vc_cpu_identity *identity)
{
	if (!model->vendor) {
		host_identity(identity);
		return;
	}
	*identity = (struct vc_cpu_identity){.signature = model->signature};
	memcpy(identity->vendor, model->vendor, strlen(model->vendor));
	memcpy(identity->brand, model->brand, strlen(model->brand));
}

static void model_features(const struct model *model, const struct vc_feature_set *base, struct vc_feature_set *out)
{
	*out = (struct vc_feature_set){{0, 0}};
	if (model->everything)
		*out = *base;
	for (size_t n = 0; n < VC_ARRAY_SIZE(model->lists) && model->lists[n]; n++)
		for (const uint8_t *f = model->lists[n]; *f != VC_F_NONE; f++)
			vc_feature_put(out, *f, true);
}

/* ---- prerequisites ---- */

static const struct {
	uint8_t feature, needs;
} prerequisites[] = {
    {VC_F_LM, VC_F_PAE},
    {VC_F_NX, VC_F_PAE},
    {VC_F_SSE, VC_F_FXSR},
    {VC_F_SSE2, VC_F_SSE},
    {VC_F_SSE3, VC_F_SSE2},
    {VC_F_SSSE3, VC_F_SSE3},
    {VC_F_SSE41, VC_F_SSSE3},
    {VC_F_SSE42, VC_F_SSE41},
    {VC_F_SSE4A, VC_F_SSE3},
    {VC_F_AES, VC_F_SSE2},
    {VC_F_PCLMUL, VC_F_SSE2},
    {VC_F_SHA, VC_F_SSSE3},
    {VC_F_GFNI, VC_F_SSE2},
    {VC_F_XSAVE, VC_F_FXSR},
    {VC_F_XSAVEOPT, VC_F_XSAVE},
    {VC_F_XSAVEC, VC_F_XSAVE},
    {VC_F_XGETBV1, VC_F_XSAVE},
    {VC_F_XSAVES, VC_F_XSAVEC},
    {VC_F_AVX, VC_F_XSAVE},
    {VC_F_AVX, VC_F_SSE42},
    {VC_F_AVX2, VC_F_AVX},
    {VC_F_FMA, VC_F_AVX},
    {VC_F_F16C, VC_F_AVX},
    {VC_F_VAES, VC_F_AVX},
    {VC_F_VAES, VC_F_AES},
    {VC_F_VPCLMUL, VC_F_AVX},
    {VC_F_VPCLMUL, VC_F_PCLMUL},
    {VC_F_CX16, VC_F_CX8},
    {VC_F_CX16, VC_F_LM},
    {VC_F_PCID, VC_F_LM},
    {VC_F_LA57, VC_F_LM},
    {VC_F_FSGSBASE, VC_F_LM},
    {VC_F_PDPE1GB, VC_F_LM},
    {VC_F_PKU, VC_F_LM},
    {VC_F_RDTSCP, VC_F_TSC},
    {VC_F_TSC_ADJUST, VC_F_TSC},
    {VC_F_INVTSC, VC_F_TSC},
    {VC_F_X2APIC, VC_F_APIC},
    {VC_F_TSC_DEADLINE, VC_F_APIC},
    {VC_F_TSC_DEADLINE, VC_F_TSC},
    {VC_F_ARAT, VC_F_APIC},
    {VC_F_KVM_CLOCKSOURCE2, VC_F_HYPERVISOR},
    {VC_F_KVM_STABLE_CLOCK, VC_F_KVM_CLOCKSOURCE2},
    {VC_F_KVM_NOP_IO, VC_F_HYPERVISOR},
    {VC_F_KVM_STEAL_TIME, VC_F_HYPERVISOR},
    {VC_F_KVM_PV_EOI, VC_F_HYPERVISOR},
    {VC_F_KVM_PV_EOI, VC_F_APIC},
    {VC_F_KVM_PV_UNHALT, VC_F_HYPERVISOR},
    {VC_F_KVM_PV_SEND_IPI, VC_F_HYPERVISOR},
    {VC_F_KVM_PV_SEND_IPI, VC_F_APIC},
};

enum vc_feature vc_feature_lacks(const struct vc_feature_set *set, enum vc_feature f)
{
	for (size_t n = 0; n < VC_ARRAY_SIZE(prerequisites); n++)
		if (prerequisites[n].feature == f && !vc_feature_has(set, prerequisites[n].needs))
			return prerequisites[n].needs;
	return VC_F_NONE;
}

void vc_features_drop_dependents(struct vc_feature_set *set)
{
	bool changed;

	do {
		changed = false;
		for (size_t n = 0; n < VC_ARRAY_SIZE(prerequisites); n++) {
			if (!vc_feature_has(set, prerequisites[n].feature) || vc_feature_has(set, prerequisites[n].needs))
				continue;
			vc_feature_put(set, prerequisites[n].feature, false);
			changed = true;
		}
	} while (changed);
}

/* ---- "model,+feature,-feature" ---- */

static enum vc_feature find_feature(const char *name, size_t length)
{
	for (unsigned f = VC_F_NONE + 1; f < VC_F_COUNT; f++) {
		const char *known = vc_feature_name(f);

		if (strlen(known) == length && memcmp(known, name, length) == 0)
			return f;
	}
	return VC_F_NONE;
}

static int apply_feature(const char *item, size_t length, struct vc_cpu_selection *selection)
{
	enum vc_feature f;

	if (length < 2 || (item[0] != '+' && item[0] != '-'))
		return vc_fail(EINVAL, "CPU feature '%.*s': expected +name or -name", (int)length, item);
	f = find_feature(item + 1, length - 1);
	if (f == VC_F_NONE)
		return vc_fail(EINVAL, "unknown CPU feature '%.*s'", (int)length - 1, item + 1);
	vc_feature_put(&selection->wanted, f, item[0] == '+');
	vc_feature_put(&selection->demanded, f, item[0] == '+');
	return 0;
}

int vc_cpu_select(const char *text, const struct vc_feature_set *base, struct vc_cpu_selection *selection)
{
	size_t length = strcspn(text, ",");
	const struct model *model = find_model(text, length);

	if (!model)
		return vc_fail(EINVAL, "unknown CPU model '%.*s'", (int)length, text);
	*selection = (struct vc_cpu_selection){.model = model->name};
	model_identity(model, &selection->identity);
	model_features(model, base, &selection->wanted);
	for (text += length; *text; text += length) {
		int r;

		length = strcspn(++text, ",");
		r = apply_feature(text, length, selection);
		if (r)
			return r;
	}
	vc_features_drop_dependents(&selection->wanted);
	for (unsigned f = VC_F_NONE + 1; f < VC_F_COUNT; f++)
		if (vc_feature_has(&selection->demanded, f) && !vc_feature_has(&selection->wanted, f))
			return vc_fail(EINVAL, "CPU feature '%s' needs '%s', which is not in this CPU", vc_feature_name(f),
			               vc_feature_name(vc_feature_lacks(&selection->wanted, f)));
	return 0;
}

int vc_cpu_model_features(const char *model, const struct vc_feature_set *host, struct vc_feature_set *out)
{
	struct vc_feature_set of_host = {{0, 0}};
	struct vc_cpu_selection selection;
	int r;

	if (host)
		of_host = *host;
	else
		vc_cpuid_host(&of_host);
	r = vc_cpu_select(model, &of_host, &selection);
	if (r == 0)
		*out = selection.wanted;
	return r;
}
