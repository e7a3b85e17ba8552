/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which backend, and what each can do here. */
#include "vm/vm.h"

#include <stdio.h>

static const char *const backend_names[] = {"auto", "kvm", "emu"};

const char *vcore_backend_name(enum vcore_backend backend)
{
	return (unsigned)backend < VC_ARRAY_SIZE(backend_names) ? backend_names[backend] : "?";
}

static void probe(enum vcore_backend id, struct vcore_backend_info *info)
{
	const struct vc_backend *backend = vc_backend_find(id);

	memset(info, 0, sizeof *info);
	info->size = sizeof *info;
	if (backend)
		backend->probe(info);
	else
		snprintf(info->reason, sizeof info->reason, "this build of libvirtcore has no backend %s",
		         vcore_backend_name(id));
}

/* The rule of `auto`: the first backend that is there and runs guest kernel code at its full speed. */
static enum vcore_backend choose(struct vcore_backend_info *info, char *why, size_t length)
{
	probe(VCORE_BACKEND_KVM, info);
	if (info->available && info->ring0_is_native) {
		snprintf(why, length, "%s", info->reason);
		return VCORE_BACKEND_KVM;
	}
	snprintf(why, length, "kvm is passed over: %s", info->reason);
	if (vc_backend_find(VCORE_BACKEND_EMU)) {
		probe(VCORE_BACKEND_EMU, info);
		return VCORE_BACKEND_EMU;
	}
	return info->available ? VCORE_BACKEND_KVM : VCORE_BACKEND_AUTO;
}

int vcore_backend_probe(enum vcore_backend backend, struct vcore_backend_info *out)
{
	struct vcore_backend_info info;
	char why[320];
	int result = 0;

	if (!out || out->size < sizeof out->size)
		return vc_fail(EINVAL, "vcore_backend_probe: info must be given with its size set");
	if (backend == VCORE_BACKEND_AUTO)
		result = choose(&info, why, sizeof why);
	else if ((unsigned)backend < VC_ARRAY_SIZE(backend_names))
		probe(backend, &info);
	else
		return vc_fail(EINVAL, "vcore_backend_probe: backend %d is unknown: expected 0 (auto), 1 (kvm) or 2 (emu)",
		               backend);
	vc_struct_out(out, &info, sizeof info);
	return result;
}

const struct vc_backend *vc_backend_select(const struct vcore_options *options, const struct vc_log *log, int *error)
{
	struct vcore_backend_info info;
	enum vcore_backend id = options->backend;
	const struct vc_backend *backend;
	char why[320];

	if (id == VCORE_BACKEND_AUTO && options->engine == VCORE_ENGINE_LOCKSTEP)
		id = VCORE_BACKEND_EMU;
	if (id == VCORE_BACKEND_AUTO) {
		id = choose(&info, why, sizeof why);
		vc_log(log, VCORE_LOG_INFO, "backend %s: %s", vcore_backend_name(id), why);
		if (id == VCORE_BACKEND_AUTO) {
			*error = vc_fail(ENODEV, "no backend works here: %s", why);
			return NULL;
		}
	}
	backend = vc_backend_find(id);
	if (!backend)
		*error =
		    (unsigned)id < VC_ARRAY_SIZE(backend_names)
		        ? vc_fail(ENOTSUP, "this build of libvirtcore has no backend %s", vcore_backend_name(id))
		        : vc_fail(EINVAL, "options.backend is %u: expected 0 (auto), 1 (kvm) or 2 (emu)", options->backend);
	return backend;
}
