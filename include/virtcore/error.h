/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file Errors: a negative errno from the call, a sentence from here. */
#ifndef VIRTCORE_ERROR_H
#define VIRTCORE_ERROR_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

/**
 * What went wrong in the last failing call of this thread: what was attempted, which value, what was expected.
 *
 * Thread-local: never sees another thread's errors. A successful call leaves it as it was.
 * @return a sentence, valid until the next failing call of this thread; "" if nothing failed yet. Never NULL.
 */
VCORE_API const char *vcore_error_message(void);

VCORE_END_DECLS
#endif
