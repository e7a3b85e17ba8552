/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/thread.h"

#include <signal.h>
#include <stddef.h>

int vc_thread_new(pthread_t *thread, void *(*run)(void *ctx), void *ctx)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(thread, NULL, run, ctx);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}
