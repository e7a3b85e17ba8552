/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* CPUID: feature names, CPU models, and the table that a vcpu answers from. */
#ifndef VC_CPU_CPUID_H
#define VC_CPU_CPUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vc_cpuid_reg { VC_EAX, VC_EBX, VC_ECX, VC_EDX };

/* it would nest the list: */
/* clang-format off */
/* X(identifier, "name", leaf, subleaf, register, bit): every feature the library knows by name. */
#define VC_FEATURES(X)                                                                                                  \
	X(FPU, "fpu", 1, 0, VC_EDX, 0)                                                                                      \
	X(VME, "vme", 1, 0, VC_EDX, 1) X(DE, "de", 1, 0, VC_EDX, 2) X(PSE, "pse", 1, 0, VC_EDX, 3) X(                       \
	    TSC, "tsc", 1, 0, VC_EDX, 4) X(MSR, "msr", 1, 0, VC_EDX, 5) X(PAE, "pae", 1, 0, VC_EDX, 6)                      \
	    X(MCE, "mce", 1, 0, VC_EDX, 7) X(CX8, "cx8", 1, 0, VC_EDX, 8) X(APIC, "apic", 1, 0, VC_EDX, 9) X(               \
	        SEP, "sep", 1, 0, VC_EDX, 11) X(MTRR, "mtrr", 1, 0, VC_EDX, 12) X(PGE, "pge", 1, 0, VC_EDX, 13)             \
	        X(MCA, "mca", 1, 0, VC_EDX, 14) X(CMOV, "cmov", 1, 0, VC_EDX, 15) X(PAT, "pat", 1, 0, VC_EDX, 16) X(        \
	            PSE36, "pse36",                                                                                         \
	            1,                                                                                                      \
	            0, VC_EDX, 17)                                                                                          \
	            X(CLFSH, "clflush", 1, 0, VC_EDX, 19) X(MMX, "mmx", 1, 0, VC_EDX, 23) X(                                \
	                FXSR,                                                                                               \
	                "fxsr",                                                                                             \
	                1,                                                                                                  \
	                0, VC_EDX, 24) X(SSE, "sse", 1, 0, VC_EDX, 25)                                                      \
	                X(SSE2, "sse2", 1, 0, VC_EDX, 26) X(HTT, "ht", 1, 0, VC_EDX, 28) X(                                 \
	                    SSE3,                                                                                           \
	                    "sse3",                                                                                         \
	                    1, 0,                                                                                           \
	                    VC_ECX,                                                                                         \
	                    0) X(PCLMUL, "pclmulqdq", 1, 0, VC_ECX,                                                         \
	                         1) X(MONITOR, "monitor", 1, 0, VC_ECX, 3)                                                  \
	                    X(SSSE3, "ssse3", 1, 0, VC_ECX,                                                                 \
	                      9) X(FMA, "fma", 1, 0, VC_ECX,                                                                \
	                           12) X(CX16, "cx16", 1, 0, VC_ECX,                                                        \
	                                 13) X(PCID, "pcid", 1, 0, VC_ECX,                                                  \
	                                       17) X(SSE41, "sse4.1", 1, 0, VC_ECX, 19)                                     \
	                        X(SSE42, "sse4.2", 1, 0, VC_ECX, 20) X(X2APIC, "x2apic", 1, 0, VC_ECX, 21) X(               \
	                            MOVBE, "movbe",                                                                         \
	                            1,                                                                                      \
	                            0, VC_ECX, 22) X(POPCNT, "popcnt", 1, 0, VC_ECX, 23)                                    \
	                            X(TSC_DEADLINE, "tsc-deadline", 1, 0, VC_ECX, 24) X(AES, "aes", 1, 0, VC_ECX, 25) X(    \
	                                XSAVE, "xsave",                                                                     \
	                                1,                                                                                  \
	                                0, VC_ECX, 26) X(AVX, "avx", 1, 0, VC_ECX, 28)                                      \
	                                X(F16C, "f16c", 1, 0, VC_ECX, 29) X(RDRAND, "rdrand", 1, 0, VC_ECX, 30) X(          \
	                                    HYPERVISOR,                                                                     \
	                                    "hypervisor",                                                                   \
	                                    1,                                                                              \
	                                    0, VC_ECX, 31) X(ARAT, "arat", 6, 0, VC_EAX, 2)                                 \
	                                    X(FSGSBASE, "fsgsbase", 7, 0, VC_EBX,                                           \
	                                      0) X(TSC_ADJUST, "tsc-adjust", 7, 0, VC_EBX,                                  \
	                                           1) X(BMI1, "bmi1", 7, 0, VC_EBX,                                         \
	                                                3) X(AVX2, "avx2", 7, 0, VC_EBX, 5)                                 \
	                                        X(SMEP, "smep", 7, 0, VC_EBX, 7) X(BMI2, "bmi2", 7, 0, VC_EBX, 8) X(        \
	                                            ERMS,                                                                   \
	                                            "erms",                                                                 \
	                                            7, 0,                                                                   \
	                                            VC_EBX,                                                                 \
	                                            9) X(INVPCID, "invpcid", 7, 0, VC_EBX,                                  \
	                                                 10) X(RDSEED, "rdseed", 7, 0, VC_EBX,                              \
	                                                       18) X(ADX, "adx", 7, 0, VC_EBX, 19)                          \
	                                            X(SMAP, "smap", 7, 0, VC_EBX,                                           \
	                                              20) X(CLFLUSHOPT, "clflushopt", 7, 0, VC_EBX, 23)                     \
	                                                X(CLWB, "clwb", 7, 0, VC_EBX,                                       \
	                                                  24) X(SHA, "sha-ni", 7, 0, VC_EBX, 29)                            \
	                                                    X(UMIP, "umip", 7, 0, VC_ECX,                                   \
	                                                      2) X(PKU, "pku", 7, 0, VC_ECX,                                \
	                                                           3) X(GFNI, "gfni", 7, 0, VC_ECX, 8)                      \
	                                                        X(VAES, "vaes", 7, 0, VC_ECX,                               \
	                                                          9) X(VPCLMUL, "vpclmulqdq", 7, 0, VC_ECX,                 \
	                                                               10) X(LA57, "la57", 7, 0, VC_ECX,                    \
	                                                                     16) X(RDPID, "rdpid", 7, 0, VC_ECX,            \
	                                                                           22) X(FSRM, "fsrm", 7, 0, VC_EDX, 4)     \
	                                                            X(SPEC_CTRL, "spec-ctrl", 7, 0, VC_EDX,                 \
	                                                              26) X(ARCH_CAPABILITIES, "arch-capabilities", 7, 0,   \
	                                                                    VC_EDX,                                         \
	                                                                    29) X(BHI_CTRL, "bhi-ctrl", 7, 2, VC_EDX, 4)    \
	                                                                X(XSAVEOPT, "xsaveopt", 0xd, 1, VC_EAX,             \
	                                                                  0) X(XSAVEC, "xsavec", 0xd, 1, VC_EAX,            \
	                                                                       1) X(XGETBV1, "xgetbv1", 0xd, 1, VC_EAX, 2)  \
	                                                                    X(XSAVES, "xsaves", 0xd, 1, VC_EAX,             \
	                                                                      3) X(LAHF, "lahf-lm", 0x80000001, 0, VC_ECX,  \
	                                                                           0) X(LZCNT,                              \
	                                                                                "lzcnt", 0x80000001, 0, VC_ECX, 5)  \
	                                                                        X(SSE4A, "sse4a", 0x80000001, 0,            \
	                                                                          VC_ECX, 6) X(PREFETCHW, "3dnowprefetch",  \
	                                                                                       0x80000001, 0, VC_ECX, 8)    \
	                                                                            X(SYSCALL, "syscall", 0x80000001, 0,    \
	                                                                              VC_EDX,                               \
	                                                                              11) X(NX, "nx", 0x80000001, 0,        \
	                                                                                    VC_EDX,                         \
	                                                                                    20) X(PDPE1GB, "pdpe1gb",       \
	                                                                                          0x80000001,               \
	                                                                                          0, VC_EDX, 26)            \
	                                                                                X(RDTSCP, "rdtscp", 0x80000001, 0,  \
	                                                                                  VC_EDX,                           \
	                                                                                  27) X(LM, "lm", 0x80000001, 0,    \
	                                                                                        VC_EDX, 29)                 \
	                                                                                    X(INVTSC, "invtsc",             \
	                                                                                      0x80000007,                   \
	                                                                                      0, VC_EDX,                    \
	                                                                                      8) X(KVM_CLOCKSOURCE2,        \
	                                                                                           "kvmclock", 0x40000001,  \
	                                                                                           0, VC_EAX,               \
	                                                                                           3) X(KVM_NOP_IO,         \
	                                                                                                "kvm-nopiodelay",   \
	                                                                                                0x40000001, 0,      \
	                                                                                                VC_EAX, 1)          \
	                                                                                        X(KVM_STEAL_TIME,           \
	                                                                                          "kvm-steal-time",         \
	                                                                                          0x40000001, 0, VC_EAX,    \
	                                                                                          5) X(KVM_PV_EOI,          \
	                                                                                               "kvm-pv-eoi",        \
	                                                                                               0x40000001, 0,       \
	                                                                                               VC_EAX,              \
	                                                                                               6) X(KVM_PV_UNHALT,  \
	                                                                                                    "kvm-pv-"       \
	                                                                                                    "unhalt",       \
	                                                                                                    0x40000001, 0,  \
	                                                                                                    VC_EAX, 7)      \
	                                                                                            X(KVM_PV_SEND_IPI,      \
	                                                                                              "kvm-pv-ipi",         \
	                                                                                              0x40000001, 0,        \
	                                                                                              VC_EAX, 11)           \
	                                                                                                X(KVM_STABLE_CLOCK, \
	                                                                                                  "kvmclock-"       \
	                                                                                                  "stable-bit",     \
	                                                                                                  0x40000001, 0,    \
	                                                                                                  VC_EAX, 24)
/* clang-format on */

enum vc_feature {
	VC_F_NONE, /* needs no feature */
#define X(id, name, leaf, sub, reg, bit) VC_F_##id,
	VC_FEATURES(X)
#undef X
	    VC_F_COUNT
};
_Static_assert(VC_F_COUNT <= 128, "struct vc_feature_set is too small");

struct vc_feature_set {
	uint64_t bits[2];
};
static inline bool vc_feature_has(const struct vc_feature_set *set, enum vc_feature f)
{
	return set->bits[f >> 6] >> (f & 63) & 1;
}
static inline void vc_feature_put(struct vc_feature_set *set, enum vc_feature f, bool on)
{
	set->bits[f >> 6] = (set->bits[f >> 6] & ~(1ull << (f & 63))) | (uint64_t)on << (f & 63);
}

const char *vc_feature_name(enum vc_feature f);

struct vc_cpuid_entry {
	uint32_t leaf, subleaf;
	uint32_t has_subleaf;
	uint32_t regs[4];
};
#define VC_CPUID_MAX 80

/* What one vcpu answers. */
struct vc_cpuid {
	struct vc_feature_set features;
	uint32_t count;
	uint32_t max_basic, max_extended;
	uint32_t phys_bits;
	struct vc_cpuid_entry entries[VC_CPUID_MAX];
};

struct vc_cpu_model_request {
	const char *model;                    /* "name,+feature,-feature"; NULL: fallback */
	const char *fallback;                 /* model when none was asked for */
	const struct vc_feature_set *offered; /* what the backend can give; "host" takes all of it */
	uint32_t vcpus;
	uint32_t phys_bits;
	uint64_t tsc_khz;
};

/*
 * Build the table of vcpu 0. Features of the model that are not offered are left out and named in `missing` (may be
 * NULL); a feature asked for with + and not offered is -ENOTSUP by name; an unknown model or feature is -EINVAL by
 * name.
 */
int vc_cpuid_build(const struct vc_cpu_model_request *request, struct vc_cpuid *cpuid, char *missing,
                   size_t missing_length);
/* The table for another vcpu: APIC ID fields. */
void vc_cpuid_set_apic_id(struct vc_cpuid *cpuid, uint32_t apic_id, uint32_t vcpus);
/* What CPUID gives; the CR4.OSXSAVE and APIC-enable bits and leaf 0xd sizes follow the arguments. Out-of-range leaves
 * answer as Intel's do. */
void vc_cpuid_query(const struct vc_cpuid *cpuid, uint64_t cr4, uint64_t xcr0, uint64_t apic_base, uint32_t leaf,
                    uint32_t subleaf, uint32_t out[4]);
/* Features of the CPU this program runs on, from the CPUID instruction and XCR0. */
void vc_cpuid_host(struct vc_feature_set *features);
/* Components XCR0 may enable for these features (x87, SSE, AVX). */
uint64_t vc_cpuid_xcr0_mask(const struct vc_feature_set *features);
/* Table of models, for vcore_cpu_model(). -ENOENT past the end. */
int vc_cpu_model_at(uint32_t index, const char **name, const char **summary);
/* Features of "model,+x,-y" before any host is asked. -EINVAL by name. */
int vc_cpu_model_features(const char *model, const struct vc_feature_set *host, struct vc_feature_set *out);

#endif
