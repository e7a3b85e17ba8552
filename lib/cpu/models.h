/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From "model,+feature,-feature" to features and an identity: what cpuid.c builds its table from. */
#ifndef VC_CPU_MODELS_H
#define VC_CPU_MODELS_H

#include "cpu/cpuid.h"

struct vc_cpu_identity {
	char vendor[13];
	char brand[49];
	uint32_t signature; /* CPUID.1:EAX */
};

struct vc_cpu_selection {
	const char *model; /* its name, static */
	struct vc_cpu_identity identity;
	struct vc_feature_set wanted;
	struct vc_feature_set demanded; /* those asked for with + */
};

/*
 * base: what "host" and "max" take. Wanted is free of features whose prerequisites are not wanted. 0, or -EINVAL by
 * name: unknown model or feature, or a demanded feature whose prerequisite is not wanted.
 */
int vc_cpu_select(const char *text, const struct vc_feature_set *base, struct vc_cpu_selection *selection);

/* Take out every feature that lacks a prerequisite. */
void vc_features_drop_dependents(struct vc_feature_set *set);
/* The first prerequisite of f that set lacks; VC_F_NONE when there is none. */
enum vc_feature vc_feature_lacks(const struct vc_feature_set *set, enum vc_feature f);

#endif
