/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file CPU models: named sets of CPUID features. */
#ifndef VIRTCORE_CPU_H
#define VIRTCORE_CPU_H

#include <virtcore/backend.h>
#include <virtcore/types.h>

VCORE_BEGIN_DECLS

/** The CPU models the library knows. @return 0; -ENOENT when index is past the last */
VCORE_API int vcore_cpu_model(uint32_t index, const char **name, const char **summary);

/** The features that can be added to a model and removed from it, by number. @return 0; -ENOENT when index is past the
 *  last; -EINVAL without a place for the name */
VCORE_API int vcore_cpu_feature(uint32_t index, const char **name);

/**
 * Which features of a model ("x86-64-v3,+aes,-rdrand") a backend cannot give on this host.
 * @param missing out: feature names separated by commas, "" when none, cut to length
 * @return number of missing features; -EINVAL unknown model or feature, by name
 */
VCORE_API int vcore_cpu_missing(const char *model, enum vcore_backend backend, char *missing, size_t length);

VCORE_END_DECLS
#endif
