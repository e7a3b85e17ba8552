/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What save and load of most devices come to: a struct of fixed-width fields that starts with its version. */
#ifndef VC_CHIPSET_DEV_STATE_H
#define VC_CHIPSET_DEV_STATE_H

#include "core/error.h"
#include "core/util.h"

/* For vcore_device_ops.save: the size when buffer is NULL, else the struct is copied out. */
static inline int64_t vc_dev_state_out(void *buffer, size_t length, const void *state, size_t size)
{
	if (!buffer)
		return (int64_t)size;
	if (length < size)
		return vc_fail(ENOSPC, "a buffer of %zu bytes is too small for a device state of %zu", length, size);
	memcpy(buffer, state, size);
	return (int64_t)size;
}

/* Of a device that has none. */
static inline int64_t vc_dev_stateless_save(void *ctx, void *buffer, size_t length)
{
	return 0;
}
static inline int vc_dev_stateless_load(void *ctx, const void *buffer, size_t length)
{
	return length ? vc_fail(EINVAL, "the saved state of a device that has none has %zu bytes", length) : 0;
}

/* For vcore_device_ops.load: copies the struct in when size and version are right. */
static inline int vc_dev_state_in(const char *type, uint32_t version, void *state, size_t size, const void *buffer,
                                  size_t length)
{
	if (length != size)
		return vc_fail(EINVAL, "the saved state of a %s has %zu bytes, expected %zu", type, length, size);
	memcpy(state, buffer, size);
	if (vc_ld32(state) != version)
		return vc_fail(EINVAL, "the saved state of a %s has version %u, this library knows %u", type, vc_ld32(state),
		               version);
	return 0;
}

#endif
