/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VC_CORE_THREAD_H
#define VC_CORE_THREAD_H

#include <pthread.h>

/* A thread that takes none of the program's signals. 0 or a positive errno, as pthread_create(). */
int vc_thread_start(pthread_t *thread, void *(*fn)(void *arg), void *arg);

#endif
