/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VC_CORE_ERROR_H
#define VC_CORE_ERROR_H

#include <errno.h>

/* Sets this thread's error message; returns -err. err is a positive errno. Use: return vc_fail(EINVAL, "...", ...); */
int vc_fail(int err, const char *format, ...) __attribute__((format(printf, 2, 3), cold));
/* As vc_fail, and appends ": " and strerror(err). */
int vc_fail_errno(int err, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

#endif
