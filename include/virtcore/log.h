/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file Log lines of a vm, delivered to a callback of the program; the library itself prints nothing. */
#ifndef VIRTCORE_LOG_H
#define VIRTCORE_LOG_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

enum vcore_log_level {
	VCORE_LOG_DEFAULT = 0, /**< in options: as VCORE_LOG_INFO */
	VCORE_LOG_ERROR = 1,   /**< something the program asked for does not work */
	VCORE_LOG_WARN = 2,    /**< it works, but less well than it could; or the guest did something odd */
	VCORE_LOG_INFO = 3,    /**< decisions: which backend was taken, and why */
	VCORE_LOG_DEBUG = 4,
	VCORE_LOG_TRACE = 5, /**< every exit and device access: slow */
};

/**
 * Receives one log line.
 *
 * Called from any thread of the vm, with no library lock held; must not call back into the same vm.
 * @param ctx     as given beside the function
 * @param level   how serious
 * @param message the line, without a newline; valid during the call
 */
typedef void (*vcore_log_fn)(void *ctx, enum vcore_log_level level, const char *message);

VCORE_END_DECLS
#endif
