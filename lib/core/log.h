/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VC_CORE_LOG_H
#define VC_CORE_LOG_H

#include <virtcore/log.h>

struct vc_log {
	vcore_log_fn fn; /* NULL: nothing is logged */
	void *ctx;
	enum vcore_log_level level;
};

void vc_log_write(const struct vc_log *log, enum vcore_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Evaluates its arguments only when somebody listens. */
#define vc_log(log, lvl, ...)                         \
	do {                                              \
		const struct vc_log *log_ = (log);            \
		if (log_ && log_->fn && (lvl) <= log_->level) \
			vc_log_write(log_, (lvl), __VA_ARGS__);   \
	} while (0)

#endif
