/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In builds without json-c. */
#include "vm/snapshot_codec.h"

int vcore_vm_new_from_json(const char *text, vcore_vm **vm)
{
	if (vm)
		*vm = NULL;
	return vc_fail(ENOTSUP, "this build of libvirtcore has no JSON descriptions (json-c was switched off)");
}

int vcore_describe(const char *description, const struct vcore_options *options, const struct vcore_boot_options *boot,
                   const char *const *devices, char *text, size_t length)
{
	return vc_fail(ENOTSUP, "this build of libvirtcore has no JSON descriptions (json-c was switched off)");
}

int vcore_monitor_new(vcore_vm *vm, const char *path, uint32_t flags, vcore_monitor **monitor)
{
	if (monitor)
		*monitor = NULL;
	return vc_fail(ENOTSUP, "this build of libvirtcore has no monitor (json-c was switched off)");
}

void vcore_monitor_free(vcore_monitor *monitor) {}

int vc_snapshot_encode(const struct vcore_snapshot *snapshot, uint8_t **data, size_t *length)
{
	return vc_fail(ENOTSUP, "this build of libvirtcore has no snapshots in files (json-c was switched off)");
}

int vc_snapshot_decode(const uint8_t *data, size_t length, struct vcore_snapshot **snapshot)
{
	return vc_fail(ENOTSUP, "this build of libvirtcore has no snapshots in files (json-c was switched off)");
}
