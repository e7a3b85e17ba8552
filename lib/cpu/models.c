/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* CPU models: named sets of features, and the list "model,+feature,-feature". */
#include "cpu/models.h"

#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "core/util.h"

static const char *const feature_names[] = {[VC_F_NONE] = "",
#define X(id, name, leaf, sub, reg, bit) [VC_F_##id] = name,
                                            VC_FEATURES(X)
#undef X
};

const char *vc_feature_name(enum vc_feature f)
{
	return (unsigned)f < VC_F_COUNT ? feature_names[f] : "";
}

/* What any 64-bit PC has. */
#define BASE                                                                                                       \
	VC_F_FPU, VC_F_DE, VC_F_PSE, VC_F_TSC, VC_F_MSR, VC_F_PAE, VC_F_MCE, VC_F_CX8, VC_F_APIC, VC_F_SEP, VC_F_MTRR, \
	    VC_F_PGE, VC_F_MCA, VC_F_CMOV, VC_F_PAT, VC_F_PSE36, VC_F_CLFSH, VC_F_MMX, VC_F_FXSR, VC_F_SSE, VC_F_SSE2, \
	    VC_F_SYSCALL, VC_F_NX, VC_F_LM, VC_F_LAHF, VC_F_HTT
/* What a vm adds: paravirtual clocks, the APIC's modern forms. */
#define VIRTUAL                                                                                         \
	VC_F_HYPERVISOR, VC_F_X2APIC, VC_F_TSC_DEADLINE, VC_F_ARAT, VC_F_KVM_CLOCKSOURCE2, VC_F_KVM_NOP_IO, \
	    VC_F_KVM_STEAL_TIME, VC_F_KVM_PV_EOI, VC_F_KVM_PV_UNHALT, VC_F_KVM_PV_SEND_IPI, VC_F_KVM_STABLE_CLOCK
/* x86-64 psABI levels. */
#define LEVEL2 VC_F_CX16, VC_F_POPCNT, VC_F_SSE3, VC_F_SSSE3, VC_F_SSE41, VC_F_SSE42
#define LEVEL3 VC_F_AVX, VC_F_AVX2, VC_F_BMI1, VC_F_BMI2, VC_F_F16C, VC_F_FMA, VC_F_LZCNT, VC_F_MOVBE, VC_F_XSAVE
/* What an operating system of each level's time finds beside them. */
#define SYSTEM2 VC_F_VME, VC_F_RDTSCP, VC_F_PCID, VC_F_TSC_ADJUST
#define SYSTEM3                                                                                                        \
	VC_F_XSAVEOPT, VC_F_XSAVEC, VC_F_XGETBV1, VC_F_FSGSBASE, VC_F_SMEP, VC_F_SMAP, VC_F_UMIP, VC_F_INVPCID, VC_F_ERMS, \
	    VC_F_FSRM, VC_F_PDPE1GB, VC_F_AES, VC_F_PCLMUL, VC_F_SHA, VC_F_ADX, VC_F_RDRAND, VC_F_RDSEED, VC_F_RDPID,      \
	    VC_F_CLFLUSHOPT, VC_F_CLWB, VC_F_PREFETCHW

static const uint8_t features_qemu64[] = {BASE, VIRTUAL, VC_F_CX16, VC_F_SSE3, 0};
static const uint8_t features_v2[] = {BASE, VIRTUAL, LEVEL2, SYSTEM2, 0};
static const uint8_t features_v3[] = {BASE, VIRTUAL, LEVEL2, SYSTEM2, LEVEL3, SYSTEM3, 0};

static const struct vc_cpu_model models[] = {
    {"qemu64", "a 64-bit CPU of the first days: SSE3, CMPXCHG16B", features_qemu64, 0xf, 107, 1, true},
    {"x86-64-v2", "psABI level 2: SSE4.2, POPCNT", features_v2, 6, 44, 2, false},
    {"x86-64-v3", "psABI level 3: AVX2, BMI, FMA; with AES, SHA, SMEP, SMAP, XSAVE", features_v3, 6, 94, 3, false},
    {"host", "everything the backend can give of this host's CPU", NULL, 0, 0, 0, false},
    {"max", "everything the backend can give, whatever the host's CPU", NULL, 6, 94, 3, false},
};

int vc_cpu_model_at(uint32_t index, const char **name, const char **summary)
{
	if (index >= VC_ARRAY_SIZE(models))
		return -ENOENT;
	*name = models[index].name;
	*summary = models[index].summary;
	return 0;
}

static int unknown_model(const char *name, size_t length)
{
	char known[128] = "";
	size_t used = 0;

	for (size_t i = 0; i < VC_ARRAY_SIZE(models) && used < sizeof known; i++)
		used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", models[i].name);
	return vc_fail(EINVAL, "CPU model \"%.*s\" is unknown: expected one of %s", (int)(length < 64 ? length : 64), name,
	               known);
}

static enum vc_feature find_feature(const char *name, size_t length)
{
	for (int f = VC_F_NONE + 1; f < VC_F_COUNT; f++)
		if (strlen(feature_names[f]) == length && !memcmp(feature_names[f], name, length))
			return f;
	return VC_F_NONE;
}

/* One "+x" or "-x". */
static int take_change(const char *text, size_t length, struct vc_cpu_choice *choice)
{
	enum vc_feature f;

	if (length < 2 || (text[0] != '+' && text[0] != '-'))
		return vc_fail(EINVAL, "CPU feature \"%.*s\": expected +name or -name", (int)length, text);
	f = find_feature(text + 1, length - 1);
	if (f == VC_F_NONE)
		return vc_fail(EINVAL, "CPU feature \"%.*s\" is unknown", (int)(length - 1 < 64 ? length - 1 : 64), text + 1);
	vc_feature_put(&choice->added, f, text[0] == '+');
	vc_feature_put(&choice->removed, f, text[0] == '-');
	return 0;
}

int vc_cpu_choose(const char *text, struct vc_cpu_choice *choice)
{
	size_t length = strcspn(text, ",");
	int r = 0;

	*choice = (struct vc_cpu_choice){0};
	for (size_t i = 0; i < VC_ARRAY_SIZE(models); i++)
		if (strlen(models[i].name) == length && !memcmp(models[i].name, text, length))
			choice->model = &models[i];
	if (!choice->model)
		return unknown_model(text, length);
	for (text += length; r >= 0 && *text == ','; text += length) {
		text++;
		length = strcspn(text, ",");
		r = take_change(text, length, choice);
	}
	return r;
}

/* Features that mean nothing without another one. */
static const struct {
	uint8_t feature, needs;
} dependencies[] = {
    {VC_F_AVX, VC_F_XSAVE},         {VC_F_XSAVEOPT, VC_F_XSAVE},  {VC_F_XSAVEC, VC_F_XSAVE}, {VC_F_XGETBV1, VC_F_XSAVE},
    {VC_F_XSAVES, VC_F_XSAVEC},     {VC_F_AVX2, VC_F_AVX},        {VC_F_FMA, VC_F_AVX},      {VC_F_F16C, VC_F_AVX},
    {VC_F_VAES, VC_F_AVX},          {VC_F_VPCLMUL, VC_F_AVX},     {VC_F_INVPCID, VC_F_PCID}, {VC_F_X2APIC, VC_F_APIC},
    {VC_F_TSC_DEADLINE, VC_F_APIC}, {VC_F_KVM_PV_EOI, VC_F_APIC}, {VC_F_PDPE1GB, VC_F_LM},   {VC_F_LA57, VC_F_LM},
};

void vc_feature_drop_orphans(struct vc_feature_set *set)
{
	/* in the table's order a chain (XSAVE, AVX, AVX2) falls in one pass */
	for (size_t i = 0; i < VC_ARRAY_SIZE(dependencies); i++)
		if (!vc_feature_has(set, dependencies[i].needs))
			vc_feature_put(set, dependencies[i].feature, false);
}

void vc_cpu_choice_features(const struct vc_cpu_choice *choice, const struct vc_feature_set *all,
                            struct vc_feature_set *out)
{
	*out = (struct vc_feature_set){0};
	if (choice->model->features)
		for (const uint8_t *f = choice->model->features; *f; f++)
			vc_feature_put(out, *f, true);
	else
		*out = *all;
	for (int i = 0; i < 2; i++)
		out->bits[i] = (out->bits[i] | choice->added.bits[i]) & ~choice->removed.bits[i];
}

int vc_cpu_model_features(const char *model, const struct vc_feature_set *host, struct vc_feature_set *out)
{
	struct vc_cpu_choice choice;
	int r = vc_cpu_choose(model, &choice);

	if (r >= 0)
		vc_cpu_choice_features(&choice, host, out);
	return r;
}
