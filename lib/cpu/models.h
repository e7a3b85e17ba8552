/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between models.c and cpuid.c. */
#ifndef VC_CPU_MODELS_H
#define VC_CPU_MODELS_H

#include "cpu/cpuid.h"

struct vc_cpu_model {
	const char *name, *summary;
	const uint8_t *features;          /* zero-terminated; NULL: all that is offered */
	uint32_t family, model, stepping; /* 0: the host's */
	bool amd;
};

/* A parsed "model,+feature,-feature". */
struct vc_cpu_choice {
	const struct vc_cpu_model *model;
	struct vc_feature_set added, removed;
};
int vc_cpu_choose(const char *text, struct vc_cpu_choice *choice);
/* all: what a model without a list of its own takes. */
void vc_cpu_choice_features(const struct vc_cpu_choice *choice, const struct vc_feature_set *all,
                            struct vc_feature_set *out);
/* Take out what lacks a feature it builds on. */
void vc_feature_drop_orphans(struct vc_feature_set *set);

#endif
