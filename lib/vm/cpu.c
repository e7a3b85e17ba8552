/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/vm.h"

#include <stdio.h>

int vcore_cpu_model(uint32_t index, const char **name, const char **summary)
{
	const char *n, *s;
	int r = vc_cpu_model_at(index, &n, &s);

	if (r < 0)
		return vc_fail(ENOENT, "there is no CPU model number %u", index);
	if (name)
		*name = n;
	if (summary)
		*summary = s;
	return 0;
}

int vcore_cpu_feature(uint32_t index, const char **name)
{
	if (!name)
		return vc_fail(EINVAL, "vcore_cpu_feature: no place for the name given");
	if (index >= VC_F_COUNT - (VC_F_NONE + 1))
		return vc_fail(ENOENT, "there is no CPU feature number %u", index);
	*name = vc_feature_name((enum vc_feature)(VC_F_NONE + 1 + index));
	return 0;
}

int vcore_cpu_missing(const char *model, enum vcore_backend backend, char *missing, size_t length)
{
	struct vcore_options options = {.size = sizeof options, .backend = backend};
	struct vc_feature_set host, offered, wanted;
	const struct vc_backend *b;
	uint32_t phys_bits;
	size_t used = 0;
	int count = 0, r = 0;

	if (!model || (length && !missing))
		return vc_fail(EINVAL, "vcore_cpu_missing: a model and a buffer are needed");
	b = vc_backend_select(&options, NULL, &r);
	if (!b)
		return r;
	r = b->cpu_features(&offered, &phys_bits);
	if (r < 0)
		return r;
	vc_cpuid_host(&host);
	/* "max" is what the backend gives; "host" is held against the CPU itself */
	r = vc_cpu_model_features(model, strncmp(model, "max", 3) ? &host : &offered, &wanted);
	if (r < 0)
		return r;
	if (length)
		missing[0] = '\0';
	for (int f = 1; f < VC_F_COUNT; f++) {
		if (!vc_feature_has(&wanted, f) || vc_feature_has(&offered, f))
			continue;
		if (used < length) {
			int n = snprintf(missing + used, length - used, "%s%s", count ? "," : "", vc_feature_name(f));
			used += (size_t)n;
		}
		count++;
	}
	return count;
}
